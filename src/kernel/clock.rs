//! The machine's clock, as far as somebody keeps it right.

use libc::{STA_UNSYNC, c_int, c_long};

/// What the kernel has been told of the clock (adjtimex(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// A daemon says how far it may be off, and that it is not far.
    Kept,
    /// A daemon says how far it may be off, and lets it count as unsynchronised: chrony without `rtcsync`, as the kernel would set the hardware's clock too
    /// (chrony.conf(5)).
    Unmarked,
    /// Nobody says so, or did long ago.
    Unkept,
}

/// Microseconds. The kernel adds 500 each second to what a daemon said last, up to this and no further (`NTP_PHASE_LIMIT` in include/linux/timex.h).
const UNKNOWN: c_long = 16_000_000;

/// None: the kernel does not say.
pub fn keeping() -> Option<Keeping> {
    // SAFETY: `timex` is numbers and nothing else, for which zero is a value; modes = 0 asks and sets nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a timex, which is alive during the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then(|| judged(state.status, state.maxerror))
}

/// `error`: how far it may be off, microseconds.
fn judged(status: c_int, error: c_long) -> Keeping {
    match (status & STA_UNSYNC == 0, error < UNKNOWN) {
        (true, _) => Keeping::Kept,
        (false, true) => Keeping::Unmarked,
        (false, false) => Keeping::Unkept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_whose_error_is_known_is_kept_whatever_its_mark_says() {
        assert_eq!(judged(libc::STA_PLL, 17_288), Keeping::Kept);
        assert_eq!(judged(STA_UNSYNC, 17_288), Keeping::Unmarked);
        assert_eq!(judged(STA_UNSYNC, UNKNOWN - 1), Keeping::Unmarked);
        assert_eq!(judged(STA_UNSYNC | libc::STA_PLL, UNKNOWN), Keeping::Unkept, "as after a boot or a step");
    }
}
