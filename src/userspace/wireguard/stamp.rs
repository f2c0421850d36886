//! The time that an initiation carries, so that none counts twice: TAI64N, 12 bytes (<https://cr.yp.to/libtai/tai64.html>).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Seconds that 1970-01-01 00:00:00 UTC is in TAI64, as WireGuard's peers count.
const EPOCH: u64 = 0x4000_0000_0000_000a;

/// Nanoseconds to which the clock is rounded down, so that a stamp tells nobody how our clock runs (whitepaper section 5.1: peers take
/// at most 50 initiations a second anyway).
const GRAIN: u32 = 1 << 24;

const SECOND: u32 = 1_000_000_000;

/// A TAI64N time; later ones are greater.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp([u8; 12]);

impl Stamp {
    pub const LEN: usize = 12;
    /// Before any other.
    pub const NEVER: Stamp = Stamp([0; 12]);

    pub fn new(bytes: [u8; 12]) -> Stamp {
        Stamp(bytes)
    }

    pub fn bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// The stamp of a time since 1970, and later than `last` in any case: a key that several machines share must never go back, whatever
    /// their clocks say, or peers refuse its initiations.
    pub fn after(last: Stamp, wall: Duration) -> Stamp {
        let now = Stamp::of(EPOCH.saturating_add(wall.as_secs()), wall.subsec_nanos() & !(GRAIN - 1));
        now.max(last.next())
    }

    fn of(seconds: u64, nanos: u32) -> Stamp {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        Stamp(bytes)
    }

    fn next(self) -> Stamp {
        let [a, b, c, d, e, f, g, h, nanos @ ..] = self.0;
        let seconds = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        match u32::from_be_bytes(nanos) + 1 {
            nanos if nanos < SECOND => Stamp::of(seconds, nanos),
            _ => Stamp::of(seconds.saturating_add(1), 0),
        }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        write!(f, "@{number:024x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_clock_is_rounded_and_never_goes_back() {
        let wall = Duration::new(1_700_000_000, 999_999_999);
        let stamp = Stamp::after(Stamp::NEVER, wall);
        assert_eq!(format!("{stamp:?}"), "@400000006553f10a3b000000");
        let next = Stamp::after(stamp, wall);
        assert_eq!(format!("{next:?}"), "@400000006553f10a3b000001");
        assert!(Stamp::after(next, Duration::ZERO) > next, "a clock that was set back");
        let full = Stamp::new(*b"\x40\0\0\0\0\0\0\x01\x3b\x9a\xc9\xff");
        assert_eq!(full.next().bytes(), b"\x40\0\0\0\0\0\0\x02\0\0\0\0");
    }

    proptest! {
        #[test]
        fn every_stamp_is_later_than_the_last(last in 0u64..4_000_000_000, nanos in 0u32..SECOND, wall in 0u64..4_000_000_000) {
            let last = Stamp::after(Stamp::NEVER, Duration::new(last, nanos));
            prop_assert!(Stamp::after(last, Duration::from_secs(wall)) > last);
        }
    }
}
