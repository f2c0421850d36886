//! The highest of a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The highest number of the last so long. Numbers that a later one is at least as high as are forgotten, so what is kept falls from the front to the back.
#[derive(Debug, Clone)]
pub struct Peak<T> {
    kept: VecDeque<(Instant, T)>,
    /// Since when all is known, and when the last number was.
    since: Option<(Instant, Instant)>,
}

impl<T> Default for Peak<T> {
    fn default() -> Self {
        Self { kept: VecDeque::new(), since: None }
    }
}

impl<T: PartialOrd + Copy> Peak<T> {
    /// After a gap longer than this part of the time, nobody knows how high it was: it begins anew.
    const GAP: u32 = 10;

    pub fn push(&mut self, now: Instant, number: T, window: Duration) {
        let since = self.since.filter(|(_, last)| now.saturating_duration_since(*last) <= window / Self::GAP);
        let since = since.map_or(now, |(since, _)| since);
        // What is forgotten is not known for a longer time either.
        self.since = Some((now.checked_sub(window).map_or(since, |kept| since.max(kept)), now));
        while self.kept.back().is_some_and(|(_, before)| *before <= number) {
            self.kept.pop_back();
        }
        self.kept.push_back((now, number));
        while self.kept.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > window) {
            self.kept.pop_front();
        }
    }

    pub fn highest(&self) -> Option<T> {
        self.kept.front().map(|(_, number)| *number)
    }

    /// How long it takes until the whole time is known.
    pub fn missing(&self, now: Instant, window: Duration) -> Duration {
        self.since.map_or(window, |(since, _)| window.saturating_sub(now.saturating_duration_since(since)))
    }

    /// How long it takes until the highest is lower than this, if nothing as high comes.
    pub fn until_lower(&self, now: Instant, window: Duration, than: T) -> Duration {
        let last = self.kept.iter().rev().find(|(_, number)| *number >= than);
        last.map_or(Duration::ZERO, |(at, _)| window.saturating_sub(now.saturating_duration_since(*at)))
    }
}
