use super::*;
use crate::model::AddressList;
use proptest::prelude::*;
use rstest::rstest;

fn v4(source: [u8; 4], destination: [u8; 4]) -> Envelope {
    Envelope { source: source.into(), destination: destination.into(), hop_limit: 255 }
}

fn v6() -> Envelope {
    Envelope { source: "fe80::1".parse().expect("an address"), destination: GROUP_V6.into(), hop_limit: 255 }
}

/// Seen in the wild: the same message under its three checksums.
#[rstest]
#[case::keepalived(0x19b9, Ok(ChecksumForm::PseudoHeader))]
#[case::rfc_9568(0x2e4a, Ok(ChecksumForm::Message))]
#[case::multicast_group_in_a_unicast_packet(0x43b1, Ok(ChecksumForm::MulticastPseudoHeader))]
#[case::damaged(0x19b8, Err(Discard::Checksum))]
fn takes_each_form_of_checksum(#[case] checksum: u16, #[case] form: Result<ChecksumForm, Discard>) {
    let ip = v4([10, 9, 0, 1], [10, 9, 0, 2]);
    let [c0, c1] = checksum.to_be_bytes();
    let bytes = [0x31, 0x33, 0x96, 1, 0, 0x14, c0, c1, 10, 9, 0, 100];
    let packet = Packet::parse(&ip, &bytes);
    assert_eq!(packet.map(|packet| packet.checksum), form);
    let Ok(packet) = packet else { return };
    let advertisement = packet.advertisement;
    assert_eq!((advertisement.vrid.get(), advertisement.priority.0, advertisement.interval.centiseconds()), (0x33, 150, 20));
    assert_eq!(advertisement.addresses, Addresses::V4(&[[10, 9, 0, 100]]));
    let mut again = vec![];
    advertisement.encode(&ip, packet.checksum, None, &mut again);
    assert_eq!(again, bytes);
}

#[rstest]
#[case(0x9c19, ChecksumForm::PseudoHeader)]
#[case(0xb09b, ChecksumForm::Message)]
fn a_second_message_from_the_wild(#[case] checksum: u16, #[case] form: ChecksumForm) {
    let ip = v4([10, 1, 0, 3], [10, 1, 0, 1]);
    let [c0, c1] = checksum.to_be_bytes();
    let bytes = [0x31, 0x58, 0xc6, 1, 0, 0x64, c0, c1, 10, 195, 76, 227];
    assert_eq!(Packet::parse(&ip, &bytes).map(|packet| packet.checksum), Ok(form));
}

#[test]
fn over_multicast_the_group_is_the_destination() {
    let ip = Envelope { destination: GROUP_V4.into(), ..v4([10, 9, 0, 1], [0; 4]) };
    let bytes = [0x31, 0x33, 0x96, 1, 0, 0x14, 0x43, 0xb1, 10, 9, 0, 100];
    assert_eq!(Packet::parse(&ip, &bytes).map(|packet| packet.checksum), Ok(ChecksumForm::PseudoHeader));
}

/// The checksum of what stands in `bytes`, filled in.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = Sum::default().with(&bytes).finish().to_be_bytes();
    bytes[6..8].copy_from_slice(&sum);
    bytes
}

#[rstest]
#[case::nothing(&[], Discard::Length)]
#[case::half_a_header(&[0x31, 1, 100, 1, 0, 100, 0], Discard::Length)]
#[case::address_cut_off(&[0x31, 1, 100, 1, 0, 100, 0, 0, 10, 0, 0], Discard::Length)]
#[case::fewer_addresses_than_counted(&[0x31, 1, 100, 2, 0, 100, 0, 0, 10, 0, 0, 1], Discard::Length)]
#[case::more_addresses_than_counted(&[0x31, 1, 100, 1, 0, 100, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], Discard::Length)]
#[case::version_1(&[0x11, 1, 100, 1, 0, 100, 0, 0, 10, 0, 0, 1], Discard::Version)]
#[case::version_4(&[0x41, 1, 100, 1, 0, 100, 0, 0, 10, 0, 0, 1], Discard::Version)]
#[case::type_2(&[0x32, 1, 100, 1, 0, 100, 0, 0, 10, 0, 0, 1], Discard::Type)]
#[case::type_0(&[0x30, 1, 100, 1, 0, 100, 0, 0, 10, 0, 0, 1], Discard::Type)]
#[case::vrid_0(&[0x31, 0, 100, 1, 0, 100, 0, 0, 10, 0, 0, 1], Discard::Vrid)]
#[case::no_address(&[0x31, 1, 100, 0, 0, 100, 0, 0], Discard::NoAddress)]
#[case::interval_0(&[0x31, 1, 100, 1, 0xf0, 0, 0, 0, 10, 0, 0, 1], Discard::Interval)]
#[case::v2_without_authentication_data(&[0x21, 1, 100, 1, 0, 1, 0, 0, 10, 0, 0, 1], Discard::Length)]
#[case::v2_interval_0(&[0x21, 1, 100, 1, 0, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], Discard::Interval)]
#[case::v2_unknown_authentication(&[0x21, 1, 100, 1, 3, 1, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], Discard::AuthenticationType)]
fn says_why_it_refuses(#[case] bytes: &[u8], #[case] why: Discard) {
    let bytes = if bytes.len() < 8 { bytes.to_vec() } else { summed(bytes.to_vec()) };
    assert_eq!(Packet::parse(&v4([10, 0, 0, 9], [10, 0, 0, 8]), &bytes), Err(why));
}

#[test]
fn what_crossed_a_router_is_refused_before_it_is_looked_at() {
    for hop_limit in [0, 64, 254] {
        assert_eq!(Packet::parse(&Envelope { hop_limit, ..v6() }, &[]), Err(Discard::HopLimit));
    }
}

#[test]
fn carp_is_told_from_version_2() {
    let mut carp = vec![0x21, 1, 0, 7, 0, 1, 0, 0];
    carp.resize(36, 0xaa);
    assert_eq!(Packet::parse(&v4([10, 0, 0, 9], [224, 0, 0, 18]), &summed(carp)), Err(Discard::Carp));
    let mut seven = vec![0x21, 1, 100, 7, 0, 1, 0, 0];
    seven.resize(8 + 7 * 4 + 8, 10);
    let seven = summed(seven);
    let packet = Packet::parse(&v4([10, 0, 0, 9], [224, 0, 0, 18]), &seven).expect("seven addresses");
    assert_eq!(packet.advertisement.version, VrrpVersion::V2);
}

#[rstest]
#[case::none(0)]
#[case::clear_text(1)]
#[case::authentication_header(2)]
fn old_peers_are_understood(#[case] authentication: u8) {
    let bytes = summed([&[0x21, 7, 100, 1, authentication, 2, 0, 0, 10, 0, 0, 1][..], b"password"].concat());
    let packet = Packet::parse(&v4([10, 0, 0, 9], [224, 0, 0, 18]), &bytes).expect("version 2");
    assert_eq!(packet.checksum, ChecksumForm::Message);
    assert_eq!(packet.advertisement.version, VrrpVersion::V2);
    assert_eq!(packet.advertisement.interval.whole_seconds(), Some(2));
}

#[test]
fn version_2_is_for_ipv4_only() {
    let bytes = summed([&[0x21, 7, 100, 1, 0, 1, 0, 0][..], &[0; 24]].concat());
    assert_eq!(Packet::parse(&v6(), &bytes), Err(Discard::Version));
}

#[test]
fn ipv6_has_a_pseudo_header_always() {
    let list = AddressList::new(&["fe80::100".parse().expect("an address")]).expect("a list");
    let advertisement = Advertisement { addresses: list.as_addresses(), ..simple() };
    let mut out = vec![];
    advertisement.encode(&v6(), ChecksumForm::Message, None, &mut out);
    assert_eq!(Packet::parse(&v6(), &out).map(|packet| packet.checksum), Ok(ChecksumForm::PseudoHeader));
    assert_eq!(Packet::parse(&v6(), &summed(summed_zero(&out))), Err(Discard::Checksum));
}

fn summed_zero(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[6..8].fill(0);
    bytes
}

fn simple() -> Advertisement<'static> {
    let vrid = Vrid::try_from(1).expect("a VRID");
    let addresses = Addresses::V4(&[[10, 0, 0, 1]]);
    Advertisement { version: VrrpVersion::V3, vrid, priority: Priority(100), interval: AdvertInterval::default(), addresses }
}

#[test]
fn an_interval_that_does_not_fit_is_sent_as_the_longest_that_does() {
    let sent = |advertisement: Advertisement<'_>| {
        let (ip, mut out) = (v4([10, 0, 0, 9], [10, 0, 0, 8]), vec![]);
        advertisement.encode(&ip, ChecksumForm::default(), None, &mut out);
        Packet::parse(&ip, &out).expect("a good packet").advertisement.interval.centiseconds()
    };
    assert_eq!(sent(Advertisement { interval: AdvertInterval::MAX, ..simple() }), 4095);
    assert_eq!(sent(Advertisement { version: VrrpVersion::V2, interval: AdvertInterval::MIN, ..simple() }), 100);
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<&str> = Discard::ALL.iter().map(|d| d.label()).collect();
    assert_eq!(labels.len(), Discard::ALL.len());
    assert!(labels.iter().all(|label| label.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(s, d)| (IpAddr::from(s), IpAddr::from(d)));
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(s, d)| (IpAddr::from(s), IpAddr::from(d)));
    prop_oneof![v4, v6].prop_map(|(source, destination)| Envelope { source, destination, hop_limit: 255 })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(ip in envelopes(), bytes in prop::collection::vec(any::<u8>(), 0..128), first in prop::sample::select(vec![0x21u8, 0x31]), count in 0u8..4) {
        let mut bytes = bytes;
        let _ = Packet::parse(&ip, &bytes);
        // And further in: with the right first byte, few addresses, and a right checksum.
        if bytes.len() >= 8 {
            bytes[0] = first;
            bytes[3] = count;
            let _ = Packet::parse(&ip, &summed_zero(&bytes));
            let _ = Packet::parse(&ip, &summed(summed_zero(&bytes)));
        }
    }

    #[test]
    fn what_was_written_is_read(
        ip in envelopes(), v2: bool, vrid in 1u8.., priority: u8, interval in 1u16..=4095,
        form in prop::sample::select(ChecksumForm::ALL.to_vec()), list in prop::collection::vec(any::<u128>(), 1..=255)
    ) {
        let version = if v2 && ip.source.is_ipv4() { VrrpVersion::V2 } else { VrrpVersion::V3 };
        let interval = if version == VrrpVersion::V2 { AdvertInterval::from_seconds(vrid) } else { AdvertInterval::try_from(interval) };
        let list = match ip.source {
            IpAddr::V4(_) => AddressList::V4(list.iter().map(|n| (*n as u32).to_be_bytes()).collect()),
            IpAddr::V6(_) => AddressList::V6(list.iter().map(|n| n.to_be_bytes()).collect()),
        };
        let (vrid, interval) = (Vrid::try_from(vrid).expect("not 0"), interval.expect("in range"));
        let advertisement = Advertisement { version, vrid, priority: Priority(priority), interval, addresses: list.as_addresses() };
        let mut out = vec![];
        advertisement.encode(&ip, form, None, &mut out);
        prop_assert_eq!(Packet::parse(&ip, &out).map(|packet| packet.advertisement), Ok(advertisement));
    }
}
