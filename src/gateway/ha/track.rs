//! Tracking: what shards depend on is looked at, and the speaker learns what follows.
//!
//! ```text
//!  a pass: interfaces --+
//!  task: tcp, http -----+--> Tracker (proto::track) --> speaker: Priority, Able
//!  task: icmp, script --+          |
//!                                  +--> status, metrics
//! ```
//! One task for each check of the configuration; it has one probe under way at most.

pub mod probe;
mod script;
mod show;

use super::instances::Virtual;
use super::speaker::Order;
use crate::config::{Gateway, GatewayTenant, Probe, Target, Tracked, Watched};
use crate::daemon::bell::Bell;
use crate::model::{Cost, IfName, Mark, TenantName, TenantShard};
use crate::plan::facts::Facts;
use crate::plan::slots::Slots;
use crate::proto::track::{Limits, Standing, Tracker, Wanted};
use ipnet::IpNet;
use probe::Side;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Scripts that run at a time, and other probes that are under way. Who has to wait for its turn is late, and not at fault for it.
const SCRIPTS: usize = 32;
const PROBES: usize = 512;

/// Whose check, and what it is called; interfaces are the node's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    tenant: Option<TenantName>,
    what: String,
}

/// All that is needed to make a check again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    probe: Probe,
    side: Option<Side>,
}

#[derive(Debug)]
struct Task {
    job: Job,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

#[derive(Debug)]
pub struct Tracking {
    live: Arc<Mutex<Live>>,
    interfaces: BTreeMap<IfName, Id>,
    /// Those that run, as they were when last looked at.
    running: BTreeSet<IfName>,
    wanted: BTreeMap<Id, Job>,
    tasks: BTreeMap<Id, Task>,
    scripts: Arc<Semaphore>,
    probes: Arc<Semaphore>,
}

impl Default for Tracking {
    fn default() -> Self {
        Self {
            live: Arc::default(),
            interfaces: BTreeMap::new(),
            running: BTreeSet::new(),
            wanted: BTreeMap::new(),
            tasks: BTreeMap::new(),
            scripts: Arc::new(Semaphore::new(SCRIPTS)),
            probes: Arc::new(Semaphore::new(PROBES)),
        }
    }
}

/// What tasks and passes share.
#[derive(Debug, Default)]
struct Live {
    tracker: Tracker<Id>,
    seen: BTreeMap<Id, Seen>,
    /// The node's own addresses by interface, HaVips not among them.
    own: BTreeMap<IfName, Vec<IpNet>>,
    /// Nobody is told of changes while there is none.
    speaker: Option<Bell<Order>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Of the last check that failed.
    error: Option<String>,
    /// How long the last one took; none for interfaces.
    took: Option<Duration>,
}

impl Live {
    fn result(&mut self, now: Instant, id: &Id, result: Result<(), String>, took: Option<Duration>) {
        // One that has been replaced meanwhile.
        let Some(before) = self.tracker.item(id).map(|item| item.standing) else { return };
        let turned = self.tracker.result(now, id, result.is_ok());
        let whose = id.tenant.as_ref().map_or(String::new(), |tenant| format!("{tenant}: "));
        match &result {
            Ok(()) if turned && before == Standing::Down => tracing::info!("{whose}{} is up again", id.what),
            Err(error) if turned => tracing::warn!("{whose}{} is down: {error}", id.what),
            Ok(()) | Err(_) => {}
        }
        let seen = self.seen.entry(id.clone()).or_default();
        seen.took = took.or(seen.took);
        seen.error = result.err().or(seen.error.take());
        self.tell();
    }

    fn tell(&mut self) {
        let Some(speaker) = &self.speaker else { return };
        for (of, change) in self.tracker.changes() {
            // Not able comes first, and able last: a priority that is too high is never advertised meanwhile.
            if change.able == Some(false) {
                speaker.send(Order::Able(of.clone(), false));
            }
            if let Some(priority) = change.priority {
                speaker.send(Order::Priority(of.clone(), priority));
            }
            if change.able == Some(true) {
                speaker.send(Order::Able(of, true));
            }
        }
    }
}

impl Tracking {
    /// What is to be tracked from now on; the priorities of these virtual routers, which the speaker is to get, are as tracking has them. It is told
    /// nothing more until [`Tracking::tell`]. `resumed`: shards that are this node's already.
    pub fn replace(&mut self, config: &Gateway, slots: &Slots, virtuals: &mut [Virtual], resumed: impl Fn(&TenantShard) -> bool) {
        let now = Instant::now();
        let mut items: BTreeMap<Id, Limits> = BTreeMap::new();
        let mut shards: BTreeMap<TenantShard, Wanted<Id>> = BTreeMap::new();
        self.interfaces.clear();
        self.wanted.clear();
        let everybodys = config.ha.as_ref().map_or(&[][..], |ha| &ha.track);
        for (tenant, shard) in config.shared() {
            let of = tenant.of(shard.shard);
            let Some(own) = virtuals.iter().find(|one| one.of == of) else { continue };
            let side = slots.get(&of).map(|slot| Side {
                interface: tenant.interface.clone(),
                mark: Mark::new(None, Some(slot)),
                router: tenant.router,
            });
            // Without either of these a shard cannot be served.
            let own_interfaces = [&config.platform.interface, &tenant.interface].map(|name| (self.interface(name), Cost::Fault));
            let of_all = everybodys.iter().map(|tracked| (None, tracked));
            let tracked = of_all.chain(tenant.track.iter().map(|tracked| (Some(tenant), tracked)));
            let costs: Vec<(Id, Cost)> = own_interfaces
                .into_iter()
                .chain(tracked.map(|(of, tracked)| (self.want(of, tracked, side.as_ref()), tracked.cost)))
                .collect();
            for (id, _) in &costs {
                let limits = self.wanted.get(id).map_or(Limits::AT_ONCE, |job| Limits { rise: job.probe.rise, fall: job.probe.fall });
                items.insert(id.clone(), limits);
            }
            let hope = resumed(&of);
            shards.insert(of, Wanted { priority: own.router.priority, costs, hope });
        }
        let mut live = lock(&self.live);
        live.speaker = None;
        live.seen.retain(|id, _| items.contains_key(id));
        live.tracker.replace(now, items, shards);
        self.interfaces_stand(&mut live, now);
        let priorities = live.tracker.tell_priorities();
        for one in virtuals {
            one.router.priority = priorities.get(&one.of).copied().unwrap_or(one.router.priority);
        }
    }

    fn interface(&mut self, name: &IfName) -> Id {
        let id = || Id { tenant: None, what: Watched::Interface(name.clone()).to_string() };
        self.interfaces.entry(name.clone()).or_insert_with(id).clone()
    }

    fn want(&mut self, tenant: Option<&GatewayTenant>, tracked: &Tracked, side: Option<&Side>) -> Id {
        match &tracked.watched {
            Watched::Interface(name) => self.interface(name),
            Watched::Probe(probe) => {
                let id = Id { tenant: tenant.map(|tenant| tenant.name.clone()), what: probe.target.to_string() };
                // By way of the first of the tenant's shards: the rules know that one.
                let job = || Job { probe: probe.clone(), side: side.filter(|_| tenant.is_some()).cloned() };
                self.wanted.entry(id.clone()).or_insert_with(job);
                id
            }
        }
    }

    /// The speaker knows the priorities, and learns the rest; checks begin, and those that are gone end.
    pub fn tell(&mut self, speaker: &Bell<Order>) {
        self.tasks.retain(|id, task| self.wanted.get(id) == Some(&task.job) && !task.handle.is_finished());
        for (id, job) in &self.wanted {
            if !self.tasks.contains_key(id) {
                let turns = if matches!(job.probe.target, Target::Script { .. }) { &self.scripts } else { &self.probes };
                let handle = tokio::spawn(again_and_again(id.clone(), job.clone(), self.live.clone(), turns.clone()));
                self.tasks.insert(id.clone(), Task { job: job.clone(), handle });
            }
        }
        let mut live = lock(&self.live);
        live.speaker = Some(speaker.clone());
        live.tell();
    }

    /// What the interfaces are like now.
    pub fn look(&mut self, facts: &Facts) {
        self.running = facts.links.iter().filter(|(_, link)| link.running).map(|(name, _)| name.clone()).collect();
        let mut live = lock(&self.live);
        live.own = facts.links.iter().map(|(name, link)| (name.clone(), link.addresses.clone())).collect();
        self.interfaces_stand(&mut live, Instant::now());
    }

    fn interfaces_stand(&self, live: &mut Live, now: Instant) {
        for (name, id) in &self.interfaces {
            let result = if self.running.contains(name) { Ok(()) } else { Err("it is missing, down or without carrier".to_owned()) };
            live.result(now, id, result, None);
        }
    }

    pub fn stop(&mut self) {
        self.tasks.clear();
        lock(&self.live).speaker = None;
    }
}

async fn again_and_again(id: Id, job: Job, live: Arc<Mutex<Live>>, turns: Arc<Semaphore>) {
    let mut ticks = tokio::time::interval(job.probe.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(_turn) = turns.acquire().await else { return };
        let own = job.side.as_ref().and_then(|side| lock(&live).own.get(&side.interface).cloned()).unwrap_or_default();
        let begun = Instant::now();
        let result = probe::check(&job.probe, job.side.as_ref(), &own).await.map_err(|failure| failure.to_string());
        lock(&live).result(Instant::now(), &id, result, Some(begun.elapsed()));
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}
