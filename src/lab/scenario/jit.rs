//! Hosts that no gateway has heard of send their first packet: how long until it is answered?

use super::group::{ACTIVE, TENANT, place, registered, stand_group};
use super::{Options, Outcome, Scenario, Way, backend_seen};
use crate::lab::Result;
use crate::lab::checks::{Check, right_tenant};
use crate::lab::swarm::Swarm;
use crate::lab::topology::{Topology, Wiring};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Between the first packets of two hosts.
const DISTANCE: Duration = Duration::from_millis(10);
/// Less than the 5 s after which WireGuard begins a handshake anew (whitepaper section 6.1): a first packet must not need that.
const PATIENCE: Duration = Duration::from_secs(4);

pub(super) fn run(portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let topology = Topology::group(&[TENANT], 2, 1, &[Wiring::Veth]).with_directory();
    let mut lab = stand_group(topology, portway, way, options)?;
    let backend = backend_seen(&lab, way.backend)?;
    lab.await_active(ACTIVE, TENANT, 0)?;
    let members = registered(&mut lab, options.hosts)?;
    let swarm = Swarm::make(&place(&lab)?, &members)?;
    let answers = swarm.first_answers(DISTANCE, PATIENCE)?;
    let missing = members.len() - answers.len();
    let at = |hundredth: usize| answers.get((answers.len() * hundredth).div_ceil(100).max(1) - 1).map(|time| time.as_secs_f64() * 1e3);
    let figures = json!({
        "hosts": options.hosts, "first_answer_p50_ms": at(50), "first_answer_p99_ms": at(99), "failed_hosts": missing,
    });
    let checks = vec![
        right_tenant(&lab, &lab.topology.containers[0])?,
        Check::new(
            "every host's first packet is answered, without asking again",
            "",
            missing == 0,
            format!("{} of {} hosts", answers.len(), members.len()),
        ),
    ];
    Ok(Outcome::new(Scenario::WireguardJit, backend, figures, checks))
}
