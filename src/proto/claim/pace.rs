//! How many calls a second a cloud takes: found out, as it tells nobody.

use crate::proto::rate::{Bucket, Rate};
use std::time::{Duration, Instant};

/// As many as wanted, until it says that they are too many; then a little fewer each time, and more again with each that is taken, and as many as wanted when it has
/// not said so for [`LATELY`].
#[derive(Debug)]
pub struct Pace {
    bucket: Bucket,
    most: u32,
    /// A second; now.
    rate: f64,
    slowed: Option<Instant>,
}

const LEAST: f64 = 2.0;
/// What is left of the rate.
const SLOWER: f64 = 0.8;
/// For each call that is taken, calls a second.
const FASTER: f64 = 0.5;
/// Calls that were made together are refused together, and mean the same.
const TOGETHER: Duration = Duration::from_millis(500);
const LATELY: Duration = Duration::from_secs(30);
/// A rate that lasts for this long may be used at once.
const BURST: f64 = 1.0;

impl Pace {
    /// `most`: calls a second, 1 or more.
    pub fn new(bucket: Bucket, most: u32) -> Self {
        Self { bucket, most, rate: f64::from(most), slowed: None }
    }

    pub fn take(&mut self, now: Instant) -> bool {
        self.bucket.take(now, self.rate_at(now))
    }

    /// From when on a call may be made.
    pub fn ready(&self, now: Instant) -> Instant {
        self.bucket.ready(now, self.rate_at(now))
    }

    pub fn slower(&mut self, now: Instant) {
        if self.slowed.is_none_or(|at| at + TOGETHER <= now) {
            let rate = if self.is_slowed(now) { self.rate } else { f64::from(self.most) };
            self.slowed = Some(now);
            self.rate = (rate * SLOWER).max(LEAST.min(f64::from(self.most)));
        }
    }

    pub fn faster(&mut self) {
        self.rate = (self.rate + FASTER).min(f64::from(self.most));
    }

    /// Whether calls were too many lately.
    pub fn is_slowed(&self, now: Instant) -> bool {
        self.slowed.is_some_and(|at| now < at + LATELY)
    }

    /// Whoever was told long ago that they are too many knows nothing of today.
    fn rate_at(&self, now: Instant) -> Rate {
        let most = f64::from(self.most);
        let (rate, burst) = if self.is_slowed(now) { (self.rate, 1.0) } else { (most, most * BURST) };
        Rate { per_second: rate as u32, burst: burst as u32 }
    }
}
