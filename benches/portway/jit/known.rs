//! What a gateway has to do with hosts that the directory knows and that never come: nothing, or it shows in memory and processor. Real daemons, a
//! pair of gateways and a directory over TLS, and ten hosts that are there.

use crate::directory::fill;
use crate::figures::{Bar, Report, median};
use crate::group::portway;
use anyhow::{Context, ensure};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use portway::config::{Backend, TunnelKind};
use portway::lab::swarm::{Place, Swarm, key, name};
use portway::lab::topology::Wiring;
use portway::lab::{Kill, Lab, Topology, keys};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const TENANT: &str = "acme";
const ACTIVE: &str = "gw-1";
/// Hosts that are there.
const LIVE: u16 = 10;
/// After it has heard of everything, before it is measured.
const SETTLE: Duration = Duration::from_secs(2);
/// In which nothing happens: so many times so long.
const SLICES: usize = 5;
const SLICE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(120);
/// What may be more than with nobody known, in MiB and as a share of a processor.
const MEMORY: f64 = 4.0;
const PROCESSOR: f64 = 0.005;

struct Stood {
    /// `VmRSS` and `Pss`, in MiB.
    resident: f64,
    proportional: f64,
    /// Shares of a processor.
    busy: Vec<f64>,
}

pub fn run(most: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut none: Option<(f64, f64)> = None;
    for known in [0, 1_000, most] {
        let Stood { resident, proportional, busy } = stand(known).with_context(|| format!("a gateway with {known} known"))?;
        let arm = format!("{known} known, {LIVE} live");
        let bar = |of: fn((f64, f64)) -> f64| none.map(|none| Bar::AtMost(of(none)));
        report.add(&arm, "resident memory of a gateway", "MiB", vec![resident], bar(|(memory, _)| memory + MEMORY));
        report.add(&arm, "of it, its share (Pss)", "MiB", vec![proportional], None);
        report.add(&arm, "processor of a gateway, idle", "1", busy.clone(), bar(|(_, busy)| busy + PROCESSOR));
        none = none.or(Some((resident, median(&busy))));
    }
    Ok(())
}

/// The hosts come to be known while the Active is away: whatever it makes of them, it makes of all.
fn stand(known: usize) -> anyhow::Result<Stood> {
    let mut topology = Topology::group(&[TENANT], 2, 1, &[Wiring::Veth]).with_tunnel(TunnelKind::Wireguard).with_directory();
    // Room for all of them.
    topology.tenants[0].inner = "10.64.0.0/12".parse()?;
    let mut lab = Lab::build(topology)?;
    lab.serve()?;
    lab.start_daemons(portway(), Backend::Userspace)?;
    lab.await_active(ACTIVE, TENANT, 0)?;
    lab.await_in_sync()?;
    lab.fail(ACTIVE, Kill::Daemon)?;
    lab.directory()?.fail();
    let file = lab.dir().runtime("directory").with_file_name("directory.db");
    let revision = tokio::runtime::Runtime::new()?.block_on(fill(&file, known))?;
    lab.directory()?.resume()?;
    lab.heal(ACTIVE)?;
    lab.await_active(ACTIVE, TENANT, 0)?;
    lab.await_in_sync()?;
    let _swarm = live(&mut lab)?;
    let figure = |name: &str| anyhow::Ok(lab.metrics(ACTIVE)?.get(name).copied().unwrap_or_default());
    let begun = Instant::now();
    while figure("portway_directory_watched_revision{}")? < revision as f64
        || figure("portway_jit_peers{state=\"live\"}")? < f64::from(LIVE)
    {
        ensure!(begun.elapsed() < PATIENCE, "not all is heard of, or not all are there: {:?}", lab.metrics(ACTIVE)?);
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(SETTLE);
    let pid = lab.daemon(ACTIVE)?.pid();
    let mut busy = Vec::new();
    for _ in 0..SLICES {
        let (before, begun) = (processor(pid)?, Instant::now());
        std::thread::sleep(SLICE);
        busy.push((processor(pid)? - before).as_secs_f64() / begun.elapsed().as_secs_f64());
    }
    Ok(Stood { resident: memory(pid, "status", "VmRSS:")?, proportional: memory(pid, "smaps_rollup", "Pss:")?, busy })
}

/// Hosts that have been let in, and say nothing more.
fn live(lab: &mut Lab) -> anyhow::Result<Swarm> {
    let mut members = Vec::new();
    for member in 0..LIVE {
        let host = lab.directory()?.add_host(&name(member), TENANT, &key(member).public())?;
        let Some(IpAddr::V4(address)) = host.inner.into_values().flatten().next().map(|net| net.addr()) else {
            anyhow::bail!("the directory gives {} no inner address", name(member))
        };
        members.push(address);
    }
    let shard = lab.topology.shards_of(TENANT).into_iter().next().context("a shard")?;
    let host = &lab.topology.hosts[0];
    let place = Place {
        node: lab.node(&host.node)?,
        at: host.outer.into(),
        gateway: SocketAddr::new(shard.gateway.into(), lab.topology.port(TENANT, shard.shard)),
        key: keys::of_shard(TENANT, shard.shard).public(),
        server: Ipv4Addr::new(172, 16, 101, 20),
    };
    let swarm = Swarm::make(&place, &members)?;
    swarm.greet()?;
    Ok(swarm)
}

/// A figure of `/proc/PID`, in MiB.
fn memory(pid: u32, file: &str, begins: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(begins)).with_context(|| format!("no {begins} of {pid}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// What all its threads have had of a processor.
fn processor(pid: u32) -> anyhow::Result<Duration> {
    Ok(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?.now()?.into())
}
