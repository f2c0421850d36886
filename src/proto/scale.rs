//! How many gateways there should be: readings of them go in, orders come out.

mod capacity;
mod counters;
mod effect;
mod gateways;
mod level;
mod mean;
mod need;
mod orders;
mod peak;
mod policy;
mod reason;
mod relief;
mod sample;
mod saved;
mod schedule;
mod status;
mod trend;
mod trouble;

pub use capacity::{Capacity, Dimension};
pub use counters::Counters;
pub use effect::{Effect, Input, Order, Refused};
pub use level::{Level, Load, Source, Standing, UTILISATION, Wanted};
pub use policy::{Policy, Step};
pub use reason::{Decision, Direction, Held, Reason};
pub use sample::{Allowance, Conntrack, Nonsense, Sample};
pub use saved::{Saved, SavedChange, SavedLevel};
pub use schedule::{Hours, Schedule};
pub use status::Status;

use crate::model::{Invalid, NodeName};
use gateways::{Gateways, Hottest, Measured};
use level::Levels;
use need::Need;
use orders::{Change, Orders};
use peak::Peak;
use relief::{Loss, Relief};
use std::collections::{BTreeMap, VecDeque};
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
///       +-- the cloud held packets back, --> Relief -+                         |
///       |   one is hot, all is used                  |                         |
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
/// **A number, never a difference.** What is needed follows from what is used, so it does not grow because nodes that are ordered are not there yet. Only three
/// needs are relative, as there is nothing to measure ([`Relief`]). When one gateway is hot, or the cloud drops, one more is asked for once all that is ordered carries traffic; when all
/// is used, a step more than carry traffic, of which those to come are a part.
///
/// **Not knowing takes nobody away.** A gateway that falls silent, or tells less than it did, counts for what it said last, for five minutes; and while there is one, or one of
/// which nothing is known yet, the order is not lowered. Nor is it while somebody who is asked what is to come has no level, or whoever runs the nodes is silent, or refuses orders.
///
/// **The busiest counts.** Shards are not divisible. Fewer nodes are never ordered while the gateway that is used most would be used beyond the target if it got its part
/// of what they carry.
///
/// **Fast out.** What lasts (each of three minutes) is brought to the target. What is urgent (twenty seconds, or a rise that is certain) is brought half way from there to
/// all that the nodes have, at once; the rest of the way can wait until it has lasted.
///
/// **No oscillation.** Fewer nodes are ordered only if they meet the highest need of the whole window, with [`SPARE`] of the target left; never within
/// the long cooldown of any change. More are never ordered within the short one of any change, nor by the load or a loss within the long one of a change to fewer, unless
/// all that was left has been used for a while without a break. Then it was no oscillation, but a flood.
///
/// Contract: feed every [`Input`] to [`Scaler::handle`]; call [`Scaler::tick`] after each round of readings and every [`Scaler::TICK`]; then
/// take all of [`Scaler::next_effect`]. An [`Effect::Order`] is a level and may come twice; answer it by [`Input::Taken`] or [`Input::NotTaken`] with its serial, a call that
/// hangs too. A dry run carries out none and never answers. Keep [`Scaler::saved`] through a restart. Time that goes backwards stands still; the clock on the wall is for the [`Schedule`] alone.
#[derive(Debug)]
pub struct Scaler {
    policy: Policy,
    latest: Instant,
    /// What the clock on the wall showed last.
    wall: SystemTime,
    gateways: Gateways,
    /// None: not known yet what there is.
    orders: Option<Orders>,
    /// The last change before a restart, until it is known what there is.
    resumed: Option<Change>,
    /// Nobody else orders nodes.
    alone: bool,
    /// Of the last order.
    serial: u64,
    fleet_heard: Instant,
    levels: Levels,
    /// Whose levels there should always be.
    asked: Vec<Source>,
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
/// Of the target: what fewer nodes may be used up to, so that a little more than before does not bring them back. With noise of a tenth, less would have them come and go, and
/// more would cost more than the twentieth that the simulation allows.
const SPARE: f64 = 0.93;

impl Scaler {
    pub const TICK: Duration = Duration::from_secs(1);

    pub fn new(now: Instant, policy: Policy) -> Result<Self, Invalid> {
        policy.check()?;
        Ok(Self {
            latest: now,
            wall: UNIX_EPOCH,
            gateways: Gateways::default(),
            orders: None,
            resumed: None,
            alone: false,
            serial: 0,
            fleet_heard: now,
            levels: Levels::default(),
            asked: vec![],
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
                let set = self.levels.set(now, level, &self.policy.capacity);
                set.inspect_err(|_| self.counters.refused_levels += 1)?;
                self.levels.relate(self.gateways.len());
            }
            Input::LevelEnds(source) => self.levels.end(&source),
            Input::Asked(sources) => self.asked = sources,
            Input::Taken(serial) => self.answer(now, serial, true),
            Input::NotTaken(serial) => self.answer(now, serial, false),
            Input::Policy(policy) => {
                policy.check()?;
                if policy.capacity != self.policy.capacity {
                    self.levels.reckon(&policy.capacity);
                    self.gateways.begin_anew();
                }
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
            self.send();
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

    /// Nobody else orders nodes: what was ordered before a restart stands, however long ago that was. To be said before the first [`Input::Fleet`], in which `ordered` is
    /// no more than a guess then.
    pub fn order_alone(&mut self) {
        self.alone = true;
    }

    /// The latest last.
    pub fn history(&self) -> impl Iterator<Item = &Decision> {
        self.history.iter()
    }

    /// Why there is another number of nodes than is wanted.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many nodes shall be there. None: not known yet how many are.
    pub fn ordered(&self) -> Option<u32> {
        self.orders.as_ref().map(|orders| orders.ordered)
    }

    /// When the last reading of each gateway was believed.
    pub fn last_read(&self) -> BTreeMap<NodeName, Instant> {
        self.gateways.iter().filter_map(|(name, gateway)| Some((name.clone(), gateway.last_read()?))).collect()
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn reading(&mut self, now: Instant, name: NodeName, sample: Sample) -> Result<(), Refused> {
        self.counters.readings += 1;
        let rates = self.gateways.read(now, &name, sample, &self.policy).map_err(|why| {
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
        let resumed = self.resumed.take();
        let orders = self.orders.get_or_insert_with(|| Orders::new(now, ordered, resumed, self.alone));
        let from = orders.ordered;
        if let Some(to) = orders.hear(now, ordered, self.gateways.len()) {
            self.remember(Decision { at: now, time: self.time(), from, to, wanted: to, reason: Reason::Adopted });
        }
    }

    fn answer(&mut self, now: Instant, serial: u64, taken: bool) {
        if !self.orders.as_mut().is_some_and(|orders| orders.answer(now, serial, taken)) {
            self.counters.late_answers += 1;
        } else if !taken {
            self.counters.refused_orders += 1;
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
        let Need { nodes: wanted, reason } = self.need(now, &measured, outlook);
        let uneven = outlook.map_or(0, |outlook| self.uneven(outlook, measured.hottest.as_ref()));
        if let Some(sustained) = outlook.and_then(|outlook| outlook.sustained)
            && measured.missing.is_empty()
            && self.silent().next().is_none()
        {
            let quiet = self.policy.nodes_for(sustained / SPARE);
            self.peak.push(now, wanted.max(quiet).max(uneven), self.policy.window);
        }
        let allowed = wanted.min(self.policy.max);
        if allowed > ordered {
            return self.out(now, wanted, reason);
        }
        let highest = self.peak.highest().unwrap_or(wanted).max(wanted).min(self.policy.max);
        if highest.max(self.policy.min) < ordered {
            return self.back(now, highest.max(self.policy.min), measured.missing);
        }
        if wanted > self.policy.max {
            return Some(Held::AtMax { wanted });
        }
        let uneven = measured.hottest.filter(|_| uneven >= ordered).map(|hottest| hottest.node);
        self.trouble(now, measured.missing).or_else(|| self.fewer_soon(now, wanted, uneven))
    }

    fn measure(&mut self, now: Instant) -> Measured {
        let measured = self.gateways.measure(now, &self.policy);
        // A sum over others is another load, not one that rises.
        if measured.others {
            self.trend.begin_anew(now);
        }
        // Whom nobody hears is thought to go on as it was.
        let (read, unheard) = (std::mem::take(&mut self.read), measured.current == 0);
        if (read || measured.others || unheard) && measured.counted > 0 {
            self.trend.push(now, measured.demand, self.policy.start_up);
        }
        measured
    }

    /// The nodes at which the busiest would be used as all should be, if what it has is shared out as the rest is.
    fn uneven(&self, outlook: Outlook, hottest: Option<&Hottest>) -> u32 {
        let skew = hottest.map_or(1.0, |hottest| hottest.skew);
        let sustained = outlook.sustained.unwrap_or(outlook.lately);
        self.policy.nodes_for(sustained * skew).max(self.policy.nodes_at_once(outlook.lately * skew))
    }

    fn out(&mut self, now: Instant, wanted: u32, reason: Reason) -> Option<Held> {
        let orders = self.orders.as_ref()?;
        let by_load = !matches!(reason, Reason::Minimum | Reason::Schedule | Reason::Level { .. } | Reason::Announced { .. });
        let regret = orders.last.is_some_and(|change| change.fewer) && by_load && !self.relief.all_is_used(now, &self.policy);
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
        // Nobody is taken away by ordering what there is instead of what is refused.
        let granted = orders.granted().filter(|granted| highest <= *granted);
        let is_no_matter = |held: &Held| match held {
            Held::Behind { .. } => late,
            Held::Refused { .. } => granted.is_some(),
            _ => false,
        };
        let trouble = self.trouble(now, missing).filter(|held| !is_no_matter(held));
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
        let to = granted.unwrap_or(highest.max(least));
        self.order(now, to, highest, reason);
        (highest < to).then_some(Held::Step { wanted: highest })
    }

    /// Fewer are wanted now, but not of the whole window; or `uneven` is used so much more than the others that it takes them all.
    fn fewer_soon(&self, now: Instant, wanted: u32, uneven: Option<NodeName>) -> Option<Held> {
        let fewer = wanted < self.orders.as_ref()?.ordered;
        let left = self.peak.until_lower(now, self.policy.window, self.orders.as_ref()?.ordered);
        let held = uneven.map(|node| Held::Uneven { node, wanted });
        fewer.then(|| held.unwrap_or(Held::Stabilising { wanted, left: left.as_secs() }))
    }

    fn order(&mut self, now: Instant, to: u32, wanted: u32, reason: Reason) {
        let time = self.time();
        let Some(orders) = &mut self.orders else { return };
        let decision = Decision { at: now, time, from: orders.ordered, to, wanted, reason };
        orders.give(now, to);
        self.remember(decision);
        self.send();
    }

    /// What is ordered goes out, by a serial of its own: the time, or the next one if that was given already. So it is higher than what a process has given that could not
    /// write it down.
    fn send(&mut self) {
        let time = self.time().min(saved::HIGHEST_SERIAL / 2);
        let Some(orders) = &mut self.orders else { return };
        self.serial = time.max(self.serial + 1);
        orders.sent(self.serial);
        self.effects.push_back(Effect::Order(Order { serial: self.serial, nodes: orders.ordered }));
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
