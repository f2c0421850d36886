//! Which counters of a session have been seen (RFC 6479): a bitmap that slides along.

/// Counters that may come late: as many as other implementations allow.
pub const WINDOW: u64 = (WORDS as u64 - 1) * 64;

/// Words of the bitmap.
pub const WORDS: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// One more than the greatest counter seen.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for Replay {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

impl Replay {
    /// One more than the greatest counter seen, and the bitmap as far as it has been in use.
    pub fn parts(&self) -> (u64, &[u64]) {
        (self.next, &self.seen[..used(self.next)])
    }

    /// What [`Replay::parts`] gave; none for what it never gives.
    pub fn from_parts(next: u64, words: &[u64]) -> Option<Self> {
        let mut seen = [0; WORDS];
        seen.get_mut(..used(next)).filter(|used| used.len() == words.len())?.copy_from_slice(words);
        Some(Self { next, seen })
    }

    /// Whether this counter is new and not too old; it is seen from now on.
    pub fn accept(&mut self, counter: u64) -> bool {
        if counter.saturating_add(WINDOW) < self.next {
            return false;
        }
        if counter >= self.next {
            let (from, to) = (self.next.div_ceil(64), counter / 64);
            // Words that are entered anew; each once, if it is all of them.
            for word in from..=to.min(from + WORDS as u64 - 1) {
                self.seen[slot(word)] = 0;
            }
            self.next = counter.saturating_add(1);
        }
        let word = &mut self.seen[slot(counter / 64)];
        let bit = 1 << (counter % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// Words that have been in use, if this counter is next.
fn used(next: u64) -> usize {
    next.div_ceil(64).min(WORDS as u64) as usize
}

fn slot(word: u64) -> usize {
    (word % WORDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn counters() -> impl Strategy<Value = Vec<u64>> {
        let step = prop_oneof![8 => 0u64..70, 2 => 0u64..9_000, 1 => 0u64..40_000];
        prop::collection::vec((step, prop::bool::weighted(0.3), 0u64..9_000), 1..400).prop_map(|steps| {
            let mut at = 0u64;
            steps
                .into_iter()
                .map(|(step, back, by)| {
                    at += step;
                    if back { at.saturating_sub(by) } else { at }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn each_counter_is_taken_once_and_none_that_is_too_old(counters in counters()) {
            let (mut replay, mut seen, mut next) = (Replay::default(), BTreeSet::new(), 0u64);
            for counter in counters {
                let fresh = counter + WINDOW >= next && seen.insert(counter);
                prop_assert_eq!(replay.accept(counter), fresh, "counter {} when {} was next", counter, next);
                next = next.max(counter + 1);
                let (parts, words) = replay.parts();
                let copy = Replay::from_parts(parts, words);
                prop_assert_eq!(copy.as_ref(), Some(&replay));
            }
        }
    }

    #[test]
    fn the_far_end_of_the_numbers_is_no_special_place() {
        let mut replay = Replay::default();
        assert!(replay.accept(0) && !replay.accept(0));
        assert!(replay.accept(u64::MAX - 1) && !replay.accept(u64::MAX - 1) && !replay.accept(0));
        assert!(replay.accept(u64::MAX - 2));
    }
}
