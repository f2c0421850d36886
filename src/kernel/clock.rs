//! The machine's clock, as far as somebody keeps it right.

/// Whether a daemon such as chrony tells the kernel how far the clock may be off, and that it is not far (adjtimex(2): STA_UNSYNC is not set). None: the
/// kernel does not say.
pub fn is_kept() -> Option<bool> {
    // SAFETY: `timex` is numbers and nothing else, for which zero is a value; modes = 0 asks and sets nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a timex, which is alive during the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then_some(state.status & libc::STA_UNSYNC == 0)
}
