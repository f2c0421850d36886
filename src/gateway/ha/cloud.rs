//! Has the cloud send a shard's addresses here while it is here: asks instance metadata which network interfaces these are, and does what `proto::claim` says.

pub mod identity;
mod translate;

use super::Links;
use super::board::Board;
use crate::cloud::aws::{Caller, Refusal};
use crate::cloud::metadata::Metadata;
use crate::config::{Aws, Gateway};
use crate::daemon::{jitter, until};
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::{Failure, TenantShard};
use crate::proto::actuator::backoff;
use crate::proto::claim::{Answer, Claim, Claims, Effect, PATIENCE, Status};
use futures::future::{BoxFuture, FutureExt};
use identity::Identity;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// From one question of who this is to the next, while metadata do not answer, or name no such interface.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Whoever becomes Active does not wait for credentials: those of an instance last for hours, and are got anew some minutes before their end.
const WARM: Duration = Duration::from_secs(60);

/// Claims until it is dropped. What was claimed stays where it is.
#[derive(Debug)]
pub struct Watch {
    of: Of,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What is claimed depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Of {
    aws: Aws,
    sides: identity::Sides,
}

#[derive(Debug)]
struct Shared {
    claims: Mutex<Claims>,
    /// Who this is; why it is not known.
    identity: Mutex<Result<Identity, String>>,
}

impl Shared {
    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self) -> MutexGuard<'_, Result<Identity, String>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// `links`: which interfaces there are, as some may come later.
    pub fn start(aws: &Aws, config: &Gateway, board: Arc<Board>, kernel: Arc<Kernel>, links: watch::Receiver<Links>) -> Self {
        let of = Of { aws: aws.clone(), sides: identity::sides(config) };
        let identity = Mutex::new(Err("instance metadata have not answered yet".to_owned()));
        let shared = Arc::new(Shared { claims: Mutex::new(Claims::new(Instant::now(), aws.calls)), identity });
        // What is here already was a process's before, or this one's under another configuration.
        let resumed = board.holds();
        let metadata = Arc::new(Metadata::new(&aws.metadata));
        let task = Task { of: of.clone(), metadata, board, kernel, shared: shared.clone(), resumed, links };
        Self { of, shared, task: tokio::spawn(task.run()) }
    }

    /// Whether it does what this configuration asks.
    pub fn is_of(&self, aws: &Aws, config: &Gateway) -> bool {
        self.of.aws == *aws && self.of.sides == identity::sides(config)
    }

    pub fn status(&self) -> Value {
        let identity = self.shared.identity();
        let (known, failure) = match &*identity {
            Ok(identity) => (json!(identity), json!(identity.unknown())),
            Err(why) => (Value::Null, json!(why)),
        };
        let shards: BTreeMap<String, Status> =
            self.shared.claims().status(Instant::now()).into_iter().map(|(of, status)| (of.to_string(), status)).collect();
        json!({ "instance": known, "failure": failure, "shards": shards })
    }

    pub fn metrics(&self, out: &mut Page) {
        let (counters, status) = {
            let claims = self.shared.claims();
            (claims.counters().clone(), claims.status(Instant::now()))
        };
        let Of { aws, sides } = &self.of;
        let known = f64::from(u8::from(self.shared.identity().as_ref().is_ok_and(|identity| identity.is_known(aws, sides))));
        out.gauge("portway_cloud_known", "1 when instance metadata have said which network interfaces are this node's", &[], known);
        for (call, result, count) in counters.calls() {
            let help = "Calls of the cloud's API, by what became of them";
            out.counter("portway_cloud_calls", help, &[("call", call), ("result", result)], count);
        }
        out.counter("portway_cloud_lost", "Claims that were found to be somebody else's while the shard was here", &[], counters.lost);
        out.counter("portway_cloud_claimed", "Times that everything of a shard was claimed", &[], counters.claimed);
        let took = "Seconds from a shard's arrival to that, together";
        out.seconds("portway_cloud_claim_seconds", took, &[], counters.took.as_secs_f64());
        for (of, status) in status {
            let labels = [("tenant", of.tenant.as_str()), ("shard", &of.shard.to_string())];
            let help = "Claims of a shard that is here which the cloud has not taken";
            out.gauge("portway_cloud_missing", help, &labels, status.missing as f64);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    of: Of,
    metadata: Arc<Metadata>,
    board: Arc<Board>,
    kernel: Arc<Kernel>,
    shared: Arc<Shared>,
    resumed: BTreeSet<TenantShard>,
    links: watch::Receiver<Links>,
}

type Ended = (u64, Result<Answer, Failure>);

/// Calls that are under way.
#[derive(Default)]
struct Calls {
    all: JoinSet<Ended>,
    handles: HashMap<u64, AbortHandle>,
}

impl Task {
    async fn run(mut self) {
        self.links.mark_unchanged();
        let (identity, caller) = self.identify().await;
        let (mut identity, caller, mut resumed) = (Arc::new(identity), Arc::new(caller), self.resumed.clone());
        // Who this is, once more: interfaces may come, go, and be others under the same name.
        let mut finding: Option<BoxFuture<'_, Result<Identity, String>>> = None;
        let (mut failures, mut links) = (0, self.links.clone());
        let mut find = identity.unknown().map(|_| Instant::now() + AGAIN.0);
        let mut changes = self.board.changes();
        let mut calls = Calls::default();
        let mut warm = tokio::time::interval(WARM);
        warm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut warming: Option<BoxFuture<'_, Result<(), Refusal>>> = None;
        let mut has_credentials = true;
        loop {
            // All that are answered, before any of them counts as late.
            while let Some(ended) = calls.all.try_join_next() {
                self.take(&mut calls, ended);
            }
            changes.mark_unchanged();
            let holds = self.board.holds();
            let wanted: BTreeMap<TenantShard, BTreeSet<Claim>> =
                identity.claims.iter().filter(|(of, _)| holds.contains(*of)).map(|(of, claims)| (of.clone(), claims.clone())).collect();
            let now = Instant::now();
            let wake = {
                let mut machine = self.shared.claims();
                machine.want(now, &wanted, &std::mem::take(&mut resumed));
                machine.stand_by(now, &identity.claims);
                self.board.take_contested().iter().for_each(|of| machine.contested(now, of));
                machine.tick(now, jitter());
                while let Some(effect) = machine.next_effect() {
                    match effect {
                        Effect::Call { number, call } => {
                            let (caller, metadata, identity) = (caller.clone(), self.metadata.clone(), identity.clone());
                            let work = async move { (number, translate::carry_out(&call, &caller, &metadata, &identity).await) };
                            calls.handles.insert(number, calls.all.spawn(work));
                        }
                        Effect::Drop(number) => {
                            calls.handles.remove(&number).inspect(AbortHandle::abort);
                        }
                        other => tell(other),
                    }
                }
                machine.timeout()
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                Some(ended) = calls.all.join_next() => self.take(&mut calls, ended),
                _ = warm.tick(), if warming.is_none() => warming = Some(caller.warm(SystemTime::now()).boxed()),
                warmed = async { warming.as_mut().expect("guarded").await }, if warming.is_some() => {
                    warming = None;
                    if let (true, Err(refusal)) = (has_credentials, &warmed) {
                        tracing::error!("EC2 could not be called now: {refusal}");
                    }
                    has_credentials = warmed.is_ok();
                }
                changed = links.changed() => if changed.is_err() { return } else { find = Some(Instant::now()) },
                () = until(find), if finding.is_none() => {
                    find = None;
                    finding = Some(Identity::find(&self.metadata, &self.kernel, &self.of.aws, &self.of.sides).boxed());
                }
                found = async { finding.as_mut().expect("guarded").await }, if finding.is_some() => {
                    finding = None;
                    if let Ok(found) = found {
                        find = find.or(found.unknown().map(|_| Instant::now() + backoff(AGAIN, failures, jitter())));
                        failures = if found.unknown().is_some() { failures + 1 } else { 0 };
                        if found != *identity {
                            tell_unknown(&found);
                            *self.shared.identity() = Ok(found.clone());
                            identity = Arc::new(found);
                        }
                    } else {
                        find = find.or(Some(Instant::now() + backoff(AGAIN, failures, jitter())));
                        failures += 1;
                    }
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {}
            }
        }
    }

    fn take(&self, calls: &mut Calls, ended: Result<Ended, JoinError>) {
        // One that was dropped says nothing.
        if let Ok((number, outcome)) = ended {
            calls.handles.remove(&number);
            self.shared.claims().ended(Instant::now(), number, outcome, jitter());
        }
    }

    /// Asks until it is known which interfaces these are.
    async fn identify(&self) -> (Identity, Caller) {
        let mut failures = 0;
        loop {
            let found = async {
                let identity = Identity::find(&self.metadata, &self.kernel, &self.of.aws, &self.of.sides).await?;
                let caller = Caller::new("ec2", &identity.place.region, self.of.aws.endpoint.as_ref(), PATIENCE);
                let caller = caller.map_err(|error| error.to_string())?.with_metadata(self.metadata.clone());
                Ok::<_, String>((identity, caller))
            };
            match found.await {
                Ok((identity, caller)) => {
                    tracing::info!("{} in {}: HaVips are claimed there", identity.place.instance, identity.place.region);
                    tell_unknown(&identity);
                    *self.shared.identity() = Ok(identity.clone());
                    return (identity, caller);
                }
                Err(why) => {
                    if failures == 0 {
                        tracing::error!("HaVips cannot be claimed of the cloud, trying again: {why}");
                    }
                    *self.shared.identity() = Err(why);
                }
            }
            tokio::time::sleep(backoff(AGAIN, failures, jitter())).await;
            failures += 1;
        }
    }
}

fn tell_unknown(identity: &Identity) {
    if let Some(unknown) = identity.unknown() {
        tracing::warn!("some HaVips cannot be claimed of the cloud yet: {unknown}");
    }
}

fn tell(effect: Effect) {
    match effect {
        // The caller's.
        Effect::Call { .. } | Effect::Drop(_) => {}
        Effect::Claimed { of, took } => tracing::info!("{of}: the cloud sends its addresses here, after {} ms", took.as_millis()),
        Effect::Lost { of, claim } => tracing::warn!("{of}: {} is somebody else's: it is claimed again", translate::shown(&claim)),
        Effect::Failed { of, claim, failure, row } => {
            let text = format!("{of}: {} cannot be claimed yet, trying again: {}", translate::shown(&claim), failure.text);
            if row == 1 { tracing::warn!("{text}") } else { tracing::debug!("{text}") }
        }
        Effect::Unready { failure, row } => {
            let text = format!("EC2 could not be called now, if a shard came: {}", failure.text);
            if row == 1 { tracing::warn!("{text}") } else { tracing::debug!("{text}") }
        }
    }
}
