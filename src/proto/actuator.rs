//! An order on its way to whoever runs the nodes: when to call, when to call again, and what to tell the decision machine.

use super::scale::Order;
use crate::model::{Failure, Why};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Carries the newest order to somebody who may be slow, throttle, refuse, or be away.
///
/// ```text
///  order --> kept, the newest only --> Call --> taken: Answer(taken)
///                ^                      |
///                |                      +-----> refused: Answer(not taken), kept no more; the decision machine says it again
///                |                      |
///                +-- backoff, or as ----+-----> throttled, unavailable, unreachable, timed out; Answer(not taken) when
///                    long as it asks                            that has gone on for a while
/// ```
///
/// **One call at a time.** An order that comes meanwhile waits for its end, so that two never overtake each other on the way. Of those that wait, the newest counts.
///
/// **An order is kept until it is taken, refused or replaced**, with its serial: whoever took it and could not say so sees that it is the same.
///
/// Contract: what a call comes to goes to [`Actuator::ended`], but for one that [`Effect::Hang`] has ended; call [`Actuator::tick`] at [`Actuator::timeout`]; take all of
/// [`Actuator::next_effect`] after each. `jitter` is random, 0 to 1. Time that goes backwards stands still.
#[derive(Debug)]
pub struct Actuator {
    /// That a call may take.
    limit: Duration,
    latest: Instant,
    /// The serial of the newest order.
    newest: u64,
    kept: Option<Kept>,
    calling: Option<Calling>,
    /// No call before that.
    rest: Option<Instant>,
    /// In a row.
    failures: u32,
    failure: Option<(Instant, Failure)>,
    taken: Option<(Instant, Order)>,
    effects: VecDeque<Effect>,
    counters: Counters,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    order: Order,
    since: Instant,
    /// Calls that were made for it.
    calls: u32,
    /// The decision machine was told that it is not taken.
    told: bool,
}

#[derive(Debug, Clone, Copy)]
struct Calling {
    order: Order,
    until: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say this order. `call` counts from 1.
    Call { order: Order, call: u32 },
    /// The call takes too long: drop it.
    Hang,
    /// For the decision machine.
    Answer { serial: u64, taken: bool },
    /// For the log. `row`: so many failures in a row. `again`: when the next call is made, if no other order comes.
    Failed { failure: Failure, row: u32, again: Option<Duration> },
    /// For the log: an order is taken after so many failures.
    Recovered { failures: u32 },
}

/// What became of a call.
pub type Outcome = Result<(), Failure>;

/// Calls by what became of them. They only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    taken: u64,
    failed: [u64; Why::ALL.len()],
}

impl Counters {
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let failed = Why::ALL.into_iter().zip(self.failed).map(|(why, count)| (why.as_str(), count));
        [("taken", self.taken)].into_iter().chain(failed)
    }
}

/// What there is to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// This many failures in a row are worth an alarm.
    pub alarm: bool,
    /// In a row, up to now.
    pub failures: u32,
    /// The last one, if nothing was taken since.
    pub failure: Option<FailureStatus>,
    /// What is to be taken yet.
    pub waiting: Option<Order>,
    /// Seconds until the next call for it. None: it is being made, or there is nothing to say.
    pub again_in: Option<f64>,
    /// The last order that was taken.
    pub taken: Option<Order>,
    /// Seconds since then.
    pub taken_ago: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailureStatus {
    pub why: Why,
    pub text: String,
    /// Seconds.
    pub ago: f64,
}

/// After one failure, half of this to all of it; after each more in a row twice as long.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Whoever asks for more is asked again after that.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// After so long the decision machine is told; before it says the order again by itself, which it does after a minute.
const PATIENCE: Duration = Duration::from_secs(45);
const ALARM: u32 = 3;

impl Actuator {
    /// `limit`: how long a call may take.
    pub fn new(now: Instant, limit: Duration) -> Self {
        Self {
            limit,
            latest: now,
            newest: 0,
            kept: None,
            calling: None,
            rest: None,
            failures: 0,
            failure: None,
            taken: None,
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Of the calls from now on.
    pub fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// One that is not newer than what was ordered before is no news.
    pub fn order(&mut self, now: Instant, order: Order) {
        let now = self.clock(now);
        if order.serial <= self.newest {
            return;
        }
        self.newest = order.serial;
        self.kept = Some(Kept { order, since: now, calls: 0, told: false });
        self.call(now);
    }

    /// The call has ended.
    pub fn ended(&mut self, now: Instant, outcome: Outcome, jitter: f64) {
        let now = self.clock(now);
        let Some(Calling { order, .. }) = self.calling.take() else { return };
        match outcome {
            Ok(()) => self.took(now, order),
            Err(failure) => self.failed(now, order, failure, jitter),
        }
        self.call(now);
    }

    pub fn tick(&mut self, now: Instant, jitter: f64) {
        let now = self.clock(now);
        if self.calling.is_some_and(|calling| calling.until <= now) {
            self.effects.push_back(Effect::Hang);
            let text = format!("no answer within {:?}: is it overloaded, or is something between that drops packets?", self.limit);
            self.ended(now, Err(Failure { why: Why::TimedOut, text, after: None }), jitter);
        }
        if let Some(kept) = &mut self.kept
            && !kept.told
            && kept.since + PATIENCE <= now
        {
            kept.told = true;
            self.effects.push_back(Effect::Answer { serial: kept.order.serial, taken: false });
        }
        self.call(now);
    }

    /// When to call [`Actuator::tick`], at the latest.
    pub fn timeout(&self) -> Option<Instant> {
        let patience = self.kept.filter(|kept| !kept.told).map(|kept| kept.since + PATIENCE);
        let call = match (self.calling, self.kept) {
            (Some(calling), _) => Some(calling.until),
            (None, Some(_)) => Some(self.rest.unwrap_or(self.latest)),
            (None, None) => None,
        };
        [patience, call].into_iter().flatten().min()
    }

    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn status(&self, now: Instant) -> Status {
        let now = now.max(self.latest);
        let ago = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        let waits = self.rest.filter(|_| self.calling.is_none() && self.kept.is_some());
        Status {
            alarm: self.failures >= ALARM,
            failures: self.failures,
            failure: self.failure.as_ref().map(|(at, Failure { why, text, .. })| FailureStatus {
                why: *why,
                text: text.clone(),
                ago: ago(*at),
            }),
            waiting: self.kept.map(|kept| kept.order),
            again_in: waits.map(|until| until.saturating_duration_since(now).as_secs_f64()),
            taken: self.taken.map(|(_, order)| order),
            taken_ago: self.taken.map(|(at, _)| ago(at)),
        }
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn call(&mut self, now: Instant) {
        if self.calling.is_some() || self.rest.is_some_and(|rest| rest > now) {
            return;
        }
        self.rest = None;
        if let Some(kept) = &mut self.kept {
            kept.calls += 1;
            self.calling = Some(Calling { order: kept.order, until: now + self.limit });
            self.effects.push_back(Effect::Call { order: kept.order, call: kept.calls });
        }
    }

    fn took(&mut self, now: Instant, order: Order) {
        self.counters.taken += 1;
        self.kept = self.kept.filter(|kept| kept.order.serial != order.serial);
        self.taken = Some((now, order));
        self.effects.push_back(Effect::Answer { serial: order.serial, taken: true });
        let failures = std::mem::take(&mut self.failures);
        self.failure = None;
        if failures > 0 {
            self.effects.push_back(Effect::Recovered { failures });
        }
    }

    fn failed(&mut self, now: Instant, order: Order, failure: Failure, jitter: f64) {
        self.counters.failed[failure.why as usize] += 1;
        let backoff = backoff((FIRST, LONGEST), self.failures, jitter);
        self.failures = self.failures.saturating_add(1);
        if failure.why == Why::Refused {
            self.kept = self.kept.filter(|kept| kept.order.serial != order.serial);
            self.effects.push_back(Effect::Answer { serial: order.serial, taken: false });
        } else {
            let asked = failure.after.map_or(Duration::ZERO, |after| after.min(LONGEST_ASKED));
            self.rest = Some(now + backoff.max(asked));
        }
        let again = self.rest.filter(|_| self.kept.is_some()).map(|rest| rest.saturating_duration_since(now));
        self.effects.push_back(Effect::Failed { failure: failure.clone(), row: self.failures, again });
        self.failure = Some((now, failure));
    }
}

/// How long to wait after a failure that so many came before: half of `first` to all of it, doubled for each, up to `longest`.
pub fn backoff((first, longest): (Duration, Duration), failures: u32, jitter: f64) -> Duration {
    let most = first.saturating_mul(1 << failures.min(16)).min(longest);
    most / 2 + (most / 2).mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
