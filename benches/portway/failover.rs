//! The Active of a pair dies by SIGKILL: how long is nobody answered, and who goes on?

use super::Options;
use super::figures::{Bar, Report};
use super::group::{Arm, FLOWS, scenario};
use portway::lab::Kill;
use portway::lab::scenario::{self, Scenario};
use std::time::Duration;

/// Milliseconds until a Backup of priority 100 takes over from an Active that advertised every 100 ms: three intervals and the skew (RFC 9568 section 6.1).
const DETECTION: f64 = 3.0 * 100.0 + 156.0 / 256.0 * 100.0;
/// Milliseconds between advertisements, and the bar. The short one is that of a pair whose links are its own.
const ARMS: [(u64, f64); 2] = [(100, DETECTION + 20.0), (10, 60.0)];
/// WireGuard peers, and rounds: a lab of many takes its time to stand.
const PEERS: [(u16, usize); 2] = [(1, 10), (1000, 5)];
/// With sessions that are agreed on anew.
const SESSIONS: f64 = DETECTION + 30.0;
/// Until the last of all peers is back.
const ALL_BACK: f64 = DETECTION + 1000.0;

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

pub fn run_wireguard(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for (peers, rounds) in PEERS {
        let mut arm = Arm::new(format!("kill -9, {peers} WireGuard peers"));
        let how = scenario::Options { peers, ..scenario(Kill::Daemon, 100, FLOWS, Duration::from_secs(2)) };
        for _ in 0..options.rounds_of(rounds, 2) {
            arm.play(Scenario::WireguardFailover, options.backend()?, &how)?;
        }
        arm.report_gap(report, Some(Bar::EachAtMost(SESSIONS)));
        arm.report(report, "peers_back_ms", "last peer back after", "ms", Some(Bar::EachAtMost(ALL_BACK)));
        arm.report_flows(report, FLOWS);
    }
    Ok(())
}
