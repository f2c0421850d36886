//! A thread whose timers are not late when the machine is busy, in a process that is not paged out.

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// Lets the calling thread, and it alone, run before all that is not realtime (`SCHED_FIFO`). Threads and processes that it
/// starts are ordinary again (`SCHED_RESET_ON_FORK`). Priority: 1 to 99.
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE` or a `LimitRTPRIO` of that priority (or where the control group has no share of realtime), `EINVAL` for
/// another priority.
pub fn realtime(priority: u8) -> Result<(), Errno> {
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // The calling thread, whatever the C library thinks of it (musl refuses).
    let this = 0;
    // SAFETY: the kernel reads a sched_param, which is alive during the call, and writes nothing.
    let result = unsafe {
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        libc::syscall(libc::SYS_sched_setscheduler, this, policy, std::ptr::from_ref(&parameters))
    };
    Errno::result(result).map(drop)
}

/// Keeps what this process has in memory, now and later, from being paged out; memory that was reserved and never touched, such as
/// stacks, is not filled for that.
///
/// # Errors
/// `EPERM` without `CAP_IPC_LOCK` and with any limit (`LimitMEMLOCK=infinity` lifts it): under one, memory could not be had any more
/// when it is reached.
pub fn lock_memory() -> Result<(), Errno> {
    let may = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_IPC_LOCK).unwrap_or(false);
    if !may && getrlimit(Resource::RLIMIT_MEMLOCK)?.0 != RLIM_INFINITY {
        return Err(Errno::EPERM);
    }
    // SAFETY: takes flags only; what it changes is when pages are written out, not what is in them.
    let result = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    Errno::result(result).map(drop)
}
