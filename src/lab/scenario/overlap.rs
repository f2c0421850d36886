//! Many tenants with one CIDR on one function host: everybody reaches their own server and nobody else's, also when a
//! tenant's tunnel is gone and the host's main table would lead the packet to a stranger.

use super::{Outcome, Scenario, Way, backend_seen, stand};
use crate::lab::checks::{Check, right_tenant, unreachable};
use crate::lab::topology::{Container, NOBODY, Topology};
use crate::lab::{Lab, Result, whoami};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const TENANTS: usize = 8;
/// For an answer that must come soon or never.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn run(portway: &Path, way: Way) -> Result<Outcome> {
    let mut lab = stand(Topology::overlap(TENANTS), portway, way)?;
    let backend = backend_seen(&lab, way.backend)?;
    let containers = lab.topology.containers.clone();
    let mut checks = decoy(&lab, &containers)?;
    lab.attach_all()?;
    checks.extend(of_all(&lab, &containers, |lab, c| {
        let mut checks = vec![right_tenant(lab, c)?];
        checks.extend(unreachable(lab, c)?);
        Ok(checks)
    })?);
    checks.extend(without_tunnels(&mut lab, &containers)?);
    let leaks = checks.iter().filter(|c| c.leaked).count();
    Ok(Outcome::new(Scenario::Overlap, backend, json!({ "tenants": TENANTS, "leaks": leaks }), checks))
}

/// The positive control: who is not attached follows the host's main table, to the stranger.
fn decoy(lab: &Lab, containers: &[Container]) -> Result<Vec<Check>> {
    of_all(lab, containers, |lab, c| {
        let answer = whoami(lab.node(&c.node)?, lab.topology.tenants[0].server, PATIENCE);
        let answered = answer.map_or_else(|e| e.to_string(), |seen| seen.tenant);
        Ok(vec![Check::new("a leak would be seen: without an attachment a stranger answers", &c.node, answered == NOBODY, answered)])
    })
}

/// With the daemon stopped (it would mend it) the tunnels are deleted; nobody may answer.
fn without_tunnels(lab: &mut Lab, containers: &[Container]) -> Result<Vec<Check>> {
    let host = containers[0].host.clone();
    lab.daemon(&host)?.stop()?;
    let links = lab.links(&host)?;
    let tunnels: Vec<&str> = links.iter().filter_map(|l| l["ifname"].as_str()).filter(|name| name.starts_with("pw-")).collect();
    for tunnel in &tunnels {
        lab.ip(&host, &["link", "del", tunnel])?;
    }
    let mut checks =
        vec![Check::new("tunnels were there to be deleted", &host, tunnels.len() >= TENANTS, format!("{} tunnels", tunnels.len()))];
    checks.extend(of_all(lab, containers, |lab, c| {
        let server = lab.topology.tenants[0].server;
        let answered = whoami(lab.node(&c.node)?, server, PATIENCE).is_ok();
        Ok(vec![Check::silent("a container reaches nobody when its tunnel is gone", &c.node, answered)])
    })?);
    lab.daemon(&host)?.start_again()?;
    checks.extend(of_all(lab, containers, |lab, c| Ok(vec![right_tenant(lab, c)?]))?);
    Ok(checks)
}

/// Asks about every container at once.
fn of_all(lab: &Lab, containers: &[Container], ask: impl Fn(&Lab, &Container) -> Result<Vec<Check>> + Sync) -> Result<Vec<Check>> {
    let ask = &ask;
    std::thread::scope(|scope| {
        let asked: Vec<_> = containers.iter().map(|c| scope.spawn(move || ask(lab, c))).collect();
        let answers: Result<Vec<Vec<Check>>> = asked.into_iter().map(|a| a.join().expect("a check does not panic")).collect();
        Ok(answers?.into_iter().flatten().collect())
    })
}
