//! How many nodes there were.

use std::collections::VecDeque;
use std::time::SystemTime;

/// Changes of the number of nodes that are remembered.
const CHANGES: usize = 256;

/// The number of nodes from each time on.
///
/// "One more" is one more than there were when the alert began to fire. So it asks for the same number as long as it fires, however often it is sent and
/// however many nodes there are by now; several such alerts of one moment ask for one node together. If that one node does not help, the alert goes
/// on to fire and asks for no other: for more, write `portway_nodes`, or rules for more than one height of load. An alert that began before the history
/// (this process began later) asks for what there was in the beginning: that nothing is taken away, as nobody knows whether its node is there already.
#[derive(Debug, Default)]
pub struct History {
    /// The oldest first.
    changes: VecDeque<(SystemTime, u32)>,
}

impl History {
    /// There are this many nodes now. To be told after every look at them.
    pub fn note(&mut self, now: SystemTime, nodes: u32) {
        if self.changes.back().is_some_and(|(_, last)| *last == nodes) {
            return;
        }
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back((now, nodes));
    }

    /// None: nobody has said yet how many there are.
    pub fn one_more(&self, since: SystemTime) -> Option<u32> {
        let (_, first) = self.changes.front()?;
        let then = self.changes.iter().rev().find(|(from, _)| *from <= since);
        Some(then.map_or(*first, |(_, nodes)| nodes.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn wall(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn one_more_is_of_when_it_began() {
        let mut history = History::default();
        assert_eq!(history.one_more(wall(100)), None, "nobody knows yet how many there are");
        history.note(wall(0), 2);
        history.note(wall(200), 3);
        history.note(wall(300), 3);
        assert_eq!(history.one_more(wall(100)), Some(3), "two when it began; the third is there by now");
        assert_eq!(history.one_more(wall(200)), Some(4));
        assert_eq!(history.one_more(wall(1_000_000)), Some(4), "a clock ahead: the present three and one");
    }

    #[test]
    fn what_began_before_the_history_holds_what_there_was() {
        let mut history = History::default();
        history.note(wall(1000), 5);
        history.note(wall(1100), 6);
        assert_eq!(history.one_more(wall(100)), Some(5));
    }

    #[test]
    fn a_long_history_forgets_its_beginning() {
        let mut history = History::default();
        for i in 0..1000u32 {
            history.note(wall(u64::from(i) + 1), 3 + i % 2);
        }
        assert_eq!(history.changes.len(), CHANGES);
        assert!(history.one_more(wall(0)).is_some_and(|nodes| nodes <= 4));
    }
}
