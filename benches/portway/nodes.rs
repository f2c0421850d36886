//! Machines for a benchmark: network namespaces, cables between them, daemons in them.

use super::http::Connection;
use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portway::lab::Netns;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Of the times in /proc, in a second (USER_HZ).
pub const TICKS: f64 = 100.0;

/// A machine: a network namespace that goes with this process.
#[derive(Clone)]
pub struct Node(Netns);

impl Node {
    /// With nothing but loopback, and no IPv6, whose own chatter would be counted.
    pub fn new() -> anyhow::Result<Self> {
        let node = Self(Netns::create()?);
        node.sh("ip link set lo up
             echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
             echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter")?;
        Ok(node)
    }

    /// Runs `work` in a thread inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.run(work)
    }

    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.0.command(program)
    }

    /// Runs a shell script inside; what it printed.
    pub fn sh(&self, script: &str) -> anyhow::Result<String> {
        let output = self.command("sh").args(["-ec", script]).stdin(Stdio::null()).output().context("cannot run sh")?;
        ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A veth pair from an interface here to one there.
    pub fn cable(&self, here: &str, there: &Node, other: &str) -> anyhow::Result<()> {
        self.sh(&format!("ip link add {here} type veth peer name {other} netns {}", there.0.path().display()))?;
        self.sh(&format!("ip link set {here} up"))?;
        there.sh(&format!("ip link set {other} up"))?;
        Ok(())
    }
}

/// A directory that goes with this value: in memory, as `/run` is on a real host.
pub fn directory() -> anyhow::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let builder = || tempfile::Builder::new().prefix("portway-bench-").to_owned();
    Ok(if memory.is_dir() { builder().tempdir_in(memory) } else { builder().tempdir() }?)
}

/// A running `portway gateway` or `portway host`.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts a role with a configuration and waits until it is ready; also how long that took.
    pub fn start(node: &Node, role: &str, directory: &Path, yaml: &str) -> anyhow::Result<(Self, Duration)> {
        let (config, log) = (directory.join(format!("{role}.yaml")), directory.join(format!("{role}.log")));
        std::fs::write(&config, yaml)?;
        let begun = Instant::now();
        let child = node
            .command(env!("CARGO_BIN_EXE_portway"))
            .args(["--log", "warn", role, "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()
            .context("cannot start portway")?;
        let mut daemon = Self { child, socket: directory.join(format!("{role}.sock")), log };
        loop {
            let answer = daemon.connect().and_then(|mut connection| connection.call("GET", "/readyz", ""));
            match answer {
                Ok((200, _)) => return Ok((daemon, begun.elapsed())),
                other if begun.elapsed() > PATIENCE || daemon.child.try_wait()?.is_some() => {
                    bail!("`portway {role}` is not ready ({other:?}); its log:\n{}", std::fs::read_to_string(&daemon.log)?)
                }
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    pub fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.socket)
    }

    /// Resident memory, in MiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Seconds of a processor that it has had (proc(5), `/proc/PID/stat`: utime and stime).
    pub fn processor(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = text.rsplit_once(") ").context("no name in /proc/PID/stat")?;
        let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS)
    }

    /// A figure of its metrics page.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let page = self.connect()?.expect("GET", "/metrics", "", 200)?;
        let line = page.lines().find(|line| line.starts_with(name)).with_context(|| format!("no metric {name}"))?;
        Ok(line.rsplit(' ').next().context("no value")?.parse()?)
    }

    /// As an operator stops it: what it set up goes on standing.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "a daemon ended with {status}:\n{}", std::fs::read_to_string(&self.log)?);
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
