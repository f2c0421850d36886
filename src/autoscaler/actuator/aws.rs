//! Orders as the desired capacity of an Auto Scaling group, and instances that are to go kept waiting until they are drained.

use super::super::brain::Brain;
use super::{Called, locked};
use crate::cloud::aws::Caller;
use crate::config;
use crate::daemon::jitter;
use crate::model::{Failure, NodeName, Why};
use crate::proto::actuator::backoff;
use crate::proto::retire::{Counters, Effect, How, Leaving, Load, Retire};
use crate::wire::autoscaling::{Call, Group, group};
use anyhow::Context;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

const SERVICE: &str = "autoscaling";
/// From one look at a group that does not answer to the next, in the end.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What those carry that leave is looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// Looks that are asked for are no more frequent.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
/// So many follow each other when somebody says that an instance waits: what the group tells of itself may be older than what it publishes.
const LOOKS: i32 = 3;

/// The group, as it is called.
#[derive(Debug)]
pub struct Aws {
    caller: Caller,
    config: config::AutoScalingGroup,
    seen: Mutex<Seen>,
    /// Rung when somebody says that an instance waits.
    bell: Notify,
}

/// What is known of the group.
#[derive(Debug, Default)]
struct Seen {
    looks: [u64; 2],
    group: Option<GroupStatus>,
    failure: Option<String>,
    leaving: Vec<Leaving>,
    let_go: Counters,
}

#[derive(Debug, Clone, Serialize)]
struct GroupStatus {
    name: String,
    min: u32,
    max: u32,
    desired: u32,
    in_service: usize,
}

/// What there is to show.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    group: Option<GroupStatus>,
    /// Why it is not known better.
    group_failure: Option<String>,
    leaving: Vec<Leaving>,
    #[serde(skip)]
    pub looks: [(&'static str, u64); 2],
    #[serde(skip)]
    pub let_go: Counters,
}

impl Aws {
    pub fn new(config: &config::AutoScalingGroup) -> anyhow::Result<Self> {
        let caller = Caller::new(SERVICE, &config.region, config.endpoint.as_ref(), config.timeout).context("`actuator`")?;
        Ok(Self { caller, config: config.clone(), seen: Mutex::default(), bell: Notify::new() })
    }

    pub fn to(&self) -> String {
        format!("the Auto Scaling group {} in {}", self.config.group, self.config.region)
    }

    pub fn shown(&self) -> Shown {
        let seen = locked(&self.seen);
        let [good, failed] = seen.looks;
        Shown {
            group: seen.group.clone(),
            group_failure: seen.failure.clone(),
            leaving: seen.leaving.clone(),
            looks: [("good", good), ("failed", failed)],
            let_go: seen.let_go,
        }
    }

    /// Somebody says that an instance of this group waits in this hook. Whether they are ours; then the group is looked at at once.
    pub fn waits(&self, group: &str, hook: &str) -> bool {
        let is_ours = self.config.group == group && self.config.hook.as_deref() == Some(hook);
        if is_ours {
            self.bell.notify_one();
        }
        is_ours
    }

    /// Sets what is desired.
    pub async fn order(&self, nodes: u32) -> Called {
        self.call(Call::SetDesiredCapacity { nodes }).await.map(|_| None)
    }

    /// The XML of a good answer.
    async fn call(&self, call: Call<'_>) -> Result<String, Failure> {
        self.caller.call(SystemTime::now(), call.action(), call.form(&self.config.group)).await.map_err(|refusal| refusal.failure)
    }

    async fn look(&self) -> Result<Group, Failure> {
        let xml = self.call(Call::DescribeAutoScalingGroups).await?;
        group(&xml, &self.config.group).map_err(|error| Failure { why: Why::Refused, text: error.to_string(), after: None })
    }

    /// Looks at the group, and lets go those that wait, until it is dropped.
    pub async fn watch(self: Arc<Self>, brain: Arc<Brain>) {
        let mut retire = Retire::new(Instant::now());
        let (mut failures, mut looked, mut soon) = (0, Instant::now(), 0);
        let mut next = looked;
        loop {
            if next <= Instant::now() {
                let wait = match self.look().await {
                    Ok(group) => {
                        failures = 0;
                        self.looked(&group, &brain, &mut retire);
                        soon -= i32::from(soon > 0);
                        if soon > 0 { TICK } else { self.config.look }
                    }
                    Err(failure) => {
                        self.not_looked(failure);
                        failures += 1;
                        backoff((self.config.look, LONGEST_WAIT), failures, jitter())
                    }
                };
                looked = Instant::now();
                next = looked + wait;
            }
            self.retire(&mut retire, &brain).await;
            tokio::select! {
                () = tokio::time::sleep(TICK.min(next.saturating_duration_since(Instant::now()))) => {}
                // A group that does not answer is left alone.
                () = self.bell.notified(), if failures == 0 => {
                    (next, soon) = (next.min(looked + SHORTEST_WAIT), LOOKS);
                }
            }
        }
    }

    fn looked(&self, group: &Group, brain: &Brain, retire: &mut Retire) {
        let in_service = group.instances().iter().filter(|instance| instance.is_in_service()).count();
        // A gateway is called as its instance is, or nothing is known of it here.
        let named = |here: bool| {
            let these = group.instances().iter().filter(move |instance| instance.is_in_service() == here);
            these.filter_map(|instance| instance.id.parse().ok()).collect::<BTreeSet<NodeName>>()
        };
        brain.looked(group.desired, named(false), named(true));
        if self.config.hook.is_some() {
            let waiting = group.instances().iter().filter(|instance| instance.waits_to_go()).map(|instance| instance.id.as_str());
            retire.waiting(Instant::now(), waiting);
        }
        let mut seen = locked(&self.seen);
        seen.looks[0] += 1;
        if seen.failure.take().is_some() {
            tracing::info!("{} tells of itself again", self.to());
        }
        let Group { name, min, max, desired, .. } = group;
        seen.group = Some(GroupStatus { name: name.clone(), min: *min, max: *max, desired: *desired, in_service });
    }

    fn not_looked(&self, failure: Failure) {
        let mut seen = locked(&self.seen);
        seen.looks[1] += 1;
        if seen.failure.replace(failure.text.clone()).is_none() {
            tracing::warn!("{}: {}", self.to(), failure.text);
        }
    }

    async fn retire(&self, retire: &mut Retire, brain: &Brain) {
        let Some(hook) = &self.config.hook else { return };
        for Leaving { instance, .. } in retire.leaving(Instant::now()) {
            let load = instance.parse().ok().and_then(|name| brain.load(&name));
            retire.carries(Instant::now(), &instance, load);
        }
        retire.tick(Instant::now());
        while let Some(effect) = retire.next_effect() {
            match effect {
                Effect::Drain(instance) => {
                    tracing::info!("{instance} is to go: it waits until its gateway has handed over its shards");
                }
                Effect::Heartbeat(instance) => {
                    let call = Call::RecordLifecycleActionHeartbeat { hook, instance: &instance };
                    if let Err(failure) = self.call(call).await {
                        tracing::debug!("{instance}: {}", failure.text);
                    }
                }
                Effect::Complete { instance, how, load } => {
                    let done = self.call(Call::CompleteLifecycleAction { hook, instance: &instance }).await;
                    match &done {
                        Ok(_) => told(&instance, how, load),
                        Err(failure) => tracing::warn!("{instance} cannot be let go yet: {}", failure.text),
                    }
                    retire.completed(Instant::now(), &instance, done.is_ok());
                }
            }
        }
        let mut seen = locked(&self.seen);
        (seen.leaving, seen.let_go) = (retire.leaving(Instant::now()), retire.counters());
    }
}

/// For the log: an instance was let go.
fn told(instance: &str, how: How, load: Option<Load>) {
    match (how, load) {
        (How::Drained, _) => tracing::info!("{instance} has no shards any more and may go"),
        (How::Quiet, Some(Load { shards, .. })) => {
            tracing::warn!("{instance} may go: nobody takes its shards ({shards}), and no connection goes through them");
        }
        (How::Late, Some(Load { shards, connections: Some(connections) })) => {
            tracing::warn!("{instance} may go: for too long it has had shards ({shards}) and connections ({connections}), which end");
        }
        (How::Late | How::Quiet, _) => tracing::warn!("{instance} may go: for too long it has not said what it carries"),
    }
}
