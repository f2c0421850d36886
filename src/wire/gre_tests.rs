use super::*;
use proptest::prelude::*;
use rstest::rstest;

#[rstest]
#[case::nothing(&[], Fault::Truncated(0))]
#[case::half_a_header(&[0x20, 0, 8], Fault::Truncated(3))]
#[case::key_cut_off(&[0x20, 0, 8, 0, 0, 0, 1], Fault::Truncated(7))]
#[case::no_key(&[0, 0, 8, 0, 0x45, 0, 0, 0], Fault::NoKey)]
#[case::checksum_too(&[0xa0, 0, 8, 0, 0, 0, 0, 1], Fault::UnsupportedFlags(0xa000))]
#[case::routing_of_rfc_1701(&[0x60, 0, 8, 0, 0, 0, 0, 1], Fault::UnsupportedFlags(0x6000))]
#[case::sequence_too(&[0x30, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 2], Fault::UnsupportedFlags(0x3000))]
#[case::recursion_control(&[0x21, 0, 8, 0, 0, 0, 0, 1], Fault::UnsupportedFlags(0x2100))]
#[case::pptp(&[0x30, 1, 0x88, 0x0b, 0, 0, 0, 1], Fault::UnsupportedVersion(1))]
#[case::ethernet_inside(&[0x20, 0, 0x65, 0x58, 0, 0, 0, 1], Fault::UnsupportedProtocol(0x6558))]
fn says_why_it_refuses(#[case] bytes: &[u8], #[case] why: Fault) {
    assert_eq!(Packet::parse(bytes), Err(why));
}

#[test]
fn a_header_looks_as_rfc_2890_draws_it() {
    assert_eq!(header(GreKey(0x0102_0304), Protocol::Ipv4), [0x20, 0, 0x08, 0, 1, 2, 3, 4]);
    assert_eq!(header(GreKey(7), Protocol::Ipv6), [0x20, 0, 0x86, 0xdd, 0, 0, 0, 7]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(packet) = Packet::parse(&bytes) {
            // There is one way only to write what was read.
            prop_assert_eq!([&header(packet.key, packet.protocol)[..], packet.inner].concat(), bytes);
        }
    }

    #[test]
    fn what_was_written_is_read(key: u32, inner in prop::collection::vec(any::<u8>(), 0..64), v6: bool) {
        let protocol = if v6 { Protocol::Ipv6 } else { Protocol::Ipv4 };
        let bytes = [&header(GreKey(key), protocol)[..], &inner].concat();
        prop_assert_eq!(Packet::parse(&bytes), Ok(Packet { key: GreKey(key), protocol, inner: &inner }));
    }
}
