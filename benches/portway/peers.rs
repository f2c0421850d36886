//! A gateway of very many function hosts: its start, one host more, its memory.

use super::Options;
use super::figures::{Bar, Report};
use super::nodes::{Daemon, Node, directory};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

const HOSTS: u32 = 10_000;
/// Gateways started one after the other.
const ROUNDS: usize = 5;
/// Hosts added and removed again on each of them.
const SAMPLES: u32 = 200;

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    measure(options, &options.backend, report)
}

/// The same with tunnels, neighbours and sets of the kernel.
pub fn run_kernel(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    measure(options, "kernel", report)
}

fn measure(options: &Options, backend: &str, report: &mut Report) -> anyhow::Result<()> {
    let (mut ready, mut pass, mut added, mut removed, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut restarted, mut few, mut passes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds.unwrap_or(ROUNDS) {
        let (node, directory) = (gateway_node()?, directory()?);
        let yaml = gateway_yaml(directory.path(), backend, HOSTS);
        let (daemon, took) = Daemon::start(&node, "gateway", directory.path(), &yaml)?;
        ready.push(took.as_secs_f64());
        pass.push(daemon.metric("portway_reconcile_seconds")?);
        memory.push(daemon.resident()?);
        let mut connection = daemon.connect()?;
        let before = daemon.metric("portway_reconcile_passes")?;
        for n in 0..SAMPLES {
            let (path, body) = (format!("/v1/peers/late-{n}"), peer(HOSTS + n));
            let begun = Instant::now();
            connection.expect("PUT", &path, &body, 201)?;
            added.push(begun.elapsed().as_secs_f64() * 1e3);
            let begun = Instant::now();
            connection.expect("DELETE", &path, "", 204)?;
            removed.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        passes.push(daemon.metric("portway_reconcile_passes")? - before);
        daemon.stop()?;
        let (daemon, took) = Daemon::start(&node, "gateway", directory.path(), &yaml)?;
        restarted.push(took.as_secs_f64());
        daemon.stop()?;

        let (node, directory) = (gateway_node()?, super::nodes::directory()?);
        let (daemon, _) = Daemon::start(&node, "gateway", directory.path(), &gateway_yaml(directory.path(), backend, 10))?;
        few.push(daemon.resident()?);
    }
    let bar = |bar| (!options.emulated).then_some(bar);
    let arm = |hosts: &str| format!("{hosts} hosts, {backend}");
    report.add(arm("10000"), "start to ready", "s", ready, bar(Bar::AtMost(2.0)));
    report.add(arm("10000"), "first apply alone", "s", pass, bar(Bar::AtMost(2.0)));
    report.add(arm("10000"), "restart to ready", "s", restarted, None);
    report.latency(arm("10000"), "one more host", added, bar(Bar::P99AtMost(5.0)));
    report.latency(arm("10000"), "one host less", removed, None);
    report.add(arm("10000"), "passes while they came and went", "1", passes, None);
    report.add(arm("10000"), "resident memory", "MiB", memory, None);
    report.add(arm("10"), "resident memory", "MiB", few, None);
    Ok(())
}

pub fn gateway_node() -> anyhow::Result<Node> {
    let node = Node::new()?;
    node.sh("ip link add plat0 type veth peer name plat1; ip addr add 10.9.0.1/16 dev plat0; ip link set plat0 up; ip link set plat1 up
         ip link add eni0 type veth peer name eni1; ip addr add 172.16.101.4/24 dev eni0; ip link set eni0 up; ip link set eni1 up")?;
    Ok(node)
}

fn outer(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a09_0100 + n)
}

fn inner(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a40_0001 + n)
}

fn peer(n: u32) -> String {
    format!(r#"{{"outer":"{}","inner":{{"acme":["{}"]}}}}"#, outer(n), inner(n))
}

pub fn gateway_yaml(directory: &Path, backend: &str, hosts: u32) -> String {
    let mut yaml = format!(
        "gateway:
  node: bench
  platform: {{ interface: plat0, address: 10.9.0.1 }}
  backend: {backend}
  runtime_dir: {:?}
  admin: 127.0.0.1:9470
  tenants:
    - name: acme
      key: 7
      interface: eni0
      allow:
        - {{ to: 172.16.0.0/16, tcp: all, udp: all, icmp: true }}
      snat: {{ address: 172.16.101.10, ports: 1024-65535 }}
      inner: 10.64.0.0/16
peers:
  static:
",
        directory.display().to_string()
    );
    for n in 0..hosts {
        let _ = writeln!(yaml, "    - {{ host: host-{n}, outer: {}, inner: {{ acme: [{}] }} }}", outer(n), inner(n));
    }
    yaml
}
