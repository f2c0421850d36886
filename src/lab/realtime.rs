//! A thread that measures must not wait for those it measures.

use std::io;

/// Puts the calling thread under SCHED_FIFO at a priority of 1 to 99; needs CAP_SYS_NICE.
pub fn this_thread(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: 0 is the calling thread, and the structure lives through the call.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
