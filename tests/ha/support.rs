//! A standing group, and what is asked of it.

use super::stranger_support::TENANT;
use nix::sys::signal::Signal;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::Wiring;
use portway::lab::{Counts, FlowReport, Flows, Lab, Netns, Probe, Topology, poll_until, unix};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);
pub const SOON: Duration = Duration::from_secs(10);

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portway"))
}

/// `gateways` nodes with `shards` of one tenant, one host with a container for each, all in sync.
pub fn group(gateways: usize, shards: usize) -> Lab {
    group_with(gateways, shards, TunnelKind::Gre)
}

pub fn group_with(gateways: usize, shards: usize, tunnel: TunnelKind) -> Lab {
    let topology = Topology::group(&["acme"], gateways, shards, &[Wiring::Veth]).with_containers(shards);
    let mut lab = Lab::build(topology.with_tunnel(tunnel)).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(program(), Backend::Auto).unwrap();
    lab.attach_all().unwrap();
    if (gateways, shards) == (2, 1) {
        // Whoever was ready first was Active first.
        lab.await_active("gw-1", "acme", 0).unwrap();
    }
    lab.await_in_sync().unwrap();
    lab
}

/// How often the gateways of [`directed`] advertise.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Two gateways with WireGuard and a directory, and, where there are wirings, a host that has enrolled with a container of each.
pub fn directed(wirings: &[Wiring]) -> Lab {
    let topology = Topology::group(&[TENANT], 2, 1, wirings).with_tunnel(TunnelKind::Wireguard).with_directory().with_interval(INTERVAL);
    let mut lab = Lab::build(topology).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(program(), Backend::Auto).unwrap();
    lab.await_active("gw-1", TENANT, 0).unwrap();
    lab.await_in_sync().unwrap();
    lab
}

/// The state that a gateway tells of the only shard.
pub fn shard(lab: &Lab, node: &str) -> Value {
    status(lab, node)["ha"]["shards"][0].clone()
}

pub fn status(lab: &Lab, node: &str) -> Value {
    let answer = unix(&lab.socket(node).unwrap(), "GET", "/v1/status", None).unwrap();
    serde_json::from_str(&answer.body).unwrap()
}

pub fn log(lab: &Lab, node: &str) -> String {
    std::fs::read_to_string(lab.dir().log(node)).unwrap()
}

/// Changes a gateway's configuration and has it read again.
pub fn reload(lab: &mut Lab, node: &str, edit: impl FnOnce(String) -> String) {
    let daemon = lab.daemon(node).unwrap();
    let yaml = std::fs::read_to_string(daemon.config()).unwrap();
    let edited = edit(yaml.clone());
    assert_ne!(edited, yaml, "nothing was changed");
    std::fs::write(daemon.config(), edited).unwrap();
    daemon.process().signal(Signal::SIGHUP).unwrap();
}

/// A 1 ms ping from the first container, answered already.
pub fn probe(lab: &Lab) -> Probe {
    let probe = Probe::start(lab.node(&lab.topology.containers[0].node).unwrap(), SERVER, Duration::from_millis(1)).unwrap();
    goes_on(&probe);
    probe
}

/// Waits until the machine's own part in a gap of this 1 ms ping is known: a second of answers.
pub fn quiet(probe: &Probe) {
    poll_until("answers", SOON, || Ok(probe.answered() >= 1_000)).unwrap();
}

/// Waits for 300 more answers.
pub fn goes_on(probe: &Probe) {
    let before = probe.answered();
    poll_until("answers", SOON, || Ok(probe.answered() >= before + 300)).unwrap();
}

pub fn flows(lab: &Lab, tcp: usize) -> Flows {
    let from: Vec<&Netns> = lab.topology.containers.iter().map(|container| lab.node(&container.node).unwrap()).collect();
    let counts = Counts { tcp, udp: tcp / 5, idle: Duration::from_millis(500), pace: Duration::from_millis(20) };
    Flows::open(&from, lab.node("db-acme").unwrap(), SERVER, &counts).unwrap()
}

pub fn survived(flows: Flows) {
    let report: FlowReport = flows.verify(Duration::from_secs(30));
    assert!(report.all_survived() && report.resets == 0 && report.corrupt == 0, "{}", report.summary());
}
