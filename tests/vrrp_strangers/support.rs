//! A platform and a VPC with two gateway machines between them, on which a test runs what it likes, and `host-1` as the third machine.

use portway::config::Backend;
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Life, Netns, Process, Topology, configs, poll_until, secret, unix};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The two machines, on the platform's network at 10.9.0.1 and 10.9.0.2, in the VPC at 172.16.101.4 and .5.
pub const NODES: [&str; 2] = ["gw-1", "gw-2"];
/// The third machine.
pub const THIRD: &str = "host-1";
pub const THIRD_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 101);
pub const VPC: &str = "db-acme";
pub const PLATFORM_IF: &str = "plat0";
pub const TENANT_IF: &str = "eni0";
pub const VRID: u8 = 51;
/// As they stand in advertisements, in this order.
pub const HAVIPS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 50), Ipv4Addr::new(172, 16, 101, 10)];
/// What something that must come may take.
pub const SOON: Duration = Duration::from_secs(15);

pub fn address(node: &str) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, if node == NODES[0] { 1 } else { 2 })
}

pub fn other(node: &str) -> &'static str {
    if node == NODES[0] { NODES[1] } else { NODES[0] }
}

/// Waits until `true`.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    poll_until(what, SOON, || Ok(done())).unwrap();
}

/// A tool from somebody else, or what to install.
pub fn tool(path: &str, package: &str) -> PathBuf {
    let found = ["", "/usr/sbin/", "/usr/bin/", "/usr/lib/frr/"].iter().map(|dir| PathBuf::from(format!("{dir}{path}")));
    let found = found.filter(|path| path.is_absolute()).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no `{path}`: run `apt-get install {package}`, or `scripts/install-deps test` for all that tests need"))
}

/// What goes into `ha:` beside nodes and keys.
#[derive(Debug, Clone)]
pub struct Speech {
    pub priority: u8,
    pub interval: &'static str,
    /// Further lines of `ha:`, each `key: value`.
    pub more: Vec<&'static str>,
    /// The shard's line, other than [`VRID`] and [`HAVIPS`].
    pub vrid: u8,
    pub havips: [Ipv4Addr; 2],
}

impl Speech {
    /// Version 3, unicast, 100 ms, no trailer: as strangers understand it.
    pub fn plain(priority: u8) -> Self {
        Self { priority, interval: "100ms", more: vec!["authentication: none"], vrid: VRID, havips: HAVIPS }
    }

    /// As gateways of ours speak among themselves.
    pub fn signed(priority: u8) -> Self {
        Self { more: vec![], ..Self::plain(priority) }
    }

    pub fn interval(self, interval: &'static str) -> Self {
        Self { interval, ..self }
    }

    pub fn with(mut self, line: &'static str) -> Self {
        self.more.push(line);
        self
    }
}

pub struct World {
    /// Ends before the namespaces do.
    daemons: BTreeMap<String, Process>,
    pub lab: Lab,
}

impl World {
    pub fn new() -> Self {
        let lab = Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth])).unwrap();
        secret(&configs::key_file(&lab.dir().runtime("node")), &"5a".repeat(32)).unwrap();
        Self { daemons: BTreeMap::new(), lab }
    }

    pub fn node(&self, name: &str) -> &Netns {
        self.lab.node(name).unwrap()
    }

    pub fn sh(&self, node: &str, script: &str) -> String {
        let output = self.node(node).command("sh").args(["-ec", script]).output().unwrap();
        assert!(output.status.success(), "in {node}: {script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn dir(&self) -> &Path {
        self.lab.dir().path()
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read(self.lab.dir().log(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// `portway gateway` on a node, ready.
    pub fn start(&mut self, node: &str, speech: &Speech) {
        let gateway = self.lab.topology.gateways.iter().find(|gateway| gateway.node == node).unwrap();
        let yaml = configs::gateway(&self.lab.topology, gateway, Backend::Auto, &self.lab.dir().runtime(node));
        let mut ha = format!("    interval: {}\n", speech.interval);
        speech.more.iter().for_each(|line| writeln!(ha, "    {line}").unwrap());
        let yaml = replaced(&yaml, "    interval: 100ms\n", &ha);
        let [platform, tenant] = speech.havips;
        let shards = yaml.find("        - { shard: 0").unwrap();
        let shard = format!(
            "        - {{ shard: 0, vrid: {}, platform: {platform}, tenant: {tenant}, priority: {} }}\n",
            speech.vrid, speech.priority
        );
        let end = shards + yaml[shards..].find('\n').unwrap() + 1;
        let yaml = format!("{}{shard}{}", &yaml[..shards], &yaml[end..]);
        std::fs::write(self.lab.dir().config(node), yaml).unwrap();
        self.start_again(node);
    }

    /// With the configuration that is there.
    pub fn start_again(&mut self, node: &str) {
        std::fs::create_dir_all(self.lab.dir().runtime(node)).unwrap();
        let mut command = self.node(node).command(env!("CARGO_BIN_EXE_portway"));
        command.args(["gateway", "--config"]).arg(self.lab.dir().config(node)).current_dir("/");
        let mut process = Process::spawn(&format!("gateway {node}"), command, &self.lab.dir().log(node), Life::WithLab).unwrap();
        let socket = self.socket(node);
        wait(&format!("{node}, ready"), || {
            process.check_alive().unwrap();
            unix(&socket, "GET", "/readyz", None).is_ok_and(|answer| answer.status == 200)
        });
        self.daemons.insert(node.to_owned(), process);
    }

    fn socket(&self, node: &str) -> PathBuf {
        self.lab.dir().runtime(node).join("gateway.sock")
    }

    pub fn pid(&self, node: &str) -> u32 {
        self.daemons[node].pid()
    }

    /// kill -9.
    pub fn kill(&mut self, node: &str) {
        let mut process = self.daemons.remove(node).unwrap();
        process.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
        process.wait(SOON).unwrap().expect("it ends");
    }

    /// SIGTERM: asks it to leave.
    pub fn terminate(&self, node: &str) {
        self.daemons[node].signal(nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    pub fn await_end(&mut self, node: &str) {
        let status = self.daemons.remove(node).unwrap().wait(SOON).unwrap();
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", self.log(node));
    }

    /// `ha` in the status of a gateway.
    pub fn status(&self, node: &str) -> Value {
        let answer = unix(&self.socket(node), "GET", "/v1/status", None).unwrap();
        let mut status: Value = serde_json::from_str(&answer.body).unwrap();
        status["ha"].take()
    }

    pub fn state(&self, node: &str) -> String {
        self.status(node)["shards"][0]["state"].as_str().unwrap_or_default().to_owned()
    }

    pub fn transitions(&self, node: &str) -> u64 {
        self.status(node)["shards"][0]["transitions"].as_u64().unwrap()
    }

    pub fn await_state(&self, node: &str, state: &str) {
        wait(&format!("{node} in state {state}"), || self.state(node) == state);
    }

    /// Samples of the metrics page: name with labels, as written there, to value.
    pub fn metrics(&self, node: &str) -> BTreeMap<String, f64> {
        let page = unix(&self.socket(node), "GET", "/metrics", None).unwrap().body;
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    /// Packets dropped by the virtual routers of a node, by reason; only what is not zero.
    pub fn discards(&self, node: &str) -> BTreeMap<String, u64> {
        let reason =
            |name: &str| Some(name.split_once("portway_vrrp_discarded_packets_total{reason=\"")?.1.strip_suffix("\"}")?.to_owned());
        self.metrics(node).iter().filter_map(|(name, n)| Some((reason(name)?, *n as u64))).filter(|(_, n)| *n > 0).collect()
    }

    /// Which of the HaVips are on a node's interfaces, by `ip`.
    pub fn addresses(&self, node: &str) -> Vec<Ipv4Addr> {
        let all = self.sh(node, "ip -4 -o address show");
        HAVIPS.into_iter().filter(|address| all.contains(&format!(" {address}/"))).collect()
    }

    pub fn has_addresses(&self, node: &str) -> bool {
        self.addresses(node) == HAVIPS
    }
}

/// `replace` that insists on there being something to replace.
pub fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in:\n{text}");
    text.replace(from, to)
}

/// A process of somebody else's, its output in a file of the lab.
pub fn spawn(world: &World, node: &str, name: &str, program: &Path, arguments: &[String]) -> Process {
    let mut command = world.node(node).command(program);
    command.args(arguments).current_dir("/");
    let log = world.lab.dir().log(name);
    File::create(&log).unwrap();
    Process::spawn(name, command, &log, Life::WithLab).unwrap()
}
