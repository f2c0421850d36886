use super::*;
use crate::model::{Addresses, AdvertInterval, ChecksumForm, KeyId, Priority, Secret, Vrid, VrrpVersion};
use crate::wire::vrrp::{Advertisement, Envelope, HOP_LIMIT};

const FRESH: Freshness = Freshness::Within(Duration::from_secs(5));
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn key(id: u8) -> Key {
    Key::new(KeyId::try_from(id).expect("an id"), &Secret::new(&[id; 32]).expect("long enough"))
}

fn gate(signing: u8, other: Option<u8>) -> Gate {
    Gate::new(Some(Keyring { signing: key(signing), other: other.map(key) }), FRESH)
}

fn from(n: u8) -> Envelope {
    Envelope { source: [10, 0, 0, n].into(), destination: [10, 0, 0, 200].into(), hop_limit: HOP_LIMIT }
}

/// What this gate sends from 10.0.0.n.
fn sent(gate: &mut Gate, n: u8, clock: Duration) -> Vec<u8> {
    let (vrid, addresses) = (Vrid::try_from(1).expect("a VRID"), Addresses::V4(&[[10, 0, 0, 100]]));
    let (version, priority, interval) = (VrrpVersion::V3, Priority(100), AdvertInterval::default());
    let mut out = vec![];
    Advertisement { version, vrid, priority, interval, addresses }.encode(&from(n), ChecksumForm::default(), gate.seal(clock), &mut out);
    out
}

fn admit(gate: &mut Gate, n: u8, bytes: &[u8], clock: Duration) -> Result<(), Discard> {
    gate.admit(from(n).source, &Packet::parse(&from(n), bytes).expect("a good packet"), clock)
}

#[test]
fn each_advertisement_comes_in_once() {
    let (mut ours, mut theirs) = (gate(1, None), gate(1, None));
    let (first, second) = (sent(&mut theirs, 1, NOW), sent(&mut theirs, 1, NOW));
    assert_eq!(admit(&mut ours, 1, &first, NOW), Ok(()));
    assert_eq!(admit(&mut ours, 1, &first, NOW), Err(Discard::Replayed));
    assert_eq!(admit(&mut ours, 1, &second, NOW), Ok(()));
    assert_eq!(admit(&mut ours, 1, &first, NOW), Err(Discard::Replayed));
    assert_eq!(admit(&mut gate(1, None), 1, &first, NOW + Duration::from_secs(6)), Err(Discard::Stale), "for those who just came, too");
}

#[test]
fn each_sender_has_a_sequence_of_its_own() {
    let (mut ours, mut one, mut two) = (gate(1, None), gate(1, None), gate(1, None));
    let (early, late) = (sent(&mut one, 1, NOW), sent(&mut two, 2, NOW + Duration::from_secs(1)));
    assert_eq!(admit(&mut ours, 2, &late, NOW), Ok(()));
    assert_eq!(admit(&mut ours, 1, &early, NOW), Ok(()));
}

#[test]
fn a_forged_packet_leaves_no_trace() {
    let (mut ours, mut theirs, mut forger) = (gate(1, None), gate(1, None), gate(2, None));
    let forged = sent(&mut forger, 1, NOW + Duration::from_secs(4));
    assert_eq!(admit(&mut ours, 1, &forged, NOW), Err(Discard::UnknownKey));
    let mut forged = sent(&mut theirs, 1, NOW + Duration::from_secs(4));
    *forged.last_mut().expect("bytes") ^= 1;
    assert_eq!(admit(&mut ours, 1, &forged, NOW), Err(Discard::Hmac));
    assert!(ours.senders.is_empty());
    assert_eq!(admit(&mut ours, 1, &sent(&mut gate(1, None), 1, NOW), NOW), Ok(()));
}

#[test]
fn keys_are_changed_without_a_moment_of_silence() {
    let (mut a, mut b) = (gate(1, None), gate(1, None));
    let mut clock = NOW;
    let ring = |signing: u8, other: Option<u8>| Some(Keyring { signing: key(signing), other: other.map(key) });
    for (ours, others) in [(1, None), (1, Some(2)), (2, Some(1)), (2, None)] {
        // First one node, then the other.
        for node in 0..2 {
            let gate = if node == 0 { &mut a } else { &mut b };
            gate.set_keys(ring(ours, others));
            clock += Duration::from_millis(10);
            let (from_a, from_b) = (sent(&mut a, 1, clock), sent(&mut b, 2, clock));
            assert_eq!(admit(&mut b, 1, &from_a, clock), Ok(()));
            assert_eq!(admit(&mut a, 2, &from_b, clock), Ok(()));
        }
    }
    let old = sent(&mut gate(1, None), 1, clock + Duration::from_secs(1));
    assert_eq!(admit(&mut b, 1, &old, clock), Err(Discard::UnknownKey));
}

#[test]
fn with_and_without_keys_do_not_mix() {
    let (mut open, mut closed) = (Gate::new(None, FRESH), gate(1, None));
    let (plain, sealed) = (sent(&mut open, 1, NOW), sent(&mut closed, 1, NOW));
    assert_eq!(admit(&mut open, 1, &plain, NOW), Ok(()));
    assert_eq!(admit(&mut open, 1, &plain, NOW), Ok(()));
    assert_eq!(admit(&mut open, 1, &sealed, NOW), Err(Discard::UnexpectedTrailer));
    assert_eq!(admit(&mut closed, 1, &plain, NOW), Err(Discard::Unauthenticated));
}

#[test]
fn no_more_senders_are_remembered_than_there_is_room_for() {
    let mut ours = gate(1, None);
    for n in 1..=100 {
        let packet = sent(&mut gate(1, None), n, NOW);
        assert_eq!(admit(&mut ours, n, &packet, NOW), Ok(()));
        assert_eq!(admit(&mut ours, n, &packet, NOW), Err(Discard::Replayed));
    }
    assert_eq!(ours.senders.len(), SENDERS);
}
