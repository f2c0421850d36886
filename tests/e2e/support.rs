//! What the tests share: a standing lab, commands in its nodes, calls of the daemons' API, captures.

use portway::config::{Backend, TunnelKind};
use portway::lab::{Lab, Netns, Process, Topology, poll_until, unix};
use portway::lab::{
    Life, gre, keys,
    swarm::{self, Place, Swarm},
    topology::{Eni, Gateway, Wiring},
};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The address that all VPCs' servers have, with the HTTP port.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);
/// What something that must come may take.
pub const SOON: Duration = Duration::from_secs(5);
/// How long something that must not come is waited for.
pub const SILENCE: Duration = Duration::from_millis(400);

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portway"))
}

/// Servers up, daemons ready, nothing attached.
pub fn stand(topology: Topology) -> Lab {
    stand_edited(topology, |_, yaml| yaml)
}

/// As [`stand`], with the daemons' configurations changed: (node, YAML) to YAML.
pub fn stand_edited(topology: Topology, edit: impl Fn(&str, String) -> String) -> Lab {
    let mut lab = Lab::build(topology).unwrap();
    lab.serve().unwrap();
    lab.start_daemons_edited(program(), Backend::Auto, edit).unwrap();
    lab
}

/// One tenant, one gateway `gw-acme`, one host `host-1`, and a container `fn-1a`, attached.
pub fn simple() -> Lab {
    simple_over(TunnelKind::Gre)
}

/// The same, its tunnels of this kind.
pub fn simple_over(tunnel: TunnelKind) -> Lab {
    let mut lab = stand(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel));
    lab.attach_all().unwrap();
    lab
}

/// Two tenants, equal in everything but their names, keys and interfaces, on one gateway, `gw`; two hosts.
pub fn shared() -> Topology {
    let mut topology = Topology::of(&["acme", "blue"], &[Wiring::Veth, Wiring::Bridge]);
    let eni = |tenant: &str, interface: &str| Eni {
        tenant: tenant.into(),
        interface: interface.into(),
        address: Ipv4Addr::new(172, 16, 101, 4),
        snat: Ipv4Addr::new(172, 16, 101, 10),
    };
    topology.gateways =
        vec![Gateway { node: "gw".into(), outer: Ipv4Addr::new(10, 9, 0, 1), enis: vec![eni("acme", "eni0"), eni("blue", "eni1")] }];
    topology.tenants[1].inner = topology.tenants[0].inner;
    topology
}

/// `replace` that insists on there being something to replace.
pub fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in:\n{text}");
    text.replace(from, to)
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// A shell script in a node, whatever it comes to.
pub fn try_sh(lab: &Lab, node: &str, script: &str) -> Ran {
    lab.node(node).unwrap().command("sh").args(["-c", script]).output().unwrap().into()
}

/// The output of a shell script in a node. Every line of it must succeed.
pub fn sh(lab: &Lab, node: &str, script: &str) -> String {
    let ran = try_sh(lab, node, &format!("set -e\n{script}"));
    assert!(ran.code == 0, "in {node}: {script}\n{}{}", ran.out, ran.err);
    ran.out
}

/// `portway` in a node, talking to that node's daemon.
pub fn portway(lab: &Lab, node: &str, arguments: &[&str]) -> Ran {
    let mut command = lab.node(node).unwrap().command(program());
    command.args(arguments).env("PORTWAY_RUNTIME_DIR", lab.dir().runtime(node)).current_dir("/").output().unwrap().into()
}

/// `portway gateway` or `host` with the node's configuration and these further arguments, to its end.
pub fn daemon(lab: &Lab, role: &str, node: &str, arguments: &[&str]) -> Ran {
    let config = lab.dir().config(node);
    portway(lab, node, &[&[role, "--config", config.to_str().unwrap()], arguments].concat())
}

/// A call of a daemon's API: status code, body as JSON.
pub fn call(lab: &mut Lab, node: &str, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
    let socket = lab.daemon(node).unwrap().socket();
    let answer = unix(&socket, method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body)))
}

/// Attaches by a call that must make an attachment.
pub fn attach(lab: &mut Lab, node: &str, name: &str, spec: &Value) {
    let (status, body) = call(lab, node, "PUT", &format!("/v1/attachments/{name}"), Some(&spec.to_string()));
    assert_eq!(status, 201, "{spec}: {body}");
}

pub fn detach(lab: &mut Lab, node: &str, name: &str) {
    let (status, body) = call(lab, node, "DELETE", &format!("/v1/attachments/{name}"), None);
    assert_eq!(status, 204, "{name}: {body}");
}

/// As a gateway's configuration writes it, the other end of a host's tunnels: `outer: ADDRESS`, or the host's key.
pub fn end(tunnel: TunnelKind, host: &str, outer: &str) -> String {
    match tunnel {
        TunnelKind::Gre => format!("outer: {outer}"),
        TunnelKind::Wireguard => format!("public_key: {}", keys::of_host(host).public()),
    }
}

/// The host with an inner address of acme's, as the gateway's API takes it.
pub fn peer(tunnel: TunnelKind, host: &str, outer: &str, inner: &str) -> String {
    let end = end(tunnel, host, outer);
    let (name, value) = end.split_once(": ").unwrap();
    json!({ name: value, "inner": { "acme": [inner] } }).to_string()
}

/// Whether the tenant's server answers a container's HTTP request within a second; the error otherwise.
pub fn fetches(lab: &Lab, container: &str) -> Result<(), String> {
    let seen = portway::lab::whoami(lab.node(container).unwrap(), SERVER, Duration::from_secs(1)).map_err(|e| e.to_string())?;
    let tenant = &lab.topology.container(container).unwrap().tenant;
    if seen.tenant == *tenant { Ok(()) } else { Err(format!("{container} of {tenant} was answered by {}'s server", seen.tenant)) }
}

/// Waits until `true`; the time it took.
pub fn wait(what: &str, within: Duration, mut done: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    poll_until(what, within, || Ok(done())).unwrap();
    begun.elapsed()
}

/// All samples of a daemon's metrics page: name with labels, as written there, to value.
pub fn metrics(lab: &mut Lab, node: &str) -> BTreeMap<String, f64> {
    let socket = lab.daemon(node).unwrap().socket();
    let page = unix(&socket, "GET", "/metrics", None).unwrap().body;
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.trim_end_matches("{}").to_owned(), value.parse().unwrap())).unwrap())
        .collect()
}

/// One packet by a raw socket of protocol `protocol`; 255 (IPPROTO_RAW): with its own IP header.
pub fn send(from: &Netns, to: Ipv4Addr, protocol: i32, packet: &[u8]) {
    let to = SocketAddr::from(SocketAddrV4::new(to, 0));
    let sent = from.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol)))?.send_to(packet, &to.into()));
    sent.unwrap_or_else(|error| panic!("send a raw packet to {to}: {error}"));
}

pub const GRE: i32 = 47;
pub const RAW: i32 = 255;
pub const ICMP: u8 = 1;

/// An IPv4 packet in GRE, as an honest tunnel end writes it.
pub fn tunnelled(key: u32, packet: &[u8]) -> Vec<u8> {
    gre(key, portway::lab::ETHERTYPE_IPV4, packet)
}

/// Where acme's tunnels of `simple` and `shared` end: at the gateway, and at the first host.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 101);
/// acme's key of those tunnels, and the inner address of that host.
pub const KEY: u32 = 7;
pub const INNER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 101);

/// A function host of acme's that puts into its tunnel whatever it likes, at `host-1`.
pub struct Forger {
    /// With WireGuard, another peer, with a key and a session of its own. Without, it writes GRE by hand.
    peer: Option<Swarm>,
    /// The inner address that is its own.
    pub inner: Ipv4Addr,
}

impl Forger {
    /// The topology in which there is one.
    pub fn into(topology: Topology, tunnel: TunnelKind) -> Topology {
        match tunnel {
            TunnelKind::Gre => topology,
            TunnelKind::Wireguard => topology.with_tunnel(tunnel).with_swarm(1),
        }
    }

    pub fn of(lab: &Lab) -> Self {
        if lab.topology.tunnel == TunnelKind::Gre {
            return Self { peer: None, inner: INNER };
        }
        let gateway = SocketAddr::from((GATEWAY, lab.topology.port("acme", 0)));
        let key = keys::of_shard("acme", 0).public();
        let place = Place { node: lab.node("host-1").unwrap(), at: HOST.into(), gateway, key, server: SERVER };
        let inner = swarm::inner(lab.topology.tenant("acme").unwrap(), 0);
        let swarm = Swarm::make(&place, &[inner]).unwrap();
        swarm.greet().unwrap();
        Self { peer: Some(swarm), inner }
    }

    pub fn send(&self, lab: &Lab, packet: &[u8]) {
        let node = lab.node("host-1").unwrap();
        if self.peer.is_none() {
            return send(node, GATEWAY, GRE, &tunnelled(KEY, packet));
        }
        let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
        let sent = node.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?;
            socket.bind_device(Some(swarm::name(0).as_bytes()))?;
            socket.send_to(packet, &SocketAddr::from((to, 0)).into())
        });
        sent.unwrap_or_else(|error| panic!("send a packet to {to} through a tunnel: {error}"));
    }
}

/// tcpdump on an interface of a node, writing to a file, read with tshark.
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures from the return of this on.
    pub fn start(lab: &Lab, node: &str, interface: &str, filter: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("capture-{}-{node}", NUMBER.fetch_add(1, Relaxed));
        let (file, log) = (lab.dir().path().join(format!("{name}.pcap")), lab.dir().log(&name));
        let mut command = lab.node(node).unwrap().command("tcpdump");
        command.args(["-Z", "root", "-n", "-U", "--immediate-mode", "-s", "256", "-i", interface, "-w"]).arg(&file).arg(filter);
        let mut process = Process::spawn(&name, command, &log, Life::WithLab).unwrap();
        wait("tcpdump", SOON, || {
            process.check_alive().unwrap();
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
        });
        Self { process, file }
    }

    /// Waits until a packet with these bytes has been captured.
    pub fn wait_for(&self, bytes: &[u8]) {
        wait("a packet in the capture", SOON, || self.has(bytes));
    }

    pub fn has(&self, bytes: &[u8]) -> bool {
        std::fs::read(&self.file).is_ok_and(|file| file.windows(bytes.len()).any(|window| window == bytes))
    }

    /// Waits until so many packets have been captured.
    pub fn wait_for_count(&self, count: usize) {
        wait(&format!("{count} packets in the capture"), SOON, || std::fs::read(&self.file).is_ok_and(|file| packets(&file) >= count));
    }

    /// Ends it: these fields of every packet, in tshark's names, for those that match a display filter (may be empty).
    pub fn read(mut self, display: &str, fields: &[&str]) -> Vec<Vec<String>> {
        self.process.signal(nix::sys::signal::Signal::SIGINT).unwrap();
        self.process.wait(SOON).unwrap().expect("tcpdump ends when it is told to");
        let mut command = std::process::Command::new("tshark");
        // The first occurrence: the outer header's, where there are two.
        command.args(["-n", "-E", "occurrence=f", "-T", "fields", "-r"]).arg(&self.file).args(["-Y", display]);
        for field in fields {
            command.args(["-e", field]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }
}

/// How many packets a capture file holds (pcap-savefile(5): a header of 24 bytes; before each packet 16, the third word
/// its length).
fn packets(file: &[u8]) -> usize {
    let mut rest = file.get(24..).unwrap_or_default();
    let mut count = 0;
    while let Some(length) = rest.get(8..12).map(|word| u32::from_ne_bytes(word.try_into().expect("four bytes"))) {
        let Some(next) = rest.get(16 + length as usize..) else { break };
        (rest, count) = (next, count + 1);
    }
    count
}
