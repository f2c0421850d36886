//! What others say is needed: levels, not steps. However often something is said, it says the same.

use super::capacity::{Capacity, Dimension, Work};
use crate::model::Invalid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::mem::discriminant;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Instant;

/// Who says so: an alert's fingerprint, a webhook's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
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

impl TryFrom<String> for Source {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        name.parse()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// So many nodes. As always the highest need counts, so it is so many at least.
    Nodes(u32),
    /// The nodes that carry traffic when it is said are used so far: 0 to 100, where 1 is all they have. How many nodes that takes is computed once: said again
    /// when more nodes have come, it asks for no more.
    Utilisation(f64),
    /// The source's own share of the load, so those of all sources add up.
    Load(Load),
}

/// Of packets and connections of functions, as a platform knows them: what gateways and tunnels make of them is reckoned here. At least one figure. Each takes a
/// configured [`Capacity`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// In a second, both directions together.
    pub bits: Option<u64>,
    /// In a second, both directions together.
    pub packets: Option<u64>,
    /// At the same time.
    pub connections: Option<u64>,
}

/// What a source may say is used of the nodes.
pub const UTILISATION: RangeInclusive<f64> = 0.0..=100.0;

/// What a source says, for a time: one of each kind at most. What it said before is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    pub source: Source,
    pub wanted: Vec<Wanted>,
    /// It ends by itself then. A clock that only goes forwards, so that nobody's clock can make it last.
    pub until: Instant,
}

/// One thing that is wanted, and what it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Nodes(u32),
    Utilisation {
        said: f64,
        /// Nodes' worth. None: it was not known how many nodes there were.
        work: Option<f64>,
    },
    /// As it was reckoned when a node's capacity was known last.
    Load {
        said: Load,
        work: Work,
    },
}

impl Standing {
    fn new(wanted: Wanted, capacity: &Capacity) -> Result<Self, Invalid> {
        match wanted {
            Wanted::Nodes(nodes) => Ok(Self::Nodes(nodes)),
            Wanted::Utilisation(said) if UTILISATION.contains(&said) => Ok(Self::Utilisation { said, work: None }),
            Wanted::Utilisation(said) => {
                let (least, most) = (UTILISATION.start(), UTILISATION.end());
                Err(Invalid(format!("a utilisation of {said}: use {least} to {most}, where 1 is all that the nodes have")))
            }
            Wanted::Load(said) if said == Load::default() => {
                Err(Invalid("a load without a figure: say bits, packets or connections".into()))
            }
            Wanted::Load(said) => Ok(Self::Load { said, work: capacity.work(said)? }),
        }
    }

    pub fn wanted(&self) -> Wanted {
        match *self {
            Self::Nodes(nodes) => Wanted::Nodes(nodes),
            Self::Utilisation { said, .. } => Wanted::Utilisation(said),
            Self::Load { said, .. } => Wanted::Load(said),
        }
    }

    /// How many nodes it takes by itself.
    pub fn nodes(&self, nodes_for: impl Fn(f64) -> u32) -> u32 {
        match self {
            Self::Nodes(nodes) => *nodes,
            Self::Utilisation { work, .. } => work.map_or(0, nodes_for),
            Self::Load { work, .. } => nodes_for(work.iter().copied().fold(0.0, f64::max)),
        }
    }

    /// Whether it can be what was kept of one that was said.
    fn check(&self) -> Result<(), Invalid> {
        let possible = match self {
            Self::Nodes(_) => true,
            Self::Utilisation { said, work } => UTILISATION.contains(said) && work.is_none_or(|work| (0.0..1e9).contains(&work)),
            Self::Load { work, .. } => work.iter().all(|work| (0.0..1e18).contains(work)),
        };
        if possible { Ok(()) } else { Err(Invalid(format!("{self:?} can never have been said"))) }
    }
}

/// What all sources' loads come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Announced {
    /// Nodes' worth.
    pub work: f64,
    /// In which it takes most.
    pub dimension: Dimension,
    /// How many sources announce some of it.
    pub sources: usize,
}

/// What a source says, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub wanted: Vec<Standing>,
    pub until: Instant,
}

/// The latest of each source.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    said: BTreeMap<Source, Said>,
}

/// Sources that are remembered. One more is refused, as one less could be the one that matters.
pub const SOURCES: usize = 256;

impl Levels {
    pub fn set(&mut self, now: Instant, level: Level, capacity: &Capacity) -> Result<(), Invalid> {
        self.expire(now);
        let Level { source, wanted, until } = level;
        let told = |Invalid(why): Invalid| Invalid(format!("{source}: {why}"));
        let mut standing: Vec<Standing> =
            wanted.iter().map(|wanted| Standing::new(*wanted, capacity)).collect::<Result<_, _>>().map_err(told)?;
        check_kinds(&standing).map_err(told)?;
        if until <= now {
            self.said.remove(&source);
            return Ok(());
        }
        let former = self.said.get(&source);
        if former.is_none() && self.said.len() >= SOURCES {
            return Err(told(Invalid(format!("there are levels of {SOURCES} sources already; end some, or let them expire sooner"))));
        }
        for standing in &mut standing {
            if let Standing::Utilisation { .. } = standing
                && let Some(same) = former.and_then(|former| former.wanted.iter().find(|former| former.wanted() == standing.wanted()))
            {
                *standing = *same;
            }
        }
        self.said.insert(source, Said { wanted: standing, until });
        Ok(())
    }

    /// What was kept through a restart.
    pub fn restore(&mut self, source: Source, said: Said) -> Result<(), Invalid> {
        let checked = said.wanted.iter().try_for_each(Standing::check).and_then(|()| check_kinds(&said.wanted));
        checked.map_err(|Invalid(why)| Invalid(format!("{source}: {why}")))?;
        self.said.insert(source, said);
        if self.said.len() > SOURCES { Err(Invalid(format!("levels of more than {SOURCES} sources"))) } else { Ok(()) }
    }

    pub fn end(&mut self, source: &Source) {
        self.said.remove(source);
    }

    pub fn expire(&mut self, now: Instant) {
        self.said.retain(|_, said| said.until > now);
    }

    pub fn has(&self, source: &Source) -> bool {
        self.said.contains_key(source)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Source, &Said)> {
        self.said.iter()
    }

    /// None: nobody announces any.
    pub fn announced(&self) -> Option<Announced> {
        let (mut sum, mut sources) = (Work::default(), [0; 3]);
        for standing in self.said.values().flat_map(|said| &said.wanted) {
            let Standing::Load { work, .. } = standing else { continue };
            for (index, work) in work.iter().enumerate() {
                sum[index] += work;
                sources[index] += usize::from(*work > 0.0);
            }
        }
        let most = (0..sum.len()).max_by(|one, other| sum[*one].total_cmp(&sum[*other]))?;
        (sources[most] > 0).then(|| Announced { work: sum[most], dimension: Dimension::ALL[most], sources: sources[most] })
    }

    /// So many nodes carry traffic, so it is of these that the new ones spoke.
    pub fn relate(&mut self, serving: u32) {
        for standing in self.said.values_mut().flat_map(|said| &mut said.wanted) {
            if let Standing::Utilisation { said, work } = standing
                && serving > 0
            {
                work.get_or_insert(*said * f64::from(serving));
            }
        }
    }

    /// A node carries so much from now on. A load in what is not configured any more stays what it came to.
    pub fn reckon(&mut self, capacity: &Capacity) {
        for standing in self.said.values_mut().flat_map(|said| &mut said.wanted) {
            if let Standing::Load { said, work } = standing {
                *work = capacity.work(*said).unwrap_or(*work);
            }
        }
    }
}

fn check_kinds(wanted: &[Standing]) -> Result<(), Invalid> {
    let twice = |(index, one): (usize, &Standing)| wanted[..index].iter().any(|other| discriminant(one) == discriminant(other));
    if wanted.is_empty() {
        return Err(Invalid("a level that wants nothing: say nodes, a utilisation or a load".into()));
    }
    if wanted.iter().enumerate().any(twice) {
        return Err(Invalid("a level that says one thing twice: say nodes, a utilisation and a load once each".into()));
    }
    Ok(())
}
