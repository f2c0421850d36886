//! All that there is to show.

use super::Scaler;
use super::capacity::{Capacity, Dimension};
use super::level::{Source, Standing, Wanted};
use super::reason::{Decision, Held};
use super::sample::Nonsense;
use crate::model::NodeName;
use serde::Serialize;
use std::time::Instant;

/// What it knows, wants and has decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// None: not known yet.
    pub ordered: Option<u32>,
    /// How many carry traffic.
    pub serving: u32,
    pub min: u32,
    pub max: u32,
    pub target: f64,
    /// Nodes' worth of load; mean of the last seconds. None: nothing current is known.
    pub demand: Option<f64>,
    /// The highest number of nodes that the window needed.
    pub highest: Option<u32>,
    pub held: Option<Held>,
    /// The same in words.
    pub held_because: Option<String>,
    pub gateways: Vec<GatewayStatus>,
    pub levels: Vec<LevelStatus>,
    /// Of one node, as it is configured.
    pub capacity: Capacity,
    /// Of the last order. 0: there was none.
    pub serial: u64,
    /// The latest first.
    pub decisions: Vec<Decision>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GatewayStatus {
    pub name: NodeName,
    /// What it said last. None: that is too long ago, or it has said nothing yet.
    pub utilisation: Option<f64>,
    pub dimension: Option<Dimension>,
    /// All that it has ever told is current.
    pub current: bool,
    /// Seconds since the last reading that was believed.
    pub age: Option<f64>,
    /// Why the last reading was not believed.
    pub refused: Option<Nonsense>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelStatus {
    pub source: Source,
    pub wanted: Vec<Wanted>,
    /// By itself.
    pub nodes: u32,
    /// Seconds until it expires.
    pub left: f64,
}

impl Scaler {
    pub fn status(&self, now: Instant) -> Status {
        let now = now.max(self.latest);
        let gateways = self.gateways.iter().map(|(name, gateway)| {
            let used = gateway.used(now, &self.policy);
            GatewayStatus {
                name: name.clone(),
                utilisation: used.map(|used| used.part),
                dimension: used.map(|used| used.dimension),
                current: used.is_some_and(|used| used.current),
                age: gateway.last_read().map(|at| now.saturating_duration_since(at).as_secs_f64()),
                refused: gateway.refused,
            }
        });
        let nodes = |standing: &Standing| standing.nodes(|work| self.policy.nodes_for(work));
        let levels = self.levels.iter().filter(|(_, said)| said.until > now).map(|(source, said)| LevelStatus {
            source: source.clone(),
            wanted: said.wanted.iter().map(Standing::wanted).collect(),
            nodes: said.wanted.iter().map(nodes).max().unwrap_or(0),
            left: said.until.saturating_duration_since(now).as_secs_f64(),
        });
        let gateways: Vec<GatewayStatus> = gateways.collect();
        let outlook = self.trend.outlook().filter(|_| gateways.iter().any(|gateway| gateway.utilisation.is_some()));
        Status {
            ordered: self.ordered(),
            serving: self.gateways.len(),
            min: self.policy.min,
            max: self.policy.max,
            target: self.policy.target,
            demand: outlook.map(|outlook| outlook.lately),
            highest: self.peak.highest(),
            held: self.held.clone(),
            held_because: self.held.as_ref().map(Held::to_string),
            gateways,
            levels: levels.collect(),
            capacity: self.policy.capacity,
            serial: self.serial,
            decisions: self.history.iter().rev().cloned().collect(),
        }
    }
}
