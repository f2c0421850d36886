//! What goes wrong in a row.

use super::super::actuator::backoff;
use std::collections::BTreeMap;
use std::time::Duration;

/// Since the last that was good.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Calls that failed, looks that found none free, races that were lost.
    pub count: u32,
    pub last: Option<String>,
    /// How often each kind.
    kinds: BTreeMap<&'static str, u32>,
}

impl Trouble {
    /// Once more: how long to wait.
    pub fn wait(&mut self, limits: (Duration, Duration), jitter: f64) -> Duration {
        let wait = backoff(limits, self.count, jitter);
        self.count = self.count.saturating_add(1);
        wait
    }

    /// How often it was this, 1 the first time. Of another kind people want to hear, though trouble is not new.
    pub fn row(&mut self, kind: &'static str, text: String) -> u32 {
        self.last = Some(text);
        let row = self.kinds.entry(kind).or_default();
        *row = row.saturating_add(1);
        *row
    }
}
