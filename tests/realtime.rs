//! The thread whose timers must not be late, and the memory of its process. Needs root, as the daemon needs its capabilities.

use nix::errno::Errno;
use portway::daemon::realtime::{lock_memory, realtime};
use std::fs;
use std::process::Command;
use std::thread;

/// The scheduling policy in a `stat` file: field 41 of proc_pid_stat(5), counted from behind the name, which is field 2.
fn policy(stat: &str) -> i32 {
    let fields = stat.rsplit(')').next().expect("a name");
    fields.split_whitespace().nth(38).and_then(|field| field.parse().ok()).unwrap_or_else(|| panic!("{stat}"))
}

fn own() -> i32 {
    policy(&fs::read_to_string("/proc/thread-self/stat").expect("proc"))
}

#[test]
fn a_thread_is_realtime_and_what_it_starts_is_not() {
    let inside = || {
        realtime(10).expect("root");
        assert_eq!(own(), libc::SCHED_FIFO);
        assert_eq!(thread::spawn(own).join().unwrap(), libc::SCHED_OTHER, "a thread of it");
        let child = Command::new("cat").arg("/proc/self/stat").output().expect("cat").stdout;
        assert_eq!(policy(&String::from_utf8(child).unwrap()), libc::SCHED_OTHER, "a process of it");
        assert_eq!((realtime(0), realtime(100)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
    };
    thread::spawn(inside).join().unwrap();
    assert_ne!(own(), libc::SCHED_FIFO, "another thread");
}

#[test]
fn memory_is_locked_and_what_is_only_reserved_costs_nothing() {
    let kib = |key: &str| {
        let status = fs::read_to_string("/proc/self/status").expect("proc");
        let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key} in {status}"));
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    lock_memory().expect("root");
    let before = kib("VmRSS:");
    let within = thread::Builder::new().stack_size(1 << 30).spawn(move || (kib("VmRSS:"), kib("VmLck:"))).unwrap().join().unwrap();
    assert!(within.1 >= 1 << 20, "its stack of 1 GiB is not under the lock: {within:?} KiB");
    assert!(within.0 < before + (64 << 10), "{within:?} KiB, before {before}");
}
