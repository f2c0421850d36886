//! One TCP stream, and four, through WireGuard between two machines that share this one's processors: ours, wireguard-go and boringtun-cli, each
//! with the same program at either end, in the same two namespaces, one after the other.
//!
//! ```text
//!  iperf3 -c ---- tunnel 10.64.N.1 == 10.9.0.1 ======== 10.9.0.2 == tunnel 10.64.N.2 ---- iperf3 -s
//! ```

use super::Options;
use super::figures::{Bar, Report};
use super::nodes::Node;
use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portway::model::{IfName, PrivateKey};
use portway::userspace::urgent::PACKETS;
use portway::userspace::wireguard::{Clocks, Descriptors, Device, DeviceConfig, InterfaceConfig, PeerConfig, knock};
use portway::wire::wireguard::Tai64n;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const ROUNDS: usize = 7;
/// Seconds of a measurement.
const STREAM: u32 = 3;
/// Of the inner interfaces, as wg-quick chooses it.
const MTU: u32 = 1420;
/// Peers let in at once.
const ADMISSIONS: u32 = 2_000;
const CLOCKS: Clocks = Clocks { now: Instant::now, wall: SystemTime::now };
const PATIENCE: Duration = Duration::from_secs(20);

const STRANGERS: [(&str, &[&str], &str); 2] = [
    ("wireguard-go", &["--foreground"], "scripts/install-deps test"),
    ("boringtun-cli", &["--foreground", "--disable-drop-privileges"], "scripts/install-deps bench"),
];

/// The tunnel of one program, its two ends.
struct Arm {
    name: &'static str,
    number: u8,
    ends: Vec<End>,
    /// A server takes one client at a time, and needs a moment between two.
    _iperf: Iperf,
}

/// Stops with this value.
struct Iperf(Child);

/// Stops with this value.
enum End {
    Ours(#[expect(dead_code, reason = "held while it runs")] Device),
    Stranger { process: Child, device: String },
}

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let nodes = [Node::new()?, Node::new()?];
    nodes[0].cable("eth0", &nodes[1], "eth0")?;
    for (node, n) in nodes.iter().zip(1..) {
        node.sh(&format!("ip addr add 10.9.0.{n}/24 dev eth0"))?;
    }
    let mut arms = vec![ours(&nodes)?];
    for (program, arguments, install) in STRANGERS {
        let there = Command::new("which").arg(program).stdout(Stdio::null()).status()?.success();
        ensure!(there, "{program}, to compare with, is not installed: run {install}");
        arms.push(strangers(&nodes, program, arguments, arms.len() as u8 + 1)?);
    }
    let measured = measure(&nodes, &arms, options.rounds.unwrap_or(ROUNDS))?;
    report.add("portway", "strangers let in", "1/s", admissions(&nodes[0], options.rounds.unwrap_or(ROUNDS))?, None);
    for (metric, streams) in [("one TCP stream", 0), ("four TCP streams", 1)] {
        for (arm, figures) in arms.iter().zip(&measured) {
            report.add(arm.name, metric, "Gbit/s", figures[streams].clone(), None);
        }
        for (arm, theirs) in arms.iter().zip(&measured).skip(1) {
            let ratios = measured[0][streams].iter().zip(&theirs[streams]).map(|(ours, theirs)| ours / theirs).collect();
            let bar = (streams == 0).then_some(Bar::AtLeast(2.0));
            report.add(format!("portway to {}", arm.name), format!("{metric}, ratio"), "1", ratios, bar);
        }
    }
    Ok(())
}

/// Peers set and their initiations answered in a second, by one thread; the initiations are made beforehand.
fn admissions(node: &Node, rounds: usize) -> anyhow::Result<Vec<f64>> {
    let (key, source) = (PrivateKey::new([99; 32]), "10.9.0.77:51820".parse()?);
    let name: IfName = "pw-9".parse()?;
    let (mut device, _) = Device::prepare(DeviceConfig::new(CLOCKS), Descriptors::new())?;
    let interface = InterfaceConfig { name: name.clone(), key: key.clone(), listen: "10.9.0.1:51899".parse()?, mark: None, roaming: true };
    node.run(|| device.add_interface(interface))?;
    let mut figures = Vec::new();
    for round in 0..rounds {
        let stamp = Tai64n::after(Tai64n::NEVER, Duration::from_secs(1 + round as u64));
        let keys = (0..ADMISSIONS).map(|n| {
            let mut bytes = [round as u8; 32];
            bytes[4..8].copy_from_slice(&n.to_be_bytes());
            PrivateKey::new(bytes)
        });
        let knocks = keys.map(|theirs| Ok((theirs.public(), knock(&theirs, &key.public(), stamp)?))).collect::<anyhow::Result<Vec<_>>>()?;
        let begun = Instant::now();
        for (n, (theirs, initiation)) in knocks.iter().enumerate() {
            let inner = Ipv4Addr::from(0x0a40_0000 + (round * ADMISSIONS as usize + n) as u32);
            let peer = PeerConfig { endpoint: Some(source), allowed: vec![IpAddr::from(inner).into()], ..PeerConfig::default() };
            device.set_peer(&name, *theirs, &peer)?;
            device.handle_initiation(&name, source, initiation)?;
        }
        figures.push(f64::from(ADMISSIONS) / begun.elapsed().as_secs_f64());
    }
    Ok(figures)
}

/// For each arm: figures of one stream, and of four.
fn measure(nodes: &[Node; 2], arms: &[Arm], rounds: usize) -> anyhow::Result<Vec<[Vec<f64>; 2]>> {
    for arm in arms {
        arm.await_path(nodes)?;
    }
    let mut figures = vec![[Vec::new(), Vec::new()]; arms.len()];
    for round in 0..rounds {
        for (at, streams) in [1, 4].into_iter().enumerate() {
            // Who goes first changes: the machine may be faster at one time than at another.
            for n in (0..arms.len()).map(|n| (n + round) % arms.len()) {
                figures[n][at].push(arms[n].stream(&nodes[0], streams)?);
            }
        }
    }
    Ok(figures)
}

impl Arm {
    fn await_path(&self, nodes: &[Node; 2]) -> anyhow::Result<()> {
        let begun = Instant::now();
        while nodes[1].sh(&format!("ss -Hltn sport = {}", port(self.number)))?.is_empty()
            || nodes[0].sh(&format!("ping -c 1 -W 1 10.64.{}.2", self.number)).is_err()
        {
            ensure!(begun.elapsed() < PATIENCE, "{}: no way through", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn stream(&self, from: &Node, streams: u32) -> anyhow::Result<f64> {
        let (to, streams, seconds) = (format!("10.64.{}.2", self.number), streams.to_string(), STREAM.to_string());
        let output = from
            .command("iperf3")
            .args(["-c", &to, "-p", &port(self.number).to_string(), "-J", "-P", &streams, "-t", &seconds])
            .stdin(Stdio::null())
            .output()
            .context("iperf3 -c")?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).context("iperf3 did not print JSON")?;
        let rate = answer["end"]["sum_received"]["bits_per_second"].as_f64();
        Ok(rate.with_context(|| format!("{}: iperf3: {}", self.name, answer["error"]))? / 1e9)
    }
}

fn port(arm: u8) -> u16 {
    5200 + u16::from(arm)
}

impl Iperf {
    fn start(node: &Node, arm: u8) -> anyhow::Result<Self> {
        let mut command = node.command("iperf3");
        command.args(["-s", "-p", &port(arm).to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().context("iperf3 -s")?))
    }
}

impl Drop for Iperf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key(arm: u8, end: usize) -> [u8; 32] {
    [arm * 2 + end as u8; 32]
}

/// Address and route of an end's interface.
fn plumb(node: &Node, device: &str, arm: u8, end: usize) -> anyhow::Result<()> {
    let (own, other) = (end + 1, 2 - end);
    node.sh(&format!(
        "ip link set {device} mtu {MTU} up; ip addr add 10.64.{arm}.{own}/32 dev {device}; ip route add 10.64.{arm}.{other}/32 dev {device}"
    ))?;
    Ok(())
}

fn ours(nodes: &[Node; 2]) -> anyhow::Result<Arm> {
    const ARM: u8 = 1;
    let end = |end: usize| -> anyhow::Result<End> {
        let config = DeviceConfig::new(CLOCKS);
        let (mut device, _) = Device::prepare(config, Descriptors::new())?;
        let name = "pw-1".parse()?;
        let interface = InterfaceConfig {
            name,
            key: PrivateKey::new(key(ARM, end)),
            listen: format!("10.9.0.{}:51821", end + 1).parse()?,
            mark: None,
            roaming: true,
        };
        let name = interface.name.clone();
        nodes[end].run(|| device.add_interface(interface))?;
        device.carry()?;
        let other = 2 - end;
        let peer = PeerConfig {
            endpoint: Some(format!("10.9.0.{other}:51821").parse()?),
            allowed: vec![format!("10.64.{ARM}.{other}/32").parse()?],
            ..PeerConfig::default()
        };
        device.set_peer(&name, PrivateKey::new(key(ARM, 1 - end)).public(), &peer)?;
        plumb(&nodes[end], "pw-1", ARM, end)?;
        Ok(End::Ours(device))
    };
    Ok(Arm { name: "portway", number: ARM, ends: vec![end(0)?, end(1)?], _iperf: Iperf::start(&nodes[1], ARM)? })
}

fn strangers(nodes: &[Node; 2], program: &'static str, arguments: &[&str], arm: u8) -> anyhow::Result<Arm> {
    let mut made = Arm { name: program, number: arm, ends: Vec::new(), _iperf: Iperf::start(&nodes[1], arm)? };
    for (end, node) in nodes.iter().enumerate() {
        // Control sockets are in one directory, whatever the namespace.
        let device = format!("b{}n{arm}e{end}", std::process::id());
        // Our threads that carry packets are as urgent: on a busy machine it would be the priority that is compared.
        let mut command = node.command("nice");
        command
            .args(["-n", &PACKETS.to_string(), program])
            .args(arguments)
            .arg(&device)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        made.ends
            .push(End::Stranger { process: command.spawn().with_context(|| format!("cannot start {program}"))?, device: device.clone() });
        let wg = |line: &str| -> anyhow::Result<bool> {
            let status = Command::new("wg").args(line.split(' ')).stdout(Stdio::null()).stderr(Stdio::null()).status();
            Ok(status.context("no wg: scripts/install-deps test")?.success())
        };
        let begun = Instant::now();
        // Not by wg: it removes the socket if it comes between its making and its listening.
        while UnixStream::connect(control_socket(&device)).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "{program} did not make {device}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut file = tempfile::NamedTempFile::new()?;
        writeln!(file, "{}", STANDARD.encode(key(arm, end)))?;
        let (other, port) = (2 - end, 51820 + u16::from(arm));
        let peer = PrivateKey::new(key(arm, 1 - end)).public();
        let set = format!(
            "set {device} listen-port {port} private-key {} peer {peer} endpoint 10.9.0.{other}:{port} allowed-ips 10.64.{arm}.{other}/32",
            file.path().display()
        );
        ensure!(wg(&set)?, "wg {set}");
        plumb(node, &device, arm, end)?;
    }
    Ok(made)
}

fn control_socket(device: &str) -> String {
    format!("/var/run/wireguard/{device}.sock")
}

impl Drop for End {
    fn drop(&mut self) {
        if let End::Stranger { process, device } = self {
            let _ = process.kill();
            let _ = process.wait();
            let _ = std::fs::remove_file(control_socket(device));
        }
    }
}
