//! ctnetlink messages: include/uapi/linux/netfilter/nfnetlink_conntrack.h.

use super::super::attr;
use crate::model::{Flow, FlowKey, FlowProtocol, FlowStatus, Mark, NatSource, TcpState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const NEW: u16 = 0;
pub const GET: u16 = 1;
pub const DELETE: u16 = 2;

pub const CTA_TUPLE_ORIG: u16 = 1;
pub const CTA_TUPLE_REPLY: u16 = 2;
pub const CTA_STATUS: u16 = 3;
pub const CTA_PROTOINFO: u16 = 4;
const CTA_NAT_SRC: u16 = 6;
pub const CTA_TIMEOUT: u16 = 7;
pub const CTA_MARK: u16 = 8;
pub const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Identifier, type, code; ICMPv6 has three numbers more.
const CTA_PROTO_ICMP: [u16; 3] = [4, 5, 6];
const CTA_PROTO_ICMPV6: [u16; 3] = [7, 8, 9];

const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL: u16 = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY: u16 = 5;
/// `IP_CT_TCP_FLAG_BE_LIBERAL`: the window is not known here, so no packet is outside it. Flags, then the mask of those that are set.
const BE_LIBERAL: [u8; 2] = [0x08, 0x08];

const CTA_NAT_V4_MINIP: u16 = 1;
const CTA_NAT_V4_MAXIP: u16 = 2;
const CTA_NAT_PROTO: u16 = 3;
const CTA_NAT_V6_MINIP: u16 = 4;
const CTA_NAT_V6_MAXIP: u16 = 5;
const CTA_PROTONAT_PORT_MIN: u16 = 1;
const CTA_PROTONAT_PORT_MAX: u16 = 2;

// enum ip_conntrack_status, nf_conntrack_common.h
const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_ASSURED: u32 = 1 << 2;
const IPS_CONFIRMED: u32 = 1 << 3;
const IPS_SRC_NAT: u32 = 1 << 4;
const IPS_DST_NAT: u32 = 1 << 5;

/// Which of a flow's attributes the kernel wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    New,
    /// The entry stands; the kernel refuses to be told its translation again.
    Standing,
}

/// A message type of the conntrack subsystem (`NFNL_SUBSYS_CTNETLINK`).
pub fn number(kind: u16) -> u16 {
    1 << 8 | kind
}

/// struct nfgenmsg: family, version 0, resource 0
pub fn header(family: i32) -> Vec<u8> {
    nfgenmsg(family).to_vec()
}

fn nfgenmsg(family: i32) -> [u8; 4] {
    [family as u8, 0, 0, 0]
}

/// Which marks are meant, under a mask.
pub fn write_mark(payload: &mut Vec<u8>, mark: Mark, mask: u32) {
    attr::put(payload, CTA_MARK, &mark.0.to_be_bytes());
    attr::put(payload, CTA_MARK_MASK, &mask.to_be_bytes());
}

/// What names an entry.
pub fn write_key(payload: &mut Vec<u8>, key: &FlowKey) {
    payload.extend_from_slice(&nfgenmsg(if key.source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }));
    tuple(payload, CTA_TUPLE_ORIG, key);
    if key.zone != 0 {
        attr::put(payload, CTA_ZONE, &key.zone.to_be_bytes());
    }
}

/// The reply is written as the plain inverse of the original: the kernel makes the translated one from `CTA_NAT_SRC`. Given
/// the translated one, it would believe that nothing is left to translate.
pub fn write(payload: &mut Vec<u8>, flow: &Flow, shape: Shape) {
    write_key(payload, &flow.key);
    if shape == Shape::New {
        tuple(payload, CTA_TUPLE_REPLY, &inverse(&flow.key));
        if let Some(nat) = &flow.nat {
            source_nat(payload, nat);
        }
    }
    let status = bits(flow.status) | IPS_CONFIRMED;
    attr::put(payload, CTA_STATUS, &status.to_be_bytes());
    attr::put(payload, CTA_TIMEOUT, &flow.held().to_be_bytes());
    attr::put(payload, CTA_MARK, &flow.mark.0.to_be_bytes());
    if matches!(flow.key.protocol, FlowProtocol::Tcp { .. }) {
        // A connection whose state was never told is in the middle of its life.
        let told = if shape == Shape::New { Some(flow.tcp.unwrap_or(TcpState::Established)) } else { flow.tcp };
        attr::nest(payload, CTA_PROTOINFO, |info| {
            attr::nest(info, CTA_PROTOINFO_TCP, |tcp| {
                if let Some(state) = told {
                    attr::put(tcp, CTA_PROTOINFO_TCP_STATE, &[state.number()]);
                }
                attr::put(tcp, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &BE_LIBERAL);
                attr::put(tcp, CTA_PROTOINFO_TCP_FLAGS_REPLY, &BE_LIBERAL);
            });
        });
    }
}

/// The flow in a message's payload; none if it is malformed, of another protocol, or translated in another way than by its source.
pub fn read(payload: &[u8]) -> Option<Flow> {
    let list = payload.get(4..)?;
    let (mut original, mut reply, mut zone) = (None, None, 0);
    let mut flow = Flow { key: EMPTY, nat: None, tcp: None, status: FlowStatus::default(), mark: Mark(0), timeout: 0 };
    let mut status = 0;
    for (kind, value) in attr::each(list) {
        match kind {
            CTA_TUPLE_ORIG => original = Some(read_tuple(value)?),
            CTA_TUPLE_REPLY => reply = Some(read_tuple(value)?),
            CTA_STATUS => status = attr::be32(value)?,
            CTA_TIMEOUT => flow.timeout = attr::be32(value)?,
            CTA_MARK => flow.mark = Mark(attr::be32(value)?),
            CTA_ZONE => zone = be16(value)?,
            CTA_PROTOINFO => flow.tcp = read_tcp(value),
            _ => {}
        }
    }
    flow.key = FlowKey { zone, ..original? };
    flow.status = read_status(status);
    if status & IPS_DST_NAT != 0 {
        return None;
    }
    if status & IPS_SRC_NAT != 0 {
        let reply = reply?;
        let port = match reply.protocol {
            FlowProtocol::Tcp { destination, .. } | FlowProtocol::Udp { destination, .. } => destination,
            FlowProtocol::Icmp { id, .. } => id,
        };
        flow.nat = Some(NatSource { address: reply.destination, port });
    }
    Some(flow)
}

pub fn read_tcp(info: &[u8]) -> Option<TcpState> {
    let state = attr::find(info, CTA_PROTOINFO_TCP).and_then(|tcp| attr::find(tcp, CTA_PROTOINFO_TCP_STATE));
    state.and_then(<[u8]>::first).and_then(|state| TcpState::from_number(*state))
}

pub fn read_status(bits: u32) -> FlowStatus {
    FlowStatus { seen_reply: bits & IPS_SEEN_REPLY != 0, assured: bits & IPS_ASSURED != 0 }
}

/// What names the entry in a message's payload, and its mark.
pub fn read_key(payload: &[u8]) -> Option<(FlowKey, Mark)> {
    let list = payload.get(4..)?;
    let zone = attr::find(list, CTA_ZONE).and_then(be16).unwrap_or(0);
    let mark = Mark(attr::find(list, CTA_MARK).and_then(attr::be32).unwrap_or(0));
    Some((FlowKey { zone, ..read_tuple(attr::find(list, CTA_TUPLE_ORIG)?)? }, mark))
}

fn bits(status: FlowStatus) -> u32 {
    (if status.seen_reply { IPS_SEEN_REPLY } else { 0 }) | (if status.assured { IPS_ASSURED } else { 0 })
}

/// What an answer to the first packet would look like without translation.
fn inverse(key: &FlowKey) -> FlowKey {
    let protocol = match key.protocol {
        FlowProtocol::Tcp { source, destination } => FlowProtocol::Tcp { source: destination, destination: source },
        FlowProtocol::Udp { source, destination } => FlowProtocol::Udp { source: destination, destination: source },
        FlowProtocol::Icmp { id, kind, code } => FlowProtocol::Icmp { id, kind: answer_to(kind, key.source.is_ipv4()), code },
    };
    FlowKey { zone: key.zone, source: key.destination, destination: key.source, protocol }
}

/// The ICMP type that answers a query (invmap of nf_conntrack_proto_icmp.c and _icmpv6.c).
fn answer_to(kind: u8, v4: bool) -> u8 {
    match (kind, v4) {
        (8, true) => 0,
        (0, true) => 8,
        (13 | 15 | 17, true) => kind + 1,
        (14 | 16 | 18, true) => kind - 1,
        (128, false) => 129,
        (129, false) => 128,
        (139, false) => 140,
        (140, false) => 139,
        _ => kind,
    }
}

const EMPTY: FlowKey = FlowKey {
    zone: 0,
    source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    protocol: FlowProtocol::Udp { source: 0, destination: 0 },
};

fn tuple(payload: &mut Vec<u8>, kind: u16, key: &FlowKey) {
    attr::nest(payload, kind, |tuple| {
        attr::nest(tuple, CTA_TUPLE_IP, |ip| {
            address(ip, [CTA_IP_V4_SRC, CTA_IP_V6_SRC], key.source);
            address(ip, [CTA_IP_V4_DST, CTA_IP_V6_DST], key.destination);
        });
        attr::nest(tuple, CTA_TUPLE_PROTO, |proto| match key.protocol {
            FlowProtocol::Tcp { source, destination } => ports(proto, libc::IPPROTO_TCP, source, destination),
            FlowProtocol::Udp { source, destination } => ports(proto, libc::IPPROTO_UDP, source, destination),
            FlowProtocol::Icmp { id, kind, code } => {
                let v4 = key.source.is_ipv4();
                let [a, b, c] = if v4 { CTA_PROTO_ICMP } else { CTA_PROTO_ICMPV6 };
                attr::put(proto, CTA_PROTO_NUM, &[if v4 { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 } as u8]);
                attr::put(proto, a, &id.to_be_bytes());
                attr::put(proto, b, &[kind]);
                attr::put(proto, c, &[code]);
            }
        });
    });
}

fn ports(proto: &mut Vec<u8>, number: i32, source: u16, destination: u16) {
    attr::put(proto, CTA_PROTO_NUM, &[number as u8]);
    attr::put(proto, CTA_PROTO_SRC_PORT, &source.to_be_bytes());
    attr::put(proto, CTA_PROTO_DST_PORT, &destination.to_be_bytes());
}

fn address(list: &mut Vec<u8>, [v4, v6]: [u16; 2], address: IpAddr) {
    match address {
        IpAddr::V4(ip) => attr::put(list, v4, &ip.octets()),
        IpAddr::V6(ip) => attr::put(list, v6, &ip.octets()),
    }
}

fn source_nat(payload: &mut Vec<u8>, nat: &NatSource) {
    attr::nest(payload, CTA_NAT_SRC, |range| {
        address(range, [CTA_NAT_V4_MINIP, CTA_NAT_V6_MINIP], nat.address);
        address(range, [CTA_NAT_V4_MAXIP, CTA_NAT_V6_MAXIP], nat.address);
        attr::nest(range, CTA_NAT_PROTO, |proto| {
            attr::put(proto, CTA_PROTONAT_PORT_MIN, &nat.port.to_be_bytes());
            attr::put(proto, CTA_PROTONAT_PORT_MAX, &nat.port.to_be_bytes());
        });
    });
}

pub fn read_tuple(list: &[u8]) -> Option<FlowKey> {
    let (ip, proto) = (attr::find(list, CTA_TUPLE_IP)?, attr::find(list, CTA_TUPLE_PROTO)?);
    let address = |v4, v6| match (attr::find(ip, v4), attr::find(ip, v6)) {
        (Some(octets), _) => <[u8; 4]>::try_from(octets).ok().map(|o| IpAddr::V4(Ipv4Addr::from(o))),
        (None, Some(octets)) => <[u8; 16]>::try_from(octets).ok().map(|o| IpAddr::V6(Ipv6Addr::from(o))),
        (None, None) => None,
    };
    let half = |kind| attr::find(proto, kind).and_then(be16);
    let byte = |kind| attr::find(proto, kind).and_then(|value| value.first().copied());
    let icmp = |[id, kind, code]: [u16; 3]| Some(FlowProtocol::Icmp { id: half(id)?, kind: byte(kind)?, code: byte(code)? });
    let protocol = match i32::from(byte(CTA_PROTO_NUM)?) {
        libc::IPPROTO_TCP => FlowProtocol::Tcp { source: half(CTA_PROTO_SRC_PORT)?, destination: half(CTA_PROTO_DST_PORT)? },
        libc::IPPROTO_UDP => FlowProtocol::Udp { source: half(CTA_PROTO_SRC_PORT)?, destination: half(CTA_PROTO_DST_PORT)? },
        libc::IPPROTO_ICMP => icmp(CTA_PROTO_ICMP)?,
        libc::IPPROTO_ICMPV6 => icmp(CTA_PROTO_ICMPV6)?,
        _ => return None,
    };
    let (source, destination) = (address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, address(CTA_IP_V4_DST, CTA_IP_V6_DST)?);
    (source.is_ipv4() == destination.is_ipv4()).then_some(FlowKey { zone: 0, source, destination, protocol })
}

pub fn be16(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flow_as_it_is_written_reads_back_without_its_translation() {
        let key = FlowKey {
            zone: 0x2001,
            source: "10.64.0.9".parse().unwrap(),
            destination: "172.16.0.5".parse().unwrap(),
            protocol: FlowProtocol::Tcp { source: 40000, destination: 5432 },
        };
        let nat = Some(NatSource { address: "172.16.0.4".parse().unwrap(), port: 2000 });
        let status = FlowStatus { seen_reply: true, assured: true };
        let flow = Flow { key, nat, tcp: Some(TcpState::Established), status, mark: Mark(0x2001), timeout: 300 };
        let mut payload = Vec::new();
        write(&mut payload, &flow, Shape::New);
        // The kernel sets the bit that says so when it has translated.
        assert_eq!(read(&payload), Some(Flow { nat: None, timeout: Flow::HELD, ..flow }));
        assert_eq!(read_key(&payload), Some((key, flow.mark)));
        let mut shorter = Vec::new();
        write(&mut shorter, &flow, Shape::Standing);
        assert!(attr::find(&shorter[4..], CTA_NAT_SRC).is_none() && attr::find(&shorter[4..], CTA_TUPLE_REPLY).is_none());
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_reading_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (read(&bytes), read_key(&bytes));
        }
    }
}
