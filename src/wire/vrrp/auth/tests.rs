use super::*;
use crate::model::{AddressList, AdvertInterval, ChecksumForm, Priority, Vrid};
use crate::wire::vrrp::{Advertisement, Envelope, HOP_LIMIT};
use proptest::prelude::*;
use std::time::Duration;

fn key(id: u8, fill: u8) -> Key {
    Key::new(KeyId::try_from(id).expect("an id"), &Secret::new(&[fill; 32]).expect("long enough"))
}

fn alone(signing: Key) -> Keyring {
    Keyring { signing, other: None }
}

fn envelope(source: &str, destination: &str) -> Envelope {
    Envelope { source: source.parse().expect("an address"), destination: destination.parse().expect("an address"), hop_limit: HOP_LIMIT }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn signed(ip: &Envelope, key: &Key, sequence: Sequence) -> Vec<u8> {
    let addresses = AddressList::new(&[ip.destination, ip.source]).expect("one family");
    let advertisement = Advertisement {
        version: VrrpVersion::V3,
        vrid: Vrid::try_from(51).expect("a VRID"),
        priority: Priority(200),
        interval: AdvertInterval::default(),
        addresses: addresses.as_addresses(),
    };
    let mut out = vec![];
    advertisement.encode(ip, ChecksumForm::PseudoHeader, Some((key, sequence)), &mut out);
    out
}

/// The packets in the draft's appendix: key 00 01 .. 1f, VRID 51, priority 200.
#[test]
fn the_packets_of_the_drafts_appendix() {
    let bytes: Vec<u8> = (0..32).collect();
    let key = Key::new(KeyId::try_from(1).expect("an id"), &Secret::new(&bytes).expect("long enough"));
    let v4 = "3133c801 00644402 c0000264 01010000 68000000 80000000 1b84bc4e 8e43892d c6d98448 f8ee2265";
    let v6 = "3133c801 0064a2e9 fe800000 00000000 00000000 00000100 01010000 68000000 80000000 c8c56146 ebfd66ee 10ec4d81 86461b78";
    let cases = [
        (envelope("198.51.100.10", "192.0.2.10"), v4, "192.0.2.100", ChecksumForm::Message),
        (envelope("fe80::10", "fe80::20"), v6, "fe80::100", ChecksumForm::PseudoHeader),
    ];
    for (ip, text, address, form) in cases {
        let bytes = hex(text);
        let packet = Packet::parse(&ip, &bytes).expect("a good packet");
        assert_eq!(packet.checksum, form);
        let sequence = alone(key.clone()).verify(ip.source, &packet).expect("made with this key");
        assert_eq!(sequence.to_bytes(), [0x68, 0, 0, 0, 0x80, 0, 0, 0]);
        assert_eq!(packet.claimed_sequence(), Some(sequence));

        let addresses = AddressList::new(&[address.parse().expect("an address")]).expect("a list");
        assert_eq!(packet.advertisement.addresses, addresses.as_addresses());
        let mut again = vec![];
        packet.advertisement.encode(&ip, form, Some((&key, sequence)), &mut again);
        assert_eq!(again, bytes);
    }
}

#[test]
fn says_why_it_refuses_a_trailer() {
    let ip = envelope("10.0.0.1", "10.0.0.2");
    let good = signed(&ip, &key(1, 7), Sequence::at(Duration::from_secs(1)));
    let verify = |ring: &Keyring, bytes: &[u8], source| ring.verify(source, &Packet::parse(&ip, bytes).expect("a good packet"));
    let trailer = good.len() - TRAILER_LEN;
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[trailer + at] = value;
        bytes
    };
    assert!(verify(&alone(key(1, 7)), &good, ip.source).is_ok());
    assert_eq!(verify(&alone(key(1, 8)), &good, ip.source), Err(Discard::Hmac));
    assert_eq!(verify(&alone(key(2, 7)), &good, ip.source), Err(Discard::UnknownKey));
    assert_eq!(verify(&alone(key(1, 7)), &good, ip.destination), Err(Discard::Hmac), "signed by another address");
    assert_eq!(verify(&alone(key(1, 7)), &with(0, 2), ip.source), Err(Discard::Trailer));
    assert_eq!(verify(&alone(key(1, 7)), &with(3, 1), ip.source), Err(Discard::Trailer));
    assert_eq!(verify(&alone(key(1, 7)), &with(11, 1), ip.source), Err(Discard::Hmac), "another sequence number");
    assert_eq!(verify(&alone(key(1, 7)), &good[..trailer], ip.source), Err(Discard::Unauthenticated));
}

#[test]
fn two_keys_verify_while_one_signs() {
    let ip = envelope("2001:db8::1", "2001:db8::2");
    let ring = Keyring { signing: key(1, 1), other: Some(key(2, 2)) };
    for (key, good) in [(key(1, 1), true), (key(2, 2), true), (key(2, 1), false), (key(3, 3), false)] {
        let bytes = signed(&ip, &key, Sequence::at(Duration::ZERO));
        assert_eq!(ring.verify(ip.source, &Packet::parse(&ip, &bytes).expect("a good packet")).is_ok(), good, "{key:?}");
    }
}

#[test]
fn version_2_carries_a_trailer_behind_its_authentication_data() {
    let (ip, ring) = (envelope("10.0.0.1", "10.0.0.2"), alone(key(1, 7)));
    let addresses = AddressList::new(&[ip.destination]).expect("a list");
    let (vrid, interval) = (Vrid::try_from(51).expect("a VRID"), AdvertInterval::default());
    let two = Advertisement { version: VrrpVersion::V2, vrid, priority: Priority(200), interval, addresses: addresses.as_addresses() };
    let (mut bytes, sequence) = (vec![], Sequence::at(Duration::from_secs(1)));
    two.encode(&ip, ChecksumForm::Message, Some((&ring.signing, sequence)), &mut bytes);
    let packet = Packet::parse(&ip, &bytes).expect("a good packet");
    assert_eq!((packet.advertisement, ring.verify(ip.source, &packet)), (two, Ok(sequence)));
}

#[test]
fn a_key_is_not_printed() {
    assert_eq!(format!("{:?}", alone(key(9, 7))), "Keyring { signing: Key(9, ..), other: None }");
}

proptest! {
    /// Not one bit can be changed. (One in the checksum may turn it into another right form of the same content.)
    #[test]
    fn any_flipped_bit_is_noticed(seconds: u32, source: [u8; 4], v6: bool, fill: u8) {
        let v4 = Envelope { source: source.into(), destination: [10, 0, 0, 2].into(), hop_limit: HOP_LIMIT };
        let ip = if v6 { envelope("fe80::1", "ff02::12") } else { v4 };
        let (good, ring) = (signed(&ip, &key(1, fill), Sequence::at(Duration::from_secs(seconds.into()))), alone(key(1, fill)));
        let original = Packet::parse(&ip, &good).expect("a good packet");
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(packet) = Packet::parse(&ip, &bytes) && ring.verify(ip.source, &packet).is_ok() {
                prop_assert!(CHECKSUM.contains(&(bit / 8)), "bit {}", bit);
                prop_assert_eq!(packet.advertisement, original.advertisement);
                prop_assert_ne!(packet.checksum, original.checksum);
            }
        }
    }
}
