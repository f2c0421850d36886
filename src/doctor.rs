//! What on a machine would stop Portway from working, and the command that mends it. [`gather`] looks, [`examine`] judges:
//! the judgement is pure, and nothing is changed by either.

#[cfg(feature = "aws")]
mod aws;
mod directory;
mod firewall;
pub mod gather;
mod group;
mod machine;
mod network;
mod packets;
#[cfg(test)]
mod tests;
mod wireguard;

use crate::config::{Backend, Config, Gateway, Host, Platform};
use crate::directory::types::Whoami;
use crate::kernel::clock::Keeping;
use crate::model::{IfName, NodeName};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// From best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    /// Worth knowing; nothing needs to be done.
    Note,
    /// Works now or in part, or might not.
    Warning,
    /// Does not work.
    Broken,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub what: String,
    /// A command, or what to write where.
    pub remedy: Option<String>,
}

/// All that the judgement depends on besides the configuration.
#[derive(Debug, Clone)]
pub struct Facts {
    /// (capability, what it is for), as this process lacks them.
    pub missing_capabilities: Vec<(String, &'static str)>,
    /// `uname -r`.
    pub kernel: String,
    /// Whether the kernel has GRE devices; none if it could not be asked.
    pub gre: Option<bool>,
    /// Whether the kernel has WireGuard; none if it was not asked, as nobody needs it.
    pub wireguard: Option<bool>,
    /// Whether there is /dev/net/tun.
    pub tun: bool,
    /// What `nft --version` says; none without nft.
    pub nft: Option<String>,
    /// Every nftables rule, or why they cannot be read.
    pub ruleset: Result<Value, String>,
    /// Whether there are tables of the old iptables, which nft does not show.
    pub legacy_iptables: bool,
    pub network: crate::plan::facts::Facts,
    /// Below /proc/sys/net, those that were found: "ipv4/ip_forward" -> "0".
    pub sysctls: BTreeMap<String, String>,
    /// Why settings below /proc/sys/net cannot be written, if so.
    pub read_only: Option<String>,
    /// Daemons that answer here: "gateway".
    pub running: Vec<String>,
    /// Keys of the group that cannot be used, with the reason.
    pub keys: Vec<(u8, String)>,
    /// Whom the directory that this node asks takes it for, or why it cannot be asked. None: it asks none.
    pub directory: Option<Result<Whoami, String>>,
    /// Keys of WireGuard tunnels that cannot be used.
    pub tunnel_keys: Vec<Unusable>,
    /// What a thread whose timers must not be late would need besides.
    pub missing_for_realtime: Vec<String>,
    /// Whether a daemon keeps the machine's clock right; none: the kernel does not say.
    pub clock: Option<Keeping>,
    pub clocks: Clocks,
    /// None: HaVips do not move by a cloud's calls.
    #[cfg(feature = "aws")]
    pub cloud: Option<aws::Seen>,
}

/// What the gateway that runs here has found of the clocks of others.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Clocks {
    /// By how many milliseconds this clock is ahead of theirs.
    pub ahead_ms: BTreeMap<String, f64>,
    /// Whether it signs with the time. It may do so where it does not say.
    pub signed: bool,
}

/// A file that does not hold the key that it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    pub whose: String,
    pub why: String,
    pub remedy: String,
}

/// Everything there is to say, the worst first.
pub fn examine(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let mut findings = machine::findings(facts, config);
    findings.extend(network::findings(facts, config));
    findings.extend(group::findings(facts, config));
    findings.extend(directory::finding(facts, config));
    findings.extend(wireguard::findings(facts, config));
    #[cfg(feature = "aws")]
    findings.extend(aws::findings(facts, config));
    match &facts.ruleset {
        Ok(ruleset) => {
            let blocked = firewall::findings(ruleset, &packets::packets(config));
            if blocked.is_empty() {
                findings.push(Finding::ok("no nftables rule of others stands in the way"));
            }
            findings.extend(blocked);
        }
        // Without nft there is a finding that says so.
        Err(_) if facts.nft.is_none() => {}
        Err(why) => findings.push(Finding::warning(format!("the rules of others cannot be read: {why}"), "run this as root")),
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// The severity of the worst of them; [`Severity::Ok`] if there is none.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, what: what.into(), remedy: None }
    }

    fn note(what: impl Into<String>) -> Self {
        Self { severity: Severity::Note, what: what.into(), remedy: None }
    }

    fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn broken(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Broken, what: what.into(), remedy: Some(remedy.into()) }
    }
}

impl Facts {
    fn number(&self, key: &str) -> Option<u64> {
        self.sysctls.get(key)?.parse().ok()
    }
}

/// What gateways and hosts have.
impl Config {
    /// None: it has no tunnels.
    fn node_platform(&self) -> Option<&Platform> {
        match self {
            Config::Gateway(Gateway { platform, .. }) | Config::Host(Host { platform, .. }) => Some(platform),
            Config::Directory(_) | Config::Autoscaler(_) => None,
        }
    }

    fn node_backend(&self) -> Backend {
        match self {
            Config::Gateway(Gateway { backend, .. }) | Config::Host(Host { backend, .. }) => *backend,
            Config::Directory(_) | Config::Autoscaler(_) => Backend::default(),
        }
    }

    fn node_runtime_dir(&self) -> &Path {
        match self {
            Config::Gateway(Gateway { runtime_dir, .. }) | Config::Host(Host { runtime_dir, .. }) => runtime_dir,
            Config::Directory(directory) => &directory.runtime_dir,
            Config::Autoscaler(autoscaler) => &autoscaler.runtime_dir,
        }
    }

    /// The other ends of the tunnels: what to call them, and their outer addresses.
    fn others(&self) -> Vec<(String, IpAddr)> {
        let name = |node: &NodeName| format!("the function host {node}");
        match self {
            Config::Gateway(gateway) => gateway.peers.iter().filter_map(|peer| Some((name(&peer.host), peer.outer()?))).collect(),
            Config::Host(host) => {
                host.served().map(|(tenant, shard)| (format!("the gateway of {}", tenant.of(shard.shard)), shard.gateway)).collect()
            }
            Config::Directory(_) | Config::Autoscaler(_) => Vec::new(),
        }
    }

    /// Whether it is an interface that the node attaches by itself.
    fn attaches(&self, interface: &IfName) -> bool {
        match self {
            Config::Gateway(gateway) => {
                gateway.tenants.iter().any(|tenant| tenant.interface == *interface && gateway.attach(&tenant.name).is_some())
            }
            Config::Host(_) | Config::Directory(_) | Config::Autoscaler(_) => false,
        }
    }

    /// The tenants' interfaces, with the routers behind them.
    fn tenant_interfaces(&self) -> Vec<(&IfName, Option<IpAddr>)> {
        match self {
            Config::Gateway(gateway) => gateway.tenants.iter().map(|tenant| (&tenant.interface, tenant.router)).collect(),
            Config::Host(_) | Config::Directory(_) | Config::Autoscaler(_) => Vec::new(),
        }
    }
}
