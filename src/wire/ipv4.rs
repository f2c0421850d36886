//! The little of an IPv4 header (RFC 791) that a tunnel has to know.

use super::checksum::Sum;
use std::net::Ipv4Addr;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// An IPv4 header.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-------+-------+---------------+-------------------------------+
/// |Version|  IHL  |   DSCP  |ECN  |         Total Length          |
/// +-------+-------+---------------+-----+-------------------------+
/// |         Identification        |Flags|     Fragment Offset     |
/// +---------------+---------------+-----+-------------------------+
/// |  Time to Live |    Protocol   |        Header Checksum        |
/// +---------------+---------------+-------------------------------+
/// |                        Source Address                         |
/// +---------------------------------------------------------------+
/// |                      Destination Address                      |
/// +---------------------------------------------------------------+
/// |                     Options (IHL > 5) ...                     |
/// +---------------------------------------------------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes, 20 to 60.
    pub header_len: usize,
    /// Bytes, header included; not more than there were.
    pub total_len: usize,
    /// DSCP and ECN.
    pub traffic_class: u8,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    /// In units of 8 bytes.
    pub fragment_offset: u16,
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

/// Why bytes are no IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("IPv4 packet cut short: {have} bytes of {want}")]
    Truncated { have: usize, want: usize },
    #[error("IP version {0}, wanted 4")]
    Version(u8),
    #[error("IPv4 header of {0} bytes, wanted 20 to 60")]
    HeaderLength(usize),
    #[error("IPv4 total length {0} is shorter than its header")]
    TotalLength(usize),
}

impl Header {
    /// Reads the header. Bytes after the total length may follow (padding) and are no fault. The header checksum is
    /// not looked at: the kernel does that when it gets the packet; see [`checksum_is_right`].
    pub fn parse(bytes: &[u8]) -> Result<Header, Fault> {
        let have = bytes.len();
        let Some((h, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(match bytes.first() {
                Some(first) if first >> 4 != 4 => Fault::Version(first >> 4),
                _ => Fault::Truncated { have, want: HEADER_LEN },
            });
        };
        if h[0] >> 4 != 4 {
            return Err(Fault::Version(h[0] >> 4));
        }
        let header_len = usize::from(h[0] & 0xf) * 4;
        let total_len = usize::from(u16::from_be_bytes([h[2], h[3]]));
        if header_len < HEADER_LEN {
            return Err(Fault::HeaderLength(header_len));
        }
        if total_len < header_len {
            return Err(Fault::TotalLength(total_len));
        }
        if have < total_len {
            return Err(Fault::Truncated { have, want: total_len });
        }
        let fragment = u16::from_be_bytes([h[6], h[7]]);
        Ok(Header {
            header_len,
            total_len,
            traffic_class: h[1],
            dont_fragment: fragment & 0x4000 != 0,
            more_fragments: fragment & 0x2000 != 0,
            fragment_offset: fragment & 0x1fff,
            protocol: h[9],
            source: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            destination: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
        })
    }

    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }
}

/// Whether a header (all of it, options included) is intact.
pub fn checksum_is_right(header: &[u8]) -> bool {
    Sum::default().with(header).is_intact()
}

/// Gives a header a total length and the checksum that goes with it. `header` holds at least 20 bytes.
pub fn set_total_len(header: &mut [u8], total_len: u16) {
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[10..12].fill(0);
    let sum = Sum::default().with(header).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Gives a header another source. A header that was intact is intact afterwards, and one that was not is not (RFC 1624).
/// `header` holds at least 20 bytes.
pub fn set_source(header: &mut [u8], source: Ipv4Addr) {
    let sum = u16::from_be_bytes([header[10], header[11]]);
    let mut former = [0; 4];
    former.copy_from_slice(&header[12..16]);
    let sum = Sum::default().word(!sum).with(&former.map(|byte| !byte)).with(&source.octets()).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header[12..16].copy_from_slice(&source.octets());
}

/// The outer header of a tunnel packet: 20 bytes, do not fragment, TTL 64 (RFC 1700), protocol 47. The checksum is
/// left to the kernel (raw(7), IP_HDRINCL).
pub fn outer(source: Ipv4Addr, destination: Ipv4Addr, traffic_class: u8, total_len: u16, id: u16) -> [u8; HEADER_LEN] {
    let mut h = [0x45, traffic_class, 0, 0, 0, 0, 0x40, 0, 64, super::nested::GRE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    h[2..4].copy_from_slice(&total_len.to_be_bytes());
    h[4..6].copy_from_slice(&id.to_be_bytes());
    h[12..16].copy_from_slice(&source.octets());
    h[16..20].copy_from_slice(&destination.octets());
    h
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn packet(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut p = outer("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), 0, 20, 0).to_vec();
        change(&mut p);
        p
    }

    #[rstest]
    #[case::nothing(vec![], Fault::Truncated { have: 0, want: 20 })]
    #[case::short(packet(|p| p.truncate(19)), Fault::Truncated { have: 19, want: 20 })]
    #[case::ipv6(vec![0x60; 40], Fault::Version(6))]
    #[case::ihl_4(packet(|p| p[0] = 0x44), Fault::HeaderLength(16))]
    #[case::options_beyond_the_total(packet(|p| p[0] = 0x46), Fault::TotalLength(20))]
    #[case::total_below_header(packet(|p| p[3] = 19), Fault::TotalLength(19))]
    #[case::total_beyond_the_end(packet(|p| p[3] = 21), Fault::Truncated { have: 20, want: 21 })]
    fn says_why_it_refuses(#[case] bytes: Vec<u8>, #[case] why: Fault) {
        assert_eq!(Header::parse(&bytes), Err(why));
    }

    proptest! {
        #[test]
        fn lengths_of_what_was_read_fit(bytes in prop::collection::vec(any::<u8>(), 0..100), v4: bool) {
            let mut bytes = bytes;
            if let (true, Some(first)) = (v4, bytes.first_mut()) {
                *first = 0x40 | (*first & 0xf);
            }
            if let Ok(h) = Header::parse(&bytes) {
                prop_assert!(HEADER_LEN <= h.header_len && h.header_len <= h.total_len && h.total_len <= bytes.len());
            }
        }

        #[test]
        fn another_source_mends_no_checksum_and_breaks_none(src: [u8; 4], new: [u8; 4], len in 20u16.., flip in 0usize..160, intact: bool) {
            let mut h = outer(src.into(), [172, 16, 0, 10].into(), 0, len, 7).to_vec();
            set_total_len(&mut h, len);
            if !intact {
                h[flip / 8] ^= 1 << (flip % 8);
            }
            // The source itself is overwritten: a fault in it is carried on by the checksum.
            set_source(&mut h, new.into());
            prop_assert_eq!(checksum_is_right(&h), intact);
            prop_assert_eq!(&h[12..16], &new[..]);
        }

        #[test]
        fn what_was_written_is_read(src: [u8; 4], dst: [u8; 4], tos: u8, len in 20u16.., id: u16) {
            let mut h = outer(src.into(), dst.into(), tos, len, id).to_vec();
            set_total_len(&mut h, len);
            prop_assert!(checksum_is_right(&h));
            h.resize(usize::from(len), 0);
            let h = Header::parse(&h).unwrap();
            prop_assert_eq!((h.source, h.destination, h.traffic_class), (src.into(), dst.into(), tos));
            prop_assert_eq!((h.total_len, h.header_len, h.protocol), (usize::from(len), 20, 47));
            prop_assert!(h.dont_fragment && !h.is_fragment());
        }
    }
}
