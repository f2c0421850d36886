//! The chains and rules of one nftables table of ours.

use super::facts::Facts;
use crate::model::IfName;
use sha2::{Digest, Sha256};
use std::fmt::{Display, Write};

/// The flow table of `table inet portway`, where a ruleset declares one.
pub const FLOW_TABLE: &str = "fast";

/// The sets of `table netdev portway` that hold the leases of HaVips (`type ifname . ipv4_addr; flags timeout;`): for which this node may take and
/// send packets, and for which it may answer and announce. What is in them ends by itself.
pub const LIVE: &str = "live";
pub const ANSWERS: &str = "answers";
/// The map of `table ip portway` (`type ipv4_addr : ipv4_addr; flags timeout;`) from a HaVip to the node that had it until a moment ago.
pub const FORMER: &str = "former";

/// An ICMP error of a router that the tenant's table does not lead to counts as coming from the host that the packet it
/// quotes was for: the reverse path filter would drop it.
pub(super) const FROM_A_ROUTER: &str =
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } fib saddr . mark . iif oif missing ip saddr set @th,192,32";

/// Interfaces that a flow table may have: the kernel tells all of them in one message of a page (`NLMSG_GOODSIZE`), or not at all.
const FLOW_DEVICES: usize = 128;

/// Whether a flow table can have so many interfaces. One that cannot have all has none.
pub fn flow_devices_fit(devices: usize) -> bool {
    devices <= FLOW_DEVICES
}

pub(super) fn line(out: &mut String, text: impl Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// Declares the flow table, where this kernel has them. Its devices come later, one by one.
/// It counts for conntrack, where that counts at all (`nf_conntrack_acct`): a connection has its packets counted whichever way they take.
pub(super) fn flow_table(out: &mut String, facts: &Facts) {
    if facts.flow_tables {
        line(out, format_args!("flowtable {FLOW_TABLE} {{ hook ingress priority 0; counter; }}"));
    }
}

/// The chain to which a SYN jumps: it offers what fits the tunnel; the route may say less.
pub(super) fn clamp(out: &mut String, tunnel_mtu: u32) {
    line(out, "chain clamp {");
    line(out, format_args!("tcp option maxseg size set {}", tunnel_mtu.saturating_sub(40)));
    line(out, "tcp option maxseg size set rt mtu");
    line(out, "}");
}

/// What happens to these packets of tunnels, still wrapped, that come in at the platform's interface.
pub(super) fn wrapped_in(out: &mut String, interface: &IfName, facts: &Facts, these: impl Display, verdict: &str) {
    line(out, format_args!("{} {these} {verdict}", came_in_at(interface, facts)));
    // The kernel takes what is for its address at any interface, and so would whoever unwraps it.
    line(out, format_args!("{these} counter name drop_wrong_interface drop"));
}

/// 'Protocol unreachable' for GRE, which the kernel answers while nobody listens: it would end the other end's tunnel.
pub(super) const NO_UNREACHABLE: &str = "icmp type destination-unreachable icmp code prot-unreachable @th,136,8 47 drop";

/// The expression that a packet came in at this interface: by its index where it is known, which costs less than its name.
fn came_in_at(interface: &IfName, facts: &Facts) -> String {
    match facts.link(interface) {
        Some(link) => format!("iif {}", link.index),
        None => format!("iifname \"{interface}\""),
    }
}

/// A table as text in nft's language, and what identifies it.
///
/// The kernel cannot be asked for the text that made a table. So every ruleset carries an empty chain whose name
/// is the hash of its text ([`Ruleset::marker`]), and the applier remembers the listing that the kernel gave right
/// after it was applied: a table is as desired when the marker is there and the listing is still the same. This
/// holds for every version of nft, however it chooses to print a rule.
#[derive(Debug, Clone)]
pub struct Ruleset {
    /// Declarations inside `table FAMILY portway { ... }`: sets, maps, counters, chains. Empty for an observed one.
    pub body: String,
    /// 16 hex digits; of an observed table: as its marker says, or with a suffix if it was tampered with.
    revision: String,
}

impl Ruleset {
    /// What the marker chain's name begins with.
    pub const MARKER: &'static str = "revision_";

    pub fn new(body: String) -> Self {
        let digest = Sha256::digest(body.as_bytes());
        let revision = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { body, revision }
    }

    /// A table found in the kernel, by the revision in its marker chain.
    pub fn observed(revision: impl Into<String>) -> Self {
        Self { body: String::new(), revision: revision.into() }
    }

    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The name of the empty chain that identifies this ruleset.
    pub fn marker(&self) -> String {
        format!("{}{}", Self::MARKER, self.revision)
    }
}

impl PartialEq for Ruleset {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision
    }
}

impl Eq for Ruleset {}
