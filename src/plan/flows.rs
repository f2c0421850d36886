//! Which standing connections of a gateway end because its configuration or its peers have changed. Rules look at the first packet
//! of a connection only: what stands goes on until it is taken out of the kernel's table.

use crate::config::{Allow, GatewayShard, GatewayTenant, Snat, StaticPeer};
use crate::model::{FlowKey, FlowProtocol, NatSource, NodeName, PortRange, TenantShard};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// ICMP and ICMPv6 type numbers of an echo request (RFC 792, RFC 4443 section 4.1).
const ECHO_REQUEST: [u8; 2] = [8, 128];

/// Whether a connection may be begun, as the rules of the tenant say.
pub fn permits(allow: &[Allow], key: &FlowKey) -> bool {
    let within = |ports: &[PortRange], port: u16| ports.iter().any(|range| (range.first..=range.last).contains(&port));
    allow.iter().filter(|allow| allow.to.contains(&key.destination)).any(|allow| match key.protocol {
        FlowProtocol::Tcp { destination, .. } => within(&allow.tcp, destination),
        FlowProtocol::Udp { destination, .. } => within(&allow.udp, destination),
        FlowProtocol::Icmp { kind, .. } => allow.icmp && ECHO_REQUEST.contains(&kind),
    })
}

/// The function host of each inner prefix of one shard. No two prefixes overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners(BTreeMap<IpAddr, (IpNet, NodeName)>);

impl Owners {
    /// By shard.
    pub fn of<'p>(peers: impl IntoIterator<Item = &'p StaticPeer>) -> BTreeMap<TenantShard, Self> {
        let mut owners: BTreeMap<TenantShard, Self> = BTreeMap::new();
        for peer in peers {
            for (of, prefixes) in &peer.inner {
                let owned = prefixes.iter().map(|prefix| (prefix.network(), (*prefix, peer.host.clone())));
                owners.entry(of.clone()).or_default().0.extend(owned);
            }
        }
        owners
    }

    fn owner(&self, address: IpAddr) -> Option<&NodeName> {
        let (prefix, owner) = self.0.range(..=address).next_back()?.1;
        prefix.contains(&address).then_some(owner)
    }
}

/// A shard with the tenant that it is of.
pub type Ruled<'c> = (&'c GatewayTenant, &'c GatewayShard);

/// What the connections of a tenant's functions must comply with to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Where functions' sources lie. The zone also has connections of the machine itself, which are nobody's business.
    inner: [IpNet; 2],
    allow: Vec<Allow>,
    former: Snat,
    snat: Snat,
    /// None: not known, so that whoever is nobody's now has gone.
    before: Option<Owners>,
    after: Owners,
}

impl Terms {
    /// Of a tenant that stands before and after a change; none if no connection can be concerned.
    pub fn changed(old: Ruled<'_>, before: Owners, new: Ruled<'_>, after: Owners) -> Option<Self> {
        let ((old, former), (new, now)) = (old, new);
        let same = old.allow == new.allow && former.snat == now.snat && old.inner == new.inner && before == after;
        (!same).then(|| Self {
            inner: [old.inner, new.inner],
            allow: new.allow.clone(),
            former: former.snat.clone(),
            snat: now.snat.clone(),
            before: Some(before),
            after,
        })
    }

    /// Of a tenant whose connections an earlier process has left, by what configuration is not known. `all`: nobody else can have a source there.
    pub fn found((tenant, shard): Ruled<'_>, owners: Owners, all: bool) -> Self {
        Self {
            inner: [tenant.inner; 2],
            allow: tenant.allow.clone(),
            former: shard.snat.clone(),
            snat: shard.snat.clone(),
            before: (!all).then(Owners::default),
            after: owners,
        }
    }

    /// Of a tenant whose peers with these prefixes go.
    pub fn without(ruled: Ruled<'_>, gone: Owners) -> Self {
        Self { before: Some(gone), ..Self::found(ruled, Owners::default(), true) }
    }

    /// Whether a connection ends: its host no longer has the source, its destination is no longer allowed, or answers to the
    /// address that it is translated to are no longer its own.
    pub fn end(&self, key: &FlowKey, nat: Option<NatSource>) -> bool {
        if !self.inner.iter().any(|inner| inner.contains(&key.source)) {
            return false;
        }
        let owner = self.after.owner(key.source);
        let gone = match &self.before {
            None => owner.is_none(),
            Some(before) => before.owner(key.source).is_some_and(|former| owner != Some(former)),
        };
        gone || !permits(&self.allow, key) || nat.is_some_and(|nat| self.stray(nat.address))
    }

    /// Whether nothing sent to this address is taken for an answer any more. Which address an interface has is not known here.
    fn stray(&self, translated: IpAddr) -> bool {
        match (&self.former, &self.snat) {
            (_, Snat::To { address, .. }) => translated != *address,
            (Snat::To { address, .. }, Snat::Masquerade { .. }) => translated == *address,
            (Snat::Masquerade { .. }, Snat::Masquerade { .. }) => false,
        }
    }
}

#[cfg(test)]
mod tests;
