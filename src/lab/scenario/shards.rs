//! Shards spread over several nodes: one node dies, its shards move; it comes back, and they move home, in sync and unnoticed.

use super::failover::pings;
use super::group::{PLANNED_MS, bound_ms, came_about, goes_on, merged, of_flows, open_flows, probe, proof, stand_group};
use super::{Options, Outcome, Scenario, backend_seen};
use crate::config::Backend;
use crate::lab::checks::Check;
use crate::lab::topology::{Topology, Wiring};
use crate::lab::{Error, Lab, Probe, Probed, Result, poll_until};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// A node that comes back has this long to get its shards' flows, and them.
const HOME: Duration = Duration::from_secs(60);

pub(super) fn run(portway: &Path, backend: Backend, options: &Options) -> Result<Outcome> {
    let topology = Topology::group(&["acme"], options.nodes, options.shards, &[Wiring::Veth]).with_containers(options.shards);
    let mut lab = stand_group(topology, portway, backend, options)?;
    let backend = backend_seen(&lab, backend)?;
    let before = lab.await_owners()?;
    let (victim, load) = busiest(&before);
    let flows = open_flows(&lab, options)?;

    let probes = probes(&lab)?;
    probes.iter().for_each(Probe::mark);
    lab.fail(&victim, options.kill)?;
    let taken = lab.await_owners();
    let (crash_on, crash) = end(probes);
    let moved = taken.as_ref().map_or(0, |after| after.iter().filter(|(shard, node)| before[*shard] != **node).count());

    let probes = self::probes(&lab)?;
    probes.iter().for_each(Probe::mark);
    lab.heal(&victim)?;
    let home = poll_until("every shard at home again", HOME, || Ok(lab.owners()?.as_ref() == Some(&before))).map_err(|error| match error {
        Error::Late { what, after, .. } => {
            Error::Late { what, after, detail: format!("; before: {before:?}; now: {:?}", lab.owners().ok().flatten()) }
        }
        other => other,
    });
    let (home_on, planned) = end(probes);
    let report = flows.verify(proof(options));

    // By rendezvous a Backup's priority is anything: the longest skew counts.
    let bound = if options.kill.planned() { PLANNED_MS } else { bound_ms(options.interval, 1) };
    let (of_flows, more) = of_flows(&report);
    let figures = json!({
        "nodes": options.nodes,
        "shards": before.len(),
        "moved": moved,
        "gap_ms": planned.gap_ms,
        "lost": planned.lost,
        "crash_gap_ms": crash.gap_ms,
        "crash_lost": crash.lost,
        "bound_ms": bound,
        "quiet_ms": planned.quiet_ms.max(crash.quiet_ms),
        "asked_ms": planned.asked_ms.max(crash.asked_ms),
    });
    let spread = before.values().collect::<BTreeSet<_>>().len();
    let mut checks = vec![
        Check::new("shards are spread over the nodes", "", spread > 1, format!("{before:?}")),
        came_about("every shard of a dead node has another Active", &victim, &taken),
        Check::new("no other shard moves", &victim, moved == load, format!("{moved} moved, {load} were there")),
        Check::new("traffic goes on after a crash", "", crash_on, pings(&crash)),
        Check::new(format!("the gap of a crash is at most {bound:.0} ms"), "", crash.gap_ms <= bound, format!("{:.1} ms", crash.gap_ms)),
        came_about("shards return to a node that has returned", &victim, &home),
        Check::new("traffic goes on after the return", "", home_on, pings(&planned)),
        Check::new("the return loses no packet", "", planned.lost == 0, pings(&planned)),
        Check::new(
            format!("the gap of the return is at most {PLANNED_MS:.0} ms"),
            "",
            planned.gap_ms <= PLANNED_MS,
            format!("{:.1} ms", planned.gap_ms),
        ),
    ];
    checks.extend(more);
    Ok(Outcome::new(Scenario::Shards, backend, merged([figures, of_flows]), checks))
}

/// The node with the most shards, and how many.
fn busiest(owners: &BTreeMap<(String, u8), String>) -> (String, usize) {
    let load = |node: &String| owners.values().filter(|n| *n == node).count();
    let node = owners.values().max_by_key(|n| load(n)).cloned().unwrap_or_default();
    let load = load(&node);
    (node, load)
}

/// One for each container, which are one for each shard.
fn probes(lab: &Lab) -> Result<Vec<Probe>> {
    lab.topology.containers.iter().map(|c| probe(lab, c)).collect()
}

/// Whether all went on, and the worst of all.
fn end(probes: Vec<Probe>) -> (bool, Probed) {
    let went_on = probes.iter().all(goes_on);
    let mut all = Probed { sent: 0, lost: 0, gap_ms: 0.0, quiet_ms: 0.0, asked_ms: 0.0 };
    for probed in probes.into_iter().map(Probe::stop) {
        all.sent += probed.sent;
        all.lost += probed.lost;
        all.gap_ms = all.gap_ms.max(probed.gap_ms);
        all.quiet_ms = all.quiet_ms.max(probed.quiet_ms);
        all.asked_ms = all.asked_ms.max(probed.asked_ms);
    }
    (went_on, all)
}
