//! Whom the configuration names at one interface: nobody else lets them in, removes them, or is given what is theirs.

use crate::model::PublicKey;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

#[derive(Debug, Default)]
pub struct Configured {
    peers: HashMap<PublicKey, Vec<IpNet>>,
    /// First and last address of each prefix, and whose it is. No two have one in common, but for as long as one passes from one peer to another.
    ranges: BTreeMap<IpAddr, (IpAddr, PublicKey)>,
}

impl Configured {
    pub fn insert(&mut self, key: PublicKey, prefixes: Vec<IpNet>) {
        self.remove(&key);
        self.ranges.extend(prefixes.iter().map(|prefix| (prefix.network(), (prefix.broadcast(), key))));
        self.peers.insert(key, prefixes);
    }

    pub fn remove(&mut self, key: &PublicKey) {
        for prefix in self.peers.remove(key).unwrap_or_default() {
            // It may be another's by now.
            if self.ranges.get(&prefix.network()).is_some_and(|(_, owner)| owner == key) {
                self.ranges.remove(&prefix.network());
            }
        }
    }

    pub fn get(&self, key: &PublicKey) -> Option<&[IpNet]> {
        self.peers.get(key).map(Vec::as_slice)
    }

    /// One of these of which at least a part is the configuration's.
    pub fn overlap<'a>(&self, prefixes: &'a [IpNet]) -> Option<&'a IpNet> {
        prefixes.iter().find(|prefix| {
            let before = self.ranges.range(..=prefix.broadcast()).next_back();
            before.is_some_and(|(_, (last, _))| *last >= prefix.network())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;

    #[test]
    fn what_the_configuration_gives_to_one_is_no_others_in_whole_or_in_part() {
        let mut configured = Configured::default();
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let key = PrivateKey::new([1; 32]).public();
        configured.insert(key, nets(&["10.64.0.4/32"]));
        configured.insert(key, nets(&["10.64.0.8/30", "fd00::/64"]));
        for theirs in ["10.64.0.9/32", "10.64.0.8/30", "10.64.0.0/24", "fd00::1/128"] {
            assert_eq!(configured.overlap(&nets(&["10.64.9.9/32", theirs])), Some(&theirs.parse().unwrap()), "{theirs}");
        }
        for free in ["10.64.0.7/32", "10.64.0.12/30", "10.64.0.4/32", "fd00:0:0:1::/64", "0.0.0.0/8"] {
            assert_eq!(configured.overlap(&nets(&[free])), None, "{free}");
        }
        configured.remove(&key);
        assert_eq!((configured.overlap(&nets(&["10.64.0.8/30"])), configured.get(&key)), (None, None));
    }

    #[test]
    fn what_passes_from_one_to_another_is_the_others_whoever_is_told_first() {
        let mut configured = Configured::default();
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let [a, b] = [1, 2].map(|n| PrivateKey::new([n; 32]).public());
        configured.insert(a, nets(&["10.64.0.4/32"]));
        configured.insert(b, nets(&["10.64.0.5/32"]));
        configured.insert(a, nets(&["10.64.0.5/32"]));
        configured.insert(b, nets(&["10.64.0.4/32"]));
        for taken in ["10.64.0.4/32", "10.64.0.5/32"] {
            assert!(configured.overlap(&nets(&[taken])).is_some(), "{taken}");
        }
        // The same first address, and another length.
        configured.insert(a, nets(&["10.64.0.4/30"]));
        configured.insert(b, nets(&["10.64.0.8/32"]));
        assert!(configured.overlap(&nets(&["10.64.0.6/32"])).is_some());
        configured.remove(&b);
        assert!(configured.overlap(&nets(&["10.64.0.6/32"])).is_some());
        configured.remove(&a);
        assert!(configured.overlap(&nets(&["10.64.0.0/24"])).is_none());
    }
}
