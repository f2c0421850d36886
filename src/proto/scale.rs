//! How many gateways there should be: readings of them go in, orders come out.

mod capacity;
mod counters;
mod effect;
mod gateways;
mod level;
mod orders;
mod peak;
mod policy;
mod reason;
mod relief;
mod sample;
mod schedule;
mod status;
mod trend;

pub use capacity::{Capacity, Dimension};
pub use counters::Counters;
pub use effect::{Effect, Input, Refused};
pub use level::{Level, Source, Wanted};
pub use policy::{Policy, Step};
pub use reason::{Decision, Direction, Held, Reason};
pub use sample::{Allowance, Conntrack, Nonsense, Sample};
pub use schedule::{Hours, Schedule};
pub use status::Status;

use crate::model::{Invalid, NodeName};
use gateways::{Gateways, Measured};
use level::Levels;
use orders::Orders;
use peak::Peak;
use relief::{Loss, Relief, SATURATED};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trend::{Outlook, Trend};

/// The autoscaler's mind.
///
/// ```text
///  reading of a gateway --> Meter --> rates --> highest of bits, packets, conntrack, softirq: what is used of it
///       |                     | nonsense: refused, counted; the gateway is missing once what it said last is stale
///       |                     v
///       |                   sum over gateways = demand, in nodes' worth --> Trend --> level, rise
///       |                                                                      |
///       +-- the cloud held packets back --> Relief --+                         |
///  Level of somebody else --> until it expires ------+                         |
///  Schedule, min ------------------------------------+--> the highest <--------+
///                                                             |
///                    more than is ordered <-------------------+-------------------> Peak: the highest of a while
///                             |                                                        | fewer than are ordered
///      cooldown (short), step, max                             all gateways heard, window full, cooldown (long), step
///                             |                                                        |
///                             +-----------------> Decided, Order <---------------------+
/// ```
///
/// **A number, never a difference.** What is needed follows from what is used, so it does not grow because nodes that are ordered are not there yet. Only two
/// needs are relative, as there is nothing to measure: when all is used, and when the cloud drops. These wait until all that is ordered carries traffic
/// ([`Relief`]).
///
/// **Not knowing takes nobody away.** A gateway of which nothing current is known counts for nothing, so it adds no need; and while there is one, the order is
/// not lowered. Nor is it while whoever runs the nodes is silent, or refuses orders.
///
/// **Fast out.** What lasts (three minutes) is brought to the target. What is urgent (twenty seconds, or a rise that is certain) is brought half way from there to
/// all that the nodes have, at once; the rest of the way can wait until it has lasted.
///
/// **No oscillation.** Fewer nodes are ordered only if they meet the highest need of the whole window, with a twentieth of the target to spare; never within
/// the long cooldown of any change. More are never ordered within the short one of any change, nor by the load within the long one of a change to fewer, unless
/// all that was left would be used. Then it was no oscillation, but a flood.
///
/// Contract: feed every [`Input`] to [`Scaler::handle`]; call [`Scaler::tick`] after each round of readings and every [`Scaler::TICK`]; then
/// take all of [`Scaler::next_effect`]. An [`Effect::Order`] is a level and may come twice; answer it by [`Input::Taken`] or [`Input::NotTaken`], a call that hangs
/// too. A dry run carries out none and never answers. Time that goes backwards stands still; the clock on the wall is for the [`Schedule`] alone.
#[derive(Debug)]
pub struct Scaler {
    policy: Policy,
    latest: Instant,
    /// What the clock on the wall showed last.
    wall: SystemTime,
    gateways: Gateways,
    /// None: not known yet what there is.
    orders: Option<Orders>,
    fleet_heard: Instant,
    levels: Levels,
    trend: Trend,
    /// A reading has come since the trend was last looked at.
    read: bool,
    peak: Peak<u32>,
    relief: Relief,
    held: Option<Held>,
    history: VecDeque<Decision>,
    effects: VecDeque<Effect>,
    pub counters: Counters,
}

/// Decisions that are remembered.
const HISTORY: usize = 100;
/// Whoever runs the nodes is silent after this.
const FLEET_STALE: Duration = Duration::from_secs(120);
/// Of the target: what fewer nodes may be used up to, so that a little more than before does not bring them back.
const SPARE: f64 = 0.95;

impl Scaler {
    pub const TICK: Duration = Duration::from_secs(1);

    pub fn new(now: Instant, policy: Policy) -> Result<Self, Invalid> {
        policy.check()?;
        Ok(Self {
            latest: now,
            wall: UNIX_EPOCH,
            gateways: Gateways::new(&policy),
            orders: None,
            fleet_heard: now,
            levels: Levels::default(),
            trend: Trend::default(),
            read: false,
            peak: Peak::default(),
            relief: Relief::default(),
            held: None,
            history: VecDeque::new(),
            effects: VecDeque::new(),
            counters: Counters::default(),
            policy,
        })
    }

    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), Refused> {
        let now = self.clock(now);
        match input {
            Input::Reading(name, sample) => self.reading(now, name, sample)?,
            Input::Fleet { ordered, serving } => self.fleet(now, ordered, serving),
            Input::Level(level) => {
                self.levels.set(now, level).inspect_err(|_| self.counters.refused_levels += 1)?;
                self.levels.relate(self.gateways.len());
            }
            Input::LevelEnds(source) => self.levels.end(&source),
            Input::Taken => self.orders.iter_mut().for_each(Orders::taken),
            Input::NotTaken => {
                self.counters.refused_orders += 1;
                self.orders.iter_mut().for_each(|orders| orders.not_taken(now));
            }
            Input::Policy(policy) => {
                policy.check()?;
                self.gateways.capacities.bits.configure(policy.bits);
                self.gateways.capacities.packets.configure(policy.packets);
                self.policy = policy;
            }
        }
        Ok(())
    }

    /// Look at everything and decide. `wall` is what the clock on the wall shows.
    pub fn tick(&mut self, now: Instant, wall: SystemTime) {
        let now = self.clock(now);
        self.wall = wall;
        self.levels.expire(now);
        let held = self.decide(now);
        if let Some(orders) = &mut self.orders
            && orders.is_due(now)
        {
            self.counters.repeated_orders += 1;
            self.effects.push_back(Effect::Order(orders.ordered));
        }
        if held.as_ref().map(Held::as_str) != self.held.as_ref().map(Held::as_str)
            && let Some(held) = &held
        {
            self.counters.hold(held);
            self.effects.push_back(Effect::Held(held.clone()));
        }
        self.held = held;
    }

    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The latest last.
    pub fn history(&self) -> impl Iterator<Item = &Decision> {
        self.history.iter()
    }

    /// Why there is another number of nodes than is wanted.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// How many nodes shall be there. None: not known yet how many are.
    pub fn ordered(&self) -> Option<u32> {
        self.orders.as_ref().map(|orders| orders.ordered)
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn reading(&mut self, now: Instant, name: NodeName, sample: Sample) -> Result<(), Refused> {
        self.counters.readings += 1;
        let rates = self.gateways.read(now, &name, sample).map_err(|why| {
            self.counters.refuse(why);
            Refused::Reading(name.clone(), why)
        })?;
        if let Some(rates) = rates {
            self.read = true;
            self.counters.lose(&rates);
            if let Some(allowance) = rates.risen().find(|allowance| allowance.is_of_traffic()) {
                self.relief.lose(Loss { node: name, allowance, at: now });
            }
        }
        Ok(())
    }

    fn fleet(&mut self, now: Instant, ordered: u32, serving: Vec<NodeName>) {
        self.fleet_heard = now;
        self.gateways.replace(serving);
        self.levels.relate(self.gateways.len());
        let orders = self.orders.get_or_insert_with(|| Orders::new(ordered));
        let from = orders.ordered;
        if let Some(to) = orders.hear(now, ordered, self.gateways.len()) {
            self.remember(Decision { at: now, time: self.time(), from, to, wanted: to, reason: Reason::Adopted });
        }
    }

    fn time(&self) -> u64 {
        self.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn remember(&mut self, decision: Decision) {
        self.counters.decide(&decision);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(decision.clone());
        self.effects.push_back(Effect::Decided(decision));
    }

    fn decide(&mut self, now: Instant) -> Option<Held> {
        let Some(orders) = &self.orders else { return Some(Held::NoFleet) };
        let ordered = orders.ordered;
        let measured = self.measure(now);
        let outlook = self.trend.outlook().filter(|_| measured.counted > 0);
        let (wanted, reason) = self.need(now, &measured, outlook);
        if let Some(Outlook { sustained, .. }) = outlook
            && measured.missing.is_empty()
        {
            let quiet = self.policy.nodes_for(sustained / SPARE);
            self.peak.push(now, wanted.max(quiet), self.policy.window);
        }
        let allowed = wanted.min(self.policy.max);
        if allowed > ordered {
            return self.out(now, wanted, reason, outlook);
        }
        let highest = self.peak.highest().unwrap_or(wanted).max(wanted).min(self.policy.max);
        if highest.max(self.policy.min) < ordered {
            return self.back(now, highest.max(self.policy.min), measured.missing);
        }
        if wanted > self.policy.max {
            return Some(Held::AtMax { wanted });
        }
        self.trouble(now, measured.missing).or_else(|| self.fewer_soon(now, wanted))
    }

    fn measure(&mut self, now: Instant) -> Measured {
        let measured = self.gateways.measure(now, self.policy.stale_after);
        // A sum over others is another load, not one that rises.
        let others = measured.others;
        if others {
            self.trend.begin_anew();
        }
        if (std::mem::take(&mut self.read) || others) && measured.counted > 0 {
            self.trend.push(now, measured.demand, self.policy.start_up);
        }
        measured
    }

    /// The highest of all needs, and whose it is.
    fn need(&mut self, now: Instant, measured: &Measured, outlook: Option<Outlook>) -> (u32, Reason) {
        let policy = &self.policy;
        let mut highest = (policy.min, Reason::Minimum);
        let mut add = |nodes: u32, reason: &dyn Fn() -> Reason| {
            if nodes > highest.0 {
                highest = (nodes, reason());
            }
        };
        add(policy.schedule.min(self.wall), &|| Reason::Schedule);
        let used = |demand: f64| demand / f64::from(measured.counted.max(1));
        if let (Some(Outlook { lately, sustained, soon, .. }), Some((_, dimension))) = (outlook, measured.busiest) {
            let ahead = policy.start_up.as_secs_f64();
            add(policy.nodes_for(sustained), &|| Reason::Demand { utilisation: used(sustained), dimension });
            add(policy.nodes_at_once(lately), &|| Reason::Demand { utilisation: used(lately), dimension });
            add(policy.nodes_at_once(soon), &|| Reason::Rising { utilisation: used(soon), ahead });
        }
        for (source, standing) in self.levels.iter() {
            add(standing.nodes(|demand| policy.nodes_for(demand)), &|| Reason::Level { source: source.clone() });
        }
        if let Some(orders) = &self.orders {
            let outlook = outlook.map(|outlook| (used(outlook.latest), outlook));
            if let Some((nodes, utilisation)) = self.relief.saturated(now, policy, orders, outlook) {
                add(nodes, &|| Reason::Saturated { utilisation });
            }
            if let Some((nodes, Loss { node, allowance, .. })) = self.relief.lost(now, policy, orders) {
                add(nodes, &|| Reason::Loss { node: node.clone(), allowance: *allowance });
            }
        }
        highest
    }

    fn out(&mut self, now: Instant, wanted: u32, reason: Reason, outlook: Option<Outlook>) -> Option<Held> {
        let orders = self.orders.as_ref()?;
        let all_used = outlook.is_some_and(|outlook| outlook.soon >= SATURATED * f64::from(orders.ordered));
        let regret = orders.fewer && matches!(reason, Reason::Demand { .. } | Reason::Rising { .. }) && !all_used;
        let cooldown = if regret { self.policy.in_cooldown } else { self.policy.out_cooldown };
        if let Some(left) = left(orders.since_change(now), cooldown) {
            return Some(Held::Cooldown { wanted, left });
        }
        let most = orders.ordered.saturating_add(self.policy.out_step.of(orders.ordered));
        let allowed = wanted.min(self.policy.max);
        self.order(now, allowed.min(most), wanted, reason);
        (allowed > most).then_some(Held::Step { wanted })
    }

    fn back(&mut self, now: Instant, highest: u32, missing: Vec<NodeName>) -> Option<Held> {
        let orders = self.orders.as_ref()?;
        // Nodes that have not come by now may never do so: they keep nothing.
        let late = orders.since_change(now).is_none_or(|since| since > self.policy.start_up * 2);
        let trouble = self.trouble(now, missing).filter(|held| !(late && matches!(held, Held::Behind { .. })));
        let window = self.policy.window;
        if trouble.is_some() {
            return trouble;
        }
        if let Some(left) = seconds(self.peak.missing(now, window)) {
            return Some(Held::Stabilising { wanted: highest, left });
        }
        if let Some(left) = left(orders.since_change(now), self.policy.in_cooldown) {
            return Some(Held::Cooldown { wanted: highest, left });
        }
        let least = orders.ordered.saturating_sub(self.policy.in_step.of(orders.ordered));
        let reason = Reason::Quiet { highest, seconds: window.as_secs() };
        self.order(now, highest.max(least), highest, reason);
        (highest < least).then_some(Held::Step { wanted: highest })
    }

    /// What stands in the way of taking nodes away.
    fn trouble(&self, now: Instant, missing: Vec<NodeName>) -> Option<Held> {
        let orders = self.orders.as_ref()?;
        if orders.refused > 0 {
            return Some(Held::Refused { wanted: orders.ordered });
        }
        if !missing.is_empty() || self.gateways.len() == 0 {
            return Some(Held::Missing { nodes: missing });
        }
        if now.saturating_duration_since(self.fleet_heard) > FLEET_STALE {
            return Some(Held::FleetStale);
        }
        let behind = orders.ordered.saturating_sub(self.gateways.len());
        (behind > 0).then_some(Held::Behind { nodes: behind })
    }

    /// Fewer are wanted now, but not of the whole window.
    fn fewer_soon(&self, now: Instant, wanted: u32) -> Option<Held> {
        let fewer = wanted < self.orders.as_ref()?.ordered;
        let left = self.peak.until_lower(now, self.policy.window, self.orders.as_ref()?.ordered);
        fewer.then_some(Held::Stabilising { wanted, left: left.as_secs() })
    }

    fn order(&mut self, now: Instant, to: u32, wanted: u32, reason: Reason) {
        let time = self.time();
        let Some(orders) = &mut self.orders else { return };
        let decision = Decision { at: now, time, from: orders.ordered, to, wanted, reason };
        orders.give(now, to);
        self.remember(decision);
        self.effects.push_back(Effect::Order(to));
    }
}

/// What is left of a cooldown, in seconds.
fn left(since: Option<Duration>, cooldown: Duration) -> Option<u64> {
    since.and_then(|since| seconds(cooldown.saturating_sub(since)))
}

/// Whole ones, rounded up. None: none.
fn seconds(left: Duration) -> Option<u64> {
    (!left.is_zero()).then(|| left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
