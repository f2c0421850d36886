//! The connections of a shard, copied from its Active to a Backup while they live.
//!
//! One [`Sender`] for each Backup of a shard, one [`Receiver`] for each shard of which this node is a Backup.
//!
//! ```text
//!   Sender                                   Receiver
//!     | hello n ------------------------------> |        nothing is kept while nobody answers
//!     | <------------------ welcome n, nonce R  |
//!     | data 1: begin, listed ... ------------> |        a list of all flows, paced, with
//!     | data 2: upsert, listed, destroy ------> |        changes among it as they happen
//!     | data 3 ------------------x              |
//!     | heartbeat 4 --------------------------> |
//!     | <--------------- ack 2, missing 3 to 4  |
//!     | data 3, data 4 -----------------------> |
//!     | ... end ------------------------------> |        what was neither listed nor told of is gone: in sync
//! ```
//! Data is numbered, kept in a ring until acknowledged, and applied in order. When the ring is full, or the receiver silent, the sender
//! forgets it all and says hello again; when the kernel has lost notices, it lists again. Because traffic renews the timeouts of
//! flows without a notice, it lists again from time to time anyhow.
//!
//! **Replay.** A nonce is offered by the receiver for one session only and never twice, starting at random: data of an earlier
//! session, or to an earlier life of the receiver, has another. A welcome counts only as the answer to the latest hello.
//!
//! **WireGuard peers** travel beside the flows: where each was heard last, and its latest stamp ([`Peers`]). They are few, and known without a look at the kernel.
//!
//! **Order between list and changes.** A list is no picture of one moment: it may hold a flow whose end is told before the entry
//! arrives. While a list runs, what was told of a flow stands against what the list says of it.

mod destinations;
mod ledger;
mod peers;
mod receiver;
mod sender;
mod stream;
mod table;

pub use ledger::Ledger;
pub use peers::Peers;
pub use receiver::{Receiver, ReceiverConfig, ReceiverCounters, ReceiverEffect};
pub use sender::{Sender, SenderConfig, SenderCounters, SenderEffect};

use crate::wire::seal::Seal;
use crate::wire::sync::{Header, Kind, MAX};
use std::time::{Duration, Instant};

/// Waiting times and sizes.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Between hellos.
    pub hello: Duration,
    /// From the first change in a datagram until it goes, full or not.
    pub flush: Duration,
    /// Between heartbeats while something is not acknowledged: how soon a lost last datagram is noticed.
    pub heartbeat_busy: Duration,
    /// Between heartbeats otherwise.
    pub heartbeat_idle: Duration,
    /// From the last sign of the other side until it counts as gone.
    pub silence: Duration,
    /// From the end of a list to the next. Well below [`crate::model::Flow::HELD`].
    pub relist: Duration,
    /// Datagrams that are kept until acknowledged: 1.4 kB each, some 50 changes.
    pub ring: usize,
    /// Datagrams in flight beyond which the list waits; a default socket buffer holds some 90.
    pub window: usize,
    /// Flows listed in a second.
    pub list_rate: u32,
    /// The oldest change that is not acknowledged may be this old, and the two sides still count as in sync.
    pub lag: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            hello: ms(200),
            flush: ms(1),
            heartbeat_busy: ms(10),
            heartbeat_idle: ms(100),
            silence: ms(1000),
            relist: ms(60_000),
            ring: 8192,
            window: 48,
            list_rate: 200_000,
            lag: ms(100),
        }
    }
}

/// How long things took: counts by upper bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lags {
    /// Counts for each of [`Lags::BOUNDS`], and for what took longer.
    pub counts: [u64; Self::BOUNDS.len() + 1],
    /// Of all of them.
    pub sum: Duration,
}

impl Lags {
    /// Milliseconds.
    pub const BOUNDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

    fn count(&mut self, lag: Duration) {
        let place = Self::BOUNDS.iter().position(|bound| lag <= Duration::from_millis(*bound));
        self.counts[place.unwrap_or(Self::BOUNDS.len())] += 1;
        self.sum = self.sum.saturating_add(lag);
    }
}

/// Tells one list of all flows from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListId(u64);

/// Why something stands in the list of deadlines.
pub type Deadline = (Instant, &'static str);

fn earliest(deadlines: impl IntoIterator<Item = Option<Deadline>>) -> Option<Deadline> {
    deadlines.into_iter().flatten().min_by_key(|(at, _)| *at)
}

fn micros(now: Instant, epoch: Instant) -> u64 {
    now.saturating_duration_since(epoch).as_micros() as u64
}

fn datagram(header: Header) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(MAX);
    header.write(&mut datagram);
    datagram
}

/// What may be read of a datagram: sealed with our key, of our stream, and of a kind that the other side sends.
fn opened<'d>(seal: &Seal, stream: u64, kinds: &[Kind], datagram: &'d [u8], refused: &mut Refusals) -> Option<(Header, &'d [u8])> {
    let Some(content) = seal.open(datagram) else {
        refused.forged += 1;
        return None;
    };
    match Header::parse(content) {
        Ok((header, body)) if header.stream == stream && kinds.contains(&header.kind) => Some((header, body)),
        _ => {
            refused.misfit += 1;
            None
        }
    }
}

/// Datagrams that were not taken, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// The tag is wrong or missing.
    pub forged: u64,
    /// The tag is right, but it is another stream, version or direction, or cannot be read.
    pub misfit: u64,
    /// Of another session than the current one: late, or replayed.
    pub stale: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Too far ahead to be kept.
    pub early: u64,
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
