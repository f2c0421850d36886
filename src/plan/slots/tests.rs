use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn key(n: u16) -> TenantShard {
    format!("t{n}/0").parse().unwrap()
}

#[test]
fn a_restarted_daemon_finds_the_same_slots() {
    let mut before = Slots::default();
    before.assign(&[key(3), key(1), key(2)]).unwrap();
    let links: Vec<(IfName, String)> = before.iter().map(|(of, slot)| (IfName::tunnel(slot), alias(of))).collect();
    let after = Slots::recover(links.iter().map(|(name, alias)| (name, alias.as_str())));
    assert_eq!(before, after);
}

#[test]
fn a_foreign_interface_is_no_slot() {
    let name: IfName = "pw-x".parse().unwrap();
    let other: IfName = "eth5".parse().unwrap();
    let slots = Slots::recover([(&name, "portway a/0"), (&other, "portway b/0")]);
    assert_eq!(slots.iter().count(), 0);
}

#[test]
fn the_lowest_free_number_is_given_and_a_released_one_serves_again() {
    let mut numbers = Numbers::recover(9, [("a".to_owned(), 1), ("b".to_owned(), 4)]);
    assert_eq!(["c", "d", "e", "f"].map(|key| numbers.of(&key.to_owned()).unwrap()), [2, 3, 5, 6]);
    numbers.release(&"d".to_owned());
    numbers.release(&"nobody".to_owned());
    assert_eq!(["d", "g", "d"].map(|key| numbers.of(&key.to_owned()).unwrap()), [3, 7, 3]);
}

#[test]
fn a_full_node_says_so() {
    let mut numbers = Numbers::<String>::new(2);
    let full = numbers.assign(&["a".into(), "b".into(), "c".into()]).unwrap_err();
    assert_eq!(full, Full { what: "c".into(), max: 2 });
}

proptest! {
    #[test]
    fn numbers_are_stable_and_never_shared(first in proptest::collection::btree_set(0u16..200, 0..80), second in proptest::collection::btree_set(0u16..200, 0..80)) {
        let mut slots = Slots::default();
        let first: Vec<_> = first.into_iter().map(key).collect();
        let second: Vec<_> = second.into_iter().map(key).collect();
        slots.assign(&first).unwrap();
        let before = slots.clone();
        slots.assign(&second).unwrap();
        for (of, slot) in slots.iter() {
            if let Some(same) = before.get(of) { prop_assert_eq!(same, slot); }
            // A number freed by this very call is not handed out in it.
            else { prop_assert!(before.iter().all(|(_, old)| old != slot)); }
        }
        let distinct: BTreeSet<_> = slots.iter().map(|(_, slot)| slot).collect();
        prop_assert_eq!(distinct.len(), second.len());
    }
}
