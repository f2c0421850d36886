//! The little of ICMP (RFC 792) that a tunnel has to know: whom an error is about.

use super::ipv4::{self, Header};
use super::nested;
use std::net::Ipv4Addr;

/// Destination unreachable ("fragmentation needed" of RFC 1191 among it), time exceeded, parameter problem.
pub const ERRORS: [u8; 3] = [3, 11, 12];

/// Bytes of an ICMP header, behind which an error quotes the packet that it is about.
const HEADER_LEN: usize = 8;

/// Addresses of the packet that an ICMP error quotes.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +---------------+---------------+-------------------------------+
/// |     Type      |     Code      |           Checksum            |
/// +---------------+---------------+-------------------------------+
/// |            depends on the type (code 4: next-hop MTU)         |
/// +---------------------------------------------------------------+
/// |      Internet Header + 64 bits of Original Data Datagram      |
/// +---------------------------------------------------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

/// What an IPv4 packet, of which `header` was read, quotes; none if it is no ICMP error in one piece with an IPv4 header
/// and eight bytes more in it.
pub fn quoted(packet: &[u8], header: &Header) -> Option<Quoted> {
    if header.protocol != nested::ICMP || header.is_fragment() {
        return None;
    }
    let (icmp, quote) = packet.get(header.header_len..header.total_len)?.split_at_checked(HEADER_LEN)?;
    let h = quote.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let header_len = usize::from(h[0] & 0xf) * 4;
    let whole = h[0] >> 4 == 4 && header_len >= ipv4::HEADER_LEN && quote.len() >= header_len + 8;
    (ERRORS.contains(&icmp[0]) && whole)
        .then(|| Quoted { source: Ipv4Addr::new(h[12], h[13], h[14], h[15]), destination: Ipv4Addr::new(h[16], h[17], h[18], h[19]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An error of type `kind` about a packet from 10.64.0.1 to 172.16.0.10, sent by 192.0.2.1.
    fn error(kind: u8, change: impl Fn(&mut Vec<u8>)) -> Option<Quoted> {
        let mut p = ipv4::outer([192, 0, 2, 1].into(), [10, 64, 0, 1].into(), 0, 56, 0).to_vec();
        p[9] = nested::ICMP;
        p.extend([kind, 4, 0, 0, 0, 0, 5, 120]);
        p.extend(ipv4::outer([10, 64, 0, 1].into(), [172, 16, 0, 10].into(), 0, 1500, 0));
        p.extend([0, 9, 0, 9, 0, 0, 0, 0]);
        change(&mut p);
        let len = u16::try_from(p.len()).unwrap();
        p[2..4].copy_from_slice(&len.to_be_bytes());
        quoted(&p, &Header::parse(&p).unwrap())
    }

    #[test]
    fn errors_quote_and_nothing_else_does() {
        let quote = Some(Quoted { source: [10, 64, 0, 1].into(), destination: [172, 16, 0, 10].into() });
        for kind in 0..=255 {
            assert_eq!(error(kind, |_| ()), if ERRORS.contains(&kind) { quote } else { None }, "type {kind}");
        }
        assert_eq!(error(3, |p| p[9] = nested::UDP), None, "no ICMP");
        assert_eq!(error(3, |p| p[7] = 1), None, "a later fragment has anything there");
        assert_eq!(error(3, |p| p[6] = 0x20), None, "a fragment is not what a router sends");
        assert_eq!(error(3, |p| p[28] = 0x65), None, "quotes IPv6");
        assert_eq!(error(3, |p| p[28] = 0x44), None, "quotes no header");
        assert_eq!(error(3, |p| p[28] = 0x46), None, "options, and no room for the ports");
        assert_eq!(error(3, |p| p.truncate(55)), None, "half a port");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 20..64), kind in 0u8..13) {
            let mut bytes = bytes;
            bytes[0] = 0x45;
            bytes[6..8].fill(0);
            bytes[9] = nested::ICMP;
            let len = u16::try_from(bytes.len()).unwrap();
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            if let Some(first) = bytes.get_mut(20) {
                *first = kind;
            }
            let _ = quoted(&bytes, &Header::parse(&bytes).unwrap());
        }
    }
}
