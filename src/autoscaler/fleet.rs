//! What there is: which gateways, how many are ordered, which of them are starting or going, and what each carries.

use crate::model::NodeName;
use std::collections::{BTreeMap, BTreeSet};
#[cfg(feature = "aws")]
use std::time::Duration;
use std::time::Instant;

#[derive(Debug, Default)]
pub struct Fleet {
    serving: Vec<NodeName>,
    /// What whoever runs the nodes has said or taken last. None: as many as there are gateways.
    ordered: Option<u32>,
    /// Whoever runs the nodes is asked, so that without an answer nothing is known.
    is_asked: bool,
    /// Of these the other side knows that they are starting or going.
    away: BTreeSet<NodeName>,
    /// How many shards each had when it was asked last.
    shards: BTreeMap<NodeName, (Instant, u64)>,
}

/// What a gateway said longer ago says nothing of what it carries now.
#[cfg(feature = "aws")]
const CARRIES: Duration = Duration::from_secs(10);

impl Fleet {
    pub fn new(is_asked: bool) -> Self {
        Self { is_asked, ..Self::default() }
    }

    /// These are the gateways, and no others.
    pub fn serve(&mut self, serving: Vec<NodeName>) {
        self.shards.retain(|name, _| serving.contains(name));
        self.serving = serving;
    }

    /// From now on whoever runs the nodes is asked what there is, or is not.
    pub fn ask(&mut self, is_asked: bool) {
        if !is_asked {
            self.away.clear();
        }
        self.is_asked = is_asked;
    }

    pub fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Whoever runs the nodes says that so many are ordered.
    pub fn told(&mut self, ordered: u32) {
        self.ordered = Some(ordered);
    }

    /// It says so, and which are starting or going.
    #[cfg(feature = "aws")]
    pub fn looked(&mut self, ordered: u32, away: BTreeSet<NodeName>) {
        (self.ordered, self.away) = (Some(ordered), away);
    }

    pub fn ordered(&self) -> u32 {
        self.ordered.unwrap_or_else(|| u32::try_from(self.serving.len()).unwrap_or(u32::MAX))
    }

    /// Those that are neither starting nor going.
    pub fn serving(&self) -> Vec<NodeName> {
        self.serving.iter().filter(|name| !self.away.contains(name)).cloned().collect()
    }

    /// A gateway has so many shards; None: it does not say.
    pub fn carries(&mut self, now: Instant, name: &NodeName, shards: Option<u64>) {
        match shards.filter(|_| self.serving.contains(name)) {
            Some(shards) => drop(self.shards.insert(name.clone(), (now, shards))),
            None => drop(self.shards.remove(name)),
        }
    }

    /// It is known of this gateway that it has no shards.
    #[cfg(feature = "aws")]
    pub fn has_no_shards(&self, now: Instant, name: &NodeName) -> bool {
        self.shards.get(name).is_some_and(|(at, shards)| *shards == 0 && now.saturating_duration_since(*at) <= CARRIES)
    }
}
