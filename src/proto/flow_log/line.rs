//! What a line looks like. Names and meanings of fields stay as they are; new ones may come.

use super::{Author, From, Lines, Place, Reason};
use crate::model::{FlowCount, FlowKey, FlowLife, FlowProtocol, NodeName, ShardId, TenantName};
use serde::Serialize;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// What every line begins with.
#[derive(Serialize)]
struct Head<'a> {
    time: String,
    event: &'static str,
    node: &'a NodeName,
    role: &'static str,
}

/// A connection has begun or ended.
#[derive(Serialize)]
pub struct Line<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    tenant: &'a TenantName,
    shard: ShardId,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Option<&'a NodeName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachment: Option<Option<&'a str>>,
    flow: String,
    protocol: &'static str,
    source: IpAddr,
    destination: IpAddr,
    nat_source: IpAddr,
    nat_destination: IpAddr,
    #[serde(flatten)]
    which: Which,
    #[serde(flatten)]
    end: Option<End>,
}

/// What tells connections between two addresses apart.
#[derive(Serialize)]
#[serde(untagged)]
enum Which {
    Ports { source_port: u16, destination_port: u16, nat_source_port: u16, nat_destination_port: u16 },
    Query { icmp_type: u8, icmp_code: u8, icmp_id: u16, nat_icmp_id: u16 },
}

/// What is known at the end only.
#[derive(Serialize)]
pub struct End {
    start: Option<String>,
    end: String,
    duration_ms: Option<u64>,
    packets_sent: Option<u64>,
    bytes_sent: Option<u64>,
    packets_received: Option<u64>,
    bytes_received: Option<u64>,
    reason: Reason,
    taken_over: Option<bool>,
}

/// Anything else that belongs into the log.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Note<'a> {
    Suppressed { tenant: &'a TenantName, since: String, count: u64, starts: u64, ends: u64 },
    Missed { since: String, times: u64 },
    Lost { count: u64, place: Where },
    Opened { gapless: bool },
    Closed {},
    TakenOver { tenant: &'a TenantName, shard: ShardId },
    LetGo { tenant: &'a TenantName, shard: ShardId },
}

/// Where lines were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Where {
    /// The disk was too slow, and what waited for it too much.
    Queue,
    /// The disk refused them.
    Disk,
}

#[derive(Serialize)]
pub struct Noted<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(flatten)]
    note: Note<'a>,
}

/// Says so, once lines can be written again.
pub fn lost(author: &Author, wall: SystemTime, count: u64, place: Where) -> Lines {
    let mut lines = Lines::default();
    lines.add(&Note::Lost { count, place }.by(author, wall));
    lines
}

impl<'a> Line<'a> {
    pub fn new(author: &'a Author, wall: SystemTime, life: &FlowLife, place: Place<'a>, end: Option<End>) -> Self {
        let (host, attachment) = match place.from {
            From::Host(host) => (Some(host), None),
            From::Attachment(name) => (None, Some(name.map(|name| name.as_str()))),
        };
        let FlowKey { source, destination, protocol, .. } = life.key;
        Self {
            head: Head::new(author, wall, if end.is_some() { "end" } else { "start" }),
            tenant: &place.of.tenant,
            shard: place.of.shard,
            host,
            attachment,
            flow: format!("{:08x}", life.id),
            protocol: match protocol {
                FlowProtocol::Tcp { .. } => "tcp",
                FlowProtocol::Udp { .. } => "udp",
                FlowProtocol::Icmp { .. } if source.is_ipv4() => "icmp",
                FlowProtocol::Icmp { .. } => "icmpv6",
            },
            source,
            destination,
            // An answer goes the other way.
            nat_source: life.reply.destination,
            nat_destination: life.reply.source,
            which: which(protocol, life.reply.protocol),
            end,
        }
    }
}

fn which(key: FlowProtocol, reply: FlowProtocol) -> Which {
    let ports = |source_port, destination_port| match reply {
        FlowProtocol::Tcp { source, destination } | FlowProtocol::Udp { source, destination } => {
            Which::Ports { source_port, destination_port, nat_source_port: destination, nat_destination_port: source }
        }
        FlowProtocol::Icmp { .. } => {
            Which::Ports { source_port, destination_port, nat_source_port: source_port, nat_destination_port: destination_port }
        }
    };
    match key {
        FlowProtocol::Tcp { source, destination } | FlowProtocol::Udp { source, destination } => ports(source, destination),
        FlowProtocol::Icmp { id, kind, code } => {
            let nat_icmp_id = if let FlowProtocol::Icmp { id, .. } = reply { id } else { id };
            Which::Query { icmp_type: kind, icmp_code: code, icmp_id: id, nat_icmp_id }
        }
    }
}

impl End {
    /// `counted`: what was sent and what was received.
    pub fn new(
        began: Option<SystemTime>,
        ended: SystemTime,
        counted: Option<[FlowCount; 2]>,
        reason: Reason,
        taken_over: Option<bool>,
    ) -> Self {
        let lasted = |began| ended.duration_since(began).unwrap_or_default();
        let [sent, received] = [0, 1].map(|way: usize| counted.map(|counted| counted[way]));
        Self {
            start: began.map(time),
            end: time(ended),
            duration_ms: began.map(|began| u64::try_from(lasted(began).as_millis()).unwrap_or(u64::MAX)),
            packets_sent: sent.map(|sent| sent.packets),
            bytes_sent: sent.map(|sent| sent.bytes),
            packets_received: received.map(|received| received.packets),
            bytes_received: received.map(|received| received.bytes),
            reason,
            taken_over,
        }
    }
}

impl<'a> Note<'a> {
    pub fn by(self, author: &'a Author, wall: SystemTime) -> Noted<'a> {
        let event = match self {
            Note::Suppressed { .. } => "suppressed",
            Note::Missed { .. } => "missed",
            Note::Lost { .. } => "lost",
            Note::Opened { .. } => "opened",
            Note::Closed {} => "closed",
            Note::TakenOver { .. } => "taken_over",
            Note::LetGo { .. } => "let_go",
        };
        Noted { head: Head::new(author, wall, event), note: self }
    }
}

impl<'a> Head<'a> {
    fn new(author: &'a Author, wall: SystemTime, event: &'static str) -> Self {
        Self { time: time(wall), event, node: &author.node, role: author.role }
    }
}

/// RFC 3339, in UTC, with milliseconds.
pub fn time(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    // Beyond the year 9999 clocks are wrong anyway.
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", u8::from(month), since.subsec_millis())
}
