//! What there is to show of claims.

use super::{Call, Claims, Kind, Stand};
use crate::model::{TenantShard, Why};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

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

impl Call {
    /// A metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Call::Assign { .. } => "assign",
            Call::Route { .. } => "route",
            Call::Associate { .. } => "associate",
            Call::Look { kind: Kind::Address, .. } => "look_addresses",
            Call::Look { kind: Kind::Route, .. } => "look_routes",
            Call::Look { kind: Kind::Public, .. } => "look_public",
        }
    }
}

/// Of a shard that is here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// All of it leads here, as far as the cloud has said.
    pub claimed: bool,
    /// Seconds from here, or from a loss, to that; 0 if a process before this one had it. None: not yet.
    pub took: Option<f64>,
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

    pub fn status(&self) -> BTreeMap<TenantShard, Status> {
        let of_shard = |of: &TenantShard| {
            let items = || self.items.values().filter(move |item| item.of == *of);
            let missing = items().filter(|item| !matches!(item.stand, Stand::Held { .. })).count();
            let worst = items().max_by_key(|item| item.failures).filter(|item| item.failures > 0);
            Status {
                claimed: missing == 0,
                took: self.shards.get(of).and_then(|shard| shard.took).map(|took| took.as_secs_f64()),
                missing,
                failures: worst.map_or(0, |item| item.failures),
                failure: worst.and_then(|item| item.failure.as_ref()).map(|failure| failure.text.clone()),
            }
        };
        self.shards.keys().map(|of| (of.clone(), of_shard(of))).collect()
    }
}
