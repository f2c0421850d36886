//! One process after another, without a packet lost: the successor gets the descriptors of the running process, starts
//! to read, says so, and only then does the old one stop.
//!
//! ```text
//! successor                         predecessor
//!    | ---- connects ------------------> |  stops reconciling
//!    | <--- descriptors (SCM_RIGHTS) --- |
//!    |  starts its data path             |
//!    | ---- "carrying\n" --------------> |  stops its data path, having sent on what it had read
//!    | <--- "stopped\n" ---------------- |  has left its sessions where a successor finds them
//!    |  goes on with the sessions        |
//!    | <--- end of stream -------------- |  gone
//!    |  reconciles, serves               x
//! ```
//! What has sessions (WireGuard) reads nothing before "stopped": packets wait in the queues of sockets and devices. If the stream ends without it, the
//! successor waits until it is the only one.
//! A lock file sees to it that there are never two who reconcile.

use super::sockets::takeover_path;
use crate::userspace::handover;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Neither side waits longer for the other's next word.
const PATIENCE: Duration = Duration::from_secs(30);
/// A process that was killed while it started another (`nft`) leaves it its descriptors until that one has begun.
const REMAINS: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const CARRYING: &[u8] = b"carrying\n";
const STOPPED: &[u8] = b"stopped\n";

/// The right to be the one process of this role in this directory, as long as it is held.
#[derive(Debug)]
pub struct Sole {
    _lock: Flock<std::fs::File>,
}

impl Sole {
    pub fn claim(runtime_dir: &Path, role: &str) -> anyhow::Result<Self> {
        let path = runtime_dir.join(format!("{role}.lock"));
        let file = std::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let deadline = Instant::now() + REMAINS;
        let mut attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        loop {
            match attempt {
                Ok(lock) => return Ok(Self { _lock: lock }),
                Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                    std::thread::sleep(LOOK_AGAIN);
                    attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
                }
                Err((_, error)) => {
                    bail!(
                        "another `portway {role}` holds {} ({error}): end it, or give this one a `runtime_dir` of its own",
                        path.display()
                    )
                }
            }
        }
    }
}

/// What a running process has handed over, and the way to tell it that we carry on.
#[derive(Debug)]
pub struct Estate {
    pub descriptors: BTreeMap<String, OwnedFd>,
    stream: UnixStream,
}

impl Estate {
    /// Asks the running process of this role, if there is one.
    pub fn ask(runtime_dir: &Path, role: &str) -> anyhow::Result<Option<Self>> {
        let Ok(stream) = UnixStream::connect(takeover_path(runtime_dir, role)) else { return Ok(None) };
        match Self::receive(stream) {
            Ok(estate) => Ok(Some(estate)),
            // Nobody was there: the socket was a killed process's, and for a moment its child's.
            Err(error) => Sole::claim(runtime_dir, role).map(|_| None).map_err(|_| error),
        }
    }

    fn receive(stream: UnixStream) -> anyhow::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let descriptors =
            handover::receive(&stream).context("the running process did not hand over; stop it, then start this one again")?;
        Ok(Self { descriptors, stream })
    }

    /// We are ready to carry the traffic: waits until the other carries it no more. Whether it has said so; if not, it may have ended otherwise.
    pub fn carrying(&mut self) -> anyhow::Result<bool> {
        self.stream
            .write_all(CARRYING)
            .context("the running process gave up waiting for this one and goes on; start again when the machine is less busy")?;
        let mut word = [0; STOPPED.len()];
        match self.stream.read_exact(&mut word) {
            Ok(()) => Ok(word == STOPPED),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error).context("the running process did not stop after handing over"),
        }
    }

    /// Waits until the other is gone.
    pub fn gone(mut self) -> anyhow::Result<()> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).context("the running process did not end after handing over")?;
        Ok(())
    }
}

/// A successor that has asked.
#[derive(Debug)]
pub struct Heir {
    stream: UnixStream,
}

impl Heir {
    /// Gives it everything and waits for its word.
    pub async fn hand_over(self, descriptors: BTreeMap<String, OwnedFd>) -> anyhow::Result<Successor> {
        tokio::task::spawn_blocking(move || {
            let mut stream = self.stream;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            handover::send(&stream, &descriptors)?;
            let mut word = [0; CARRYING.len()];
            stream.read_exact(&mut word).context("the successor took the descriptors and said nothing")?;
            Ok(Successor { stream })
        })
        .await?
    }
}

/// A successor that has everything and waits for our end.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
}

impl Successor {
    /// Our data path has stopped. The end of the stream tells that we are gone, so it is leaked to the end of the process.
    pub fn stopped(mut self) {
        if let Err(error) = self.stream.write_all(STOPPED) {
            tracing::warn!("the successor was not told that it may go on ({error}): it will notice");
        }
        std::mem::forget(self.stream);
    }
}

/// Successors that connect, one at a time. Only root and our own user may ask.
pub fn listen(listener: UnixListener) -> anyhow::Result<mpsc::Receiver<Heir>> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = stream.into_std() else { continue };
            let uid = getsockopt(&stream, PeerCredentials).map(|who| who.uid());
            if uid != Ok(0) && uid != Ok(nix::unistd::getuid().as_raw()) {
                tracing::warn!("a process of another user asked to take over and was refused");
                continue;
            }
            if sender.send(Heir { stream }).await.is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}
