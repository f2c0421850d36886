//! What goes in and what comes out.

use super::level::{Level, Source};
use super::policy::Policy;
use super::reason::{Decision, Held};
use super::sample::{Nonsense, Sample};
use crate::model::{Invalid, NodeName};

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Reading(NodeName, Sample),
    /// What whoever runs the nodes says: how many are ordered there, and which carry traffic (not those that are starting, or being drained).
    Fleet {
        ordered: u32,
        serving: Vec<NodeName>,
    },
    Level(Level),
    /// A source takes back what it said.
    LevelEnds(Source),
    /// The last order was taken.
    Taken,
    /// It was not: down, throttled, or no answer in time.
    NotTaken,
    /// Another policy from now on. What is known stays known.
    Policy(Policy),
}

/// What was not believed, and why.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error("the reading of {0} is not used: {1}")]
    Reading(NodeName, Nonsense),
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// For the log. What it comes to is ordered by itself.
    Decided(Decision),
    /// For the log: why nothing is done; once when it begins.
    Held(Held),
    /// So many nodes there shall be. The latest counts.
    Order(u32),
}
