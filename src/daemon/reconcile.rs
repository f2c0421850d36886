//! Read, plan, apply: the same pass at start, after a change and after a repair.

use super::meter::Watched;
use crate::kernel::Kernel;
use crate::plan::facts::Facts;
use crate::plan::{State, Sysctl, plan};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};

/// What a role adds to the common daemon.
pub trait Role: Send + 'static {
    /// `gateway` or `host`: names sockets and files.
    const NAME: &'static str;

    /// What callers ask of it, and where that is kept under `RUNTIME_DIR`.
    const KEEPS: &'static str;

    /// Takes up what is kept there, once. Whoever is to act on it does so when no other process changes it any more.
    fn take_up_stored(&mut self) -> anyhow::Result<()>;

    /// Kernel tunnels or this process, as configured and as the kernel can.
    fn choose_carrier(&mut self, kernel: &Kernel) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Begin, with what a predecessor left; what is used of it is taken out. From its return on, traffic that the
    /// predecessor carried is carried by us, or waits until it has stopped.
    fn start(&mut self, kernel: &Arc<Kernel>, inherited: &mut BTreeMap<String, OwnedFd>)
    -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Nobody else carries the traffic: go on with what only one process may, as a predecessor has left it. Called once.
    fn carry(&mut self) -> anyhow::Result<()>;

    /// The predecessor is gone: what only one process may do is ours from now on, and must not wait for a pass.
    fn succeed(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Rung whenever a pass is wanted that nothing in the kernel gives rise to.
    fn again(&self) -> Arc<Notify> {
        Arc::default()
    }

    /// When to go on at the latest, though nothing happens.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// That time has come: goes on as far as it can without a pass. Whether one is wanted; if not, [`Role::due`] tells when to go on again.
    fn advance(&mut self, _kernel: &Kernel) -> bool {
        true
    }

    /// A number that grows whenever somebody changes what is desired, beside the passes.
    fn revision(&self) -> u64;

    /// Settings of interfaces that are not ours whose values the plan needs to know.
    fn interest(&self) -> BTreeSet<Sysctl>;

    /// What the kernel should hold, given what it holds and what is around it.
    fn desired(&mut self, facts: &Facts, observed: &State) -> anyhow::Result<State>;

    /// The kernel holds what it should, or as much of it as could be had: let the rest of the role follow.
    fn follow(&mut self, kernel: &Kernel) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Read the configuration anew; if it cannot be taken up, keep the old one and tell why.
    fn reload(&mut self) -> Result<(), Refused>;

    /// What is to be shown: `status`, `/v1/status`.
    fn status(&self) -> serde_json::Value;

    /// Which of the machine's figures belong to it.
    fn watched(&self) -> Watched;

    /// Figures beyond the common ones.
    fn metrics(&self, out: &mut crate::metrics::Page);

    /// A successor is about to read what is on disk.
    fn write_down(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// What a successor needs to carry on without a gap, by name.
    fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>>;

    /// Nobody goes on here: let others take over what can be taken over.
    fn retire(&mut self) -> impl Future<Output = ()> + Send;

    /// Finish what is in hand. Nothing in the kernel is removed.
    fn stop(&mut self) -> impl Future<Output = ()> + Send;
}

/// Why the configuration on disk is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub why: String,
    /// There is no fault in it: the daemon takes it up when it is started again.
    pub at_start: bool,
}

impl Refused {
    /// `what`, with its verb, is looked at once.
    pub fn until_start(what: &str) -> Self {
        Self { why: format!("{what} taken up at a start: start the daemon again, which loses nothing"), at_start: true }
    }
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, at_start: false }
    }
}

/// What one pass came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub steps: Vec<String>,
    pub failures: Vec<String>,
    pub took: Duration,
}

impl Report {
    /// Whether nothing is left to be done.
    pub fn settled(&self) -> bool {
        self.failures.is_empty()
    }
}

/// A long plan is summed up: nobody reads ten thousand lines.
const STEPS_TOLD: usize = 50;

/// What there is, all of it: with ten thousand function hosts the longest part of a pass.
struct Seen {
    facts: Facts,
    observed: State,
}

impl Seen {
    async fn look(kernel: &Kernel, interest: &BTreeSet<Sysctl>) -> anyhow::Result<Self> {
        Ok(Self { facts: kernel.facts().await?, observed: kernel.observe(interest).await? })
    }
}

/// Looks beside the role before one is taken that nobody can spoil.
const LOOKS: u32 = 5;

/// One pass by whoever has the role to itself.
pub async fn pass<R: Role>(role: &mut R, kernel: &Kernel) -> Report {
    let begun = Instant::now();
    let seen = Seen::look(kernel, &role.interest()).await;
    conclude(role, kernel, seen, begun).await
}

/// One pass that leaves the role to others while it looks. What it saw counts for nothing if somebody changed what is
/// desired meanwhile: an interface that was attached since then would be missed as gone.
pub async fn pass_beside<R: Role>(role: &Mutex<R>, kernel: &Kernel) -> Report {
    let begun = Instant::now();
    for _ in 0..LOOKS {
        let (interest, revision) = {
            let role = role.lock().await;
            (role.interest(), role.revision())
        };
        let seen = Seen::look(kernel, &interest).await;
        let mut role = role.lock().await;
        if role.revision() == revision {
            return conclude(&mut *role, kernel, seen, begun).await;
        }
    }
    pass(&mut *role.lock().await, kernel).await
}

async fn conclude<R: Role>(role: &mut R, kernel: &Kernel, seen: anyhow::Result<Seen>, begun: Instant) -> Report {
    let mut report = Report::default();
    if let Err(error) = carry_out(role, kernel, seen, &mut report).await {
        report.failures.push(format!("{error:#}"));
    }
    report.took = begun.elapsed();
    report
}

async fn carry_out<R: Role>(role: &mut R, kernel: &Kernel, seen: anyhow::Result<Seen>, report: &mut Report) -> anyhow::Result<()> {
    let Seen { facts, observed } = seen?;
    let desired = role.desired(&facts, &observed)?;
    let steps = plan(&desired, &observed).steps;
    report.steps = steps.iter().take(STEPS_TOLD).map(ToString::to_string).collect();
    if steps.len() > STEPS_TOLD {
        report.steps.push(format!("... and {} more", steps.len() - STEPS_TOLD));
    }
    report.failures = kernel.apply(&steps).await.into_iter().map(|failure| format!("{:#}", anyhow::Error::from(failure))).collect();
    role.follow(kernel).await
}
