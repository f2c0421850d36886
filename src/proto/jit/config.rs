//! Waiting times and sizes.

use crate::proto::rate::Rate;
use std::time::Duration;

/// Everything that is remembered or waits is bounded by one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// What a source may send that proves to be garbage. What proves genuine is given back, so hosts behind one address are not limited by it.
    pub per_source: Rate,
    /// Steps of public-key cryptography, first and second, of all sources together. One takes some 40 µs of a processor.
    pub steps: Rate,
    /// Sources that are remembered.
    pub sources: usize,
    /// Initiations that are remembered so as not to be looked at twice.
    pub repeats: usize,
    /// Initiations that wait for the first step.
    pub backlog: usize,
    /// Steps that are out at once: a few for each worker. They are done in the order in which they were given out, whoever comes meanwhile.
    pub at_work: usize,
    /// Initiations that wait for the directory or the second step.
    pub waiting: usize,
    /// Look-ups that are out at once.
    pub look_ups: usize,
    /// And of one source. 64 sources with 3 each leave a quarter of 256 to others.
    pub look_ups_per_source: usize,
    /// From a look-up to when a stale entry serves, if there is one.
    pub serve_stale: Duration,
    /// From a look-up to when it counts as failed.
    pub give_up: Duration,
    /// How long an answer is as good as a new one.
    pub fresh: Duration,
    /// How long it serves while the directory is away.
    pub stale: Duration,
    /// Answers that are remembered.
    pub known: usize,
    /// How long a key stays unknown without another look-up.
    pub unknown: Duration,
    /// How long a look-up that failed is not tried again.
    pub retry: Duration,
    /// Unknown keys that are remembered.
    pub unknowns: usize,
    /// From the last sign of a peer to its end.
    pub idle: Duration,
    /// Peers at all interfaces together.
    pub peers: usize,
    /// Keys whose last timestamp is remembered, of peers and of those that were.
    pub stamps: usize,
}

impl Default for Config {
    fn default() -> Self {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        Self {
            per_source: Rate { per_second: 10, burst: 64 },
            steps: Rate { per_second: 10_000, burst: 256 },
            sources: 65_536,
            repeats: 65_536,
            backlog: 4096,
            at_work: 16,
            waiting: 8192,
            look_ups: 256,
            look_ups_per_source: 3,
            serve_stale: ms(200),
            give_up: s(15),
            fresh: s(60),
            stale: s(24 * 3600),
            known: 65_536,
            unknown: s(10),
            retry: s(1),
            unknowns: 65_536,
            idle: s(300),
            peers: 1 << 20,
            stamps: 1 << 20,
        }
    }
}
