use super::*;
use Freshness::{Growing, Within};

const WINDOW: Freshness = Within(Duration::from_secs(5));

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(1_800_000_000.0 + seconds)
}

#[test]
fn what_was_heard_is_not_heard_again() {
    let mut replay = Replay::default();
    let first = Sequence::at(s(0.0));
    for freshness in [WINDOW, Growing] {
        replay = Replay::default();
        assert_eq!(replay.accept(first, s(0.1), freshness), Ok(()));
        assert_eq!(replay.accept(first, s(0.2), freshness), Err(Discard::Replayed));
    }
    assert_eq!(replay.accept(first.next(s(0.0), Growing), s(0.2), Growing), Ok(()), "made at once, but later");
}

#[test]
fn what_was_overtaken_is_out_of_date() {
    let mut replay = Replay::default();
    let (early, late) = (Sequence::at(s(0.0)), Sequence::at(s(0.1)));
    assert_eq!(replay.accept(late, s(0.1), WINDOW), Ok(()));
    assert_eq!(replay.accept(early, s(0.1), WINDOW), Err(Discard::Replayed));
}

#[test]
fn far_past_and_far_future_are_refused_and_leave_no_mark() {
    let mut replay = Replay::default();
    for seconds in [-5.1, 5.1, -3e8, 3e8] {
        assert_eq!(replay.accept(Sequence::at(s(seconds)), s(0.0), WINDOW), Err(Discard::Stale), "{seconds}");
    }
    assert_eq!(replay, Replay::default());
    for seconds in [-4.9, 4.9] {
        assert_eq!(replay.accept(Sequence::at(s(seconds)), s(0.0), WINDOW), Ok(()), "{seconds}");
    }
}

#[test]
fn a_sender_that_restarted_goes_on_from_its_clock() {
    let mut replay = Replay::default();
    let mut before = Sequence::at(s(0.0));
    for _ in 0..1000 {
        before = before.next(s(0.0), WINDOW);
        assert_eq!(replay.accept(before, s(0.0), WINDOW), Ok(()));
    }
    assert_eq!(replay.accept(Sequence::at(s(0.05)), s(0.05), WINDOW), Ok(()), "later, and greater than all the counting");
}

#[test]
fn a_clock_that_goes_back_a_little_does_not_stop_the_sequence() {
    let mut replay = Replay::default();
    let first = Sequence::at(s(0.0));
    let second = first.next(s(-2.0), WINDOW);
    assert!(second.is_after(first));
    assert_eq!(replay.accept(first, s(0.0), WINDOW), Ok(()));
    assert_eq!(replay.accept(second, s(0.0), WINDOW), Ok(()));
}

#[test]
fn a_clock_that_was_mended_is_heard_again() {
    let mut replay = Replay::default();
    // Both were an hour ahead; then both were set right.
    let ahead = Sequence::at(s(3600.0));
    assert_eq!(replay.accept(ahead, s(3600.0), WINDOW), Ok(()));
    let mended = ahead.next(s(0.0), WINDOW);
    assert_eq!(mended, Sequence::at(s(0.0)));
    assert_eq!(replay.accept(mended, s(0.0), WINDOW), Ok(()));
    assert!(ahead.next(s(0.0), Growing).is_after(ahead), "without a window nothing else is certain");
}

#[test]
fn the_counter_carries_into_the_time() {
    let start = Sequence::at(s(0.0));
    let mut sequence = start;
    for _ in 0..70_000 {
        let next = sequence.next(s(0.0), Growing);
        assert!(next.is_after(sequence));
        sequence = next;
    }
    assert!(sequence.distance(start) < Duration::from_millis(1));
}

#[test]
fn the_seconds_may_wrap() {
    let before = Sequence::at(Duration::from_millis(u64::from(u32::MAX) * 1000 + 900));
    let after = Sequence::at(Duration::from_millis((u64::from(u32::MAX) + 1) * 1000 + 100));
    assert!(after.is_after(before) && !before.is_after(after));
    let apart = after.distance(before);
    assert!(apart > Duration::from_millis(199) && apart < Duration::from_millis(201), "{apart:?}");
}
