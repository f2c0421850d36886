//! What was taken already, as long as it could be sent once more.

use super::Refusal;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// What tells a message from all others: a digest or a tag of it.
pub type Mark = [u8; 32];

/// Takes each message once. A message counts for `window` after its own time and as long before it; that long it is remembered. No room
/// means no message: one that could not be remembered could be replayed.
///
/// A clock that is set back makes no forgotten message new: nothing counts that is not later than all that was forgotten.
#[derive(Debug)]
pub struct Replay {
    window: Duration,
    limit: usize,
    taken: BTreeSet<(SystemTime, Mark)>,
    /// Messages up to this time are not known any more, or never were.
    forgotten: Option<SystemTime>,
}

impl Replay {
    pub fn new(window: Duration, limit: usize) -> Self {
        Self { window, limit, taken: BTreeSet::new(), forgotten: None }
    }

    /// Nothing counts that is from before this time, when another memory may have taken it.
    #[must_use]
    pub fn beginning(self, start: SystemTime) -> Self {
        Self { forgotten: start.checked_sub(Duration::from_nanos(1)), ..self }
    }

    /// Whether a message of this time may count.
    pub fn in_time(&self, at: SystemTime, now: SystemTime) -> Result<(), Refusal> {
        let window = self.window;
        match now.duration_since(at) {
            Ok(age) if age > window => Err(Refusal::Stale { age, window }),
            Err(early) if early.duration() > window => Err(Refusal::Early { ahead: early.duration(), window }),
            _ if self.forgotten.is_some_and(|forgotten| at <= forgotten) => Err(Refusal::Forgotten),
            _ => Ok(()),
        }
    }

    /// Takes a message that is proved to be of this time.
    pub fn take(&mut self, at: SystemTime, mark: Mark, now: SystemTime) -> Result<(), Refusal> {
        self.in_time(at, now)?;
        self.forget(now);
        if self.taken.contains(&(at, mark)) {
            return Err(Refusal::Replayed);
        }
        if self.taken.len() >= self.limit {
            return Err(Refusal::MemoryFull { limit: self.limit, window: self.window });
        }
        self.taken.insert((at, mark));
        Ok(())
    }

    fn forget(&mut self, now: SystemTime) {
        let Some(oldest) = now.checked_sub(self.window) else { return };
        let kept = self.taken.split_off(&(oldest, [0; 32]));
        let gone = std::mem::replace(&mut self.taken, kept);
        self.forgotten = self.forgotten.max(gone.last().map(|(at, _)| *at));
    }

    pub fn len(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const WINDOW: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn a_message_is_taken_once_and_only_within_the_window() {
        let mut replay = Replay::new(WINDOW, 10);
        assert_eq!(replay.take(at(1000), [1; 32], at(1000)), Ok(()));
        assert_eq!(replay.take(at(1000), [1; 32], at(1300)), Err(Refusal::Replayed));
        assert_eq!(replay.take(at(1000), [2; 32], at(1300)), Ok(()));
        let age = Duration::from_secs(301);
        assert_eq!(replay.take(at(1000), [3; 32], at(1301)), Err(Refusal::Stale { age, window: WINDOW }));
        assert_eq!(replay.take(at(1602), [3; 32], at(1301)), Err(Refusal::Early { ahead: age, window: WINDOW }));
        assert_eq!(replay.take(at(1601), [3; 32], at(1301)), Ok(()));
        assert_eq!(replay.take(at(1601), [3; 32], at(1901)), Err(Refusal::Replayed), "to the end of its own window");
    }

    #[test]
    fn a_full_memory_takes_nothing_and_empties_in_time() {
        let mut replay = Replay::new(WINDOW, 2);
        assert_eq!(replay.take(at(0), [1; 32], at(0)), Ok(()));
        assert_eq!(replay.take(at(0), [2; 32], at(0)), Ok(()));
        assert_eq!(replay.take(at(100), [3; 32], at(100)), Err(Refusal::MemoryFull { limit: 2, window: WINDOW }));
        assert_eq!(replay.take(at(0), [1; 32], at(100)), Err(Refusal::Replayed), "what is known is told apart even so");
        assert_eq!(replay.take(at(301), [3; 32], at(301)), Ok(()));
        assert_eq!(replay.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_new() {
        let mut replay = Replay::new(WINDOW, 10);
        assert_eq!(replay.take(at(0), [1; 32], at(0)), Ok(()));
        assert_eq!(replay.take(at(5000), [2; 32], at(5000)), Ok(()));
        assert_eq!(replay.take(at(0), [1; 32], at(0)), Err(Refusal::Forgotten));
        assert_eq!(replay.take(at(1), [3; 32], at(0)), Ok(()), "and all that is later counts again");
    }

    #[test]
    fn what_another_memory_may_have_taken_does_not_count() {
        let mut replay = Replay::new(WINDOW, 10).beginning(at(100));
        assert_eq!(replay.take(at(99), [1; 32], at(100)), Err(Refusal::Forgotten));
        assert_eq!(replay.take(at(100), [1; 32], at(100)), Ok(()));
    }

    proptest! {
        /// Whatever the clock does.
        #[test]
        fn nothing_is_taken_twice(steps in proptest::collection::vec((0u64..2000, 0u64..2000, 0u8..4), 0..200)) {
            let mut replay = Replay::new(WINDOW, 50);
            let mut taken = BTreeSet::new();
            for (stamp, now, mark) in steps {
                if replay.take(at(stamp), [mark; 32], at(now)).is_ok() {
                    prop_assert!(taken.insert((stamp, mark)));
                }
                prop_assert!(replay.len() <= 50);
            }
        }
    }
}
