//! Processes of a lab: they end when the lab's process does, even if that is killed.

use super::cleanup;
use super::error::{During, Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    pidfd: OwnedFd,
    /// The lab ends it.
    owned: bool,
}

/// Whether a process ends with the lab's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    WithLab,
    /// Until someone ends it: a daemon of `portway lab up`, in a session of its own.
    Own,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path, life: Life) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log).during(format!("open {}", log.display()))?;
        let errors = output.try_clone().during("share a log file")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        bind_life(&mut command, life);
        let mut child = by_spawner(command).during(format!("start {name}"))?;
        let pidfd = pidfd(child.id()).inspect_err(|_| drop(child.kill())).during(format!("watch {name}"))?;
        let owned = life == Life::WithLab;
        if owned {
            cleanup::child(child.id());
        }
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child, pidfd, owned })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits for the end of the process; `None` when `within` passes first.
    pub fn wait(&mut self, within: Duration) -> Result<Option<ExitStatus>> {
        if !wait_readable(&self.pidfd, within).during(format!("wait for {}", self.name))? {
            return Ok(None);
        }
        let status = self.child.wait().during(format!("wait for {}", self.name))?;
        cleanup::forget_child(self.child.id());
        Ok(Some(status))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).during(format!("send {signal} to {}", self.name))
    }

    /// SIGTERM, and SIGKILL when it is still there after `grace`.
    pub fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.wait(Duration::ZERO)? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        if let Some(status) = self.wait(grace)? {
            return Ok(status);
        }
        self.signal(Signal::SIGKILL)?;
        let status = self.child.wait().during(format!("wait for {}", self.name))?;
        cleanup::forget_child(self.child.id());
        Ok(status)
    }

    /// An error when it has ended, with the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.wait(Duration::ZERO)? {
            None => Ok(()),
            Some(status) => Err(Error::Died { what: self.name.clone(), status, log: self.log.clone(), tail: self.tail() }),
        }
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.owned && self.child.kill().is_ok() {
            let _ = self.child.wait();
        }
        cleanup::forget_child(self.child.id());
    }
}

/// Calls `ready` until it says true; between calls it waits a few milliseconds. `what` is for the error.
pub fn poll_until(what: &str, within: Duration, ready: impl FnMut() -> Result<bool>) -> Result<()> {
    poll_every(Duration::from_millis(3), what, within, ready)
}

/// As [`poll_until`], where asking disturbs what is measured meanwhile: between calls it waits for `pause`.
pub fn poll_every(pause: Duration, what: &str, within: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    while !ready()? {
        if Instant::now() >= deadline {
            return Err(Error::Late { what: what.to_owned(), after: within, detail: String::new() });
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

/// Waits until a process that need not be a child has ended; true when it has. Ending it is the caller's affair.
pub fn wait_for_pid(pid: u32, within: Duration) -> io::Result<bool> {
    match pidfd(pid) {
        Ok(fd) => wait_readable(&fd, within),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(true),
        Err(e) => Err(e),
    }
}

fn wait_readable(fd: &OwnedFd, within: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis().min(60_000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() || Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers; a result that is not negative is a descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}

fn bind_life(command: &mut Command, life: Life) {
    // Ctrl-C at the terminal is for the lab, which ends its processes itself.
    let parent = Pid::this();
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            if life == Life::WithLab {
                set_pdeathsig(Signal::SIGKILL)?;
                if getppid() != parent {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            Ok(())
        });
    }
}

/// The parent-death signal fires when the *thread* that forked ends, so one thread that never ends does all the forking.
fn by_spawner(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).expect("the spawner lives as long as the process");
    child.recv().expect("the spawner answers every job")
}
