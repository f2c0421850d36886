//! Shards spread over several nodes: one node dies, its shards move; it comes back, and they move home, in sync and unnoticed.

use super::group::{
    OFTEN, PLANNED_MS, bound_ms, came_about, ended, lost_nothing, mark, merged, of_flows, open_flows, pings, probe_all, proof, stand_group,
    within,
};
use super::{Options, Outcome, Scenario, Way, backend_seen};
use crate::lab::checks::Check;
use crate::lab::topology::{Topology, Wiring};
use crate::lab::{Result, poll_until};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Shards that have not moved for so long are at home.
const STILL: Duration = Duration::from_secs(2);
/// Shards go home so long after their node is back: its start is over by then, and has its own figures. On one machine a start disturbs all nodes.
const PREEMPT: Duration = Duration::from_secs(4);
/// A node that comes back has this long to get its shards' flows, and them.
const HOME: Duration = Duration::from_secs(60);

pub(super) fn run(portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let topology =
        Topology::group(&["acme"], options.nodes, options.shards, &[Wiring::Veth]).with_containers(options.shards).with_preempt(PREEMPT);
    let mut lab = stand_group(topology, portway, way, options)?;
    let backend = backend_seen(&lab, way.backend)?;
    let before = lab.await_settled(PREEMPT + STILL.max(options.interval * 20))?;
    let (victim, load) = busiest(&before);
    let flows = open_flows(&lab, options)?;

    let moving: Vec<u8> = before.iter().filter(|(_, node)| **node == victim).map(|((_, shard), _)| *shard).collect();
    let probes = probe_all(&lab, &moving, OFTEN)?;
    mark(&probes)?;
    lab.fail(&victim, options.kill)?;
    let taken = lab.await_owners();
    let (crash_on, crash) = ended(probes);
    let elsewhere = taken.as_ref().ok().cloned();
    let moved = taken.as_ref().map_or(0, |after| after.iter().filter(|(shard, node)| before[*shard] != **node).count());

    let probes = probe_all(&lab, &moving, OFTEN)?;
    mark(&probes)?;
    lab.heal(&victim)?;
    lab.await_in_sync()?;
    let (start_on, start) = ended(probes);

    let probes = probe_all(&lab, &moving, OFTEN)?;
    mark(&probes)?;
    let before_return = lab.owners()?;
    let home = poll_until("every shard at home again", HOME, || Ok(lab.owners()?.as_ref() == Some(&before)))
        .map_err(|error| error.detailed(|| format!("; before: {before:?}; now: {:?}", lab.owners().ok().flatten())));
    let (home_on, planned) = ended(probes);
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
        "start_gap_ms": start.gap_ms,
        "start_lost": start.lost,
        "crash_gap_ms": crash.gap_ms,
        "crash_lost": crash.lost,
        "bound_ms": bound,
        "quiet_ms": planned.quiet_ms.max(start.quiet_ms).max(crash.quiet_ms),
        "asked_ms": planned.asked_ms.max(start.asked_ms).max(crash.asked_ms),
    });
    let spread = before.values().collect::<BTreeSet<_>>().len();
    let mut checks = vec![
        Check::new("shards are spread over the nodes", "", spread > 1, format!("{before:?}")),
        came_about("every shard of a dead node has another Active", &victim, &taken),
        Check::new("no other shard moves", &victim, moved == load, format!("{moved} moved, {load} were there")),
        Check::new("traffic goes on after a crash", "", crash_on, pings(&crash)),
        within(format!("the gap of a crash is at most {bound:.0} ms"), "", bound, &crash),
        Check::new("traffic goes on while the node starts", "", start_on, pings(&start)),
        lost_nothing("the start loses no packet", "", &start),
        Check::new("no shard moves before the node is ready", &victim, before_return == elsewhere, format!("{before_return:?}")),
        came_about("shards return to a node that has returned", &victim, &home),
        Check::new("traffic goes on after the return", "", home_on, pings(&planned)),
        lost_nothing("the return loses no packet", "", &planned),
        within(format!("the gap of the return is at most {PLANNED_MS:.0} ms"), "", PLANNED_MS, &planned),
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
