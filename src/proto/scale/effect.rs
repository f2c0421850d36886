//! What goes in and what comes out.

use super::level::{Level, Source};
use super::policy::Policy;
use super::reason::{Decision, Held};
use super::sample::{Nonsense, Sample};
use crate::model::{Invalid, NodeName};
use serde::Serialize;

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
    /// These are asked again and again what is to come, and no others: while one has no level, nobody is taken away.
    Asked(Vec<Source>),
    /// The order of this serial was taken. Of an order that is not the latest it says nothing any more.
    Taken(u64),
    /// It was not: down, throttled, or no answer in time.
    NotTaken(u64),
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
    /// The latest counts.
    Order(Order),
}

/// So many nodes there shall be: a level. Given once more it has another serial, so that an answer says which of the two it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Order {
    /// Higher than all before, also those before a restart ([`super::Saved`]) or a crash: seconds since 1970, or more.
    pub serial: u64,
    pub nodes: u32,
}
