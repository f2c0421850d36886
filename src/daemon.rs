//! What the daemons of all roles share: one process per role and directory, its sockets, the reconcile loop, and a
//! successor that takes over without a gap.
//!
//! ```text
//!  signals ------+
//!  netlink ------+--> run() --- Role::reconcile() --> kernel
//!  timer --------+      |
//!  successor ----+      +--> sockets: RUNTIME_DIR/ROLE.sock (API, 0660), admin (TCP, read only), ROLE.takeover (0600)
//! ```

pub mod answer;
pub mod bell;
pub mod carrier;
pub mod client;
pub mod failed;
mod fdstore;
pub mod flow_log;
pub mod http;
pub mod key_file;
pub mod keyring;
pub mod meter;
pub mod names;
pub mod over;
pub mod page;
pub mod pulse;
pub mod realtime;
pub mod reconcile;
pub mod rights;
pub mod serve;
pub mod sockets;
pub mod state_file;
pub mod store;
pub mod succession;

use crate::kernel::{Kernel, Watch};
use crate::plan::{State, plan};
use anyhow::Context;
use axum::Router;
use fdstore::FdStore;
use names::Names;
use pulse::Pulse;
use reconcile::{Report, Role};
use serve::Shared;
use sockets::Sockets;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Store;
use succession::{Estate, Heir, Sole};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Changes that come in a burst are looked at together after this long.
const SETTLE: Duration = Duration::from_millis(20);
/// The kernel is read anew after this long even if nothing was announced.
const RESYNC: Duration = Duration::from_secs(30);
/// What failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Where a daemon lives.
pub struct Place {
    pub runtime_dir: PathBuf,
    pub admin: SocketAddr,
    /// By which that is called.
    pub names: Names,
}

/// Serves a role until a signal or a successor ends it. What stands in the kernel is left standing either way.
pub async fn run<R: Role>(mut role: R, place: Place, routes: impl Fn(Arc<Shared<R>>) -> Router) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    rights::check()?;
    std::fs::create_dir_all(&place.runtime_dir).with_context(|| format!("cannot make `runtime_dir` {}", place.runtime_dir.display()))?;
    let (store, mut inherited) = FdStore::open();
    let mut estate = Estate::ask(&place.runtime_dir, R::NAME)?;
    if let Some(estate) = &mut estate {
        inherited.append(&mut estate.descriptors);
    }
    let kernel = Arc::new(Kernel::open(&place.runtime_dir).await?);
    let watch = kernel.watch().await?;
    // Not before: until it hands over, a predecessor does what callers ask.
    role.take_up_stored()?;
    role.start(&kernel, &mut inherited).await?;
    let succeeds = estate.is_some();
    let stopped = estate.as_mut().map_or(Ok(false), Estate::carrying)?;
    if stopped {
        role.carry()?;
    }
    if let Some(estate) = estate {
        estate.gone()?;
    }
    let _sole = Sole::claim(&place.runtime_dir, R::NAME)?;
    if !stopped {
        role.carry()?;
    }
    if succeeds {
        role.succeed().await?;
    }
    let sockets = Sockets::open(&place.runtime_dir, R::NAME, place.admin, &mut inherited)?;
    drop(inherited);
    let shared = Arc::new(Shared::new(role, kernel, place.names));
    let now = Instant::now();
    let mut server = Server { shared: shared.clone(), watch, sockets, store, pulse: Pulse::new(now), look: now, due: None };
    let mut heirs = server.sockets.heirs()?;
    let mut ready = false;
    loop {
        // Whoever calls earlier waits: there is nothing yet to attach to.
        server.settle().await?;
        let serving = server.sockets.serve(shared.clone(), routes(shared.clone()))?;
        if !std::mem::replace(&mut ready, true) {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        }
        let heir = server.until_end(&mut signals, &mut heirs).await?;
        let mut successor = None;
        // Calls in hand are answered first; whoever connects from now on is the next process's to answer.
        serving.finish().await;
        let mut role = shared.role.lock().await;
        if heir.is_some() {
            role.write_down().await;
        }
        match heir {
            None => {
                tracing::info!("stopping; what was set up goes on standing (--teardown removes it)");
                tokio::select! {
                    () = role.retire() => {}
                    // Asked again, it ends at once.
                    () = signals.end() => {}
                }
            }
            Some(heir) => match heir.hand_over(server.descriptors(&*role)?).await {
                Ok(waiting) => {
                    tracing::info!("handed over to a successor");
                    successor = Some(waiting);
                }
                Err(error) => {
                    tracing::error!("the takeover failed, going on: {error:#}");
                    continue;
                }
            },
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        role.stop().await;
        if let Some(successor) = successor {
            successor.stopped();
        }
        return Ok(ExitCode::SUCCESS);
    }
}

/// 0 to 1, for waits that many begin at once. Without random numbers the longest is taken.
pub fn jitter() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, hup: signal(SignalKind::hangup())? })
    }

    /// Either of those that end a daemon.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

struct Server<R> {
    shared: Arc<Shared<R>>,
    watch: Watch,
    sockets: Sockets,
    store: FdStore,
    pulse: Pulse,
    /// When to look at the kernel even if nothing happens.
    look: Instant,
    /// When the role wants to go on.
    due: Option<Instant>,
}

impl<R: Role> Server<R> {
    /// Keeps the kernel as it should be, until there is a reason to end: a successor, or (none) a signal.
    async fn until_end(&mut self, signals: &mut Signals, heirs: &mut mpsc::Receiver<Heir>) -> anyhow::Result<Option<Heir>> {
        loop {
            tokio::select! {
                _ = signals.term.recv() => return Ok(None),
                _ = signals.int.recv() => return Ok(None),
                heir = heirs.recv() => return heir.map(Some).context("the takeover socket closed"),
                _ = signals.hup.recv() => self.reload().await,
                changed = self.watch.next() => {
                    changed?;
                    // The rest of the burst; a fixed window, so that a flood of changes cannot put the repair off.
                    tokio::time::sleep(SETTLE).await;
                    self.watch.forget();
                }
                () = self.shared.again.notified() => {}
                () = tokio::time::sleep_until(self.look.into()) => {}
                () = until(self.due) => if !self.advance().await { continue },
            }
            self.settle().await?;
        }
    }

    /// One pass, and what follows from it.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let report = self.shared.reconcile().await;
        let role = self.shared.role.lock().await;
        let now = Instant::now();
        self.look = now + if report.settled() { self.pulse.at_least_every(RESYNC) } else { RETRY };
        self.due = role.due().map(|due| next(now, report.settled(), due));
        let descriptors = self.descriptors(&*role)?;
        drop(role);
        self.store.keep(&descriptors);
        // Whether all of it could be done or not: what fails is tried again, and starting anew mends none of it.
        self.pulse.beat(now);
        Ok(())
    }

    /// Whether a pass is wanted.
    async fn advance(&mut self) -> bool {
        let mut role = self.shared.role.lock().await;
        let wanted = role.advance(&self.shared.kernel);
        self.due = role.due().map(|due| next(Instant::now(), true, due));
        wanted
    }

    /// What the next process goes on with.
    fn descriptors(&self, role: &R) -> anyhow::Result<BTreeMap<String, OwnedFd>> {
        let mut all = self.sockets.descriptors()?;
        all.append(&mut role.descriptors()?);
        Ok(all)
    }

    async fn reload(&self) {
        let outcome = self.shared.role.lock().await.reload();
        match &outcome {
            Ok(()) => tracing::info!("configuration read anew"),
            Err(refused) => tracing::error!("the configuration on disk is not taken up, the old one stays in force:\n{}", refused.why),
        }
        self.shared.has_read(outcome.err());
    }
}

/// Waits until then; for ever, if nothing is due.
pub async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// When to go on with what is due then. It may be long past, as the pass in which it was to be seen to has failed: that waits as other failures do.
fn next(now: Instant, settled: bool, due: Instant) -> Instant {
    if settled || due > now { due.max(now + SETTLE) } else { now + RETRY }
}

impl Report {
    fn log(&self) {
        tracing::debug!(took = ?self.took, steps = self.steps.len(), "looked at the kernel");
        for step in &self.steps {
            tracing::info!("{step}");
        }
        for failure in &self.failures {
            tracing::error!("{failure}");
        }
    }
}

/// Removes everything that Portway set up here, with what callers had asked for, and gives settings their former values
/// back. Refused beside a running daemon, which would set all of it up again.
pub async fn teardown<R: Role>(runtime_dir: &Path) -> anyhow::Result<ExitCode> {
    rights::check()?;
    std::fs::create_dir_all(runtime_dir)?;
    let _sole = Sole::claim(runtime_dir, R::NAME)?;
    let kernel = Kernel::open(runtime_dir).await?;
    let observed = kernel.observe(&BTreeSet::new()).await?;
    let steps = plan(&State::default(), &observed).steps;
    let failures = kernel.apply(&steps).await;
    failures.iter().for_each(|failure| tracing::error!("{failure}"));
    let forgotten = Store::<()>::clear(runtime_dir, R::KEEPS).with_context(|| format!("cannot remove the stored {}", R::KEEPS))?;
    Store::<()>::clear(runtime_dir, carrier::remembered::KEEPS).context("cannot remove what was written down of WireGuard peers")?;
    println!("removed {} of {} things", forgotten + steps.len() - failures.len(), forgotten + steps.len());
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_and_has_failed_waits_as_other_failures_do() {
        let now = Instant::now();
        assert_eq!([now, now - RESYNC].map(|due| next(now, false, due)), [now + RETRY; 2]);
        assert_eq!([now - RESYNC, now, now + SETTLE / 2].map(|due| next(now, true, due)), [now + SETTLE; 3]);
        assert_eq!([true, false].map(|settled| next(now, settled, now + 2 * SETTLE)), [now + 2 * SETTLE; 2]);
    }
}
