//! What the autoscaler is configured with.

use super::capacity::Capacity;
use super::schedule::Schedule;
use crate::model::Invalid;
use std::time::Duration;

/// How many nodes there should be, by what, and how fast that may change.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Which part of what the nodes can carry should be used, 0.1 to 0.95. The rest is for what comes while a node starts, and for the shards of a node that dies.
    pub target: f64,
    /// 2 or more: a shard has two candidates.
    pub min: u32,
    /// Up to 1,000.
    pub max: u32,
    /// From any change to one to more nodes, 1 s to 1 h.
    pub out_cooldown: Duration,
    /// From any change to one to fewer nodes; and from one to fewer nodes to more, unless all that is left has been used for twice `out_cooldown`, or a level or the
    /// schedule says so. Up to a day, not less than `out_cooldown`.
    pub in_cooldown: Duration,
    /// What is added at once, at most.
    pub out_step: Step,
    /// What is taken away at once, at most.
    pub in_step: Step,
    /// The highest need of this time is what counts for fewer nodes; 1 min to a day.
    pub window: Duration,
    /// How old a reading may be, 1 s to 5 min: three times the interval between them is a good choice.
    pub stale_after: Duration,
    /// From an order to a node that carries traffic, up to an hour.
    pub start_up: Duration,
    pub schedule: Schedule,
    pub capacity: Capacity,
}

/// So many nodes, or so much of those there are, whichever is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// 1 or more.
    pub nodes: u32,
    /// Of the nodes that are ordered, 0 to 1,000.
    pub percent: u32,
}

impl Step {
    pub fn of(self, ordered: u32) -> u32 {
        let part = u64::from(ordered) * u64::from(self.percent) / 100;
        self.nodes.max(u32::try_from(part).unwrap_or(u32::MAX))
    }
}

impl Default for Policy {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            target: 0.6,
            min: 2,
            max: 10,
            out_cooldown: s(15),
            in_cooldown: s(300),
            out_step: Step { nodes: 4, percent: 100 },
            in_step: Step { nodes: 1, percent: 50 },
            window: s(300),
            stale_after: s(15),
            start_up: s(90),
            schedule: Schedule::default(),
            capacity: Capacity::default(),
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Policy {
    /// Whether one can scale by it, and what would have to change.
    pub fn check(&self) -> Result<(), Invalid> {
        let fault = |text: String| Err(Invalid(text));
        let Policy { target, min, max, .. } = self;
        if !(0.1..=0.95).contains(target) {
            return fault(format!(
                "target {target} leaves no room for what comes while a node starts, or is no target at all: use 0.1 to 0.95"
            ));
        }
        if *min < 2 {
            return fault(format!("min {min}: a shard has two candidates, use 2 or more"));
        }
        if !(*min..=1000).contains(max) {
            return fault(format!("max {max}: use {min} (min) to 1000"));
        }
        let s = Duration::from_secs;
        let times = [
            ("out_cooldown", self.out_cooldown, s(1), HOUR),
            ("in_cooldown", self.in_cooldown, self.out_cooldown, DAY),
            ("window", self.window, s(60), DAY),
            ("stale_after", self.stale_after, s(1), s(300)),
            ("start_up", self.start_up, Duration::ZERO, HOUR),
        ];
        for (name, time, least, most) in times {
            if !(least..=most).contains(&time) {
                return fault(format!("{name} of {time:?}: use {least:?} to {most:?}"));
            }
        }
        for (name, Step { nodes, percent }) in [("out_step", self.out_step), ("in_step", self.in_step)] {
            if nodes == 0 || percent > 1000 {
                return fault(format!("{name} of {nodes} nodes and {percent} percent: use 1 node or more, and 0 to 1000 percent"));
            }
        }
        self.capacity.check()?;
        self.schedule.check(*max)
    }

    /// So many nodes are used just up to the target by such a load, in nodes' worth.
    pub fn nodes_for(&self, demand: f64) -> u32 {
        whole(demand / self.target)
    }

    /// So many are used no further than [`Policy::urgent`] by it.
    pub fn nodes_at_once(&self, demand: f64) -> u32 {
        whole(demand / self.urgent())
    }

    /// Half way from the target to all that a node has: what is used beyond that cannot wait until it has lasted.
    pub fn urgent(&self) -> f64 {
        f64::midpoint(self.target, 1.0)
    }
}

/// Rounded up, a millionth less, so that what was computed from a number of nodes leads back to it. The cast saturates.
fn whole(nodes: f64) -> u32 {
    (nodes - 1e-6).ceil().max(0.0) as u32
}
