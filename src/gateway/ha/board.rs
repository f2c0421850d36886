//! What the threads tell of themselves: read by `status`, metrics and the reconciler.

use crate::model::{ChecksumForm, TenantShard};
use crate::proto::skew::Skew;
use crate::proto::sync::{ReceiverCounters, SenderCounters};
use crate::proto::vrrp::{Announced, LastHeard, State, Status, Why};
use crate::wire::vrrp::Discard;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};

/// Shared by the threads. Locks are held for a copy only; the advertising thread never waits for one.
#[derive(Debug, Default)]
pub struct Board {
    routers: Mutex<BTreeMap<TenantShard, Router>>,
    flows: Mutex<BTreeMap<TenantShard, Flows>>,
    /// Of the shards that are here.
    connections: Mutex<BTreeMap<TenantShard, Connections>>,
    /// Our clock and those of the other nodes, by their addresses.
    skews: Mutex<BTreeMap<IpAddr, Skew>>,
    holds: Mutex<BTreeSet<TenantShard>>,
    /// Since when, of those that came while this process ran.
    since: Mutex<BTreeMap<TenantShard, SystemTime>>,
    /// Of which this node need not keep the connections any more.
    relieved: Mutex<BTreeSet<TenantShard>>,
    /// Somebody else advertised them, and lost.
    contested: Mutex<BTreeSet<TenantShard>>,
    /// The last change of state of each, once everything before it has been done.
    turns: Mutex<BTreeMap<TenantShard, Turn>>,
    /// The latest first.
    takeovers: Mutex<VecDeque<Takeover>>,
    /// How often `holds` or `turns` changed.
    changes: watch::Sender<u64>,
    /// Rung when the kernel is to be compared with what it should hold.
    pub again: Arc<Notify>,
    pub counters: Counters,
}

/// A virtual router, as it was a moment ago.
#[derive(Debug, Clone)]
pub struct Router {
    pub status: Status,
    pub transitions: u64,
    pub takeovers: Takeovers,
    pub last: Option<Why>,
    pub warnings: Vec<String>,
    /// It stands at a lower priority, because the clock is behind.
    pub held_back: bool,
}

/// How often a node became Active for a shard that it did not have, by why: those of [`Takeovers::WHY`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Takeovers([u64; Self::WHY.len()]);

impl Takeovers {
    /// Labels of [`Why`].
    const WHY: [&str; 3] = ["active_silent", "active_released", "preempted"];

    pub fn count(&mut self, from: State, to: State, why: Why) {
        let place = Self::WHY.iter().position(|known| *known == why.label());
        if let Some(place) = place.filter(|_| to == State::Active && !from.holds_addresses()) {
            self.0[place] += 1;
        }
    }

    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::WHY.into_iter().zip(self.0)
    }
}

/// A change of state that has been carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Counts them.
    pub number: u64,
    pub to: State,
    pub why: Why,
}

/// A shard that was another node's and came here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    pub of: TenantShard,
    pub from: IpAddr,
    /// Its addresses are here, and the first announcement has left.
    pub at: Instant,
    pub why: Why,
    /// Since the last word of the node before: nobody had the shard for at most this long. None: that node went on forwarding, for certain.
    pub gap: Option<Duration>,
}

impl Takeover {
    /// `heard`: the last word of the node before. One that lets go forwards on if it is drained or stopped, and not if it lacks an interface; it says the same.
    pub fn new(of: TenantShard, heard: LastHeard, why: Why, at: Instant) -> Self {
        let gap = match why {
            Why::Preempted { .. } => None,
            _ => Some(at.saturating_duration_since(heard.at)),
        };
        Self { of, from: heard.from, at, why, gap }
    }
}

/// The copies of a shard's connections.
#[derive(Debug, Clone)]
pub enum Flows {
    /// This node has them and tells the others: one entry for each.
    Told(Vec<Told>),
    /// This node keeps copies, of each of the others.
    Kept(Vec<Kept>),
}

/// The connections of a shard that is here, as the kernel tells of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Since it came here, or was configured anew.
    pub begun: u64,
    /// None: not all of them are known.
    pub standing: Option<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub connections: usize,
    /// Those of the destination (address, protocol and port) that has most: as many source ports are taken there.
    pub most_to_one: usize,
}

#[derive(Debug, Clone)]
pub struct Told {
    pub to: IpAddr,
    /// It is to have them; otherwise it keeps them until those do.
    pub candidate: bool,
    pub up: bool,
    pub in_sync: bool,
    pub lag: Duration,
    pub counters: SenderCounters,
}

#[derive(Debug, Clone)]
pub struct Kept {
    pub from: IpAddr,
    pub in_sync: bool,
    pub flows: usize,
    pub lag: Duration,
    pub counters: ReceiverCounters,
}

/// Everything here only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    pub sent: AtomicU64,
    pub send_failures: AtomicU64,
    pub received: AtomicU64,
    pub discarded: [AtomicU64; Discard::ALL.len()],
    /// Accepted advertisements by the form of their checksum.
    pub checksums: [AtomicU64; ChecksumForm::ALL.len()],
    pub announced: [AtomicU64; ANNOUNCED.len()],
    /// How late timers of virtual routers were, by upper bound.
    pub late: [AtomicU64; LATE.len() + 1],
    pub late_sum_us: AtomicU64,
    /// What the hands have done of what they were told.
    pub deeds: AtomicU64,
    /// Sync datagrams from addresses or of streams that are nobody's.
    pub sync_strangers: AtomicU64,
    pub sync_send_failures: AtomicU64,
    /// Changes of connections that the kernel refused to take.
    pub sync_unwritten: AtomicU64,
    /// Readings of the kernel's table of connections.
    pub sync_walks: AtomicU64,
}

pub const ANNOUNCED: [Announced; 6] =
    [Announced::Promoted, Announced::Repeated, Announced::Refreshed, Announced::Contested, Announced::Healed, Announced::Yielded];

/// Microseconds.
pub const LATE: [u64; 10] = [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 100_000];

impl Counters {
    pub fn discard(&self, why: Discard) {
        count(&Discard::ALL, &self.discarded, why);
    }

    pub fn checksum(&self, form: ChecksumForm) {
        count(&ChecksumForm::ALL, &self.checksums, form);
    }

    pub fn announce(&self, why: Announced) {
        count(&ANNOUNCED, &self.announced, why);
    }

    pub fn late(&self, by: Duration) {
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        let place = LATE.iter().position(|bound| us <= *bound).unwrap_or(LATE.len());
        self.late[place].fetch_add(1, Relaxed);
        self.late_sum_us.fetch_add(us, Relaxed);
    }
}

fn count<T: PartialEq>(all: &[T], counts: &[AtomicU64], one: T) {
    if let Some(place) = all.iter().position(|known| *known == one) {
        counts[place].fetch_add(1, Relaxed);
    }
}

/// Takeovers that are remembered.
const TAKEOVERS: usize = 20;

impl Board {
    /// Without waiting: whether it was written. If not, somebody is reading just now, and the next time will do.
    pub fn try_router(&self, of: &TenantShard, write: impl FnOnce() -> Router) -> bool {
        let Some(mut routers) = try_now(&self.routers) else { return false };
        match routers.get_mut(of) {
            Some(known) => *known = write(),
            None => drop(routers.insert(of.clone(), write())),
        }
        true
    }

    pub fn routers(&self) -> BTreeMap<TenantShard, Router> {
        lock(&self.routers).clone()
    }

    /// Without waiting: if somebody is reading just now, the next one will do.
    pub fn try_skew(&self, node: IpAddr, skew: Skew) {
        if let Some(mut skews) = try_now(&self.skews) {
            skews.insert(node, skew);
        }
    }

    /// Some may be out of date.
    pub fn skews(&self) -> BTreeMap<IpAddr, Skew> {
        lock(&self.skews).clone()
    }

    pub fn set_flows(&self, of: &TenantShard, flows: Flows) {
        lock(&self.flows).insert(of.clone(), flows);
    }

    pub fn flows(&self) -> BTreeMap<TenantShard, Flows> {
        lock(&self.flows).clone()
    }

    /// None: they are not this node's.
    pub fn set_connections(&self, of: &TenantShard, connections: Option<Connections>) {
        let mut all = lock(&self.connections);
        if let Some(connections) = connections {
            all.insert(of.clone(), connections);
        } else {
            all.remove(of);
        }
    }

    pub fn connections(&self) -> BTreeMap<TenantShard, Connections> {
        lock(&self.connections).clone()
    }

    /// The shards that are no longer served.
    pub fn forget(&self, keep: impl Fn(&TenantShard) -> bool) {
        lock(&self.routers).retain(|of, _| keep(of));
        lock(&self.flows).retain(|of, _| keep(of));
        lock(&self.connections).retain(|of, _| keep(of));
        lock(&self.turns).retain(|of, _| keep(of));
        lock(&self.relieved).retain(|of| keep(of));
    }

    /// The HaVips of this shard are here, or are not.
    pub fn hold(&self, of: &TenantShard, here: bool) {
        let mut holds = lock(&self.holds);
        if !here {
            holds.remove(of);
            lock(&self.since).remove(of);
        } else if holds.insert(of.clone()) {
            lock(&self.since).insert(of.clone(), SystemTime::now());
        }
        drop(holds);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Whether the candidates of a shard have what this node keeps for them; who compares with the configuration is told.
    pub fn relieve(&self, of: &TenantShard, relieved: bool) {
        let mut all = lock(&self.relieved);
        if relieved {
            all.insert(of.clone());
            self.again.notify_one();
        } else {
            all.remove(of);
        }
    }

    /// Somebody else advertised this shard, which is here and stays.
    pub fn contest(&self, of: &TenantShard) {
        lock(&self.contested).insert(of.clone());
        self.changes.send_modify(|count| *count += 1);
    }

    /// Those since the last time.
    pub fn take_contested(&self) -> BTreeSet<TenantShard> {
        std::mem::take(&mut lock(&self.contested))
    }

    pub fn relieved(&self) -> BTreeSet<TenantShard> {
        lock(&self.relieved).clone()
    }

    /// Exactly these shards are here: at a start.
    pub fn hold_only(&self, shards: &BTreeSet<TenantShard>) {
        let mut holds = lock(&self.holds);
        holds.clone_from(shards);
        lock(&self.since).clear();
        drop(holds);
        self.counters.deeds.store(0, Relaxed);
        self.changes.send_modify(|count| *count += 1);
    }

    /// A shard is in another state.
    pub fn turn(&self, of: &TenantShard, to: State, why: Why) {
        let mut turns = lock(&self.turns);
        let number = turns.get(of).map_or(0, |last| last.number) + 1;
        turns.insert(of.clone(), Turn { number, to, why });
        drop(turns);
        self.changes.send_modify(|count| *count += 1);
    }

    pub fn turns(&self) -> BTreeMap<TenantShard, Turn> {
        lock(&self.turns).clone()
    }

    pub fn took_over(&self, takeover: Takeover) {
        let mut all = lock(&self.takeovers);
        all.truncate(TAKEOVERS - 1);
        all.push_front(takeover);
    }

    /// Those of this process, the latest first.
    pub fn takeovers(&self) -> Vec<Takeover> {
        lock(&self.takeovers).iter().cloned().collect()
    }

    pub fn holds(&self) -> BTreeSet<TenantShard> {
        lock(&self.holds).clone()
    }

    /// The same, with the time at which each came. None: before this process began.
    pub fn held(&self) -> BTreeMap<TenantShard, Option<SystemTime>> {
        let holds = lock(&self.holds);
        let since = lock(&self.since);
        holds.iter().map(|of| (of.clone(), since.get(of).copied())).collect()
    }

    /// How often shards have come, gone or changed their state.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns when this holds.
    pub async fn until(&self, holds: impl Fn(&Board) -> bool) {
        let mut changes = self.changes();
        while !holds(self) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Flows {
    pub fn in_sync(&self) -> bool {
        match self {
            Flows::Told(to) => to.iter().any(|told| told.candidate) && to.iter().all(|told| told.in_sync || !told.candidate),
            Flows::Kept(from) => from.iter().any(|kept| kept.in_sync),
        }
    }

    /// Whether there is somebody to tell.
    pub fn has_listener(&self) -> bool {
        match self {
            Flows::Told(to) => to.iter().any(|told| told.up),
            Flows::Kept(_) => false,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// None: somebody has it just now.
fn try_now<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Priority;

    #[test]
    fn whoever_goes_on_has_taken_nothing_over() {
        let mut takeovers = Takeovers::default();
        let turns = [
            (State::Backup, State::Active, Why::ActiveSilent),
            (State::Backup, State::Active, Why::ActiveReleased),
            (State::Initialize, State::Active, Why::ActiveSilent),
            (State::Initialize, State::Active, Why::Resumed),
            (State::Offering, State::Active, Why::NoSuccessor),
            (State::Releasing, State::Active, Why::SuccessorSilent),
            (State::Active, State::Backup, Why::HandedOver),
            (State::Initialize, State::Backup, Why::Started),
        ];
        turns.into_iter().for_each(|(from, to, why)| takeovers.count(from, to, why));
        assert_eq!(takeovers.each().collect::<Vec<_>>(), [("active_silent", 2), ("active_released", 1), ("preempted", 0)]);
    }

    /// Whether a node that let go went on forwarding, it does not say: a fault is not to look as if it were planned.
    #[test]
    fn only_who_is_preempted_is_sure_to_have_forwarded_on() {
        let (heard, from) = (Instant::now(), [10, 9, 0, 1].into());
        let of = |why| {
            let heard = LastHeard { from, priority: Priority(100), at: heard };
            Takeover::new("acme/0".parse().unwrap(), heard, why, heard.at + Duration::from_millis(80)).gap
        };
        let preempted = Why::Preempted { active: from, priority: Priority(100) };
        assert_eq!(
            [Why::ActiveSilent, Why::ActiveReleased, preempted].map(of),
            [Some(Duration::from_millis(80)), Some(Duration::from_millis(80)), None]
        );
    }

    #[test]
    fn labels_are_those_of_reasons() {
        let labels = [Why::ActiveSilent, Why::ActiveReleased, Why::Preempted { active: [10, 9, 0, 1].into(), priority: Priority(100) }];
        assert_eq!(labels.map(Why::label), Takeovers::WHY);
    }
}
