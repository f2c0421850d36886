//! What a gateway node's kernel should hold.

mod fence;
mod pass_back;
mod probes;
mod ruleset;
mod wrapped;

use super::facts::Facts;
use super::slots::{Numbers, Slots, alias};
use super::{
    Element, Endpoint, FLOW_TABLE, Link, LinkKind, NftTable, Route, RouteKey, Ruleset, SetName, State, Sysctl, SysctlKey, WireguardPeer,
    flow_devices_fit, rule_tree,
};
use crate::config::{Gateway, GatewayShard, GatewayTenant, GatewayTunnel, PeerEnd, Platform, Snat, StaticPeer};
use crate::model::{GreKey, IfName, Mark, PrivateKey, PublicKey, Slot, TenantShard, Who};
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The metric of `unreachable` routes: behind every other.
pub const LAST_RESORT: u32 = u32::MAX;

/// What carries the tunnels on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// GRE or WireGuard devices of the kernel.
    Kernel,
    /// TUN devices, and this process.
    Userspace,
}

/// All that the desired state of a gateway depends on.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub config: &'a Gateway,
    pub carrier: Carrier,
    pub facts: &'a Facts,
    /// The function hosts that may send, those of the configuration among them.
    pub hosts: &'a [&'a StaticPeer],
    pub slots: &'a Slots,
    /// The number of each host, by its outer address. With WireGuard they have none.
    pub peers: &'a Numbers<IpAddr>,
    /// With WireGuard, the private key of each shard.
    pub keys: &'a BTreeMap<TenantShard, PrivateKey>,
    /// The shards whose HaVips this node has.
    pub holds: &'a BTreeSet<TenantShard>,
    /// WireGuard peers that stand because they have knocked.
    pub admitted: &'a BTreeMap<TenantShard, Arc<Admitted>>,
}

/// The inner prefixes of peers of a shard.
pub type Admitted = BTreeMap<PublicKey, Vec<IpNet>>;

/// The (tenant, shard)s that a gateway needs slots for.
pub fn shards(config: &Gateway) -> Vec<TenantShard> {
    config.served().map(|(tenant, shard)| tenant.of(shard.shard)).collect()
}

/// A shard that this node is a candidate for.
struct Served<'a> {
    slot: Slot,
    tenant: &'a GatewayTenant,
    shard: &'a GatewayShard,
}

/// What the whole node should hold.
pub fn desired(inputs: &Inputs) -> State {
    let served = inputs.served();
    let mut state = State {
        tables: [(NftTable::Inet, Ruleset::new(ruleset::body(inputs, &served)))].into(),
        rules: rule_tree(served.iter().map(|served| served.slot)),
        sysctls: [(Sysctl::fwmark_reflect(), "1".to_owned())].into(),
        ..State::default()
    };
    if inputs.config.ha.is_some() {
        state.sysctls.insert(Sysctl::tcp_be_liberal(), "1".to_owned());
    }
    let fence = fence::body(inputs, &served);
    state.tables.extend(fence.map(|body| (NftTable::Netdev, Ruleset::new(body))));
    let pass_back = pass_back::body(inputs, &served);
    state.tables.extend(pass_back.map(|body| (NftTable::Ip, Ruleset::new(body))));
    for served in &served {
        state.merge(inputs.shard(served));
    }
    for peer in inputs.hosts {
        state.merge(inputs.peer(peer));
    }
    let present = served.iter().map(|served| &served.tenant.interface).filter(|interface| inputs.facts.links.contains_key(interface));
    let devices: BTreeSet<IfName> = served.iter().map(|served| IfName::tunnel(served.slot)).chain(present.cloned()).collect();
    if inputs.facts.flow_tables && flow_devices_fit(devices.len()) {
        state.flow_devices = devices;
    }
    state
}

/// Both addresses of a shard, and the interfaces that they are on while this node has them.
pub fn havips(platform: &Platform, tenant: &GatewayTenant, shard: &GatewayShard) -> impl Iterator<Item = (IfName, IpAddr)> {
    let inside = match shard.snat {
        Snat::To { address, .. } => Some((tenant.interface.clone(), address)),
        Snat::Masquerade { .. } => None,
    };
    [(platform.interface.clone(), shard.local)].into_iter().chain(inside)
}

impl<'a> Inputs<'a> {
    fn served(&self) -> Vec<Served<'a>> {
        let served = self.config.served();
        served.filter_map(|(tenant, shard)| Some(Served { slot: self.slots.get(&tenant.of(shard.shard))?, tenant, shard })).collect()
    }

    fn shard(&self, served: &Served) -> State {
        let Served { slot, tenant, shard } = *served;
        let (tunnel, of) = (IfName::tunnel(slot), tenant.of(shard.shard));
        let kind = match (self.carrier, &shard.tunnel) {
            (Carrier::Kernel, GatewayTunnel::Gre { key }) => LinkKind::Gre { local: shard.local, remote: None, key: *key },
            (Carrier::Kernel, GatewayTunnel::Wireguard { port, .. }) => match self.keys.get(&of) {
                Some(key) => LinkKind::Wireguard { key: key.clone(), port: *port },
                // Without its key a shard is nobody's: whoever reads them sees to it that all are there.
                None => return State::default(),
            },
            (Carrier::Userspace, _) => LinkKind::Tun,
        };
        let link = Link { kind, mtu: self.facts.tunnel_mtu(&self.config.platform), alias: alias(&of), group: IfName::GROUP, up: true };
        let settings =
            |interface: &IfName| SysctlKey::OF_INTERFACE.map(|key| (Sysctl { interface: interface.clone(), key }, "1".to_owned()));
        let addresses = match shard.havip {
            None => self.snat_address(tenant, shard).map(|address| (tenant.interface.clone(), address.into())).into_iter().collect(),
            Some(_) if self.holds.contains(&of) => {
                havips(&self.config.platform, tenant, shard).map(|(interface, address)| (interface, address.into())).collect()
            }
            Some(_) => BTreeSet::new(),
        };
        let mut routes = self.tenant_routes(slot, tenant);
        if self.config.directory.is_some() {
            // Whoever is let in later needs no route: the tunnel knows whose is what.
            routes.extend([lead(slot, tenant.inner, None, 0)]);
        }
        let mut wireguard = BTreeMap::new();
        for (key, prefixes) in self.admitted.get(&of).iter().flat_map(|peers| peers.iter()) {
            wireguard.extend(self.wireguard_peer(&of, slot, *key, prefixes));
        }
        State {
            wireguard,
            sysctls: [&tunnel, &tenant.interface].into_iter().flat_map(settings).collect(),
            links: [(tunnel, link)].into(),
            addresses,
            routes,
            ..State::default()
        }
    }

    /// The address to translate to, unless somebody else has put it on the interface already.
    fn snat_address(&self, tenant: &GatewayTenant, shard: &GatewayShard) -> Option<IpAddr> {
        let Snat::To { address, .. } = shard.snat else { return None };
        let there = self.facts.link(&tenant.interface).is_some_and(|link| link.addresses.iter().any(|net| net.addr() == address));
        (!there).then_some(address)
    }

    /// The tenant's side of its table: the VPC out of the ENI, and nothing else at all.
    fn tenant_routes(&self, slot: Slot, tenant: &GatewayTenant) -> BTreeMap<RouteKey, Route> {
        let out = |via| Route::Unicast { interface: tenant.interface.clone(), via, mtu: None };
        let key = |destination, metric| RouteKey { table: slot.table(), destination, metric };
        let mut routes = BTreeMap::new();
        if self.facts.links.get(&tenant.interface).is_some_and(|link| link.up) {
            routes.extend(tenant.allow.iter().map(|allow| (key(allow.to, 0), out(tenant.router))));
            routes.extend(self.facts.connected(&tenant.interface).map(|net| (key(net, 0), out(None))));
        }
        routes.insert(key(IpNet::V4(Ipv4Net::default()), LAST_RESORT), Route::Unreachable);
        routes
    }

    /// What one function host adds: its inner prefixes lead to it, and only it may send from them.
    pub fn peer(&self, peer: &StaticPeer) -> State {
        let mut state = State::default();
        for (of, prefixes) in &peer.inner {
            let Some(slot) = self.slots.get(of) else { continue };
            match (&peer.end, self.gre_key(of)) {
                (PeerEnd::Gre { outer }, Some(key)) => state.merge(self.gre_peer(slot, *outer, key, prefixes)),
                (PeerEnd::Wireguard { public_key }, None) => {
                    state.routes.extend(prefixes.iter().map(|prefix| lead(slot, *prefix, None, 0)));
                    state.wireguard.extend(self.wireguard_peer(of, slot, *public_key, prefixes));
                }
                // A peer of another kind of tunnel than the shard's: there is none, by the configuration's checks.
                (PeerEnd::Gre { .. }, None) | (PeerEnd::Wireguard { .. }, Some(_)) => {}
            }
        }
        state
    }

    /// Of the kernel, where the shard is: elsewhere a peer would have sessions that are over, and say so from a node that is not asked.
    fn wireguard_peer(
        &self,
        of: &TenantShard,
        slot: Slot,
        key: PublicKey,
        prefixes: &[IpNet],
    ) -> Option<((IfName, PublicKey), WireguardPeer)> {
        let allowed = prefixes.iter().copied().collect();
        let peer = WireguardPeer { allowed, endpoint: Endpoint::Roams(None), keepalive: 0 };
        (self.carrier == Carrier::Kernel && self.has(of)).then(|| ((IfName::tunnel(slot), key), peer))
    }

    /// Whether the addresses of a shard are here.
    fn has(&self, of: &TenantShard) -> bool {
        self.config.ha.is_none() || self.holds.contains(of)
    }

    /// None: the shard's tunnels are of another kind.
    fn gre_key(&self, of: &TenantShard) -> Option<GreKey> {
        let tenant = self.config.tenants.iter().find(|tenant| tenant.name == of.tenant)?;
        match tenant.shards.iter().find(|shard| shard.shard == of.shard)?.tunnel {
            GatewayTunnel::Gre { key } => Some(key),
            GatewayTunnel::Wireguard { .. } => None,
        }
    }

    fn gre_peer(&self, slot: Slot, outer: IpAddr, key: GreKey, prefixes: &[IpNet]) -> State {
        let mut state = State::default();
        let who = self.peers.get(&outer).and_then(|n| Who::try_from(n).ok());
        let via = (self.carrier == Carrier::Kernel).then_some(outer);
        // The kernel looks its next hops up by interface and metric: with one metric for all of them every new route
        // would be compared with thousands (fib_info_hash in net/ipv4/fib_semantics.c).
        let metric = via.and(who).map_or(0, |who| u32::from(who.get()));
        state.routes.extend(prefixes.iter().map(|prefix| lead(slot, *prefix, via, metric)));
        if self.carrier == Carrier::Kernel {
            state.neighbours.insert((IfName::tunnel(slot), outer), outer);
            for prefix in prefixes {
                let (set, element) = if prefix.prefix_len() == prefix.max_prefix_len() {
                    (ruleset::SENDERS, Element::Sender { outer, key, inner: prefix.addr() })
                } else {
                    (ruleset::SENDERS_NET, Element::SenderPrefix { outer, key, inner: *prefix })
                };
                state.elements.entry(set_name(set)).or_default().insert(element, Some(Mark::new(who, Some(slot))));
            }
            state.elements.entry(set_name(ruleset::PEERS)).or_default().insert(Element::Address(outer), Some(Mark::new(who, None)));
        }
        state
    }
}

/// The way to inner addresses through a slot's tunnel.
fn lead(slot: Slot, destination: IpNet, via: Option<IpAddr>, metric: u32) -> (RouteKey, Route) {
    let route = Route::Unicast { interface: IfName::tunnel(slot), via, mtu: None };
    (RouteKey { table: slot.table(), destination, metric }, route)
}

/// The numbers that the peers of an earlier process had.
pub fn recover_peers(observed: &State) -> Numbers<IpAddr> {
    let found = observed.elements.get(&set_name(ruleset::PEERS)).into_iter().flatten().filter_map(|(element, mark)| match element {
        Element::Address(outer) => Some((*outer, mark.and_then(Mark::who)?.get())),
        _ => None,
    });
    Numbers::recover(u16::MAX, found)
}

/// The named counters of the rulesets, each a reason to drop.
pub use {fence::FENCED, ruleset::DROPS};

fn set_name(name: &str) -> SetName {
    SetName { table: NftTable::Inet, name: name.into() }
}

#[cfg(test)]
mod tests;
