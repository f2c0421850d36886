//! What it costs a gateway that something which a shard depends on is down.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// Subtracted from the shard's priority, 1 to 253.
    Weight(u8),
    /// The node lets go of the shard.
    Fault,
}

impl Cost {
    /// More than lies between the two candidates of a shard (200 and 100): it moves; and if it is down for both, it stays where it is.
    pub const DEFAULT: Cost = Cost::Weight(150);
}
