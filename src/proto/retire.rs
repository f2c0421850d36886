//! Nodes that are to go: each is drained first, and let go when it carries nothing any more, or when that takes too long.

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What becomes of instances that wait to be ended.
///
/// ```text
///  waits to go --> Drain --+--> it has no shard any more -----------------------------+
///                    |     +--> it has shards that nobody takes, and no connection    +--> Complete --+--> gone
///                    |     |    goes through them for [`QUIET`], after [`MOVES`]      |       ^       |
///                    |     +--> [`DEADLINE`] -----------------------------------------+       +- later+-- it was not taken
///                    +-- Heartbeat, again and again
/// ```
///
/// Contract: tell of each look at the group ([`Retire::waiting`]) and again and again of what each that leaves carries ([`Retire::carries`]); answer
/// [`Effect::Complete`] by [`Retire::completed`]; call [`Retire::tick`] often; take all of [`Retire::next_effect`] after each. Time that goes backwards stands still.
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
    /// What it said last that it carries. None: it does not say.
    load: Option<Load>,
    /// Since when no connection goes through it.
    quiet: Option<Instant>,
    phase: Phase,
}

/// What a node carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Whose addresses it has.
    pub shards: u64,
    /// Through them. None: not all are known.
    pub connections: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Draining,
    /// Completed, or to be completed, after so many failures, and not before that.
    Completing {
        how: How,
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
    /// It may go. `load`: what it still carries, if it says so.
    Complete { instance: String, how: How, load: Option<Load> },
}

/// Why a node may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It has no shards any more.
    Drained,
    /// Nobody takes its shards, and no connection goes through them.
    Quiet,
    /// It has taken too long.
    Late,
}

impl How {
    pub const ALL: [How; 3] = [How::Drained, How::Quiet, How::Late];

    /// A metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            How::Drained => "drained",
            How::Quiet => "quiet",
            How::Late => "late",
        }
    }
}

/// Nodes that were let go, by why. They only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters([u64; How::ALL.len()]);

impl Counters {
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        How::ALL.into_iter().map(How::as_str).zip(self.0)
    }
}

/// A node that is to go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leaving {
    pub instance: String,
    /// Seconds that it has been leaving.
    pub since: f64,
    /// What it carries. None: it does not say.
    pub load: Option<Load>,
    /// It has been let go.
    pub over: bool,
}

/// As long as AWS keeps a connection in mind that says nothing.
pub const DEADLINE: Duration = Duration::from_secs(350);
/// A drain has moved by then what can be moved: it is begun after a look of the gateway's, waits 10 s for connections to be known elsewhere, and forwards for another.
pub const MOVES: Duration = Duration::from_secs(30);
/// Without a connection for so long, none is about to begin either.
pub const QUIET: Duration = Duration::from_secs(10);
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
                Leave { since: now, heartbeat: now + HEARTBEAT, load: None, quiet: None, phase: Phase::Draining }
            });
            self.leaving.insert(instance.to_owned(), leave);
        }
        self.tick(now);
    }

    /// What a node that leaves says that it carries; None: it has not said so lately.
    pub fn carries(&mut self, now: Instant, instance: &str, load: Option<Load>) {
        let now = self.clock(now);
        if let Some(leave) = self.leaving.get_mut(instance) {
            leave.load = load;
            let is_quiet = load.is_some_and(|load| load.shards == 0 || load.connections == Some(0));
            leave.quiet = if is_quiet { leave.quiet.or(Some(now)) } else { None };
        }
        self.tick(now);
    }

    /// Whether it was taken that this one may go. If not, it is said again later.
    pub fn completed(&mut self, now: Instant, instance: &str, taken: bool) {
        let now = self.clock(now);
        let Some(leave) = self.leaving.get_mut(instance) else { return };
        if let Phase::Completing { how, failures, asked: true, .. } = leave.phase {
            leave.phase = if taken {
                self.counters.0[how as usize] += 1;
                Phase::Over
            } else {
                let wait = AGAIN.0.saturating_mul(1 << failures.min(16)).min(AGAIN.1);
                Phase::Completing { how, failures: failures.saturating_add(1), at: now + wait, asked: false }
            };
        }
    }

    pub fn tick(&mut self, now: Instant) {
        let now = self.clock(now);
        for (instance, leave) in &mut self.leaving {
            if let Some(how) = leave.may_go(now).filter(|_| leave.phase == Phase::Draining) {
                leave.phase = Phase::Completing { how, failures: 0, at: now, asked: false };
            }
            if let Phase::Completing { how, at, asked, .. } = &mut leave.phase
                && !*asked
                && *at <= now
            {
                *asked = true;
                self.effects.push_back(Effect::Complete { instance: instance.clone(), how: *how, load: leave.load });
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
            load: leave.load,
            over: leave.phase == Phase::Over,
        };
        self.leaving.iter().map(shown).collect()
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }
}

impl Leave {
    fn may_go(&self, now: Instant) -> Option<How> {
        let is_quiet = |since: Instant| self.since + MOVES <= now && since + QUIET <= now;
        match self.load {
            Some(Load { shards: 0, .. }) => Some(How::Drained),
            Some(_) if self.quiet.is_some_and(is_quiet) => Some(How::Quiet),
            _ => (self.since + DEADLINE <= now).then_some(How::Late),
        }
    }
}

#[cfg(test)]
mod tests;
