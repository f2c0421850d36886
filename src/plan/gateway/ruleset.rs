//! The gateway's nftables table: who may send, where to, and under which address.

use super::{Carrier, GatewayTenant, Inputs, Slot, Snat};
use crate::config::Allow;
use crate::model::{IfName, PortRange};
use std::fmt::Write;

pub const PEERS: &str = "peers";
pub const INNER: &str = "inner";
pub const INNER_NET: &str = "inner_net";

/// Named counters, and what each one counts.
pub const DROPS: [(&str, &str); 9] = [
    ("drop_gre_header", "outer packets whose GRE header is not version 0 with a key and nothing else"),
    ("drop_gre_protocol", "outer packets that carry something other than IPv4"),
    ("drop_gre_key", "outer packets with a key of no tenant"),
    ("drop_unlisted_source", "outer packets from an address that is no function host's"),
    ("drop_spoofed_inner", "inner packets whose source is not the sending host's in this tenant"),
    ("drop_nested", "inner packets that are tunnels themselves"),
    ("drop_policy", "inner packets to a destination or port that the tenant's configuration does not allow"),
    ("drop_unsolicited", "packets from a tenant's network that answer nothing"),
    ("drop_to_node", "inner packets to an address of the gateway itself"),
];

/// Never a destination, whatever a configuration allows: this network, loopback, link-local with its metadata
/// services, Alibaba's metadata address, multicast, reserved (RFC 6890; facts of the clouds).
const NEVER: &str = "{ 0.0.0.0/8, 100.100.100.200, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 }";

/// IP-in-IP, IPv6-in-IPv4, GRE, EtherIP; VXLAN (also Linux' old port), VXLAN-GPE, Geneve, GUE and FOU.
const NESTED_PROTOCOLS: &str = "{ 4, 41, 47, 97 }";
const NESTED_PORTS: &str = "{ 4789, 4790, 5555, 6080, 6081, 8472 }";

/// Everything inside `table inet portway { ... }`.
pub fn body(inputs: &Inputs, tenants: &[(Slot, &GatewayTenant)]) -> String {
    let mut text = String::new();
    let out = &mut text;
    for (counter, _) in DROPS {
        line(out, format_args!("counter {counter} {{ }}"));
    }
    line(out, format_args!("map {PEERS} {{ type ipv4_addr : mark; }}"));
    line(out, format_args!("set {INNER} {{ type mark . ipv4_addr; }}"));
    line(out, format_args!("set {INNER_NET} {{ type mark . ipv4_addr; flags interval; }}"));
    let kernel = inputs.carrier == Carrier::Kernel;
    outer(out, inputs, tenants, kernel);
    for (slot, tenant) in tenants {
        from_tunnel(out, *slot, kernel);
        from_tenant(out, *slot, tenant);
        policy(out, *slot, tenant, inputs.tunnel_mtu() - 40);
    }
    hooks(out, inputs, tenants);
    text
}

/// Everything inside `table netdev portway { ... }`, for several tenants. "Who has the translated address?" is a routing
/// question too, and with equal subnets a strict reverse path check (rp_filter 1) finds the asker behind another tenant's
/// interface: it must be looked up in its own tenant's table. Packets get their mark later; ARP passes here alone.
pub fn netdev(interfaces: &[(Slot, &IfName)]) -> String {
    let mut text = String::new();
    for (slot, interface) in interfaces {
        line(&mut text, format_args!("chain arp_{slot} {{ type filter hook ingress device \"{interface}\" priority -300; policy accept;"));
        line(&mut text, format_args!("meta protocol arp meta mark set {:#x}", slot.bits()));
        line(&mut text, format_args!("}}"));
    }
    text
}

fn line(out: &mut String, text: std::fmt::Arguments) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A packet of a tunnel, still wrapped: is it from a function host? The kernel gives the mark to what it unwraps.
fn outer(out: &mut String, inputs: &Inputs, tenants: &[(Slot, &GatewayTenant)], kernel: bool) {
    line(out, format_args!("chain outer {{"));
    if kernel {
        let keys: Vec<String> = tenants.iter().map(|(_, tenant)| tenant.key.to_string()).collect();
        line(out, format_args!("meta mark set 0"));
        line(out, format_args!("@th,0,16 != 0x2000 counter name drop_gre_header drop"));
        line(out, format_args!("@th,16,16 != 0x0800 counter name drop_gre_protocol drop"));
        line(out, format_args!("@th,32,32 != {{ {} }} counter name drop_gre_key drop", keys.join(", ")));
        line(out, format_args!("meta mark set ip saddr map @{PEERS}"));
        line(out, format_args!("meta mark & 0xffff0000 == 0 counter name drop_unlisted_source drop"));
    }
    line(out, format_args!("notrack accept"));
    line(out, format_args!("}}"));
    let platform = &inputs.config.platform;
    line(out, format_args!("chain before_routing {{ type filter hook prerouting priority raw; policy accept;"));
    line(out, format_args!("iifname \"{}\" ip daddr {} ip protocol gre goto outer", platform.interface, platform.address));
    dispatch(out, "iifname", "goto", tenants.iter().map(|(slot, _)| (IfName::tunnel(*slot), format!("from_tunnel_{slot}"))));
    dispatch(out, "iifname", "goto", tenants.iter().map(|(slot, tenant)| (tenant.interface.clone(), format!("from_tenant_{slot}"))));
    line(out, format_args!("}}"));
}

fn dispatch(out: &mut String, key: &str, verdict: &str, to: impl Iterator<Item = (IfName, String)>) {
    let entries: Vec<String> = to.map(|(interface, chain)| format!("\"{interface}\" : {verdict} {chain}")).collect();
    if !entries.is_empty() {
        line(out, format_args!("{key} vmap {{ {} }}", entries.join(", ")));
    }
}

/// A packet just unwrapped. In userspace its three addresses have been checked by the process that unwrapped it.
fn from_tunnel(out: &mut String, slot: Slot, kernel: bool) {
    line(out, format_args!("chain from_tunnel_{slot} {{"));
    line(out, format_args!("meta nfproto != ipv4 counter name drop_spoofed_inner drop"));
    if kernel {
        line(out, format_args!("meta mark set meta mark & 0xffff0000 | {:#x}", slot.bits()));
        line(
            out,
            format_args!("meta mark . ip saddr != @{INNER} meta mark . ip saddr != @{INNER_NET} counter name drop_spoofed_inner drop"),
        );
        line(out, format_args!("ip protocol {NESTED_PROTOCOLS} counter name drop_nested drop"));
        line(out, format_args!("udp dport {NESTED_PORTS} counter name drop_nested drop"));
    } else {
        line(out, format_args!("meta mark set {:#x}", slot.bits()));
    }
    line(out, format_args!("ct zone set {}", slot.zone()));
    line(out, format_args!("}}"));
}

/// A packet from the tenant's network to the translated address. Only such a packet can be an answer; anything else
/// that comes in there is the machine's own business.
fn from_tenant(out: &mut String, slot: Slot, tenant: &GatewayTenant) {
    line(out, format_args!("chain from_tenant_{slot} {{"));
    match tenant.snat {
        Snat::To { address, .. } => line(out, format_args!("ip daddr != {address} return")),
        Snat::Masquerade { .. } => line(out, format_args!("fib daddr type != local return")),
    }
    line(out, format_args!("meta mark set {:#x}", slot.bits()));
    line(out, format_args!("ct zone set {}", slot.zone()));
    line(out, format_args!("}}"));
}

/// What a tenant's functions may reach, and what may come back. `mss` is what fits the tunnel; the route may say less.
fn policy(out: &mut String, slot: Slot, tenant: &GatewayTenant, mss: u32) {
    let interface = &tenant.interface;
    let clamp = |out: &mut String| {
        line(out, format_args!("tcp flags syn / syn,rst tcp option maxseg size set {mss}"));
        line(out, format_args!("tcp flags syn / syn,rst tcp option maxseg size set rt mtu"));
    };
    line(out, format_args!("chain to_tenant_{slot} {{"));
    line(out, format_args!("oifname != \"{interface}\" counter name drop_policy drop"));
    line(out, format_args!("ip daddr {NEVER} counter name drop_policy drop"));
    clamp(out);
    line(out, format_args!("ct state established,related accept"));
    for Allow { to, tcp, udp, icmp } in &tenant.allow {
        for (protocol, ports) in [("tcp", tcp), ("udp", udp)] {
            if !ports.is_empty() {
                line(out, format_args!("ip daddr {to} {protocol} dport {{ {} }} accept", join(ports)));
            }
        }
        if *icmp {
            line(out, format_args!("ip daddr {to} icmp type echo-request accept"));
        }
    }
    line(out, format_args!("counter name drop_policy drop"));
    line(out, format_args!("}}"));
    line(out, format_args!("chain to_tunnel_{slot} {{"));
    line(out, format_args!("iifname != \"{interface}\" counter name drop_unsolicited drop"));
    clamp(out);
    line(out, format_args!("ct state established,related accept"));
    line(out, format_args!("counter name drop_unsolicited drop"));
    line(out, format_args!("}}"));
}

fn join(ports: &[PortRange]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn hooks(out: &mut String, inputs: &Inputs, tenants: &[(Slot, &GatewayTenant)]) {
    let platform = &inputs.config.platform;
    line(out, format_args!("chain remember {{ type filter hook prerouting priority mangle; policy accept;"));
    // By this, the connections of a tenant that goes are found.
    line(out, format_args!("meta mark & 0x2000 != 0 ct state new ct mark set meta mark"));
    line(out, format_args!("}}"));

    line(out, format_args!("chain forward {{ type filter hook forward priority filter; policy accept;"));
    dispatch(out, "iifname", "goto", tenants.iter().map(|(slot, _)| (IfName::tunnel(*slot), format!("to_tenant_{slot}"))));
    dispatch(out, "oifname", "goto", tenants.iter().map(|(slot, _)| (IfName::tunnel(*slot), format!("to_tunnel_{slot}"))));
    line(out, format_args!("iifname \"{0}*\" counter name drop_policy drop", IfName::OURS));
    line(out, format_args!("oifname \"{0}*\" counter name drop_unsolicited drop", IfName::OURS));
    line(out, format_args!("}}"));

    line(out, format_args!("chain input {{ type filter hook input priority filter; policy accept;"));
    line(out, format_args!("iifname \"{0}*\" counter name drop_to_node drop", IfName::OURS));
    for (_, tenant) in tenants {
        // The address is the connections' alone: a packet that belongs to none must not be answered with a reset.
        if let Snat::To { address, .. } = tenant.snat {
            line(
                out,
                format_args!(
                    "iifname \"{}\" ip daddr {address} meta l4proto {{ tcp, udp }} counter name drop_unsolicited drop",
                    tenant.interface
                ),
            );
        }
    }
    line(out, format_args!("}}"));

    line(out, format_args!("chain output {{ type filter hook output priority raw; policy accept;"));
    line(out, format_args!("ip saddr {} ip protocol gre notrack accept", platform.address));
    // 'Protocol unreachable' for GRE, which the kernel answers while nobody listens: it would end a host's tunnel.
    line(out, format_args!("icmp type destination-unreachable icmp code prot-unreachable @th,136,8 47 drop"));
    for (slot, tenant) in tenants {
        if matches!(tenant.snat, Snat::Masquerade { .. }) {
            // The interface's own address is in the tenant's zone, so what the node itself sends from there must be too.
            line(out, format_args!("oifname \"{}\" ct zone set {}", tenant.interface, slot.zone()));
        }
    }
    line(out, format_args!("}}"));

    line(out, format_args!("chain after_routing {{ type nat hook postrouting priority srcnat; policy accept;"));
    for (slot, tenant) in tenants {
        let flow = format!("meta mark & 0x3fff == {:#x} oifname \"{}\"", slot.bits(), tenant.interface);
        match tenant.snat {
            Snat::To { address, ports } => {
                line(out, format_args!("{flow} meta l4proto {{ tcp, udp }} snat ip to {address}:{} fully-random", range(ports)));
                line(out, format_args!("{flow} snat ip to {address}"));
            }
            Snat::Masquerade { ports } => {
                line(out, format_args!("{flow} meta l4proto {{ tcp, udp }} masquerade to :{} fully-random", range(ports)));
                line(out, format_args!("{flow} masquerade"));
            }
        }
    }
    line(out, format_args!("}}"));
}

fn range(ports: PortRange) -> String {
    format!("{}-{}", ports.first, ports.last)
}
