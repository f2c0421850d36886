//! Labs that stay: `portway lab up`, `down`, `exec`, `fail`, `heal`. Namespaces are pinned below one directory, daemons live
//! on, and a file there remembers what was started.

use super::build::{Lab, no_node};
use super::cut::Site;
use super::daemon::{Daemon, Launch, Role};
use super::dir::LabDir;
use super::error::{During, Error, Result};
use super::faults::Kill;
use super::measure;
use super::netns::Netns;
use super::process::{Life, Process, poll_until, wait_for_pid};
use super::topology::{NOBODY, PLATFORM, Topology, port};
use crate::config::Backend;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a pinned lab is kept, unless [`DIR_VARIABLE`] says otherwise: one lab a directory.
pub const DIR: &str = "/run/portway-lab";
pub const DIR_VARIABLE: &str = "PORTWAY_LAB_DIR";

fn dir() -> PathBuf {
    std::env::var_os(DIR_VARIABLE).map_or_else(|| DIR.into(), PathBuf::from)
}

/// What `lab up` left for the other commands.
#[derive(Debug, Serialize, Deserialize)]
struct Standing {
    topology: Topology,
    processes: Vec<Started>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Started {
    name: String,
    pid: u32,
    /// Clock ticks from boot to its start: with the pid, no other process.
    started: u64,
}

/// Builds the lab, starts servers and daemons and attaches every container. On failure takes down what was built.
pub fn up(topology: Topology, portway: &Path, backend: Backend) -> Result<Topology> {
    if dir().exists() {
        return Err(Error::State(format!("a lab is already up in {}; take it down first: portway lab down", dir().display())));
    }
    let standing = build(topology, portway, backend).inspect_err(|_| drop(down()))?;
    Ok(standing.topology)
}

fn build(topology: Topology, portway: &Path, backend: Backend) -> Result<Standing> {
    let mut lab = Lab::build_in(topology, LabDir::kept(&dir())?)?;
    // Recorded before anything starts, so that a failure half way can be taken down.
    let mut standing = Standing { topology: lab.topology.clone(), processes: vec![] };
    save(&standing)?;
    std::fs::create_dir_all(ns_dir()).during("create the directory of namespaces")?;
    for node in lab.topology.nodes() {
        lab.node(&node)?.pin(&ns_path(&node))?;
    }
    let done = start(&mut lab, portway, backend);
    for (name, pid) in lab.processes() {
        if let Some(started) = start_time(pid) {
            standing.processes.push(Started { name, pid, started });
        }
    }
    save(&standing)?;
    done.map(|()| standing)
}

fn start(lab: &mut Lab, portway: &Path, backend: Backend) -> Result<()> {
    let vpcs: Vec<(String, String)> = lab.topology.tenants.iter().map(|t| (t.node(), t.name.clone())).collect();
    let decoy = lab.topology.decoy.then(|| (PLATFORM.to_owned(), NOBODY.to_owned()));
    for (node, tenant) in vpcs.into_iter().chain(decoy) {
        let mut command = lab.node(&node)?.command(portway);
        command.args(["lab", "serve", &tenant]).current_dir("/");
        let process = Process::spawn(&format!("server in {node}"), command, &lab.dir().log(&format!("serve-{tenant}")), Life::Own)?;
        lab.keep(process);
        let netns = lab.node(&node)?;
        poll_until(&format!("the server in {node}"), Duration::from_secs(5), || measure::listens(netns, port::ECHO))?;
    }
    lab.start_iperf(Life::Own)?;
    lab.start_daemons_with(portway, backend, Life::Own, |_, yaml| yaml)?;
    for container in lab.topology.containers.clone() {
        lab.attach_at(&container, &ns_path(&container.node))?;
    }
    lab.await_in_sync()
}

/// Ends what `up` started and removes its namespaces; fine when there is nothing.
pub fn down() -> Result<bool> {
    if !dir().exists() {
        return Ok(false);
    }
    if let Ok(standing) = load() {
        let alive: Vec<&Started> = standing.processes.iter().filter(|p| start_time(p.pid) == Some(p.started)).collect();
        for process in &alive {
            let _ = kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGTERM);
        }
        for process in alive {
            if !wait_for_pid(process.pid, Duration::from_secs(3)).during(format!("wait for {}", process.name))? {
                let _ = kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGKILL);
            }
        }
    }
    for entry in std::fs::read_dir(ns_dir()).into_iter().flatten().flatten() {
        // An entry that was never mounted on is only a file.
        if Netns::unpin(&entry.path()).is_err() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    std::fs::remove_dir_all(dir()).during(format!("remove {}", dir().display()))?;
    Ok(true)
}

/// Replaces this process by `command` in a node. Returns only on failure.
pub fn exec(node: &str, command: &[String]) -> Result<std::convert::Infallible> {
    let standing = load()?;
    let netns = open(&standing.topology, node)?;
    let (program, arguments) = command.split_first().ok_or_else(|| Error::State("no command given".into()))?;
    let mut child = netns.command(program);
    child.args(arguments).env("PORTWAY_RUNTIME_DIR", dir().join(node));
    Err(child.exec()).during(format!("run {program} in {node}"))
}

/// Lets `kill` befall a node: see [`Kill`].
pub fn fail(node: &str, kill: Kill) -> Result<()> {
    let standing = load()?;
    open(&standing.topology, node)?;
    let daemon = standing.daemon(node);
    let signal = |signal| daemon.map_or(Ok(()), |d| send(d, signal));
    match kill {
        Kill::Daemon | Kill::Stop | Kill::Sigterm if role(&standing.topology, node).is_none() => {
            Err(Error::State(format!("no daemon runs in {node}")))
        }
        Kill::Daemon => signal(Signal::SIGKILL),
        Kill::Stop => signal(Signal::SIGSTOP),
        Kill::Sigterm => signal(Signal::SIGTERM),
        Kill::Node if role(&standing.topology, node) == Some(Role::Gateway) => {
            signal(Signal::SIGSTOP)?;
            site(&standing.topology, |site| site.far_ends(node, false))?;
            signal(Signal::SIGKILL)
        }
        Kill::Link | Kill::Eni | Kill::Node => site(&standing.topology, |site| site.take_links(node, kill)),
    }
}

/// Undoes whatever `fail` did. The node's daemon, if it has one, goes on, or is started again: then this waits until it is ready.
pub fn heal(node: &str, portway: &Path) -> Result<()> {
    let mut standing = load()?;
    open(&standing.topology, node)?;
    if let Some(fresh) = site(&standing.topology, |site| site.heal(node))? {
        Netns::unpin(&ns_path(node))?;
        fresh.pin(&ns_path(node))?;
    }
    let Some(role) = role(&standing.topology, node) else { return Ok(()) };
    if let Some(daemon) = standing.daemon(node) {
        return send(daemon, Signal::SIGCONT);
    }
    let dir = LabDir::existing(&dir());
    let launch = Launch {
        node: node.to_owned(),
        role,
        netns: open(&standing.topology, node)?,
        portway: portway.to_owned(),
        config: dir.config(node),
        runtime_dir: dir.runtime(node),
        log: dir.log(node),
        life: Life::Own,
    };
    let mut daemon = Daemon::start(launch)?;
    if let Some(started) = start_time(daemon.pid()) {
        standing.processes.push(Started { name: node.to_owned(), pid: daemon.pid(), started });
    }
    save(&standing)?;
    daemon.await_ready()
}

impl Standing {
    /// The daemon of a node, while it runs.
    fn daemon(&self, node: &str) -> Option<&Started> {
        self.processes.iter().find(|p| p.name == node && start_time(p.pid) == Some(p.started))
    }
}

/// Ending is waited for, for as long as a drain may reasonably take.
fn send(daemon: &Started, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(daemon.pid.cast_signed()), signal).during(format!("send {signal} to {}", daemon.name))?;
    if !matches!(signal, Signal::SIGKILL | Signal::SIGTERM) {
        return Ok(());
    }
    let within = Duration::from_secs(30);
    match wait_for_pid(daemon.pid, within).during(format!("wait for {}", daemon.name))? {
        true => Ok(()),
        false => Err(Error::Late { what: format!("the end of {}'s daemon", daemon.name), after: within, detail: String::new() }),
    }
}

fn role(topology: &Topology, node: &str) -> Option<Role> {
    let gateway = topology.gateways.iter().any(|g| g.node == node).then_some(Role::Gateway);
    gateway.or_else(|| topology.host(node).map(|_| Role::Host))
}

fn site<T>(topology: &Topology, work: impl FnOnce(&Site<'_>) -> Result<T>) -> Result<T> {
    work(&Site { topology, open: &|node| open(topology, node) })
}

fn open(topology: &Topology, node: &str) -> Result<Netns> {
    if topology.nodes().iter().any(|n| n == node) { Netns::open(&ns_path(node)) } else { Err(no_node(node, topology)) }
}

fn ns_dir() -> PathBuf {
    dir().join("ns")
}

fn ns_path(node: &str) -> PathBuf {
    ns_dir().join(node)
}

fn state_file() -> PathBuf {
    dir().join("lab.json")
}

fn save(standing: &Standing) -> Result<()> {
    let text = serde_json::to_string_pretty(standing).map_err(std::io::Error::from).during("write the lab's state")?;
    std::fs::write(state_file(), text).during("write the lab's state")
}

fn load() -> Result<Standing> {
    if !dir().exists() {
        return Err(Error::State("no lab is up; start one: portway lab up".into()));
    }
    let text = std::fs::read_to_string(state_file()).during(format!("read {}", state_file().display()))?;
    serde_json::from_str(&text).map_err(|_| Error::Unreadable { what: state_file().display().to_string(), body: text })
}

/// Field 22 of /proc/PID/stat; `None` when there is no such process, or only its remains.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    (fields.next()? != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}
