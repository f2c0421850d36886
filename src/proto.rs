//! State machines of protocols: events and the time go in, effects come out. No I/O, no clock, no randomness; a shell carries
//! the effects out.

pub mod actuator;
pub mod claim;
pub mod flow_log;
pub mod jit;
pub mod lifecycle;
pub mod rate;
pub mod retire;
pub mod roster;
pub mod scale;
pub mod skew;
pub mod sync;
pub mod track;
pub mod vrrp;
pub mod wake;
