//! What others say is needed: levels, not steps. However often something is said, it says the same.

use crate::model::Invalid;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// Who says so: an alert's fingerprint, a webhook's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Source(String);

impl FromStr for Source {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err(Invalid(format!("{name:?} names no source of a level: use 1 to 128 bytes without control characters")));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// So many nodes. As always the highest need counts, so it is so many at least.
    Nodes(u32),
    /// The nodes that carry traffic when it is said are used so far: 0 to 10, where 1 is all they have. How many nodes that takes is computed once: said again
    /// when more nodes have come, it asks for no more.
    Utilisation(f64),
}

/// A level, for a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    pub source: Source,
    pub wanted: Wanted,
    /// It ends by itself then. A clock that only goes forwards, so that nobody's clock can make it last.
    pub until: Instant,
}

impl Level {
    pub fn check(&self) -> Result<(), Invalid> {
        match self.wanted {
            Wanted::Utilisation(used) if !(0.0..=10.0).contains(&used) => {
                Err(Invalid(format!("a utilisation of {used} by {}: use 0 to 10, where 1 is all that the nodes have", self.source)))
            }
            Wanted::Nodes(_) | Wanted::Utilisation(_) => Ok(()),
        }
    }
}

/// A level and what it comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    pub wanted: Wanted,
    pub until: Instant,
    /// Nodes' worth of load, of [`Wanted::Utilisation`]. None: it was not known how many nodes there were.
    demand: Option<f64>,
}

impl Standing {
    pub fn nodes(&self, nodes_for: impl Fn(f64) -> u32) -> u32 {
        match self.wanted {
            Wanted::Nodes(nodes) => nodes,
            Wanted::Utilisation(_) => self.demand.map_or(0, nodes_for),
        }
    }
}

/// The latest of each source.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    standing: BTreeMap<Source, Standing>,
}

/// Sources that are remembered. One more is refused, as one less could be the one that matters.
pub const SOURCES: usize = 256;

impl Levels {
    pub fn set(&mut self, now: Instant, level: Level) -> Result<(), Invalid> {
        level.check()?;
        self.expire(now);
        let Level { source, wanted, until } = level;
        if until <= now {
            self.standing.remove(&source);
            return Ok(());
        }
        let full = self.standing.len() >= SOURCES;
        match self.standing.get_mut(&source) {
            Some(standing) if standing.wanted == wanted => standing.until = until,
            None if full => {
                return Err(Invalid(format!(
                    "{source}: there are levels of {SOURCES} sources already; end some, or let them expire sooner"
                )));
            }
            _ => {
                self.standing.insert(source, Standing { wanted, until, demand: None });
            }
        }
        Ok(())
    }

    pub fn end(&mut self, source: &Source) {
        self.standing.remove(source);
    }

    pub fn expire(&mut self, now: Instant) {
        self.standing.retain(|_, standing| standing.until > now);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Source, &Standing)> {
        self.standing.iter()
    }

    /// So many nodes carry traffic, so it is of these that the new ones spoke.
    pub fn relate(&mut self, serving: u32) {
        for standing in self.standing.values_mut() {
            if let Wanted::Utilisation(used) = standing.wanted
                && serving > 0
            {
                standing.demand.get_or_insert(used * f64::from(serving));
            }
        }
    }
}
