//! One container, one gateway: what a function feels through a tunnel.

use super::{Outcome, Scenario, Way, backend_seen, stand};
use crate::lab::checks::{Check, forged, right_tenant, unreachable};
use crate::lab::topology::{Topology, Wiring};
use crate::lab::{Result, figures};
use serde_json::json;
use std::path::Path;

/// Seconds of iperf3.
const SECONDS: u32 = 3;

pub(super) fn run(scenario: Scenario, portway: &Path, way: Way) -> Result<Outcome> {
    let mut lab = stand(Topology::of(&["acme"], &[Wiring::Veth]), portway, way)?;
    lab.attach_all()?;
    let backend = backend_seen(&lab, way.backend)?;
    let (container, tenant) = (&lab.topology.containers[0], &lab.topology.tenants[0]);
    let figures = figures(lab.node(&container.node)?, tenant, SECONDS)?;
    let snat = lab.topology.gateways[0].enis[0].snat;
    let mut checks = vec![
        right_tenant(&lab, container)?,
        Check::new(format!("the server saw {snat}"), &container.node, figures.source_seen == snat, figures.source_seen.to_string()),
    ];
    checks.extend(unreachable(&lab, container)?);
    checks.extend(forged(&lab)?);
    Ok(Outcome::new(scenario, backend, json!(figures), checks))
}
