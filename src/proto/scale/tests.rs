mod capacity;
mod decisions;
mod levels;
mod orders;
mod random;
mod readings;
mod relief;
mod saved;
mod schedule;
mod silence;

use super::*;
use std::collections::BTreeMap;

pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn node(number: usize) -> NodeName {
    format!("gw-{number}").parse().unwrap()
}

/// 10 bits in a second are all that a node carries.
pub const EACH: f64 = 10.0;

pub fn policy() -> Policy {
    Policy { max: 20, capacity: Capacity { bits: Some(EACH), ..Capacity::default() }, ..Policy::default() }
}

/// A machine and what it decides about. Nodes come when [`Bench::come`] says so.
pub struct Bench {
    pub start: Instant,
    pub now: Instant,
    pub scaler: Scaler,
    pub serving: usize,
    told: u32,
    /// Whoever runs the nodes says every half minute how many there are.
    pub talks: bool,
    /// It takes no orders.
    pub deaf: bool,
    counted: BTreeMap<NodeName, f64>,
    pub orders: Vec<u32>,
    /// Of the last order.
    pub serial: u64,
    pub decisions: Vec<Decision>,
    /// At each, how much load was to be expected.
    pub soon: Vec<f64>,
    pub holds: Vec<&'static str>,
}

impl Bench {
    pub fn new(policy: Policy, nodes: usize) -> Self {
        let now = Instant::now();
        let scaler = Scaler::new(now, policy).unwrap();
        let (orders, decisions, holds) = (vec![], vec![], vec![]);
        let mut bench = Self {
            start: now,
            now,
            scaler,
            serving: nodes,
            told: 0,
            talks: true,
            deaf: false,
            counted: BTreeMap::new(),
            orders,
            serial: 0,
            decisions,
            soon: vec![],
            holds,
        };
        bench.fleet(nodes as u32, nodes);
        bench
    }

    pub fn fleet(&mut self, ordered: u32, serving: usize) {
        (self.told, self.serving) = (ordered, serving);
        let serving = (0..serving).map(node).collect();
        self.scaler.handle(self.now, Input::Fleet { ordered, serving }).unwrap();
    }

    /// All that is ordered carries traffic.
    pub fn come(&mut self) {
        let ordered = self.scaler.ordered().unwrap();
        self.fleet(ordered, ordered as usize);
    }

    /// So many are ordered and carry traffic.
    pub fn come_to(&mut self, nodes: usize) {
        self.fleet(nodes as u32, nodes);
    }

    /// What a gateway with so much traffic says now.
    pub fn sample(&mut self, name: &NodeName, used: f64) -> Sample {
        let bits = self.counted.entry(name.clone()).or_default();
        *bits += used * EACH;
        Sample { clock: (self.now - self.start).as_secs_f64() + 1000.0, bits: *bits, ..Sample::default() }
    }

    /// A second with so much load, in nodes' worth, on those that carry traffic; `heard`: whose readings come.
    pub fn second(&mut self, load: f64, heard: impl Fn(usize) -> bool) {
        let each = (load / self.serving as f64).min(1.0);
        self.second_of_each(|_| each, heard);
    }

    /// With so much on each.
    pub fn second_of_each(&mut self, used: impl Fn(usize) -> f64, heard: impl Fn(usize) -> bool) {
        self.pass();
        for number in 0..self.serving {
            let sample = self.sample(&node(number), used(number));
            if heard(number) {
                let _ = self.scaler.handle(self.now, Input::Reading(node(number), sample));
            }
        }
        self.tick();
    }

    /// A second passes.
    pub fn pass(&mut self) {
        self.now += s(1);
        if self.talks && (self.now - self.start).as_secs().is_multiple_of(30) {
            self.fleet(self.told, self.serving);
        }
    }

    pub fn seconds(&mut self, many: u64, load: f64) {
        (0..many).for_each(|_| self.second(load, |_| true));
    }

    /// What whoever runs the nodes says, every now and then.
    pub fn minutes(&mut self, many: u64, load: f64) {
        for _ in 0..many {
            self.seconds(60, load);
            self.come();
        }
    }

    pub fn wall(&self) -> SystemTime {
        UNIX_EPOCH + s(1_700_000_000) + (self.now - self.start)
    }

    pub fn tick(&mut self) {
        self.scaler.tick(self.now, self.wall());
        self.gather();
    }

    pub fn say(&mut self, source: &str, wanted: &[Wanted], seconds: u64) -> Result<(), Refused> {
        let level = Level { source: source.parse().unwrap(), wanted: wanted.to_vec(), until: self.now + s(seconds) };
        self.scaler.handle(self.now, Input::Level(level))
    }

    pub fn gather(&mut self) {
        while let Some(effect) = self.scaler.next_effect() {
            match effect {
                Effect::Order(Order { serial, nodes }) => {
                    assert!(serial > self.serial, "{serial} after {}", self.serial);
                    self.serial = serial;
                    self.orders.push(nodes);
                    self.told = if self.deaf { self.told } else { nodes };
                }
                Effect::Decided(decision) => {
                    self.decisions.push(decision);
                    self.soon.push(self.scaler.trend.outlook().map_or(0.0, |outlook| outlook.soon));
                }
                Effect::Held(held) => self.holds.push(held.as_str()),
            }
        }
    }

    pub fn ordered(&self) -> u32 {
        self.scaler.ordered().unwrap()
    }

    pub fn held(&self) -> Option<&'static str> {
        self.scaler.held().map(Held::as_str)
    }
}
