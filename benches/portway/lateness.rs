//! How late are the timers of virtual routers on a busy machine, and under a flood of forged advertisements?

use super::Options;
use super::figures::{Bar, Report};
use super::group::{Arm, late_within, portway};
use super::paced::Wire;
use portway::lab::topology::{PLATFORM_IF, Wiring};
use portway::lab::{Lab, Topology, ipv4};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const SPINNERS: usize = 6;
const INTERVAL: Duration = Duration::from_millis(10);
/// Forged packets a second.
const FLOOD: u64 = 100_000;
const BAR_MS: f64 = 2.0;
const VRRP: u8 = 112;

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let lasts = Duration::from_secs(if options.short { 2 } else { 10 });
    let mut lab = Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth]).with_interval(INTERVAL))?;
    lab.serve()?;
    lab.start_daemons(portway(), options.backend()?)?;
    lab.await_in_sync()?;
    lab.await_active("gw-1", "acme", 0)?;
    let (host, [active, backup]) = (&lab.topology.hosts[0], [0, 1].map(|n| lab.topology.gateways[n].outer));
    let wire = Wire::open(lab.node(&host.node)?, PLATFORM_IF, lab.node("gw-1")?, PLATFORM_IF)?;
    // From the other node's address, as a good advertisement would be, and without a valid seal.
    let mut forged = wire.frame(&ipv4(backup, active, VRRP, &[0x31, 51, 255, 2, 0, 1, 0, 0, 10, 9, 0, 50, 172, 16, 101, 10]));
    let arms: [(&str, bool, bool); 4] =
        [("idle", false, false), ("six spinners", true, false), ("flood", false, true), ("six spinners and flood", true, true)];
    for (name, spin, flood) in arms {
        let mut arm = Arm::new(name);
        for _ in 0..options.rounds_of(3, 1) {
            let before = [lab.metrics("gw-1")?, lab.metrics("gw-2")?];
            let rate = under(spin, || if flood { wire.repeat(&mut forged, FLOOD, lasts) } else { wait(lasts) });
            let after = [lab.metrics("gw-1")?, lab.metrics("gw-2")?];
            for ((before, after), column) in before.iter().zip(&after).zip(["active", "backup"]) {
                // A Backup's timer serves nothing as long as advertisements come.
                if let Some(late) = late_within(before, after, "portway_vrrp_timer_lateness_seconds") {
                    arm.note(column, late * 1e3);
                }
            }
            let changes = |m: &std::collections::BTreeMap<String, f64>| {
                m.iter().filter(|(n, _)| n.starts_with("portway_vrrp_transitions")).map(|(_, v)| v).sum::<f64>()
            };
            arm.note("changes", before.iter().zip(&after).map(|(b, a)| changes(a) - changes(b)).sum());
            if flood {
                arm.note("rate", rate);
            }
        }
        arm.report(report, "active", "99 of 100 timers late by, Active", "ms", Some(Bar::EachAtMost(BAR_MS)));
        arm.report(report, "backup", "99 of 100 timers late by, Backup", "ms", Some(Bar::EachAtMost(BAR_MS)));
        arm.report(report, "changes", "changes of state", "1", Some(Bar::EachAtMost(0.0)));
        arm.report(report, "rate", "forged packets a second", "1/s", None);
    }
    Ok(())
}

fn wait(lasts: Duration) -> f64 {
    std::thread::sleep(lasts);
    0.0
}

/// Does it while threads of ordinary priority take all the time there is.
fn under<T>(spin: bool, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(!spin);
    std::thread::scope(|scope| {
        for _ in 0..SPINNERS {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = work();
        done.store(true, Relaxed);
        result
    })
}
