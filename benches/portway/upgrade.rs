//! Another program on both gateways of a pair, one after the other, under connections.

use super::Options;
use super::figures::{Bar, Report};
use super::group::{Arm, FLOWS, PLANNED_MS, scenario};
use portway::config::TunnelKind;
use portway::lab::Kill;
use portway::lab::scenario::{self, Scenario};
use std::time::Duration;

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut arms = [(Arm::new("GRE"), TunnelKind::Gre), (Arm::new("WireGuard"), TunnelKind::Wireguard)];
    let flows = if options.short { FLOWS / 10 } else { FLOWS };
    for _ in 0..options.rounds_of(5, 1) {
        for (arm, tunnel) in &mut arms {
            let options_of = scenario(Kill::Daemon, 100, flows, Duration::from_secs(1));
            arm.play(Scenario::Upgrade, options.backend()?, &scenario::Options { tunnel: *tunnel, ..options_of })?;
        }
    }
    for (arm, _) in &arms {
        arm.report(
            report,
            "beyond_ms",
            "longest time without an answer, beyond what the machine does by itself",
            "ms",
            Some(Bar::EachAtMost(PLANNED_MS)),
        );
        arm.report(report, "gap_ms", "longest time without an answer, around a move", "ms", None);
        arm.report(report, "start_gap_ms", "the same while the other program starts", "ms", None);
        arm.report(report, "quiet_ms", "the same before anything happened, or through shards that stay", "ms", None);
        arm.report(report, "lost", "pings lost", "1", Some(Bar::EachAtMost(0.0)));
        arm.report(report, "transfers_harmed", "checksummed transfers harmed", "1", Some(Bar::EachAtMost(0.0)));
        arm.report_flows(report, flows);
    }
    Ok(())
}
