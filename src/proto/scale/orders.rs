//! What is ordered, and what has come of it.

use std::time::{Duration, Instant};

/// An order is a level (so many nodes), so giving it twice does nothing. It stands until another is given.
#[derive(Debug, Clone)]
pub struct Orders {
    pub ordered: u32,
    /// When it was given or adopted.
    changed: Option<Instant>,
    /// The last change was to fewer.
    pub fewer: bool,
    /// What whoever runs the nodes last said was ordered.
    told: u32,
    repeat_at: Option<Instant>,
    /// How often in a row it was not taken.
    pub refused: u32,
    /// Since when as many carry traffic as are ordered.
    complete: Option<Instant>,
}

/// How long whoever runs the nodes may show what was ordered before.
const SETTLE: Duration = Duration::from_secs(60);
/// An order that was not taken is repeated after this, then after twice as long each time.
const FIRST_REPEAT: Duration = Duration::from_secs(2);

impl Orders {
    pub fn new(told: u32) -> Self {
        Self { ordered: told, changed: None, fewer: false, told, repeat_at: None, refused: 0, complete: None }
    }

    pub fn give(&mut self, now: Instant, ordered: u32) {
        self.change(now, ordered);
        self.repeat_at = Some(now + SETTLE);
    }

    /// What whoever runs the nodes says is ordered, and how many carry traffic. What is new by somebody else's doing, if anything is.
    pub fn hear(&mut self, now: Instant, told: u32, serving: u32) -> Option<u32> {
        let before = std::mem::replace(&mut self.told, told);
        let settled = self.since_change(now).is_none_or(|since| since > SETTLE);
        let adopted = (told != before && told != self.ordered && settled).then_some(told);
        if adopted.is_some() {
            self.change(now, told);
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
        self.fewer = ordered < self.ordered;
        self.complete = self.complete.filter(|_| self.fewer);
        (self.ordered, self.changed, self.refused) = (ordered, Some(now), 0);
    }

    pub fn taken(&mut self) {
        self.refused = 0;
    }

    pub fn not_taken(&mut self, now: Instant) {
        let wait = FIRST_REPEAT * 2u32.saturating_pow(self.refused.min(8));
        self.refused = self.refused.saturating_add(1);
        self.repeat_at = Some(now + wait.min(SETTLE));
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
        self.changed.map(|at| now.saturating_duration_since(at))
    }

    /// Whether all that are ordered carry traffic, and have for so long.
    pub fn complete_for(&self, now: Instant, long: Duration) -> bool {
        self.complete.is_some_and(|since| now.saturating_duration_since(since) >= long)
    }
}
