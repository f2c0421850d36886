//! A group grows by a node, or loses one, under load: shards move once their connections are known elsewhere, and nobody notices.

use super::group::{
    AROUND, Owners, PAUSE, PLANNED_MS, QUIET, await_homes, came_about, came_at, ended, goes_on, lost_nothing, mark_after, merged, of_flows,
    of_node, of_transfers, open_flows, pings, probe, probe_all, proof, stand_group, within,
};
use super::{Options, Outcome, Scenario, Way, backend_seen, slowed};
use crate::kernel::conntrack::{Filter, FlowDump};
use crate::lab::checks::Check;
use crate::lab::ha::Watch;
use crate::lab::losses::Losses;
use crate::lab::ping::clock;
use crate::lab::topology::{Topology, Wiring, port};
use crate::lab::{Error, Flows, Kill, Lab, Probe, Probed, Result, ShardStatus, Transfer, Transferred, http, poll_every, poll_until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TENANT: &str = "acme";
/// With fewer there is no Backup while a node is missing.
const FEWEST: usize = 3;
/// Shards that have not moved for so long are at home.
const STILL: Duration = Duration::from_secs(2);
/// Shards move so long after they could: the start of a node is over by then, and has its own figures. On one machine a start disturbs all nodes.
const PREEMPT: Duration = Duration::from_secs(8);
/// Intervals from one node that is told of a change to the next: whoever took a shard for dead because its list is older would have it by then.
const PACE: u32 = 8;
/// The longest that a node may take to be without shards and connections: as long as a function may run, and `portway drain` waits.
const DEADLINE: Duration = Duration::from_secs(350);
/// For connections to be known to a node that has come, and for shards to be at home.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second of each transfer beside a 1 ms ping; there is one through each shard.
const SPEED: u64 = 1 << 20;
/// The longest that a shard may seem to have two Actives, or nobody else to keep its connections: the nodes are asked one after the other.
const SEEMING: Duration = Duration::from_millis(250);

/// A group under load that is about to change.
struct Stage<'o> {
    lab: Lab,
    way: Way,
    options: &'o Options,
    backend: String,
    before: Owners,
    flows: Flows,
    transfers: Vec<Transfer>,
    watch: Watch,
    contested: u64,
    lost: Losses,
}

/// What a part of the change cost those whose shards move.
struct Cost {
    went_on: bool,
    probed: Probed,
    /// The longest gap, in milliseconds, of a shard that stayed where it is, while others moved.
    beside_ms: f64,
}

pub(super) fn out(portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let newcomer = last(options);
    let mut stage = Stage::stand(topology(options).with_absent(&newcomer), portway, way, options)?;
    let there = stage.members();
    stage.lab.topology.group.iter_mut().for_each(|group| group.absent.clear());
    let homes = stage.lab.topology.homes();
    let moving = of_node(&homes, &newcomer);

    let probes = stage.probes(&moving, PREEMPT)?;
    if !stage.by_directory() {
        stage.regroup(&there)?;
    }
    stage.lab.start_gateway(&newcomer, portway, way.backend)?;
    if stage.by_directory() {
        stage.await_group(&stage.members())?;
    }
    let lab = &stage.lab;
    let known = poll_every(PAUSE, "the connections of its shards at the newcomer", PATIENCE, || {
        let shards = lab.shards_at(&newcomer)?.unwrap_or_default();
        Ok(shards.len() >= moving.len() && shards.iter().all(|shard| shard.in_sync == Some(true)))
    });
    let start = Cost::of(probes);

    let (probes, beside) = (stage.probes(&moving, QUIET)?, stage.beside(&moving)?);
    let early = stage.early(&newcomer, &start)?;
    let home = await_homes(&stage.lab, &homes, PATIENCE);
    let cost = Cost::of_move(probes, beside, stage.moved(&homes, &moving)?).after(&start);
    let spare = stage.await_no_spare();

    let (figures, mut checks) = early;
    checks.extend([
        came_about("the newcomer learns all connections of its shards", &newcomer, &known),
        came_about("every shard is where it belongs", &newcomer, &home),
        came_about("who made room lets go of what it kept", &newcomer, &spare),
    ]);
    stage.outcome(Scenario::ScaleOut, &newcomer, &moving, &cost, figures, checks)
}

pub(super) fn back(portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let leaver = last(options);
    let mut stage = Stage::stand(topology(options), portway, way, options)?;
    let moving = of_node(&stage.before, &leaver);
    stage.lab.topology.group.iter_mut().for_each(|group| _ = group.leaving.insert(leaver.clone()));
    let homes = stage.lab.topology.homes();

    let probes = stage.probes(&moving, PREEMPT)?;
    let begun = Instant::now();
    // The one that leaves last.
    let all = stage.members();
    let leave = if stage.by_directory() {
        let leave = stage.leave(&leaver)?;
        stage.await_group(&all)?;
        Some(leave)
    } else {
        stage.regroup(&all)?;
        None
    };
    let lab = &stage.lab;
    let known = poll_every(PAUSE, "the connections of its shards at two others", PATIENCE, || {
        let status = lab.group_status()?;
        let others = |(node, shards): (&String, &Vec<ShardStatus>)| if *node == leaver { vec![] } else { shards.clone() };
        let others: Vec<ShardStatus> = status.iter().flat_map(others).filter(|shard| shard.in_sync == Some(true)).collect();
        Ok(moving.iter().all(|(_, of)| others.iter().filter(|shard| shard.shard == u16::from(*of)).count() == 2))
    });
    let start = Cost::of(probes);

    let (probes, beside) = (stage.probes(&moving, QUIET)?, stage.beside(&moving)?);
    let early = stage.early(&leaver, &start)?;
    let home = await_homes(&stage.lab, &homes, PATIENCE);
    let cost = Cost::of_move(probes, beside, stage.moved(&homes, &moving)?).after(&start);
    let lab = &stage.lab;
    let empty = poll_until("a node without shards and connections", DEADLINE.saturating_sub(begun.elapsed()), || {
        Ok(lab.shards_at(&leaver)?.is_some_and(|shards| shards.is_empty()) && connections(lab, &leaver)? == 0)
    });
    let drained_s = begun.elapsed().as_secs_f64();
    let live = connections(lab, &leaver)?;
    let said = match leave {
        Some(leave) => leave.join().expect("asking does not panic")?,
        None => http::unix_ok(&lab.socket(&leaver)?, "POST", "/v1/drain", None)?.body,
    };
    let said: Value = serde_json::from_str(&said).map_err(|_| Error::Unreadable { what: format!("the drain of {leaver}"), body: said })?;

    stage.contested += contested(&stage.lab, &leaver)?;
    stage.lost.look(&stage.lab)?;
    stage.lab.fail(&leaver, Kill::Sigterm)?;
    let ended = stage.lab.daemon(&leaver)?.left(PATIENCE)?;
    stage.lab.topology.group.iter_mut().for_each(|group| {
        group.leaving.clear();
        group.absent.insert(leaver.clone());
    });
    if stage.by_directory() {
        // It has said itself that it is gone.
        stage.await_group(&stage.members())?;
    } else {
        stage.regroup(&stage.members())?;
    }
    stage.lab.await_in_sync()?;
    let settled = stage.lab.await_settled(still(options))?;

    let (figures, mut checks) = early;
    checks.extend([
        came_about("two others learn all connections of its shards", &leaver, &known),
        came_about("every shard is where it belongs", &leaver, &home),
        came_about("the node that leaves has no shard and no connection any more", &leaver, &empty),
        Check::new(
            format!("it is drained within {} s", DEADLINE.as_secs()),
            &leaver,
            live == 0 && drained_s <= DEADLINE.as_secs_f64(),
            format!("{live} connections after {drained_s:.1} s"),
        ),
        Check::new("it says that it is drained", &leaver, said["kept"] == json!([]), said.to_string()),
        Check::new("it ends in order", &leaver, ended.is_some_and(|status| status.success()), format!("{ended:?}")),
        Check::new("nothing moves when it is taken off the lists", &leaver, settled == homes, format!("{settled:?}")),
    ]);
    let figures = merged([figures, json!({ "drained_s": drained_s, "live_flows": live })]);
    stage.outcome(Scenario::ScaleIn, &leaver, &moving, &cost, figures, checks)
}

impl<'o> Stage<'o> {
    fn stand(topology: Topology, portway: &Path, way: Way, options: &'o Options) -> Result<Self> {
        let lab = stand_group(topology, portway, way, options)?;
        let (backend, before) = (backend_seen(&lab, way.backend)?, lab.await_settled(PREEMPT + still(options))?);
        let flows = open_flows(&lab, options)?;
        let server = SocketAddr::from((lab.topology.tenants[0].server, port::ECHO));
        let start = |node: &String| Transfer::start(lab.node(node)?, server, Some(slowed(SPEED, options.ping)));
        let transfers = lab.topology.containers.iter().map(|container| start(&container.node)).collect::<Result<_>>()?;
        let (watch, mut contested) = (Watch::start(&lab), 0);
        for gateway in lab.topology.members() {
            contested += self::contested(&lab, &gateway.node)?;
        }
        let lost = Losses::begin(&lab)?;
        Ok(Self { lab, way, options, backend, before, flows, transfers, watch, contested: 0u64.wrapping_sub(contested), lost })
    }

    fn members(&self) -> Vec<String> {
        self.lab.topology.members().map(|gateway| gateway.node.clone()).collect()
    }

    /// One after the other, as a person would: nobody minds that lists differ meanwhile.
    fn regroup(&mut self, nodes: &[String]) -> Result<()> {
        for node in nodes {
            self.lab.regroup(node, self.way.backend)?;
            std::thread::sleep(self.options.interval * PACE);
        }
        Ok(())
    }

    fn by_directory(&self) -> bool {
        self.lab.topology.group.as_ref().is_some_and(|group| group.by_directory)
    }

    /// Nobody is told but by the directory.
    fn await_group(&self, nodes: &[String]) -> Result<()> {
        nodes.iter().try_for_each(|node| self.lab.await_group(node))
    }

    /// As `portway drain --leave` asks for it; what the answer is.
    fn leave(&self, node: &str) -> Result<JoinHandle<Result<String>>> {
        let (socket, body) = (self.lab.socket(node)?, json!({ "leave": true, "deadline_s": DEADLINE.as_secs_f64() }).to_string());
        let ask = move || Ok(http::unix_ok_within(&socket, "POST", "/v1/drain", Some(&body), DEADLINE + PATIENCE)?.body);
        Ok(std::thread::spawn(ask))
    }

    /// Through the shards that are to move, once it has been quiet for a while.
    fn probes(&self, moving: &BTreeSet<(String, u8)>, quiet: Duration) -> Result<Vec<Probe>> {
        let shards: Vec<u8> = moving.iter().map(|(_, shard)| *shard).collect();
        let probes = probe_all(&self.lab, &shards, self.options.ping)?;
        mark_after(&probes, quiet)?;
        Ok(probes)
    }

    /// Through one that stays where it is, as often.
    fn beside(&self, moving: &BTreeSet<(String, u8)>) -> Result<Option<Probe>> {
        let stays = |shard: &u8| !moving.iter().any(|(_, moves)| moves == shard);
        let container = self.lab.topology.containers.iter().find(|container| container.shard.as_ref().is_some_and(stays));
        container.map(|container| probe(&self.lab, container, self.options.ping)).transpose()
    }

    /// What it cost until everybody knows what is to move, and that nothing has moved by then.
    fn early(&self, node: &str, start: &Cost) -> Result<(Value, Vec<Check>)> {
        let owners = self.lab.owners()?;
        let checks = vec![
            Check::new(
                "no shard moves before its connections are known",
                node,
                owners.as_ref() == Some(&self.before),
                format!("{owners:?}"),
            ),
            Check::new("traffic goes on while lists change and connections are told", "", start.went_on, pings(&start.probed)),
            lost_nothing("lists that change, and connections that are told, lose no packet", "", &start.probed),
        ];
        Ok((json!({ "start_gap_ms": start.probed.gap_ms, "start_lost": start.probed.lost }), checks))
    }

    /// When the shard moved through which the first probe goes, by the clock of probes.
    fn moved(&self, homes: &Owners, moving: &BTreeSet<(String, u8)>) -> Result<Duration> {
        let probed = self.lab.topology.containers.iter().find_map(|container| {
            let of = (container.tenant.clone(), container.shard?);
            moving.contains(&of).then_some(of)
        });
        let of = probed.ok_or_else(|| Error::State("no container is in front of a shard that moves".into()))?;
        came_at(&self.lab, &homes[&of], &of)
    }

    fn await_no_spare(&self) -> Result<()> {
        poll_until("nothing kept by who is no candidate", PATIENCE, || {
            Ok(self.lab.group_status()?.values().flatten().all(|shard| !shard.spare))
        })
    }

    fn outcome(
        mut self,
        scenario: Scenario,
        node: &str,
        moving: &BTreeSet<(String, u8)>,
        cost: &Cost,
        figures: Value,
        mut checks: Vec<Check>,
    ) -> Result<Outcome> {
        for member in self.members() {
            self.contested = self.contested.wrapping_add(contested(&self.lab, &member)?);
        }
        let (seen, contested, after) = (self.watch.stop(), self.contested, self.lab.owners()?.unwrap_or_default());
        let transferred: Vec<Transferred> = self.transfers.into_iter().map(Transfer::stop).collect();
        let (of_transfers, unharmed) = of_transfers(&transferred);
        let (of_flows, of_all) = of_flows(&self.flows.verify(proof(self.options)));
        let moved: BTreeSet<(String, u8)> =
            self.before.iter().filter(|(of, node)| after.get(*of) != Some(node)).map(|(of, _)| of.clone()).collect();
        let probed = &cost.probed;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let common = json!({
            "node": node,
            "shards": self.before.len(),
            "moved": moved.len(),
            "bound_ms": PLANNED_MS,
            "beside_ms": cost.beside_ms,
            "both_active_ms": ms(seen.both),
            "contested": contested,
            "unguarded_ms": ms(seen.unguarded),
            "looks": seen.looks,
            "dropped": self.lost.look(&self.lab)?,
        });
        checks.extend([
            Check::new("its shards move, and no other", node, !moving.is_empty() && moved == *moving, format!("{moved:?} moved")),
            Check::new("traffic goes on", "", cost.went_on, pings(probed)),
            lost_nothing("the move loses no packet", "", probed),
            within(format!("the gap of the move is at most {PLANNED_MS:.0} ms"), "", PLANNED_MS, probed),
            Check::new(
                "no two nodes are Active for one shard",
                "",
                contested == 0 && seen.both <= SEEMING,
                format!("{contested} contested; {:?} at most in {} looks", seen.both, seen.looks),
            ),
            Check::new(
                "somebody else always has a shard's connections",
                "",
                seen.unguarded <= SEEMING,
                format!("nobody for {:?} at most in {} looks", seen.unguarded, seen.looks),
            ),
            unharmed,
        ]);
        checks.extend(of_all);
        Ok(Outcome::new(scenario, self.backend, merged([common, figures, json!(probed), of_flows, of_transfers]), checks))
    }
}

impl Cost {
    fn of(probes: Vec<Probe>) -> Self {
        let (went_on, probed) = ended(probes);
        Self { went_on, probed, beside_ms: 0.0 }
    }

    /// The gap is that around the move: what a busy machine does to a 1 ms ping in the seconds before says nothing of it. What a shard that
    /// stays where it is feels at the same time is no move's doing.
    fn of_move(probes: Vec<Probe>, beside: Option<Probe>, moved: Duration) -> Self {
        let (from, to) = (moved.saturating_sub(AROUND.0), moved + AROUND.1);
        std::thread::sleep(to.saturating_sub(clock()));
        let went_on = probes.iter().all(goes_on);
        let gap = probes.first().map(|probe| probe.gap_within(from, to));
        let mut cost = Self::of(probes);
        cost.went_on &= went_on;
        gap.iter().for_each(|gap| cost.probed.gap_ms = gap.as_secs_f64() * 1e3);
        if let Some(beside) = beside {
            cost.beside_ms = beside.gap_within(from, to).as_secs_f64() * 1e3;
            beside.stop();
        }
        cost.probed.quiet_ms = cost.probed.quiet_ms.max(cost.beside_ms);
        cost
    }

    /// With what the machine did by itself before anything was changed: for as long as shards wait before they move, as the longest gap of
    /// a second is not that of many.
    fn after(mut self, start: &Self) -> Self {
        self.probed.quiet_ms = self.probed.quiet_ms.max(start.probed.quiet_ms);
        self
    }
}

fn nodes(options: &Options) -> usize {
    options.nodes.max(FEWEST)
}

/// Who comes, or goes.
fn last(options: &Options) -> String {
    format!("gw-{}", nodes(options))
}

fn topology(options: &Options) -> Topology {
    let topology = Topology::group(&[TENANT], nodes(options), options.shards, &[Wiring::Veth]);
    let topology = topology.with_containers(options.shards).with_preempt(PREEMPT);
    if options.directory { topology.with_group_by_directory() } else { topology }
}

fn still(options: &Options) -> Duration {
    STILL.max(options.interval * 20)
}

/// How often a node that was Active has heard another that was, too.
fn contested(lab: &Lab, node: &str) -> Result<u64> {
    let value = lab.metrics(node)?.get("portway_vrrp_announcements_total{why=\"contested\"}").copied();
    value.map(|value| value as u64).ok_or_else(|| Error::State(format!("the metrics of {node} do not say how often Actives met")))
}

/// Connections of functions that a node's kernel has, read there.
fn connections(lab: &Lab, node: &str) -> Result<u64> {
    let inner = lab.topology.tenants[0].inner;
    let count = || {
        let (mut count, mut dump) = (0, FlowDump::start(Filter::default())?);
        while dump.next(|flow| count += u64::from(matches!(flow.key.source, IpAddr::V4(source) if inner.contains(&source))))? {}
        Ok::<u64, crate::kernel::KernelError>(count)
    };
    lab.node(node)?.run(count).map_err(|error| Error::State(format!("the connections of {node} cannot be read: {error}")))
}
