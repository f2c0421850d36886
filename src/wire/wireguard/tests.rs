use super::*;
use crate::model::{PrivateKey, PublicKey};
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519;
use proptest::prelude::*;
use std::sync::Arc;

fn host() -> PrivateKey {
    PrivateKey::new([1; 32])
}

fn gateway() -> PrivateKey {
    PrivateKey::new([2; 32])
}

fn stamp() -> Tai64n {
    Tai64n::from_unix(1_700_000_000, 123_456_789)
}

fn knock(stamp: Tai64n) -> Initiation {
    let (initiator, responder, ephemeral) = (host(), gateway().public(), PrivateKey::new([3; 32]));
    Knock { initiator: &initiator, responder: &responder, sender: 0x1234_5678, ephemeral: &ephemeral, stamp }.build().expect("good keys")
}

/// What a gateway makes of it, with both steps.
fn opened(responder: &Responder, initiation: &Initiation) -> Option<(PublicKey, Tai64n)> {
    let claim = responder.mac1().is_right(initiation).then(|| responder.claim(initiation)).flatten()?;
    let shared = responder.shared_with(claim.key())?;
    Some((*claim.key(), claim.open(&shared)?))
}

/// Calculated from the whitepaper in another language with other libraries (Python: hashlib's BLAKE2s, hmac, pyca/cryptography), with keys
/// of 1s, 2s (the responder's) and 3s (the ephemeral one), sender 0x12345678, 1700000000.123456789.
#[test]
fn an_initiation_is_what_the_whitepaper_says() {
    let known = "01000000785634125dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef220a26599fb2188bb723276fc173af67616c81\
                 7fc32fd04d686d87ec152fac10eed2bda3bb3b6f1eded6977684082284d817fb46b3a99b6be3ba7cf3c3fb1c735e18246a700c43a4d05a1d12d6\
                 5fd84ce1b8b471339eda4572b5f834b400000000000000000000000000000000";
    let hex: String = knock(stamp()).bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, known);
    assert_eq!(opened(&Responder::new(&gateway()), &knock(stamp())), Some((host().public(), stamp())));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (responder, genuine) = (Responder::new(&gateway()), knock(stamp()));
    for bit in 0..Initiation::MAC2 * 8 {
        let mut bytes = *genuine.bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(changed) = Initiation::try_from(bytes) else {
            assert!(bit < 32, "the type");
            continue;
        };
        assert!(!responder.mac1().is_right(&changed), "bit {bit}");
        // And if who changed it has signed it again, which anybody can: the sender's index alone is nowhere else.
        if (Initiation::EPHEMERAL..Initiation::MAC1).contains(&(bit / 8)) {
            assert_eq!(opened(&responder, &responder.mac1().sign(changed)), None, "bit {bit}");
        }
    }
}

#[test]
fn a_claim_is_not_a_proof() {
    let (responder, mallory) = (Responder::new(&gateway()), PrivateKey::new([9; 32]));
    // Mallory knows both public keys: the first step is right, but what he shares with the gateway is not what the host does.
    let claim = responder.claim(&knock(stamp())).expect("a claim");
    assert_eq!(claim.key(), &host().public());
    let wrong = responder.shared_with(&mallory.public()).expect("a good key");
    assert_eq!(claim.open(&wrong), None);
    // For another gateway it is nothing at all.
    assert!(Responder::new(&mallory).claim(&knock(stamp())).is_none());
}

#[test]
fn secrets_are_not_printed() {
    let responder = Responder::new(&gateway());
    let (claim, shared) = (responder.claim(&knock(stamp())), responder.shared_with(&host().public()));
    let printed = format!("{responder:?} {claim:?} {shared:?}");
    let expected = format!("Responder({}) Some(Claim({})) Some(SharedSecret(..))", gateway().public(), host().public());
    assert_eq!(printed, expected);
}

#[test]
fn a_key_that_shares_nothing_is_refused() {
    // Of order 4: every secret with it is zero.
    let mut weak = [0; 32];
    weak[0] = 1;
    let weak = PublicKey::try_from(weak).expect("not nobody's");
    assert!(Responder::new(&gateway()).shared_with(&weak).is_none());
    let mut bytes = *knock(stamp()).bytes();
    bytes[8..40].copy_from_slice(weak.bytes());
    assert!(Responder::new(&gateway()).claim(&Initiation::try_from(bytes).expect("an initiation")).is_none());
    let (initiator, ephemeral) = (host(), PrivateKey::new([3; 32]));
    assert!(Knock { initiator: &initiator, responder: &weak, sender: 1, ephemeral: &ephemeral, stamp: stamp() }.build().is_none());
}

#[test]
fn type_and_length_go_together() {
    for length in 0..200_usize {
        for kind in 0..=255_u8 {
            let mut datagram = vec![0; length];
            datagram.iter_mut().take(1).for_each(|first| *first = kind);
            let right = match kind {
                1 => length == 148,
                2 => length == 92,
                3 => length == 64,
                4 => length >= 32,
                _ => false,
            };
            assert_eq!(classify(&datagram).is_ok(), right, "type {kind}, {length} bytes: {:?}", classify(&datagram));
        }
    }
    let mut reserved = *knock(stamp()).bytes();
    reserved[2] = 1;
    assert_eq!(classify(&reserved), Err(Fault::Type(0x0001_0001)));
}

#[test]
fn indices_and_counters_are_little_endian() {
    let bytes: Vec<u8> = [4, 0, 0, 0].into_iter().chain(1..200).collect();
    assert_eq!(classify(&bytes), Ok(Message::Data { receiver: 0x0403_0201, counter: 0x0c0b_0a09_0807_0605 }));
    let bytes: Vec<u8> = [2, 0, 0, 0].into_iter().chain(1..89).collect();
    assert_eq!(classify(&bytes), Ok(Message::Response { sender: 0x0403_0201, receiver: 0x0807_0605 }));
}

proptest! {
    #[test]
    fn whatever_the_bytes_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..6) {
        let mut bytes = bytes;
        for shape in [None, Some(Initiation::LEN)] {
            if let Some(length) = shape {
                bytes.resize(length, 7);
                bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            if let Ok(Message::Initiation(initiation)) = classify(&bytes) {
                let responder = Responder::new(&gateway());
                prop_assert_eq!(opened(&responder, &initiation), None);
                prop_assert!(opened(&responder, &responder.mac1().sign(initiation)).is_none());
            }
        }
    }

    #[test]
    fn whoever_knocks_is_recognised(host: [u8; 32], gateway: [u8; 32], ephemeral: [u8; 32], sender: u32, stamp: [u8; 12]) {
        let (host, responder, ephemeral) = (PrivateKey::new(host), Responder::new(&PrivateKey::new(gateway)), PrivateKey::new(ephemeral));
        let stamp = Tai64n(stamp);
        let knock = Knock { initiator: &host, responder: responder.public(), sender, ephemeral: &ephemeral, stamp };
        let initiation = knock.build().expect("good keys");
        prop_assert_eq!(initiation.sender(), sender);
        prop_assert_eq!(opened(&responder, &initiation), Some((host.public(), stamp)));
    }
}

/// A side of gotatun.
fn stranger(own: &PrivateKey, other: &PublicKey) -> Tunn {
    let other = x25519::PublicKey::from(*other.bytes());
    let limiter = Arc::new(RateLimiter::new(&x25519::PublicKey::from(*own.public().bytes()), 1000));
    Tunn::new(x25519::StaticSecret::from(*own.expose()), other, None, None, IndexTable::from_os_rng(), limiter)
}

fn bytes_of(message: WgKind) -> Vec<u8> {
    Packet::from(message).to_vec()
}

fn packet_of(bytes: &[u8]) -> WgKind {
    Packet::copy_from(bytes).try_into_wg().expect("a message")
}

#[test]
fn a_strangers_initiation_is_read() {
    let mut host_side = stranger(&host(), &gateway().public());
    let sent = bytes_of(host_side.format_handshake_initiation(false).expect("an initiation").into());
    let Ok(Message::Initiation(initiation)) = classify(&sent) else { panic!("not an initiation: {sent:02x?}") };
    let (key, made) = opened(&Responder::new(&gateway()), &initiation).expect("genuine");
    assert_eq!(key, host().public());
    let age = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").abs_diff(made.since_1970().expect("a time"));
    assert!(age.as_secs() < 60, "it counts 27 leap seconds, we none: {age:?}");
    assert_eq!(opened(&Responder::new(&host()), &initiation), None, "for somebody else");
}

#[test]
fn a_stranger_answers_our_initiation() {
    let mut gateway_side = stranger(&gateway(), &host().public());
    let TunnResult::WriteToNetwork(answer) = gateway_side.handle_incoming_packet(packet_of(knock(stamp()).bytes())) else {
        panic!("no answer")
    };
    let answer = bytes_of(answer);
    assert!(matches!(classify(&answer), Ok(Message::Response { receiver: 0x1234_5678, .. })), "{answer:02x?}");
    let again = gateway_side.handle_incoming_packet(packet_of(knock(stamp()).bytes()));
    assert!(matches!(again, TunnResult::Err(_)), "a replay: {again:?}");
    let later = gateway_side.handle_incoming_packet(packet_of(knock(stamp().next()).bytes()));
    assert!(matches!(later, TunnResult::WriteToNetwork(_)), "{later:?}");
}

#[test]
fn a_strangers_other_messages_are_told_apart() {
    let (mut host_side, mut gateway_side) = (stranger(&host(), &gateway().public()), stranger(&gateway(), &host().public()));
    let first = host_side.format_handshake_initiation(false).expect("an initiation");
    let TunnResult::WriteToNetwork(second) = gateway_side.handle_incoming_packet(first.into()) else { panic!("no response") };
    let TunnResult::WriteToNetwork(third) = host_side.handle_incoming_packet(second) else { panic!("no keepalive") };
    assert!(matches!(classify(&bytes_of(third)), Ok(Message::Data { counter: 0, .. })));
}
