//! What the scenarios of gateways that share HaVips have in common.

use super::{Options, Way, backend_seen, stand};
use crate::lab::checks::Check;
use crate::lab::keys;
use crate::lab::ping::clock;
use crate::lab::swarm::{self, Place, Swarm};
use crate::lab::topology::{Container, Tenant, Topology, Wiring};
use crate::lab::{Counts, Error, FlowReport, Flows, Lab, Probe, Probed, Result, Transferred, poll_every, poll_until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Between two echo requests, wherever a gap is measured.
pub const OFTEN: Duration = Duration::from_millis(1);
/// Between those of a probe beside it, whose losses alone count: many at 1 ms would measure each other.
pub const SELDOM: Duration = Duration::from_millis(20);
/// For so long there must be answers before something happens, and again after.
const WARM: Duration = Duration::from_millis(200);
/// Before something happens, answers come for so long in all: what a machine does to a 1 ms ping in a shorter time says little of the time after.
pub const QUIET: Duration = Duration::from_secs(1);
/// Between two questions to all nodes while a gap is measured: on one machine each of them is in the way of packets.
pub const PAUSE: Duration = Duration::from_millis(100);
/// What a move does to packets, it does from so long before a node becomes Active to so long after: it forwards what still comes for a second.
pub const AROUND: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1500));
/// Traffic that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// From the end of an outage until every flow has proved itself: TCP's retransmission may have backed off some seconds.
const PROOF: Duration = Duration::from_secs(20);
/// What a planned handover may cost, in milliseconds.
pub const PLANNED_MS: f64 = 5.0;
/// What a failover may take beside the protocol's time, in milliseconds.
const GRACE_MS: f64 = 20.0;

/// The Active of each shard.
pub type Owners = BTreeMap<(String, u8), String>;

/// The shards of a node.
pub fn of_node(owners: &Owners, node: &str) -> BTreeSet<(String, u8)> {
    owners.iter().filter(|(_, owner)| *owner == node).map(|(of, _)| of.clone()).collect()
}

/// The group stands, everybody is attached, and every shard has an Active and a Backup with its flows.
pub fn stand_group(topology: Topology, portway: &Path, way: Way, options: &Options) -> Result<Lab> {
    let mut lab = stand(topology.with_interval(options.interval), portway, way)?;
    lab.attach_all()?;
    lab.await_in_sync()?;
    Ok(lab)
}

/// The only tenant of a [`Pair`], and its gateways: Active, when all is well, and Backup.
pub const TENANT: &str = "acme";
pub const ACTIVE: &str = "gw-1";
pub const BACKUP: &str = "gw-2";

/// Two gateways that share one shard, and flows through the one that is Active.
pub struct Pair {
    pub lab: Lab,
    /// The one that runs.
    pub backend: String,
    pub flows: Flows,
    /// Where the flows come from.
    pub container: Container,
    /// Further peers, if there are any.
    pub swarm: Option<Swarm>,
}

pub fn stand_pair(portway: &Path, way: Way, options: &Options) -> Result<Pair> {
    let mut topology = Topology::group(&[TENANT], 2, 1, &[Wiring::Veth]).with_swarm(options.peers.saturating_sub(1));
    if options.directory {
        topology = topology.with_directory();
    }
    let mut lab = stand_group(topology, portway, way, options)?;
    let backend = backend_seen(&lab, way.backend)?;
    lab.await_active(ACTIVE, TENANT, 0)?;
    let flows = open_flows(&lab, options)?;
    let container = lab.topology.containers[0].clone();
    let swarm = further_peers(&mut lab)?;
    Ok(Pair { lab, backend, flows, container, swarm })
}

/// At the first host of a lab, in front of its first shard.
pub fn place(lab: &Lab) -> Result<Place<'_>> {
    let (topology, host, tenant) = (&lab.topology, &lab.topology.hosts[0], &lab.topology.tenants[0]);
    let shard = topology.shards_of(&tenant.name).into_iter().next().expect("a tenant of a lab has a shard");
    Ok(Place {
        node: lab.node(&host.node)?,
        at: host.outer.into(),
        gateway: SocketAddr::new(shard.gateway.into(), topology.port(&tenant.name, shard.shard)),
        key: keys::of_shard(&tenant.name, shard.shard).public(),
        server: tenant.server,
    })
}

/// Puts hosts into the directory by their keys alone; the inner addresses that they get.
pub fn registered(lab: &mut Lab, hosts: u16) -> Result<Vec<Ipv4Addr>> {
    let register = |member| {
        let host = lab.directory()?.add_host(&swarm::name(member), TENANT, &swarm::key(member).public())?;
        match host.inner.into_values().flatten().next().map(|net| net.addr()) {
            Some(IpAddr::V4(address)) => Ok(address),
            other => Err(Error::State(format!("the directory gives {} the inner address {other:?}", swarm::name(member)))),
        }
    };
    (0..hosts).map(register).collect()
}

/// The further peers of a lab, each with its session.
fn further_peers(lab: &mut Lab) -> Result<Option<Swarm>> {
    let count = lab.topology.swarm;
    let members: Vec<_> = match lab.topology.directory {
        true => registered(lab, count)?,
        false => (0..count).map(|member| swarm::inner(&lab.topology.tenants[0], member)).collect(),
    };
    if members.is_empty() {
        return Ok(None);
    }
    let swarm = Swarm::make(&place(lab)?, &members)?;
    swarm.greet()?;
    lab.await_in_sync()?;
    Ok(Some(swarm))
}

/// Flows of the first tenant; they are in sync when this returns.
pub fn open_flows(lab: &Lab, options: &Options) -> Result<Flows> {
    let flows = flows_of(lab, &lab.topology.tenants[0], &counts(options, 1))?;
    lab.await_in_sync()?;
    Ok(flows)
}

/// Of each of so many tenants that share all of them.
pub fn counts(options: &Options, tenants: usize) -> Counts {
    let tcp = options.flows / tenants;
    Counts { tcp, udp: tcp / 5, idle: options.idle, ..Counts::default() }
}

/// Flows from every container of a tenant to the tenant's server.
pub fn flows_of(lab: &Lab, tenant: &Tenant, counts: &Counts) -> Result<Flows> {
    let from = lab.topology.containers.iter().filter(|c| c.tenant == tenant.name).map(|c| lab.node(&c.node)).collect::<Result<Vec<_>>>()?;
    Flows::open(&from, lab.node(&tenant.node())?, tenant.server, counts)
}

/// The longest that flows may take to prove themselves.
pub fn proof(options: &Options) -> Duration {
    options.idle + PROOF
}

/// A probe from a container to its tenant's server that is being answered.
pub fn probe(lab: &Lab, container: &Container, interval: Duration) -> Result<Probe> {
    let server = lab.topology.tenant(&container.tenant).expect("a container's tenant is in the topology").server;
    let probe = Probe::start(lab.node(&container.node)?, server, interval)?;
    poll_until("answers to a probe", PATIENCE, || Ok(probe.answered() >= answers(&probe, WARM)))?;
    Ok(probe)
}

/// Something is about to happen, once it has been quiet for a while.
pub fn mark(probes: &[Probe]) -> Result<()> {
    mark_after(probes, QUIET)
}

/// As [`mark`], after so long.
pub fn mark_after(probes: &[Probe], quiet: Duration) -> Result<()> {
    let all = || Ok(probes.iter().all(|probe| probe.answered() >= answers(probe, quiet)));
    poll_until("answers to all probes", quiet + PATIENCE, all)?;
    probes.iter().for_each(Probe::mark);
    Ok(())
}

/// Whether a probe is still, or again, being answered.
pub fn goes_on(probe: &Probe) -> bool {
    let from = probe.answered();
    poll_until("answers to a probe", PATIENCE, || Ok(probe.answered() >= from + answers(probe, WARM))).is_ok()
}

/// One for each shard that will move: the first asks as often as this and measures the gap, the others see losses.
pub fn probe_all(lab: &Lab, moving: &[u8], often: Duration) -> Result<Vec<Probe>> {
    let containers = lab.topology.containers.iter().filter(|c| c.shard.is_some_and(|s| moving.contains(&s)));
    containers
        .zip(std::iter::once(often).chain(std::iter::repeat(SELDOM.max(often))))
        .map(|(c, interval)| probe(lab, c, interval))
        .collect()
}

/// Waits until every shard is where it belongs.
pub fn await_homes(lab: &Lab, homes: &Owners, within: Duration) -> Result<()> {
    poll_every(PAUSE, "every shard where it belongs", within, || Ok(lab.owners()?.as_ref() == Some(homes)))
        .map_err(|error| error.detailed(|| format!("; wanted: {homes:?}; now: {:?}", lab.owners().ok().flatten())))
}

/// When a shard came to a node that has it, by the clock of probes.
pub fn came_at(lab: &Lab, node: &str, of: &(String, u8)) -> Result<Duration> {
    let shards = lab.shards_at(node)?.unwrap_or_default();
    let now = clock();
    let shard = shards.into_iter().find(|shard| (shard.tenant.as_str(), shard.shard) == (of.0.as_str(), u16::from(of.1)));
    let since = shard.and_then(|shard| Duration::try_from_secs_f64(shard.for_s).ok());
    since
        .map(|since| now.saturating_sub(since))
        .ok_or_else(|| Error::State(format!("{node} does not say since when it has {}/{}", of.0, of.1)))
}

/// Whether all went on, the losses of all, and the first one's times.
pub fn ended(probes: Vec<Probe>) -> (bool, Probed) {
    let went_on = probes.iter().all(goes_on);
    let mut probed = probes.into_iter().map(Probe::stop);
    let first = probed.next().unwrap_or(Probed { sent: 0, lost: 0, gap_ms: 0.0, quiet_ms: 0.0, asked_ms: 0.0 });
    let all = probed.fold(first, |all, one| Probed { sent: all.sent + one.sent, lost: all.lost + one.lost, ..all });
    (went_on, all)
}

/// How many come in this time.
fn answers(probe: &Probe, within: Duration) -> u64 {
    u64::try_from(within.as_nanos() / probe.interval().as_nanos().max(1)).unwrap_or(u64::MAX)
}

/// What the crash of an Active may cost in milliseconds, when the Backup that follows has this priority: RFC 9568's
/// Active_Down_Interval (section 6.1) and a little.
pub fn bound_ms(interval: Duration, priority: u8) -> f64 {
    let interval = interval.as_secs_f64() * 1e3;
    3.0 * interval + f64::from(256 - u16::from(priority)) / 256.0 * interval + GRACE_MS
}

/// As a check: no answer was missing for more than `bound` milliseconds beside what was missing before anything happened. The latter is the
/// machine's doing, and goes on doing it.
pub fn within(claim: impl Into<String>, subject: impl Into<String>, bound: f64, probed: &Probed) -> Check {
    within_ms(claim, subject, bound, (probed.gap_ms, probed.quiet_ms))
}

/// As [`within`]: what was missing, and what was beside it, in milliseconds.
pub fn within_ms(claim: impl Into<String>, subject: impl Into<String>, bound: f64, (gap_ms, quiet_ms): (f64, f64)) -> Check {
    Check::new(
        claim,
        subject,
        gap_ms <= bound + quiet_ms,
        format!("{gap_ms:.1} ms; at most {bound:.0} ms, and {quiet_ms:.1} ms by the machine's own doing"),
    )
}

/// As a check: every request was answered.
pub fn lost_nothing(claim: impl Into<String>, subject: impl Into<String>, probed: &Probed) -> Check {
    Check::new(claim, subject, probed.lost == 0, pings(probed))
}

pub fn pings(probed: &Probed) -> String {
    let Probed { sent, lost, gap_ms, quiet_ms, asked_ms } = probed;
    format!("{lost} of {sent} pings lost, gap {gap_ms:.1} ms ({quiet_ms:.1} ms before; asked every {asked_ms:.1} ms at worst)")
}

/// As a check: something that was waited for came about.
pub fn came_about<T>(claim: impl Into<String>, subject: impl Into<String>, waited: &Result<T>) -> Check {
    Check::new(claim, subject, waited.is_ok(), waited.as_ref().err().map_or("yes".into(), ToString::to_string))
}

/// The figures of flows, and the checks of them.
pub fn of_flows(report: &FlowReport) -> (Value, Vec<Check>) {
    let tcp = report.all_tcp();
    let figures = json!({
        "flows": tcp.opened,
        "survived": tcp.survived,
        "udp_flows": report.udp.opened,
        "udp_survived": report.udp.survived,
        "kinds": report.tcp,
        "resets": report.resets,
        "corrupt": report.corrupt,
        "why": report.why,
    });
    let checks = vec![
        Check::new("every established connection goes on", "", tcp.survived == tcp.opened, report.summary()),
        Check::new(
            "every UDP flow keeps its address and port",
            "",
            report.udp.survived == report.udp.opened,
            format!("{} of {}", report.udp.survived, report.udp.opened),
        ),
    ];
    (figures, checks)
}

/// The figures of transfers, and the check of them.
pub fn of_transfers(transferred: &[Transferred]) -> (Value, Check) {
    let harmed = transferred.iter().filter(|one| !one.ok).count();
    let figures = json!({
        "transfers": transferred.len(),
        "transfers_harmed": harmed,
        "transfer_bytes": transferred.iter().map(|one| one.bytes).sum::<u64>(),
    });
    let fault = transferred.iter().find_map(|one| one.fault.as_ref());
    let detail = format!("{harmed} of {} harmed: {fault:?}", transferred.len());
    (figures, Check::new("every transfer goes on unharmed", "", harmed == 0, detail))
}

/// One object of several.
pub fn merged(parts: impl IntoIterator<Item = Value>) -> Value {
    let maps = parts.into_iter().filter_map(|part| if let Value::Object(map) = part { Some(map) } else { None });
    Value::Object(maps.flatten().collect())
}
