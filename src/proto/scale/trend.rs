//! Where a load is, and where it is going: means, and least squares over the last seconds.
//!
//! A rise counts only if it is
//! - certain: of its slope some standard errors are taken off, so that what jitters does not rise;
//! - going on: no longer line is steeper than the last seconds are, so that a step (a burst that has come and stays as it is) is no slope;
//! - new: the load is well above all of the last ten minutes, so that noise which lasts for seconds (and looks as if it rose) does not count either.
//!
//! And it is not thought to last longer than [`TRUST`] times as long as it was seen, so that a short burst is not taken for a flood.

use super::peak::Peak;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Over how many seconds a line is drawn, each by itself, as a flood begins within a few; and how many standard errors are taken off its slope. Fewer points
/// need more: these leave about one error in a thousand (Student's t).
const LINES: [(f64, f64); 3] = [(6.0, 8.0), (20.0, 5.0), (60.0, 4.0)];
/// Seconds of the three means.
const JUST_NOW: f64 = 5.0;
const LATELY: f64 = 20.0;
const SUSTAINED: f64 = 180.0;
const LONGEST_LINE: f64 = LINES[LINES.len() - 1].0;
/// As many are taken off the first for the others.
const GOING_ON: f64 = 3.0;
/// Fewer points make no line.
const POINTS: f64 = 5.0;
const TRUST: f64 = 2.0;
/// What is older than these seconds is what the load was before it rose.
const BEFORE: f64 = 20.0;
/// How long it is remembered, and how far above it is new.
const CALM: Duration = Duration::from_secs(600);
const NEW: f64 = 1.25;
/// More than are needed with one a second.
const KEPT: usize = 512;

#[derive(Debug, Clone, Default)]
pub struct Trend {
    points: VecDeque<(Instant, f64)>,
    /// Of all points.
    sum: f64,
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
    /// The mean of the last three minutes, or of what there is.
    pub sustained: f64,
    /// Where it will be if it goes on rising twice as long as it has risen, or to the end of the horizon. Not less than `lately`.
    pub soon: f64,
    /// Where it will be at the end of the horizon if it rises all the time. Not less than `soon`.
    pub at_horizon: f64,
}

impl Trend {
    pub fn push(&mut self, now: Instant, value: f64, horizon: Duration) {
        let longest = Duration::from_secs_f64(SUSTAINED);
        while self.points.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > longest) || self.points.len() >= KEPT {
            self.sum -= self.points.pop_front().map_or(0.0, |(_, value)| value);
        }
        self.points.push_back((now, value));
        self.sum += value;
        self.outlook = Some(self.look(now, value, horizon.as_secs_f64()));
    }

    /// What comes now is the sum of others. How high it was stays in memory.
    pub fn begin_anew(&mut self) {
        self.points.clear();
        (self.sum, self.outlook) = (0.0, None);
    }

    /// As of the last value. None: there was none.
    pub fn outlook(&self) -> Option<Outlook> {
        self.outlook
    }

    fn look(&mut self, now: Instant, latest: f64, horizon: f64) -> Outlook {
        let (mut sums, mut lines) = (Sums::default(), [None; LINES.len()]);
        let [mut just_now, mut lately] = [latest; 2];
        let [mut before, mut long_before] = [None; 2];
        for (at, value) in self.points.iter().rev() {
            let ago = now.saturating_duration_since(*at).as_secs_f64();
            if ago > LONGEST_LINE {
                break;
            }
            sums.add(-ago, *value);
            if ago <= JUST_NOW {
                just_now = sums.mean();
            }
            if ago <= LATELY {
                lately = sums.mean();
            }
            if ago <= BEFORE {
                before = Some(sums);
            } else if ago <= BEFORE + JUST_NOW {
                long_before = Some(sums);
            }
            for (line, (span, _)) in lines.iter_mut().zip(LINES) {
                if ago <= span {
                    *line = Some(sums);
                }
            }
        }
        if let Some((before, long_before)) = before.zip(long_before) {
            self.calm.push(now, (long_before.y - before.y) / (long_before.n - before.n), CALM);
        }
        let is_new = self.calm.highest().is_some_and(|calm| just_now > calm * NEW);
        let sustained = self.sum / self.points.len() as f64;
        let mut outlook = Outlook { latest, lately, sustained, soon: lately, at_horizon: lately };
        let lines = lines.map(|sums| sums.and_then(|sums| sums.line()));
        let going_on = lines[0].as_ref().map_or(0.0, |line| line.slope - GOING_ON * line.error);
        for (line, (span, certain)) in lines.iter().zip(LINES).filter(|_| is_new) {
            let Some(line) = line else { continue };
            let slope = (line.slope - certain * line.error).min(going_on);
            if slope <= 0.0 {
                continue;
            }
            outlook.soon = outlook.soon.max(line.now + slope * horizon.min(TRUST * span));
            outlook.at_horizon = outlook.at_horizon.max(line.now + slope * horizon);
        }
        outlook.at_horizon = outlook.at_horizon.max(outlook.soon);
        outlook
    }
}

/// Of points: seconds (now is 0), and values.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Sums {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    fn mean(&self) -> f64 {
        self.y / self.n
    }

    /// By least squares. None: they are too few.
    fn line(&self) -> Option<Line> {
        let Sums { n, x, y, .. } = *self;
        if n < POINTS {
            return None;
        }
        let (xx, xy, yy) = (self.xx - x * x / n, self.xy - x * y / n, self.yy - y * y / n);
        if xx <= 0.0 {
            return None;
        }
        let slope = xy / xx;
        let error = ((yy - slope * xy).max(0.0) / (n - 2.0) / xx).sqrt();
        Some(Line { now: (y - slope * x) / n, slope, error })
    }
}

struct Line {
    now: f64,
    /// In a second.
    slope: f64,
    /// The slope's standard error.
    error: f64,
}
