//! What a post comes to.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Instant;

/// Nodes that may be asked for.
pub const NODES: RangeInclusive<u32> = 1..=1000;

/// Whose level it is: `demand/functions`, `alert/SaleBegins/00e9d7b0a4ab8c3e`. Of each counts what was said last. 1 to 128 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(String);

impl Source {
    pub(super) fn new(name: String) -> Self {
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What is to be expected; at least one figure.
///
/// `nodes` speaks of the whole group, so the highest of all sources counts; the other figures are the source's own share of the load, so those of all
/// sources add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Nodes of the whole group, at least.
    pub nodes: Option<u32>,
    /// Both directions together, of inner packets.
    pub bits_per_second: Option<u64>,
    pub packets_per_second: Option<u64>,
    /// At the same time.
    pub connections: Option<u64>,
}

/// A level of this source until then. It ends by itself, on a clock that only goes forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    pub source: Source,
    pub figures: Figures,
    pub until: Instant,
}

/// For the autoscaler, which keeps the levels. However often it is said, it says the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Level(Level),
    /// The level of this source is over; there may be none.
    Ends(Source),
}

impl Said {
    pub fn source(&self) -> &Source {
        match self {
            Self::Level(level) => &level.source,
            Self::Ends(source) => source,
        }
    }
}
