//! From packets off the wire to big ones: consecutive TCP segments of a flow go into the TUN device as one packet that
//! says how it was cut (what the kernel calls GRO), so that the kernel walks its forwarding path once for all of them.
//!
//! What may be joined follows net/ipv4/tcp_offload.c: same addresses, ports, acknowledgment, window, options and
//! traffic class, next in sequence, no flag but ACK and PSH, every segment but the last of one size, every checksum
//! right (the kernel will compute a new one: a damaged segment must not be made good by that).

use super::vnet::{Gso, VnetHeader};
use crate::wire::checksum::Sum;
use crate::wire::nested::{TCP, UDP};
use crate::wire::{ipv4, tcp};
use std::ops::Range;

/// Bytes that an IPv4 packet can have.
const PACKET_MAX: usize = 65_535;
/// Segments in one packet: what `writev` takes (`UIO_MAXIOV` 1024), with the two headers, is far more.
const SEGMENTS_MAX: usize = 128;
/// Flows that are looked back at for one that a segment continues.
const OPEN_MAX: usize = 8;

/// Packets that go into one TUN device as one: the first whole, of the others the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which tunnel, in the caller's numbering.
    pub tunnel: usize,
    pub offload: VnetHeader,
    /// The packets: number in the caller's batch, range in that packet's bytes.
    pub parts: Vec<(usize, Range<usize>)>,
    /// Bytes of the whole, as written.
    pub len: usize,
    /// The last segment carried PSH.
    push: bool,
    /// None once nothing may follow.
    tail: Option<Tail>,
}

/// What the next segment must be to continue a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail {
    source: u32,
    destination: u32,
    ports: u32,
    sequence: u32,
    size: usize,
    headers: usize,
}

/// The groups of one batch. Reused, so that a batch allocates little.
#[derive(Debug, Default)]
pub struct Coalescer {
    groups: Vec<Group>,
    spare: Vec<Vec<(usize, Range<usize>)>>,
}

/// A packet off the wire, as the coalescer is to see it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub tunnel: usize,
    /// Number in the batch.
    pub index: usize,
    /// The inner packet, cut to its total length.
    pub packet: &'a [u8],
    /// Where `packet` begins in the batch's buffer of that number.
    pub offset: usize,
    pub ip: &'a ipv4::Header,
    /// Bytes that the tunnel's device takes at once.
    pub mtu: usize,
}

impl Coalescer {
    /// Forgets the batch before.
    pub fn clear(&mut self) {
        for mut group in self.groups.drain(..) {
            group.parts.clear();
            self.spare.push(group.parts);
        }
    }

    /// The groups, in the order in which their first packets came. Before one is written, [`lead`] it.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Takes the next packet; `earlier` shows a packet of this batch that was taken before.
    pub fn push<'b>(&mut self, new: &Candidate<'_>, earlier: impl Fn(usize, usize) -> &'b [u8]) {
        if new.ip.protocol == TCP
            && !new.ip.is_fragment()
            && let Some(segment) = new.packet.get(new.ip.header_len..)
            && let Some(header) = tcp::Header::parse(segment)
        {
            return self.push_tcp(new, segment, header, earlier);
        }
        let offload = if new.ip.protocol == UDP && !new.ip.is_fragment() { unfinished_udp(new) } else { VnetHeader::default() };
        self.start(new, offload, None);
    }

    fn push_tcp<'b>(&mut self, new: &Candidate<'_>, segment: &[u8], header: tcp::Header<'_>, earlier: impl Fn(usize, usize) -> &'b [u8]) {
        let ip = new.ip;
        // Fits: it is less than the IP total length.
        let pseudo = Sum::pseudo(ip.source, ip.destination, TCP, segment.len() as u16);
        let payload = segment.len() - header.header_len();
        let headers = ip.header_len + header.header_len();
        if header.checksum() == pseudo.folded() {
            // It came from a kernel on this machine that left the checksum to hardware, or was joined by the receiving
            // interface (the kernel's GRO sees through GRE). Neither tells a raw socket, so the kernel is told again.
            self.close(new, header.ports());
            let gso = if new.packet.len() > new.mtu { Gso::TcpV4 } else { Gso::None };
            return self.start(new, offload(gso, ip.header_len, headers, new.mtu.saturating_sub(headers).max(1)), None);
        }
        let plain = ip.header_len == ipv4::HEADER_LEN
            && ip.dont_fragment
            && header.flags() & !tcp::PSH == tcp::ACK
            && payload > 0
            && pseudo.with(segment).is_intact()
            && ipv4::checksum_is_right(&new.packet[..ip.header_len]);
        if !plain {
            self.close(new, header.ports());
            return self.start(new, VnetHeader::default(), None);
        }
        let push = header.flags() & tcp::PSH != 0;
        if let Some(group) = self.open(new, header.ports())
            && let Some(tail) = group.tail
        {
            let (first, range) = &group.parts[0];
            let front = &earlier(*first, range.start)[..tail.headers];
            let joins = header.sequence() == tail.sequence
                && payload <= tail.size
                && headers == tail.headers
                && group.len + payload <= PACKET_MAX
                && group.parts.len() < SEGMENTS_MAX
                && front[1] == new.packet[1] // traffic class
                && front[8] == new.packet[8] // TTL
                && tcp::Header::parse(&front[ipv4::HEADER_LEN..]).is_some_and(|before| header.continues(before));
            if joins {
                group.parts.push((new.index, new.offset + headers..new.offset + new.packet.len()));
                group.len += payload;
                group.offload = offload(Gso::TcpV4, ip.header_len, headers, tail.size);
                group.push = push;
                // A short segment ends the packet: the kernel cuts at equal sizes.
                let full = payload == tail.size && !push;
                group.tail = full.then_some(Tail { sequence: tail.sequence.wrapping_add(payload as u32), ..tail });
                return;
            }
            group.tail = None;
        }
        let tail = Tail {
            source: ip.source.into(),
            destination: ip.destination.into(),
            ports: header.ports(),
            sequence: header.sequence().wrapping_add(payload as u32),
            size: payload,
            headers,
        };
        self.start(new, VnetHeader::default(), (!push).then_some(tail));
    }

    fn start(&mut self, new: &Candidate<'_>, offload: VnetHeader, tail: Option<Tail>) {
        let mut parts = self.spare.pop().unwrap_or_default();
        parts.push((new.index, new.offset..new.offset + new.packet.len()));
        self.groups.push(Group { tunnel: new.tunnel, offload, parts, len: new.packet.len(), push: false, tail });
    }

    /// The group of this flow that may still grow.
    fn open(&mut self, new: &Candidate<'_>, ports: u32) -> Option<&mut Group> {
        let (source, destination) = (u32::from(new.ip.source), u32::from(new.ip.destination));
        self.groups
            .iter_mut()
            .rev()
            .filter(|g| g.tail.is_some())
            .take(OPEN_MAX)
            .find(|g| g.tunnel == new.tunnel && g.tail.is_some_and(|t| (t.source, t.destination, t.ports) == (source, destination, ports)))
    }

    /// A packet that cannot be joined must not be overtaken by what comes after it.
    fn close(&mut self, new: &Candidate<'_>, ports: u32) {
        if let Some(group) = self.open(new, ports) {
            group.tail = None;
        }
    }
}

/// Rewrites the headers of the first packet of a group so that they speak for all of it. `first` begins with that
/// packet.
pub fn lead(group: &Group, first: &mut [u8]) {
    if group.parts.len() < 2 {
        return;
    }
    let (ip, segment) = first.split_at_mut(ipv4::HEADER_LEN);
    // Fits: at most PACKET_MAX.
    ipv4::set_total_len(ip, group.len as u16);
    if group.push {
        segment[13] |= tcp::PSH;
    }
    let sum = Sum::default().with(&ip[12..20]).word(u16::from(TCP)).word((group.len - ipv4::HEADER_LEN) as u16).folded();
    segment[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

fn offload(gso: Gso, ip_len: usize, headers: usize, size: usize) -> VnetHeader {
    // All of them are less than a packet, 65,535 bytes.
    VnetHeader {
        needs_checksum: true,
        gso,
        header_len: headers as u16,
        gso_size: if gso == Gso::None { 0 } else { size as u16 },
        checksum_start: ip_len as u16,
        checksum_offset: tcp::CHECKSUM as u16,
    }
}

/// A UDP packet whose checksum a kernel on this machine left to hardware.
fn unfinished_udp(new: &Candidate<'_>) -> VnetHeader {
    let ip = new.ip;
    match new.packet.get(ip.header_len..) {
        Some(datagram @ &[_, _, _, _, l0, l1, c0, c1, ..])
            if usize::from(u16::from_be_bytes([l0, l1])) == datagram.len()
                && u16::from_be_bytes([c0, c1]) == Sum::pseudo(ip.source, ip.destination, UDP, datagram.len() as u16).folded() =>
        {
            VnetHeader { checksum_offset: 6, ..offload(Gso::None, ip.header_len, ip.header_len + 8, 0) }
        }
        _ => VnetHeader::default(),
    }
}

#[cfg(test)]
#[path = "coalesce_tests.rs"]
mod tests;
