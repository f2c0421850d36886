//! The beginning and the end of a tracked connection, with what was counted: for the flow log.

use super::{FlowKey, FlowStatus, Mark, TcpState};

/// A connection that has just begun or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowLife {
    /// The kernel's number of it: the same at both ends, and free for another connection afterwards.
    pub id: u32,
    pub key: FlowKey,
    /// What an answer looks like before it is translated back: from the destination to the source, as the other side knows them.
    pub reply: FlowKey,
    pub tcp: Option<TcpState>,
    pub status: FlowStatus,
    pub mark: Mark,
    /// None: it has begun.
    pub end: Option<FlowEnd>,
    /// Who asked for it, as a netlink port; 0: nobody, packets or the time did it.
    pub by: u32,
}

/// What the kernel says of a connection that it forgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowEnd {
    /// Seconds for which it would have been kept still; 0: its time was up.
    pub left: u32,
    /// Nanoseconds since 1970. None: the kernel does not note it (`nf_conntrack_timestamp`).
    pub began: Option<u64>,
    /// When its time was up, or it was deleted; in the same unit.
    pub ended: Option<u64>,
    /// Of the packets that went as the first one did, and of the answers. None: it began when nobody had them counted (`nf_conntrack_acct`).
    pub counted: Option<[FlowCount; 2]>,
}

/// IP packets, and their bytes with the IP header. What the kernel has joined (GRO), or is yet to cut, is one packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowCount {
    pub packets: u64,
    pub bytes: u64,
}

/// How long the kernel keeps connections of which nothing more is heard, in seconds (Documentation/networking/nf_conntrack-sysctl.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTimeouts {
    pub tcp_syn_sent: u32,
    pub tcp_time_wait: u32,
    pub tcp_close: u32,
    pub udp: u32,
    pub udp_stream: u32,
    pub icmp: u32,
}

impl Default for FlowTimeouts {
    /// The kernel's.
    fn default() -> Self {
        Self { tcp_syn_sent: 120, tcp_time_wait: 120, tcp_close: 10, udp: 30, udp_stream: 120, icmp: 30 }
    }
}
