//! The gateway's nftables table: who may send, where to, and under which address.

use super::{Carrier, FLOW_TABLE, GatewayTenant, Inputs, Served, Slot, Snat, fence, probes, wrapped};
use crate::config::{Allow, GatewayTunnel, TunnelKind};
use crate::model::{IfName, PortRange, TenantName};
use crate::plan::ruleset::{FROM_A_ROUTER, NO_UNREACHABLE, clamp, flow_table, line};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

pub const PEERS: &str = "peers";
pub const SENDERS: &str = "senders";
pub const SENDERS_NET: &str = "senders_net";

/// Named counters, and what each one counts.
pub const DROPS: [(&str, &str); 12] = [
    ("drop_wrong_interface", "tunnel packets that came in elsewhere than at the platform's interface"),
    ("drop_gre_header", "outer packets whose GRE header is not version 0 with a key and nothing else"),
    ("drop_gre_protocol", "outer packets that carry something other than IPv4"),
    ("drop_gre_key", "outer packets with a key of no tenant"),
    ("drop_unlisted_source", "outer packets from an address that is no function host's"),
    ("drop_spoofed_inner", "inner packets whose source is not the sending host's in this tenant"),
    ("drop_nested", "inner packets that are tunnels themselves"),
    ("drop_policy", "inner packets to a destination or port that the tenant's configuration does not allow"),
    ("drop_invalid", "packets of no connection's state (conntrack's `invalid`), which would leave untranslated"),
    ("drop_unsolicited", "packets from a tenant's network that answer nothing"),
    ("drop_to_node", "inner packets to an address of the gateway itself"),
    ("drop_from_elsewhere", "packets from a HaVip that would leave by an interface which is not its own"),
];

/// Never a destination, whatever a configuration allows: this network, loopback, link-local with its metadata
/// services, Alibaba's metadata address, multicast, reserved (RFC 6890; facts of the clouds).
const NEVER: &str = "{ 0.0.0.0/8, 100.100.100.200, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 }";

/// IP-in-IP, IPv6-in-IPv4, GRE, EtherIP; VXLAN (also Linux' old port), VXLAN-GPE, Geneve, GUE and FOU.
const NESTED_PROTOCOLS: &str = "{ 4, 41, 47, 97 }";
const NESTED_PORTS: &str = "{ 4789, 4790, 5555, 6080, 6081, 8472 }";

/// Who sent a GRE packet: the outer source; the GRE header's flags and protocol, and its key; the source of the IPv4 packet
/// inside. They stand at these places only if the flags announce a key and nothing else, which is part of the look-up.
const SENDER: &str = "ip saddr . @th,0,32 . @th,32,32 . @th,160,32";

/// What routers say of a packet that was sent (RFC 792; "fragmentation needed" is of the first type).
const ABOUT_OURS: &str = "icmp type { destination-unreachable, time-exceeded, parameter-problem }";

/// Everything inside `table inet portway { ... }`.
pub fn body(inputs: &Inputs, all: &[Served]) -> String {
    let mut text = String::new();
    let out = &mut text;
    for (counter, _) in DROPS {
        line(out, format_args!("counter {counter} {{ }}"));
    }
    line(out, format_args!("map {PEERS} {{ type ipv4_addr : mark; }}"));
    line(out, format_args!("map {SENDERS} {{ typeof {SENDER} : meta mark; }}"));
    line(out, format_args!("map {SENDERS_NET} {{ typeof {SENDER} : meta mark; flags interval; }}"));
    flow_table(out, inputs.facts);
    clamp(out, inputs.facts.tunnel_mtu(&inputs.config.platform));
    let asking = probes::slots(all);
    probes::answers(out, all);
    before_routing(out, inputs, all, &asking);
    for served in all {
        from_tunnel(out, served.slot, inputs);
        from_tenant(out, served, asking.get(&served.tenant.name).copied());
        policy(out, served.slot, served.tenant, inputs);
    }
    hooks(out, inputs, all);
    text
}

/// An anonymous set; of nothing it could not be written.
pub(super) fn set<T: Ord + Display>(elements: impl Iterator<Item = T>) -> Option<String> {
    let elements: BTreeSet<T> = elements.collect();
    let elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
    (!elements.is_empty()).then(|| format!("{{ {} }}", elements.join(", ")))
}

fn networks(all: &[Served]) -> Option<String> {
    set(all.iter().map(|served| format!("\"{}\"", served.tenant.interface)))
}

fn before_routing(out: &mut String, inputs: &Inputs, all: &[Served], asking: &BTreeMap<&TenantName, Slot>) {
    line(out, format_args!("chain outer {{"));
    if looked_up(inputs) {
        outer(out, all);
    } else {
        line(out, "notrack accept");
    }
    line(out, format_args!("}}"));
    // The shards of a tenant have one interface, and an address there each.
    let mut at: BTreeMap<&IfName, Vec<&Served>> = BTreeMap::new();
    all.iter().for_each(|served| at.entry(&served.tenant.interface).or_default().push(served));
    for sharing in at.values().filter(|sharing| sharing.len() > 1) {
        line(out, format_args!("chain from_tenant_{}_and_others {{", sharing[0].slot));
        let to = |served: &&Served| match served.shard.snat {
            Snat::To { address, .. } => Some(format!("{address} : goto from_tenant_{}", served.slot)),
            Snat::Masquerade { .. } => None,
        };
        let entries: Vec<String> = sharing.iter().filter_map(to).collect();
        line(out, format_args!("ip daddr vmap {{ {} }}", entries.join(", ")));
        if let Some(slot) = asking.get(&sharing[0].tenant.name) {
            line(out, format_args!("goto answers_{slot}"));
        }
        line(out, format_args!("}}"));
    }
    line(out, format_args!("chain before_routing {{ type filter hook prerouting priority raw; policy accept;"));
    wrapped::taken(out, inputs, all);
    untracked(out, inputs, "daddr");
    let tunnels = all.iter().flat_map(|served| served.tunnels().map(|tunnel| (tunnel, format!("from_tunnel_{}", served.slot))));
    let networks = at.iter().map(|(interface, sharing)| {
        let others = if sharing.len() > 1 { "_and_others" } else { "" };
        ((*interface).clone(), format!("from_tenant_{}{others}", sharing[0].slot))
    });
    dispatch(out, "iifname", "goto", tunnels.chain(networks));
    line(out, format_args!("}}"));
}

/// What gateways tell each other is none of the connections that they tell each other of.
fn untracked(out: &mut String, inputs: &Inputs, direction: &str) {
    let Some(ha) = &inputs.config.ha else { return };
    let (own, port) = (inputs.config.platform.address, ha.sync_port);
    line(out, format_args!("ip protocol 112 notrack accept"));
    line(out, format_args!("ip {direction} {own} udp sport {port} udp dport {port} notrack accept"));
}

/// A packet of a tunnel, still wrapped: does this function host have this inner address in the tenant of this key? One
/// look-up says so, and whose the packet is; the kernel gives the mark to what it unwraps. The rest only names the reason.
fn outer(out: &mut String, all: &[Served]) {
    line(out, format_args!("meta mark set {SENDER} map @{SENDERS} notrack accept"));
    line(out, format_args!("meta mark set {SENDER} map @{SENDERS_NET} notrack accept"));
    line(out, format_args!("@th,0,16 != 0x2000 counter name drop_gre_header drop"));
    line(out, format_args!("@th,16,16 != 0x0800 counter name drop_gre_protocol drop"));
    let key = |served: &Served| if let GatewayTunnel::Gre { key } = served.shard.tunnel { Some(key.0) } else { None };
    if let Some(keys) = set(all.iter().filter_map(key)) {
        line(out, format_args!("@th,32,32 != {keys} counter name drop_gre_key drop"));
    }
    line(out, format_args!("meta mark set 0"));
    line(out, format_args!("meta mark set ip saddr map @{PEERS}"));
    line(out, format_args!("meta mark 0 counter name drop_unlisted_source drop"));
    line(out, format_args!("counter name drop_spoofed_inner drop"));
}

fn dispatch(out: &mut String, key: &str, verdict: &str, to: impl Iterator<Item = (IfName, String)>) {
    let entries: Vec<String> = to.map(|(interface, chain)| format!("\"{interface}\" : {verdict} {chain}")).collect();
    if !entries.is_empty() {
        line(out, format_args!("{key} vmap {{ {} }}", entries.join(", ")));
    }
}

/// Whether a packet is looked up while it is still wrapped. The kernel's GRE unwraps whatever has a tunnel's key and addresses; our own
/// data path checks all three, and WireGuard whose key sealed it.
fn looked_up(inputs: &Inputs) -> bool {
    (inputs.carrier, inputs.config.platform.tunnel) == (Carrier::Kernel, TunnelKind::Gre)
}

/// A packet just unwrapped. What should have been looked up and was not has no mark of this tunnel.
fn from_tunnel(out: &mut String, slot: Slot, inputs: &Inputs) {
    line(out, format_args!("chain from_tunnel_{slot} {{"));
    if looked_up(inputs) {
        line(out, format_args!("meta mark & 0x3fff != {:#x} counter name drop_spoofed_inner drop", slot.bits()));
    } else {
        line(out, format_args!("meta mark set {:#x}", slot.bits()));
    }
    line(out, format_args!("ct zone set {}", slot.zone()));
    line(out, format_args!("}}"));
}

/// A packet from the tenant's network to the translated address. Only such a packet can be an answer; anything else
/// that comes in there is the machine's own business. `asking`: the slot of the tenant's probes.
fn from_tenant(out: &mut String, served: &Served, asking: Option<Slot>) {
    let slot = served.slot;
    line(out, format_args!("chain from_tenant_{slot} {{"));
    // Never a tunnel's packet: with this mark it would pass for one that was looked up.
    line(out, format_args!("ip protocol gre return"));
    match served.shard.snat {
        Snat::To { address, .. } => {
            let otherwise = asking.map_or("return".into(), |slot| format!("goto answers_{slot}"));
            line(out, format_args!("ip daddr != {address} {otherwise}"));
        }
        Snat::Masquerade { .. } => line(out, format_args!("fib daddr type != local return")),
    }
    line(out, format_args!("meta mark set {:#x}", slot.bits()));
    line(out, format_args!("{FROM_A_ROUTER}"));
    line(out, format_args!("ct zone set {}", slot.zone()));
    line(out, format_args!("}}"));
}

/// What a tenant's functions may reach, and what may come back. What is established comes first and, where the kernel has
/// flow tables, no longer passes here at all.
fn policy(out: &mut String, slot: Slot, tenant: &GatewayTenant, inputs: &Inputs) {
    let interface = &tenant.interface;
    let clamped = |out: &mut String| line(out, format_args!("tcp flags syn / syn,rst jump clamp"));
    let established = |out: &mut String, here: &str| {
        if inputs.facts.flow_tables {
            line(out, format_args!("{here} ct state established flow add @{FLOW_TABLE}"));
        }
        line(out, format_args!("{here} ct state established,related accept"));
    };
    line(out, format_args!("chain to_tenant_{slot} {{"));
    established(out, &format!("oifname \"{interface}\""));
    line(out, format_args!("ct state invalid counter name drop_invalid drop"));
    clamped(out);
    line(out, format_args!("oifname != \"{interface}\" counter name drop_policy drop"));
    line(out, format_args!("ip daddr {NEVER} counter name drop_policy drop"));
    // Our own data path for GRE has looked.
    if (inputs.carrier, inputs.config.platform.tunnel) != (Carrier::Userspace, TunnelKind::Gre) {
        // What is nested never becomes a connection, so it need not be looked for in one.
        line(out, format_args!("ip protocol {NESTED_PROTOCOLS} counter name drop_nested drop"));
        line(out, format_args!("udp dport {NESTED_PORTS} counter name drop_nested drop"));
    }
    // By this, the connections of a tenant that goes are found.
    line(out, format_args!("ct mark set meta mark"));
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
    // Before the rest: the answer to a SYN belongs to a connection that is established.
    clamped(out);
    established(out, &format!("iifname \"{interface}\""));
    line(out, format_args!("counter name drop_unsolicited drop"));
    line(out, format_args!("}}"));
}

fn join(ports: &[PortRange]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is for a translated address and is no connection's: never answered with a reset, which would end one that this node has yet to
/// learn of. A HaVip is answered at all (pings) only if configured so (RFC 9568 section 6.1, Accept_Mode).
fn to_the_machine(out: &mut String, inputs: &Inputs, served: &Served) {
    let Snat::To { address, .. } = served.shard.snat else { return };
    let accept = inputs.config.ha.as_ref().is_none_or(|ha| ha.accept);
    let what = if accept { " meta l4proto { tcp, udp }" } else { "" };
    line(out, format_args!("ip daddr {address}{what} iifname \"{}\" counter name drop_unsolicited drop", served.tenant.interface));
    if served.shard.havip.is_some() && !accept {
        // About packets of our tunnels, which no connection stands for: by these, tunnels learn what their path carries.
        line(out, format_args!("ip daddr {} {ABOUT_OURS} accept", served.shard.local));
        wrapped::alone(out, served);
    }
}

fn hooks(out: &mut String, inputs: &Inputs, all: &[Served]) {
    line(out, format_args!("chain rejected {{ type filter hook prerouting priority mangle; policy accept;"));
    // What the tenant's table has no way for is rejected by its last route, where no rule sees it.
    line(
        out,
        format_args!(
            "iifgroup {} ct state new fib daddr . mark oif missing fib daddr type != local counter name drop_policy",
            IfName::GROUP
        ),
    );
    line(out, format_args!("}}"));

    line(out, format_args!("chain forward {{ type filter hook forward priority filter; policy accept;"));
    for (direction, chain) in [("iifname", "to_tenant"), ("oifname", "to_tunnel")] {
        let tunnels = all.iter().flat_map(|served| served.tunnels().map(move |tunnel| (tunnel, format!("{chain}_{}", served.slot))));
        dispatch(out, direction, "goto", tunnels);
    }
    line(out, format_args!("iifgroup {} counter name drop_policy drop", IfName::GROUP));
    line(out, format_args!("oifgroup {} counter name drop_unsolicited drop", IfName::GROUP));
    // Tenants' interfaces forward because we said so: between tunnel and tenant, and nowhere else.
    if let Some(networks) = networks(all) {
        line(out, format_args!("iifname {networks} counter name drop_unsolicited drop"));
        line(out, format_args!("oifname {networks} counter name drop_policy drop"));
    }
    line(out, format_args!("}}"));

    line(out, format_args!("chain input {{ type filter hook input priority filter; policy accept;"));
    line(out, format_args!("iifgroup {} counter name drop_to_node drop", IfName::GROUP));
    wrapped::brought(out, inputs, all);
    for rule in fence::elsewhere(inputs, all, "daddr", "iifname") {
        line(out, format_args!("{rule} counter name drop_to_node drop"));
    }
    for served in all {
        to_the_machine(out, inputs, served);
    }
    line(out, format_args!("}}"));

    line(out, format_args!("chain output {{ type filter hook output priority raw; policy accept;"));
    let elsewhere = fence::elsewhere(inputs, all, "saddr", "oifname");
    // First, for this is most of what passes here.
    wrapped::sent(out, inputs, all, !elsewhere.is_empty());
    for rule in elsewhere {
        line(out, format_args!("{rule} counter name drop_from_elsewhere drop"));
    }
    untracked(out, inputs, "saddr");
    line(out, NO_UNREACHABLE);
    probes::questions(out, all);
    for Served { slot, tenant, shard, .. } in all {
        if matches!(shard.snat, Snat::Masquerade { .. }) {
            // The interface's own address is in the tenant's zone, so what the node itself sends from there must be too.
            line(out, format_args!("oifname \"{}\" ct zone set {}", tenant.interface, slot.zone()));
        }
    }
    line(out, format_args!("}}"));

    line(out, format_args!("chain after_routing {{ type nat hook postrouting priority srcnat; policy accept;"));
    probes::untranslated(out, all);
    for Served { slot, tenant, shard, .. } in all {
        let flow = format!("meta mark & 0x3fff == {:#x} oifname \"{}\"", slot.bits(), tenant.interface);
        match shard.snat {
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
