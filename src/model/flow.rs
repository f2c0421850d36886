//! A tracked connection, as one gateway tells it to another: what must be known to go on with it elsewhere.

use super::Mark;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// What identifies a connection within one node: its conntrack zone and the tuple of its first packet, before any translation.
/// Both addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// A node's own numbering ([`super::Slot::zone`]): it means nothing on another node.
    pub zone: u16,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: FlowProtocol,
}

/// The transport protocol with what tells connections between two addresses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FlowProtocol {
    Tcp {
        source: u16,
        destination: u16,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    /// ICMP, or ICMPv6 between IPv6 addresses: the identifier, type and code of the query.
    Icmp {
        id: u16,
        kind: u8,
        code: u8,
    },
}

/// A connection and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub key: FlowKey,
    /// The source that the other side sees, if it is translated.
    pub nat: Option<NatSource>,
    /// None: not TCP, or not told (a notice of the kernel names it only when it changed).
    pub tcp: Option<TcpState>,
    pub status: FlowStatus,
    /// A node's own numbering, like the zone.
    pub mark: Mark,
    /// Seconds until the kernel that told us would forget it, had no packet come.
    pub timeout: u32,
}

/// A translated source address and port; for ICMP the port is the identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NatSource {
    pub address: IpAddr,
    pub port: u16,
}

/// The kernel's states of a TCP connection, with its numbers (`enum tcp_conntrack`, include/uapi/linux/netfilter/nf_conntrack_tcp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TcpState {
    SynSent = 1,
    SynReceived = 2,
    Established = 3,
    FinWait = 4,
    CloseWait = 5,
    LastAck = 6,
    TimeWait = 7,
    Close = 8,
    /// Both sides opened at once.
    SynSentTwice = 9,
}

/// The bits of a connection's status that outlive a move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowStatus {
    /// Packets were seen both ways.
    pub seen_reply: bool,
    /// Not to be dropped early when the table is full.
    pub assured: bool,
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowChange {
    /// It came, or its state changed.
    Upsert(Flow),
    Destroy(FlowKey),
}

/// What is to be done to a copy of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowStep {
    /// It is believed to be new.
    Create(Flow),
    /// It is believed to stand, with the same translation.
    Update(Flow),
    Delete(FlowKey),
}

/// In few words, because tables of some 100,000 connections are searched for every change.
impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (protocol, a, b) = match self.protocol {
            FlowProtocol::Tcp { source, destination } => (0, source, destination),
            FlowProtocol::Udp { source, destination } => (1, source, destination),
            FlowProtocol::Icmp { id, kind, code } => (2, id, u16::from_be_bytes([kind, code])),
        };
        state.write_u64(u64::from(self.zone) << 48 | protocol << 32 | u64::from(a) << 16 | u64::from(b));
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                state.write_u64(u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits()));
            }
            (source, destination) => (source, destination).hash(state),
        }
    }
}

impl FlowStep {
    pub fn key(&self) -> &FlowKey {
        match self {
            FlowStep::Create(flow) | FlowStep::Update(flow) => &flow.key,
            FlowStep::Delete(key) => key,
        }
    }
}

impl Flow {
    /// Traffic in UDP, ICMP or an established TCP connection renews its timeout without a notice, so the copy on another node must
    /// hold out until it is told anew (proto/sync.rs does so well within this time). In seconds.
    pub const HELD: u32 = 600;

    /// Whether it is a TCP connection that nobody has answered yet. Such a one is not worth a copy: it loses nothing by beginning
    /// anew, and a scan or a flood of SYNs consists of nothing else.
    pub fn is_tentative(&self) -> bool {
        matches!(self.key.protocol, FlowProtocol::Tcp { .. }) && !self.status.seen_reply
    }

    /// How long a copy of this connection is kept, in seconds.
    pub fn held(&self) -> u32 {
        match self.tcp {
            None | Some(TcpState::Established) => self.timeout.max(Self::HELD),
            Some(_) => self.timeout,
        }
    }
}

impl FlowChange {
    pub fn key(&self) -> &FlowKey {
        match self {
            FlowChange::Upsert(flow) => &flow.key,
            FlowChange::Destroy(key) => key,
        }
    }
}

impl TcpState {
    pub fn from_number(number: u8) -> Option<Self> {
        use TcpState::*;
        let all = [SynSent, SynReceived, Established, FinWait, CloseWait, LastAck, TimeWait, Close, SynSentTwice];
        all.get(usize::from(number).checked_sub(1)?).copied()
    }

    pub fn number(self) -> u8 {
        self as u8
    }
}
