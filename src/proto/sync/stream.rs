//! What the sender knows of one session.

use super::{ListId, Tuning};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Stream {
    pub nonce: u64,
    /// Of the datagram that is being filled.
    pub sequence: u64,
    pub batch: Vec<u8>,
    /// When the first record was put into the batch; none: it is empty.
    pub since: Option<Instant>,
    /// Sent and not acknowledged, oldest first, without a gap.
    pub ring: VecDeque<Sent>,
    pub heartbeat: Instant,
    pub heard: Instant,
    pub list: List,
    pub synced: Synced,
    /// Flows that may be listed now; below zero after a large piece.
    pub tokens: i64,
    pub refilled: Instant,
    pub round_trip: Option<Duration>,
}

#[derive(Debug)]
pub struct Sent {
    pub bytes: Bytes,
    /// When its first record was put in.
    pub since: Instant,
    pub again: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Running {
        id: ListId,
        /// Notices were lost since it began: another one must follow.
        again: bool,
    },
    Resting {
        until: Instant,
        /// Notices were lost that no list has made up for.
        lossy: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    No,
    /// When this sequence is acknowledged.
    With(u64),
    Yes,
}

impl Stream {
    pub fn refill(&mut self, now: Instant, tuning: &Tuning) {
        let gained = now.saturating_duration_since(self.refilled).as_micros() as i64 * i64::from(tuning.list_rate) / 1_000_000;
        if gained > 0 {
            self.tokens = (self.tokens + gained).min(tuning.burst());
            self.refilled = now;
        }
    }

    /// When there is something to spend again; none: there still is, or the window is what the list waits for.
    pub fn tokens_at(&self, tuning: &Tuning) -> Option<Instant> {
        let missing = (tuning.burst() / 2).max(1) - self.tokens;
        let wait = Duration::from_micros((missing.max(0) * 1_000_000 / i64::from(tuning.list_rate.max(1))) as u64);
        (self.tokens <= 0 && self.ring.len() < tuning.window).then(|| self.refilled + wait.max(Duration::from_micros(1)))
    }
}

impl Tuning {
    /// Flows that may be listed in one go: what ten milliseconds allow.
    pub fn burst(&self) -> i64 {
        i64::from(self.list_rate / 100).max(1)
    }
}
