//! Nodes that are to go: each is drained first, and let go when it carries nothing any more, or when that takes too long.

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What becomes of instances that wait to be ended.
///
/// ```text
///  waits to go --> Drain --> drained, or the deadline has passed --> Complete --+--> gone
///                    |                                                ^         |
///                    +-- Heartbeat, again and again                   +-- later +-- it was not taken
/// ```
///
/// Contract: tell of each look at the group ([`Retire::waiting`]) and of each node that carries nothing any more; answer [`Effect::Complete`] by
/// [`Retire::completed`]; call [`Retire::tick`] often; take all of [`Retire::next_effect`] after each. Time that goes backwards stands still.
#[derive(Debug)]
pub struct Retire {
    latest: Instant,
    leaving: BTreeMap<String, Leave>,
    effects: VecDeque<Effect>,
    counters: Counters,
}

#[derive(Debug, Clone, Copy)]
struct Leave {
    since: Instant,
    /// When to say next that it takes longer.
    heartbeat: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Draining,
    /// Completed, or to be completed, after so many failures, and not before that.
    Completing {
        drained: bool,
        failures: u32,
        at: Instant,
        asked: bool,
    },
    /// The group does not yet say that it is gone.
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Its shards are to move to others. Once.
    Drain(String),
    /// It may take longer.
    Heartbeat(String),
    /// It may go. `drained`: it carries nothing; else it has taken too long.
    Complete { instance: String, drained: bool },
}

/// They only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Nodes that carried nothing any more when they were let go.
    pub drained: u64,
    /// Nodes that were let go because it took too long.
    pub late: u64,
}

/// A node that is to go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leaving {
    pub instance: String,
    /// Seconds that it has been leaving.
    pub since: f64,
    /// It has been let go.
    pub over: bool,
}

/// As long as AWS keeps a connection in mind that says nothing.
pub const DEADLINE: Duration = Duration::from_secs(350);
/// A hook lasts for 30 s at least (PutLifecycleHook, HeartbeatTimeout).
const HEARTBEAT: Duration = Duration::from_secs(10);
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

impl Retire {
    pub fn new(now: Instant) -> Self {
        Self { latest: now, leaving: BTreeMap::new(), effects: VecDeque::new(), counters: Counters::default() }
    }

    /// These instances wait to go, and no others.
    pub fn waiting<'i>(&mut self, now: Instant, instances: impl IntoIterator<Item = &'i str>) {
        let now = self.clock(now);
        let mut old = std::mem::take(&mut self.leaving);
        for instance in instances {
            let leave = old.remove(instance).unwrap_or_else(|| {
                self.effects.push_back(Effect::Drain(instance.to_owned()));
                Leave { since: now, heartbeat: now + HEARTBEAT, phase: Phase::Draining }
            });
            self.leaving.insert(instance.to_owned(), leave);
        }
        self.tick(now);
    }

    /// It carries nothing any more.
    pub fn drained(&mut self, now: Instant, instance: &str) {
        let now = self.clock(now);
        if let Some(leave) = self.leaving.get_mut(instance).filter(|leave| leave.phase == Phase::Draining) {
            leave.phase = Phase::Completing { drained: true, failures: 0, at: now, asked: false };
        }
        self.tick(now);
    }

    /// Whether it was taken that this one may go. If not, it is said again later.
    pub fn completed(&mut self, now: Instant, instance: &str, taken: bool) {
        let now = self.clock(now);
        let Some(leave) = self.leaving.get_mut(instance) else { return };
        if let Phase::Completing { drained, failures, asked: true, .. } = leave.phase {
            leave.phase = if taken {
                *(if drained { &mut self.counters.drained } else { &mut self.counters.late }) += 1;
                Phase::Over
            } else {
                let wait = AGAIN.0.saturating_mul(1 << failures.min(16)).min(AGAIN.1);
                Phase::Completing { drained, failures: failures.saturating_add(1), at: now + wait, asked: false }
            };
        }
    }

    pub fn tick(&mut self, now: Instant) {
        let now = self.clock(now);
        for (instance, leave) in &mut self.leaving {
            if leave.phase == Phase::Draining && leave.since + DEADLINE <= now {
                leave.phase = Phase::Completing { drained: false, failures: 0, at: now, asked: false };
            }
            if let Phase::Completing { drained, at, asked, .. } = &mut leave.phase
                && !*asked
                && *at <= now
            {
                *asked = true;
                self.effects.push_back(Effect::Complete { instance: instance.clone(), drained: *drained });
            }
            if leave.phase != Phase::Over && leave.heartbeat <= now {
                leave.heartbeat = now + HEARTBEAT;
                self.effects.push_back(Effect::Heartbeat(instance.clone()));
            }
        }
    }

    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn leaving(&self, now: Instant) -> Vec<Leaving> {
        let now = now.max(self.latest);
        let shown = |(instance, leave): (&String, &Leave)| Leaving {
            instance: instance.clone(),
            since: now.saturating_duration_since(leave.since).as_secs_f64(),
            over: leave.phase == Phase::Over,
        };
        self.leaving.iter().map(shown).collect()
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }
}

#[cfg(test)]
mod tests;
