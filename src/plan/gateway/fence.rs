//! `table netdev portway`: what holds for every packet at an interface, before and behind everything else.
//!
//! **The lease.** The kernel outlives a killed or hung daemon, and an address that is taken away is no fence: connections go on with it.
//! So a HaVip is received and sent from only while it stands in the set `live`, whose elements lapse unless the daemon renews
//! them; and ARP for it is answered, or says it, only while it stands in `answers`. Both hooks see what a flow table sends past all other rules.

use super::ruleset::set;
use super::{IfName, Inputs, Served, Slot, havips};
use crate::plan::ruleset::line;
use crate::plan::{ANSWERS, LIVE};
use std::collections::BTreeMap;

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
    let havips = set(all.iter().filter(|served| served.shard.havip.is_some()).flat_map(|served| {
        havips(&inputs.config.platform, served.tenant, served.shard).map(|(interface, address)| format!("\"{interface}\" . {address}"))
    }));
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
    for (number, (interface, slot)) in interfaces.chain(tenants.iter().map(|(interface, slot)| (*interface, Some(*slot)))).enumerate() {
        let mark = slot.filter(|_| several);
        if mark.is_some() || havips.is_some() {
            ingress(out, number, interface, mark, havips.is_some());
        }
        if havips.is_some() {
            egress(out, number, interface);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// `mark`, for several tenants: "who has the translated address?" is a routing question too, and with equal subnets a strict
/// reverse path check (rp_filter 1) finds the asker behind another tenant's interface: it must be looked up in its own tenant's
/// table. Packets get their mark later; ARP passes here alone.
fn ingress(out: &mut String, number: usize, interface: &IfName, mark: Option<Slot>, fenced: bool) {
    line(out, format_args!("chain in_{number} {{ type filter hook ingress device \"{interface}\" priority -300; policy accept;"));
    if let Some(slot) = mark {
        line(out, format_args!("meta protocol arp meta mark set {:#x}", slot.bits()));
    }
    if fenced {
        line(out, format_args!("iifname . ip daddr @{LIVE} accept"));
        line(out, format_args!("iifname . ip daddr @havips counter name drop_not_active_in drop"));
        line(out, format_args!("iifname . arp daddr ip @{ANSWERS} accept"));
        line(out, format_args!("iifname . arp daddr ip @havips drop"));
    }
    line(out, format_args!("}}"));
}

fn egress(out: &mut String, number: usize, interface: &IfName) {
    line(out, format_args!("chain out_{number} {{ type filter hook egress device \"{interface}\" priority -300; policy accept;"));
    line(out, format_args!("oifname . ip saddr @{LIVE} accept"));
    line(out, format_args!("oifname . ip saddr @havips counter name drop_not_active_out drop"));
    // An ARP request may carry as its sender's address that of the packet which is waiting for the answer.
    line(out, format_args!("oifname . arp saddr ip @{ANSWERS} accept"));
    line(out, format_args!("oifname . arp saddr ip @havips drop"));
    line(out, format_args!("}}"));
}
