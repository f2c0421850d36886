//! Many tenants with one CIDR on one function host: everybody reaches their own server and nobody else's, also when a
//! tenant's tunnel is gone and the host's main table would lead the packet to a stranger.

use super::{Outcome, Scenario, backend_seen, stand};
use crate::config::Backend;
use crate::lab::checks::{Check, right_tenant, unreachable};
use crate::lab::topology::{Container, Topology};
use crate::lab::{Lab, Result, whoami};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const TENANTS: usize = 8;

pub(super) fn run(portway: &Path, backend: Backend) -> Result<Outcome> {
    let mut lab = stand(Topology::overlap(TENANTS), portway, backend)?;
    let backend = backend_seen(&lab, backend)?;
    let containers = lab.topology.containers.clone();
    let mut checks = of_all(&lab, &containers, |lab, c| {
        let mut checks = vec![right_tenant(lab, c)?];
        checks.extend(unreachable(lab, c)?);
        Ok(checks)
    })?;
    checks.extend(without_tunnels(&mut lab, &containers)?);
    // A container that reaches nothing has not leaked, but has not passed either.
    let wrong = |c: &&Check| !c.held && (c.detail == "it answered" || c.detail.ends_with(" answered"));
    let leaks = checks.iter().filter(wrong).count();
    Ok(Outcome::new(Scenario::Overlap, backend, json!({ "tenants": TENANTS, "leaks": leaks }), checks))
}

/// With the daemon stopped (it would mend it) the tunnels are deleted; nobody may answer.
fn without_tunnels(lab: &mut Lab, containers: &[Container]) -> Result<Vec<Check>> {
    let host = containers[0].host.clone();
    lab.daemon(&host)?.stop()?;
    let links: Vec<serde_json::Value> = serde_json::from_str(&lab.ip(&host, &["-j", "link", "show"])?).unwrap_or_default();
    let tunnels: Vec<&str> = links.iter().filter_map(|l| l["ifname"].as_str()).filter(|name| name.starts_with("pw-")).collect();
    for tunnel in &tunnels {
        lab.ip(&host, &["link", "del", tunnel])?;
    }
    let mut checks = vec![Check::new("tunnels were there to be deleted", tunnels.len() >= TENANTS, format!("{} tunnels", tunnels.len()))];
    checks.extend(of_all(lab, containers, |lab, c| {
        let server = lab.topology.tenants[0].server;
        let what = format!("{} reaches nobody when its tunnel is gone", c.node);
        let answer = whoami(lab.node(&c.node)?, server, Duration::from_millis(500));
        Ok(vec![match answer {
            Ok(seen) => Check::new(what, false, format!("{} answered", seen.tenant)),
            Err(_) => Check::new(what, true, "no answer"),
        }])
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
