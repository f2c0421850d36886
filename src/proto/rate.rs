//! So much in a second, and so much at once.

use std::time::{Duration, Instant};

/// How much, and how much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 1 to 1,000,000.
    pub per_second: u32,
    /// At once, after a rest; 1 or more.
    pub burst: u32,
}

impl Rate {
    /// What one costs, in time.
    fn cost(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    /// How long an empty bucket takes to fill.
    pub fn rest(self) -> Duration {
        self.cost() * self.burst.max(1)
    }
}

/// A token bucket, as the time at which it will be full.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    full: Instant,
}

impl Bucket {
    pub fn new(now: Instant) -> Self {
        Self { full: now }
    }

    pub fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let ready = self.ready(now, rate) <= now;
        if ready {
            self.full = self.full.max(now) + rate.cost();
        }
        ready
    }

    pub fn give_back(&mut self, rate: Rate) {
        self.full = self.full.checked_sub(rate.cost()).unwrap_or(self.full);
    }

    /// Whether at most so many are missing.
    pub fn owes_at_most(&self, now: Instant, many: u32, rate: Rate) -> bool {
        self.full <= now + rate.cost() * many
    }

    /// From when on there is something to take.
    pub fn ready(&self, now: Instant, rate: Rate) -> Instant {
        let spare = rate.rest() - rate.cost();
        self.full.checked_sub(spare).map_or(now, |ready| ready.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn in_no_stretch_of_time_is_more_taken_than_allowed(
            gaps in proptest::collection::vec(0u64..20_000, 1..300),
            per_second in 1u32..2000,
            burst in 1u32..20,
        ) {
            let rate = Rate { per_second, burst };
            let (mut now, mut taken) = (Instant::now(), vec![]);
            let mut bucket = Bucket::new(now);
            for gap in gaps {
                now += Duration::from_micros(gap);
                let ready = bucket.ready(now, rate);
                prop_assert_eq!(bucket.take(now, rate), ready == now);
                if ready == now {
                    taken.push(now);
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (j, to) in taken.iter().enumerate().skip(i) {
                    let allowed = f64::from(burst) + (*to - *from).as_secs_f64() * f64::from(per_second);
                    prop_assert!(((j - i) as f64) < allowed + 0.001, "{} in {:?}", j - i + 1, *to - *from);
                }
            }
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more_than_the_burst() {
        let (now, rate) = (Instant::now(), Rate { per_second: 10, burst: 3 });
        let mut bucket = Bucket::new(now);
        (0..3).for_each(|_| assert!(bucket.take(now, rate)));
        assert!(!bucket.take(now, rate));
        assert_eq!(bucket.ready(now, rate), now + Duration::from_millis(100));
        assert!(bucket.owes_at_most(now, 3, rate) && !bucket.owes_at_most(now, 2, rate));
        (0..9).for_each(|_| bucket.give_back(rate));
        assert_eq!((0..9).filter(|_| bucket.take(now, rate)).count(), 3);
    }
}
