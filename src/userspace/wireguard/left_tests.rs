use super::*;
use proptest::prelude::*;

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_filter_map("nobody's", |bytes| PublicKey::try_from(bytes).ok())
}

fn endpoint() -> impl Strategy<Value = Option<SocketAddr>> {
    let v6 = (any::<[u8; 16]>(), any::<u16>(), any::<u32>());
    prop::option::of(prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| (Ipv4Addr::from(ip), port).into()),
        v6.prop_map(|(ip, port, scope)| SocketAddrV6::new(ip.into(), port, 0, scope).into()),
    ])
}

/// Of what was never said, there is no age.
fn age() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(0..NEVER)
}

fn session() -> impl Strategy<Value = LeftSession> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>());
    (any::<[[u8; 32]; 2]>(), numbers, any::<[bool; 2]>(), prop::collection::vec(0u64..20_000, 0..40)).prop_map(
        |([seal, open], (local, remote, age, counter), [initiator, confirmed], seen)| {
            let mut replay = Replay::default();
            seen.into_iter().for_each(|counter| _ = replay.accept(counter));
            let keys = Keys { seal: Zeroizing::new(seal), open: Zeroizing::new(open) };
            LeftSession { keys, local, remote, initiator, confirmed, age, counter, replay }
        },
    )
}

fn peer() -> impl Strategy<Value = LeftPeer> {
    let place = || prop::option::of(session());
    let ages =
        (age(), age(), age(), age()).prop_map(|(agreed, unanswered, unreplied, passed)| Ages { agreed, unanswered, unreplied, passed });
    ((key(), endpoint(), endpoint(), any::<[u8; 12]>()), (any::<u64>(), any::<u64>(), ages, any::<bool>()), (place(), place(), place()))
        .prop_map(|((key, endpoint, given, heard), (received_bytes, sent_bytes, ages, wanting), (current, previous, next))| LeftPeer {
            key,
            endpoint,
            given,
            heard: Tai64n(heard),
            received_bytes,
            sent_bytes,
            ages,
            wanting,
            sessions: [current, previous, next],
        })
}

fn left() -> impl Strategy<Value = Left> {
    let interface = (0u32..8_000, key(), any::<bool>(), any::<[u8; 12]>(), prop::collection::vec(peer(), 0..4));
    let interface = interface.prop_map(|(n, key, speaks, stamp, peers)| LeftInterface {
        name: format!("pw-{n}").parse().unwrap(),
        key,
        speaks,
        stamp: Tai64n(stamp),
        peers,
    });
    prop::collection::vec(interface, 0..3).prop_map(|interfaces| Left { interfaces })
}

proptest! {
    #[test]
    fn what_was_written_is_read(left in left()) {
        let bytes = left.encode();
        prop_assert_eq!(Left::decode(&bytes), Ok(left));
    }

    #[test]
    fn what_is_cut_or_longer_is_refused(left in left(), at: prop::sample::Index) {
        let mut bytes = left.encode().to_vec();
        prop_assert_eq!(Left::decode(&bytes[..at.index(bytes.len())]), Err(Fault::Short));
        bytes.push(0);
        prop_assert_eq!(Left::decode(&bytes), Err(Fault::Long(1)));
    }

    /// Whatever is changed, it is refused or means something else that can be written.
    #[test]
    fn what_is_damaged_is_refused_or_is_another(left in left(), at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = left.encode().to_vec();
        bytes[at.index(left.encode().len())] ^= 1 << bit;
        if let Ok(another) = Left::decode(&bytes) {
            prop_assert!(another != left);
            prop_assert_eq!(&another.encode()[..], &bytes[..]);
        }
    }

    #[test]
    fn anything_else_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let head = [&MAGIC[..], &[VERSION]].concat();
        prop_assert!(bytes.starts_with(&head) || Left::decode(&bytes).is_err());
        // Counts that are not true need no memory.
        let all = [&head[..], &bytes].concat();
        if let Ok(left) = Left::decode(&all) {
            prop_assert_eq!(&left.encode()[..], &all[..]);
        }
    }
}

#[test]
fn another_version_is_not_understood() {
    let mut bytes = Left::default().encode().to_vec();
    bytes[5] += 1;
    assert_eq!(Left::decode(&bytes), Err(Fault::Version(VERSION + 1)));
    bytes[0] += 1;
    assert_eq!(Left::decode(&bytes), Err(Fault::Magic));
}

#[test]
fn keys_are_not_shown() {
    let keys = Keys { seal: Zeroizing::new([0xab; 32]), open: Zeroizing::new([0xcd; 32]) };
    let session =
        LeftSession { keys, local: 1, remote: 2, initiator: true, confirmed: true, age: 0, counter: 0, replay: Replay::default() };
    let shown = format!("{session:?}");
    assert!(!shown.contains("171") && !shown.contains("205") && !shown.to_lowercase().contains("abab"), "{shown}");
}
