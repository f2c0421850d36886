//! `POST /v1/demand`: what a function platform knows of the load to come.
//!
//! ```json
//! {"source": "functions", "bits_per_second": 12000000000, "connections": 400000, "for_seconds": 900}
//! {"source": "sale", "nodes": 6, "until": "2026-11-27T12:00:00Z"}
//! {"source": "sale", "for_seconds": 0}
//! ```
//!
//! Of each source counts what it said last, until that ends; what lasts for 0 s ends what was said before.

use super::{Body, Figures, Level, NODES, Refusal, Said, Source, Stamp, Subject, shown};
use crate::model::SourceName;
use serde::Deserialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

/// How long a demand may count, in seconds: to a day ahead.
pub const LASTS: RangeInclusive<u64> = 0..=86_400;
/// Bits per second, packets per second or connections.
pub const LOAD: RangeInclusive<u64> = 0..=1_000_000_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    pub source: SourceName,
    pub expects: Expects,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// From when it is taken, for so long.
    Figures(Figures, Duration),
    /// Nothing more.
    Nothing,
}

/// As it is sent. A key that is not known may be a figure that is misspelt, so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    source: String,
    nodes: Option<u32>,
    bits_per_second: Option<u64>,
    packets_per_second: Option<u64>,
    connections: Option<u64>,
    until: Option<Stamp>,
    for_seconds: Option<u64>,
}

impl Demand {
    pub fn parse(body: Body<'_>, now: SystemTime) -> Result<Self, Refusal> {
        let sent: Sent = body.json("a demand")?;
        let lasts = lasts(&sent, now)?;
        within("nodes", sent.nodes, &NODES)?;
        within("bits_per_second", sent.bits_per_second, &LOAD)?;
        within("packets_per_second", sent.packets_per_second, &LOAD)?;
        within("connections", sent.connections, &LOAD)?;
        let figures = Figures {
            nodes: sent.nodes,
            bits_per_second: sent.bits_per_second,
            packets_per_second: sent.packets_per_second,
            connections: sent.connections,
        };
        let invalid = |told: &str| Err(Refusal::Invalid(told.into()));
        let expects = match (figures == Figures::default(), lasts) {
            (true, Duration::ZERO) => Expects::Nothing,
            (false, Duration::ZERO) => return invalid("a demand with for_seconds 0 ends what its source said: leave the figures out"),
            (true, _) => return invalid(&format!("a demand says nothing of the load: write at least one of {ALL}")),
            (false, lasts) => Expects::Figures(figures, lasts),
        };
        Ok(Self { source: source(&sent.source)?, expects })
    }

    /// What is signed later of the same takes its place.
    pub fn subject(&self) -> Subject {
        Subject::new(format!("demand/{}", self.source))
    }

    pub fn said(&self, now: Instant) -> Said {
        let source = Source::new(format!("demand/{}", self.source));
        match self.expects {
            Expects::Figures(figures, lasts) => Said::Level(Level { source, figures, until: now + lasts }),
            Expects::Nothing => Said::Ends(source),
        }
    }
}

const ALL: &str = "nodes, bits_per_second, packets_per_second or connections";

fn source(text: &str) -> Result<SourceName, Refusal> {
    let told = || format!("source: \"{}\" is no name: use 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first", shown(text));
    text.parse().map_err(|_| Refusal::Invalid(told()))
}

fn lasts(sent: &Sent, now: SystemTime) -> Result<Duration, Refusal> {
    match (&sent.until, sent.for_seconds) {
        (None, Some(seconds)) => {
            within("for_seconds", Some(seconds), &LASTS)?;
            Ok(Duration::from_secs(seconds))
        }
        (Some(until), None) => {
            let lasts = until.0.duration_since(now).unwrap_or_default();
            let range = Duration::from_secs(1)..=Duration::from_secs(*LASTS.end());
            let told = || format!("until: that is not 1 to {} s ahead of the clock here: write a later time, or a nearer one", LASTS.end());
            if range.contains(&lasts) { Ok(lasts) } else { Err(Refusal::Invalid(told())) }
        }
        (None, None) => Err(Refusal::Invalid("a demand without an end: write until or for_seconds".into())),
        (Some(_), Some(_)) => Err(Refusal::Invalid("a demand with two ends: write until or for_seconds, not both".into())),
    }
}

fn within<T: PartialOrd + fmt::Display>(name: &str, value: Option<T>, range: &RangeInclusive<T>) -> Result<(), Refusal> {
    match value {
        Some(value) if !range.contains(&value) => {
            Err(Refusal::Invalid(format!("{name}: {value} is out of range: write {} to {}", range.start(), range.end())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
