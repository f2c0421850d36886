//! What is known of the gateways that carry traffic.

use super::capacity::Dimension;
use super::mean::Mean;
use super::policy::Policy;
use super::sample::{Meter, Nonsense, Rates, Sample, Told};
use crate::model::NodeName;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub struct Gateways {
    known: BTreeMap<NodeName, Gateway>,
    /// What comes now is another load than what was before: one that counted is none of them any more, or a node carries more or less.
    others: bool,
}

#[derive(Debug, Default)]
pub struct Gateway {
    meter: Meter,
    /// How far it is used, since others than now carried traffic.
    mean: Mean,
    /// Why its last reading was not believed.
    pub refused: Option<Nonsense>,
    /// At the last look its load counted.
    counts: bool,
}

/// How far a gateway is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Used {
    /// 1: all it has.
    pub part: f64,
    /// In which it is used most.
    pub dimension: Dimension,
    /// All that it ever told is current.
    pub current: bool,
}

/// All of them together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// In nodes' worth: the sum of what is used of each. Of one that has fallen silent it is what it said last.
    pub demand: f64,
    /// Of how many.
    pub counted: u32,
    /// Of how many of these all is current.
    pub current: u32,
    /// How far the busiest is used at the moment, and by what.
    pub busiest: Option<(f64, Dimension)>,
    pub hottest: Option<Hottest>,
    /// Of whom something is not known any more, or nothing yet.
    pub missing: Vec<NodeName>,
    /// It is of others than the last one was.
    pub others: bool,
}

/// The gateway that is used most in the mean of the last minutes.
#[derive(Debug, Clone, PartialEq)]
pub struct Hottest {
    pub node: NodeName,
    pub utilisation: f64,
    /// How many times as much as all of them in the mean.
    pub skew: f64,
    /// How long nobody has come or gone.
    pub over: Duration,
}

/// What was said last counts for so long: as long as a reading may ever be old.
pub const LAST_WORD: Duration = Duration::from_secs(300);

impl Gateways {
    /// These carry traffic, and no others.
    pub fn replace(&mut self, serving: impl IntoIterator<Item = NodeName>) {
        let mut old = std::mem::take(&mut self.known);
        self.known = serving.into_iter().map(|name| old.remove_entry(&name).unwrap_or_else(|| (name, Gateway::default()))).collect();
        self.others |= old.values().any(|gateway| gateway.counts);
    }

    /// What a node carries is another from now on.
    pub fn begin_anew(&mut self) {
        self.others = true;
    }

    /// None: it is none of them, or this is its first reading.
    pub fn read(&mut self, now: Instant, name: &NodeName, sample: Sample, policy: &Policy) -> Result<Option<Rates>, Nonsense> {
        let Some(gateway) = self.known.get_mut(name) else { return Ok(None) };
        let read = gateway.meter.read(now, sample);
        gateway.refused = read.err();
        let rates = read?;
        if rates.is_some()
            && let Some(used) = gateway.used(now, policy)
        {
            gateway.mean.add(now, used.part);
        }
        Ok(rates)
    }

    /// Also takes down whose load counts now.
    pub fn measure(&mut self, now: Instant, policy: &Policy) -> Measured {
        let mut all = Measured { others: std::mem::take(&mut self.others), ..Measured::default() };
        for (name, gateway) in &mut self.known {
            let used = gateway.used(now, policy);
            all.others |= std::mem::replace(&mut gateway.counts, used.is_some()) != used.is_some();
            if used.is_none_or(|used| !used.current) {
                all.missing.push(name.clone());
            }
            if let Some(Used { part, dimension, current }) = used {
                all.demand += part;
                all.counted += 1;
                all.current += u32::from(current);
                if all.busiest.is_none_or(|(most, _)| part > most) {
                    all.busiest = Some((part, dimension));
                }
            }
        }
        if all.others {
            self.known.values_mut().for_each(|gateway| gateway.mean = Mean::default());
        }
        all.hottest = self.hottest();
        all
    }

    fn hottest(&self) -> Option<Hottest> {
        let means = self.known.iter().filter(|(_, gateway)| gateway.counts);
        let (mut most, mut sum, mut many): (Option<(&NodeName, f64, Duration)>, f64, f64) = (None, 0.0, 0.0);
        for (name, gateway) in means {
            let Some(mean) = gateway.mean.get() else { continue };
            (sum, many) = (sum + mean, many + 1.0);
            if most.is_none_or(|(_, most, _)| mean > most) {
                most = Some((name, mean, gateway.mean.over()));
            }
        }
        let (name, utilisation, over) = most.filter(|_| sum > 0.0)?;
        Some(Hottest { node: name.clone(), utilisation, skew: utilisation * many / sum, over })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &Gateway)> {
        self.known.iter()
    }

    pub fn len(&self) -> u32 {
        u32::try_from(self.known.len()).unwrap_or(u32::MAX)
    }
}

impl Gateway {
    /// By what it told last. None: nothing for too long, or nothing yet.
    pub fn used(&self, now: Instant, policy: &Policy) -> Option<Used> {
        let (mut most, mut current): (Option<(f64, Dimension)>, bool) = (None, true);
        for (dimension, part) in Dimension::ALL.into_iter().zip(policy.capacity.parts(self.meter.rates()?)) {
            let Some(Told { at, value }) = part else { continue };
            let age = now.saturating_duration_since(at);
            current &= age <= policy.stale_after;
            if age <= LAST_WORD && most.is_none_or(|(most, _)| value >= most) {
                most = Some((value, dimension));
            }
        }
        most.map(|(part, dimension)| Used { part, dimension, current })
    }

    pub fn last_read(&self) -> Option<Instant> {
        self.meter.rates().map(|rates| rates.at)
    }
}
