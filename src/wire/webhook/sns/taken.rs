//! Messages that were acted on.

use crate::wire::webhook::Refusal;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// What tells a message from all others, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    at: SystemTime,
    /// Of the MessageId.
    digest: [u8; 32],
}

impl Id {
    pub(super) fn new(at: SystemTime, message_id: &str) -> Self {
        Self { at, digest: Sha256::digest(message_id).into() }
    }
}

/// Those of the last `window`, and at most `limit` of them. A message counts for `window` after its own time and as long before it.
///
/// Nothing counts that is not later than what was forgotten, so neither a flood nor a clock that is set back makes anything new.
#[derive(Debug)]
pub struct Taken {
    window: Duration,
    limit: usize,
    ids: BTreeSet<Id>,
    forgotten: Option<SystemTime>,
}

impl Taken {
    pub fn new(window: Duration, limit: usize) -> Self {
        Self { window, limit, ids: BTreeSet::new(), forgotten: None }
    }

    /// Whether a message of this time may count.
    pub fn in_time(&self, at: SystemTime, now: SystemTime) -> Result<(), Refusal> {
        let window = self.window;
        match now.duration_since(at) {
            Ok(age) if age > window => Err(Refusal::Stale { age, window }),
            Err(early) if early.duration() > window => Err(Refusal::Early { ahead: early.duration(), window }),
            Ok(_) | Err(_) if self.forgotten.is_some_and(|forgotten| at <= forgotten) => Err(Refusal::Forgotten),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub fn contains(&self, id: &Id) -> bool {
        self.ids.contains(id)
    }

    pub fn insert(&mut self, id: Id, now: SystemTime) {
        self.ids.insert(id);
        let oldest = now.checked_sub(self.window);
        while let Some(first) = self.ids.first()
            && (self.ids.len() > self.limit || oldest.is_some_and(|oldest| first.at < oldest))
        {
            self.forgotten = self.forgotten.max(Some(first.at));
            self.ids.pop_first();
        }
    }

    pub fn len(&self) -> usize {
        self.ids.len()
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

    fn id(time: u64, name: &str) -> Id {
        Id::new(at(time), name)
    }

    #[test]
    fn what_was_taken_is_known_as_long_as_it_may_come_again() {
        let mut taken = Taken::new(WINDOW, 10);
        taken.insert(id(1000, "a"), at(1000));
        assert!(taken.contains(&id(1000, "a")) && !taken.contains(&id(1000, "b")) && !taken.contains(&id(1001, "a")));
        taken.insert(id(1300, "b"), at(1300));
        assert!(taken.contains(&id(1000, "a")), "to the last second of its window");
        assert_eq!(taken.in_time(at(1000), at(1300)), Ok(()));
        taken.insert(id(1301, "c"), at(1301));
        assert!(!taken.contains(&id(1000, "a")) && taken.len() == 2);
        let age = Duration::from_secs(301);
        assert_eq!(taken.in_time(at(1000), at(1301)), Err(Refusal::Stale { age, window: WINDOW }));
        assert_eq!(taken.in_time(at(1602), at(1301)), Err(Refusal::Early { ahead: age, window: WINDOW }));
        assert_eq!(taken.in_time(at(1000), at(1000)), Err(Refusal::Forgotten), "a clock that is set back makes nothing new");
    }

    #[test]
    fn a_flood_makes_room_for_itself_and_makes_nothing_new() {
        let mut taken = Taken::new(WINDOW, 2);
        for (time, name) in [(10, "a"), (11, "b"), (12, "c")] {
            taken.insert(id(time, name), at(12));
        }
        assert_eq!(taken.len(), 2);
        assert_eq!(taken.in_time(at(10), at(12)), Err(Refusal::Forgotten));
        assert_eq!(taken.in_time(at(11), at(12)), Ok(()));
        assert_eq!(taken.in_time(at(12), at(12)), Ok(()));
    }

    proptest! {
        /// Whatever the clock does.
        #[test]
        fn nothing_is_taken_twice(steps in proptest::collection::vec((0u64..2000, 0u64..2000, 0u8..4), 0..200)) {
            let mut taken = Taken::new(WINDOW, 50);
            let mut counted = BTreeSet::new();
            for (stamp, now, name) in steps {
                let id = id(stamp, &name.to_string());
                if taken.in_time(at(stamp), at(now)).is_ok() && !taken.contains(&id) {
                    taken.insert(id, at(now));
                    prop_assert!(counted.insert((stamp, name)));
                }
                prop_assert!(taken.len() <= 50);
            }
        }
    }
}
