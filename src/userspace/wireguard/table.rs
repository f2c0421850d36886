//! The peers of one interface: by key, and by the inner addresses that are theirs. No I/O.

use super::super::lpm::PrefixMap;
use super::counters::DropReason;
use super::peer::{Peer, PeerConfig};
use crate::model::{Invalid, PublicKey};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug)]
pub struct Table {
    peers: HashMap<PublicKey, Arc<Peer>>,
    owners: PrefixMap<Arc<Peer>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { peers: HashMap::new(), owners: PrefixMap::new() }
    }
}

impl Table {
    pub fn peer(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        self.peers.get(key)
    }

    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values()
    }

    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whose this inner address is.
    pub fn owner(&self, address: IpAddr) -> Result<&Arc<Peer>, DropReason> {
        self.owners.lookup(address).ok_or(DropReason::Unroutable)
    }

    /// Adds or changes a peer, in time that depends on the number of its own prefixes alone. One that is there keeps its sessions. It may take over
    /// prefixes of `former`, which are removed, and answered.
    ///
    /// # Errors
    /// If a prefix is another peer's, or the keepalive is out of range: then nothing is changed.
    pub fn succeed(&mut self, former: &[PublicKey], key: PublicKey, config: &PeerConfig) -> Result<(Arc<Peer>, Vec<Arc<Peer>>), Invalid> {
        if let Some(every) = config.keepalive.filter(|every| !(1..=65_535).contains(&every.as_secs())) {
            return Err(Invalid(format!("a keepalive of {every:?} for peer {key}: 1 to 65535 seconds")));
        }
        let allowed: Vec<IpNet> = config.allowed.iter().map(IpNet::trunc).collect();
        if let Some((prefix, owner)) =
            allowed.iter().find_map(|p| self.owners.get(*p).filter(|o| o.key != key && !former.contains(&o.key)).map(|o| (p, o.key)))
        {
            return Err(Invalid(format!("{prefix} is allowed to peer {owner} already: it cannot be {key}'s too")));
        }
        let gone = former.iter().filter(|former| **former != key).filter_map(|former| self.remove(former)).collect();
        let peer = self.peers.entry(key).or_insert_with(|| Arc::new(Peer::new(key))).clone();
        peer.configure(config);
        let former = std::mem::replace(&mut peer.handshake().allowed, allowed.clone());
        for gone in former.iter().filter(|prefix| !allowed.contains(prefix)) {
            self.owners.remove(*gone);
        }
        for prefix in allowed.into_iter().filter(|prefix| !former.contains(prefix)) {
            self.owners.insert(prefix, peer.clone());
        }
        Ok((peer, gone))
    }

    pub fn remove(&mut self, key: &PublicKey) -> Option<Arc<Peer>> {
        let peer = self.peers.remove(key)?;
        for prefix in &peer.handshake().allowed {
            self.owners.remove(*prefix);
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;

    impl Table {
        pub fn set(&mut self, key: PublicKey, config: &PeerConfig) -> Result<Arc<Peer>, Invalid> {
            Ok(self.succeed(&[], key, config)?.0)
        }
    }

    fn key(n: u8) -> PublicKey {
        PrivateKey::new([n; 32]).public()
    }

    fn allowed(prefixes: &[&str]) -> PeerConfig {
        PeerConfig { allowed: prefixes.iter().map(|p| p.parse().unwrap()).collect(), ..PeerConfig::default() }
    }

    fn owner(table: &Table, address: &str) -> Option<PublicKey> {
        table.owner(address.parse().unwrap()).ok().map(|peer| peer.key)
    }

    #[test]
    fn an_address_is_whose_prefix_is_longest() {
        let mut table = Table::default();
        table.set(key(1), &allowed(&["10.64.0.1/32", "172.16.9.9/16"])).unwrap();
        table.set(key(2), &allowed(&["172.16.5.0/24"])).unwrap();
        assert_eq!(owner(&table, "172.16.4.1"), Some(key(1)));
        assert_eq!(owner(&table, "172.16.5.1"), Some(key(2)));
        assert_eq!(owner(&table, "10.64.0.2"), None);
    }

    #[test]
    fn a_change_leaves_nothing_behind_and_a_refused_one_changes_nothing() {
        let mut table = Table::default();
        let first = table.set(key(1), &allowed(&["10.64.0.1/32", "10.64.0.2/32"])).unwrap();
        let again = table.set(key(1), &allowed(&["10.64.0.2/32", "10.64.0.3/32"])).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(["10.64.0.1", "10.64.0.2", "10.64.0.3"].map(|a| owner(&table, a)), [None, Some(key(1)), Some(key(1))]);
        assert!(table.set(key(2), &allowed(&["10.64.0.9/32", "10.64.0.3/32"])).is_err());
        assert!(table.set(key(2), &PeerConfig { keepalive: Some(Default::default()), ..allowed(&[]) }).is_err());
        assert_eq!((owner(&table, "10.64.0.9"), table.len()), (None, 1));
        assert!(table.remove(&key(1)).is_some() && table.remove(&key(1)).is_none());
        assert_eq!((owner(&table, "10.64.0.2"), table.len()), (None, 0));
    }

    #[test]
    fn who_succeeds_another_has_its_addresses_and_no_others() {
        let mut table = Table::default();
        table.set(key(1), &allowed(&["10.64.0.1/32"])).unwrap();
        table.set(key(2), &allowed(&["10.64.0.2/32"])).unwrap();
        assert!(table.succeed(&[key(1)], key(3), &allowed(&["10.64.0.1/32", "10.64.0.2/32"])).is_err());
        assert_eq!((owner(&table, "10.64.0.1"), table.len()), (Some(key(1)), 2));
        let (_, gone) = table.succeed(&[key(1), key(9), key(3)], key(3), &allowed(&["10.64.0.1/32"])).unwrap();
        assert_eq!(gone.iter().map(|peer| peer.key).collect::<Vec<_>>(), [key(1)]);
        assert_eq!((owner(&table, "10.64.0.1"), owner(&table, "10.64.0.2"), table.len()), (Some(key(3)), Some(key(2)), 2));
    }

    #[test]
    fn an_endpoint_given_again_does_not_undo_what_was_learned() {
        let mut table = Table::default();
        let [home, away, moved] = ["192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3"].map(|a| a.parse().unwrap());
        let at = |endpoint| PeerConfig { endpoint: Some(endpoint), ..PeerConfig::default() };
        let peer = table.set(key(1), &at(home)).unwrap();
        assert!(!peer.heard_at(away, false) && peer.endpoint() == Some(home));
        assert!(peer.heard_at(away, true) && !peer.heard_at(away, true));
        table.set(key(1), &at(home)).unwrap();
        assert_eq!(peer.endpoint(), Some(away));
        table.set(key(1), &at(moved)).unwrap();
        assert_eq!(peer.endpoint(), Some(moved));
    }
}
