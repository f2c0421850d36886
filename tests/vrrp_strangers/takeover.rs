//! How long the addresses are nobody's: read off the wire, held against the protocol's formula.

use super::support::{address, other};
use super::witness::{Seen, Witness};
use std::time::Duration;

/// By how much somebody may be late on a busy machine.
const LATE: Duration = Duration::from_millis(60);

/// RFC 9568 section 6.1. In version 2 it is a part of a second (RFC 3768 section 6.1), which is the only interval of it here.
pub fn skew(interval_ms: u32, priority: u8) -> Duration {
    Duration::from_millis(interval_ms.into()) * (256 - u32::from(priority)) / 256
}

pub fn active_down(interval_ms: u32, priority: u8) -> Duration {
    3 * Duration::from_millis(interval_ms.into()) + skew(interval_ms, priority)
}

/// `event` befalls `from`: its last word has this priority, and the other node takes over as long after it as expected.
pub fn assert_takes_over(witness: &Witness, from: &str, event: impl FnOnce(), last_priority: u8, expected: Duration, what: &str) {
    let after = witness.seen().len();
    event();
    let (last, gap) = handover(witness, after, from);
    assert_eq!(last.priority, last_priority);
    assert_takes(gap, expected, what);
}

/// The last word of `from`, and the time from it to the first of the other node, among all but the first `after` advertisements.
fn handover(witness: &Witness, after: usize, from: &str) -> (Seen, Duration) {
    let (old, new) = (address(from), address(other(from)));
    let first = witness.await_like("an advertisement of the successor", after, |seen| seen.source == new && seen.priority > 0);
    let last = witness.seen().into_iter().rfind(|seen| seen.source == old && seen.at <= first.at).expect("it was Active before");
    let gap = first.at - last.at;
    (last, gap)
}

pub fn assert_takes(gap: Duration, expected: Duration, what: &str) {
    println!("{what}: {:.2} ms after the last word, by the formula {:.2}", gap.as_secs_f64() * 1e3, expected.as_secs_f64() * 1e3);
    let early = Duration::from_millis(2);
    assert!(gap + early >= expected && gap <= expected + LATE, "{what}: {gap:?}, not {expected:?}");
}
