//! `table netdev portway`: what holds for every packet at an interface, before and behind everything else.
//!
//! **The lease.** The kernel outlives a killed or hung daemon, and an address that is taken away is no fence: connections go on with it.
//! So a HaVip is received and sent from only while it stands in the set `live`, whose elements lapse unless the daemon renews
//! them; and ARP for it is answered, or says it, only while it stands in `answers`. Both hooks see what a flow table sends past all other rules.
//!
//! **Other interfaces.** Linux answers for an address at every interface, whichever it is on (arp_ignore 0), and takes and sends packets with it there.
//! No lease covers that: a HaVip is nothing at an interface that is not its own. Tenants may have equal addresses, so that is asked of pairs.

use super::ruleset::set;
use super::{IfName, Inputs, Served, Slot, havips};
use crate::plan::ruleset::line;
use crate::plan::{ANSWERS, LIVE};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Named counters of this table, and what each one counts.
pub const FENCED: [(&str, &str); 2] = [
    ("drop_not_active_in", "packets to a HaVip that this node does not have (any more)"),
    ("drop_not_active_out", "packets from a HaVip that this node does not have (any more)"),
];

/// Everything inside `table netdev portway { ... }`; none if there is nothing to be said.
pub(super) fn body(inputs: &Inputs, all: &[Served]) -> Option<String> {
    let present = |interface: &IfName| inputs.facts.links.contains_key(interface);
    // The interface of each tenant, with the mark of the first of its shards.
    let mut tenants: BTreeMap<&IfName, Slot> = BTreeMap::new();
    for served in all.iter().filter(|served| present(&served.tenant.interface)) {
        tenants.entry(&served.tenant.interface).or_insert(served.slot);
    }
    let pairs = pairs(inputs, all);
    let havips = set(pairs.iter().map(|(interface, address)| format!("\"{interface}\" . {address}")));
    let mut text = String::new();
    let out = &mut text;
    if let Some(havips) = &havips {
        for (counter, _) in FENCED {
            line(out, format_args!("counter {counter} {{ }}"));
        }
        for lease in [LIVE, ANSWERS] {
            line(out, format_args!("set {lease} {{ type ifname . ipv4_addr; flags timeout; }}"));
        }
        line(out, format_args!("set havips {{ type ifname . ipv4_addr; elements = {havips}"));
        line(out, format_args!("}}"));
    }
    let platform = Some(&inputs.config.platform.interface).filter(|interface| havips.is_some() && present(interface));
    let several = tenants.len() > 1;
    let interfaces = platform.map(|interface| (interface, None)).into_iter();
    let served = tenants.iter().map(|(interface, slot)| (*interface, Some(*slot)));
    // Those of tenants that have no shard here: no HaVip is theirs.
    let idle = inputs.config.tenants.iter().map(|tenant| &tenant.interface).filter(|interface| !tenants.contains_key(interface));
    let idle: BTreeSet<&IfName> = idle.filter(|interface| havips.is_some() && present(interface)).collect();
    let all = interfaces.chain(served).chain(idle.into_iter().map(|interface| (interface, None)));
    let homes = homes(inputs, &pairs);
    for (number, (interface, slot)) in all.enumerate() {
        let strangers = strangers(&homes, interface);
        let mark = slot.filter(|_| several);
        if mark.is_some() || havips.is_some() {
            ingress(out, number, interface, mark, havips.is_some(), &strangers);
        }
        if havips.is_some() {
            egress(out, number, interface, &strangers);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The HaVips of all shards, each with its interface.
fn pairs(inputs: &Inputs, all: &[Served]) -> BTreeSet<(IfName, IpAddr)> {
    let shared = all.iter().filter(|served| served.shard.havip.is_some());
    shared.flat_map(|served| havips(&inputs.config.platform, served.tenant, served.shard)).collect()
}

/// HaVips that are nothing at this interface: neither its own nor an address that somebody else has put on it.
fn strangers(homes: &BTreeMap<IpAddr, BTreeSet<IfName>>, interface: &IfName) -> BTreeSet<IpAddr> {
    homes.iter().filter(|(_, interfaces)| !interfaces.contains(interface)).map(|(address, _)| *address).collect()
}

/// The interfaces at which each HaVip may be used: its own, and where the node has the same address besides.
fn homes(inputs: &Inputs, pairs: &BTreeSet<(IfName, IpAddr)>) -> BTreeMap<IpAddr, BTreeSet<IfName>> {
    let mut homes: BTreeMap<IpAddr, BTreeSet<IfName>> = BTreeMap::new();
    for (interface, address) in pairs {
        homes.entry(*address).or_default().insert(interface.clone());
    }
    for (interface, link) in &inputs.facts.links {
        for net in &link.addresses {
            if let Some(interfaces) = homes.get_mut(&net.addr()) {
                interfaces.insert(interface.clone());
            }
        }
    }
    homes
}

/// In `table inet portway`, for interfaces that no fence stands at, too: HaVips together with the interfaces that are theirs, as
/// the rest of a rule that holds elsewhere. What a node says to itself is its own business.
pub(super) fn elsewhere(inputs: &Inputs, all: &[Served], address: &str, interface: &str) -> Vec<String> {
    let mut same: BTreeMap<BTreeSet<IfName>, BTreeSet<IpAddr>> = BTreeMap::new();
    for (address, interfaces) in homes(inputs, &pairs(inputs, all)) {
        same.entry(interfaces).or_default().insert(address);
    }
    let rule = |(interfaces, addresses): (BTreeSet<IfName>, BTreeSet<IpAddr>)| {
        let interfaces = set(interfaces.iter().map(IfName::as_str).chain(["lo"]).map(|name| format!("\"{name}\"")))?;
        Some(format!("ip {address} {} {interface} != {interfaces}", set(addresses.into_iter())?))
    };
    same.into_iter().filter_map(rule).collect()
}

/// `mark`, for several tenants: "who has the translated address?" is a routing question too, and with equal subnets a strict
/// reverse path check (rp_filter 1) finds the asker behind another tenant's interface: it must be looked up in its own tenant's
/// table. Packets get their mark later; ARP passes here alone.
fn ingress(out: &mut String, number: usize, interface: &IfName, mark: Option<Slot>, fenced: bool, strangers: &BTreeSet<IpAddr>) {
    line(out, format_args!("chain in_{number} {{ type filter hook ingress device \"{interface}\" priority -300; policy accept;"));
    if let Some(slot) = mark {
        line(out, format_args!("meta protocol arp meta mark set {:#x}", slot.bits()));
    }
    if fenced {
        line(out, format_args!("iifname . ip daddr @{LIVE} accept"));
        line(out, format_args!("iifname . ip daddr @havips counter name drop_not_active_in drop"));
        line(out, format_args!("iifname . arp daddr ip @{ANSWERS} accept"));
        line(out, format_args!("iifname . arp daddr ip @havips drop"));
        if let (Some(strangers), Some(selves)) =
            (set(strangers.iter()), set(strangers.iter().map(|address| format!("{address} . {address}"))))
        {
            // Another tenant's machine of that address may well announce itself.
            line(out, format_args!("arp daddr ip {strangers} arp operation request arp saddr ip . arp daddr ip != {selves} drop"));
        }
    }
    line(out, format_args!("}}"));
}

fn egress(out: &mut String, number: usize, interface: &IfName, strangers: &BTreeSet<IpAddr>) {
    line(out, format_args!("chain out_{number} {{ type filter hook egress device \"{interface}\" priority -300; policy accept;"));
    line(out, format_args!("oifname . ip saddr @{LIVE} accept"));
    line(out, format_args!("oifname . ip saddr @havips counter name drop_not_active_out drop"));
    // An ARP request may carry as its sender's address that of the packet which is waiting for the answer.
    line(out, format_args!("oifname . arp saddr ip @{ANSWERS} accept"));
    line(out, format_args!("oifname . arp saddr ip @havips drop"));
    if let Some(strangers) = set(strangers.iter()) {
        line(out, format_args!("arp saddr ip {strangers} drop"));
    }
    line(out, format_args!("}}"));
}
