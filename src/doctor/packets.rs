//! The packets that Portway needs to get through, at every hook on their way.

use super::firewall::{Packet, Ports, Side};
use crate::config::{Config, Gateway, GatewayTunnel, Ha, Host, HostTunnel, TunnelKind};
use crate::model::{IfName, Lane, NodeName, Slot};
use crate::plan::host::listen_port;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Wrapped packets between this node and another: what they are, and the rules that let them in and out.
struct Outer {
    name: &'static str,
    kind: &'static str,
    protocol: &'static str,
    own: (Option<IpAddr>, Option<Ports>),
    other: (Option<IpAddr>, Option<Ports>),
    /// Coming and going.
    pass: [String; 2],
}

/// Every kind of packet that Portway depends on.
pub fn packets(config: Option<&Config>) -> Vec<Packet> {
    let platform = config.and_then(Config::node_platform);
    let wire = platform.map_or(Side::Unknown, |platform| Side::Named(platform.interface.clone()));
    let own = platform.map(|platform| platform.address);
    let mut outer = match (platform.map(|platform| platform.tunnel).unwrap_or_default(), config) {
        (TunnelKind::Wireguard, Some(Config::Gateway(gateway))) => of_gateway(gateway),
        (TunnelKind::Wireguard, Some(Config::Host(host))) => of_host(host),
        (TunnelKind::Gre | TunnelKind::Wireguard, _) => vec![gre(config, own)],
    };
    if let Some((ha, node)) = config.and_then(group) {
        let peer = ha.nodes.iter().find(|(name, _)| *name != node).map(|(_, address)| *address);
        let (kind, pass) = ("VRRP", "ip protocol 112 accept");
        let pass = [pass.to_owned(), pass.to_owned()];
        outer.push(Outer { name: "advertisements", kind, protocol: "vrrp", own: (own, None), other: (peer, None), pass });
        let (port, pass) = (Some((ha.sync_port, ha.sync_port)), format!("udp dport {} accept", ha.sync_port));
        let pass = [pass.clone(), pass];
        outer.push(Outer { name: "copies of connections", kind: "UDP", protocol: "udp", own: (own, port), other: (peer, port), pass });
    }
    let mut packets: Vec<Packet> = outer.iter().flat_map(|outer| outer.at_hooks(&wire)).collect();
    let host = matches!(config, Some(Config::Host(_)));
    let mut far: Vec<Side> = config.into_iter().flat_map(Config::tenant_interfaces).map(|(name, _)| Side::Named(name.clone())).collect();
    far.dedup();
    if far.is_empty() {
        far.push(Side::Unknown);
    }
    for side in &far {
        packets.extend(inner(side, host));
    }
    packets
}

impl Outer {
    fn at_hooks(&self, wire: &Side) -> [Packet; 4] {
        let Self { name, kind, protocol, own, other, .. } = self;
        let packet = |hook, coming: bool| {
            let ends = if coming { [other, own] } else { [own, other] };
            Packet {
                what: format!("{name} that {} ({kind})", if coming { "come in" } else { "go out" }),
                hook,
                iif: if coming { wire.clone() } else { Side::Unknown },
                oif: if coming { Side::Unknown } else { wire.clone() },
                protocol: Some(protocol),
                ports: ends.map(|(_, ports)| *ports),
                // Portway keeps them out of connection tracking.
                state: "untracked",
                source: ends[0].0,
                destination: ends[1].0,
                pass: self.pass[usize::from(!coming)].clone(),
            }
        };
        [packet("prerouting", true), packet("input", true), packet("output", false), packet("postrouting", false)]
    }
}

const TUNNEL: &str = "tunnel packets";
const WIREGUARD: &str = "WireGuard, UDP";

fn gre(config: Option<&Config>, own: Option<IpAddr>) -> Outer {
    let other = config.and_then(|config| config.others().first().map(|(_, address)| *address));
    // The outer address of a gateway's first tunnel.
    let local = match config {
        Some(Config::Gateway(gateway)) => gateway.served().next().map(|(_, shard)| shard.local),
        Some(Config::Host(_) | Config::Directory(_) | Config::Autoscaler(_)) | None => None,
    };
    let pass = [(); 2].map(|()| "ip protocol gre accept".to_owned());
    Outer { name: TUNNEL, kind: "GRE", protocol: "gre", own: (local.or(own), None), other: (other, None), pass }
}

/// One for each port at which a shard of this gateway is, or is about to be. Hosts may be anywhere.
fn of_gateway(gateway: &Gateway) -> Vec<Outer> {
    let ports = |tunnel: &GatewayTunnel| match tunnel {
        GatewayTunnel::Gre { .. } => Vec::new(),
        GatewayTunnel::Wireguard { port, next, .. } => [*port].into_iter().chain(next.as_ref().map(|next| next.port)).collect(),
    };
    let ends: BTreeSet<(u16, IpAddr)> =
        gateway.served().flat_map(|(_, shard)| ports(&shard.tunnel).into_iter().map(|port| (port, shard.local))).collect();
    let all: BTreeSet<u16> = ends.iter().map(|(port, _)| *port).collect();
    let pass = ["dport", "sport"].map(|field| format!("udp {field} {} accept", set(&all)));
    let end = |(port, local)| Outer {
        name: TUNNEL,
        kind: WIREGUARD,
        protocol: "udp",
        own: (Some(local), Some((port, port))),
        other: (None, None),
        pass: pass.clone(),
    };
    ends.into_iter().map(end).collect()
}

/// One for each end of a tunnel; where the directory says where they are, one for all.
fn of_host(host: &Host) -> Vec<Outer> {
    let lanes = [Lane::First, Lane::Second];
    let listening = || lanes.iter().flat_map(|lane| [Slot::MIN, Slot::MAX].map(|slot| listen_port(host, slot, *lane)));
    let own = listening().min().zip(listening().max());
    let port = |tunnel: &HostTunnel| match tunnel {
        HostTunnel::Gre { .. } => None,
        HostTunnel::Wireguard { port, .. } => Some(*port),
    };
    let ends: BTreeSet<(u16, IpAddr)> = host.served().filter_map(|(_, shard)| Some((port(&shard.tunnel)?, shard.gateway))).collect();
    let all: BTreeSet<u16> = ends.iter().map(|(port, _)| *port).collect();
    let pass = match own {
        Some((first, last)) if all.is_empty() => ["dport", "sport"].map(|field| format!("udp {field} {first}-{last} accept")),
        _ => ["sport", "dport"].map(|field| format!("udp {field} {} accept", set(&all))),
    };
    let end = |other| Outer {
        name: TUNNEL,
        kind: WIREGUARD,
        protocol: "udp",
        own: (Some(host.platform.address), own),
        other,
        pass: pass.clone(),
    };
    if ends.is_empty() {
        return vec![end((None, None))];
    }
    ends.into_iter().map(|(port, gateway)| end((Some(gateway), Some((port, port))))).collect()
}

/// As nft reads it.
fn set(ports: &BTreeSet<u16>) -> String {
    let all: Vec<String> = ports.iter().map(u16::to_string).collect();
    if let [one] = all.as_slice() { one.clone() } else { format!("{{ {} }}", all.join(", ")) }
}

fn group(config: &Config) -> Option<(&Ha, &NodeName)> {
    match config {
        Config::Gateway(gateway) => gateway.ha.as_ref().map(|ha| (ha, &gateway.node)),
        Config::Host(_) | Config::Directory(_) | Config::Autoscaler(_) => None,
    }
}

/// Packets between a tunnel and what is on the other side of this node: a tenant's network, or a host's containers.
fn inner(far: &Side, host: bool) -> Vec<Packet> {
    let from_tunnel = format!("iifname \"{}*\" accept", IfName::OURS);
    let to_tunnel = format!("oifname \"{}*\" accept", IfName::OURS);
    let named = |key: &str, else_: &str| match far {
        Side::Named(name) => format!("{key} \"{name}\" accept"),
        _ => else_.to_owned(),
    };
    let packet = |what: &str, hook, iif: &Side, oif: &Side, state, pass: String| Packet {
        what: what.into(),
        hook,
        iif: iif.clone(),
        oif: oif.clone(),
        protocol: None,
        ports: [None, None],
        state,
        source: None,
        destination: None,
        pass,
    };
    // Connections begin on hosts: there they go into the tunnel, on a gateway they come out of it.
    let (out, back) = if host { ("established", "new") } else { ("new", "established") };
    let (coming, going) = ("what comes out of tunnels (pw-*)", "what goes into tunnels (pw-*)");
    let (tunnel, unknown) = (&Side::Tunnel, &Side::Unknown);
    let mut packets = vec![
        packet(coming, "prerouting", tunnel, unknown, out, from_tunnel.clone()),
        packet(coming, "forward", tunnel, far, out, from_tunnel.clone()),
        packet(going, "forward", far, tunnel, back, to_tunnel.clone()),
        packet(going, "postrouting", unknown, tunnel, back, to_tunnel),
    ];
    if let Side::Named(name) = far {
        let what = |how: &str| format!("what {how} {name}");
        packets.push(packet(&what("answers from"), "prerouting", far, unknown, back, named("iifname", "")));
        packets.push(packet(&what("goes out to"), "postrouting", unknown, far, out, named("oifname", "")));
    }
    packets
}
