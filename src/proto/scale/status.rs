//! All that there is to show.

use super::Scaler;
use super::capacity::Dimension;
use super::level::{Source, Wanted};
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
    /// What a node is known to carry, in a second.
    pub bits_per_node: Option<f64>,
    pub packets_per_node: Option<f64>,
    /// The latest first.
    pub decisions: Vec<Decision>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GatewayStatus {
    pub name: NodeName,
    /// None: nothing current is known.
    pub utilisation: Option<f64>,
    pub dimension: Option<Dimension>,
    /// Seconds since the last reading that was believed.
    pub age: Option<f64>,
    /// Why the last reading was not believed.
    pub refused: Option<Nonsense>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelStatus {
    pub source: Source,
    pub wanted: Wanted,
    pub nodes: u32,
    /// Seconds until it expires.
    pub left: f64,
}

impl Scaler {
    pub fn status(&self, now: Instant) -> Status {
        let now = now.max(self.latest);
        let gateways = self.gateways.iter().map(|(name, gateway)| {
            let fresh = gateway.meter.fresh(now, self.policy.stale_after);
            let used = fresh.and_then(|rates| self.gateways.capacities.utilisation(rates));
            GatewayStatus {
                name: name.clone(),
                utilisation: used.map(|(part, _)| part),
                dimension: used.map(|(_, dimension)| dimension),
                age: gateway.meter.last_read().map(|at| now.saturating_duration_since(at).as_secs_f64()),
                refused: gateway.refused,
            }
        });
        let levels = self.levels.iter().filter(|(_, standing)| standing.until > now).map(|(source, standing)| LevelStatus {
            source: source.clone(),
            wanted: standing.wanted,
            nodes: standing.nodes(|demand| self.policy.nodes_for(demand)),
            left: standing.until.saturating_duration_since(now).as_secs_f64(),
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
            bits_per_node: self.gateways.capacities.bits.per_second(),
            packets_per_node: self.gateways.capacities.packets.per_second(),
            decisions: self.history.iter().rev().cloned().collect(),
        }
    }
}
