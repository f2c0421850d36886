//! A tunnel inside the tunnel: refused, because what it hides would pass every check that we make.

use super::ipv4::Header;

/// IP protocol numbers (IANA, "Protocol Numbers").
pub const ICMP: u8 = 1;
const IPIP: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const IPV6: u8 = 41;
pub const GRE: u8 = 47;

/// The protocols that carry another IP packet.
pub const PROTOCOLS: [u8; 3] = [IPIP, IPV6, GRE];
/// UDP destination ports of VXLAN, VXLAN-GPE, Geneve and the VXLAN of old Linux.
pub const UDP_PORTS: [u16; 4] = [4789, 4790, 6081, 8472];

/// Whether an IPv4 packet, of which `header` was read, carries another tunnel.
pub fn is_nested(packet: &[u8], header: &Header) -> bool {
    if PROTOCOLS.contains(&header.protocol) {
        return true;
    }
    // Only the first fragment has ports, and without it the rest is worth nothing.
    let first = header.protocol == UDP && header.fragment_offset == 0;
    match packet.get(header.header_len..header.total_len) {
        Some(&[_, _, high, low, ..]) if first => UDP_PORTS.contains(&u16::from_be_bytes([high, low])),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4;
    use proptest::prelude::*;

    fn udp(port: u16, protocol: u8, fragment_offset: u8) -> Vec<u8> {
        let mut p = ipv4::outer([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 0, 28, 0).to_vec();
        p[7] = fragment_offset;
        p[9] = protocol;
        p.extend([0, 9]);
        p.extend(port.to_be_bytes());
        p.extend([0, 8, 0, 0]);
        p
    }

    fn nested(p: &[u8]) -> bool {
        is_nested(p, &Header::parse(p).unwrap())
    }

    #[test]
    fn tunnels_are_found_by_protocol_and_by_port() {
        assert!(PROTOCOLS.iter().all(|p| nested(&udp(53, *p, 0))));
        assert!(UDP_PORTS.iter().all(|p| nested(&udp(*p, UDP, 0))));
        assert!(!nested(&udp(53, UDP, 0)));
        assert!(!nested(&udp(4789, TCP, 0)), "a TCP port of the same number is no tunnel");
        assert!(!nested(&udp(4789, UDP, 1)), "a later fragment has data where the ports were");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 20..40)) {
            let mut bytes = bytes;
            bytes[0] = 0x45;
            let len = u16::try_from(bytes.len()).unwrap();
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            let _ = nested(&bytes);
        }
    }
}
