//! How far our clock is from those of other nodes, by the times that they write into what they send.
//!
//! ```text
//!  our clock when it arrives - its sender's clock when it left = how far ours is ahead + how long it took
//! ```
//! Nothing takes less than no time, so of all the measures of some seconds the least is nearest to the truth, and what makes our clock seem behind is
//! never a delay: it is behind, by at least as much as it seems.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Microseconds. Beyond this our clock is behind a node's: what its kernel has signed with its time, ours cannot follow at once.
const TOLERATED: i64 = 10_000;
/// Microseconds. Where nobody signs with the time, clocks matter only to how old an advertisement may be (5 s): people should know well before.
const HARMLESS: i64 = 1_000_000;
/// Microseconds. Within this it is not any more; in between it is what it was.
const MENDED: i64 = 5_000;
/// The least is remembered for this long, and for as long again: among ten measures at least with intervals of up to a second. So long, too, the
/// leap of a clock is doubted if it goes forwards.
const PERIOD: Duration = Duration::from_secs(5);
/// Whoever has not been heard for this long is forgotten: three of the longest intervals (RFC 9568: 40.95 s).
const GONE: Duration = Duration::from_secs(123);

/// By how much clocks may differ before people are told, milliseconds. `signs`: the kernels of both sign with the time.
pub fn tolerated_ms(signs: bool) -> f64 {
    let most = if signs { TOLERATED } else { HARMLESS };
    most as f64 / 1e3
}

/// What is known of the clocks of others.
#[derive(Debug, Clone)]
pub struct Skews<N> {
    nodes: BTreeMap<N, Skew>,
}

/// What is known of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    began: Instant,
    /// Of the current period and of the one before.
    least: [i64; 2],
    behind: bool,
    heard: Instant,
}

impl<N> Default for Skews<N> {
    fn default() -> Self {
        Self { nodes: BTreeMap::new() }
    }
}

impl<N: Ord> Skews<N> {
    /// Something came from this node that is surely its own and no recording. `ahead`: our clock when it came less the time that it bears, microseconds.
    /// What is believed now.
    pub fn heard(&mut self, now: Instant, node: N, ahead: i64) -> Skew {
        if !self.nodes.contains_key(&node) {
            self.nodes.retain(|_, skew| skew.is_current(now));
        }
        let skew = self.nodes.entry(node).and_modify(|skew| *skew = skew.renewed(now)).or_insert_with(|| Skew::new(now));
        skew.measure(now, ahead);
        *skew
    }

    /// None: it has not been heard for long, or never.
    pub fn of(&self, now: Instant, node: &N) -> Option<&Skew> {
        self.nodes.get(node).filter(|skew| skew.is_current(now))
    }
}

impl Skew {
    fn new(now: Instant) -> Self {
        Self { began: now, least: [i64::MAX; 2], behind: false, heard: now }
    }

    /// Anew, if it was forgotten.
    fn renewed(self, now: Instant) -> Self {
        if self.is_current(now) { self } else { Self::new(now) }
    }

    fn measure(&mut self, now: Instant, ahead: i64) {
        if now.saturating_duration_since(self.began) > PERIOD {
            (self.began, self.least) = (now, [i64::MAX, self.least[0]]);
        }
        self.heard = now;
        self.least[0] = self.least[0].min(ahead);
        let bound = if self.behind { MENDED } else { TOLERATED };
        self.behind = self.ahead() < -bound;
    }

    /// By how much our clock is ahead of its, in microseconds; negative: behind. The shortest delay of the last five to ten seconds is in it.
    pub fn ahead(&self) -> i64 {
        self.least[0].min(self.least[1])
    }

    /// Whether ours is behind its by more than is tolerated.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Whether it was heard not too long ago.
    pub fn is_current(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < GONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EACH: Duration = Duration::from_millis(100);
    const MS: i64 = 1000;

    /// One node, heard every 100 ms.
    struct Bench {
        now: Instant,
        skews: Skews<u8>,
    }

    impl Bench {
        fn new() -> Self {
            Self { now: Instant::now(), skews: Skews::default() }
        }

        /// For so long our clock is ahead by this, and what comes takes as long as `delay` says; milliseconds. What is believed afterwards.
        fn hear(&mut self, seconds: u64, ahead: i64, mut delay: impl FnMut(u64) -> i64) -> Skew {
            for turn in 0..seconds * 10 {
                self.now += EACH;
                self.skews.heard(self.now, 1, (ahead + delay(turn)) * MS);
            }
            *self.skews.of(self.now, &1).unwrap()
        }
    }

    #[test]
    fn clocks_may_differ_by_more_where_nobody_signs_with_them() {
        assert_eq!([true, false].map(tolerated_ms), [10.0, 1000.0]);
    }

    #[test]
    fn delays_hardly_move_it() {
        let mut bench = Bench::new();
        let quick_once_in_a_while = |turn: u64| if turn.is_multiple_of(40) { 1 } else { 30 + turn.cast_signed() % 200 };
        for ahead in [3, -3] {
            let skew = bench.hear(20, ahead, quick_once_in_a_while);
            assert_eq!((skew.ahead(), skew.is_behind()), ((ahead + 1) * MS, false));
        }
    }

    #[test]
    fn a_clock_that_is_behind_by_more_than_ten_milliseconds_is_and_is_not_when_it_is_right_again() {
        let mut bench = Bench::new();
        assert!(!bench.hear(20, -10, |_| 0).is_behind());
        assert!(bench.hear(1, -11, |_| 0).is_behind(), "at once");
        assert!(bench.hear(20, -7, |_| 0).is_behind(), "as it was");
        assert!(bench.hear(4, 0, |_| 0).is_behind(), "what was measured is not forgotten yet");
        let mended = bench.hear(7, -4, |_| 0);
        assert_eq!((mended.ahead(), mended.is_behind()), (-4 * MS, false));
        assert!(!bench.hear(20, -7, |_| 0).is_behind(), "as it was");
        assert!(!bench.hear(20, 3000, |_| 0).is_behind(), "ahead harms nobody");
    }

    #[test]
    fn who_is_silent_is_forgotten_and_is_somebody_new_afterwards() {
        let mut bench = Bench::new();
        assert!(bench.hear(1, -3000, |_| 0).is_behind());
        bench.now += GONE - Duration::from_nanos(1);
        assert!(bench.skews.of(bench.now, &1).is_some());
        bench.now += Duration::from_nanos(1);
        assert!(bench.skews.of(bench.now, &1).is_none());
        bench.skews.heard(bench.now, 2, 0);
        assert_eq!(bench.skews.nodes.len(), 1);
        let anew = bench.hear(1, 20, |_| 0);
        assert_eq!((anew.ahead(), anew.is_behind()), (20 * MS, false));
    }

    /// With the longest of intervals a period has one measure.
    #[test]
    fn a_node_that_is_seldom_heard_is_known_all_the_same() {
        let mut bench = Bench::new();
        for _ in 0..10 {
            bench.now += Duration::from_millis(40_950);
            bench.skews.heard(bench.now, 1, -20 * MS);
            assert!(bench.skews.of(bench.now, &1).is_some_and(Skew::is_behind));
        }
    }

    proptest! {
        /// Whatever the delays: nobody is behind who is not, and the shortest delay is all that is wrong with what is believed.
        #[test]
        fn it_is_the_truth_and_the_shortest_delay(ahead in -50_000i64..50_000, delays in proptest::collection::vec(0i64..500_000, 1..50)) {
            let (mut skews, mut now) = (Skews::default(), Instant::now());
            for delay in &delays {
                now += EACH;
                skews.heard(now, 1, ahead + delay);
            }
            let skew = skews.of(now, &1).unwrap();
            prop_assert_eq!(skew.ahead(), ahead + delays.iter().min().unwrap());
            prop_assert!(!skew.is_behind() || ahead < -TOLERATED);
        }
    }
}
