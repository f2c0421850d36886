//! Hands over all shards when the Auto Scaling group takes this machine away: asks instance metadata, and does what `proto::lifecycle` says.

use super::drain::{DEADLINE, Drain, Drained};

use crate::cloud::metadata::{Metadata, TARGET_LIFECYCLE_STATE};
use crate::config::InstanceMetadata;
use crate::daemon::jitter;
use crate::gateway::joining::Leave;
use crate::metrics::Page;
use crate::proto::lifecycle::{AGAIN, Effect, Lifecycle, Said};
use futures::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Characters of a state that are told; AWS's longest has 17.
const LONGEST: usize = 32;

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Watch {
    of: InstanceMetadata,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    machine: Mutex<Lifecycle>,
    /// Rung when somebody has ended the drain.
    undone: Notify,
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Lifecycle> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    pub fn start(of: InstanceMetadata, leave: Option<Leave>, drain: Drain) -> Self {
        let machine = Mutex::new(Lifecycle::new(Instant::now(), of.look));
        let shared = Arc::new(Shared { machine, undone: Notify::new() });
        let task = Task { metadata: Arc::new(Metadata::new(&of.endpoint)), leave, drain, shared: shared.clone() };
        Self { of, shared, task: tokio::spawn(task.run()) }
    }

    /// Where, and how often.
    pub fn of(&self) -> &InstanceMetadata {
        &self.of
    }

    pub fn undone(&self) {
        self.shared.undone.notify_one();
    }

    /// Whether the machine is taken away; and whether nothing is here any more for it.
    pub fn end(&self) -> (bool, bool) {
        let machine = self.shared.machine();
        (machine.going(), machine.is_over())
    }

    pub fn status(&self, now: Instant) -> Value {
        let mut shown = json!(self.shared.machine().status(now));
        shown["metadata"] = self.of.endpoint.as_str().into();
        shown
    }

    pub fn metrics(&self, now: Instant, out: &mut Page) {
        let (counters, status) = {
            let machine = self.shared.machine();
            (machine.counters(), machine.status(now))
        };
        for (result, count) in [("answered", counters.answered), ("no_group", counters.no_group), ("failed", counters.failed)] {
            let help = "Times instance metadata were asked whether the machine is taken away";
            out.counter("portway_lifecycle_looks", help, &[("result", result)], count);
        }
        let help = "1 when the Auto Scaling group takes this machine away";
        out.gauge("portway_lifecycle_going", help, &[], f64::from(u8::from(status.going)));
        out.counter("portway_lifecycle_drains", "Drains that were begun because the machine is taken away", &[], counters.drains);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    metadata: Arc<Metadata>,
    /// None: the files of all nodes say who is in the group.
    leave: Option<Leave>,
    drain: Drain,
    shared: Arc<Shared>,
}

impl Task {
    async fn run(self) {
        let mut look: Option<BoxFuture<'static, Result<Said, String>>> = None;
        let mut draining: Option<BoxFuture<'static, Drained>> = None;
        loop {
            self.shared.machine().tick(Instant::now(), self.drain.holds());
            loop {
                // The lock is not held while the effects are carried out.
                let Some(effect) = self.shared.machine().next_effect() else { break };
                match effect {
                    Effect::Look => look = Some(ask(self.metadata.clone()).boxed()),
                    Effect::Drain { again } => {
                        if again {
                            tracing::debug!("shards are still here, or again: they are handed over");
                        } else {
                            tracing::info!("the Auto Scaling group takes this machine away: its shards are handed over");
                        }
                        draining = Some(go(self.leave.clone(), self.drain.clone()).boxed());
                    }
                    other => self.tell(other),
                }
            }
            let wake = self.shared.machine().timeout();
            tokio::select! {
                said = async { look.as_mut().expect("guarded").await }, if look.is_some() => {
                    look = None;
                    self.shared.machine().said(Instant::now(), said, jitter());
                }
                drained = async { draining.as_mut().expect("guarded").await }, if draining.is_some() => {
                    draining = None;
                    told(&drained);
                    self.shared.machine().drained(Instant::now(), drained.kept.len());
                    self.drain.told();
                }
                () = self.shared.undone.notified() => {
                    // Of what is under way nothing may come later than the end.
                    draining = None;
                    self.drain.undo();
                    self.shared.machine().undone(Instant::now());
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {}
            }
        }
    }

    fn tell(&self, effect: Effect) {
        let endpoint = self.metadata.endpoint();
        match effect {
            // The caller's.
            Effect::Look | Effect::Drain { .. } => {}
            Effect::Said(Said::NoGroup) => tracing::info!("{endpoint} says that this machine is in no Auto Scaling group"),
            Effect::Said(Said::Target(state)) => tracing::info!("{endpoint} says that this machine is to be {state}"),
            Effect::Silent(why) => tracing::warn!("whether the Auto Scaling group takes this machine away is not known: {why}"),
            Effect::Answers { failures } => tracing::info!("{endpoint} answers again, after {failures} failures"),
        }
    }
}

/// Where others can be told that this node goes, its shards get two new candidates first, who learn all connections; whatever is here after half of the
/// time, and all where they cannot be told, goes to the Backups of now.
async fn go(leave: Option<Leave>, drain: Drain) -> Drained {
    let mut deadline = DEADLINE;
    if let Some(leave) = leave {
        deadline /= 2;
        match leave.run(deadline).await {
            Ok(drained) if drained.kept.is_empty() => return drained,
            Ok(_) => {}
            Err(refusal) => tracing::warn!("others are not told that this node leaves: {refusal}"),
        }
    }
    drain.run(deadline).await
}

async fn ask(metadata: Arc<Metadata>) -> Result<Said, String> {
    let state = metadata.get(TARGET_LIFECYCLE_STATE).await.map_err(|failure| failure.to_string())?;
    let state = state.map(|state| state.chars().filter(|c| !c.is_control()).take(LONGEST).collect());
    Ok(state.map_or(Said::NoGroup, Said::Target))
}

fn told(Drained { handed_over, kept }: &Drained) {
    let list = |shards: &std::collections::BTreeSet<_>| shards.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !handed_over.is_empty() {
        tracing::info!("handed over: {}", list(handed_over));
    }
    if kept.is_empty() {
        tracing::info!("no shard is here any more: the machine may go");
    } else {
        tracing::warn!("nobody took over {}: it is tried again in {} s", list(kept), AGAIN.as_secs());
    }
}
