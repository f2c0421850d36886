//! What a node can carry.
//!
//! Bits, packets and connections in so far as they are configured. Nothing is learned from readings: one node that its neighbours hold back would teach all others to
//! be small. What is not configured is not measured either; how full the table of connections is, and how busy the processor, are fractions by nature and always speak.
//!
//! All nodes are of one kind here, as those of an Auto Scaling group with one instance type are.

use super::level::Load;
use super::sample::{Rates, Told};
use crate::model::Invalid;
use serde::Serialize;

/// What one node can carry for as long as it takes; None: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Capacity {
    /// Received in a second, 1 or more.
    pub bits: Option<f64>,
    /// Received and sent in a second, 1 or more.
    pub packets: Option<f64>,
    /// Entries in its table of connections, 1 or more. The table's own size counts where that is less.
    pub connections: Option<f64>,
}

/// What a node may be short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    Bits,
    Packets,
    Conntrack,
    Softirq,
}

impl Dimension {
    pub const ALL: [Dimension; 4] = [Dimension::Bits, Dimension::Packets, Dimension::Conntrack, Dimension::Softirq];

    /// A metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::Bits => "bits",
            Dimension::Packets => "packets",
            Dimension::Conntrack => "conntrack",
            Dimension::Softirq => "softirq",
        }
    }
}

/// Nodes' worth of bits, packets and connections, in the order of [`Dimension::ALL`].
pub type Work = [f64; 3];

/// A gateway receives a packet and sends it on.
const PACKETS_EACH: f64 = 2.0;
/// A connection stands in the tables of both candidates of its shard.
const ENTRIES_EACH: f64 = 2.0;

impl Capacity {
    pub fn check(&self) -> Result<(), Invalid> {
        for (name, capacity) in [("bits", self.bits), ("packets", self.packets), ("connections", self.connections)] {
            if let Some(most) = capacity.filter(|most| !(most.is_finite() && *most >= 1.0)) {
                return Err(Invalid(format!("a node's capacity of {most} {name}: use 1 or more, or leave it out")));
            }
        }
        Ok(())
    }

    /// How far a node is used, 1: all it has, by [`Dimension`]; each when it was told. None: cannot be told.
    pub fn parts(&self, rates: &Rates) -> [Option<Told<f64>>; Dimension::ALL.len()] {
        let rate = |rate: f64, most: Option<f64>| most.map(|most| Told { at: rates.at, value: rate / most });
        let conntrack = rates.conntrack.map(|Told { at, value }| {
            let room = self.connections.map_or(value.room, |most| most.min(value.room));
            Told { at, value: value.entries / room }
        });
        [rate(rates.bits, self.bits), rate(rates.packets, self.packets), conntrack, rates.softirq]
    }

    /// What a load comes to.
    pub fn work(&self, load: Load) -> Result<Work, Invalid> {
        let figures = [
            ("bits", load.bits, 1.0, self.bits),
            ("packets", load.packets, PACKETS_EACH, self.packets),
            ("connections", load.connections, ENTRIES_EACH, self.connections),
        ];
        let mut work = Work::default();
        for (work, (name, figure, each, most)) in work.iter_mut().zip(figures) {
            let Some(figure) = figure else { continue };
            let Some(most) = most else {
                return Err(Invalid(format!(
                    "a load in {name}, but it is not known how many a node carries: configure that (capacity: {name}), or say nodes or utilisation"
                )));
            };
            *work = figure as f64 * each / most;
        }
        Ok(work)
    }
}
