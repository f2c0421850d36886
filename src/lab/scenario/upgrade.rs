//! The gateways of a pair get another program under load, one after the other, as docs/operations.md has it: nobody notices.

use super::group::{
    AROUND, Owners, PAUSE, PLANNED_MS, SELDOM, await_homes, came_at, counts, ended, flows_of, goes_on, lost_nothing, merged, of_flows,
    of_node, of_transfers, pings, probe, proof, stand_group, within_ms,
};
use super::{Options, Outcome, Scenario, Way, backend_seen, slowed};
use crate::lab::checks::Check;
use crate::lab::error::During;
use crate::lab::http::unix_ok_within;
use crate::lab::losses::Losses;
use crate::lab::ping::clock;
use crate::lab::topology::{Container, Topology, Wiring, port};
use crate::lab::{Error, FlowReport, Flows, Lab, Probe, Probed, Result, Transfer, Transferred, poll_every, unix_ok};
use serde::Serialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const TENANTS: [&str; 2] = ["acme", "blue"];
/// Of each tenant. Each of the two gateways is home to one, so either one's upgrade moves connections of both tenants, there and back.
const SHARDS: usize = 2;
/// Shards go home so long after they could. The machine's own doing is measured meanwhile, and for as long before anything begins.
const PREEMPT: Duration = Duration::from_secs(4);
/// For each step: a drain, the end of a program, connections that are told, shards that go home.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second of each transfer beside a 1 ms ping; there is one through each shard.
const SPEED: u64 = 1 << 20;
/// Seconds that UDP flows may be silent (nf_conntrack_udp_timeout): by default machines forget them after 30, which is no upgrade's doing.
const SILENT_S: u32 = 600;

pub(super) fn run(portway: &Path, way: Way, options: &Options) -> Result<Outcome> {
    let (from, to) = (version(portway)?, options.to.as_deref().map(|to| other(portway, to)).transpose()?);
    let mut stage = Stage::stand(portway, way, options)?;
    let next = to.map_or_else(|| copied(portway, stage.lab.dir().path()), Ok)?;
    let versions = json!({ "from": from, "to": version(&next)? });
    let nodes: Vec<String> = stage.lab.topology.members().map(|gateway| gateway.node.clone()).collect();
    let all = nodes.iter().map(|node| stage.replace(node, &next)).collect::<Result<Vec<Replaced>>>()?;
    stage.outcome(&next, versions, all, options)
}

/// A pair under load.
struct Stage {
    lab: Lab,
    backend: String,
    homes: Owners,
    flows: Vec<Flows>,
    transfers: Vec<Transfer>,
    /// Those that measure gaps, one through a shard of each gateway and each of another tenant, with where the shard belongs.
    often: Vec<((String, u8), Probe)>,
    /// Those whose losses alone count, through the other shards.
    seldom: Vec<Probe>,
    lost: Losses,
}

/// How a node got its other program.
#[derive(Debug, Serialize)]
struct Replaced {
    node: String,
    /// Shards that went and came back.
    shards: usize,
    /// Seconds until the drain was answered; from SIGTERM until the other program was ready; until it knew all connections; until it had
    /// its shards again, for [`PREEMPT`] of which they wait; all of it.
    drained_s: f64,
    ready_s: f64,
    in_sync_s: f64,
    home_s: f64,
    took_s: f64,
    /// The longest time without an answer, in milliseconds, before anything was done to this node.
    quiet_ms: f64,
    away: Gap,
    /// The same while the one program ended and the other began, of pings that the other node forwards.
    start_gap_ms: f64,
    home: Gap,
    #[serde(skip)]
    checks: Vec<Check>,
}

/// The longest times without an answer, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Gap {
    /// Around the move, of a shard that moves.
    gap_ms: f64,
    /// At the same time, of one that stays where it is.
    beside_ms: f64,
}

impl Replaced {
    /// What the machine did by itself, in milliseconds: before, and to what stays where it is.
    fn machine_ms(&self, gap: &Gap) -> f64 {
        self.quiet_ms.max(gap.beside_ms)
    }

    fn moves(&self) -> [&Gap; 2] {
        [&self.away, &self.home]
    }

    /// The most by which a gap was longer than what the machine did by itself.
    fn beyond_ms(&self) -> f64 {
        self.moves().into_iter().map(|gap| gap.gap_ms - self.machine_ms(gap)).fold(self.start_gap_ms - self.quiet_ms, f64::max)
    }

    fn gaps(&self) -> [Check; 3] {
        let within = |when: &str, gap_ms, machine_ms| {
            within_ms(format!("the gap is at most {PLANNED_MS:.0} ms when {when}"), &self.node, PLANNED_MS, (gap_ms, machine_ms))
        };
        [
            within("it is drained", self.away.gap_ms, self.machine_ms(&self.away)),
            within("the other program starts", self.start_gap_ms, self.quiet_ms),
            within("its shards come home", self.home.gap_ms, self.machine_ms(&self.home)),
        ]
    }
}

impl Stage {
    fn stand(portway: &Path, way: Way, options: &Options) -> Result<Self> {
        let topology = Topology::group(&TENANTS, 2, SHARDS, &[Wiring::Veth]).with_containers(SHARDS).with_preempt(PREEMPT);
        let lab = stand_group(topology, portway, way, options)?;
        let (backend, homes) = (backend_seen(&lab, way.backend)?, lab.topology.homes());
        await_homes(&lab, &homes, PATIENCE)?;
        for node in lab.topology.gateways.iter().map(|gateway| &gateway.node).chain(lab.topology.hosts.iter().map(|host| &host.node)) {
            let keep = || std::fs::write("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", SILENT_S.to_string());
            lab.node(node)?.run(keep).during(format!("have {node} keep silent UDP flows"))?;
        }
        let counts = counts(options, TENANTS.len());
        let flows = lab.topology.tenants.iter().map(|tenant| flows_of(&lab, tenant, &counts)).collect::<Result<_>>()?;
        lab.await_in_sync()?;
        let transfer = |container: &Container| {
            let server = lab.topology.tenant(&container.tenant).expect("a container's tenant is in the topology").server;
            Transfer::start(lab.node(&container.node)?, SocketAddr::from((server, port::ECHO)), Some(slowed(SPEED, options.ping)))
        };
        let transfers = lab.topology.containers.iter().map(transfer).collect::<Result<_>>()?;
        let (mut often, mut seldom) = (vec![], vec![]);
        for container in &lab.topology.containers {
            let of = (container.tenant.clone(), container.shard.unwrap_or_default());
            let measures = homes.get(&of).zip(TENANTS.iter().position(|tenant| *tenant == of.0));
            if measures.is_some_and(|(home, place)| *home == lab.topology.gateways[place].node) {
                often.push((of, probe(&lab, container, options.ping)?));
            } else {
                seldom.push(probe(&lab, container, SELDOM.max(options.ping))?);
            }
        }
        let lost = Losses::begin(&lab)?;
        Ok(Self { lab, backend, homes, flows, transfers, often, seldom, lost })
    }

    fn replace(&mut self, node: &str, next: &Path) -> Result<Replaced> {
        let (before, mine) = (clock(), of_node(&self.homes, node));
        let of = self.often.iter().map(|(of, _)| of).find(|of| mine.contains(of)).cloned();
        let of = of.ok_or_else(|| Error::State(format!("no ping goes through a shard of {node}")))?;
        std::thread::sleep(PREEMPT);
        let quiet_ms = self.longest(|_| true, (before, clock()));

        let (begun, asked, socket) = (Instant::now(), clock(), self.lab.socket(node)?);
        let said = unix_ok_within(&socket, "POST", "/v1/drain", None, PATIENCE)?.body;
        let drained_s = begun.elapsed().as_secs_f64();
        let other = self.elsewhere(node, &of)?;
        let away = self.gap(&of, (asked, came_at(&self.lab, &other, &of)?))?;

        self.lost.look(&self.lab)?;
        let (stopped, gone) = (Instant::now(), clock());
        let daemon = self.lab.daemon(node)?;
        let former = daemon.pid();
        daemon.terminate()?;
        let late = || Error::Late { what: format!("the end of {node}'s former program"), after: PATIENCE, detail: String::new() };
        let ended = daemon.left(PATIENCE)?.ok_or_else(late)?;
        daemon.start_other(next)?;
        self.lost.daemon_ended(node);
        let (ready_s, ready) = (stopped.elapsed().as_secs_f64(), Instant::now());
        let another = daemon.pid() != former && file_of(daemon.pid())? == file(next)?;
        unix_ok(&socket, "DELETE", "/v1/drain", None)?;
        poll_every(PAUSE, "every shard in sync", PATIENCE, || self.lab.in_sync())?;
        let (in_sync_s, in_sync, known) = (ready.elapsed().as_secs_f64(), Instant::now(), clock());
        let went_on = self.go_on();
        let start_gap_ms = self.longest(|_| true, (gone, known));

        await_homes(&self.lab, &self.homes, PATIENCE)?;
        let (home_s, took_s) = (in_sync.elapsed().as_secs_f64(), begun.elapsed().as_secs_f64());
        let back = came_at(&self.lab, node, &of)?;
        let home = self.gap(&of, (back, back))?;

        let kept = serde_json::from_str::<Value>(&said).is_ok_and(|said| said["kept"] == json!([]));
        let checks = vec![
            Check::new("it hands all shards over", node, kept, said),
            Check::new("the former program ends in order", node, ended.success(), ended.to_string()),
            Check::new("the other program runs in its place", node, another, next.display().to_string()),
            Check::new("traffic goes on when the other program has started", node, went_on, format!("gap {start_gap_ms:.1} ms")),
        ];
        let (node, shards) = (node.to_owned(), mine.len());
        let mut replaced =
            Replaced { node, shards, drained_s, ready_s, in_sync_s, home_s, took_s, quiet_ms, away, start_gap_ms, home, checks };
        let gaps = replaced.gaps();
        replaced.checks.extend(gaps);
        Ok(replaced)
    }

    /// Who has a shard once `node` has none.
    fn elsewhere(&self, node: &str, of: &(String, u8)) -> Result<String> {
        let mut after = Owners::new();
        poll_every(PAUSE, &format!("other Actives for the shards of {node}"), PATIENCE, || {
            after = self.lab.owners()?.unwrap_or_default();
            Ok(!after.is_empty() && after.values().all(|now| now != node))
        })?;
        Ok(after.remove(of).unwrap_or_default())
    }

    /// Around a move that began at `from` and ended at `moved`. Returns when all of that is over.
    fn gap(&self, of: &(String, u8), (from, moved): (Duration, Duration)) -> Result<Gap> {
        let (from, to) = (from.saturating_sub(AROUND.0), moved + AROUND.1);
        std::thread::sleep(to.saturating_sub(clock()));
        if !self.go_on() {
            return Err(Error::State(format!("no pings are answered any more after {}/{} has moved", of.0, of.1)));
        }
        Ok(Gap { gap_ms: self.longest(|through| through == of, (from, to)), beside_ms: self.longest(|through| through != of, (from, to)) })
    }

    fn go_on(&self) -> bool {
        self.often.iter().map(|(_, probe)| probe).chain(&self.seldom).all(goes_on)
    }

    /// The longest gap in milliseconds between these times, of these.
    fn longest(&self, those: impl Fn(&(String, u8)) -> bool, (from, to): (Duration, Duration)) -> f64 {
        let gaps = self.often.iter().filter(|(of, _)| those(of)).map(|(_, probe)| probe.gap_within(from, to));
        gaps.max().unwrap_or_default().as_secs_f64() * 1e3
    }

    fn outcome(mut self, next: &Path, versions: Value, mut all: Vec<Replaced>, options: &Options) -> Result<Outcome> {
        let (owners, mut runs) = (self.lab.owners()?, vec![]);
        for Replaced { node, .. } in &all {
            runs.push(file_of(self.lab.daemon(node)?.pid())? == file(next)?);
        }
        let (went_on, probed) = ended(self.often.into_iter().map(|(_, probe)| probe).chain(self.seldom).collect());
        let transferred: Vec<Transferred> = self.transfers.into_iter().map(Transfer::stop).collect();
        let (of_transfers, unharmed) = of_transfers(&transferred);
        let report = self.flows.into_iter().map(|flows| flows.verify(proof(options))).reduce(FlowReport::and);
        let report = report.ok_or_else(|| Error::State("a lab without tenants".into()))?;
        let resets = report.resets as u64 + transferred.iter().map(|one| one.resets).sum::<u64>();

        let moves = || all.iter().flat_map(|one| one.moves().map(|gap| (one, gap)));
        let gap_ms = moves().map(|(_, gap)| gap.gap_ms).fold(0.0, f64::max);
        let quiet_ms = moves().map(|(one, gap)| one.machine_ms(gap)).fold(0.0, f64::max);
        let probed = Probed { gap_ms, quiet_ms, ..probed };
        let mut checks: Vec<Check> = all.iter_mut().flat_map(|one| std::mem::take(&mut one.checks)).collect();
        let (of_flows, more) = of_flows(&report);
        checks.extend([
            Check::new("both run the other program at the end", "", runs.iter().all(|other| *other), format!("{runs:?}")),
            Check::new("every shard is where it belongs at the end", "", owners.as_ref() == Some(&self.homes), format!("{owners:?}")),
            Check::new("traffic goes on", "", went_on, pings(&probed)),
            lost_nothing("no packet is lost", "", &probed),
            Check::new("no connection is reset", "", resets == 0, format!("{resets} resets")),
            unharmed,
        ]);
        checks.extend(more);
        let figures = json!({
            "nodes": all,
            "dropped": self.lost.look(&self.lab)?,
            "start_gap_ms": all.iter().map(|one| one.start_gap_ms).fold(0.0, f64::max),
            "beyond_ms": all.iter().map(Replaced::beyond_ms).fold(f64::MIN, f64::max),
            "bound_ms": PLANNED_MS,
            "resets": resets,
        });
        Ok(Outcome::new(Scenario::Upgrade, self.backend, merged([versions, json!(probed), of_flows, figures, of_transfers]), checks))
    }
}

/// Another file than the one that runs, and a portway.
fn other(portway: &Path, to: &Path) -> Result<PathBuf> {
    let found = std::fs::canonicalize(to).during(format!("find the program of --to {}", to.display()))?;
    if file(&found)? == file(portway)? {
        return Err(Error::State(format!(
            "--to {} is the program that runs: name another build, or leave it out for a copy",
            to.display()
        )));
    }
    version(&found).map(|_| found)
}

fn copied(portway: &Path, into: &Path) -> Result<PathBuf> {
    let copy = into.join("portway-next");
    std::fs::copy(portway, &copy).during(format!("copy {} to {}", portway.display(), copy.display())).map(|_| copy)
}

/// As a program says itself.
fn version(portway: &Path) -> Result<String> {
    let answer = Command::new(portway).arg("--version").output().during(format!("run {} --version", portway.display()))?;
    let said = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    let is = answer.status.success() && said.starts_with(concat!(env!("CARGO_PKG_NAME"), " "));
    if is { Ok(said) } else { Err(Error::State(format!("{} is no portway: asked for --version it says {said:?}", portway.display()))) }
}

/// Device and number of a file.
fn file(path: &Path) -> Result<(u64, u64)> {
    let file = std::fs::metadata(path).during(format!("look at {}", path.display()))?;
    Ok((file.dev(), file.ino()))
}

/// Of the file that a process executes.
fn file_of(pid: u32) -> Result<(u64, u64)> {
    file(&Path::new("/proc").join(pid.to_string()).join("exe"))
}
