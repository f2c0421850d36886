//! What a shard depends on besides its gateways: results of checks go in, priority and fitness come out.
//!
//! ```text
//!                 `rise` good results in a row
//!   Unproven --------------------------------------> Up
//!       |                                           |  ^
//!       |  `fall` bad results in a row         fall |  | rise
//!       |                                           v  |
//!       +-----------------------------------------> Down
//! ```
//! Of a shard: priority = its own, less the weights of all that is down, at least 1; able = nothing is down that is a fault.
//!
//! **Unproven** counts as up or as down, by who asks. A gateway that starts knows nothing: it must not take a shard from one that has
//! proved itself. So weights are subtracted, and a fault makes its priority the lowest: it takes over where nobody else does, and nowhere else. Of a
//! shard that a process before this one had (a restart), and of a check that is added while the gateway runs, the best is assumed.

use crate::model::{Cost, Priority, TenantShard};
use std::collections::BTreeMap;
use std::time::Instant;

/// How many results in a row it takes, 1 at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub rise: u32,
    pub fall: u32,
}

impl Limits {
    /// The first result counts.
    pub const AT_ONCE: Limits = Limits { rise: 1, fall: 1 };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Unproven,
    Up,
    Down,
}

impl Standing {
    /// None: unproven.
    pub fn is_up(self) -> Option<bool> {
        match self {
            Standing::Unproven => None,
            Standing::Up => Some(true),
            Standing::Down => Some(false),
        }
    }
}

/// One thing that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub standing: Standing,
    pub since: Instant,
    limits: Limits,
    /// The results that came last, all of one kind: which, and how many.
    run: (bool, u32),
}

impl Item {
    fn new(now: Instant, limits: Limits) -> Self {
        Item { standing: Standing::Unproven, since: now, limits, run: (false, 0) }
    }

    fn result(&mut self, now: Instant, good: bool) -> bool {
        let count = if self.run.0 == good { self.run.1.saturating_add(1) } else { 1 };
        self.run = (good, count);
        let (needed, to) = if good { (self.limits.rise, Standing::Up) } else { (self.limits.fall, Standing::Down) };
        let turns = count >= needed && self.standing != to;
        if turns {
            (self.standing, self.since) = (to, now);
        }
        turns
    }
}

/// What of a shard depends on its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// At least 1.
    pub priority: Priority,
    /// Whether the node can serve it.
    pub able: bool,
}

/// A shard as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<Id> {
    pub priority: Priority,
    /// If one is named twice, the higher cost counts.
    pub costs: Vec<(Id, Cost)>,
    /// Of a shard that is new here: whether what is unproven counts as up.
    pub hope: bool,
}

#[derive(Debug)]
struct Shard<Id> {
    priority: Priority,
    /// And whether it counts as up while it is unproven.
    costs: BTreeMap<Id, (Cost, bool)>,
    told: Verdict,
}

/// All that is checked, and the shards that depend on it.
#[derive(Debug)]
pub struct Tracker<Id> {
    items: BTreeMap<Id, Item>,
    shards: BTreeMap<TenantShard, Shard<Id>>,
}

impl<Id> Default for Tracker<Id> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), shards: BTreeMap::new() }
    }
}

impl<Id: Ord + Clone> Tracker<Id> {
    /// Exactly these from now on. What was there before keeps its standing, if it is still there.
    pub fn replace(
        &mut self,
        now: Instant,
        items: impl IntoIterator<Item = (Id, Limits)>,
        shards: impl IntoIterator<Item = (TenantShard, Wanted<Id>)>,
    ) {
        let (mut old_items, mut old_shards) = (std::mem::take(&mut self.items), std::mem::take(&mut self.shards));
        for (id, limits) in items {
            let mut item = old_items.remove(&id).unwrap_or_else(|| Item::new(now, limits));
            item.limits = limits;
            self.items.insert(id, item);
        }
        for (of, wanted) in shards {
            let old = old_shards.remove(&of);
            let mut costs: BTreeMap<Id, (Cost, bool)> = BTreeMap::new();
            for (id, cost) in wanted.costs {
                let hope = match &old {
                    None => wanted.hope,
                    Some(old) => old.costs.get(&id).is_none_or(|(_, hope)| *hope),
                };
                let known = costs.entry(id).or_insert((cost, hope));
                known.0 = known.0.max(cost);
            }
            let told = old.map_or(Verdict { priority: wanted.priority, able: true }, |old| old.told);
            self.shards.insert(of, Shard { priority: wanted.priority, costs, told });
        }
    }

    /// A check of this has ended, well or not. Whether it changed how the thing stands.
    pub fn result(&mut self, now: Instant, id: &Id, good: bool) -> bool {
        self.items.get_mut(id).is_some_and(|item| item.result(now, good))
    }

    pub fn item(&self, id: &Id) -> Option<&Item> {
        self.items.get(id)
    }

    pub fn items(&self) -> impl Iterator<Item = (&Id, &Item)> {
        self.items.iter()
    }

    /// What a shard depends on.
    pub fn costs(&self, of: &TenantShard) -> impl Iterator<Item = (&Id, Cost)> {
        self.shards.get(of).into_iter().flat_map(|shard| shard.costs.iter().map(|(id, (cost, _))| (id, *cost)))
    }

    pub fn verdict(&self, of: &TenantShard) -> Option<Verdict> {
        self.shards.get(of).map(|shard| shard.verdict(&self.items))
    }

    /// The shards of which something else holds than was told last; now it is told.
    pub fn changes(&mut self) -> Vec<(TenantShard, Change)> {
        let changed = self.shards.iter_mut().filter_map(|(of, shard)| {
            let verdict = shard.verdict(&self.items);
            let told = std::mem::replace(&mut shard.told, verdict);
            let change = Change {
                priority: (told.priority != verdict.priority).then_some(verdict.priority),
                able: (told.able != verdict.able).then_some(verdict.able),
            };
            (told != verdict).then(|| (of.clone(), change))
        });
        changed.collect()
    }

    /// All priorities, which become known to whom they concern in another way. [`Tracker::changes`] then tells every shard that is, or was, not able,
    /// for whoever is told may have forgotten.
    pub fn tell_priorities(&mut self) -> BTreeMap<TenantShard, Priority> {
        let told = self.shards.iter_mut().map(|(of, shard)| {
            let verdict = shard.verdict(&self.items);
            let able = shard.told.able || !verdict.able;
            shard.told = Verdict { priority: verdict.priority, able };
            (of.clone(), verdict.priority)
        });
        told.collect()
    }
}

/// What is different from what was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub priority: Option<Priority>,
    pub able: Option<bool>,
}

impl<Id: Ord> Shard<Id> {
    fn verdict(&self, items: &BTreeMap<Id, Item>) -> Verdict {
        let (mut left, mut able) = (self.priority.0, true);
        for (id, (cost, hope)) in &self.costs {
            let standing = items.get(id).map_or(Standing::Unproven, |item| item.standing);
            match (standing, cost) {
                (Standing::Up, _) => {}
                (Standing::Unproven, _) if *hope => {}
                (Standing::Down | Standing::Unproven, Cost::Weight(weight)) => left = left.saturating_sub(*weight),
                (Standing::Unproven, Cost::Fault) => left = Priority::LOWEST.0,
                (Standing::Down, Cost::Fault) => able = false,
            }
        }
        Verdict { priority: Priority(left).max(Priority::LOWEST), able }
    }
}

#[cfg(test)]
mod tests;
