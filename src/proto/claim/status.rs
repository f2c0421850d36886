//! What there is to show of claims.

use super::{Call, Claims, Item, Stand};
use crate::model::{TenantShard, Why};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// They only ever grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    calls: BTreeMap<(&'static str, &'static str), u64>,
    /// Claims that were found to be somebody else's.
    pub lost: u64,
    /// Shards of which everything was claimed.
    pub claimed: u64,
    /// How long that took, in all.
    pub took: Duration,
}

impl Counters {
    /// By what was called, and what became of it: `taken` or why not.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.calls.iter().map(|((call, result), count)| (*call, *result, *count))
    }

    pub(super) fn count(&mut self, call: &Call, result: Result<(), Why>) {
        let result = result.map_or_else(Why::as_str, |()| "taken");
        *self.calls.entry((call.as_str(), result)).or_default() += 1;
    }

    pub(super) fn claimed(&mut self, took: Duration) {
        self.claimed += 1;
        self.took += took;
    }
}

/// Of a shard that is here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// All of it leads here, as far as the cloud has said.
    pub claimed: bool,
    /// Seconds from here, or from a loss, to that; 0 if a process before this one had it. None: not yet.
    pub took: Option<f64>,
    /// Seconds since then.
    pub for_s: f64,
    /// Claims that are not held.
    pub missing: usize,
    /// In a row, of the claim that has most.
    pub failures: u32,
    /// The last one of it.
    pub failure: Option<String>,
}

impl Claims {
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn status(&self, now: Instant) -> BTreeMap<TenantShard, Status> {
        let mut items: BTreeMap<&TenantShard, Vec<&Item>> = BTreeMap::new();
        self.items.values().for_each(|item| items.entry(&item.of).or_default().push(item));
        let of_shard = |of: &TenantShard| {
            let items = || items.get(of).into_iter().flatten();
            let missing = items().filter(|item| !matches!(item.stand, Stand::Held { .. })).count();
            let worst = items().max_by_key(|item| item.failures).filter(|item| item.failures > 0);
            Status {
                claimed: missing == 0,
                took: self.shards.get(of).and_then(|shard| shard.took).map(|took| took.as_secs_f64()),
                for_s: self.shards.get(of).map_or(0.0, |shard| now.saturating_duration_since(shard.since).as_secs_f64()),
                missing,
                failures: worst.map_or(0, |item| item.failures),
                failure: worst.and_then(|item| item.failure.as_ref()).map(|failure| failure.text.clone()),
            }
        };
        self.shards.keys().map(|of| (of.clone(), of_shard(of))).collect()
    }
}
