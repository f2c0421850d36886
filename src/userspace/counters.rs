//! What went through, and what was dropped and why.

use crate::model::IfName;
use crate::wire::{gre, ipv4};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Shorter than its headers say.
    Truncated,
    /// Headers that contradict themselves.
    Malformed,
    /// GRE without a key.
    NoKey,
    /// GRE with a bit other than the key's.
    UnsupportedFlags,
    /// GRE version other than 0.
    UnsupportedVersion,
    /// Inside is no IPv4.
    UnsupportedProtocol,
    /// The outer destination is an address of this machine, but of no tunnel.
    WrongLocal,
    /// The outer source is no peer of ours at this local address.
    UnlistedSource,
    /// The outer source is a peer of ours at this local address, but not with this key.
    WrongKey,
    /// The inner source is not this peer's.
    SpoofedInner,
    /// A tunnel inside the tunnel.
    Nested,
    /// The inner destination is nobody's.
    Unroutable,
    /// Congestion was signalled to a sender that has no other way to hear of it (RFC 6040 section 4.2).
    Congestion,
    /// Longer than the platform interface's MTU allows.
    TooBig,
    /// The platform side's socket refused the packet.
    SendFailed,
    /// The TUN device refused the packet: it is down or gone.
    DeliverFailed,
}

impl DropReason {
    pub const ALL: [DropReason; 16] = [
        DropReason::Truncated,
        DropReason::Malformed,
        DropReason::NoKey,
        DropReason::UnsupportedFlags,
        DropReason::UnsupportedVersion,
        DropReason::UnsupportedProtocol,
        DropReason::WrongLocal,
        DropReason::UnlistedSource,
        DropReason::WrongKey,
        DropReason::SpoofedInner,
        DropReason::Nested,
        DropReason::Unroutable,
        DropReason::Congestion,
        DropReason::TooBig,
        DropReason::SendFailed,
        DropReason::DeliverFailed,
    ];

    /// As in a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Truncated => "truncated",
            DropReason::Malformed => "malformed",
            DropReason::NoKey => "no_key",
            DropReason::UnsupportedFlags => "unsupported_flags",
            DropReason::UnsupportedVersion => "unsupported_version",
            DropReason::UnsupportedProtocol => "unsupported_protocol",
            DropReason::WrongLocal => "wrong_local",
            DropReason::UnlistedSource => "unlisted_source",
            DropReason::WrongKey => "wrong_key",
            DropReason::SpoofedInner => "spoofed_inner",
            DropReason::Nested => "nested",
            DropReason::Unroutable => "unroutable",
            DropReason::Congestion => "congestion",
            DropReason::TooBig => "too_big",
            DropReason::SendFailed => "send_failed",
            DropReason::DeliverFailed => "deliver_failed",
        }
    }
}

impl From<gre::Fault> for DropReason {
    fn from(fault: gre::Fault) -> DropReason {
        match fault {
            gre::Fault::Truncated(_) => DropReason::Truncated,
            gre::Fault::UnsupportedVersion(_) => DropReason::UnsupportedVersion,
            gre::Fault::NoKey => DropReason::NoKey,
            gre::Fault::UnsupportedFlags(_) => DropReason::UnsupportedFlags,
            gre::Fault::UnsupportedProtocol(_) => DropReason::UnsupportedProtocol,
        }
    }
}

impl From<ipv4::Fault> for DropReason {
    fn from(fault: ipv4::Fault) -> DropReason {
        match fault {
            ipv4::Fault::Truncated { .. } => DropReason::Truncated,
            ipv4::Fault::Version(_) => DropReason::UnsupportedProtocol,
            ipv4::Fault::HeaderLength(_) | ipv4::Fault::TotalLength(_) => DropReason::Malformed,
        }
    }
}

/// Drops by reason, since the process started.
#[derive(Debug, Default)]
pub struct Drops([AtomicU64; DropReason::ALL.len()]);

impl Drops {
    pub fn count(&self, reason: DropReason, packets: u64) {
        self.0[reason as usize].fetch_add(packets, Relaxed);
    }
}

/// One tunnel's traffic, inner bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    received: [AtomicU64; 2],
    sent: [AtomicU64; 2],
}

impl Traffic {
    pub fn received(&self, packets: u64, bytes: u64) {
        self.received[0].fetch_add(packets, Relaxed);
        self.received[1].fetch_add(bytes, Relaxed);
    }

    pub fn sent(&self, packets: u64, bytes: u64) {
        self.sent[0].fetch_add(packets, Relaxed);
        self.sent[1].fetch_add(bytes, Relaxed);
    }

    pub fn snapshot(&self) -> TrafficCount {
        let [received_packets, received_bytes] = [0, 1].map(|i: usize| self.received[i].load(Relaxed));
        let [sent_packets, sent_bytes] = [0, 1].map(|i: usize| self.sent[i].load(Relaxed));
        TrafficCount { received_packets, received_bytes, sent_packets, sent_bytes }
    }
}

/// All counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Every reason, also those that never occurred.
    pub drops: BTreeMap<DropReason, u64>,
    pub tunnels: BTreeMap<IfName, TrafficCount>,
}

/// Inner packets and inner bytes, since the tunnel was added. *Received* is from the platform side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficCount {
    pub received_packets: u64,
    pub received_bytes: u64,
    pub sent_packets: u64,
    pub sent_bytes: u64,
}

impl Drops {
    pub fn snapshot(&self) -> BTreeMap<DropReason, u64> {
        DropReason::ALL.iter().map(|reason| (*reason, self.0[*reason as usize].load(Relaxed))).collect()
    }
}
