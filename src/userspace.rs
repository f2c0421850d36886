//! GRE carried by this process, for kernels without ip_gre: a raw socket of protocol 47 on the platform side, a TUN
//! device for each (tenant, shard).

pub mod coalesce;
mod counters;
mod lpm;
pub mod segment;
mod table;
pub mod vnet;

pub use counters::{DropReason, Snapshot, TrafficCount};
pub use table::{End, Tunnel};
mod stub;
pub use stub::*;
