//! What the machine did: everything here only ever grows.

use super::reason::{Decision, Direction, Held, Reason};
use super::sample::{Allowance, Nonsense, Rates};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Readings of gateways.
    pub readings: u64,
    refused: [u64; Nonsense::ALL.len()],
    losses: [u64; Allowance::ALL.len()],
    decisions: BTreeMap<(Direction, &'static str), u64>,
    held: BTreeMap<&'static str, u64>,
    /// Levels that were refused.
    pub refused_levels: u64,
    /// Orders that were not taken.
    pub refused_orders: u64,
    /// Answers to orders that were not the latest, or were answered already.
    pub late_answers: u64,
    /// Orders that were given once more.
    pub repeated_orders: u64,
}

impl Counters {
    pub fn refuse(&mut self, why: Nonsense) {
        self.refused[why as usize] += 1;
    }

    pub fn lose(&mut self, rates: &Rates) {
        rates.risen().for_each(|allowance| self.losses[allowance as usize] += 1);
    }

    pub fn decide(&mut self, decision: &Decision) {
        *self.decisions.entry((decision.direction(), decision.reason.as_str())).or_default() += 1;
    }

    pub fn hold(&mut self, held: &Held) {
        *self.held.entry(held.as_str()).or_default() += 1;
    }

    /// Readings that were not believed.
    pub fn refused(&self) -> impl Iterator<Item = (Nonsense, u64)> + use<> {
        Nonsense::ALL.into_iter().zip(self.refused)
    }

    /// Readings in which a counter of the cloud had risen.
    pub fn losses(&self) -> impl Iterator<Item = (Allowance, u64)> + use<> {
        Allowance::ALL.into_iter().zip(self.losses)
    }

    /// All reasons, each in both directions.
    pub fn decisions(&self) -> impl Iterator<Item = (Direction, &'static str, u64)> {
        let all = [Direction::Out, Direction::In].into_iter().flat_map(|way| Reason::LABELS.map(|label| (way, label)));
        all.map(|(way, label)| (way, label, self.decisions.get(&(way, label)).copied().unwrap_or_default()))
    }

    /// How often each began to hold.
    pub fn held(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Held::LABELS.into_iter().map(|label| (label, self.held.get(label).copied().unwrap_or_default()))
    }
}
