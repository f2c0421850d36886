//! Where a load is, and where it is going.
//!
//! A rise counts only if it is
//! - going on: each of the last four means of one and a half seconds, or of one value where they are further apart, is higher than the one before, so that neither what jitters nor a step
//!   (a burst that has come and stays as it is) is a rise; and it is as steep as between the two that differ least;
//! - new: the load is half as much again as all of the last ten minutes, so that noise which lasts for seconds (and looks as if it rose) does not count either.
//!
//! And it is not thought to last longer than [`TRUST`] times as long as it was seen, so that a short burst is not taken for a flood.

use super::peak::Peak;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Seconds of the three means.
const JUST_NOW: f64 = 5.0;
const LATELY: f64 = 20.0;
const SUSTAINED: Duration = Duration::from_secs(180);
/// What is a mean of less is not sustained.
const SETTLED: Duration = Duration::from_secs(60);
/// What a rise takes: so many means, each higher than the one before, each of so long (or of one value, if there are fewer).
const STEPS: usize = 4;
const EACH: Duration = Duration::from_millis(1500);
const TRUST: f64 = 2.0;
/// How long what the load was before is remembered, and how far above it is new.
const CALM: Duration = Duration::from_secs(600);
const NEW: f64 = 1.5;
/// More than are needed with one a second.
const KEPT: usize = 512;

#[derive(Debug, Clone, Default)]
pub struct Trend {
    points: VecDeque<(Instant, f64)>,
    /// Of all points.
    sum: f64,
    /// Since when they are of the same gateways.
    since: Option<Instant>,
    calm: Peak<f64>,
    outlook: Option<Outlook>,
}

/// In the unit of the values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// The last value.
    pub latest: f64,
    /// The mean of the last 20 seconds: what is over sooner, no node could come in time for.
    pub lately: f64,
    /// The mean of the last three minutes, of one at least. None: there is less.
    pub sustained: Option<f64>,
    /// The lowest mean of a minute among the last three: as much was asked for all the time.
    pub lasting: Option<f64>,
    /// Where it will be if it goes on rising twice as long as it has risen, or to the end of the horizon. Not less than `lately`.
    pub soon: f64,
    /// Where it will be at the end of the horizon if it rises all the time. Not less than `soon`.
    pub at_horizon: f64,
}

/// That goes on.
struct Rise {
    /// In a second.
    slope: f64,
    /// Seconds that it was seen for.
    seen: f64,
    /// The last of the means.
    now: f64,
}

impl Trend {
    pub fn push(&mut self, now: Instant, value: f64, horizon: Duration) {
        let age = |at: Instant| now.saturating_duration_since(at);
        // As soon as what is of other gateways is not needed any more, it does not count any more.
        let since = self.since.filter(|since| age(*since) >= SETTLED);
        let is_old = |at: Instant| age(at) > SUSTAINED || since.is_some_and(|since| at < since);
        while self.points.front().is_some_and(|(at, _)| is_old(*at)) || self.points.len() >= KEPT {
            self.sum -= self.points.pop_front().map_or(0.0, |(_, value)| value);
        }
        self.points.push_back((now, value));
        self.sum += value;
        self.outlook = Some(self.look(now, value, horizon.as_secs_f64()));
    }

    /// What comes now is the sum of others: no rise over what was before. How high that was stays in memory.
    pub fn begin_anew(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// As of the last value. None: there was none.
    pub fn outlook(&self) -> Option<Outlook> {
        self.outlook
    }

    fn look(&mut self, now: Instant, latest: f64, horizon: f64) -> Outlook {
        let age = |at: Instant| now.saturating_duration_since(at);
        let same = self.since.map(|since| age(since).as_secs_f64()).filter(|same| *same >= JUST_NOW);
        let lately = self.mean(now, 0.0, same.map_or(LATELY, |same| same.min(LATELY))).unwrap_or(latest);
        let first = self.points.front().map_or(Duration::ZERO, |(at, _)| age(*at));
        let sustained = (first >= SETTLED).then(|| self.sum / self.points.len() as f64);
        // Of a minute that is not known to its end half is enough.
        let minutes = (0..3).map(|minute| SETTLED * minute).take_while(|from| *from + SETTLED / 2 <= first);
        let minutes = minutes.filter_map(|from| self.mean(now, from.as_secs_f64(), (from + SETTLED).as_secs_f64()));
        let lasting = sustained.and_then(|_| minutes.reduce(f64::min));
        if let Some(before) = self.mean(now, LATELY, LATELY + JUST_NOW) {
            self.calm.push(now, before, CALM);
        }
        let just_now = self.mean(now, 0.0, JUST_NOW).unwrap_or(latest);
        let is_new = self.calm.highest().is_some_and(|calm| just_now > calm * NEW);
        let [soon, at_horizon] = match self.rise().filter(|_| is_new) {
            Some(Rise { slope, seen, now }) => [now + slope * horizon.min(TRUST * seen), now + slope * horizon],
            None => [lately; 2],
        };
        Outlook { latest, lately, sustained, lasting, soon: soon.max(lately), at_horizon: at_horizon.max(lately) }
    }

    /// Of the values that are more than `from` seconds old (0: or none), and `to` at most.
    fn mean(&self, now: Instant, from: f64, to: f64) -> Option<f64> {
        let (mut sum, mut many) = (0.0, 0.0);
        for (at, value) in self.points.iter().rev() {
            let age = now.saturating_duration_since(*at).as_secs_f64();
            if age > to {
                break;
            }
            if age > from || from == 0.0 {
                (sum, many) = (sum + value, many + 1.0);
            }
        }
        (many > 0.0).then(|| sum / many)
    }

    fn rise(&self) -> Option<Rise> {
        let (begin, steps) = self.steps()?;
        if self.since.is_some_and(|since| begin < since) {
            return None;
        }
        let slopes = steps.windows(2).map(|step| (step[1].1 - step[0].1) / (step[1].0 - step[0].0).max(f64::EPSILON));
        let slope = slopes.fold(f64::INFINITY, f64::min);
        (slope > 0.0).then(|| Rise { slope, seen: steps[STEPS - 1].0 - steps[0].0, now: steps[STEPS - 1].1 })
    }

    /// The last few means of [`EACH`], each with its middle in seconds since the first value, and when that was.
    fn steps(&self) -> Option<(Instant, [(f64, f64); STEPS])> {
        let (mut steps, mut end) = ([(0.0, 0.0); STEPS], self.points.len());
        let at = |index: usize| self.points[index].0;
        let apart = |from: Instant, to: Instant| to.saturating_duration_since(from);
        for step in steps.iter_mut().rev() {
            // A value is of the time since the one before.
            let last = at(end.checked_sub(1)?);
            let begin = (1..end).rev().find(|begin| apart(at(begin - 1), last) >= EACH)?;
            let sums = self
                .points
                .range(begin..end)
                .fold((0.0, 0.0), |(times, values), (at, value)| (times + apart(self.points[0].0, *at).as_secs_f64(), values + value));
            let many = (end - begin) as f64;
            *step = (sums.0 / many, sums.1 / many);
            end = begin;
        }
        Some((at(end), steps))
    }
}
