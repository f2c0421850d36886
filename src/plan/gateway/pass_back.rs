//! `table ip portway`: hosts' packets of sessions with the node before.
//!
//! Session keys stay where they are. When a shard moves in peace, what its hosts send comes to the new node at once, but belongs to sessions of the old
//! one until each has agreed on a new one: a round trip and a half. The old node still has the addresses and forwards, for a second; so for that long
//! each such packet goes to both, and whoever has the session opens it. No other family has a `dup` that sends to a neighbour.
//!
//! A copy has a hop less (`nf_dup_ipv4`), but nobody else looks at that: neither node forwards it. So the rule does, and a circle of two nodes, each of which takes the
//! other for the one before, ends.

use super::{Inputs, Served, wrapped};
use crate::plan::FORMER;
use crate::plan::ruleset::line;

/// WireGuard's messages that carry data (whitepaper section 5.4.6): handshakes are for whoever has the shard now.
const DATA: &str = "@th,64,8 4";

/// Everything inside the table; none where there are no sessions, or nobody to have had them before, or the kernel cannot copy.
pub(super) fn body(inputs: &Inputs, all: &[Served]) -> Option<String> {
    let ends = wrapped::ends(all).filter(|_| inputs.config.ha.is_some() && inputs.copies)?;
    let interface = &inputs.config.platform.interface;
    let mut text = String::new();
    let out = &mut text;
    line(out, format_args!("map {FORMER} {{ type ipv4_addr : ipv4_addr; flags timeout; }}"));
    line(out, "chain again { type filter hook prerouting priority raw; policy accept;");
    line(out, format_args!("iifname \"{interface}\" ip daddr . udp dport {ends} {DATA} ip ttl > 1 dup to ip daddr map @{FORMER}"));
    line(out, "}");
    Some(text)
}
