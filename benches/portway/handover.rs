//! Planned handovers: a drain, a SIGTERM, and shards that return to a node that has come back.

use super::Options;
use super::figures::{Bar, Report};
use super::group::{Arm, PLANNED_MS, scenario};
use portway::lab::Kill;
use portway::lab::scenario::Scenario;
use std::time::Duration;

/// Enough to see one go astray, too few to be the noise.
const FLOWS: usize = 100;

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut arms = [
        (Arm::new("drain"), Scenario::Drain, Kill::Daemon),
        (Arm::new("SIGTERM"), Scenario::GreFailover, Kill::Sigterm),
        (Arm::new("shards return"), Scenario::Shards, Kill::Daemon),
    ];
    for _ in 0..options.rounds_of(10, 2) {
        for (arm, what, kill) in &mut arms {
            arm.play(*what, options.backend()?, &scenario(*kill, 100, FLOWS, Duration::from_secs(1)))?;
        }
    }
    for (arm, ..) in &arms {
        arm.report(report, "gap_ms", "longest time without an answer", "ms", Some(Bar::EachAtMost(PLANNED_MS)));
        arm.report(report, "quiet_ms", "the same before anything happened", "ms", None);
        arm.report(report, "asked_ms", "longest time between two questions", "ms", None);
        arm.report(report, "lost", "pings lost", "1", Some(Bar::EachAtMost(0.0)));
        arm.report(report, "transfer_dip_percent", "a transfer is slower at worst by", "%", None);
        arm.report_flows(report, FLOWS);
    }
    Ok(())
}
