//! A `portway gateway` or `portway host` in a node: started, awaited, restarted.

use super::error::{During, Error, Result};
use super::http;
use super::netns::Netns;
use super::process::{Life, Process};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A daemon has this long to become ready, and its predecessor to leave: an emulated machine takes its time.
const READY: Duration = Duration::from_secs(120);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Gateway,
    Host,
}

impl Role {
    fn subcommand(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Host => "host",
        }
    }

    fn socket(self) -> &'static str {
        match self {
            Role::Gateway => "gateway.sock",
            Role::Host => "host.sock",
        }
    }
}

/// What it takes to start a daemon, again and again.
#[derive(Debug, Clone)]
pub struct Launch {
    pub node: String,
    pub role: Role,
    pub netns: Netns,
    pub portway: PathBuf,
    pub config: PathBuf,
    pub runtime_dir: PathBuf,
    pub log: PathBuf,
    pub life: Life,
}

#[derive(Debug)]
pub struct Daemon {
    launch: Launch,
    process: Process,
    /// It has been asked to leave.
    leaving: bool,
}

impl Daemon {
    /// Starts it; [`Daemon::await_ready`] is separate so that many can start at once.
    pub fn start(launch: Launch) -> Result<Self> {
        let process = start(&launch)?;
        Ok(Self { launch, process, leaving: false })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn role(&self) -> Role {
        self.launch.role
    }

    pub fn socket(&self) -> PathBuf {
        self.launch.runtime_dir.join(self.launch.role.socket())
    }

    pub fn config(&self) -> &Path {
        &self.launch.config
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until `/readyz` at its socket answers 200.
    pub fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY;
        let socket = self.socket();
        loop {
            let answer = http::unix(&socket, "GET", "/readyz", None);
            if matches!(&answer, Ok(a) if a.status == 200) {
                return Ok(());
            }
            self.process.check_alive()?;
            if Instant::now() >= deadline {
                let last = match answer {
                    Ok(a) => format!("{} {}", a.status, a.body.trim()),
                    Err(e) => e.to_string(),
                };
                let detail = format!(" (GET /readyz at {}: {last}); the end of its log:\n{}", socket.display(), self.process.tail());
                return Err(Error::Late { what: format!("{}, ready", self.launch.node), after: READY, detail });
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Starts a successor with the same configuration beside it, and waits until the old one has left by itself, with
    /// exit status 0, and the new one is ready.
    pub fn restart(&mut self) -> Result<()> {
        let successor = start(&self.launch)?;
        let mut old = std::mem::replace(&mut self.process, successor);
        let deadline = Instant::now() + READY;
        let status = loop {
            if let Some(status) = old.wait(Duration::from_millis(50))? {
                break status;
            }
            self.process.check_alive()?;
            if Instant::now() >= deadline {
                let detail = format!("; the end of the log:\n{}", old.tail());
                return Err(Error::Late { what: format!("the end of {}'s former daemon", self.launch.node), after: READY, detail });
            }
        };
        if !status.success() {
            return Err(Error::Died {
                what: format!("{}'s former daemon", self.launch.node),
                status,
                log: old.log().into(),
                tail: old.tail(),
            });
        }
        self.await_ready()
    }

    /// SIGTERM, which leaves what stands in the kernel standing.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(GRACE).map(drop)
    }

    /// Starts again after its end.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = start(&self.launch)?;
        self.leaving = false;
        self.await_ready()
    }

    /// Starts another program in the place of one that has ended, and waits until it is ready.
    pub fn start_other(&mut self, portway: &Path) -> Result<()> {
        self.launch.portway = portway.to_owned();
        self.start_again()
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.process.wait(GRACE).map(drop)
    }

    /// SIGSTOP: it hangs, until [`Daemon::revive`].
    pub fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGTERM, without waiting for anything.
    pub fn terminate(&mut self) -> Result<()> {
        self.leaving = true;
        self.signal(Signal::SIGTERM)
    }

    /// Waits until it has left by itself; `None` when `within` passes first.
    pub fn left(&mut self, within: Duration) -> Result<Option<std::process::ExitStatus>> {
        self.process.wait(within)
    }

    /// However it is, afterwards it runs and is ready.
    pub fn revive(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)?;
        if self.leaving {
            self.stop()?;
        }
        if self.process.wait(Duration::ZERO)?.is_some() { self.start_again() } else { self.await_ready() }
    }

    /// It will start in another namespace.
    pub(super) fn move_to(&mut self, netns: Netns) {
        self.launch.netns = netns;
    }

    /// Nothing, when it is gone already.
    fn signal(&mut self, signal: Signal) -> Result<()> {
        match self.process.wait(Duration::ZERO)? {
            Some(_) => Ok(()),
            None => self.process.signal(signal),
        }
    }
}

fn start(launch: &Launch) -> Result<Process> {
    std::fs::create_dir_all(&launch.runtime_dir).during(format!("create {}", launch.runtime_dir.display()))?;
    let mut command = launch.netns.command(&launch.portway);
    command.arg(launch.role.subcommand()).arg("--config").arg(&launch.config).current_dir("/");
    Process::spawn(&format!("{} {}", launch.role.subcommand(), launch.node), command, &launch.log, launch.life)
}
