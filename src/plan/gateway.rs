//! What a gateway node's kernel should hold.

pub mod ends;
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
use crate::config::{Gateway, GatewayShard, GatewayTenant, GatewayTunnel, PeerEnd, Platform, Snat, StaticPeer, TunnelKind};
use crate::model::{GreKey, IfName, Lane, Mark, PublicKey, Slot, TenantShard, Who};
use ends::{DUMMY, End, Ends, Heard};
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

impl Carrier {
    /// Whether such tunnels are the kernel's WireGuard, which seals in threads of its own, signs handshakes with the machine's time, and hears nobody who is
    /// no peer.
    pub fn is_kernel_wireguard(self, tunnel: TunnelKind) -> bool {
        (self, tunnel) == (Self::Kernel, TunnelKind::Wireguard)
    }
}

/// All that the desired state of a gateway depends on.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub config: &'a Gateway,
    pub carrier: Carrier,
    pub facts: &'a Facts,
    /// Whether the kernel can send copies of packets to neighbours.
    pub copies: bool,
    /// The function hosts that may send, those of the configuration among them.
    pub hosts: &'a [&'a StaticPeer],
    pub slots: &'a Slots,
    /// The number of each host, by its outer address. With WireGuard they have none.
    pub peers: &'a Numbers<IpAddr>,
    /// With WireGuard, the interfaces of each shard and their keys.
    pub ends: &'a Ends,
    /// Of peers of shards with two keys.
    pub heard: &'a Heard,
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
    /// With WireGuard.
    ends: Vec<&'a End>,
}

impl Served<'_> {
    /// The interfaces of its tunnels.
    fn tunnels(&self) -> impl Iterator<Item = IfName> {
        lanes(&self.ends).into_iter().map(|lane| IfName::lane(self.slot, lane))
    }
}

/// That which leads to most hosts first.
fn lanes(ends: &[&End]) -> Vec<Lane> {
    if ends.is_empty() { vec![Lane::First] } else { ends.iter().map(|end| end.lane).collect() }
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
    let devices: BTreeSet<IfName> = served.iter().flat_map(Served::tunnels).chain(present.cloned()).collect();
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
        let one = |(tenant, shard): (&'a GatewayTenant, &'a GatewayShard)| {
            let of = tenant.of(shard.shard);
            Some(Served { slot: self.slots.get(&of)?, tenant, shard, ends: self.ends.of(&of).collect() })
        };
        served.filter_map(one).collect()
    }

    fn shard(&self, served: &Served) -> State {
        let Served { slot, tenant, shard, ref ends } = *served;
        let of = tenant.of(shard.shard);
        let kinds: Vec<(Lane, LinkKind)> = match (self.carrier, &shard.tunnel) {
            (Carrier::Kernel, GatewayTunnel::Gre { key }) => {
                vec![(Lane::First, LinkKind::Gre { local: shard.local, remote: None, key: *key })]
            }
            (Carrier::Userspace, GatewayTunnel::Gre { .. }) => vec![(Lane::First, LinkKind::Tun)],
            // Without its key a shard is nobody's: whoever reads them sees to it that all are there.
            (_, GatewayTunnel::Wireguard { .. }) if ends.is_empty() => return State::default(),
            (Carrier::Kernel, GatewayTunnel::Wireguard { .. }) => {
                ends.iter().map(|end| (end.lane, LinkKind::Wireguard { key: end.key.clone(), port: end.port })).collect()
            }
            (Carrier::Userspace, GatewayTunnel::Wireguard { .. }) => ends.iter().map(|end| (end.lane, LinkKind::Tun)).collect(),
        };
        let link =
            |kind| Link { kind, mtu: self.facts.tunnel_mtu(&self.config.platform), alias: alias(&of), group: IfName::GROUP, up: true };
        let links: BTreeMap<IfName, Link> = kinds.into_iter().map(|(lane, kind)| (IfName::lane(slot, lane), link(kind))).collect();
        let settings =
            |interface: &IfName| SysctlKey::OF_INTERFACE.map(|key| (Sysctl { interface: interface.clone(), key }, "1".to_owned()));
        // One that is still to be attached has none.
        let awaited = self.config.attach(&tenant.name).is_some() && self.facts.link(&tenant.interface).is_none();
        let interfaces = links.keys().chain(Some(&tenant.interface).filter(|_| !awaited));
        let mut sysctls: BTreeMap<Sysctl, String> = interfaces.flat_map(settings).collect();
        if links.len() > 1 {
            // A route leads to one of two: what comes by the other would not pass a strict check of the way back.
            let loose = |interface: &IfName| (Sysctl { interface: interface.clone(), key: SysctlKey::RpFilter }, "2".to_owned());
            sysctls.extend(links.keys().map(loose));
        }
        let mut addresses: BTreeSet<(IfName, IpNet)> = match shard.havip {
            None => self.snat_address(tenant, shard).map(|address| (tenant.interface.clone(), address.into())).into_iter().collect(),
            Some(_) if self.holds.contains(&of) => {
                havips(&self.config.platform, tenant, shard).map(|(interface, address)| (interface, address.into())).collect()
            }
            Some(_) => BTreeSet::new(),
        };
        if self.ends.is_numbered(&of) {
            addresses.extend(links.keys().map(|tunnel| (tunnel.clone(), IpAddr::from(DUMMY).into())));
        }
        let mut routes = self.tenant_routes(slot, tenant);
        if self.config.directory.is_some() {
            // Whoever is let in later needs no route: the tunnel knows whose is what.
            routes.extend([lead(slot, lanes(ends)[0], tenant.inner, None, 0)]);
        }
        let mut wireguard = BTreeMap::new();
        for (key, prefixes) in self.admitted.get(&of).iter().flat_map(|peers| peers.iter()) {
            wireguard.extend(self.wireguard_peers(&of, slot, *key, prefixes));
            if let Some(lane) = self.heard_by(&of, key) {
                routes.extend(prefixes.iter().map(|prefix| lead(slot, lane, *prefix, None, 0)));
            }
        }
        State { wireguard, sysctls, links, addresses, routes, ..State::default() }
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
                    let ends: Vec<&End> = self.ends.of(of).collect();
                    let lane = self.heard_by(of, public_key).unwrap_or(lanes(&ends)[0]);
                    state.routes.extend(prefixes.iter().map(|prefix| lead(slot, lane, *prefix, None, 0)));
                    state.wireguard.extend(self.wireguard_peers(of, slot, *public_key, prefixes));
                }
                // A peer of another kind of tunnel than the shard's: there is none, by the configuration's checks.
                (PeerEnd::Gre { .. }, None) | (PeerEnd::Wireguard { .. }, Some(_)) => {}
            }
        }
        state
    }

    /// Of the kernel, where the shard is: elsewhere a peer would have sessions that are over, and say so from a node that is not asked.
    fn wireguard_peers(
        &self,
        of: &TenantShard,
        slot: Slot,
        key: PublicKey,
        prefixes: &[IpNet],
    ) -> impl Iterator<Item = ((IfName, PublicKey), WireguardPeer)> {
        let peer = WireguardPeer { allowed: prefixes.iter().copied().collect(), endpoint: Endpoint::Roams(None), keepalive: 0 };
        let ends = self.ends.of(of).filter(|_| self.carrier == Carrier::Kernel && self.has(of));
        ends.map(move |end| ((IfName::lane(slot, end.lane), key), peer.clone()))
    }

    /// Of two interfaces, the one at which a peer was heard last.
    fn heard_by(&self, of: &TenantShard, key: &PublicKey) -> Option<Lane> {
        let lane = *self.heard.get(of)?.get(key)?;
        (self.ends.of(of).count() > 1 && self.ends.of(of).any(|end| end.lane == lane)).then_some(lane)
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
        state.routes.extend(prefixes.iter().map(|prefix| lead(slot, Lane::First, *prefix, via, metric)));
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
fn lead(slot: Slot, lane: Lane, destination: IpNet, via: Option<IpAddr>, metric: u32) -> (RouteKey, Route) {
    let route = Route::Unicast { interface: IfName::lane(slot, lane), via, mtu: None };
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
