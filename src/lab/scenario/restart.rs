//! Gateways and hosts restarted under a checksummed transfer and a ping: nothing may be lost.

use super::{Options, Outcome, Scenario, Way, backend_seen, slowed, stand};
use crate::lab::checks::Check;
use crate::lab::process::poll_until;
use crate::lab::topology::{Container, Topology, Wiring, port};
use crate::lab::{Lab, Probe, Probed, Result, Transfer, Transferred};
use serde::Serialize;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Bytes a second of the transfer beside a 1 ms ping: enough to notice anything, too little to fill a queue and blame the restart for it.
const PACE: u64 = 4 << 20;
/// Answers that must have come, before and again after the restart.
const WARM: u64 = 200;
/// They are waited for so long at least.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Serialize)]
pub struct Restarted {
    pub node: String,
    pub probe: Probed,
    pub transfer: Transferred,
    /// The traffic went on after the restart.
    pub went_on: bool,
}

impl Restarted {
    pub fn held(&self) -> bool {
        self.probe.lost == 0 && self.transfer.ok && self.went_on
    }

    pub fn check(&self) -> Check {
        let (probe, transfer) = (&self.probe, &self.transfer);
        let mut detail = format!("{} of {} pings lost, gap {:.0} ms", probe.lost, probe.sent, probe.gap_ms);
        detail += &format!("; {:.1} MB, {} resets", transfer.bytes as f64 / 1e6, transfer.resets);
        if let Some(fault) = &transfer.fault {
            detail = format!("{detail}; {fault}");
        }
        Check::new(format!("{} restarts under traffic without loss", self.node), "", self.held(), detail)
    }
}

pub(super) fn run(portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let topology = Topology::of(&["acme"], &[Wiring::Veth]);
    let topology = if options.directory { topology.with_directory() } else { topology };
    let mut lab = stand(topology, portway, way)?;
    lab.attach_all()?;
    let backend = backend_seen(&lab, way.backend)?;
    let container = lab.topology.containers[0].clone();
    let nodes = ["gw-acme", "gw-acme", "gw-acme", "host-1"];
    let rounds =
        nodes.iter().map(|node| restart_under_traffic(&mut lab, &container, node, options.ping)).collect::<Result<Vec<Restarted>>>()?;
    let figures = json!({
        "lost": rounds.iter().map(|r| r.probe.lost).sum::<u64>(),
        "resets": rounds.iter().map(|r| r.transfer.resets).sum::<u64>(),
        "gap_ms": rounds.iter().map(|r| r.probe.gap_ms).fold(0.0, f64::max),
        "sent": rounds.iter().map(|r| r.probe.sent).sum::<u64>(),
        "bytes": rounds.iter().map(|r| r.transfer.bytes).sum::<u64>(),
        "restarts": rounds.len(),
    });
    let checks = rounds.iter().map(Restarted::check).collect();
    Ok(Outcome::new(Scenario::Restart, backend, figures, checks))
}

/// Starts traffic from a container, restarts the daemon of `node` and waits until traffic has gone on for a while.
pub fn restart_under_traffic(lab: &mut Lab, container: &Container, node: &str, ping: Duration) -> Result<Restarted> {
    let from = lab.node(&container.node)?.clone();
    let server = lab.topology.tenant(&container.tenant).expect("a container's tenant is in the topology").server;
    let pace = slowed(PACE, ping);
    let transfer = Transfer::start(&from, SocketAddr::from((server, port::ECHO)), Some(pace))?;
    let probe = Probe::start(&from, server, ping)?;
    // Traffic that does not flow shows in the figures; only a failed restart is an error.
    let patience = PATIENCE.max(ping * (4 * WARM) as u32);
    let flows = |answers: u64, bytes: u64| {
        poll_until("traffic", patience, || Ok(probe.answered() >= answers + WARM && transfer.returned() >= bytes + pace / 10)).is_ok()
    };
    flows(0, 0);
    let restarted = lab.daemon(node)?.restart();
    let went_on = flows(probe.answered(), transfer.returned());
    let (probe, transfer) = (probe.stop(), transfer.stop());
    restarted?;
    Ok(Restarted { node: node.to_owned(), probe, transfer, went_on })
}
