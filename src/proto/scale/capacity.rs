//! What a node can carry, as it is configured or as it turned out.
//!
//! **Learned** means: nothing, until the cloud holds a node back without a pause for [`LESSON`]. What came through meanwhile is what a node can carry, and not
//! more: that is the allowance itself, measured. A node that later carries more for as long with nothing held back has more room than that, and raises it. An
//! instance that bursts first and is held back afterwards therefore counts by its baseline once it was held back. Single bursts of loss teach nothing (at low
//! rates they come from microbursts); they are an alarm all the same. Before the first lesson the other dimensions speak: softirq and connections are fractions by
//! nature.
//!
//! All nodes are of one kind here, as those of an Auto Scaling group with one instance type are.

use super::sample::{Allowance, Rates};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What one node can carry in one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capacity {
    /// Bits or packets in a second.
    Configured(f64),
    Learned,
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

/// How long something must hold to be believed.
pub const LESSON: Duration = Duration::from_secs(10);
/// And in how many readings.
const READINGS: u32 = 3;

/// What is known of one of the two dimensions that have a capacity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    configured: Capacity,
    learned: Option<f64>,
}

impl Known {
    pub fn new(configured: Capacity) -> Self {
        Self { configured, learned: None }
    }

    /// As it is configured from now on. What was learned stays known.
    pub fn configure(&mut self, configured: Capacity) {
        self.configured = configured;
    }

    /// Per second. None: not known yet.
    pub fn per_second(&self) -> Option<f64> {
        match self.configured {
            Capacity::Configured(per_second) => Some(per_second),
            Capacity::Learned => self.learned,
        }
    }

    pub fn learn(&mut self, lesson: Lesson) {
        match lesson {
            Lesson::NoMoreThan(rate) if rate > 0.0 => self.learned = Some(rate),
            Lesson::AtLeast(rate) => self.learned = self.learned.map(|learned| learned.max(rate)),
            Lesson::NoMoreThan(_) => {}
        }
    }
}

/// What [`LESSON`] taught, per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lesson {
    /// It was held back all the time.
    NoMoreThan(f64),
    /// It never was.
    AtLeast(f64),
}

/// One node's way to a lesson in one dimension.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pupil {
    began: Option<Instant>,
    readings: u32,
    held_back: u32,
    sum: f64,
    least: f64,
}

impl Pupil {
    pub fn read(&mut self, now: Instant, rate: f64, held_back: bool) -> Option<Lesson> {
        let began = *self.began.get_or_insert(now);
        self.least = if self.readings == 0 { rate } else { self.least.min(rate) };
        self.readings += 1;
        self.held_back += u32::from(held_back);
        self.sum += rate;
        let over = now.saturating_duration_since(began);
        if over < LESSON {
            return None;
        }
        let heard = std::mem::take(self);
        if heard.readings < READINGS || over > LESSON * 3 {
            None
        } else if heard.held_back == heard.readings {
            Some(Lesson::NoMoreThan(heard.sum / f64::from(heard.readings)))
        } else {
            (heard.held_back == 0).then_some(Lesson::AtLeast(heard.least))
        }
    }
}

/// Both dimensions of all nodes.
#[derive(Debug, Clone, Copy)]
pub struct Capacities {
    pub bits: Known,
    pub packets: Known,
}

impl Capacities {
    /// How far a node is used, 1: all it has. Which dimension says so. None: none can tell.
    pub fn utilisation(&self, rates: &Rates) -> Option<(f64, Dimension)> {
        let part = |rate: f64, known: &Known| known.per_second().map(|all| rate / all);
        let parts = [part(rates.bits, &self.bits), part(rates.packets, &self.packets), rates.conntrack, rates.softirq];
        let mut most: Option<(f64, Dimension)> = None;
        for (index, dimension) in Dimension::ALL.into_iter().enumerate() {
            if let Some(part) = parts[index]
                && most.is_none_or(|(most, _)| part >= most)
            {
                most = Some((part, dimension));
            }
        }
        most
    }
}

/// Both dimensions of one node.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pupils {
    bits: Pupil,
    packets: Pupil,
}

impl Pupils {
    pub fn read(&mut self, rates: &Rates, known: &mut Capacities) {
        let risen = |allowances: &[Allowance]| allowances.iter().any(|allowance| rates.risen[*allowance as usize]);
        let bits = self.bits.read(rates.at, rates.bits, risen(&[Allowance::BandwidthIn, Allowance::BandwidthOut]));
        let packets = self.packets.read(rates.at, rates.packets, risen(&[Allowance::Packets]));
        bits.into_iter().for_each(|lesson| known.bits.learn(lesson));
        packets.into_iter().for_each(|lesson| known.packets.learn(lesson));
    }
}
