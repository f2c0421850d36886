//! The function host's nftables tables: whose packet is this, and under which inner address does it leave.

use super::{FLOW_TABLE, HostShard, Inputs, Part, Slot, Tunnel, listen_port};
use crate::model::IfName;
use crate::plan::ruleset::{FROM_A_ROUTER, NO_UNREACHABLE, clamp, flow_table, line, wrapped_in};
use std::collections::BTreeMap;
use std::fmt::Display;

/// Named counters, and what each one counts.
pub const DROPS: [(&str, &str); 6] = [
    ("drop_unlisted_source", "WireGuard packets for a tunnel from elsewhere than its gateway: nobody moves a tunnel's other end"),
    ("drop_wrong_interface", "tunnel packets that came in elsewhere than at the platform's interface"),
    ("drop_nested", "attachments' packets that are tunnels themselves"),
    ("drop_invalid", "packets of no connection's state (conntrack's `invalid`), which would leave untranslated"),
    ("drop_unsolicited", "packets out of a tunnel that answer nothing"),
    ("drop_unattached", "packets into a tunnel that no attachment of its tenant sent"),
];

/// An anonymous map over the tunnels' interfaces, as text.
fn by_interface<V: Display>(inputs: &Inputs, tunnels: &[Tunnel], entry: impl Fn(&IfName, Slot, &HostShard) -> V) -> String {
    let entry = &entry;
    joined(tunnels.iter().flat_map(|tunnel| inputs.interfaces(tunnel).map(move |name| entry(&name, tunnel.0, tunnel.2))))
}

fn joined(entries: impl Iterator<Item = impl Display>) -> String {
    let entries: Vec<String> = entries.map(|entry| entry.to_string()).collect();
    format!("{{ {} }}", entries.join(", "))
}

/// The WireGuard tunnels of a host.
struct Wireguard {
    /// The gateway's address and port, and this end's port.
    ends: String,
    /// This end's ports.
    ports: String,
    /// Those of interfaces that begin nothing any more.
    former: Option<String>,
}

/// None without any.
fn wireguard(inputs: &Inputs, tunnels: &[Tunnel]) -> Option<Wireguard> {
    let end = |(slot, tenant, shard): &Tunnel| {
        let of = tenant.of(shard.shard);
        let slot = *slot;
        let standing: Vec<_> = inputs.generations.of(&of).collect();
        standing.into_iter().map(move |standing| {
            (standing.generation.endpoint, listen_port(inputs.config, slot, standing.generation.lane), standing.part == Part::Former)
        })
    };
    let all: Vec<_> = tunnels.iter().flat_map(end).collect();
    let former: Vec<u16> = all.iter().filter(|(.., former)| *former).map(|(_, own, _)| *own).collect();
    (!all.is_empty()).then(|| Wireguard {
        ends: joined(all.iter().map(|(gateway, own, _)| format!("{} . {} . {own}", gateway.ip(), gateway.port()))),
        ports: joined(all.iter().map(|(_, own, _)| own)),
        former: (!former.is_empty()).then(|| joined(former.iter())),
    })
}

/// Everything inside `table inet portway { ... }`.
pub fn inet(inputs: &Inputs, tunnels: &[Tunnel]) -> String {
    let mut text = String::new();
    let out = &mut text;
    let platform = &inputs.config.platform;
    for (counter, _) in DROPS {
        line(out, format_args!("counter {counter} {{ }}"));
    }
    line(out, "map attached { type iface_index : mark; }");
    line(out, "map attached_src { type iface_index . ipv4_addr : mark; }");
    line(out, "map attached_net { type iface_index . ipv4_addr : mark; flags interval; }");

    flow_table(out, inputs.facts);
    clamp(out, inputs.facts.tunnel_mtu(platform));
    line(out, "chain out_of_tunnel {");
    if !tunnels.is_empty() {
        let (marks, zones) = (
            by_interface(inputs, tunnels, |name, slot, _| format!("\"{name}\" : {:#x}", slot.bits())),
            by_interface(inputs, tunnels, |name, slot, _| format!("\"{name}\" : {}", slot.zone())),
        );
        // An answer: its slot makes the reverse path check look at the tenant's table.
        line(out, format_args!("meta mark set iifname map {marks}"));
        line(out, FROM_A_ROUTER);
        line(out, format_args!("ct zone set iifname map {zones}"));
    }
    line(out, "}");

    line(out, "chain before_routing { type filter hook prerouting priority raw; policy accept;");
    let wireguard = wireguard(inputs, tunnels);
    match &wireguard {
        None => {
            let gre = format_args!("ip protocol gre ip daddr {}", platform.address);
            wrapped_in(out, &platform.interface, inputs.facts, gre, "notrack accept");
        }
        Some(Wireguard { ends, ports, .. }) => {
            wrapped_in(out, &platform.interface, inputs.facts, format_args!("ip saddr . udp sport . udp dport {ends}"), "notrack accept");
            line(out, format_args!("udp dport {ports} fib daddr type local counter name drop_unlisted_source drop"));
        }
    }
    line(out, "meta nfproto != ipv4 return");
    line(out, format_args!("iifgroup {} goto out_of_tunnel", IfName::GROUP));
    // A bridge's port has been looked up at its ingress already. Of several matches the narrowest counts: it comes last.
    line(out, "meta mark set iif map @attached");
    line(out, "meta mark set iif . ip saddr map @attached_net");
    line(out, "meta mark set iif . ip saddr map @attached_src");
    // Sent on to a gateway, it would pass for this host's, or with a false source for another's.
    line(out, "ip protocol gre meta mark & 0x2000 != 0 counter name drop_nested drop");
    if !tunnels.is_empty() {
        // Only what its table leads into a tunnel. All else is the host's, whose translation looks for both directions in the same zone.
        let zones = joined(tunnels.iter().map(|(slot, ..)| format!("{:#x} : {}", slot.bits(), slot.zone())));
        let into_tunnel = format_args!("fib daddr . mark oifname \"{}*\"", IfName::OURS);
        line(out, format_args!("meta mark & 0x2000 != 0 {into_tunnel} ct zone set meta mark & 0x3fff map {zones}"));
    }
    line(out, "}");

    line(out, "chain forward { type filter hook forward priority filter; policy accept;");
    line(out, format_args!("iifgroup {} goto from_tunnel", IfName::GROUP));
    line(out, format_args!("oifgroup {} jump into_tunnel", IfName::GROUP));
    // By this, detaching finds the connections of an attachment and no others, those beside the tunnels too.
    line(out, "ct state new meta mark & 0x2000 != 0 ct mark set meta mark");
    line(out, "}");
    line(out, "chain from_tunnel {");
    line(out, "tcp flags syn / syn,rst jump clamp");
    line(out, "ct state established,related accept");
    line(out, "counter name drop_unsolicited drop");
    line(out, "}");
    line(out, "chain to_node {");
    line(out, "ct state established,related accept");
    line(out, "counter name drop_unsolicited drop");
    line(out, "}");
    line(out, "chain into_tunnel {");
    // By its mark a connection has this table and no other, and was let in below when it was new.
    if inputs.facts.flow_tables {
        // Only what has an interface to itself; to find it there once more sets the mark that it has.
        line(out, format_args!("ct state established meta mark set iif map @attached flow add @{FLOW_TABLE}"));
    }
    line(out, "ct state established,related meta mark & 0x2000 != 0 accept");
    line(out, "ct state invalid counter name drop_invalid drop");
    line(out, "tcp flags syn / syn,rst jump clamp");
    if tunnels.is_empty() {
        line(out, "counter name drop_unattached drop");
    } else {
        let own = by_interface(inputs, tunnels, |name, slot, _| format!("{:#x} . \"{name}\"", slot.bits()));
        line(out, format_args!("meta mark & 0x3fff . oifname != {own} counter name drop_unattached drop"));
    }
    line(out, "}");

    line(out, "chain input { type filter hook input priority filter; policy accept;");
    line(out, format_args!("iifgroup {} goto to_node", IfName::GROUP));
    line(out, "}");

    line(out, "chain output { type filter hook output priority raw; policy accept;");
    match &wireguard {
        None => line(out, format_args!("ip saddr {} ip protocol gre notrack accept", platform.address)),
        // From the address that gateways know, whatever routing would choose.
        Some(Wireguard { ends, former, .. }) => {
            if let Some(former) = former {
                // An initiation (message type 1) by a former key would take back what the present one has.
                line(out, format_args!("udp sport {former} @th,64,8 1 drop"));
            }
            line(out, format_args!("ip daddr . udp dport . udp sport {ends} ip saddr set {} notrack accept", platform.address));
        }
    }
    line(out, NO_UNREACHABLE);
    line(out, "}");

    line(out, "chain after_routing { type nat hook postrouting priority srcnat; policy accept;");
    if !tunnels.is_empty() {
        line(
            out,
            format_args!(
                "snat ip to oifname map {}",
                by_interface(inputs, tunnels, |name, _, shard| format!("\"{name}\" : {}", shard.inner))
            ),
        );
    }
    line(out, "}");
    text
}

/// Everything inside `table netdev portway { ... }`: one ingress chain per bridge port that has an attachment.
pub fn netdev(ports: &BTreeMap<u32, &IfName>) -> String {
    let mut text = String::new();
    let out = &mut text;
    line(out, "map port { type iface_index : mark; }");
    line(out, "map port_src { type iface_index . ipv4_addr : mark; }");
    line(out, "map port_net { type iface_index . ipv4_addr : mark; flags interval; }");
    line(out, "chain whose {");
    line(out, "meta mark set 0");
    line(out, "meta protocol != ip return");
    line(out, "meta mark set iif map @port");
    line(out, "meta mark set iif . ip saddr map @port_net");
    line(out, "meta mark set iif . ip saddr map @port_src");
    line(out, "}");
    for (index, port) in ports {
        line(
            out,
            format_args!("chain port_{index} {{ type filter hook ingress device \"{port}\" priority -300; policy accept; goto whose; }}"),
        );
    }
    text
}
