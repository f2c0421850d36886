//! The same death of a gateway in the same lab, with Portway and with keepalived and conntrackd, in turns.
//!
//! The gateway dies as a whole. After a SIGKILL of the daemons alone, keepalived's node would go on forwarding with addresses that another
//! has too, until the announcement of the other leads traffic away: no gap, and no fence. That is measured beside it, without a bar.

use super::Options;
use super::figures::{Bar, Report, median};
use super::group::{Arm, FLOWS, scenario};
use super::redundant::{Pair, available};
use anyhow::ensure;
use portway::lab::scenario::Scenario;
use portway::lab::{Counts, Flows, Kill, Probe, poll_until};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// From the end of an outage until every flow has proved itself, as with ours.
const PROOF: Duration = Duration::from_secs(20);
/// Answers before and after, at 1 ms.
const WARM: u64 = 200;

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    ensure!(available(), "keepalived or conntrackd is missing: scripts/install-deps test");
    // Idle connections have had their minute in `failover`.
    let idle = Duration::from_secs(2);
    let mut ours = Arm::new("portway, node dies");
    let mut theirs = Arm::new("keepalived + conntrackd, node dies");
    let mut killed = Arm::new("keepalived + conntrackd, kill -9");
    for round in 0..options.rounds_of(10, 2) {
        let mut turns: [&mut dyn FnMut() -> anyhow::Result<()>; 2] =
            [&mut || ours.play(Scenario::GreFailover, options.backend()?, &scenario(Kill::Node, 100, FLOWS, idle)), &mut || {
                play(&mut theirs, Kill::Node, idle)
            }];
        if round % 2 == 1 {
            turns.reverse();
        }
        turns.into_iter().try_for_each(|turn| turn())?;
    }
    for _ in 0..options.rounds_of(3, 1) {
        play(&mut killed, Kill::Daemon, idle)?;
    }
    let worst = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let (median, worst) = (median(theirs.column("gap_ms")), worst(theirs.column("gap_ms")));
    let survived = |column: &str| theirs.column(column).iter().copied().fold(f64::INFINITY, f64::min);
    // To the probe's own interval: both wait for the same sum of the same timers.
    report.add("portway, node dies", "median gap, against theirs", "ms", ours.column("gap_ms").to_vec(), Some(Bar::AtMost(median + 1.0)));
    report.add("portway, node dies", "worst gap, against theirs", "ms", ours.column("gap_ms").to_vec(), Some(Bar::EachAtMost(worst + 1.0)));
    for (column, metric) in [("survived", "TCP connections that went on"), ("udp_survived", "UDP flows that went on")] {
        report.add("portway, node dies", metric, "1", ours.column(column).to_vec(), Some(Bar::EachAtLeast(survived(column))));
    }
    for arm in [&theirs, &killed] {
        arm.report(report, "gap_ms", "longest time without an answer", "ms", None);
        arm.report(report, "restless", "pairs that found no rest before", "1", None);
        arm.report(report, "owner_ms", "until the other has the addresses", "ms", None);
        arm.report(report, "survived", "TCP connections that went on", "1", None);
        arm.report(report, "udp_survived", "UDP flows that went on", "1", None);
    }
    for arm in [&ours, &theirs, &killed] {
        arm.report(report, "quiet_ms", "the same before anything happened", "ms", None);
        arm.report(report, "lost", "pings lost", "1", None);
        arm.report(report, "resets", "connections reset", "1", None);
    }
    Ok(())
}

/// On a busy machine the two of them may pass the addresses to and fro for a while: then they are stood up anew, and it is counted.
fn stand(arm: &mut Arm) -> anyhow::Result<Pair> {
    let mut restless = 0.0;
    let pair = loop {
        match Pair::stand() {
            Err(error) if restless >= 3.0 => return Err(error),
            Err(_) => restless += 1.0,
            Ok(pair) => break pair,
        }
    };
    arm.note("restless", restless);
    Ok(pair)
}

/// As [`Scenario::GreFailover`] has it.
#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn play(arm: &mut Arm, how: Kill, idle: Duration) -> anyhow::Result<()> {
    let mut pair = stand(arm)?;
    let (tenant, container) = (pair.lab.topology.tenants[0].clone(), pair.lab.topology.containers[0].clone());
    let (from, at) = (pair.lab.node(&container.node)?.clone(), pair.lab.node(&tenant.node())?.clone());
    let counts = Counts { tcp: FLOWS, udp: FLOWS / 5, idle, ..Counts::default() };
    let flows = Flows::open(&[&from], &at, tenant.server, &counts)?;
    pair.await_copies("gw-2", FLOWS + FLOWS / 5)?;
    let probe = Probe::start(&from, tenant.server, Duration::from_millis(1))?;
    let answered = |more: u64| {
        let before = probe.answered();
        poll_until("answers to a probe", PATIENCE, || Ok(probe.answered() >= before + more))
    };
    answered(WARM)?;
    // What the probe began is copied too before anything happens, as with ours.
    std::thread::sleep(Duration::from_millis(200));
    probe.mark();
    let begun = Instant::now();
    pair.fail("gw-1", how)?;
    pair.await_owner("gw-2", PATIENCE)?;
    arm.note("owner_ms", begun.elapsed().as_secs_f64() * 1e3);
    let went_on = answered(WARM);
    let probed = probe.stop();
    let report = flows.verify(idle + PROOF);
    went_on?;
    let tcp = report.all_tcp();
    for (column, value) in [
        ("gap_ms", probed.gap_ms),
        ("quiet_ms", probed.quiet_ms),
        ("asked_ms", probed.asked_ms),
        ("lost", probed.lost as f64),
        ("survived", tcp.survived as f64),
        ("udp_survived", report.udp.survived as f64),
        ("resets", report.resets as f64),
    ] {
        arm.note(column, value);
    }
    let failed = if report.all_survived() { vec![] } else { vec![report.summary()] };
    arm.tell(&failed);
    Ok(())
}
