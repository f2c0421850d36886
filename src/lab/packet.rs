//! Packets written by hand, for probes and for attacks: ICMP echo, IPv4 around it, GRE around that.

use std::net::Ipv4Addr;

pub const ECHO_REQUEST: u8 = 8;
pub const ECHO_REPLY: u8 = 0;
/// IPv4 in GRE (RFC 2784 section 2.4).
pub const ETHERTYPE_IPV4: u16 = 0x0800;

/// RFC 792: type, code, checksum, identifier, sequence number, data.
pub fn icmp_echo(id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(data);
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// RFC 791 without options, TTL 64.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a packet that fits 65,535 bytes");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// RFC 9293: a segment without options, with sequence numbers 1. `flags`: the eight bits, CWR first.
pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment: Vec<u8> = [source.1, destination.1, 0, 1, 0, 1].into_iter().flat_map(u16::to_be_bytes).collect();
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(data);
    let length = u16::try_from(segment.len()).expect("a segment that fits 65,535 bytes");
    let pseudo = [&source.0.octets()[..], &destination.0.octets(), &[0, 6], &length.to_be_bytes()].concat();
    let sum = checksum(&[pseudo, segment.clone()].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// Without a checksum, as IPv4 allows (RFC 768).
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a lab's packets are small");
    let words = [source, destination, length, 0].map(u16::to_be_bytes);
    [words.as_flattened(), payload].concat()
}

/// RFC 2890 with a key and nothing else.
pub fn gre(key: u32, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x20, 0];
    packet.extend(protocol.to_be_bytes());
    packet.extend(key.to_be_bytes());
    packet.extend(payload);
    packet
}

/// The ICMP message in what a raw socket received: (type, identifier, data). `None` when it is cut short.
pub fn read_icmp(packet: &[u8]) -> Option<(u8, u16, &[u8])> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let icmp = packet.get(header..)?;
    let id = u16::from_be_bytes(icmp.get(4..6)?.try_into().ok()?);
    Some((*icmp.first()?, id, icmp.get(8..)?))
}

/// RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksummed_header_sums_to_zero() {
        let packet = ipv4(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), 1, &icmp_echo(7, 1, b"odd"));
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(checksum(&packet[20..]), 0);
        assert_eq!(read_icmp(&packet), Some((ECHO_REQUEST, 7, &b"odd"[..])));
    }

    #[test]
    fn a_cut_packet_is_none() {
        let packet = ipv4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 1, &icmp_echo(7, 1, b""));
        for length in 0..28 {
            assert_eq!(read_icmp(&packet[..length]), None, "{length}");
        }
    }

    #[test]
    fn gre_has_the_key_bit_and_the_key() {
        assert_eq!(gre(7, ETHERTYPE_IPV4, &[0xaa]), [0x20, 0, 8, 0, 0, 0, 0, 7, 0xaa]);
    }
}
