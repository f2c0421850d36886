//! The Active of a pair dies, one way or another, under a 1 ms ping and a thousand connections.

use super::group::{
    ACTIVE, BACKUP, PLANNED_MS, Pair, TENANT, bound_ms, came_about, goes_on, lost_nothing, mark, merged, of_flows, pings, probe, proof,
    stand_pair, within,
};
use super::{Options, Outcome, Scenario, Way};
use crate::config::TunnelKind;
use crate::lab::Result;
use crate::lab::checks::Check;
use crate::lab::swarm::Swarm;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Of the Backup, as [`Topology::priority`] has it.
///
/// [`Topology::priority`]: crate::lab::Topology::priority
const PRIORITY: u8 = 100;

/// What it may take longer with WireGuard: sessions are agreed on anew.
const SESSIONS_MS: f64 = 10.0;
/// For all peers, from when the failure is noticed.
const ALL_BACK_MS: f64 = 1000.0;

pub(super) fn run(scenario: Scenario, portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let Pair { mut lab, backend, flows, container, swarm } = stand_pair(portway, way, options)?;
    let probe = probe(&lab, &container, options.ping)?;

    mark(std::slice::from_ref(&probe))?;
    if let Some(swarm) = &swarm {
        swarm.mark();
    }
    lab.fail(ACTIVE, options.kill)?;
    let failed = Instant::now();
    let taken = lab.await_active(BACKUP, TENANT, 0);
    let went_on = goes_on(&probe);
    let probed = probe.stop();
    let back = swarm.as_ref().map(|swarm| swarm.back(failed));
    let report = flows.verify(proof(options));
    let healed = lab.heal(ACTIVE).and_then(|()| lab.await_in_sync());

    let astray = swarm.as_ref().map_or(Ok(0), Swarm::led_astray);
    drop(swarm);
    let sessions = if way.tunnel == TunnelKind::Wireguard { SESSIONS_MS } else { 0.0 };
    let bound = if options.kill.planned() { PLANNED_MS } else { bound_ms(options.interval, PRIORITY) + sessions };
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
    let mut peers = json!({});
    match &back {
        None => {}
        Some(Err(error)) => checks.push(Check::new("every peer is back", "", false, error.to_string())),
        Some(Ok(back)) => {
            let at = |n: usize| back[n.min(back.len() - 1)].as_secs_f64() * 1e3;
            let (median, last) = (at(back.len() / 2), at(back.len()));
            peers = json!({ "peers": options.peers, "peers_back_p50_ms": median, "peers_back_ms": last });
            let most = bound + ALL_BACK_MS;
            let seen = format!("{last:.0} ms after the failure, half of them within {median:.0} ms; at most {most:.0} ms");
            checks.push(Check::new(format!("all {} peers are back within a second", options.peers), "", last <= most, seen));
            let led = format!("{astray:?} of them");
            checks.push(Check::new(
                "no peer is led away from the HaVip, not even by the node that comes back",
                "",
                matches!(astray, Ok(0)),
                led,
            ));
        }
    }
    checks.push(came_about("the node comes back, and every shard has one Active and a Backup in sync", ACTIVE, &healed));
    Ok(Outcome::new(scenario, backend, merged([figures, json!(probed), of_flows, peers]), checks))
}
