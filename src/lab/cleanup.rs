//! What must not outlive an interrupted lab: its children and its directory. The namespaces go by themselves.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

#[derive(Default)]
struct Held {
    children: BTreeSet<u32>,
    dirs: BTreeSet<PathBuf>,
}

static HELD: Mutex<Held> = Mutex::new(Held { children: BTreeSet::new(), dirs: BTreeSet::new() });

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(super) fn child(pid: u32) {
    held().children.insert(pid);
}

pub(super) fn forget_child(pid: u32) {
    held().children.remove(&pid);
}

pub(super) fn dir(path: &Path) {
    held().dirs.insert(path.to_owned());
}

pub(super) fn forget_dir(path: &Path) {
    held().dirs.remove(path);
}

/// On SIGINT, SIGTERM or SIGHUP: ends the lab's processes, removes its directory and exits with 128 + the signal.
/// For programs, not for libraries: call it once, before the lab is built.
pub fn on_interrupt() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut int, mut term, mut hup) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::spawn(move || {
        let signal = runtime.block_on(async {
            tokio::select! { _ = int.recv() => libc::SIGINT, _ = term.recv() => libc::SIGTERM, _ = hup.recv() => libc::SIGHUP }
        });
        clean();
        std::process::exit(128 + signal);
    });
    Ok(())
}

fn clean() {
    // Held to the end: whoever starts or makes something more waits for it, for ever.
    let held = held();
    for pid in held.children.iter().map(|pid| Pid::from_raw(pid.cast_signed())) {
        // Not yet waited for, so the number is still this child's.
        let _ = kill(pid, Signal::SIGKILL);
        // Another thread may have been waiting for it too, and been first.
        let _ = waitpid(pid, None);
    }
    for dir in &held.dirs {
        // A file may be added to it meanwhile by our own threads; they are few, and soon at the lock.
        (0..10).find(|_| std::fs::remove_dir_all(dir).is_ok() || !dir.exists());
    }
}
