//! What stands in the way of taking nodes away.

use super::level::Source;
use super::reason::Held;
use super::{FLEET_STALE, Scaler};
use crate::model::NodeName;
use std::time::Instant;

impl Scaler {
    /// The first of all: what comes last may be of no matter while something else would be. `missing`: gateways of which nothing current is known.
    pub(super) fn trouble(&self, now: Instant, missing: Vec<NodeName>) -> Option<Held> {
        let orders = self.orders.as_ref()?;
        if !missing.is_empty() || self.gateways.len() == 0 {
            return Some(Held::Missing { nodes: missing });
        }
        let sources: Vec<Source> = self.silent().cloned().collect();
        if !sources.is_empty() {
            return Some(Held::Silent { sources });
        }
        if now.saturating_duration_since(self.fleet_heard) > FLEET_STALE {
            return Some(Held::FleetStale);
        }
        if orders.refused > 0 {
            return Some(Held::Refused { wanted: orders.ordered });
        }
        let behind = orders.ordered.saturating_sub(self.gateways.len());
        (behind > 0).then_some(Held::Behind { nodes: behind })
    }

    /// Who is asked what is to come, and has said nothing that counts.
    pub(super) fn silent(&self) -> impl Iterator<Item = &Source> {
        self.asked.iter().filter(|source| !self.levels.has(source))
    }
}
