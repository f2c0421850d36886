//! The Active of a pair is drained: it hands over before it goes, and nobody notices.

use super::group::{
    ACTIVE, BACKUP, PLANNED_MS, Pair, TENANT, came_about, goes_on, lost_nothing, mark, merged, of_flows, pings, probe, proof, stand_pair,
    within,
};
use super::{Options, Outcome, Scenario, Way, slowed};
use crate::lab::checks::Check;
use crate::lab::topology::port;
use crate::lab::{Result, Transfer, poll_until, unix_ok};
use serde_json::json;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes a second of the transfer: enough to notice anything, too little to fill a queue and blame the drain for it.
const PACE: u64 = 8 << 20;
/// The transfer's speed is that of so long.
const WINDOW: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(2);
/// This part of what a second brings must have come back before, and again after.
const WARM: u64 = 4;

pub(super) fn run(portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let Pair { lab, backend, flows, container, .. } = stand_pair(portway, way, options)?;
    let server = lab.topology.tenants[0].server;
    let pace = slowed(PACE, options.ping);
    let transfer = Transfer::start(lab.node(&container.node)?, SocketAddr::from((server, port::ECHO)), Some(pace))?;
    let moves = |more: u64| {
        let from = transfer.returned();
        poll_until("the transfer", Duration::from_secs(10), || Ok(transfer.returned() >= from + more)).is_ok()
    };
    moves(pace / WARM);
    let probe = probe(&lab, &container, options.ping)?;

    mark(std::slice::from_ref(&probe))?;
    let done = AtomicBool::new(false);
    let (drained, went_on, slowest) = std::thread::scope(|scope| {
        let slowest = scope.spawn(|| slowest(&transfer, &done));
        let drained = unix_ok(&lab.socket(ACTIVE)?, "POST", "/v1/drain", None).and_then(|_| lab.await_active(BACKUP, TENANT, 0));
        let went_on = goes_on(&probe) && moves(pace / WARM);
        done.store(true, Ordering::Relaxed);
        Ok::<_, crate::lab::Error>((drained, went_on, slowest.join().expect("looking does not panic")))
    })?;
    let (probed, transferred) = (probe.stop(), transfer.stop());
    let report = flows.verify(proof(options));

    let dip = 100.0 * (1.0 - slowest / pace as f64).clamp(0.0, 1.0);
    let (of_flows, more) = of_flows(&report);
    let figures = json!({
        "transfer_bytes": transferred.bytes,
        "transfer_dip_percent": dip,
    });
    let mut checks = vec![
        came_about("the Backup becomes the Active", BACKUP, &drained),
        Check::new("traffic goes on", &container.node, went_on, pings(&probed)),
        lost_nothing("no packet is lost", &container.node, &probed),
        within(format!("the gap is at most {PLANNED_MS:.0} ms"), &container.node, PLANNED_MS, &probed),
        Check::new(
            "a transfer goes on unharmed",
            &container.node,
            transferred.ok,
            transferred.fault.clone().unwrap_or_else(|| format!("{:.1} MB, {dip:.0} % slower at worst", transferred.bytes as f64 / 1e6)),
        ),
    ];
    checks.extend(more);
    Ok(Outcome::new(Scenario::Drain, backend, merged([figures, json!(probed), of_flows]), checks))
}

/// The fewest bytes a second that came back in any [`WINDOW`], until `done`.
fn slowest(transfer: &Transfer, done: &AtomicBool) -> f64 {
    let mut seen = VecDeque::from([(Instant::now(), transfer.returned())]);
    let mut slowest = f64::INFINITY;
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        let now = (Instant::now(), transfer.returned());
        seen.push_back(now);
        while seen.get(1).is_some_and(|next| now.0 - next.0 >= WINDOW) {
            seen.pop_front();
        }
        if let Some(first) = seen.front().filter(|first| now.0 - first.0 >= WINDOW) {
            slowest = slowest.min((now.1 - first.1) as f64 / (now.0 - first.0).as_secs_f64());
        }
    }
    slowest
}
