//! 20,000 connections begin every second at the Active, by packets: how soon, and at what cost, are they in the Backup's kernel?

use super::Options;
use super::figures::{Bar, Report, percentile};
use super::group::{Arm, late_within, portway};
use super::paced::{Beginnings, Wire, sink};
use super::redundant::{Pair, available, shell};
use anyhow::{Context, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portway::kernel::conntrack::{Filter, FlowWatch, Notices};
use portway::lab::topology::{PLATFORM_IF, Wiring};
use portway::lab::{Lab, Topology};
use portway::model::{FlowChange, FlowProtocol};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// New ones a second: a little more than the bar, so that as many as the bar arrive in the seconds that sending takes.
const RATE: u64 = 21_000;
const BAR: f64 = 20_000.0;
/// Of notices that wait for the listener.
const BUFFER: usize = 128 << 20;
/// What has not come by then after the last one does not come.
const LINGER: Duration = Duration::from_secs(3);
/// Seconds after which a connection of one packet ends (nf_conntrack_udp_timeout): ends are told too.
const TIMEOUT: u32 = 5;

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let seconds = if options.short { 2 } else { 10 };
    let (mut ours, mut theirs) = (Arm::new("portway"), Arm::new("conntrackd, FTFW"));
    let (mut lags, mut their_lags) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds_of(3, 1) {
        lags.extend(portway_round(&mut ours, options, seconds)?);
        if available() {
            their_lags.extend(conntrackd_round(&mut theirs, seconds)?);
        }
    }
    ours.report(report, "rate", "new connections copied a second", "1/s", Some(Bar::EachAtLeast(BAR)));
    ours.report(report, "lag_ms", "99 of 100 datagrams acknowledged in", "ms", Some(Bar::EachAtMost(20.0)));
    report.latency("portway", "from packet to entry at the Backup", lags, None);
    ours.report(report, "core_active", "sync threads at the Active", "cores", Some(Bar::EachAtMost(1.0)));
    ours.report(report, "core_backup", "sync threads at the Backup", "cores", Some(Bar::EachAtMost(1.0)));
    for (column, metric) in [("resent", "datagrams sent again"), ("overflows", "times that notices were lost"), ("missed", "never copied")]
    {
        ours.report(report, column, metric, "1", None);
    }
    if !their_lags.is_empty() {
        theirs.report(report, "rate", "new connections copied a second", "1/s", None);
        report.latency("conntrackd, FTFW", "from packet to entry at the Backup", their_lags, None);
        theirs.report(report, "core_active", "processes at the Active", "cores", None);
        theirs.report(report, "core_backup", "processes at the Backup", "cores", None);
        theirs.report(report, "missed", "never copied", "1", None);
    }
    Ok(())
}

fn portway_round(arm: &mut Arm, options: &Options, seconds: u64) -> anyhow::Result<Vec<f64>> {
    let mut lab = Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth]))?;
    lab.serve()?;
    lab.start_daemons(portway(), options.backend()?)?;
    lab.await_in_sync()?;
    lab.await_active("gw-1", "acme", 0)?;
    let (tenant, host) = (&lab.topology.tenants[0].clone(), &lab.topology.hosts[0].clone());
    let havip = lab.topology.shards_of(&tenant.name)[0].gateway;
    let wire = Wire::open(lab.node(&host.node)?, PLATFORM_IF, lab.node("gw-1")?, PLATFORM_IF)?;
    let inner = lab.topology.inner(tenant, 0, host);
    let begin = Beginnings::new(&wire, Some((host.outer, havip, tenant.key)), inner, tenant.server, RATE, RATE * seconds)?;
    let threads = ["gw-1", "gw-2"].map(|node| lab.daemon(node).map(|daemon| daemon.pid()));
    let [active, backup] = threads;
    let threads = [vec![active?], vec![backup?]];
    let before = lab.metrics("gw-1")?;
    let lags = measure(arm, &lab, &wire, &begin, &threads, Some("sync"))?;
    let after = lab.metrics("gw-1")?;
    let grown = |name: &str| after.iter().filter(|(n, _)| n.starts_with(name)).map(|(n, v)| v - before.get(n).unwrap_or(&0.0)).sum::<f64>();
    let late = late_within(&before, &after, "portway_sync_acknowledgement_seconds").context("nothing was acknowledged")?;
    arm.note("lag_ms", 1e3 * late);
    arm.note("resent", grown("portway_sync_resent_datagrams"));
    arm.note("overflows", grown("portway_sync_overflows"));
    Ok(lags)
}

fn conntrackd_round(arm: &mut Arm, seconds: u64) -> anyhow::Result<Vec<f64>> {
    let pair = Pair::stand()?;
    let lab = &pair.lab;
    let (tenant, host, container) = (&lab.topology.tenants[0], &lab.topology.hosts[0], &lab.topology.containers[0]);
    let wire = Wire::open(lab.node(&host.node)?, PLATFORM_IF, lab.node("gw-1")?, PLATFORM_IF)?;
    let begin = Beginnings::new(&wire, None, container.address, tenant.server, RATE, RATE * seconds)?;
    let processes = ["gw-1", "gw-2"].map(|node| pair.pids(node, "conntrackd"));
    measure(arm, lab, &wire, &begin, &processes, None)
}

/// Lags in milliseconds.
fn measure(
    arm: &mut Arm,
    lab: &Lab,
    wire: &Wire,
    begin: &Beginnings,
    processes: &[Vec<u32>; 2],
    thread: Option<&str>,
) -> anyhow::Result<Vec<f64>> {
    sink(lab.node(&lab.topology.tenants[0].node())?)?;
    for gateway in &lab.topology.gateways {
        shell(lab.node(&gateway.node)?, &format!("echo {TIMEOUT} > /proc/sys/net/netfilter/nf_conntrack_udp_timeout"))?;
    }
    let busy = || processes.each_ref().map(|pids| pids.iter().map(|pid| processor_time(*pid, thread)).sum::<Duration>());
    let done = AtomicBool::new(false);
    let backup = lab.node("gw-2")?.clone();
    let (before, begun) = (busy(), Instant::now());
    let (lags, took) = std::thread::scope(|scope| {
        let seen = scope.spawn(|| backup.run(|| listen(begin, &done)));
        let took = begin.send(wire);
        std::thread::sleep(LINGER);
        done.store(true, Relaxed);
        (seen.join().expect("listening does not panic"), took)
    });
    let (lags, after, lasted) = (lags?, busy(), begun.elapsed());
    ensure!(!lags.is_empty(), "{}: no connection was copied", arm.name());
    for (column, (after, before)) in ["core_active", "core_backup"].into_iter().zip(after.into_iter().zip(before)) {
        // What it takes after the last packet is for those packets, too.
        arm.note(column, (after - before).as_secs_f64() / took.min(lasted).as_secs_f64());
    }
    arm.note("rate", lags.len() as f64 / took.as_secs_f64());
    arm.note("missed", (begin.count() - lags.len()) as f64);
    eprintln!("  {}: {} of {} in {took:.1?}, p99 {:.1} ms", arm.name(), lags.len(), begin.count(), percentile(&lags, 0.99));
    Ok(lags)
}

/// In the namespace of the Backup: how old each connection was when it came.
fn listen(begin: &Beginnings, done: &AtomicBool) -> anyhow::Result<Vec<f64>> {
    let mut watch = FlowWatch::open(Filter::default(), BUFFER)?;
    let (mut seen, mut lags) = (vec![false; begin.count()], Vec::with_capacity(begin.count()));
    while !done.load(Relaxed) {
        let read = watch.read(|change| {
            let FlowChange::Upsert(flow) = change else { return };
            let FlowProtocol::Udp { source, destination } = flow.key.protocol else { return };
            let Some(number) = begin.number(flow.key.source, source, destination) else { return };
            if !std::mem::replace(&mut seen[number], true) {
                lags.push(begin.age(number).as_secs_f64() * 1e3);
            }
        })?;
        ensure!(read != Notices::Overflow, "the listener is too slow for what it listens to");
        if read == Notices::Drained {
            let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, PollTimeout::from(20u16)).context("waiting for notices")?;
        }
    }
    Ok(lags)
}

/// Of a process, or of its threads of one name.
fn processor_time(pid: u32, thread: Option<&str>) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let tasks = tasks
        .filter(|task| thread.is_none_or(|name| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)));
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
