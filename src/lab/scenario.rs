//! What `portway lab run` runs: a lab of its own each, some traffic, figures, and whether it passed.

mod drain;
mod failover;
mod group;
mod handover;
mod jit;
mod one_tunnel;
mod overlap;
mod restart;
mod scale;
mod shards;
mod split_brain;
mod upgrade;

pub use handover::{COLUMNS as HANDOVER_COLUMNS, Cause, HandedOver, hand_over};
pub use restart::{Restarted, restart_under_traffic};

use super::build::Lab;
use super::checks::Check;
use super::configs::backend_name;
use super::error::Result;
use super::faults::Kill;
use super::table::{Paint, checks, table};
use crate::config::{Backend, TunnelKind};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As `portway lab run` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Figures of one function through one GRE tunnel
    Gre,
    /// Eight tenants with the same addresses on one host: nobody reaches another's network
    Overlap,
    /// Daemons restarted under a transfer and a ping
    Restart,
    /// The Active of a pair of gateways dies (--kill) under connections and a 1 ms ping
    GreFailover,
    /// The Active of a pair of gateways is drained under connections, a transfer and a 1 ms ping
    Drain,
    /// A pair of gateways loses sight of each other; both are Active until the network heals
    SplitBrain,
    /// Shards over several gateways (--nodes, --shards), of which one dies and comes back
    Shards,
    /// A gateway joins a group (--nodes with it, --shards): it takes its shards in sync, under connections, transfers and a 1 ms ping
    ScaleOut,
    /// A gateway leaves a group (--nodes with it, --shards): its shards move in sync before it goes, under the same
    ScaleIn,
    /// Both gateways of a pair get another program (--to), one after the other, under connections, transfers and a 1 ms ping of two tenants
    Upgrade,
    /// As gre, through WireGuard
    Wireguard,
    /// As gre-failover, through WireGuard
    WireguardFailover,
    /// Hosts that only the directory knows send their first packet
    WireguardJit,
}

/// What a lab's tunnels are, and what carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    tunnel: TunnelKind,
    backend: Backend,
}

/// What scenarios of gateways that share HaVips can be told; others take no notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Of scenarios whose name says nothing of it.
    pub tunnel: TunnelKind,
    pub kill: Kill,
    /// Between advertisements.
    pub interval: Duration,
    /// TCP connections held through it; a fifth as many UDP flows are held beside them.
    pub flows: usize,
    /// How long the idle ones among them are idle.
    pub idle: Duration,
    /// Between two pings of those who measure a gap, but for [`Scenario::Shards`]; transfers are as much slower as this is longer than 1 ms. An emulated
    /// machine would be busy with them alone.
    pub ping: Duration,
    /// Of [`Scenario::Shards`], [`Scenario::ScaleOut`] and [`Scenario::ScaleIn`]: gateways, 2 to 6, and shards, 1 to 10.
    pub nodes: usize,
    pub shards: usize,
    /// Of [`Scenario::WireguardFailover`]: peers of the shard, the function host among them.
    pub peers: u16,
    /// Of [`Scenario::WireguardFailover`], and of [`Scenario::Restart`] with WireGuard: peers are let in because a directory knows them, and not configured.
    /// Of [`Scenario::ScaleOut`] and [`Scenario::ScaleIn`], with WireGuard: it says who is in the group besides, and no file is changed.
    pub directory: bool,
    /// Of [`Scenario::WireguardJit`]: hosts that come.
    pub hosts: u16,
    /// Of [`Scenario::Upgrade`]: the other program; none: a copy of the one that runs.
    pub to: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tunnel: TunnelKind::Gre,
            kill: Kill::Daemon,
            interval: Duration::from_millis(100),
            flows: 1000,
            idle: Duration::from_secs(2),
            ping: Duration::from_millis(1),
            nodes: 3,
            shards: 6,
            peers: 1,
            directory: false,
            hosts: 100,
            to: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Outcome {
    pub scenario: &'static str,
    /// What the daemons were told, and what they chose.
    pub backend: String,
    pub figures: Map<String, Value>,
    pub checks: Vec<Check>,
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gre => "gre",
            Self::Overlap => "overlap",
            Self::Restart => "restart",
            Self::GreFailover => "gre-failover",
            Self::Drain => "drain",
            Self::SplitBrain => "split-brain",
            Self::Shards => "shards",
            Self::ScaleOut => "scale-out",
            Self::ScaleIn => "scale-in",
            Self::Upgrade => "upgrade",
            Self::Wireguard => "wireguard",
            Self::WireguardFailover => "wireguard-failover",
            Self::WireguardJit => "wireguard-jit",
        }
    }

    /// Builds the lab, runs the daemons of `portway` in it, and takes it down again.
    pub fn run(self, portway: &Path, backend: Backend, options: &Options) -> Result<Outcome> {
        let tunnel = match self {
            Self::Gre | Self::GreFailover => TunnelKind::Gre,
            Self::Wireguard | Self::WireguardFailover | Self::WireguardJit => TunnelKind::Wireguard,
            Self::Overlap | Self::Restart | Self::Drain | Self::SplitBrain => options.tunnel,
            Self::Shards | Self::ScaleOut | Self::ScaleIn | Self::Upgrade => options.tunnel,
        };
        let way = Way { tunnel, backend };
        match self {
            Self::Gre | Self::Wireguard => one_tunnel::run(self, portway, way),
            Self::Overlap => overlap::run(portway, way),
            Self::Restart => restart::run(portway, way, options),
            Self::GreFailover | Self::WireguardFailover => failover::run(self, portway, way, options),
            Self::WireguardJit => jit::run(portway, way, options),
            Self::Drain => drain::run(portway, way, options),
            Self::SplitBrain => split_brain::run(portway, way, options),
            Self::Shards => shards::run(portway, way, options),
            Self::ScaleOut => scale::out(portway, way, options),
            Self::ScaleIn => scale::back(portway, way, options),
            Self::Upgrade => upgrade::run(portway, way, options),
        }
    }
}

impl Outcome {
    fn new(scenario: Scenario, backend: String, figures: Value, checks: Vec<Check>) -> Self {
        let figures = match figures {
            Value::Object(map) => map,
            other => Map::from_iter([("figures".to_owned(), other)]),
        };
        Self { scenario: scenario.name(), backend, figures, checks }
    }

    pub fn pass(&self) -> bool {
        self.checks.iter().all(|c| c.held)
    }

    /// The one JSON object that `--json` prints last.
    pub fn json(&self) -> Value {
        let failed: Vec<&Check> = self.checks.iter().filter(|c| !c.held).collect();
        let mut object = Map::from_iter([
            ("scenario".to_owned(), json!(self.scenario)),
            ("pass".to_owned(), json!(self.pass())),
            ("backend".to_owned(), json!(self.backend)),
        ]);
        object.extend(self.figures.clone());
        object.insert("checks".into(), json!(self.checks.len()));
        object.insert("failed".into(), json!(failed));
        Value::Object(object)
    }

    /// For people.
    pub fn text(&self, paint: Paint) -> String {
        let rows: Vec<Vec<String>> = self.figures.iter().map(|(name, value)| vec![name.clone(), figure(value)]).collect();
        let verdict = if self.pass() { paint.green("passed") } else { paint.red("failed") };
        format!(
            "{}{}\n{} {verdict} ({} backend)\n",
            table(&["figure", "value"], &rows),
            checks(&self.checks, paint),
            self.scenario,
            self.backend
        )
    }
}

fn figure(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => format!("{:.3}", n.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// Bytes a second of a transfer beside a ping: `pace` beside one a millisecond, less beside one that is seldomer.
fn slowed(pace: u64, ping: Duration) -> u64 {
    pace / u64::try_from(ping.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A lab with servers and ready daemons; nothing is attached yet.
fn stand(topology: super::Topology, portway: &Path, way: Way) -> Result<Lab> {
    let mut lab = Lab::build(topology.with_tunnel(way.tunnel))?;
    lab.serve()?;
    lab.start_daemons(portway, way.backend)?;
    Ok(lab)
}

/// The backend that runs, read from the kind of the tunnel devices: the kernel's own, or `tun`.
pub(super) fn backend_seen(lab: &Lab, asked: Backend) -> Result<String> {
    let Some(gateway) = lab.topology.gateways.first() else { return Ok(backend_name(asked).into()) };
    let links = lab.links(&gateway.node)?;
    let ours = links.iter().filter(|l| l["ifname"].as_str().is_some_and(|name| name.starts_with("pw-")));
    let mut kinds = ours.filter_map(|l| l["linkinfo"]["info_kind"].as_str());
    Ok(match kinds.next() {
        Some("tun") => "userspace".into(),
        Some(_) => "kernel".into(),
        None => backend_name(asked).into(),
    })
}
