use super::*;
use proptest::prelude::*;
use std::time::UNIX_EPOCH;

const WINDOW: Duration = Duration::from_secs(300);
const START: u64 = 1_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key(id: u8) -> KeyId {
    KeyId::try_from(id).unwrap()
}

fn proof(id: u8, at: u64, mark: u128) -> Proof {
    Proof::Signature(Signed { key: key(id), at, mark: Mark(mark) })
}

fn about(name: &str) -> Subject {
    Subject::new(name.into())
}

/// Some time after its start.
fn replay() -> Replay {
    Replay::new(WINDOW, at(START - 1000))
}

/// Asks, and if it says something, acts on it.
fn post(replay: &mut Replay, proof: Proof, subject: &Subject) -> Result<Novelty, Refusal> {
    let novelty = replay.ask(&proof, subject);
    if let (Ok(Novelty::First), Proof::Signature(signed)) = (&novelty, proof) {
        replay.taken(&proof, subject, at(signed.at));
    }
    novelty
}

fn replayed(subject: &str) -> Result<Novelty, Refusal> {
    Err(Refusal::Replayed { subject: subject.into() })
}

#[test]
fn the_very_same_is_answered_again_and_what_is_older_is_refused() {
    let (mut replay, a) = (replay(), about("a"));
    assert_eq!(post(&mut replay, proof(1, START, 1), &a), Ok(Novelty::First));
    assert_eq!(post(&mut replay, proof(1, START, 1), &a), Ok(Novelty::Again));
    assert_eq!(post(&mut replay, proof(1, START, 2), &a), Ok(Novelty::First), "two of one second");
    assert_eq!(post(&mut replay, proof(1, START, 1), &a), Ok(Novelty::Again));
    assert_eq!(post(&mut replay, proof(1, START + 1, 3), &a), Ok(Novelty::First));
    assert_eq!(post(&mut replay, proof(1, START, 1), &a), replayed("a"));
    assert_eq!(post(&mut replay, proof(1, START, 9), &a), replayed("a"), "one that was held back on its way, too");
    assert_eq!(replay.remembered(), (1, 1));
}

#[test]
fn what_was_not_acted_on_counts_when_it_is_sent_again() {
    let (mut replay, a, first) = (replay(), about("a"), proof(1, START, 1));
    for _ in 0..3 {
        assert_eq!(replay.ask(&first, &a), Ok(Novelty::First));
    }
    replay.taken(&first, &a, at(START));
    assert_eq!(replay.ask(&first, &a), Ok(Novelty::Again));
}

#[test]
fn each_subject_and_each_key_has_an_order_of_its_own() {
    let mut replay = replay();
    assert_eq!(post(&mut replay, proof(1, START + 9, 1), &about("a")), Ok(Novelty::First));
    assert_eq!(post(&mut replay, proof(1, START, 2), &about("b")), Ok(Novelty::First));
    assert_eq!(post(&mut replay, proof(2, START, 3), &about("a")), Ok(Novelty::First));
    assert_eq!(post(&mut replay, proof(2, START - 1, 4), &about("a")), replayed("a"));
}

#[test]
fn a_token_has_no_time_and_counts_whenever_it_comes() {
    let mut replay = Replay::new(WINDOW, at(START));
    for _ in 0..2 {
        assert_eq!(post(&mut replay, Proof::Token, &about("a")), Ok(Novelty::First));
        replay.taken(&Proof::Token, &about("a"), at(START));
    }
    assert_eq!(replay.remembered(), (0, 0));
}

/// Twenty sources, 1,000 posts a second for two minutes, that arrive up to three seconds late, each source's in order; every tenth comes twice.
#[test]
fn a_thousand_posts_a_second_are_all_taken_and_little_of_them_is_remembered() {
    let mut replay = replay();
    for n in 0..120_000u64 {
        let (second, source) = (n / 1000, n % 20);
        let subject = about(&format!("demand/s{source}"));
        let sent = START + second - source % 3;
        assert_eq!(post(&mut replay, proof(1, sent, n.into()), &subject), Ok(Novelty::First), "post {n}");
        if n % 10 == 0 {
            assert_eq!(post(&mut replay, proof(1, sent, n.into()), &subject), Ok(Novelty::Again), "post {n}");
        }
        let (sources, posts) = replay.remembered();
        assert!(sources <= 20 && posts <= 1000, "{sources} sources, {posts} posts");
    }
}

#[test]
fn of_one_second_of_one_source_there_is_an_end() {
    let (mut replay, a) = (replay(), about("a"));
    for n in 0..MOMENT as u128 {
        assert_eq!(post(&mut replay, proof(1, START, n), &a), Ok(Novelty::First));
    }
    let refusal = post(&mut replay, proof(1, START, u128::MAX), &a).unwrap_err();
    assert_eq!((refusal.label(), refusal.status()), ("too_many", 429));
    assert_eq!(post(&mut replay, proof(1, START, 7), &a), Ok(Novelty::Again), "what is known is told apart even so");
    assert_eq!(post(&mut replay, proof(1, START + 1, 0), &a), Ok(Novelty::First));
    assert_eq!(replay.remembered(), (1, 1));
}

#[test]
fn a_flood_of_sources_makes_room_and_makes_nothing_new() {
    let mut replay = replay();
    let source = |n: usize| about(&format!("demand/s{n}"));
    for n in 0..=SOURCES {
        assert_eq!(post(&mut replay, proof(1, START + n as u64 / 100, 1), &source(n)), Ok(Novelty::First));
    }
    assert_eq!(replay.remembered(), (SOURCES, SOURCES));
    let forgotten = (0..=SOURCES).find(|n| !replay.latest.contains_key(&(key(1), source(*n)))).unwrap();
    assert!(forgotten < 100, "one of those that were sent first");
    assert_eq!(post(&mut replay, proof(1, START, 1), &source(forgotten)), Err(Refusal::Forgotten));
    assert_eq!(post(&mut replay, proof(1, START + 1, 1), &source(forgotten)), Ok(Novelty::First));
}

#[test]
fn what_is_too_old_to_be_sent_again_is_forgotten_first_and_a_clock_that_is_set_back_makes_nothing_new() {
    let mut replay = replay();
    let source = |n: usize| about(&format!("demand/s{n}"));
    for n in 0..SOURCES {
        post(&mut replay, proof(1, START, 1), &source(n)).unwrap();
    }
    post(&mut replay, proof(1, START + 301, 1), &source(SOURCES)).unwrap();
    assert_eq!(replay.remembered(), (1, 1));
    assert_eq!(post(&mut replay, proof(1, START, 1), &source(0)), Err(Refusal::Forgotten));
    assert_eq!(post(&mut replay, proof(1, START + 1, 1), &source(0)), Ok(Novelty::First));
}

#[test]
fn after_a_crash_nothing_counts_that_may_have_been_taken_before() {
    let mut replay = Replay::new(WINDOW, at(START));
    let ahead = auth::AHEAD.as_secs();
    assert_eq!(post(&mut replay, proof(1, START - 1, 1), &about("a")), Err(Refusal::Forgotten));
    assert_eq!(post(&mut replay, proof(1, START + ahead, 1), &about("a")), Err(Refusal::Forgotten), "by a clock ahead of ours");
    assert_eq!(post(&mut replay, proof(1, START + ahead + 1, 1), &about("a")), Ok(Novelty::First));
}

#[test]
fn what_is_saved_is_known_to_the_next_process() {
    let mut replay = replay();
    post(&mut replay, proof(1, START, 1), &about("a")).unwrap();
    post(&mut replay, proof(2, START + 5, u128::MAX), &about("b")).unwrap();
    let text = serde_json::to_string(&replay.saved()).unwrap();
    let mut next = Replay::restore(WINDOW, serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(next.saved(), replay.saved());
    assert_eq!(post(&mut next, proof(1, START, 1), &about("a")), Ok(Novelty::Again));
    assert_eq!(post(&mut next, proof(2, START + 5, u128::MAX), &about("b")), Ok(Novelty::Again));
    assert_eq!(post(&mut next, proof(2, START + 4, 7), &about("b")), replayed("b"));
    assert_eq!(post(&mut next, proof(1, START + 1, 8), &about("a")), Ok(Novelty::First), "no honest post is refused");
    assert_eq!(post(&mut next, proof(1, START - 2000, 9), &about("c")), Err(Refusal::Forgotten));
}

#[test]
fn a_file_of_another_form_restores_nothing() {
    let parse = serde_json::from_str::<Saved>;
    assert!(parse(r#"{"floor": 1, "latest": [{"key": 1, "subject": "a", "at": 5, "marks": ["00"]}]}"#).is_err());
    assert!(parse(r#"{"floor": 1}"#).is_err());
    let no_key = parse(r#"{"floor": 1, "latest": [{"key": 0, "subject": "a", "at": 5, "marks": []}]}"#).unwrap();
    assert!(Replay::restore(WINDOW, no_key).is_err());
}

proptest! {
    /// Whatever clocks, sources and restarts do: nothing is taken twice, and what is taken of a source is never older than what was.
    #[test]
    fn nothing_is_taken_twice(steps in proptest::collection::vec((0u64..2000, 0u64..2000, 0u128..4, 0usize..3, 0u8..20), 0..200)) {
        let mut replay = Replay::new(WINDOW, at(0));
        let (mut taken, mut latest) = (BTreeSet::new(), BTreeMap::new());
        for (sent, now, mark, source, what) in steps {
            match what {
                0 => replay = Replay::restore(WINDOW, replay.saved()).unwrap(),
                1 => replay.forget(at(now)),
                _ => {}
            }
            let (proof, subject) = (proof(1, sent, mark), about(&source.to_string()));
            if replay.ask(&proof, &subject) == Ok(Novelty::First) {
                replay.taken(&proof, &subject, at(now));
                prop_assert!(taken.insert((sent, mark, source)));
                prop_assert!(latest.insert(source, sent).is_none_or(|before| before <= sent));
            }
        }
    }
}
