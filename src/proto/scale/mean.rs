//! A mean of the last while.

use std::time::{Duration, Instant};

/// What is a minute old counts for a third of what is now, and so on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mean {
    sum: f64,
    weight: f64,
    /// The first value and the last.
    times: Option<(Instant, Instant)>,
}

const FADES: f64 = 60.0;

impl Mean {
    pub fn add(&mut self, now: Instant, value: f64) {
        let (first, last) = self.times.unwrap_or((now, now));
        let stays = (-now.saturating_duration_since(last).as_secs_f64() / FADES).exp();
        self.sum = self.sum * stays + value;
        self.weight = self.weight * stays + 1.0;
        self.times = Some((first, now));
    }

    /// None: there is no value.
    pub fn get(&self) -> Option<f64> {
        self.times.map(|_| self.sum / self.weight)
    }

    /// From the first value to the last.
    pub fn over(&self) -> Duration {
        self.times.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }
}
