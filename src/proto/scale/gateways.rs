//! What is known of the gateways that carry traffic.

use super::capacity::{Capacities, Dimension, Known, Pupils};
use super::policy::Policy;
use super::sample::{Meter, Nonsense, Rates, Sample};
use crate::model::NodeName;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Gateways {
    known: BTreeMap<NodeName, Gateway>,
    pub capacities: Capacities,
    /// One whose readings counted is none of them any more.
    gone: bool,
}

#[derive(Debug, Default)]
pub struct Gateway {
    pub meter: Meter,
    pupils: Pupils,
    /// Why its last reading was not believed.
    pub refused: Option<Nonsense>,
    /// At the last look something current was known of it.
    counts: bool,
}

/// All of them together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// In nodes' worth: the sum of what is used of each.
    pub demand: f64,
    /// Of how many.
    pub counted: u32,
    /// How far the busiest is used, and by what.
    pub busiest: Option<(f64, Dimension)>,
    /// Of whom nothing current is known.
    pub missing: Vec<NodeName>,
    /// The sum is over others than the last one was.
    pub others: bool,
}

impl Gateways {
    pub fn new(policy: &Policy) -> Self {
        let capacities = Capacities { bits: Known::new(policy.bits), packets: Known::new(policy.packets) };
        Self { known: BTreeMap::new(), capacities, gone: false }
    }

    /// These carry traffic, and no others.
    pub fn replace(&mut self, serving: impl IntoIterator<Item = NodeName>) {
        let mut old = std::mem::take(&mut self.known);
        self.known = serving.into_iter().map(|name| old.remove_entry(&name).unwrap_or_else(|| (name, Gateway::default()))).collect();
        self.gone |= old.values().any(|gateway| gateway.counts);
    }

    /// None: it is none of them, or this is its first reading.
    pub fn read(&mut self, now: Instant, name: &NodeName, sample: Sample) -> Result<Option<Rates>, Nonsense> {
        let Some(gateway) = self.known.get_mut(name) else { return Ok(None) };
        let read = gateway.meter.read(now, sample);
        gateway.refused = read.err();
        let rates = read?;
        if let Some(rates) = &rates {
            gateway.pupils.read(rates, &mut self.capacities);
        }
        Ok(rates)
    }

    /// Also takes down whose readings count now.
    pub fn measure(&mut self, now: Instant, stale_after: Duration) -> Measured {
        let mut all = Measured::default();
        for (name, gateway) in &mut self.known {
            let used = gateway.meter.fresh(now, stale_after).and_then(|rates| self.capacities.utilisation(rates));
            all.others |= std::mem::replace(&mut gateway.counts, used.is_some()) != used.is_some();
            match used {
                None => all.missing.push(name.clone()),
                Some((part, dimension)) => {
                    all.demand += part;
                    all.counted += 1;
                    if all.busiest.is_none_or(|(most, _)| part > most) {
                        all.busiest = Some((part, dimension));
                    }
                }
            }
        }
        all.others |= std::mem::take(&mut self.gone);
        all
    }

    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &Gateway)> {
        self.known.iter()
    }

    pub fn len(&self) -> u32 {
        u32::try_from(self.known.len()).unwrap_or(u32::MAX)
    }
}
