//! From one big packet, as the kernel hands it to a TUN device with segmentation offload, to packets for the wire.
//!
//! Each segment is a short new header and a range of the big packet's payload, so that nothing but headers is copied.

use super::vnet::{Gso, VnetHeader};
use crate::wire::checksum::Sum;
use crate::wire::nested::{TCP, UDP};
use crate::wire::{ipv4, tcp};
use std::ops::Range;

/// IPv4 and TCP with all options: 60 + 60 bytes.
pub const HEADER_MAX: usize = 120;

/// The headers of one segment, in a buffer that is reused.
pub type HeaderBuffer = [u8; HEADER_MAX];

/// What the kernel promised of a packet does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the TUN device's offload header does not fit its packet")]
pub struct BadOffload;

/// The packets to send for one packet that was read.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    ip_len: usize,
    /// IP and transport headers; 0 if the packet goes out as it is.
    headers: usize,
    udp: bool,
    /// Payload bytes of each segment.
    size: usize,
    next: usize,
    index: u16,
}

impl<'a> Segments<'a> {
    /// `packet` is what followed `offload`, cut to the IP total length. A checksum that was left to us is completed in place.
    pub fn new(packet: &'a mut [u8], ip: &ipv4::Header, offload: &VnetHeader) -> Result<Segments<'a>, BadOffload> {
        let whole = |packet| Segments { packet, ip_len: 0, headers: 0, udp: false, size: usize::MAX, next: 0, index: 0 };
        let (protocol, transport) = match offload.gso {
            Gso::None => {
                if offload.needs_checksum {
                    complete(packet, offload, ip.protocol)?;
                }
                return Ok(whole(packet));
            }
            Gso::TcpV4 => {
                let header = packet.get(ip.header_len..).and_then(tcp::Header::parse).ok_or(BadOffload)?;
                (TCP, header.header_len())
            }
            Gso::UdpL4 => (UDP, 8),
            Gso::Other(_) => return Err(BadOffload),
        };
        let headers = ip.header_len + transport;
        if ip.protocol != protocol || ip.is_fragment() || offload.gso_size == 0 || packet.len() < headers {
            return Err(BadOffload);
        }
        Ok(Segments {
            packet,
            ip_len: ip.header_len,
            headers,
            udp: protocol == UDP,
            size: offload.gso_size.into(),
            next: headers,
            index: 0,
        })
    }

    /// The big packet, of which [`Segments::next`] gives ranges.
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// The next packet: how much of `buffer` is its header, and which range of the big packet follows.
    pub fn next(&mut self, buffer: &mut HeaderBuffer) -> Option<(usize, Range<usize>)> {
        let end = self.packet.len();
        if self.headers == 0 {
            let range = self.next..end;
            self.next = end;
            return if range.is_empty() { None } else { Some((0, range)) };
        }
        // A segment without payload is a packet all the same: the first one.
        if self.next >= end && self.index > 0 {
            return None;
        }
        let range = self.next..end.min(self.next + self.size);
        let (first, last) = (self.index == 0, range.end == end);
        let payload = &self.packet[range.clone()];
        let header = &mut buffer[..self.headers];
        header.copy_from_slice(&self.packet[..self.headers]);
        let (ip, transport) = header.split_at_mut(self.ip_len);

        // RFC 6864: harmless for a packet that must not be fragmented, needed for one that may be.
        let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(self.index);
        ip[4..6].copy_from_slice(&id.to_be_bytes());
        // Fits: the big packet's length did.
        let total_len = (self.headers + payload.len()) as u16;
        ipv4::set_total_len(ip, total_len);

        let length = total_len - self.ip_len as u16;
        let at = if self.udp {
            transport[4..6].copy_from_slice(&length.to_be_bytes());
            6
        } else {
            let offset = (range.start - self.headers) as u32;
            let sequence = u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]).wrapping_add(offset);
            transport[4..8].copy_from_slice(&sequence.to_be_bytes());
            if !last {
                transport[13] &= !(tcp::FIN | tcp::PSH);
            }
            if !first {
                transport[13] &= !tcp::CWR; // RFC 3168 section 6.1.2: once
            }
            tcp::CHECKSUM
        };
        transport[at..at + 2].fill(0);
        let sum = pseudo(ip, length).with(transport).with(payload).finish();
        let sum = if self.udp && sum == 0 { 0xffff } else { sum };
        transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());

        self.next = range.end;
        self.index = self.index.wrapping_add(1);
        Some((self.headers, range))
    }
}

/// The pseudo-header's sum of the packet that this IPv4 header begins.
fn pseudo(ip: &[u8], length: u16) -> Sum {
    Sum::default().with(&ip[12..20]).word(u16::from(ip[9])).word(length)
}

/// Completes a checksum of which only the pseudo-header's part stands in its field.
fn complete(packet: &mut [u8], offload: &VnetHeader, protocol: u8) -> Result<(), BadOffload> {
    let start = usize::from(offload.checksum_start);
    let at = start + usize::from(offload.checksum_offset);
    if start < ipv4::HEADER_LEN || at + 2 > packet.len() {
        return Err(BadOffload);
    }
    let sum = Sum::default().with(&packet[start..]).finish();
    let sum = if protocol == UDP && sum == 0 { 0xffff } else { sum };
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
