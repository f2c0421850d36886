//! What went through an interface, and what was dropped and why.

use super::super::counters::TrafficCount;
use crate::wire::ipv4;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a datagram, or a packet for one, was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Not of the length that its type or its headers say.
    Truncated,
    /// More bytes than any datagram of ours or theirs has.
    Oversize,
    /// Of no type that there is, or headers that contradict themselves.
    Malformed,
    /// Not made for our public key.
    BadMac,
    /// More initiations in the name of an address than one may send: one that shows a cookie, which was sent, may still pass.
    RateLimited,
    /// More handshakes than can be worked off: a cookie was sent instead of an answer, or nothing.
    Overload,
    /// A handshake message that does not open: not from whom it claims, or not for us.
    BadHandshake,
    /// An initiation of a peer that we do not know. There was an event.
    UnknownKey,
    /// Of no session that we have.
    UnknownSession,
    /// Of a session that is too old.
    Expired,
    /// Does not open with the session's key.
    BadSeal,
    /// Seen before, or older than the window; an initiation no later than the last.
    Replayed,
    /// An initiation of a peer, sooner after its last than a peer may begin another.
    TooOften,
    /// Inside is no IPv4.
    UnsupportedProtocol,
    /// The inner source is not this peer's.
    SpoofedInner,
    /// A tunnel inside the tunnel.
    Nested,
    /// The inner destination is no peer's.
    Unroutable,
    /// Congestion was signalled to a sender that has no other way to hear of it (RFC 6040 section 4.2).
    Congestion,
    /// Nobody knows where the peer is.
    NoEndpoint,
    /// The peer did not answer in time, or too many packets were waiting for its answer.
    NoSession,
    /// The interface is to be silent.
    Silent,
    /// Longer than the way takes.
    TooBig,
    /// The socket refused the datagram; as it does while the listen address is another machine's.
    SendFailed,
    /// The TUN device refused the packet: it is down or gone.
    DeliverFailed,
}

impl DropReason {
    pub const ALL: [DropReason; 24] = [
        DropReason::Truncated,
        DropReason::Oversize,
        DropReason::Malformed,
        DropReason::BadMac,
        DropReason::RateLimited,
        DropReason::Overload,
        DropReason::BadHandshake,
        DropReason::UnknownKey,
        DropReason::UnknownSession,
        DropReason::Expired,
        DropReason::BadSeal,
        DropReason::Replayed,
        DropReason::TooOften,
        DropReason::UnsupportedProtocol,
        DropReason::SpoofedInner,
        DropReason::Nested,
        DropReason::Unroutable,
        DropReason::Congestion,
        DropReason::NoEndpoint,
        DropReason::NoSession,
        DropReason::Silent,
        DropReason::TooBig,
        DropReason::SendFailed,
        DropReason::DeliverFailed,
    ];

    /// As in a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Truncated => "truncated",
            DropReason::Oversize => "oversize",
            DropReason::Malformed => "malformed",
            DropReason::BadMac => "bad_mac",
            DropReason::RateLimited => "rate_limited",
            DropReason::Overload => "overload",
            DropReason::BadHandshake => "bad_handshake",
            DropReason::UnknownKey => "unknown_key",
            DropReason::UnknownSession => "unknown_session",
            DropReason::Expired => "expired",
            DropReason::BadSeal => "bad_seal",
            DropReason::Replayed => "replayed",
            DropReason::TooOften => "too_often",
            DropReason::UnsupportedProtocol => "unsupported_protocol",
            DropReason::SpoofedInner => "spoofed_inner",
            DropReason::Nested => "nested",
            DropReason::Unroutable => "unroutable",
            DropReason::Congestion => "congestion",
            DropReason::NoEndpoint => "no_endpoint",
            DropReason::NoSession => "no_session",
            DropReason::Silent => "silent",
            DropReason::TooBig => "too_big",
            DropReason::SendFailed => "send_failed",
            DropReason::DeliverFailed => "deliver_failed",
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

/// Drops by reason, since the interface was added.
#[derive(Debug, Default)]
pub struct Drops([AtomicU64; DropReason::ALL.len()]);

impl Drops {
    pub fn count(&self, reason: DropReason, packets: u64) {
        self.0[reason as usize].fetch_add(packets, Relaxed);
    }

    pub fn snapshot(&self) -> BTreeMap<DropReason, u64> {
        DropReason::ALL.iter().map(|reason| (*reason, self.0[*reason as usize].load(Relaxed))).collect()
    }
}

/// One interface's counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceCount {
    /// Inner packets and inner bytes.
    pub traffic: TrafficCount,
    /// Every reason, also those that never occurred.
    pub drops: BTreeMap<DropReason, u64>,
    pub peers: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_and_a_name_of_its_own() {
        for (at, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
