//! What is ordered, and what has come of it.

use std::time::{Duration, Instant};

/// An order is a level (so many nodes), so giving it twice does nothing. It stands until another is given.
#[derive(Debug, Clone)]
pub struct Orders {
    pub ordered: u32,
    pub last: Option<Change>,
    /// What whoever runs the nodes last said was ordered.
    told: u32,
    /// The serial of the last order, until it is answered.
    awaited: Option<u64>,
    repeat_at: Option<Instant>,
    /// How often in a row it was not taken.
    pub refused: u32,
    /// Since when as many carry traffic as are ordered.
    complete: Option<Instant>,
}

/// The last time that another number was ordered, or adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub at: Instant,
    pub nodes: u32,
    /// Than before.
    pub fewer: bool,
}

/// How long whoever runs the nodes may show what was ordered before.
const SETTLE: Duration = Duration::from_secs(60);
/// An order that was not taken is repeated after this, then after twice as long each time.
const FIRST_REPEAT: Duration = Duration::from_secs(2);

impl Orders {
    /// `told` is what whoever runs the nodes says; `last` the last change before a restart. One of just now stands and is ordered once more, as it
    /// may not have gone out; of an older one only the cooldown is left, as somebody may have ordered otherwise meanwhile. `alone`: nobody else orders, so an older one
    /// stands too, unless it is for fewer.
    pub fn new(now: Instant, told: u32, last: Option<Change>, alone: bool) -> Self {
        let is_recent = |change: &Change| now.saturating_duration_since(change.at) <= SETTLE;
        let stands = last.filter(|change| is_recent(change) || alone && change.nodes > told);
        let ordered = stands.map_or(told, |change| change.nodes);
        let repeat_at = stands.map(|_| now);
        Self { ordered, last, told, awaited: None, repeat_at, refused: 0, complete: None }
    }

    pub fn give(&mut self, now: Instant, ordered: u32) {
        self.change(now, ordered);
        self.repeat_at = Some(now + SETTLE);
    }

    /// It has gone out as this.
    pub fn sent(&mut self, serial: u64) {
        self.awaited = Some(serial);
    }

    /// What whoever runs the nodes says is ordered, and how many carry traffic. What is new by somebody else's doing, if anything is.
    pub fn hear(&mut self, now: Instant, told: u32, serving: u32) -> Option<u32> {
        let before = std::mem::replace(&mut self.told, told);
        let settled = self.since_change(now).is_none_or(|since| since > SETTLE);
        let adopted = (told != before && told != self.ordered && settled).then_some(told);
        if adopted.is_some() {
            self.change(now, told);
            self.awaited = None;
        }
        if told == self.ordered {
            (self.repeat_at, self.refused) = (None, 0);
        } else {
            self.repeat_at.get_or_insert(now + SETTLE);
        }
        if serving < self.ordered {
            self.complete = None;
        } else {
            self.complete.get_or_insert(now);
        }
        adopted
    }

    fn change(&mut self, now: Instant, ordered: u32) {
        let fewer = ordered < self.ordered;
        self.complete = self.complete.filter(|_| fewer);
        self.last = Some(Change { at: now, nodes: ordered, fewer });
        (self.ordered, self.refused) = (ordered, 0);
    }

    /// What became of an order. Whether it is the latest, and has not been answered yet; another changes nothing.
    pub fn answer(&mut self, now: Instant, serial: u64, taken: bool) -> bool {
        if self.awaited != Some(serial) {
            return false;
        }
        self.awaited = None;
        if taken {
            self.refused = 0;
        } else {
            let wait = FIRST_REPEAT * 2u32.saturating_pow(self.refused.min(8));
            self.refused = self.refused.saturating_add(1);
            self.repeat_at = Some(now + wait.min(SETTLE));
        }
        true
    }

    /// What is ordered is not taken, and so many, fewer, are.
    pub fn granted(&self) -> Option<u32> {
        (self.refused > 0 && self.told < self.ordered).then_some(self.told)
    }

    /// Whether it has to be given once more.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.told != self.ordered && self.repeat_at.is_some_and(|at| at <= now);
        if due {
            self.repeat_at = Some(now + SETTLE);
        }
        due
    }

    pub fn since_change(&self, now: Instant) -> Option<Duration> {
        self.last.map(|change| now.saturating_duration_since(change.at))
    }

    /// Whether all that are ordered carry traffic, and have for so long.
    pub fn complete_for(&self, now: Instant, long: Duration) -> bool {
        self.complete.is_some_and(|since| now.saturating_duration_since(since) >= long)
    }
}
