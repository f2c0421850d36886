//! The decision machine, and what becomes of what it decides.

use super::actuator::Orders;
use crate::config;
use crate::model::NodeName;
use crate::proto::scale::{
    Capacity, Counters, Effect, Hours, Input, Level, Load, Order, Policy, Refused, Sample, Saved, Scaler, Schedule, Source, Status, Step,
    Wanted as Want,
};
use crate::wire::webhook::{self, Figures, Said, order};
use anyhow::anyhow;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub struct Brain {
    scaler: Mutex<Scaler>,
    fleet: Mutex<Fleet>,
    /// The newest one.
    orders: watch::Sender<Option<Arc<order::Order>>>,
    pub dry_run: bool,
    /// A level has come: look before the next tick.
    news: Notify,
    /// There is something to be kept through a restart.
    pub changed: Notify,
}

/// Levels that come in a burst are looked at together after this long.
const SETTLE: Duration = Duration::from_millis(50);

/// What there is.
#[derive(Debug, Default)]
struct Fleet {
    /// The gateways of the configuration.
    serving: Vec<NodeName>,
    /// What whoever runs the nodes has said or taken last. None: as many as there are gateways in the configuration.
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

/// What whoever scales is to make true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// None: not known yet.
    pub wanted: Option<u32>,
    pub min: u32,
    pub max: u32,
}

impl Brain {
    /// `former` is where the process before has stopped.
    pub fn new(config: &config::Autoscaler, dry_run: bool, former: Option<Scaler>) -> anyhow::Result<Self> {
        let scaler = Mutex::new(former.map_or_else(|| scaler(&config.nodes), Ok)?);
        let fleet = Mutex::new(Fleet { is_asked: config.actuator.is_asked() && !dry_run, ..Fleet::default() });
        let brain = Self { scaler, fleet, orders: watch::Sender::default(), dry_run, news: Notify::new(), changed: Notify::new() };
        brain.serving(config);
        Ok(brain)
    }

    /// From now on.
    pub fn configure(&self, config: &config::Autoscaler) -> anyhow::Result<()> {
        let policy = policy(&config.nodes);
        self.scaler().handle(Instant::now(), Input::Policy(policy)).map_err(|error| anyhow!("`nodes`: {error}"))?;
        self.serving(config);
        Ok(())
    }

    /// The gateways of the configuration are those that there are.
    fn serving(&self, config: &config::Autoscaler) {
        let mut fleet = self.fleet();
        fleet.serving = config.gateways.iter().map(|gateway| gateway.name.clone()).collect();
        let Fleet { serving, shards, .. } = &mut *fleet;
        shards.retain(|name, _| serving.contains(name));
        drop(fleet);
        self.assume();
    }

    /// From now on whoever runs the nodes is asked what there is, or is not.
    pub fn ask(&self, is_asked: bool) {
        let mut fleet = self.fleet();
        if !is_asked {
            fleet.away.clear();
        }
        fleet.is_asked = is_asked;
    }

    /// Whoever runs the nodes says that so many are ordered.
    pub fn told(&self, ordered: u32) {
        self.fleet().ordered = Some(ordered);
    }

    /// It says so, and which are starting or going.
    #[cfg(feature = "aws")]
    pub fn looked(&self, ordered: u32, away: BTreeSet<NodeName>) {
        let mut fleet = self.fleet();
        (fleet.ordered, fleet.away) = (Some(ordered), away);
        self.tell(&fleet);
    }

    /// A gateway has so many shards.
    pub fn carries(&self, name: &NodeName, shards: Option<u64>) {
        let mut fleet = self.fleet();
        match shards.filter(|_| fleet.serving.contains(name)) {
            Some(shards) => drop(fleet.shards.insert(name.clone(), (Instant::now(), shards))),
            None => drop(fleet.shards.remove(name)),
        }
    }

    /// It is known of this gateway that it has no shards.
    #[cfg(feature = "aws")]
    pub fn has_no_shards(&self, name: &NodeName) -> bool {
        self.fleet().shards.get(name).is_some_and(|(at, shards)| *shards == 0 && at.elapsed() <= CARRIES)
    }

    /// What became of an order.
    pub fn answered(&self, serial: u64, taken: bool) {
        let answer = if taken { Input::Taken(serial) } else { Input::NotTaken(serial) };
        // Only readings and levels are refused.
        let _ = self.scaler().handle(Instant::now(), answer);
        self.assume();
    }

    /// Orders as they come.
    pub fn orders(&self) -> Orders {
        self.orders.subscribe()
    }

    /// What the configuration says, if nobody is asked.
    fn assume(&self) {
        let fleet = self.fleet();
        if !fleet.is_asked {
            self.tell(&fleet);
        }
    }

    fn tell(&self, fleet: &Fleet) {
        let ordered = fleet.ordered.unwrap_or_else(|| u32::try_from(fleet.serving.len()).unwrap_or(u32::MAX));
        let serving = fleet.serving.iter().filter(|name| !fleet.away.contains(name)).cloned().collect();
        // Only readings and levels are refused.
        let _ = self.scaler().handle(Instant::now(), Input::Fleet { ordered, serving });
    }

    /// # Errors
    /// It is not believed, and counted.
    pub fn read(&self, name: &NodeName, sample: Sample) -> Result<(), Refused> {
        self.scaler().handle(Instant::now(), Input::Reading(name.clone(), sample))
    }

    /// What somebody has posted.
    ///
    /// # Errors
    /// It is not believed, and counted.
    pub fn hear(&self, said: Said) -> Result<(), Refused> {
        let source = |source: &webhook::Source| source.as_str().parse::<Source>();
        match said {
            Said::Level(level) => self.say(Level { source: source(&level.source)?, wanted: wants(&level.figures), until: level.until }),
            Said::Ends(of) => {
                self.end(&source(&of)?);
                Ok(())
            }
        }
    }

    /// # Errors
    /// It is not believed, and counted.
    pub fn say(&self, level: Level) -> Result<(), Refused> {
        self.take(Input::Level(level))
    }

    /// From now on these are asked what is to come, and no others.
    pub fn asked(&self, sources: Vec<Source>) {
        // Only readings and levels are refused.
        let _ = self.scaler().handle(Instant::now(), Input::Asked(sources));
    }

    pub fn end(&self, source: &Source) {
        // That a level is over is always believed.
        let _ = self.take(Input::LevelEnds(source.clone()));
    }

    fn take(&self, input: Input) -> Result<(), Refused> {
        self.scaler().handle(Instant::now(), input)?;
        self.news.notify_one();
        self.changed.notify_one();
        Ok(())
    }

    pub fn saved(&self) -> Saved {
        self.scaler().saved(Instant::now(), SystemTime::now())
    }

    pub fn status(&self) -> Status {
        self.scaler().status(Instant::now())
    }

    pub fn counters(&self) -> Counters {
        self.scaler().counters.clone()
    }

    pub fn wanted(&self) -> Wanted {
        let scaler = self.scaler();
        let Policy { min, max, .. } = *scaler.policy();
        Wanted { wanted: scaler.ordered(), min, max }
    }

    fn look(&self) {
        self.assume();
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut scaler = self.scaler();
        scaler.tick(now, wall);
        while let Some(effect) = scaler.next_effect() {
            self.changed.notify_one();
            match effect {
                Effect::Decided(decision) if self.dry_run => tracing::info!("would order: {decision}"),
                Effect::Decided(decision) => tracing::info!("{decision}"),
                Effect::Held(held) => tracing::info!("no other number of nodes: {held}"),
                Effect::Order(Order { serial, nodes }) => {
                    let Policy { min, max, .. } = *scaler.policy();
                    // What is said again long after is of no decision that is remembered.
                    let decision = scaler.history().last().filter(|decision| decision.to == nodes);
                    let (from, reason) =
                        decision.map_or((nodes, "ordered before".to_owned()), |decision| (decision.from, decision.reason.to_string()));
                    let time = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                    self.orders.send_replace(Some(Arc::new(order::Order { serial, wanted: nodes, min, max, from, reason, time })));
                }
            }
        }
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scaler(&self) -> MutexGuard<'_, Scaler> {
        self.scaler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until `end`.
pub async fn tick(brain: Arc<Brain>, end: CancellationToken) {
    let mut ticks = tokio::time::interval(Scaler::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
            () = brain.news.notified() => {}
        }
        brain.look();
        tokio::time::sleep(SETTLE).await;
    }
}

fn scaler(nodes: &config::Nodes) -> anyhow::Result<Scaler> {
    Scaler::new(Instant::now(), policy(nodes)).map_err(|error| anyhow!("`nodes`: {error}"))
}

pub fn policy(nodes: &config::Nodes) -> Policy {
    let step = |change: config::Change| Step { nodes: change.nodes, percent: change.percent };
    let minutes = |time: time::Time| u16::from(time.hour()) * 60 + u16::from(time.minute());
    let hours = |hours: &config::Hours| Hours {
        days: hours.days.clone(),
        from: minutes(hours.from),
        // Midnight as an end is the end of the day.
        to: if minutes(hours.to) == 0 { 24 * 60 } else { minutes(hours.to) },
        min: hours.min,
    };
    Policy {
        target: f64::from(nodes.target) / 100.0,
        min: nodes.min,
        max: nodes.max,
        out_cooldown: nodes.out.cooldown,
        in_cooldown: nodes.r#in.cooldown,
        out_step: step(nodes.out),
        in_step: step(nodes.r#in),
        window: nodes.window,
        stale_after: nodes.stale_after,
        start_up: nodes.start_up,
        schedule: Schedule { offset: nodes.utc_offset, hours: nodes.hours.iter().map(hours).collect() },
        capacity: Capacity {
            bits: nodes.bits_per_second.map(float),
            packets: nodes.packets_per_second.map(float),
            connections: nodes.connections.map(float),
        },
    }
}

fn wants(figures: &Figures) -> Vec<Want> {
    let Figures { nodes, bits_per_second: bits, packets_per_second: packets, connections } = *figures;
    let load = Load { bits, packets, connections };
    nodes.map(Want::Nodes).into_iter().chain((load != Load::default()).then_some(Want::Load(load))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "at most 10^13, which is exact")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_configuration_that_is_accepted_makes_a_policy() {
        let limits = "autoscaler: { gateways: [{ name: a, metrics: 'http://127.0.0.1:1/metrics' }], nodes: { min: 1000, max: 1000, target: 95, \
                      bits_per_second: 10000000000000, packets_per_second: 1, connections: 1, out: { cooldown: 1h, nodes: 1000, percent: 1000 }, \
                      in: { cooldown: 24h, nodes: 1, percent: 0 }, window: 24h, stale_after: 5m, start_up: 1h, utc_offset: '-23:59', \
                      hours: [{ from: '23:00', to: '00:00', min: 1000 }, { days: [sun], from: '00:00', to: '23:59', min: 1 }] } }";
        for text in [limits, "autoscaler: { gateways: [{ name: a, metrics: 'http://127.0.0.1:1/metrics' }] }"] {
            let Ok(config::Config::Autoscaler(config)) = config::parse(text, "f") else { panic!("{text}") };
            policy(&config.nodes).check().unwrap();
        }
        let Ok(config::Config::Autoscaler(config)) = config::parse(limits, "f") else { panic!() };
        assert_eq!(
            policy(&config.nodes).schedule.hours.iter().map(|hours| (hours.from, hours.to)).collect::<Vec<_>>(),
            [(1380, 1440), (0, 1439)]
        );
        // The defaults of both are the same.
        assert_eq!(policy(&config::Nodes::default()), Policy::default());
    }
}
