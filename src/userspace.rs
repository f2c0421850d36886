//! GRE carried by this process, for kernels without ip_gre: a raw socket of protocol 47 on the platform side, a TUN
//! device for each (tenant, shard). Each tunnel has a local address of its own, which may come and go. [`Dataplane`] is the way in.
//!
//! Pure: `table` (whose packet, whereto), `lpm`, [`segment`] and [`coalesce`] (big packets on the TUN side), [`vnet`].
//! With system calls: `raw`, `tun`, `receive` and `transmit` (a thread each), [`handover`].

pub mod coalesce;
mod counters;
mod dataplane;
pub mod handover;
mod lpm;
mod raw;
mod ready;
mod receive;
pub mod segment;
mod shared;
mod table;
mod transmit;
mod tun;
pub mod urgent;
pub mod vnet;
pub mod wireguard;

pub use counters::{DropReason, Snapshot, TrafficCount};
pub use dataplane::{Dataplane, DataplaneConfig, Descriptors, Error, Role};
pub use table::{End, Tunnel};
