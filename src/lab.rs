//! A small cloud in network namespaces: function hosts, gateways, tenants' VPCs with overlapping addresses, and the
//! traffic and measurements that tell whether they work. What `portway lab`, `portway demo`, tests and benches share.
//!
//! ```no_run
//! use portway::{config::Backend, lab::{Lab, Topology, figures}};
//! let mut lab = Lab::build(Topology::demo())?;
//! lab.serve()?;
//! lab.start_daemons("target/debug/portway".as_ref(), Backend::Auto)?;
//! lab.attach_all()?;
//! let figures = figures(lab.node("fn-1a")?, lab.topology.tenant("acme").unwrap(), 1)?;
//! # Ok::<(), portway::lab::Error>(())
//! ```
//!
//! Nothing is ever made in the machine's own network namespace, and no namespace has a way out. A lab ends with the
//! process that built it, even by SIGKILL; only [`pinned`] labs stay, until they are taken down.

mod build;
pub mod checks;
mod cleanup;
pub mod cloud;
pub mod configs;
mod cut;
mod daemon;
mod demo;
mod dir;
pub mod directory;
mod error;
mod faults;
mod flows;
mod ha;
mod http;
pub mod keys;
mod losses;
mod measure;
mod netns;
mod packet;
pub mod pattern;
pub mod picture;
mod ping;
pub mod pinned;
mod process;
mod report;
pub mod rights;
pub mod scenario;
mod serve;
pub mod swarm;
mod table;
pub mod topology;
mod transfer;
mod vpc;
pub mod wiring;

pub use build::Lab;
pub use cleanup::on_interrupt;
pub use daemon::{Daemon, Role};
pub use demo::{Demo, run_demo};
pub use dir::{LabDir, secret};
pub use error::{Error, Result};
pub use faults::Kill;
pub use flows::{Counts, FlowReport, Flows, Survival};
pub use ha::{ShardState, ShardStatus};
pub use http::{Answer, get, unix, unix_ok, unix_within};
pub use measure::*;
pub use netns::Netns;
pub use packet::{ETHERTYPE_IPV4, checksum, gre, icmp_echo, ipv4, tcp, udp};
pub use ping::{Probe, Probed, answers, round_trips};
pub use process::{Life, Process, poll_every, poll_until};
pub use serve::{Seen, Servers};
pub use table::Paint;
pub use topology::Topology;
pub use transfer::{Transfer, Transferred};
pub use vpc::{Delivered, Vpc};
