//! The Active of a pair dies by SIGKILL: how long is nobody answered, and who goes on?

use super::Options;
use super::figures::{Bar, Report};
use super::group::{Arm, FLOWS, scenario};
use portway::lab::Kill;
use portway::lab::scenario::Scenario;
use std::time::Duration;

/// Milliseconds between advertisements, and the bar: three of them, the skew of priority 100, and 20 ms. For the short one the issue says it.
const ARMS: [(u64, f64); 2] = [(100, 3.0 * 100.0 + 156.0 / 256.0 * 100.0 + 20.0), (10, 60.0)];

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for (interval, bar) in ARMS {
        let mut arm = Arm::new(format!("kill -9, {interval} ms interval"));
        // A minute of idleness shows what it shows at one interval.
        let idle = if interval == ARMS[0].0 { options.idle() } else { Duration::from_secs(2) };
        for _ in 0..options.rounds_of(20, 3) {
            arm.play(Scenario::GreFailover, options.backend()?, &scenario(Kill::Daemon, interval, FLOWS, idle))?;
        }
        arm.report_gap(report, Some(Bar::EachAtMost(bar)));
        arm.report_flows(report, FLOWS);
    }
    Ok(())
}
