//! Why it decided as it did, or why it did not: for the log, for `status`, for metrics.

use super::capacity::Dimension;
use super::level::Source;
use super::sample::Allowance;
use crate::model::NodeName;
use serde::Serialize;
use std::fmt;
use std::time::Instant;

/// So many nodes from now on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    #[serde(skip)]
    pub at: Instant,
    /// What the clock on the wall showed: seconds since 1970.
    pub time: u64,
    pub from: u32,
    pub to: u32,
    /// What would be right at once. More than `to`, or less, where a step is limited or there may be no more.
    pub wanted: u32,
    pub reason: Reason,
}

impl Decision {
    pub fn direction(&self) -> Direction {
        if self.to > self.from { Direction::Out } else { Direction::In }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Out,
    In,
}

impl Direction {
    /// A metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Out => "out",
            Direction::In => "in",
        }
    }
}

/// What a number of nodes is for. Utilisations are parts of what the nodes that carry traffic can carry, 1: all.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// There are always so many.
    Minimum,
    /// There are so many at this hour.
    Schedule,
    /// This much is used; of the gateway that is used most, `dimension` is what it is short of first.
    Demand { utilisation: f64, dimension: Dimension },
    /// Somebody else says that it takes so many.
    Level { source: Source },
    /// So many sources announce loads that take so many together, most of all in this dimension.
    Announced { sources: usize, dimension: Dimension },
    /// It rises: when a node that is ordered now has come, this much will be used.
    Rising { utilisation: f64, ahead: f64 },
    /// All that there is is used. What is asked for beyond that, nobody can measure.
    Saturated { utilisation: f64 },
    /// One gateway has been used this much for a while, and the others are not: another may take some of its shards.
    Hot { node: NodeName, utilisation: f64 },
    /// The cloud holds packets of a gateway back.
    Loss { node: NodeName, allowance: Allowance },
    /// No more than `highest` were needed for `seconds`.
    Quiet { highest: u32, seconds: u64 },
    /// Somebody else has changed what is ordered.
    Adopted,
}

impl Reason {
    pub const LABELS: [&str; 11] =
        ["minimum", "schedule", "demand", "level", "announced", "rising", "saturated", "hot", "loss", "quiet", "adopted"];

    /// A metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::Minimum => "minimum",
            Reason::Schedule => "schedule",
            Reason::Demand { .. } => "demand",
            Reason::Level { .. } => "level",
            Reason::Announced { .. } => "announced",
            Reason::Rising { .. } => "rising",
            Reason::Saturated { .. } => "saturated",
            Reason::Hot { .. } => "hot",
            Reason::Loss { .. } => "loss",
            Reason::Quiet { .. } => "quiet",
            Reason::Adopted => "adopted",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { from, to, wanted, reason, .. } = self;
        write!(f, "{from} -> {to} nodes: {reason}")?;
        if wanted == to { Ok(()) } else { write!(f, "; {wanted} are wanted") }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: &f64| part * 100.0;
        match self {
            Reason::Minimum => write!(f, "there are never fewer"),
            Reason::Schedule => write!(f, "the minimum at this hour"),
            Reason::Demand { utilisation, dimension } => {
                write!(f, "{:.0} % is used (the busiest gateway: {})", percent(utilisation), dimension.as_str())
            }
            Reason::Level { source } => write!(f, "wanted by {source}"),
            Reason::Announced { sources, dimension } => {
                write!(f, "loads announced by {sources} sources (most of all: {})", dimension.as_str())
            }
            Reason::Rising { utilisation, ahead } => {
                write!(f, "{:.0} % would be used in {ahead:.0} s, as it rises", percent(utilisation))
            }
            Reason::Saturated { utilisation } => {
                write!(f, "{:.0} % is used: more may be asked for than can be measured", percent(utilisation))
            }
            Reason::Hot { node, utilisation } => {
                write!(f, "{:.0} % of {node} is used for a while, and less of the others", percent(utilisation))
            }
            Reason::Loss { node, allowance } => write!(f, "packets of {node} are held back: {} rises", allowance.as_str()),
            Reason::Quiet { highest, seconds } => write!(f, "no more than {highest} were needed for {seconds} s"),
            Reason::Adopted => write!(f, "somebody else has ordered so"),
        }
    }
}

/// Why there is another number of nodes than is wanted now, and for the time being stays.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "held", rename_all = "snake_case")]
pub enum Held {
    /// Whoever runs the nodes has not said yet how many there are.
    NoFleet,
    /// Whoever runs the nodes has said nothing for long: nobody is taken away.
    FleetStale,
    /// Of these gateways there is no reading that is not too old or can be believed: nobody is taken away.
    Missing {
        nodes: Vec<NodeName>,
    },
    /// These are asked, and what they said last, if anything, counts no more: nobody is taken away.
    Silent {
        sources: Vec<Source>,
    },
    /// The last change was too short a time ago. Seconds.
    Cooldown {
        wanted: u32,
        left: u64,
    },
    /// Fewer are needed, but not for long enough yet. Seconds.
    Stabilising {
        wanted: u32,
        left: u64,
    },
    /// The step was limited; the next one follows.
    Step {
        wanted: u32,
    },
    /// Fewer would do if all gateways were used alike; but this one would be used beyond the target.
    Uneven {
        node: NodeName,
        wanted: u32,
    },
    AtMax {
        wanted: u32,
    },
    /// So many that are ordered do not carry traffic yet.
    Behind {
        nodes: u32,
    },
    /// Whoever runs the nodes did not take the last order; it is repeated.
    Refused {
        wanted: u32,
    },
}

impl Held {
    pub const LABELS: [&str; 11] =
        ["no_fleet", "fleet_stale", "missing", "silent", "cooldown", "stabilising", "step", "uneven", "at_max", "behind", "refused"];

    /// A metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Held::NoFleet => "no_fleet",
            Held::FleetStale => "fleet_stale",
            Held::Missing { .. } => "missing",
            Held::Silent { .. } => "silent",
            Held::Cooldown { .. } => "cooldown",
            Held::Stabilising { .. } => "stabilising",
            Held::Step { .. } => "step",
            Held::Uneven { .. } => "uneven",
            Held::AtMax { .. } => "at_max",
            Held::Behind { .. } => "behind",
            Held::Refused { .. } => "refused",
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Held::NoFleet => write!(f, "not known yet how many nodes there are"),
            Held::FleetStale => write!(f, "not known any more how many nodes there are: none is taken away"),
            Held::Missing { nodes } => {
                let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
                write!(f, "nothing current is known of {}: none is taken away", names.join(", "))
            }
            Held::Silent { sources } => {
                let names: Vec<String> = sources.iter().map(Source::to_string).collect();
                write!(f, "nothing current is known from {}: none is taken away", names.join(", "))
            }
            Held::Cooldown { wanted, left } => write!(f, "{wanted} wanted; {left} s until the next change"),
            Held::Stabilising { wanted, left } => write!(f, "{wanted} wanted, but not for long enough: {left} s to go"),
            Held::Step { wanted } => write!(f, "{wanted} wanted; this was as much as is changed at once"),
            Held::Uneven { node, wanted } => {
                write!(f, "{wanted} would do if all were used alike, but {node} would be used beyond the target")
            }
            Held::AtMax { wanted } => write!(f, "{wanted} wanted, which is more than max"),
            Held::Behind { nodes } => write!(f, "{nodes} that are ordered carry no traffic yet"),
            Held::Refused { wanted } => write!(f, "the order of {wanted} was not taken; it is repeated"),
        }
    }
}
