//! Neighbour discovery (RFC 4861), as far as it takes to announce an IPv6 address.

use super::arp::Mac;
use super::checksum::Sum;
use std::net::Ipv6Addr;

pub const ETHERTYPE: u16 = 0x86dd;
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Bytes of a frame: Ethernet 14, IPv6 40, advertisement 24, target link-layer address 8.
pub const FRAME_LEN: usize = 86;

/// Where [`ALL_NODES`] goes on Ethernet (RFC 2464 section 7).
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Anything else has crossed a router and is ignored (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
/// Target link-layer address, one unit of 8 bytes.
const TARGET_ADDRESS: [u8; 2] = [2, 1];
const MESSAGE_LEN: u8 = 32;

/// An unsolicited neighbour advertisement to all nodes (RFC 4861 section 7.2.6), with the flags that RFC 9568 section 8.2.2 asks
/// for: router and override, not solicited.
///
/// ```text
/// +-----------------+-----------------+------+
/// | 33:33:...:1 (6) | source (6)      | 86dd |  Ethernet
/// +-----------------+-----------------+------+
/// | IPv6: 32 bytes of 58 (ICMPv6), hop limit 255, the address -> ff02::1
/// +-----+------+----------+
/// | 136 |  0   | checksum |  neighbour advertisement
/// +-----+------+----------+
/// |R|S|O|   reserved      |
/// +-----------------------+
/// | target address (16)   |
/// +-----+------+----------+
/// |  2  |  1   | MAC (6)  |  target link-layer address
/// +-----+------+----------+
/// ```
pub fn advertisement(mac: Mac, address: Ipv6Addr) -> [u8; FRAME_LEN] {
    let mut message = [0; MESSAGE_LEN as usize];
    message[0] = NEIGHBOUR_ADVERTISEMENT;
    message[4] = ROUTER | OVERRIDE;
    message[8..24].copy_from_slice(&address.octets());
    message[24..26].copy_from_slice(&TARGET_ADDRESS);
    message[26..].copy_from_slice(&mac);
    let checksum = sum(address, ALL_NODES, &message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut bytes = [0; FRAME_LEN];
    bytes[..6].copy_from_slice(&ALL_NODES_MAC);
    bytes[6..12].copy_from_slice(&mac);
    bytes[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    bytes[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, MESSAGE_LEN, ICMPV6, HOP_LIMIT]);
    bytes[22..38].copy_from_slice(&address.octets());
    bytes[38..54].copy_from_slice(&ALL_NODES.octets());
    bytes[54..].copy_from_slice(&message);
    bytes
}

/// What a frame announces, if it is one of [`advertisement`]'s: (MAC, address).
pub fn announced(frame: &[u8]) -> Option<(Mac, Ipv6Addr)> {
    let (address, mac) = (Ipv6Addr::from(*frame.get(62..)?.first_chunk::<16>()?), *frame.get(80..)?.first_chunk()?);
    (frame.get(..FRAME_LEN)? == advertisement(mac, address)).then_some((mac, address))
}

/// RFC 8200 section 8.1.
fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Sum {
    let (length, next) = (u16::from(MESSAGE_LEN), u16::from(ICMPV6));
    Sum::default().with(&source.octets()).with(&destination.octets()).word(length).word(next).with(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Linux's own for `fd00::64` (`ndisc_notify`), but for the router flag.
    #[test]
    fn an_announcement_byte_by_byte() {
        let mac = [0x02, 0, 0, 0xaa, 0xbb, 0xcc];
        let frame = advertisement(mac, "fd00::64".parse().unwrap());
        let mut expected = vec![0x33, 0x33, 0, 0, 0, 1, 0x02, 0, 0, 0xaa, 0xbb, 0xcc, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255];
        expected.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x64, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([
            136, 0, 0, 0, 0xa0, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x64, 2, 1, 0x02, 0, 0, 0xaa, 0xbb, 0xcc,
        ]);
        let checksum = sum("fd00::64".parse().unwrap(), ALL_NODES, &expected[54..]).finish();
        expected[56..58].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(frame[..], expected[..]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(mac: Mac, address: Ipv6Addr, at in 0..FRAME_LEN, bit in 0..8u8) {
            let mut frame = advertisement(mac, address);
            prop_assert_eq!(announced(&frame), Some((mac, address)));
            prop_assert!(sum(address, ALL_NODES, &frame[54..]).is_intact());
            prop_assert_eq!(announced(&frame[..at]), None);
            frame[at] ^= 1 << bit;
            prop_assert_eq!(announced(&frame), None);
        }
    }
}
