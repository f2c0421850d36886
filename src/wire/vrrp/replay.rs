//! What makes a recorded advertisement worthless: sequence numbers that are times, and a memory of the last one of each sender.

use super::Discard;
use std::time::Duration;

/// When an advertisement was made: seconds since 1970 (32 bits), 1/65,536 s (16 bits), and a counter (16 bits) for those made
/// at once. A sender that restarts goes on from its clock, so nothing has to be kept on a disk.
///
/// Compared as RFC 1982 compares serial numbers, so the year 2106 is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence(u64);

impl Sequence {
    /// The first number of this moment, given as time since 1970 (UTC).
    pub fn at(clock: Duration) -> Sequence {
        let fraction = (u64::from(clock.subsec_nanos()) << 16) / 1_000_000_000;
        // The low 32 bits of the seconds are meant.
        Sequence((clock.as_secs() << 32) | (fraction << 16))
    }

    /// The number after this one: the clock's, or the next if the clock stands or has gone back a little. After the clock has
    /// been set back by more than the window, receivers would refuse everything from us: then the clock's.
    #[must_use]
    pub fn next(self, clock: Duration, freshness: Freshness) -> Sequence {
        let now = Sequence::at(clock);
        let strayed = match freshness {
            Freshness::Within(window) => self.distance(now) > window,
            Freshness::Growing => false,
        };
        if now.is_after(self) || strayed { now } else { Sequence(self.0.wrapping_add(1)) }
    }

    pub fn is_after(self, other: Sequence) -> bool {
        // Serial number arithmetic: the difference, read as signed.
        self.0.wrapping_sub(other.0).cast_signed() > 0
    }

    /// How far apart in time.
    pub fn distance(self, other: Sequence) -> Duration {
        let apart = self.0.wrapping_sub(other.0).cast_signed().unsigned_abs();
        let fraction = ((apart & 0xffff_ffff) * 1_000_000_000) >> 32;
        Duration::from_secs(apart >> 32) + Duration::from_nanos(fraction)
    }

    /// By how much the moment of this number is later than the other's: microseconds, negative if it is earlier.
    pub fn later_than(self, other: Sequence) -> i64 {
        // Half of what 32 bits of seconds hold, as microseconds, is far less than 63 bits.
        ((i128::from(self.0.wrapping_sub(other.0).cast_signed()) * 1_000_000) >> 32) as i64
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 8]) -> Sequence {
        Sequence(u64::from_be_bytes(bytes))
    }
}

/// What a receiver asks of sequence numbers beside that they grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// They are at most this far from our clock: 1 s to 5 min, 5 s unless there is a reason. A recording is worthless afterwards, even for a
    /// receiver that has just started. Clocks that differ by more silence a peer: two Actives.
    Within(Duration),
    /// Nothing. For machines whose clocks cannot be trusted. A receiver that has just started takes any recording once; a sender whose
    /// clock was set back is not heard until it has caught up.
    Growing,
}

/// What was heard of one sender. Strictly growing: an advertisement that was overtaken by a later one is out of date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replay {
    last: Option<Sequence>,
}

impl Replay {
    /// Whether the sequence is near enough to our clock (time since 1970). Needs no HMAC yet, as it only refuses.
    pub fn is_fresh(sequence: Sequence, clock: Duration, freshness: Freshness) -> Result<(), Discard> {
        match freshness {
            Freshness::Within(window) if sequence.distance(Sequence::at(clock)) > window => Err(Discard::Stale),
            Freshness::Within(_) | Freshness::Growing => Ok(()),
        }
    }

    /// Takes the sequence number of a verified packet, once.
    pub fn accept(&mut self, sequence: Sequence, clock: Duration, freshness: Freshness) -> Result<(), Discard> {
        Self::is_fresh(sequence, clock, freshness)?;
        // A mark outside of the window refuses only what the window refuses too, and its sender after its clock was mended.
        let last = self.last.filter(|last| Self::is_fresh(*last, clock, freshness).is_ok());
        if last.is_some_and(|last| !sequence.is_after(last)) {
            return Err(Discard::Replayed);
        }
        self.last = Some(sequence);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
