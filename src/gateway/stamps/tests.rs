use super::journal::{Fault, RECORD};
use super::*;
use crate::model::PrivateKey;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

const HEAD: usize = 16;

fn of(name: &str) -> TenantShard {
    name.parse().unwrap()
}

fn key(number: u32) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    PublicKey::try_from(bytes).unwrap()
}

fn stamp(second: u64) -> Tai64n {
    Tai64n::from_unix(second, 0)
}

fn one(number: u32, second: u64) -> (Owner, Tai64n) {
    (Owner::at(&of("acme/1")).with(&key(number)), stamp(second))
}

/// Of acme's shard 1, in the order of keys' numbers.
fn found(dir: &Path) -> Vec<(PublicKey, Tai64n)> {
    found_of(&mut Stamps::open(dir).unwrap())
}

fn found_of(stamps: &mut Stamps) -> Vec<(PublicKey, Tai64n)> {
    let mut found = stamps.found(&[of("acme/1")]).remove(&of("acme/1")).unwrap();
    found.sort();
    found
}

fn sorted(mut all: Vec<(PublicKey, Tai64n)>) -> Vec<(PublicKey, Tai64n)> {
    all.sort();
    all
}

#[test]
fn the_next_process_knows_what_was_used_and_the_latest_counts() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let stamps = Stamps::open(&state).unwrap();
    stamps.used().tell(&of("acme/1"), [(key(1), stamp(5)), (key(2), stamp(9))]);
    stamps.used().tell(&of("acme/1"), [(key(1), stamp(4))]);
    stamps.used().tell(&of("blue/1"), [(key(1), stamp(99))]);
    drop(stamps);
    let mode = std::fs::metadata(state.join(NAME)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut stamps = Stamps::open(&state).unwrap();
    assert_eq!(found_of(&mut stamps), sorted(vec![(key(1), stamp(5)), (key(2), stamp(9))]));
    // An older one changes nothing, from whichever process.
    stamps.used().tell(&of("acme/1"), [(key(1), stamp(3)), (key(2), stamp(10))]);
    stamps.write_down();
    assert_eq!(stamps.used().waiting(), 0);
    assert_eq!(found(&state), sorted(vec![(key(1), stamp(5)), (key(2), stamp(10))]));
    // Who asks again gets all of it, with what came since.
    assert_eq!(found_of(&mut stamps), sorted(vec![(key(1), stamp(5)), (key(2), stamp(10))]));
    assert_eq!(stamps.found(&[of("blue/1"), of("blue/2")])[&of("blue/1")], [(key(1), stamp(99))]);
}

/// Without a word: as a process that is killed leaves it, two seconds later.
#[test]
fn what_is_told_is_written_without_anybodys_asking() {
    let dir = tempfile::tempdir().unwrap();
    let stamps = Stamps::open(dir.path()).unwrap();
    stamps.used().tell(&of("acme/1"), [(key(1), stamp(5))]);
    let begun = std::time::Instant::now();
    while found(dir.path()).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    assert_eq!(found(dir.path()), [(key(1), stamp(5))]);
}

/// A successor reads before the process that it succeeds has ended.
#[test]
fn what_a_predecessor_writes_after_the_start_is_found_too() {
    let dir = tempfile::tempdir().unwrap();
    let former = Stamps::open(dir.path()).unwrap();
    former.used().tell(&of("acme/1"), [(key(1), stamp(5))]);
    former.write_down();
    let mut next = Stamps::open(dir.path()).unwrap();
    former.used().tell(&of("acme/1"), [(key(2), stamp(6))]);
    former.write_down();
    former.used().tell(&of("acme/1"), [(key(1), stamp(7))]);
    drop(former);
    let all = found_of(&mut next);
    assert_eq!(all.len(), 3, "what was read is not read twice: {all:?}");
    assert!([(key(1), stamp(7)), (key(2), stamp(6))].iter().all(|one| all.contains(one)), "{all:?}");
    // And one that was written anew meanwhile.
    let mut next = Stamps::open(dir.path()).unwrap();
    let former = Stamps::open(dir.path()).unwrap();
    former.used().tell(&of("acme/1"), [(key(3), stamp(8))]);
    drop(former);
    assert!(found_of(&mut next).contains(&(key(3), stamp(8))));
}

#[test]
fn a_file_that_is_none_of_ours_says_nothing_and_is_replaced() {
    for content in [&b""[..], b"garbage", b"portway-stamps 0", b"portway-stamps 0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), content).unwrap();
        assert!(matches!(journal::read(&dir.path().join(NAME), 9, None), Err(Fault::Strange)), "{content:?}");
        let mut stamps = Stamps::open(dir.path()).unwrap();
        assert_eq!(found_of(&mut stamps), []);
        assert_eq!(std::fs::read(dir.path().join(NAME)).unwrap(), content, "untouched until there is something to say");
        stamps.used().tell(&of("acme/1"), [(key(1), stamp(5))]);
        drop(stamps);
        assert_eq!(found(dir.path()), [(key(1), stamp(5))]);
    }
}

#[test]
fn one_that_is_too_large_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    let mut journal = Journal::new(path.clone(), 4);
    journal.add(&[one(1, 5)], true).unwrap();
    // As long as some hole can make it.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(journal::read(&path, 4, None), Err(Fault::Large(_))));
    let mut journal = Journal::new(path.clone(), 4);
    journal.add(&[one(2, 6)], true).unwrap();
    assert_eq!(journal::read(&path, 4, None).unwrap().unwrap().0, [one(2, 6)]);
}

#[test]
fn what_was_half_written_or_has_rotted_is_passed_over_and_the_rest_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    Journal::new(path.clone(), 9).add(&[one(1, 5), one(2, 6), one(3, 7)], true).unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len(), HEAD + 3 * RECORD);
    for end in HEAD..=whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        let (found, part) = journal::read(&path, 9, None).unwrap().unwrap();
        assert_eq!(found, [one(1, 5), one(2, 6), one(3, 7)][..(end - HEAD) / RECORD], "{end}");
        // Whoever goes on writes whole records again, and whoever reads on does so from where the last whole one ended.
        std::fs::write(&path, &whole).unwrap();
        let (rest, _) = journal::read(&path, 9, Some(&part)).unwrap().unwrap();
        assert_eq!(found.len() + rest.len(), 3, "{end}");
    }
    for place in HEAD + RECORD..HEAD + 2 * RECORD {
        let mut rotten = whole.clone();
        rotten[place] ^= 1;
        std::fs::write(&path, rotten).unwrap();
        assert_eq!(journal::read(&path, 9, None).unwrap().unwrap().0, [one(1, 5), one(3, 7)], "{place}");
    }
    // Half of one is no reason to lose the next.
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    Journal::new(path.clone(), 9).add(&[one(4, 8)], true).unwrap();
    assert_eq!(journal::read(&path, 9, None).unwrap().unwrap().0, [one(1, 5), one(2, 6), one(4, 8)]);
}

#[test]
fn it_is_written_anew_when_it_has_grown_and_those_used_last_stay() {
    const MOST: u32 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    let mut journal = Journal::new(path.clone(), MOST as usize);
    let mut longest = 0;
    for round in 0..40 {
        let stamps: Vec<_> = (0..500).map(|n| one((500 * round + n) % 7_000, u64::from(round))).collect();
        journal.add(&stamps, false).unwrap();
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        longest = longest.max(length);
        assert!(length <= HEAD + RECORD * 2 * MOST as usize, "{length}");
    }
    assert!(longest > HEAD + RECORD * MOST as usize, "each is not written at once");
    let (found, _) = journal::read(&path, MOST as usize, None).unwrap().unwrap();
    assert_eq!(found.len(), MOST as usize);
    // The last 5,000 of 20,000, the oldest first.
    let expected: Vec<_> = (30..40).flat_map(|round| (0..500).map(move |n| one((500 * round + n) % 7_000, u64::from(round)))).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_cannot_be_written_waits() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // No directory can be made there.
    std::fs::write(&state, "").unwrap();
    let stamps = Stamps::open(&state).unwrap();
    stamps.used().tell(&of("acme/1"), [(key(1), stamp(5))]);
    stamps.write_down();
    assert_eq!(stamps.used().waiting(), 1);
    std::fs::remove_file(&state).unwrap();
    stamps.used().tell(&of("acme/1"), [(key(1), stamp(4))]);
    stamps.write_down();
    assert_eq!(stamps.used().waiting(), 0);
    assert_eq!(found(&state), [(key(1), stamp(5))]);
}

#[test]
fn a_private_key_is_nowhere_near() {
    let dir = tempfile::tempdir().unwrap();
    let private = PrivateKey::new([3; 32]);
    let stamps = Stamps::open(dir.path()).unwrap();
    stamps.used().tell(&of("acme/1"), [(private.public(), stamp(5))]);
    drop(stamps);
    let content = std::fs::read(dir.path().join(NAME)).unwrap();
    assert!(content.windows(32).any(|window| window == private.public().bytes()));
    assert!(!content.windows(32).any(|window| window == [3; 32]));
}

proptest! {
    // Each goes to the disk.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_are_read_without_harm(content in proptest::collection::vec(any::<u8>(), 0..400), ours: bool, begin in 0..400u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let head: &[u8] = if ours { b"portway-stamps 1" } else { b"" };
        std::fs::write(&path, [head, &content].concat()).unwrap();
        match journal::read(&path, 9, None) {
            Ok(Some((found, _))) => prop_assert!(ours && found.is_empty()),
            Ok(None) => prop_assert!(false),
            Err(error) => prop_assert!(!ours && matches!(error, Fault::Strange)),
        }
        let mut journal = Journal::new(path.clone(), 9);
        journal.add(&[one(1, begin)], false).unwrap();
        prop_assert_eq!(journal::read(&path, 9, None).unwrap().unwrap().0, [one(1, begin)]);
    }

    #[test]
    fn of_each_key_the_latest_is_found_however_they_came(batches in proptest::collection::vec(proptest::collection::vec((0u32..20, 0u64..50), 1..20), 1..8), again in 0usize..8) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let (mut journal, mut expected) = (Journal::new(path.clone(), 20), BTreeMap::new());
        for (n, batch) in batches.iter().enumerate() {
            if n == again {
                journal = Journal::new(path.clone(), 20);
            }
            journal.add(&batch.iter().map(|(number, second)| one(*number, *second)).collect::<Vec<_>>(), false).unwrap();
            for (number, second) in batch {
                let last = expected.entry(key(*number)).or_insert(stamp(*second));
                *last = stamp(*second).max(*last);
            }
        }
        let found: BTreeMap<_, _> = journal::read(&path, 20, None).unwrap().unwrap().0.into_iter().map(|(owner, stamp)| (owner.key().unwrap(), stamp)).collect();
        prop_assert_eq!(found, expected);
    }
}
