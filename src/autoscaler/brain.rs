//! The decision machine, and what becomes of what it decides.

use super::actuator::Orders;
use super::fleet::Fleet;
use crate::config::{self, Gateways};
use crate::daemon::pulse::Pulse;
use crate::model::NodeName;
use crate::proto::retire;
use crate::proto::roster::{self, Listed, Place, Roster};
use crate::proto::scale::{
    Capacity, Counters, Effect, Hours, Input, Level, Load, Order, Policy, Refused, Sample, Saved, Scaler, Schedule, Source, Status, Step,
    Wanted as Want,
};
use crate::wire::webhook::{self, Figures, Said, order};
use anyhow::anyhow;
use serde::Serialize;
use std::collections::BTreeMap;
#[cfg(feature = "aws")]
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub struct Brain {
    scaler: Mutex<Scaler>,
    fleet: Mutex<Fleet>,
    /// The gateways that a directory has told of. None: the configuration lists them.
    roster: Mutex<Option<Roster>>,
    /// Or nobody does, and what is ordered stands.
    takes_orders: AtomicBool,
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
    pub fn new(config: &config::Autoscaler, dry_run: bool, former: Option<(Scaler, Option<Roster>)>) -> anyhow::Result<Self> {
        let (former, roster) = former.unzip();
        let scaler = Mutex::new(former.map_or_else(|| scaler(&config.nodes), Ok)?);
        let (roster, takes_orders) = (Mutex::new(roster.flatten()), AtomicBool::default());
        let fleet = Mutex::new(Fleet::new(config.actuator.is_asked() && !dry_run));
        let (orders, news, changed) = (watch::Sender::default(), Notify::new(), Notify::new());
        let brain = Self { scaler, fleet, roster, takes_orders, orders, dry_run, news, changed };
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

    /// The gateways of the configuration are those that there are, or those that its directory has told of.
    fn serving(&self, config: &config::Autoscaler) {
        let takes_orders = config.actuator != config::Actuator::None && !self.dry_run;
        self.takes_orders.store(takes_orders, Relaxed);
        match &config.gateways {
            Gateways::Listed(all) => {
                *self.roster() = None;
                self.fleet().serve(all.iter().map(|gateway| gateway.name.clone()).collect());
                self.assume();
            }
            Gateways::Discovered(_) => {
                let mut roster = self.roster();
                self.discovered(roster.get_or_insert_default());
            }
        }
    }

    /// The directory has told of these.
    pub fn learn(&self, list: &BTreeMap<NodeName, Listed>) {
        let (ordered, read) = {
            let scaler = self.scaler();
            (scaler.ordered(), scaler.last_read())
        };
        let mut roster = self.roster();
        let Some(roster) = &mut *roster else { return };
        if roster.hear(Instant::now(), list, &read, ordered) {
            self.changed.notify_one();
        }
        self.discovered(roster);
    }

    fn discovered(&self, roster: &Roster) {
        let last = self.saved().last_change.map(|change| change.nodes);
        let mut fleet = self.fleet();
        fleet.discover(roster.members().map(|(name, _)| name.clone()).collect(), roster.is_known(), last);
        if !fleet.is_asked() {
            self.tell(&fleet);
        }
    }

    /// The gateways that a directory has told of, and where each is asked.
    pub fn known(&self) -> Vec<(NodeName, Place)> {
        self.roster().iter().flat_map(Roster::members).map(|(name, place)| (name.clone(), place)).collect()
    }

    /// None: the configuration lists them.
    pub fn roster_status(&self) -> Option<roster::Status> {
        self.roster().as_ref().map(|roster| roster.status(Instant::now()))
    }

    pub fn saved_roster(&self) -> Option<roster::Saved> {
        self.roster().as_ref().map(Roster::saved).filter(|saved| !saved.gateways.is_empty())
    }

    /// From now on whoever runs the nodes is asked what there is, or is not.
    pub fn ask(&self, is_asked: bool) {
        self.fleet().ask(is_asked);
    }

    /// Whoever runs the nodes says that so many are ordered.
    pub fn told(&self, ordered: u32) {
        self.fleet().told(ordered);
    }

    /// It says so, and which are starting or going, and which are there.
    #[cfg(feature = "aws")]
    pub fn looked(&self, ordered: u32, away: BTreeSet<NodeName>, here: BTreeSet<NodeName>) {
        let mut fleet = self.fleet();
        fleet.looked(ordered, away, here);
        self.tell(&fleet);
    }

    /// What a gateway says that it carries; None: it does not say.
    pub fn carries(&self, name: &NodeName, load: Option<retire::Load>) {
        self.fleet().carries(Instant::now(), name, load);
    }

    /// What it carries, if it has said so lately.
    #[cfg(feature = "aws")]
    pub fn load(&self, name: &NodeName) -> Option<retire::Load> {
        self.fleet().load(Instant::now(), name)
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

    /// What the configuration says, if nobody is asked. A directory that is away says nothing: after a while it is not known any more what there is.
    fn assume(&self) {
        let fleet = self.fleet();
        if !fleet.is_asked() && !fleet.is_discovered() {
            self.tell(&fleet);
        }
    }

    fn tell(&self, fleet: &Fleet) {
        let Some(ordered) = fleet.ordered() else { return };
        let input = Input::Fleet { ordered, serving: fleet.serving() };
        // Only readings and levels are refused.
        let _ = self.scaler().handle(Instant::now(), input);
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
        let (mut scaler, mut stands) = (self.scaler(), None);
        scaler.tick(now, wall);
        while let Some(effect) = scaler.next_effect() {
            self.changed.notify_one();
            match effect {
                Effect::Decided(decision) if self.dry_run => tracing::info!("would order: {decision}"),
                Effect::Decided(decision) => tracing::info!("{decision}"),
                Effect::Held(held) => tracing::info!("no other number of nodes: {held}"),
                Effect::Order(Order { serial, nodes }) => {
                    stands = Some(nodes);
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
        drop(scaler);
        if let Some(nodes) = stands.filter(|_| !self.takes_orders.load(Relaxed)) {
            self.fleet().stands(nodes);
        }
    }

    fn roster(&self) -> MutexGuard<'_, Option<Roster>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
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
    let mut pulse = Pulse::new(Instant::now());
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
            () = brain.news.notified() => {}
        }
        brain.look();
        pulse.beat(Instant::now());
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

    #[test]
    fn a_list_of_gateways_is_no_order() {
        let text = "autoscaler: { gateways: { directory: { url: 'http://127.0.0.1:1', token_file: /t } }, nodes: { min: 2, max: 10 } }";
        let Ok(config::Config::Autoscaler(config)) = config::parse(text, "f") else { panic!() };
        let brain = Brain::new(&config, false, None).unwrap();
        let list = |numbers: std::ops::Range<usize>, heard: Option<Duration>| {
            let one = |number: usize| {
                (format!("gw-{number}").parse().unwrap(), Listed { heard, at: format!("10.9.0.{number}:9470").parse().ok() })
            };
            numbers.map(one).collect::<BTreeMap<_, _>>()
        };
        let seen = || {
            brain.look();
            (brain.wanted().wanted, brain.status().serving)
        };
        assert_eq!(seen(), (None, 0), "nobody has told");
        brain.learn(&list(1..4, None));
        assert_eq!(seen(), (None, 0), "the directory was started a moment ago");
        brain.learn(&list(1..4, Some(Duration::ZERO)));
        assert_eq!(seen(), (Some(3), 3));
        brain.learn(&list(1..3, Some(Duration::ZERO)));
        assert_eq!(seen(), (Some(3), 2), "one was taken out");
        brain.learn(&BTreeMap::new());
        assert_eq!(seen(), (Some(3), 2), "a list of nobody is doubted");
        brain.learn(&list(1..6, Some(Duration::ZERO)));
        assert_eq!(seen(), (Some(3), 5), "others were started");
        let level = |nodes| Level {
            source: "demand/sale".parse().unwrap(),
            wanted: vec![Want::Nodes(nodes)],
            until: Instant::now() + 1000 * SETTLE,
        };
        brain.say(level(7)).unwrap();
        assert_eq!(seen(), (Some(7), 5));
        brain.learn(&list(1..6, Some(Duration::ZERO)));
        assert_eq!(seen(), (Some(7), 5), "what was ordered stands");
        // The next process, whose directory is away.
        let saved = brain.saved_roster().unwrap();
        let former = Scaler::restore(Instant::now(), SystemTime::now(), policy(&config.nodes), brain.saved()).unwrap();
        let next = Brain::new(&config, false, Some((former, Some(Roster::restore(Instant::now(), saved))))).unwrap();
        next.look();
        assert_eq!((next.wanted().wanted, next.status().serving), (Some(7), 5));
    }
}
