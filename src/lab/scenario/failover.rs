//! The Active of a pair dies, one way or another, under a 1 ms ping and a thousand connections.

use super::group::{
    OFTEN, PLANNED_MS, bound_ms, came_about, goes_on, lost_nothing, mark, merged, of_flows, open_flows, pings, probe, proof, stand_group,
    within,
};
use super::{Options, Outcome, Scenario, backend_seen};
use crate::config::Backend;
use crate::lab::Result;
use crate::lab::checks::Check;
use crate::lab::topology::{Topology, Wiring};
use serde_json::json;
use std::path::Path;

const TENANT: &str = "acme";
const ACTIVE: &str = "gw-1";
const BACKUP: &str = "gw-2";
/// Of the Backup, as [`Topology::priority`] has it.
const PRIORITY: u8 = 100;

pub(super) fn run(portway: &Path, backend: Backend, options: &Options) -> Result<Outcome> {
    let mut lab = stand_group(Topology::group(&[TENANT], 2, 1, &[Wiring::Veth]), portway, backend, options)?;
    let backend = backend_seen(&lab, backend)?;
    lab.await_active(ACTIVE, TENANT, 0)?;
    let flows = open_flows(&lab, options)?;
    let container = lab.topology.containers[0].clone();
    let probe = probe(&lab, &container, OFTEN)?;

    mark(std::slice::from_ref(&probe))?;
    lab.fail(ACTIVE, options.kill)?;
    let taken = lab.await_active(BACKUP, TENANT, 0);
    let went_on = goes_on(&probe);
    let probed = probe.stop();
    let report = flows.verify(proof(options));
    let healed = lab.heal(ACTIVE).and_then(|()| lab.await_in_sync());

    let bound = if options.kill.planned() { PLANNED_MS } else { bound_ms(options.interval, PRIORITY) };
    let (of_flows, more) = of_flows(&report);
    let figures = json!({
        "kill": options.kill.name(),
        "interval_ms": options.interval.as_secs_f64() * 1e3,
        "gap_ms": probed.gap_ms,
        "bound_ms": bound,
        "lost": probed.lost,
        "sent": probed.sent,
        "quiet_ms": probed.quiet_ms,
        "asked_ms": probed.asked_ms,
    });
    let mut checks = vec![
        came_about("the Backup becomes the Active", BACKUP, &taken),
        Check::new("traffic goes on", &container.node, went_on, pings(&probed)),
        within(format!("the gap is at most {bound:.0} ms"), &container.node, bound, &probed),
    ];
    if options.kill.planned() {
        checks.push(lost_nothing("a planned handover loses nothing", &container.node, &probed));
    }
    checks.extend(more);
    checks.push(came_about("the node comes back, and every shard has one Active and a Backup in sync", ACTIVE, &healed));
    Ok(Outcome::new(Scenario::GreFailover, backend, merged([figures, of_flows]), checks))
}
