//! `POST /v1/demand`: what a function platform knows of the load to come.
//!
//! ```json
//! {"source": "functions", "bits_per_second": 12000000000, "connections": 400000, "for_seconds": 900}
//! {"source": "sale", "nodes": 6, "until": "2026-11-27T12:00:00Z"}
//! ```
//!
//! Of each source counts what it said last, until that ends. `nodes` and `utilisation` speak of the whole group, so the highest of all sources counts;
//! the other figures are the source's own share of the load, so those of all sources add up.

use super::{Body, Refusal, Stamp, shown};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

pub use super::alertmanager::NODES;

/// How long a demand may count, in seconds: to a day ahead.
pub const LASTS: RangeInclusive<u64> = 1..=86_400;
/// A share of what the nodes that are there can carry; 1 is all of it.
pub const UTILISATION: RangeInclusive<f64> = 0.0..=100.0;
/// Bits per second, packets per second or connections.
pub const LOAD: RangeInclusive<u64> = 0..=1_000_000_000_000_000;

/// Who knows it: 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(String);

impl Source {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is to be expected; at least one figure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Nodes of the whole group, at least.
    pub nodes: Option<u32>,
    /// Of the whole group as it is when this is said.
    pub utilisation: Option<f64>,
    /// Both directions together, of inner packets.
    pub bits_per_second: Option<u64>,
    pub packets_per_second: Option<u64>,
    /// At the same time.
    pub connections: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    pub source: Source,
    pub figures: Figures,
    /// From now on.
    pub lasts: Duration,
}

/// As it is sent. A key that is not known may be a figure that is misspelt, so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    source: String,
    nodes: Option<u32>,
    utilisation: Option<f64>,
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
        within("utilisation", sent.utilisation, &UTILISATION)?;
        within("bits_per_second", sent.bits_per_second, &LOAD)?;
        within("packets_per_second", sent.packets_per_second, &LOAD)?;
        within("connections", sent.connections, &LOAD)?;
        let figures = Figures {
            nodes: sent.nodes,
            utilisation: sent.utilisation,
            bits_per_second: sent.bits_per_second,
            packets_per_second: sent.packets_per_second,
            connections: sent.connections,
        };
        if figures == Figures::default() {
            let all = "nodes, utilisation, bits_per_second, packets_per_second or connections";
            return Err(Refusal::Invalid(format!("a demand says nothing of the load: write at least one of {all}")));
        }
        Ok(Self { source: source(&sent.source)?, figures, lasts })
    }
}

fn source(text: &str) -> Result<Source, Refusal> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let whole = (1..=63).contains(&text.len()) && text.bytes().all(good) && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    let told = || format!("source: \"{}\" is no name: use 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first", shown(text));
    if whole { Ok(Source(text.to_owned())) } else { Err(Refusal::Invalid(told())) }
}

fn lasts(sent: &Sent, now: SystemTime) -> Result<Duration, Refusal> {
    let (least, most) = (LASTS.start(), LASTS.end());
    match (&sent.until, sent.for_seconds) {
        (None, Some(seconds)) => {
            within("for_seconds", Some(seconds), &LASTS)?;
            Ok(Duration::from_secs(seconds))
        }
        (Some(until), None) => {
            let lasts = until.0.duration_since(now).unwrap_or_default();
            let range = Duration::from_secs(*least)..=Duration::from_secs(*most);
            let told = || format!("until: that is not {least} to {most} s ahead of the clock here: write a later time, or a nearer one");
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

/// What all sources expect together. A figure that nobody has given is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expected {
    /// Nodes that are wanted, at least.
    pub nodes: Option<u32>,
    /// How many nodes' work there is: utilisation times the nodes that it was said of.
    pub work: Option<f64>,
    pub bits_per_second: Option<u64>,
    pub packets_per_second: Option<u64>,
    pub connections: Option<u64>,
}

/// What each source said last.
///
/// A utilisation is of the nodes that there were when it was said, and it is kept as that many nodes' work. The same utilisation said again
/// is still of those nodes, so a source that repeats itself while nodes come asks for no more. A source that can say what its load is
/// does better to say that.
#[derive(Debug)]
pub struct Demands {
    limit: usize,
    sources: BTreeMap<Source, Said>,
}

#[derive(Debug)]
struct Said {
    figures: Figures,
    work: Option<f64>,
    ends: Instant,
    sent: Option<SystemTime>,
}

impl Demands {
    /// At most `limit` sources.
    pub fn new(limit: usize) -> Self {
        Self { limit, sources: BTreeMap::new() }
    }

    /// `nodes` are there now. `sent` is when it was signed, if it was ([`super::auth::Proof::sent`]): what overtook another on its way stays.
    pub fn take(&mut self, demand: &Demand, nodes: u32, sent: Option<SystemTime>, now: Instant) -> Result<(), Refusal> {
        self.expire(now);
        let former = self.sources.get(&demand.source);
        if former.is_none() && self.sources.len() >= self.limit {
            return Err(Refusal::Full { what: "sources of demands", limit: self.limit });
        }
        if let (Some(sent), Some(last)) = (sent, former.and_then(|former| former.sent))
            && sent < last
        {
            return Err(Refusal::Outdated { source_name: demand.source.to_string() });
        }
        let figures = demand.figures;
        let work = match former {
            Some(former) if former.figures.utilisation == figures.utilisation => former.work,
            _ => figures.utilisation.map(|share| share * f64::from(nodes)),
        };
        let said = Said { figures, work, ends: now + demand.lasts, sent: sent.or(former.and_then(|former| former.sent)) };
        self.sources.insert(demand.source.clone(), said);
        Ok(())
    }

    /// Changes with [`Demands::take`], and at [`Demands::next`].
    pub fn expected(&self, now: Instant) -> Expected {
        let mut all = Expected::default();
        for said in self.sources.values().filter(|said| now < said.ends) {
            let figures = said.figures;
            all.nodes = all.nodes.max(figures.nodes);
            all.work = [all.work, said.work].into_iter().flatten().reduce(f64::max);
            all.bits_per_second = sum(all.bits_per_second, figures.bits_per_second);
            all.packets_per_second = sum(all.packets_per_second, figures.packets_per_second);
            all.connections = sum(all.connections, figures.connections);
        }
        all
    }

    /// When the next demand ends.
    pub fn next(&self) -> Option<Instant> {
        self.sources.values().map(|said| said.ends).min()
    }

    /// Takes away what has ended; how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.sources.len();
        self.sources.retain(|_, said| now < said.ends);
        before - self.sources.len()
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests;
