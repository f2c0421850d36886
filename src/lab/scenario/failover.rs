//! The Active of a pair dies, one way or another, under a 1 ms ping and a thousand connections.

use super::group::{
    ACTIVE, BACKUP, OFTEN, PLANNED_MS, Pair, TENANT, bound_ms, came_about, goes_on, lost_nothing, mark, merged, of_flows, pings, probe,
    proof, stand_pair, within,
};
use super::{Options, Outcome, Scenario, Way};
use crate::lab::Result;
use crate::lab::checks::Check;
use serde_json::json;
use std::path::Path;

/// Of the Backup, as [`Topology::priority`] has it.
///
/// [`Topology::priority`]: crate::lab::Topology::priority
const PRIORITY: u8 = 100;

pub(super) fn run(scenario: Scenario, portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let Pair { mut lab, backend, flows, container } = stand_pair(portway, way, options)?;
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
        "bound_ms": bound,
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
    Ok(Outcome::new(scenario, backend, merged([figures, json!(probed), of_flows]), checks))
}
