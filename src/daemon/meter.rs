//! What the machine has counted anyway, and this process only passes on: for whoever sizes a fleet, and for operators. It is read when somebody asks.
//!
//! | figures | read |
//! |---|---|
//! | clock, table of connections, interfaces outside of the tunnels | at each scrape, some microseconds each |
//! | processors, the cloud's allowances, the kernel's tunnels | at most once a second, and beside the scrape, which waits for [`PATIENCE`] at most |

mod allowance;
mod show;

use crate::config::TunnelKind;
use crate::kernel::processors::{self, Processor};
use crate::kernel::{ConntrackFailures, ConntrackUse, Counted, Kernel, KernelError, Traffic};
use crate::model::{IfName, TenantShard};
use crate::plan::gateway::Carrier;
use allowance::Exceeded;
use nix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What was read so long ago is not read again.
const KEPT: Duration = Duration::from_secs(1);
/// Nor is it shown any more if it cannot be read again.
const STALE: Duration = Duration::from_secs(5);
/// A device that does not answer its driver, or somebody who holds the kernel's lock on interfaces, should not keep the other figures.
const PATIENCE: Duration = Duration::from_millis(100);

/// Which of the machine's figures are this daemon's business.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Interfaces by which packets come and go outside of the tunnels.
    pub underlay: BTreeSet<IfName>,
    /// The tunnels' interfaces, and whose they are.
    pub tunnels: BTreeMap<IfName, TenantShard>,
    pub kind: TunnelKind,
    pub carrier: Carrier,
}

#[derive(Debug)]
pub struct Meter {
    /// This process, by the machine's clock as it was then.
    started: SystemTime,
    kept: Mutex<Option<(Instant, Arc<Slow>)>>,
    /// Whoever has it reads.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// All that is known, for one who asks.
#[derive(Debug)]
pub struct Figures {
    started: SystemTime,
    watched: Arc<Watched>,
    moment: Moment,
    slow: Option<Arc<Slow>>,
}

/// What was counted at one time.
#[derive(Debug)]
struct Moment {
    /// CLOCK_MONOTONIC.
    clock: Option<Duration>,
    underlay: Vec<(IfName, Traffic)>,
    conntrack: Option<ConntrackUse>,
    failures: Option<ConntrackFailures>,
}

/// What a scrape should not wait for.
#[derive(Debug, Default)]
struct Slow {
    /// CLOCK_MONOTONIC when `tunnels` were read.
    clock: Option<Duration>,
    processors: BTreeMap<u32, Processor>,
    /// Of the interfaces whose drivers count that.
    exceeded: BTreeMap<IfName, Exceeded>,
    /// The kernel's.
    tunnels: BTreeMap<IfName, Traffic>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { started: SystemTime::now(), kept: Mutex::default(), turn: Arc::default() }
    }
}

impl Meter {
    pub async fn read(self: &Arc<Self>, kernel: &Arc<Kernel>, watched: Watched) -> Figures {
        let watched = Arc::new(watched);
        // A failure is a slow device, or a reading that came to nothing: what was read before may do.
        let _ = tokio::time::timeout(PATIENCE, self.renew(kernel, &watched)).await;
        let slow = self.kept(STALE);
        Figures { started: self.started, moment: Moment::read(kernel, &watched.underlay), slow, watched }
    }

    async fn renew(self: &Arc<Self>, kernel: &Arc<Kernel>, watched: &Arc<Watched>) {
        let turn = self.turn.clone().lock_owned().await;
        if self.kept(KEPT).is_some() {
            return;
        }
        let (meter, kernel, watched) = (self.clone(), kernel.clone(), watched.clone());
        // It goes on when nobody waits for it any more.
        let reading = tokio::task::spawn_blocking(move || {
            let before = meter.kept(Duration::MAX).unwrap_or_default();
            let slow = Slow::read(&kernel, &watched, &before);
            *meter.lock() = Some((Instant::now(), Arc::new(slow)));
            drop(turn);
        });
        let _ = reading.await;
    }

    fn kept(&self, for_at_most: Duration) -> Option<Arc<Slow>> {
        self.lock().as_ref().filter(|(at, _)| at.elapsed() < for_at_most).map(|(_, slow)| slow.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Arc<Slow>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moment {
    fn read(kernel: &Kernel, underlay: &BTreeSet<IfName>) -> Self {
        let conntrack = kernel.conntrack_use();
        let failures = kernel.conntrack_failures();
        let failures = failures.inspect_err(|error| tracing::debug!(%error, "which connections failed is not known")).ok();
        let counted = underlay.iter().filter_map(|name| Some((name.clone(), told(name, kernel.traffic(name))??))).collect();
        Self { clock: clock(), underlay: apart(counted), conntrack, failures }
    }
}

impl Slow {
    fn read(kernel: &Kernel, watched: &Watched, before: &Self) -> Self {
        let processors = processors::read().unwrap_or_else(|error| {
            tracing::debug!(%error, "the processors' time is not known");
            Vec::new()
        });
        let later = |now: Processor| before.processors.get(&now.number).map_or(now, |before| now.at_least(before));
        let exceeded = watched.underlay.iter().filter_map(|name| {
            let counters = told(name, kernel.driver_counters(name, allowance::is_one))?;
            Some((name.clone(), allowance::exceeded(&counters)?))
        });
        let tunnels = watched.tunnels.keys().filter(|_| watched.carrier == Carrier::Kernel);
        Self {
            processors: processors.into_iter().map(later).map(|one| (one.number, one)).collect(),
            exceeded: exceeded.collect(),
            clock: clock(),
            tunnels: tunnels.filter_map(|name| Some((name.clone(), told(name, kernel.traffic(name))??.traffic))).collect(),
        }
    }
}

fn clock() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).ok().map(Duration::from)
}

/// What cannot be read is not shown.
fn told<T>(interface: &IfName, read: Result<T, KernelError>) -> Option<T> {
    read.inspect_err(|error| tracing::debug!(%interface, %error, "what it has counted is not known")).ok()
}

/// Each packet once: where one interface lies on another that is asked as well (a VLAN), that one has counted it.
fn apart(counted: Vec<(IfName, Counted)>) -> Vec<(IfName, Traffic)> {
    let all: BTreeSet<u32> = counted.iter().map(|(_, one)| one.index).collect();
    let on_another = |one: &Counted| one.lower.is_some_and(|lower| all.contains(&lower));
    counted.into_iter().filter(|(_, one)| !on_another(one)).map(|(name, one)| (name, one.traffic)).collect()
}

#[cfg(test)]
mod tests;
