//! The Active dies with 250,000 connections, and a Backup that has lost its memory learns them all.

use super::Options;
use super::figures::{Bar, Report};
use super::group::{Arm, portway};
use super::paced::{Beginnings, Wire, sink};
use super::redundant::{count, shell};
use anyhow::Context;
use portway::lab::topology::{PLATFORM_IF, Wiring};
use portway::lab::{Counts, Flows, Kill, Lab, Probe, Topology, poll_until, unix};
use std::time::{Duration, Instant};

/// The kernel's table holds 262,144.
const FLOWS: u64 = 250_000;
const RATE: u64 = 20_000;
/// Among them, some that are used afterwards.
const USED: usize = 200;
const BOUND_MS: f64 = 3.0 * 100.0 + 156.0 / 256.0 * 100.0 + 20.0;
const PATIENCE: Duration = Duration::from_secs(60);
const WARM: u64 = 200;

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut arm = Arm::new("250,000 connections");
    for _ in 0..options.rounds_of(5, 1) {
        play(&mut arm, options)?;
    }
    arm.report(report, "known", "connections at the Backup", "1", Some(Bar::EachAtLeast(FLOWS as f64)));
    arm.report(report, "listed_s", "until a Backup that starts empty knows them", "s", None);
    arm.report_gap(report, Some(Bar::EachAtMost(BOUND_MS)));
    arm.report_flows(report, USED);
    Ok(())
}

fn play(arm: &mut Arm, options: &Options) -> anyhow::Result<()> {
    let mut lab = Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth]))?;
    lab.serve()?;
    lab.start_daemons(portway(), options.backend()?)?;
    lab.attach_all()?;
    lab.await_in_sync()?;
    lab.await_active("gw-1", "acme", 0)?;
    let (tenant, host, container) = (lab.topology.tenants[0].clone(), lab.topology.hosts[0].clone(), lab.topology.containers[0].clone());
    let (from, server) = (lab.node(&container.node)?.clone(), lab.node(&tenant.node())?.clone());
    sink(&server)?;
    for gateway in &lab.topology.gateways {
        shell(lab.node(&gateway.node)?, "echo 3600 > /proc/sys/net/netfilter/nf_conntrack_udp_timeout")?;
    }
    let havip = lab.topology.shards_of(&tenant.name)[0].gateway;
    let wire = Wire::open(lab.node(&host.node)?, PLATFORM_IF, lab.node("gw-1")?, PLATFORM_IF)?;
    let tunnel = Some((host.outer, havip, tenant.key));
    // Packets may be lost, on the way and to the generator's own haste: until there are enough.
    let fill = Beginnings::new(&wire, tunnel, lab.topology.inner(&tenant, 0, &host), tenant.server, RATE, FLOWS)?;
    for _ in 0..5 {
        fill.send(&wire);
        if count(lab.node("gw-1")?) >= FLOWS as usize {
            break;
        }
    }
    let counts = Counts { tcp: USED, udp: USED / 5, idle: Duration::from_secs(2), ..Counts::default() };
    let flows = Flows::open(&[&from], &server, tenant.server, &counts).context("flows among many others")?;
    lab.await_in_sync().context("after so many connections have begun")?;

    // A Backup that knows nothing.
    lab.fail("gw-2", Kill::Daemon)?;
    shell(lab.node("gw-2")?, "conntrack -F 2>/dev/null || true")?;
    let begun = Instant::now();
    lab.heal("gw-2")?;
    let copies = |lab: &Lab| -> anyhow::Result<u64> {
        let body = unix(&lab.socket("gw-2")?, "GET", "/v1/status", None)?.body;
        let status: serde_json::Value = serde_json::from_str(&body)?;
        let shard = &status["ha"]["shards"][0];
        Ok(if shard["in_sync"] == true { shard["copies"].as_u64().unwrap_or(0) } else { 0 })
    };
    poll_until("the Backup in sync", PATIENCE, || Ok(copies(&lab).unwrap_or(0) > 0))?;
    arm.note("listed_s", begun.elapsed().as_secs_f64());
    arm.note("known", copies(&lab).context("the Backup's status")? as f64);
    lab.await_in_sync().context("after a Backup's return")?;

    let probe = Probe::start(&from, tenant.server, Duration::from_millis(1))?;
    let answered = || {
        let before = probe.answered();
        poll_until("answers to a probe", PATIENCE, || Ok(probe.answered() >= before + WARM))
    };
    answered()?;
    probe.mark();
    lab.fail("gw-1", Kill::Daemon)?;
    lab.await_active("gw-2", "acme", 0)?;
    answered()?;
    let probed = probe.stop();
    let report = flows.verify(Duration::from_secs(22));
    for (column, value) in [
        ("gap_ms", probed.gap_ms),
        ("quiet_ms", probed.quiet_ms),
        ("asked_ms", probed.asked_ms),
        ("lost", probed.lost as f64),
        ("survived", report.all_tcp().survived as f64),
        ("udp_survived", report.udp.survived as f64),
        ("resets", report.resets as f64),
    ] {
        arm.note(column, value);
    }
    arm.tell(&if report.all_survived() { vec![] } else { vec![report.summary()] });
    Ok(())
}
