//! What a packet costs on its way through a function host, by the number of attachments and of tenants.
//!
//! The same ten flows go through every arm; only what stands around them differs. The path is the kernel's: from a container's
//! veth over mark, zone, rule tree, the tenant's table and source translation to the tunnel device. There it ends: the daemon
//! has set everything up and been stopped, so that its TUN devices have no carrier and drop what reaches them. What comes
//! after is a constant, which would only make a ratio look better. For the same reason the generator's own share, measured
//! as an arm that drops at the first hook, is taken off both sides of a ratio.

use super::Options;
use super::attach::{host_interfaces, host_yaml};
use super::figures::{Bar, Report, median};
use super::nodes::{Daemon, Node, directory};
use super::sender::{Flow, Sender};
use anyhow::{Context, ensure};
use std::net::Ipv4Addr;
use std::time::Duration;

const FLOWS: usize = 10;
const SHARDS: usize = 4;
const ROUNDS: usize = 25;
/// Of one arm in one round: short, so that whatever else the machine does hits all arms alike.
const SLICE: Duration = Duration::from_millis(200);
/// The CPU that sends.
const CPU: usize = 1;
/// The host's end of the container's link.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

struct Arm {
    name: &'static str,
    host: Node,
    container: Node,
    sender: Sender,
    /// Nanoseconds a packet, of each round.
    costs: Vec<f64>,
}

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut arms = vec![
        Arm::generator()?,
        Arm::host(options, "10 attachments, 10 tenants", 10, 10)?,
        Arm::host(options, "10000 attachments, 10 tenants", 10_000, 10)?,
        Arm::host(options, "10 attachments, 500 tenants", 10, 500)?,
    ];
    for round in 0..=options.rounds.unwrap_or(ROUNDS) {
        for arm in &mut arms {
            let cost = arm.slice().with_context(|| format!("arm `{}`", arm.name))?;
            // The first round makes the connections.
            if round > 0 {
                arm.costs.push(cost);
            }
        }
    }
    for arm in &arms {
        report.add(arm.name, "time a packet, generator included", "ns", arm.costs.clone(), None);
    }
    let [generator, base, attachments, tenants] = [0, 1, 2, 3].map(|n| &arms[n].costs);
    let ratios = |dear: &[f64]| -> Vec<f64> {
        // Round by round, so that a slow moment of the machine is on both sides.
        (0..dear.len()).map(|n| (dear[n] - generator[n]) / (base[n] - generator[n])).collect()
    };
    let whole = |dear: &[f64]| median(dear) / median(base);
    report.add("10000 to 10 attachments", "cost, ratio", "1", ratios(attachments), Some(Bar::AtMost(1.1)));
    report.add("10000 to 10 attachments", "ratio, generator included", "1", vec![whole(attachments)], None);
    report.add("500 to 10 tenants, 4 shards each", "cost, ratio", "1", ratios(tenants), Some(Bar::AtMost(1.2)));
    report.add("500 to 10 tenants, 4 shards each", "ratio, generator included", "1", vec![whole(tenants)], None);
    Ok(())
}

/// The source of an attachment.
fn source(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a58_0001 + u32::try_from(n).unwrap_or(0))
}

impl Arm {
    fn new(name: &'static str, host: Node) -> anyhow::Result<Self> {
        let container = Node::new()?;
        host.cable("c0", &container, "eth0")?;
        host.sh("ip link set c0 address 02:00:00:00:00:01")?;
        let flows: Vec<Flow> =
            (0..FLOWS).map(|n| Flow { source: source(n), destination: Ipv4Addr::new(172, 16, 0, 10), port: 4000 }).collect();
        let index: u32 = container.sh("cat /sys/class/net/eth0/ifindex")?.trim().parse()?;
        let sender = container.run(|| Sender::new(index, MAC, &flows))?;
        Ok(Self { name, host, container, sender, costs: Vec::new() })
    }

    fn generator() -> anyhow::Result<Self> {
        let arm = Self::new("the generator alone", Node::new()?)?;
        arm.host.sh("nft 'table netdev g { chain i { type filter hook ingress device c0 priority 0; policy drop; }; }'")?;
        Ok(arm)
    }

    fn host(options: &Options, name: &'static str, attachments: usize, tenants: usize) -> anyhow::Result<Self> {
        let (host, directory) = (Node::new()?, directory()?);
        host_interfaces(&host, 0)?;
        let arm = Self::new(name, host)?;
        let (daemon, _) =
            Daemon::start(&arm.host, "host", directory.path(), &host_yaml(directory.path(), &options.backend, tenants, SHARDS))?;
        let mut connection = daemon.connect()?;
        for n in 0..attachments {
            // The ten flows lie as far apart among the tenants as they can.
            let tenant = n % FLOWS * (tenants / FLOWS);
            let body = format!(r#"{{"tenant":"t{tenant}","interface":"c0","source":"{}"}}"#, source(n));
            connection.expect("PUT", &format!("/v1/attachments/a{n}"), &body, 201)?;
        }
        daemon.stop()?;
        Ok(arm)
    }

    fn slice(&mut self) -> anyhow::Result<f64> {
        let before = self.arrived()?;
        let sent = self.container.run(|| self.sender.send(SLICE, Some(CPU)))?;
        let arrived = self.arrived()? - before;
        ensure!(sent > 0, "nothing was sent");
        if !self.costs.is_empty() {
            ensure!(arrived * 100 >= sent * 99, "only {arrived} of {sent} packets arrived at a tunnel");
        }
        #[expect(clippy::cast_precision_loss, reason = "millions")]
        Ok(SLICE.as_nanos() as f64 / arrived as f64)
    }

    /// Packets that have reached a tunnel, or the generator's end of its link.
    fn arrived(&self) -> anyhow::Result<u64> {
        let links: serde_json::Value = serde_json::from_str(&self.host.sh("ip -s -j link show")?)?;
        let count = |link: &serde_json::Value, way: &str, what: &str| link["stats64"][way][what].as_u64().unwrap_or(0);
        let name = |link: &serde_json::Value| link["ifname"].as_str().unwrap_or_default().to_owned();
        let links = links.as_array().context("`ip -j link` gave no list")?;
        if links.iter().any(|link| name(link).starts_with("pw-")) {
            return Ok(links
                .iter()
                .filter(|l| name(l).starts_with("pw-"))
                .map(|l| count(l, "tx", "packets") + count(l, "tx", "dropped"))
                .sum());
        }
        links.iter().find(|link| name(link) == "c0").map(|link| count(link, "rx", "packets")).context("no c0")
    }
}
