//! A gateway whose Auto Scaling group may take its machine away: when to look whether it does, and when to hand over all shards for it.

use super::actuator::backoff;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Follows the target lifecycle state of the instance that a gateway runs on.
///
/// ```text
///  Look --> InService, Standby, ..., or in no group: nothing
///    |  --> Terminated -----> Drain --> all is handed over -----------------+--> nothing, until a shard is here again
///    |                          ^   --> somebody has undone it: nothing     |
///    |                          +------------- [`AGAIN`] -------------------+--> some shards were kept
///    +----> no answer: later, and what was known stays known
/// ```
///
/// **Only an end leads to a drain**: `Terminated`, and `Warmed:Terminated` of a warm pool. `Standby` and `Detached` leave the machine running, and whoever asked for them may
/// have asked for the drain too. <https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html>
///
/// **A drain that was begun here is not ended here.** There is no way back from `Terminated`; if metadata said otherwise, a node that flaps would be worse than one that is
/// the last resort for too long.
///
/// Contract: answer [`Effect::Look`] by [`Lifecycle::said`] and [`Effect::Drain`] by [`Lifecycle::drained`]; call [`Lifecycle::tick`] at [`Lifecycle::timeout`]; take all of
/// [`Lifecycle::next_effect`] after each. `jitter` is random, 0 to 1. Time that goes backwards stands still.
#[derive(Debug)]
pub struct Lifecycle {
    latest: Instant,
    /// From one look to the next.
    every: Duration,
    /// The next look. None: one is under way.
    look: Option<Instant>,
    /// When metadata last said something, and what.
    said: Option<(Instant, Said)>,
    /// In a row.
    failures: u32,
    failure: Option<String>,
    drain: Drain,
    effects: VecDeque<Effect>,
    counters: Counters,
}

/// What metadata say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// There is no target state: the instance is in no group.
    NoGroup,
    /// As AWS writes it.
    Target(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    UnderWay,
    /// Since then, with so many shards that nobody took.
    Over(Instant, usize),
    /// Somebody wants it so.
    Undone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask metadata.
    Look,
    /// Hand over all shards. `again`: some were kept, or have come.
    Drain { again: bool },
    /// For the log: what metadata say is new.
    Said(Said),
    /// For the log: they do not answer any more, and why.
    Silent(String),
    /// For the log: they answer again, after so many failures.
    Answers { failures: u32 },
}

/// They only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Looks by what came of them.
    pub answered: u64,
    pub no_group: u64,
    pub failed: u64,
    pub drains: u64,
}

/// What there is to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// What the instance is about to become, or is. None: not known, or `in_group` is false.
    pub target: Option<String>,
    pub in_group: Option<bool>,
    /// The group takes the instance away.
    pub going: bool,
    /// Seconds since metadata last said something.
    pub heard: Option<f64>,
    /// In a row.
    pub failures: u32,
    pub failure: Option<String>,
    /// `no`, `under_way`, `over` or `undone`.
    pub drain: &'static str,
    /// Shards that nobody took over.
    pub kept: usize,
}

/// Shards that are here after a drain are handed over again after this long.
pub const AGAIN: Duration = Duration::from_secs(30);
/// From one look that metadata did not answer to the next, in the end: a hook may last for 30 s only.
const LONGEST: Duration = Duration::from_secs(15);

impl Said {
    /// The machine is going to end.
    fn ends(&self) -> bool {
        matches!(self, Said::Target(state) if state == "Terminated" || state == "Warmed:Terminated")
    }
}

impl Lifecycle {
    /// Looks at once, and then so often.
    pub fn new(now: Instant, every: Duration) -> Self {
        let (said, failure, effects, counters) = (None, None, VecDeque::new(), Counters::default());
        Self { latest: now, every, look: Some(now), said, failures: 0, failure, drain: Drain::No, effects, counters }
    }

    /// What became of a look.
    pub fn said(&mut self, now: Instant, said: Result<Said, String>, jitter: f64) {
        let now = self.clock(now);
        if self.look.is_some() {
            return;
        }
        match said {
            Ok(said) => {
                self.look = Some(now + self.every);
                *(if said == Said::NoGroup { &mut self.counters.no_group } else { &mut self.counters.answered }) += 1;
                if self.failures > 0 {
                    self.effects.push_back(Effect::Answers { failures: self.failures });
                }
                (self.failures, self.failure) = (0, None);
                if self.said.as_ref().is_none_or(|(_, before)| *before != said) {
                    self.effects.push_back(Effect::Said(said.clone()));
                }
                if said.ends() {
                    self.drain_if(self.drain == Drain::No, false);
                } else if self.drain == Drain::Undone {
                    self.drain = Drain::No;
                }
                self.said = Some((now, said));
            }
            Err(text) => {
                self.counters.failed += 1;
                self.look = Some(now + backoff((self.every, LONGEST.max(self.every)), self.failures, jitter));
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    self.effects.push_back(Effect::Silent(text.clone()));
                }
                self.failure = Some(text);
            }
        }
    }

    /// A drain has ended; so many shards were kept.
    pub fn drained(&mut self, now: Instant, kept: usize) {
        let now = self.clock(now);
        if self.drain == Drain::UnderWay {
            self.drain = Drain::Over(now, kept);
        }
    }

    /// Somebody has ended the drain: it is not begun again for this end.
    pub fn undone(&mut self, now: Instant) {
        self.clock(now);
        if self.going() {
            self.drain = Drain::Undone;
        } else if self.drain != Drain::UnderWay {
            self.drain = Drain::No;
        }
    }

    /// `holds`: so many shards are here.
    pub fn tick(&mut self, now: Instant, holds: usize) {
        let now = self.clock(now);
        if self.look.is_some_and(|at| at <= now) {
            self.look = None;
            self.effects.push_back(Effect::Look);
        }
        if let Drain::Over(since, _) = self.drain {
            self.drain_if(self.going() && holds > 0 && since + AGAIN <= now, true);
        }
    }

    /// When to call [`Lifecycle::tick`] at the latest.
    pub fn timeout(&self) -> Option<Instant> {
        let again = match self.drain {
            Drain::Over(since, _) if self.going() => Some((since + AGAIN).max(self.latest + self.every)),
            _ => None,
        };
        self.look.into_iter().chain(again).min()
    }

    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn status(&self, now: Instant) -> Status {
        let now = now.max(self.latest);
        let (drain, kept) = match self.drain {
            Drain::No => ("no", 0),
            Drain::UnderWay => ("under_way", 0),
            Drain::Over(_, kept) => ("over", kept),
            Drain::Undone => ("undone", 0),
        };
        let said = self.said.as_ref().map(|(_, said)| said);
        Status {
            target: said.and_then(|said| if let Said::Target(state) = said { Some(state.clone()) } else { None }),
            in_group: said.map(|said| *said != Said::NoGroup),
            going: self.going(),
            heard: self.said.as_ref().map(|(at, _)| now.saturating_duration_since(*at).as_secs_f64()),
            failures: self.failures,
            failure: self.failure.clone(),
            drain,
            kept,
        }
    }

    /// The group takes the instance away, and everything was handed over.
    pub fn is_over(&self) -> bool {
        self.going() && matches!(self.drain, Drain::Over(_, 0))
    }

    /// The group takes the instance away, as far as is known.
    pub fn going(&self) -> bool {
        self.said.as_ref().is_some_and(|(_, said)| said.ends())
    }

    fn drain_if(&mut self, wanted: bool, again: bool) {
        if wanted {
            self.drain = Drain::UnderWay;
            self.counters.drains += 1;
            self.effects.push_back(Effect::Drain { again });
        }
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }
}

#[cfg(test)]
mod tests;
