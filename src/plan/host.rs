//! What a function host's kernel should hold.

pub mod generations;
mod local;
mod ruleset;

use super::facts::{Facts, LinkFacts};
use super::gateway::{Carrier, LAST_RESORT};
use super::slots::{Slots, alias};
use super::{
    Element, Endpoint, FLOW_TABLE, Link, LinkKind, NftTable, Route, RouteKey, Ruleset, SetName, State, Sysctl, SysctlKey, WireguardPeer,
    flow_devices_fit, rule_tree,
};
use crate::config::{Host, HostShard, HostTenant, HostTunnel, TunnelKind};
use crate::model::{IfName, Lane, Mark, Slot, TenantShard, Who};
use generations::{Generation, Generations, Part, Standing};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use local::is_thrown;
pub use ruleset::DROPS;

/// All that the desired state of a function host depends on.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub config: &'a Host,
    pub carrier: Carrier,
    pub facts: &'a Facts,
    pub slots: &'a Slots,
    /// With WireGuard, the interfaces of each tunnel and their keys.
    pub generations: &'a Generations,
    /// What is attached now. Interfaces that are gone are left out.
    pub attachments: &'a [Attached],
}

/// An attachment as the kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub who: Who,
    pub to: TenantShard,
    pub interface: IfName,
    pub index: u32,
    /// The only sources that count as this attachment's; none, all that come out of the interface.
    pub source: Option<IpNet>,
    /// The interface is a bridge's port: matched before the bridge takes the packet over, as afterwards every packet
    /// seems to come from the bridge.
    pub port: bool,
}

impl Attached {
    /// Whether this is its interface, of those of its name. A name may serve again, an index does not.
    pub fn is_of(&self, named: Option<&LinkFacts>) -> bool {
        named.is_some_and(|link| link.index == self.index)
    }

    /// The one element that makes this attachment.
    pub fn element(&self) -> (SetName, Element) {
        let full = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        let (name, element) = match (self.port, self.source) {
            (false, None) => ("attached", Element::Interface(self.index)),
            (false, Some(net)) if full(&net) => ("attached_src", Element::InterfaceAddress(self.index, net.addr())),
            (false, Some(net)) => ("attached_net", Element::InterfacePrefix(self.index, net)),
            (true, None) => ("port", Element::Interface(self.index)),
            (true, Some(net)) if full(&net) => ("port_src", Element::InterfaceAddress(self.index, net.addr())),
            (true, Some(net)) => ("port_net", Element::InterfacePrefix(self.index, net)),
        };
        let table = if self.port { NftTable::Netdev } else { NftTable::Inet };
        (SetName { table, name: name.into() }, element)
    }

    /// The mark of this attachment's packets; none when its tenant is not served here any more.
    pub fn mark(&self, slots: &Slots) -> Option<Mark> {
        slots.get(&self.to).map(|slot| Mark::new(Some(self.who), Some(slot)))
    }

    /// Whether packets of its established connections may go past the look-up of whose they are, until it is detached. What
    /// shares its interface with others may not: a neighbour with a false source would go along.
    ///
    /// Nor what goes into the kernel's WireGuard, which seals packets in threads of its own: one that goes past IP's input counts as its sender's until it is sealed
    /// and sent, and TCP lets no more than a millisecond's worth of them be under way (`tcp_small_queue_check` in net/ipv4/tcp_output.c).
    pub fn takes_short_way(&self, carrier: Carrier, tunnel: TunnelKind) -> bool {
        !self.port && self.source.is_none() && !carrier.is_kernel_wireguard(tunnel)
    }

    /// The setting without which the kernel would not forward what comes out of this interface. A bridge's port does
    /// not need it: what it sends is routed as the bridge's.
    pub fn sysctl(&self) -> Option<(Sysctl, String)> {
        (!self.port).then(|| (Sysctl { interface: self.interface.clone(), key: SysctlKey::Forwarding }, "1".to_owned()))
    }
}

/// The (tenant, shard)s that a host needs slots for.
pub fn shards(config: &Host) -> Vec<TenantShard> {
    config.served().map(|(tenant, shard)| tenant.of(shard.shard)).collect()
}

/// What the whole host should hold.
pub fn desired(inputs: &Inputs) -> State {
    let served = inputs.config.served();
    let tunnels: Vec<Tunnel> =
        served.filter_map(|(tenant, shard)| Some((inputs.slots.get(&tenant.of(shard.shard))?, tenant, shard))).collect();
    let mut state = State {
        tables: [(NftTable::Inet, Ruleset::new(ruleset::inet(inputs, &tunnels)))].into(),
        rules: rule_tree(tunnels.iter().map(|(slot, ..)| *slot)),
        ..State::default()
    };
    let ports: BTreeMap<u32, &IfName> = inputs.attachments.iter().filter(|a| a.port).map(|a| (a.index, &a.interface)).collect();
    if !ports.is_empty() {
        state.tables.insert(NftTable::Netdev, Ruleset::new(ruleset::netdev(&ports)));
    }
    let interfaces = tunnels.iter().map(|tunnel| inputs.interfaces(tunnel).count()).sum::<usize>();
    if inputs.facts.flow_tables && flow_devices_fit(interfaces + inputs.attachments.len()) {
        state.flow_devices.extend(tunnels.iter().flat_map(|tunnel| inputs.interfaces(tunnel)));
        let short = |a: &&Attached| a.takes_short_way(inputs.carrier, inputs.config.platform.tunnel);
        let attached = inputs.attachments.iter().filter(|a| short(a) && a.mark(inputs.slots).is_some());
        state.flow_devices.extend(attached.map(|a| a.interface.clone()));
    }
    for tunnel in &tunnels {
        state.merge(inputs.tunnel(tunnel));
    }
    state.routes.extend(local::routes(inputs, &tunnels));
    for attachment in inputs.attachments {
        let Some(mark) = attachment.mark(inputs.slots) else { continue };
        let (set, element) = attachment.element();
        state.elements.entry(set).or_default().insert(element, Some(mark));
        state.sysctls.extend(attachment.sysctl());
    }
    state
}

/// A tunnel that the host has.
type Tunnel<'a> = (Slot, &'a HostTenant, &'a HostShard);

impl Inputs<'_> {
    /// The interfaces of a tunnel.
    fn interfaces(&self, (slot, tenant, shard): &Tunnel) -> impl Iterator<Item = IfName> + use<> {
        let slot = *slot;
        self.generations.lanes(&tenant.of(shard.shard)).into_iter().map(move |lane| IfName::lane(slot, lane))
    }

    fn tunnel(&self, tunnel: &Tunnel) -> State {
        let (slot, tenant, shard) = *tunnel;
        let of = tenant.of(shard.shard);
        let key = |destination, metric| RouteKey { table: slot.table(), destination, metric };
        let mut state = State::default();
        match &shard.tunnel {
            HostTunnel::Gre { key } => {
                let kind = match self.carrier {
                    Carrier::Kernel => LinkKind::Gre { local: self.config.platform.address, remote: Some(shard.gateway), key: *key },
                    Carrier::Userspace => LinkKind::Tun,
                };
                state.merge(self.interface(tunnel, IfName::tunnel(slot), kind));
            }
            HostTunnel::Wireguard { .. } => {
                for standing in self.generations.of(&of) {
                    state.merge(self.generation(tunnel, standing));
                }
            }
        }
        let present = IfName::lane(slot, self.generations.present(&of));
        if state.links.contains_key(&present) {
            state.routes.extend(tenant.cidrs.iter().flat_map(|cidr| {
                let tunnel = Route::Unicast { interface: present.clone(), via: None, mtu: None };
                // Behind the tunnel's route stands this one, so that nothing falls through to the main table without it.
                [(key(*cidr, 0), tunnel), (key(*cidr, LAST_RESORT), Route::Unreachable)]
            }));
        }
        state
    }

    fn interface(&self, (_, tenant, shard): &Tunnel, interface: IfName, kind: LinkKind) -> State {
        let setting = |key| (Sysctl { interface: interface.clone(), key }, "1".to_owned());
        let link = Link {
            kind,
            mtu: self.facts.tunnel_mtu(&self.config.platform),
            alias: alias(&tenant.of(shard.shard)),
            group: IfName::GROUP,
            up: true,
        };
        State {
            sysctls: [setting(SysctlKey::Forwarding), setting(SysctlKey::SrcValidMark)].into(),
            addresses: [(interface.clone(), shard.inner.into())].into(),
            links: [(interface, link)].into(),
            ..State::default()
        }
    }

    fn generation(&self, tunnel: &Tunnel, standing: Standing) -> State {
        let Generation { lane, own, gateway, endpoint } = standing.generation;
        let (slot, tenant, _) = *tunnel;
        let interface = IfName::lane(slot, *lane);
        let kind = match self.carrier {
            Carrier::Kernel => LinkKind::Wireguard { key: own.clone(), port: listen_port(self.config, slot, *lane) },
            Carrier::Userspace => LinkKind::Tun,
        };
        let mut state = self.interface(tunnel, interface.clone(), kind);
        if standing.beside {
            // Routes lead to one of two: what comes by the other would not pass a strict check of the way back.
            state.sysctls.insert(Sysctl { interface: interface.clone(), key: SysctlKey::RpFilter }, "2".to_owned());
        }
        if self.carrier == Carrier::Kernel && standing.met {
            let allowed = tenant.cidrs.iter().copied().collect();
            let keepalive = if standing.calls { KEEPALIVE } else { 0 };
            state.wireguard.insert((interface, *gateway), WireguardPeer { allowed, endpoint: Endpoint::Fixed(*endpoint), keepalive });
        }
        state
    }
}

/// Seconds. A gateway knows where a host is while it hears from it, and may have something to say first. What stands between them forgets a
/// silent UDP flow after 30 s at the least (RFC 4787 section 4.3 asks for two minutes; many do not heed it).
pub const KEEPALIVE: u16 = 25;

/// The UDP port of a WireGuard interface at this end: those of first interfaces go up from the configured one, those of second ones down from it, or, where
/// that is too low, go up behind the others.
pub fn listen_port(config: &Host, slot: Slot, lane: Lane) -> u16 {
    let port = config.wireguard.as_ref().map_or(0, |own| own.port);
    let (above, most) = (slot.get() - Slot::MIN.get(), Slot::MAX.get());
    match lane {
        Lane::First => port.saturating_add(above),
        Lane::Second if port > most => port - 1 - above,
        Lane::Second => port + most + above,
    }
}

#[cfg(test)]
mod tests;
