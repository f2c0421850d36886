//! The time in an initiation: what makes a recorded one worthless.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A label of TAI64N (cr.yp.to/libtai/tai64.html): seconds, 8 bytes, and nanoseconds, 4 bytes, big-endian, so labels compare as their bytes
/// do. A receiver asks of one only that it is greater than the sender's last; what it says of the time is the sender's affair.
///
/// Linux rounds its own down to about 16.8 ms: two handshakes that a host begins at once, with two keys of ours, may have the same.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tai64n(pub [u8; 12]);

impl Tai64n {
    /// 1970-01-01 00:00:00 UTC: 2^62, and the 10 s that TAI was ahead then. Leap seconds since are not counted, as Linux does it.
    const EPOCH: u64 = (1 << 62) + 10;
    const NANOS: u32 = 1_000_000_000;
    /// Nanoseconds to which our own clock is rounded down, so that a label tells nobody how it runs (whitepaper section 5.1: peers take at
    /// most 50 initiations a second anyway).
    const GRAIN: u32 = 1 << 24;
    /// Before any other.
    pub const NEVER: Self = Self([0; 12]);

    /// The label of a moment, given as time since 1970 (UTC).
    pub fn at(clock: Duration) -> Self {
        Self::from_parts(Self::EPOCH.saturating_add(clock.as_secs()), clock.subsec_nanos())
    }

    /// As [`Tai64n::at`]: seconds since 1970, and nanoseconds, 0 to 999,999,999.
    pub fn from_unix(seconds: u64, nanos: u32) -> Self {
        Self::from_parts(Self::EPOCH.saturating_add(seconds), nanos)
    }

    /// The label of an initiation of ours: of a moment, given as time since 1970, and later than `last` in any case. A key that several
    /// machines share must never go back, whatever their clocks say, or peers refuse its initiations.
    pub fn after(last: Self, clock: Duration) -> Self {
        let rounded = Duration::new(clock.as_secs(), clock.subsec_nanos() & !(Self::GRAIN - 1));
        Self::at(rounded).max(last.next())
    }

    /// The least that is greater by a nanosecond. The greatest of all has none, and stays.
    #[must_use]
    pub fn next(self) -> Self {
        let (seconds, nanos) = self.parts();
        match nanos.checked_add(1).filter(|nanos| *nanos < Self::NANOS) {
            Some(nanos) => Self::from_parts(seconds, nanos),
            None => seconds.checked_add(1).map_or(Self([0xff; 12]), |seconds| Self::from_parts(seconds, 0)),
        }
    }

    /// The label of a moment so much later. One that is no time of ours stays as it is.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        self.since_1970().map_or(self, |since| Self::at(since.saturating_add(time)))
    }

    /// One that is less, with nothing of ours between; [`Tai64n::NEVER`] has none, and stays.
    #[must_use]
    pub fn before(self) -> Self {
        let (seconds, nanos) = self.parts();
        match nanos.checked_sub(1) {
            Some(nanos) => Self::from_parts(seconds, nanos),
            None => seconds.checked_sub(1).map_or(Self::NEVER, |seconds| Self::from_parts(seconds, u32::MAX)),
        }
    }

    /// Time since 1970 (UTC), if it is after that and its nanoseconds are some.
    pub fn since_1970(self) -> Option<Duration> {
        let (seconds, nanos) = self.parts();
        let seconds = seconds.checked_sub(Self::EPOCH)?;
        (nanos < Self::NANOS).then(|| Duration::new(seconds, nanos))
    }

    fn from_parts(seconds: u64, nanos: u32) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        Self(bytes)
    }

    fn parts(self) -> (u64, u32) {
        let [a, b, c, d, e, f, g, h, nanos @ ..] = self.0;
        (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes(nanos))
    }
}

impl fmt::Debug for Tai64n {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As labels are written.
        let number = self.0.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        write!(f, "@{number:024x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn time_begins_ten_seconds_into_1970() {
        assert_eq!(Tai64n::from_unix(0, 0).0, [0x40, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0]);
        assert_eq!(Tai64n::from_unix(1, 2).0, [0x40, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0, 0, 2]);
        assert_eq!(Tai64n::at(Duration::new(7, 8)), Tai64n::from_unix(7, 8));
    }

    #[test]
    fn the_next_carries_into_the_seconds() {
        assert_eq!(Tai64n::from_unix(1, 5).next(), Tai64n::from_unix(1, 6));
        assert_eq!(Tai64n::from_unix(1, 999_999_999).next(), Tai64n::from_unix(2, 0));
        assert_eq!(Tai64n([0xff; 12]).next(), Tai64n([0xff; 12]));
    }

    #[test]
    fn our_own_are_rounded_and_never_go_back() {
        let clock = Duration::new(1_700_000_000, 999_999_999);
        let label = Tai64n::after(Tai64n::NEVER, clock);
        assert_eq!(format!("{label:?}"), "@400000006553f10a3b000000");
        let next = Tai64n::after(label, clock);
        assert_eq!(format!("{next:?}"), "@400000006553f10a3b000001");
        assert!(Tai64n::after(next, Duration::ZERO) > next, "a clock that was set back");
        let full = Tai64n(*b"\x40\0\0\0\0\0\0\x01\x3b\x9a\xc9\xff");
        assert_eq!(&full.next().0, b"\x40\0\0\0\0\0\0\x02\0\0\0\0");
    }

    proptest! {
        #[test]
        fn every_one_of_ours_is_later_than_the_last(last in 0u64..4_000_000_000, nanos in 0u32..Tai64n::NANOS, clock in 0u64..4_000_000_000) {
            let last = Tai64n::after(Tai64n::NEVER, Duration::new(last, nanos));
            prop_assert!(Tai64n::after(last, Duration::from_secs(clock)) > last);
        }

        #[test]
        fn later_is_greater_and_next_is_greater(a in 0u64..1 << 60, b in 0u64..1 << 60, odd: [u8; 12]) {
            let (earlier, later) = (Duration::from_nanos(a.min(b)), Duration::from_nanos(a.max(b)));
            prop_assert_eq!(Tai64n::at(earlier).cmp(&Tai64n::at(later)), earlier.cmp(&later));
            prop_assert_eq!(Tai64n::at(earlier).since_1970(), Some(earlier));
            let odd = Tai64n(odd);
            prop_assert!(odd.next() > odd || odd.0[..8] == [0xff; 8]);
            prop_assert!(odd.before() < odd || odd == Tai64n::NEVER);
            prop_assert!(Tai64n::at(later).before() < Tai64n::at(later));
        }
    }
}
