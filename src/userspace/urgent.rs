//! Threads that carry packets go before what else there is to do.

use nix::errno::Errno;

/// Between ordinary (0) and most urgent (-20): on a machine whose processors are all taken, what is 0 gets a thirtieth of what this gets.
pub const PACKETS: libc::c_int = -15;
/// What packets wait for, behind them.
pub const COPIES: libc::c_int = -10;

/// Lets the calling thread, and it alone, run before ordinary ones. Not realtime: a flood must not starve what could end it.
///
/// # Errors
/// `EACCES` without `CAP_SYS_NICE` or a `LimitNICE`.
pub fn urgent(nice: libc::c_int) -> Result<(), Errno> {
    // SAFETY: takes numbers only. Of the kernel's own call 0 is the calling thread, where the C library's is said to be of a process.
    let result = unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) };
    Errno::result(result).map(drop)
}
