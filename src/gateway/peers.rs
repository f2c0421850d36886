//! Which function hosts may send. Pure: the shell carries out the effects.
//!
//! Those of the configuration file stand there alone; others come and go by the API.

use crate::config::{Gateway, Identity, PeerEnd, StaticPeer, TunnelKind, UNUSABLE};
use crate::model::{NodeName, PublicKey, TenantName, TenantShard};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// What a caller asks for: where a function host is, and which inner addresses are its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// With GRE tunnels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer: Option<IpAddr>,
    /// With WireGuard tunnels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    /// By shard, `acme/1`; a tenant alone means its shard 0. A bare address means itself.
    #[serde(deserialize_with = "prefixes")]
    pub inner: BTreeMap<TenantShard, Vec<IpNet>>,
}

impl Spec {
    /// How to write one.
    pub const EXAMPLE: &str = r#"{"outer": ADDRESS, "inner": {TENANT: [PREFIX]}}, or with WireGuard "public_key": KEY instead of "outer""#;

    pub fn peer(self, host: NodeName) -> Result<StaticPeer, Refusal> {
        let end = match (self.outer, self.public_key) {
            (Some(outer), None) => PeerEnd::Gre { outer },
            (None, Some(public_key)) => PeerEnd::Wireguard { public_key },
            _ => return Err(Refusal::Invalid(format!("a peer has either an outer address or a public key: write {}", Self::EXAMPLE))),
        };
        Ok(StaticPeer { host, end, inner: self.inner })
    }
}

fn prefixes<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<TenantShard, Vec<IpNet>>, D::Error> {
    let prefix = |text: &String| {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map_err(|_| serde::de::Error::custom(format!("{text:?} is no inner prefix: write 10.64.0.9 or 10.64.1.0/28")))
    };
    let given = BTreeMap::<TenantShard, Vec<String>>::deserialize(d)?;
    given.into_iter().map(|(of, texts)| Ok((of, texts.iter().map(prefix).collect::<Result<_, _>>()?))).collect()
}

/// Why a call was refused; each has its status code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Invalid(String),
    #[error("tenant {0} is not served here: add it to `tenants` in this gateway's configuration")]
    UnknownTenant(TenantName),
    #[error("{} has no shard {}: add it to the tenant's `shards` in this gateway's configuration", .0.tenant, .0.shard)]
    UnknownShard(TenantShard),
    #[error("there is no peer {0}")]
    Unknown(NodeName),
    #[error("peer {0} stands in the configuration file: change `peers` there and reload (SIGHUP)")]
    Configured(NodeName),
    #[error("{0} is a peer already with other values: delete it first")]
    Different(NodeName),
    #[error("{identity} is peer {owner}'s: give every host its own, it is how a host is recognised")]
    Taken { identity: Identity, owner: NodeName },
    #[error("the inner prefix {prefix} of tenant {tenant} overlaps {taken} of peer {owner}: answers would go to the wrong host")]
    InnerTaken { tenant: TenantName, prefix: IpNet, taken: IpNet, owner: NodeName },
    #[error("this gateway shares its addresses with nobody: configure `ha`, or wait until it is ready")]
    Alone,
    #[error(
        "the nodes of this group stand in its files: write `leaving: [{0}]` beside `ha.nodes` in those of all nodes, reload them, this one last, and drain it then; \
         with `nodes: directory` no file need be changed"
    )]
    ByFile(NodeName),
    #[error("the directory does not let this node leave: {0}")]
    Stays(String),
    #[error(
        "the directory does not answer, and it tells the others: try again, or hand over what is here by `portway drain` without `--leave`"
    )]
    Unheard,
    #[error("65535 peers stand, the most that a gateway can tell apart")]
    Full,
}

#[derive(Debug)]
struct Known {
    peer: StaticPeer,
    /// Of the configuration file.
    configured: bool,
}

/// All function hosts of this gateway. No two share an outer address or a key; no two inner prefixes of a tenant overlap.
#[derive(Debug, Default)]
pub struct Peers {
    by_name: BTreeMap<NodeName, Known>,
    by_identity: HashMap<Identity, NodeName>,
    /// Inner prefixes by tenant and first address.
    inner: BTreeMap<TenantName, BTreeMap<IpAddr, (IpNet, NodeName)>>,
}

impl Peers {
    /// The peers of a configuration, which have been checked with it.
    pub fn configured(peers: impl IntoIterator<Item = StaticPeer>) -> Self {
        let mut known = Self::default();
        peers.into_iter().for_each(|peer| known.insert(peer, true));
        known
    }

    /// Takes over those that came by the API; the ones that do not fit any more, with the reason.
    pub fn adopt(&mut self, config: &Gateway, peers: impl IntoIterator<Item = StaticPeer>) -> Vec<(NodeName, Refusal)> {
        let mut refused = Vec::new();
        for peer in peers {
            match self.check(config, &peer) {
                Ok(true) => self.insert(peer, false),
                Ok(false) => {}
                Err(refusal) => refused.push((peer.host, refusal)),
            }
        }
        refused
    }

    /// Whether a peer is new (`true`) or stands with these very values (`false`). Changes nothing.
    pub fn check(&self, config: &Gateway, peer: &StaticPeer) -> Result<bool, Refusal> {
        match self.by_name.get(&peer.host) {
            Some(known) if known.peer == *peer => return Ok(false),
            Some(Known { configured: true, .. }) => return Err(Refusal::Configured(peer.host.clone())),
            Some(_) => return Err(Refusal::Different(peer.host.clone())),
            None => {}
        }
        check_end(config, &peer.end)?;
        if let Some(owner) = self.by_identity.get(&peer.end.identity()) {
            return Err(Refusal::Taken { identity: peer.end.identity(), owner: owner.clone() });
        }
        if peer.inner.values().all(Vec::is_empty) {
            return Err(Refusal::Invalid("this peer serves no tenant: write `inner: {TENANT: [PREFIX]}`".into()));
        }
        let mut own: BTreeMap<&TenantName, BTreeSet<&IpNet>> = BTreeMap::new();
        for (of, prefixes) in &peer.inner {
            self.check_inner(config, of, prefixes, own.entry(&of.tenant).or_default())?;
        }
        if self.by_name.len() >= usize::from(u16::MAX) && peer.end.kind() == TunnelKind::Gre {
            return Err(Refusal::Full);
        }
        Ok(true)
    }

    /// `own`: what this peer has in other shards of the tenant.
    fn check_inner<'p>(
        &self,
        config: &Gateway,
        of: &TenantShard,
        prefixes: &'p [IpNet],
        own: &mut BTreeSet<&'p IpNet>,
    ) -> Result<(), Refusal> {
        let name = &of.tenant;
        let tenant = config.tenants.iter().find(|tenant| tenant.name == *name).ok_or_else(|| Refusal::UnknownTenant(name.clone()))?;
        if !tenant.shards.iter().any(|shard| shard.shard == of.shard) {
            return Err(Refusal::UnknownShard(of.clone()));
        }
        for prefix in prefixes {
            if prefix.trunc() != *prefix {
                let (net, address) = (prefix.trunc(), IpNet::from(prefix.addr()));
                return Err(Refusal::Invalid(format!("the inner prefix {prefix} has host bits set: write {net} or {address}")));
            }
            if !tenant.inner.contains(prefix) {
                let range = tenant.inner;
                return Err(Refusal::Invalid(format!("the inner prefix {prefix} lies outside of {name}'s inner range {range}")));
            }
            if own.iter().any(|other: &&IpNet| other.contains(prefix) || prefix.contains(*other)) {
                return Err(Refusal::Invalid(format!("the inner prefix {prefix} overlaps another one of this peer: write it once")));
            }
            own.insert(prefix);
            if let Some((taken, owner)) = self.overlapping(name, prefix) {
                return Err(Refusal::InnerTaken { tenant: name.clone(), prefix: *prefix, taken: *taken, owner: owner.clone() });
            }
        }
        Ok(())
    }

    /// Prefixes nest or are apart, and those that stand are apart: only the two neighbours in order can overlap a new one.
    fn overlapping(&self, tenant: &TenantName, prefix: &IpNet) -> Option<&(IpNet, NodeName)> {
        let standing = self.inner.get(tenant)?;
        let before = standing.range(..=prefix.network()).next_back().map(|(_, owned)| owned);
        let after = standing.range(prefix.network()..=prefix.broadcast()).next().map(|(_, owned)| owned);
        before.filter(|(net, _)| net.contains(prefix)).or(after)
    }

    fn insert(&mut self, peer: StaticPeer, configured: bool) {
        self.by_identity.insert(peer.end.identity(), peer.host.clone());
        for (of, prefixes) in &peer.inner {
            let standing = self.inner.entry(of.tenant.clone()).or_default();
            standing.extend(prefixes.iter().map(|prefix| (prefix.network(), (*prefix, peer.host.clone()))));
        }
        self.by_name.insert(peer.host.clone(), Known { peer, configured });
    }

    /// Records a peer that [`Peers::check`] found to be new.
    pub fn add(&mut self, peer: StaticPeer) {
        self.insert(peer, false);
    }

    /// Forgets a peer that came by the API.
    pub fn remove(&mut self, name: &NodeName) -> Result<StaticPeer, Refusal> {
        match self.by_name.get(name) {
            None => return Err(Refusal::Unknown(name.clone())),
            Some(Known { configured: true, .. }) => return Err(Refusal::Configured(name.clone())),
            Some(_) => {}
        }
        let Known { peer, .. } = self.by_name.remove(name).ok_or_else(|| Refusal::Unknown(name.clone()))?;
        self.by_identity.remove(&peer.end.identity());
        for (of, prefixes) in &peer.inner {
            if let Some(standing) = self.inner.get_mut(&of.tenant) {
                prefixes.iter().for_each(|prefix| drop(standing.remove(&prefix.network())));
            }
        }
        Ok(peer)
    }

    /// Each peer, and whether it stands in the configuration file.
    pub fn iter(&self) -> impl Iterator<Item = (&StaticPeer, bool)> {
        self.by_name.values().map(|known| (&known.peer, known.configured))
    }

    /// Whose each inner prefix is, by its first address.
    pub fn owners(&self) -> &BTreeMap<TenantName, BTreeMap<IpAddr, (IpNet, NodeName)>> {
        &self.inner
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn has_key(&self, key: &PublicKey) -> bool {
        self.by_identity.contains_key(&Identity::Key(*key))
    }

    /// Whether this key is a peer's, at this shard.
    pub fn is_at(&self, of: &TenantShard, key: &PublicKey) -> bool {
        let name = self.by_identity.get(&Identity::Key(*key));
        name.and_then(|name| self.by_name.get(name)).is_some_and(|known| known.peer.inner.contains_key(of))
    }

    /// The keys of those that use each shard.
    pub fn keys_by_shard(&self) -> BTreeMap<TenantShard, HashSet<PublicKey>> {
        let mut keys = BTreeMap::<_, HashSet<_>>::new();
        for known in self.by_name.values() {
            let Some(key) = known.peer.end.public_key() else { continue };
            for of in known.peer.inner.keys() {
                keys.entry(of.clone()).or_default().insert(key);
            }
        }
        keys
    }

    /// How many use each shard.
    pub fn by_shard(&self) -> BTreeMap<&TenantShard, usize> {
        let mut count = BTreeMap::new();
        self.by_name.values().flat_map(|known| known.peer.inner.keys()).for_each(|of| *count.entry(of).or_default() += 1);
        count
    }
}

fn check_end(config: &Gateway, end: &PeerEnd) -> Result<(), Refusal> {
    let kind = config.platform.tunnel;
    if end.kind() != kind {
        return Err(Refusal::Invalid(format!(
            "this peer is one of {} tunnels, and this gateway's are {kind}: write {}",
            end.kind(),
            Spec::EXAMPLE
        )));
    }
    match end {
        PeerEnd::Gre { outer } => check_outer(config, *outer),
        PeerEnd::Wireguard { .. } => Ok(()),
    }
}

fn check_outer(config: &Gateway, outer: IpAddr) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::Invalid(format!("the outer address {outer} {why}: write the host's platform address")));
    if outer.is_ipv6() {
        return refuse("is IPv6, which tunnels do not use yet".into());
    }
    if let Some((_, kind)) = UNUSABLE.iter().find(|(net, _)| net.contains(&outer)) {
        return refuse(format!("is {kind}"));
    }
    let own = |address: &IpAddr| *address == outer;
    let mut locals = config.tenants.iter().flat_map(|tenant| &tenant.shards).map(|shard| &shard.local);
    if own(&config.platform.address) || locals.any(own) || config.ha.as_ref().is_some_and(|ha| ha.nodes.values().any(own)) {
        return refuse("is a gateway's own".into());
    }
    for tenant in &config.tenants {
        let mut routed = tenant.allow.iter().map(|allow| allow.to).chain([tenant.inner]);
        if let Some(net) = routed.find(|net| net.contains(&outer)) {
            return refuse(format!("lies in {net}, which tenant {} routes", tenant.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
