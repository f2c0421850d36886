//! Connections, and WireGuard peers, on their way from a shard's Active to a Backup: UDP datagrams of at most [`MAX`] bytes.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |      'P'      |      'S'      |   version 1   |     kind      |
//! +---------------+---------------+---------------+---------------+
//! | stream: which shard, from which node to which (64 bits)       |
//! | session: one life of the sender's numbering (64 bits)         |
//! | nonce: chosen by the receiver, for one session (64 bits)      |
//! | sequence (64 bits)                                            |
//! | time: microseconds of the sender's clock (64 bits)            |
//! +---------------------------------------------------------------+
//! | records (kind data), gaps (kind ack), otherwise nothing       |
//! +---------------------------------------------------------------+
//! | tag (16 bytes): see seal.rs                                   |
//! +---------------------------------------------------------------+
//!
//! record:  |0|n|v6|proto|kind| source, destination, 2 x 16 bits [NAT address, 16 bits] |00|a|s|tcp| timeout (32 bits)
//!           1 1 1   2    3     4 or 16 bytes each, network order                        2 1 1 4
//! ```
//! All numbers are in network order. `proto`: 0 TCP, 1 UDP (source and destination port), 2 ICMP (identifier, type and code).
//! A destroyed flow's record ends after its key; the records begin and end are one byte. `n`: translated, `a`: assured, `s`: seen reply.
//! Zones and marks are each node's own and do not travel. Of the records of WireGuard peers (kind 6) [`peer`] tells. There is one way only to write a value.

pub mod peer;

use super::seal;
use crate::model::{Flow, FlowKey, FlowProtocol, FlowStatus, Mark, NatSource, TcpState};
use peer::{PEER, PeerRecord};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a datagram at most, the tag included: fits any path without fragments.
pub const MAX: usize = 1400;
pub const HEADER_LEN: usize = 44;
/// Gaps that an acknowledgement names at most.
pub const GAPS: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Sender: is somebody there? `sequence` counts hellos; no nonce.
    Hello = 1,
    /// Receiver: answers the hello of this session and sequence, and offers a nonce.
    Welcome = 2,
    /// Sender: records. `sequence` counts data from 1.
    Data = 3,
    /// Sender: the last data was `sequence`.
    Heartbeat = 4,
    /// Receiver: has everything up to `sequence`, and misses the gaps after it. `time` is echoed from the newest datagram.
    Ack = 5,
    /// Sender: a heartbeat, and this copy is one too many. All who are to have one have it.
    Relief = 6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub stream: u64,
    pub session: u64,
    pub nonce: u64,
    pub sequence: u64,
    pub time: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A flow came or changed.
    Upsert(Flow),
    Destroy(FlowKey),
    /// A flow that stands, in a list of all of them.
    Listed(Flow),
    /// A list of all flows begins; a new one in the midst of another replaces it. `lossy`: changes were missed before it.
    Begin {
        lossy: bool,
    },
    /// The list is complete: what was neither in it nor told since it began is gone.
    End,
    /// Of a WireGuard peer.
    Peer(Box<PeerRecord>),
}

/// Data that is missing: from the first to the last sequence.
pub type Gap = (u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("cut short")]
    Truncated,
    #[error("no state sync datagram of version 1")]
    Foreign,
    #[error("unknown kind {0}")]
    Kind(u8),
    #[error("a record of unknown form {0:#04x}")]
    Record(u8),
    #[error("gaps that are out of order, or too many")]
    Gaps,
}

const MAGIC: [u8; 3] = [b'P', b'S', 1];

const UPSERT: u8 = 0;
const DESTROY: u8 = 1;
const LISTED: u8 = 2;
const BEGIN: u8 = 3;
const BEGIN_LOSSY: u8 = 4;
const END: u8 = 5;
const KIND: u8 = 0x07;
const PROTOCOL: u8 = 0x18;
const UDP: u8 = 0x08;
const ICMP: u8 = 0x10;
const V6: u8 = 0x20;
const NAT: u8 = 0x40;
const UNUSED: u8 = 0x80;
const SEEN_REPLY: u8 = 0x10;
const ASSURED: u8 = 0x20;

/// The longest record of a flow: IPv6, translated.
const FLOW_MAX: usize = 1 + 16 + 16 + 4 + 18 + 1 + 4;

impl Header {
    /// Reads what a seal has opened: the header, and what follows it.
    pub fn parse(content: &[u8]) -> Result<(Self, &[u8]), Fault> {
        let (header, body) = content.split_first_chunk::<HEADER_LEN>().ok_or(Fault::Truncated)?;
        if header[..3] != MAGIC {
            return Err(Fault::Foreign);
        }
        let kind = match header[3] {
            1 => Kind::Hello,
            2 => Kind::Welcome,
            3 => Kind::Data,
            4 => Kind::Heartbeat,
            5 => Kind::Ack,
            6 => Kind::Relief,
            other => return Err(Fault::Kind(other)),
        };
        let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| header[at + i]));
        Ok((Self { kind, stream: long(4), session: long(12), nonce: long(20), sequence: long(28), time: long(36) }, body))
    }

    pub fn write(&self, datagram: &mut Vec<u8>) {
        datagram.extend_from_slice(&MAGIC);
        datagram.push(self.kind as u8);
        for long in [self.stream, self.session, self.nonce, self.sequence, self.time] {
            datagram.extend_from_slice(&long.to_be_bytes());
        }
    }
}

/// The stream that bytes claim to be of, before any check: to find whose key to check them with.
pub fn stream_of(datagram: &[u8]) -> Option<u64> {
    (datagram.get(..3)? == MAGIC).then_some(())?;
    datagram.get(4..12)?.try_into().ok().map(u64::from_be_bytes)
}

/// Whether a record surely fits.
pub fn has_room(datagram: &[u8], record: &Record) -> bool {
    let most = if let Record::Peer(_) = record { peer::RECORD_MAX } else { FLOW_MAX };
    datagram.len() + most + seal::TAG <= MAX
}

/// The records of a datagram; ends after the first fault.
pub fn records(mut body: &[u8]) -> impl Iterator<Item = Result<Record, Fault>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let mut reader = Reader(body);
        let record = reader.record();
        body = if record.is_ok() { reader.0 } else { &[] };
        Some(record)
    })
}

pub fn write_gaps(datagram: &mut Vec<u8>, gaps: impl IntoIterator<Item = Gap>) {
    for (first, last) in gaps.into_iter().take(GAPS) {
        datagram.extend_from_slice(&first.to_be_bytes());
        datagram.extend_from_slice(&last.to_be_bytes());
    }
}

/// The gaps of an acknowledgement of everything up to `sequence`.
pub fn gaps(body: &[u8], sequence: u64) -> Result<impl Iterator<Item = Gap> + '_, Fault> {
    let (pairs, rest) = body.as_chunks::<16>();
    let pair = |bytes: &[u8; 16]| {
        let both = u128::from_be_bytes(*bytes);
        ((both >> 64) as u64, both as u64)
    };
    let mut after = sequence;
    let ordered = pairs.iter().map(pair).all(|(first, last)| {
        let right = after < first && first <= last;
        after = last;
        right
    });
    if !rest.is_empty() || pairs.len() > GAPS || !ordered {
        return Err(Fault::Gaps);
    }
    Ok(pairs.iter().map(pair))
}

impl Record {
    /// Appends it. A flow between addresses of two families is none, and is not written: false. Neither is a peer of too many prefixes.
    pub fn write(&self, datagram: &mut Vec<u8>) -> bool {
        match self {
            Record::Upsert(flow) => write_flow(datagram, UPSERT, flow),
            Record::Listed(flow) => write_flow(datagram, LISTED, flow),
            Record::Destroy(key) => write_key(datagram, DESTROY, key),
            Record::Begin { lossy } => push(datagram, if *lossy { BEGIN_LOSSY } else { BEGIN }),
            Record::End => push(datagram, END),
            Record::Peer(record) => record.write(datagram),
        }
    }
}

fn push(datagram: &mut Vec<u8>, byte: u8) -> bool {
    datagram.push(byte);
    true
}

fn write_key(datagram: &mut Vec<u8>, kind: u8, key: &FlowKey) -> bool {
    let (protocol, ports) = match key.protocol {
        FlowProtocol::Tcp { source, destination } => (0, [source, destination]),
        FlowProtocol::Udp { source, destination } => (UDP, [source, destination]),
        FlowProtocol::Icmp { id, kind, code } => (ICMP, [id, u16::from_be_bytes([kind, code])]),
    };
    let v6 = match (key.source, key.destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => 0,
        (IpAddr::V6(_), IpAddr::V6(_)) => V6,
        _ => return false,
    };
    datagram.push(kind | protocol | v6);
    write_address(datagram, key.source);
    write_address(datagram, key.destination);
    ports.iter().for_each(|port| datagram.extend_from_slice(&port.to_be_bytes()));
    true
}

fn write_address(datagram: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => datagram.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => datagram.extend_from_slice(&ip.octets()),
    }
}

fn write_flow(datagram: &mut Vec<u8>, kind: u8, flow: &Flow) -> bool {
    let nat = if flow.nat.is_some() { NAT } else { 0 };
    if flow.nat.is_some_and(|nat| nat.address.is_ipv4() != flow.key.source.is_ipv4()) || !write_key(datagram, kind | nat, &flow.key) {
        return false;
    }
    if let Some(nat) = &flow.nat {
        write_address(datagram, nat.address);
        datagram.extend_from_slice(&nat.port.to_be_bytes());
    }
    let bit = |set, bit| if set { bit } else { 0 };
    let status = bit(flow.status.seen_reply, SEEN_REPLY) | bit(flow.status.assured, ASSURED);
    datagram.push(flow.tcp.map_or(0, TcpState::number) | status);
    datagram.extend_from_slice(&flow.timeout.to_be_bytes());
    true
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn half(&mut self) -> Result<u16, Fault> {
        self.take().map(u16::from_be_bytes)
    }

    fn address(&mut self, v6: bool) -> Result<IpAddr, Fault> {
        Ok(if v6 { Ipv6Addr::from(self.take::<16>()?).into() } else { Ipv4Addr::from(self.take::<4>()?).into() })
    }

    fn record(&mut self) -> Result<Record, Fault> {
        let [form] = self.take()?;
        match form {
            BEGIN => return Ok(Record::Begin { lossy: false }),
            BEGIN_LOSSY => return Ok(Record::Begin { lossy: true }),
            END => return Ok(Record::End),
            _ if form & KIND == PEER => return self.peer(form).map(|record| Record::Peer(Box::new(record))),
            _ if form & UNUSED != 0 || form & KIND > LISTED => return Err(Fault::Record(form)),
            _ => {}
        }
        let key = self.key(form)?;
        match form & KIND {
            UPSERT => self.flow(form, key).map(Record::Upsert),
            LISTED => self.flow(form, key).map(Record::Listed),
            _ if form & NAT != 0 => Err(Fault::Record(form)),
            _ => Ok(Record::Destroy(key)),
        }
    }

    fn key(&mut self, form: u8) -> Result<FlowKey, Fault> {
        let v6 = form & V6 != 0;
        let (source, destination) = (self.address(v6)?, self.address(v6)?);
        let (a, b) = (self.half()?, self.half()?);
        let protocol = match form & PROTOCOL {
            0 => FlowProtocol::Tcp { source: a, destination: b },
            UDP => FlowProtocol::Udp { source: a, destination: b },
            ICMP => {
                let [kind, code] = b.to_be_bytes();
                FlowProtocol::Icmp { id: a, kind, code }
            }
            _ => return Err(Fault::Record(form)),
        };
        Ok(FlowKey { zone: 0, source, destination, protocol })
    }

    fn flow(&mut self, form: u8, key: FlowKey) -> Result<Flow, Fault> {
        let nat = if form & NAT != 0 { Some(NatSource { address: self.address(form & V6 != 0)?, port: self.half()? }) } else { None };
        let [state] = self.take()?;
        let tcp = match state & 0x0f {
            0 => None,
            number => Some(TcpState::from_number(number).ok_or(Fault::Record(state))?),
        };
        if state & !(0x0f | SEEN_REPLY | ASSURED) != 0 {
            return Err(Fault::Record(state));
        }
        let status = FlowStatus { seen_reply: state & SEEN_REPLY != 0, assured: state & ASSURED != 0 };
        Ok(Flow { key, nat, tcp, status, mark: Mark(0), timeout: self.take().map(u32::from_be_bytes)? })
    }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
