//! What should be, what is, and the steps from one to the other. No I/O.
//!
//! [`State`] is both: `desired` computes one from the configuration, `kernel::observe` reads one from the
//! kernel, and [`plan`] is the difference as a list of [`Step`]s, in an order that never opens a gap: policy
//! before tunnels, tunnels before routes; and backwards for removals.

mod diff;
pub mod facts;
pub mod flows;
pub mod gateway;
pub mod host;
mod rules;
mod ruleset;
pub mod slots;
mod state;
mod step;

pub use diff::plan;
pub use rules::{PRIORITIES, rule_tree};
pub use ruleset::{ANSWERS, FLOW_TABLE, FORMER, LIVE, Ruleset, flow_devices_fit};
pub use state::*;
pub use step::{Plan, Step};
