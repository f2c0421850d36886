//! What the daemons of all roles share: one process per role and directory, its sockets, the reconcile loop, and a
//! successor that takes over without a gap.
//!
//! ```text
//!  signals ------+
//!  netlink ------+--> run() --- Role::reconcile() --> kernel
//!  timer --------+      |
//!  successor ----+      +--> sockets: RUNTIME_DIR/ROLE.sock (API, 0660), admin (TCP, read only), ROLE.takeover (0600)
//! ```

pub mod carrier;
pub mod reconcile;
pub mod serve;
pub mod sockets;
pub mod store;
pub mod succession;

use crate::kernel::Kernel;
use crate::plan::{State, plan};
use anyhow::Context;
use axum::Router;
use reconcile::{Report, Role};
use serve::Shared;
use sockets::Sockets;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use succession::{Estate, Heir, Sole};
use tokio::signal::unix::{SignalKind, signal};

/// Changes that come in a burst are looked at together after this long.
const SETTLE: Duration = Duration::from_millis(20);
/// The kernel is read anew after this long even if nothing was announced.
const RESYNC: Duration = Duration::from_secs(30);
/// What failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Why a daemon stops.
enum End {
    Signal,
    Heir(Heir),
}

/// Where a daemon lives and what it offers besides what all offer.
pub struct Place {
    pub runtime_dir: PathBuf,
    pub admin: SocketAddr,
}

/// Serves a role until a signal or a successor ends it. What stands in the kernel is left standing either way.
pub async fn run<R: Role>(mut role: R, place: Place, routes: impl FnOnce(Arc<Shared<R>>) -> Router) -> anyhow::Result<ExitCode> {
    let (mut term, mut int, mut hup) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    std::fs::create_dir_all(&place.runtime_dir).with_context(|| format!("cannot make `runtime_dir` {}", place.runtime_dir.display()))?;
    let mut estate = Estate::ask(&sockets::takeover_path(&place.runtime_dir, R::NAME))?;
    let mut inherited = estate.as_mut().map(|estate| std::mem::take(&mut estate.descriptors)).unwrap_or_default();
    let kernel = Kernel::open(&place.runtime_dir).await?;
    let mut watch = kernel.watch().await?;
    role.start(&kernel, &mut inherited).await?;
    if let Some(estate) = estate {
        estate.carrying()?;
    }
    let _sole = Sole::claim(&place.runtime_dir, R::NAME)?;
    let sockets = Sockets::open(&place.runtime_dir, R::NAME, place.admin, &mut inherited)?;
    drop(inherited);
    let shared = Arc::new(Shared::new(role, kernel));
    let mut heirs = sockets.serve(shared.clone(), routes(shared.clone()))?;
    let mut next = reconcile_now(&shared).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let end = loop {
        tokio::select! {
            _ = term.recv() => break End::Signal,
            _ = int.recv() => break End::Signal,
            _ = hup.recv() => {
                reload(&shared).await;
                next = reconcile_now(&shared).await;
            }
            heir = heirs.recv() => match heir {
                Some(heir) => break End::Heir(heir),
                None => anyhow::bail!("the takeover socket closed"),
            },
            changed = watch.next() => {
                changed?;
                // The rest of the burst; a fixed window, so that a flood of changes cannot put the repair off.
                tokio::time::sleep(SETTLE).await;
                watch.forget();
                next = reconcile_now(&shared).await;
            }
            () = tokio::time::sleep_until(next.into()) => next = reconcile_now(&shared).await,
        }
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    match end {
        End::Signal => {
            shared.role.lock().await.stop().await;
            tracing::info!("stopped; what was set up goes on standing (--teardown removes it)");
        }
        End::Heir(heir) => {
            let mut role = shared.role.lock().await;
            let mut descriptors = sockets.descriptors()?;
            descriptors.extend(role.descriptors()?);
            heir.hand_over(descriptors).await?;
            role.stop().await;
            tracing::info!("handed over to a successor");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One pass, reported; answers when the next one is due if nothing happens before.
async fn reconcile_now<R: Role>(shared: &Shared<R>) -> Instant {
    let report = shared.reconcile().await;
    Instant::now() + if report.settled() { RESYNC } else { RETRY }
}

async fn reload<R: Role>(shared: &Shared<R>) {
    match shared.role.lock().await.reload() {
        Ok(()) => tracing::info!("configuration read anew"),
        Err(faults) => tracing::error!("the configuration has faults, the old one stays in force:\n{faults}"),
    }
}

impl Report {
    fn log(&self) {
        for step in &self.steps {
            tracing::info!("{step}");
        }
        for failure in &self.failures {
            tracing::error!("{failure}");
        }
    }
}

/// Removes everything that Portway set up here and gives settings their former values back.
pub async fn teardown(runtime_dir: &Path) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(runtime_dir)?;
    let kernel = Kernel::open(runtime_dir).await?;
    let observed = kernel.observe(&BTreeSet::new()).await?;
    let steps = plan(&State::default(), &observed).steps;
    let failures = kernel.apply(&steps).await;
    failures.iter().for_each(|failure| tracing::error!("{failure}"));
    println!("removed {} of {} things", steps.len() - failures.len(), steps.len());
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
