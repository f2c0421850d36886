use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn key(n: u8) -> Identity {
    Identity::new(PrivateKey::new([n; 32]))
}

fn stamp() -> Tai64n {
    Tai64n::after(Tai64n::NEVER, Duration::from_secs(1_700_000_000))
}

#[test]
fn both_sides_get_the_same_keys_and_know_each_other() {
    let (alice, bob) = (key(1), key(2));
    let (mut initiating, initiation) = initiate(&alice, &bob.public, 7, stamp()).unwrap();
    let opened = open(&bob, &initiation).unwrap();
    assert_eq!((opened.key, opened.stamp, opened.remote), (alice.public, stamp(), 7));
    let (response, theirs) = opened.respond(9).unwrap();
    assert_eq!((word(&response, 4), word(&response, 8)), (9, 7));
    let mut damaged = response;
    damaged[20] ^= 1;
    assert!(initiating.finish(&damaged).is_err());
    let ours = initiating.finish(&response).unwrap();
    assert_eq!((&*ours.seal, &*ours.open), (&*theirs.open, &*theirs.seal));
    assert_ne!(*ours.seal, *ours.open);
}

#[test]
fn an_initiation_for_another_key_does_not_open() {
    let (_, initiation) = initiate(&key(1), &key(2).public, 7, stamp()).unwrap();
    assert!(open(&key(3), &initiation).is_err());
}

/// Points of small order: with these every secret is zero (RFC 7748 section 6.1).
#[test]
fn a_key_that_shares_no_secret_is_refused() {
    let one = PublicKey::try_from(std::array::from_fn(|i| u8::from(i == 0))).unwrap();
    assert!(initiate(&key(1), &one, 7, stamp()).is_err());
    let (_, mut initiation) = initiate(&key(1), &key(2).public, 7, stamp()).unwrap();
    initiation[8..40].copy_from_slice(one.bytes());
    assert!(open(&key(2), &initiation).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Each bit of what is authenticated counts; type, macs and our own number for the session are looked at elsewhere.
    #[test]
    fn no_bit_may_be_changed(at in 8usize..116, bit in 0u8..8) {
        let (_, mut initiation) = initiate(&key(1), &key(2).public, 7, stamp()).unwrap();
        initiation[at] ^= 1 << bit;
        // The curve's numbers have 255 bits (RFC 7748 section 5).
        if (at, bit) != (39, 7) {
            prop_assert!(open(&key(2), &initiation).is_err());
        }
    }
}
