//! A function, its host, a gateway and a tenant's server in a row, joined in one of several ways:
//!
//! ```text
//!  function ---- host ======== gateway ---- server
//! 10.88.0.2     10.9.0.11     10.9.0.1     172.16.101.20
//! ```

use super::http::Connection;
use super::nodes::{Daemon, Node, directory};
use super::sender::{Flow, Sender};
use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portway::lab::secret;
use portway::model::PrivateKey;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What leads from the host to the gateway, and who translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// Routes and nothing else.
    Plain,
    /// A vxlan tunnel of the kernel; one `snat` at the gateway.
    Vxlan,
    /// A GRE tunnel of the kernel with a neighbour at the gateway, set up by hand; a `masquerade` at either end, as a
    /// function's address means nothing to the gateway.
    Gre,
    /// A WireGuard tunnel of the kernel set up by ip(8) and wg(8), with as much room for packets as ours; a `masquerade` at either end.
    Wireguard,
    /// Portway's daemons with the kernel's GRE.
    Kernel,
    /// Portway's daemons with the kernel's WireGuard.
    KernelWireguard,
    /// Portway's daemons, which carry the tunnels themselves.
    Userspace,
}

/// Whose segmentation and receive offloads are turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offloads {
    On,
    /// On every veth and kernel tunnel.
    Off,
    /// On Portway's TUN devices as well.
    TunOff,
}

const SERVER: &str = "172.16.101.20";
/// Of WireGuard's interfaces: 1500 less IPv4's 20 bytes, UDP's 8 and WireGuard's 32, as Portway has it.
const WIREGUARD_MTU: u32 = 1440;
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

pub struct Chain {
    pub name: String,
    function: Node,
    server: Node,
    _between: [Node; 2],
    iperf: Child,
    sender: Sender,
    daemons: Vec<Daemon>,
    _directory: tempfile::TempDir,
}

impl Chain {
    pub fn new(joint: Joint, offloads: Offloads) -> anyhow::Result<Self> {
        let [function, host, gateway, server] = [Node::new()?, Node::new()?, Node::new()?, Node::new()?];
        host.cable("c0", &function, "eth0")?;
        host.cable("plat0", &gateway, "plat0")?;
        gateway.cable("eni0", &server, "eth0")?;
        function.sh("ip addr add 10.88.0.2/24 dev eth0; ip route add default via 10.88.0.1")?;
        host.sh("ip link set c0 address 02:00:00:00:00:01; ip addr add 10.88.0.1/24 dev c0; ip addr add 10.9.0.11/24 dev plat0")?;
        gateway.sh("ip addr add 10.9.0.1/24 dev plat0; ip addr add 172.16.101.4/24 dev eni0")?;
        // What the packet generator sends ends here, without an answer.
        server.sh(&format!(
            "ip addr add {SERVER}/24 dev eth0
             nft 'table netdev bench {{ chain in {{ type filter hook ingress device eth0 priority 0; udp dport 4000 drop; }}; }}'"
        ))?;
        let directory = directory()?;
        let mut daemons = Vec::new();
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        let translate = |out: &str, to: &str| {
            format!("nft 'table ip bench {{ chain out {{ type nat hook postrouting priority srcnat; oifname {out} {to}; }}; }}'")
        };
        match joint {
            Joint::Plain => {
                host.sh(&format!("{forward}; ip route add 172.16.0.0/16 via 10.9.0.1"))?;
                gateway.sh(&format!("{forward}; ip route add 10.88.0.0/24 via 10.9.0.11"))?;
                server.sh("ip route add 10.88.0.0/24 via 172.16.101.4")?;
            }
            Joint::Vxlan => {
                let tunnel = |local, remote, inner| {
                    format!(
                        "{forward}; ip link add tunnel type vxlan id 7 local {local} remote {remote} dstport 4789 dev plat0
                         ip addr add {inner}/24 dev tunnel; ip link set tunnel up"
                    )
                };
                host.sh(&tunnel("10.9.0.11", "10.9.0.1", "10.64.0.9"))?;
                host.sh("ip route add 172.16.0.0/16 via 10.64.0.1")?;
                gateway.sh(&tunnel("10.9.0.1", "10.9.0.11", "10.64.0.1"))?;
                gateway.sh("ip route add 10.88.0.0/24 via 10.64.0.9; ip addr add 172.16.101.10/32 dev eni0")?;
                gateway.sh(&translate("eni0", "meta l4proto { tcp, udp } snat to 172.16.101.10:1024-65535 fully-random"))?;
            }
            Joint::Gre => {
                host.sh(&format!(
                    "{forward}; ip link add tunnel type gre local 10.9.0.11 remote 10.9.0.1 key 7; ip addr add 10.64.0.9/32 dev tunnel
                     ip link set tunnel up; ip route add 172.16.0.0/16 dev tunnel"
                ))?;
                host.sh(&translate("tunnel", "masquerade"))?;
                gateway.sh(&format!(
                    "{forward}; ip link add tunnel type gre local 10.9.0.1 key 7; ip link set tunnel up
                     ip neigh add 10.9.0.11 lladdr 10.9.0.11 dev tunnel nud permanent
                     ip route add 10.64.0.9/32 via 10.9.0.11 dev tunnel onlink"
                ))?;
                gateway.sh(&translate("eni0", "masquerade"))?;
            }
            Joint::Wireguard => {
                let ([ours, theirs], dir) = (keys(directory.path())?, directory.path().display());
                let tunnel = |end: &str, peer: &str, allowed: &str| {
                    format!(
                        "{forward}; ip link add tunnel type wireguard
                         wg set tunnel listen-port 51820 private-key {dir}/{end}.key peer {peer} allowed-ips {allowed}
                         ip link set tunnel mtu {WIREGUARD_MTU} up; ip route add {allowed_route} dev tunnel",
                        allowed_route = allowed.split(' ').next().unwrap_or(allowed),
                    )
                };
                // The gateway's end first, as Portway's: the kernel deals processors out to peers in the order in which they are made.
                gateway.sh(&tunnel("gateway", &ours, "10.64.0.9/32"))?;
                gateway.sh(&translate("eni0", "masquerade"))?;
                host.sh(&tunnel("host", &theirs, "172.16.0.0/16 endpoint 10.9.0.1:51820"))?;
                host.sh("ip addr add 10.64.0.9/32 dev tunnel")?;
                host.sh(&translate("tunnel", "masquerade"))?;
            }
            Joint::Kernel | Joint::KernelWireguard | Joint::Userspace => {
                let backend = if joint == Joint::Userspace { "userspace" } else { "kernel" };
                let keys = if joint == Joint::KernelWireguard { Some(keys(directory.path())?) } else { None };
                let yaml_host = host_yaml(directory.path(), backend, keys.as_ref().map(|[_, gateway]| gateway.as_str()));
                let yaml_gateway = gateway_yaml(directory.path(), backend, keys.as_ref().map(|[host, _]| host.as_str()));
                daemons.push(Daemon::start(&gateway, "gateway", directory.path(), &yaml_gateway)?.0);
                let (daemon, _) = Daemon::start(&host, "host", directory.path(), &yaml_host)?;
                daemon.connect()?.expect("PUT", "/v1/attachments/function", r#"{"tenant":"acme","interface":"c0"}"#, 201)?;
                daemons.push(daemon);
            }
        }
        if offloads != Offloads::On {
            let all = "for i in $(ls /sys/class/net); do case $i in lo|KEEP) ;; *) ethtool -K $i tso off gso off gro off > /dev/null;; esac; done";
            let keep = if joint == Joint::Userspace && offloads == Offloads::Off { "pw-*" } else { "none" };
            for node in [&function, &host, &gateway, &server] {
                node.sh(&all.replace("KEEP", keep))?;
            }
        }
        let iperf = server.command("iperf3").arg("-s").stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("iperf3 -s")?;
        let index: u32 = function.sh("cat /sys/class/net/eth0/ifindex")?.trim().parse()?;
        let flow = Flow { source: Ipv4Addr::new(10, 88, 0, 2), destination: SERVER.parse()?, port: 4000 };
        let sender = function.run(|| Sender::new(index, HOST_MAC, &[flow]))?;
        let chain = Self {
            name: name(joint, offloads),
            function,
            server,
            _between: [host, gateway],
            iperf,
            sender,
            daemons,
            _directory: directory,
        };
        chain.await_path()?;
        Ok(chain)
    }

    /// Until iperf3 listens and the function reaches the server, at a port where nobody does.
    fn await_path(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let to = format!("{SERVER}:5999").parse()?;
        let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        let reached = || self.function.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_err_and(refused));
        while self.server.sh("ss -Hltn sport = 5201")?.is_empty() || !reached() {
            ensure!(begun.elapsed() < Duration::from_secs(20), "{}: no way to the server", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What one TCP stream brings to the server in a second, in Gbit.
    pub fn stream(&self, seconds: u32) -> anyhow::Result<f64> {
        Ok(self.stream_and_resent(seconds)?.0)
    }

    /// Also how many segments were sent again.
    pub fn stream_and_resent(&self, seconds: u32) -> anyhow::Result<(f64, f64)> {
        let output = self
            .function
            .command("iperf3")
            .args(["-c", SERVER, "-J", "-t", &seconds.to_string()])
            .stdin(Stdio::null())
            .output()
            .context("iperf3 -c")?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).context("iperf3 did not print JSON")?;
        let end = &answer["end"];
        let figures = end["sum_received"]["bits_per_second"].as_f64().zip(end["sum_sent"]["retransmits"].as_f64());
        let (rate, resent) = figures.with_context(|| format!("{}: iperf3: {}", self.name, answer["error"]))?;
        Ok((rate / 1e9, resent))
    }

    /// To each daemon.
    pub fn connect(&self) -> anyhow::Result<Vec<Connection>> {
        self.daemons.iter().map(Daemon::connect).collect()
    }

    /// Seconds of a processor that the daemons have had.
    pub fn daemons(&self) -> anyhow::Result<f64> {
        self.daemons.iter().map(Daemon::processor).sum()
    }

    /// Small UDP packets that reach the server in a second while the function sends more than fit, in thousands.
    pub fn packets(&mut self, time: Duration) -> anyhow::Result<f64> {
        let received =
            |server: &Node| -> anyhow::Result<f64> { Ok(server.sh("cat /sys/class/net/eth0/statistics/rx_packets")?.trim().parse()?) };
        let before = received(&self.server)?;
        let begun = Instant::now();
        self.function.run(|| self.sender.send(time, None))?;
        Ok((received(&self.server)? - before) / begun.elapsed().as_secs_f64() / 1e3)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let _ = self.iperf.kill();
        let _ = self.iperf.wait();
    }
}

fn name(joint: Joint, offloads: Offloads) -> String {
    let joint = match joint {
        Joint::Plain => "plain forwarding",
        Joint::Vxlan => "vxlan + nft snat",
        Joint::Gre => "ip_gre by hand",
        Joint::Wireguard => "wireguard by hand",
        Joint::Kernel => "portway, kernel",
        Joint::KernelWireguard => "portway, kernel WireGuard",
        Joint::Userspace => "portway, userspace",
    };
    let offloads = match offloads {
        Offloads::On => "offloads on",
        Offloads::Off => "offloads off",
        Offloads::TunOff => "off, TUN too",
    };
    format!("{joint}; {offloads}")
}

/// Private keys of the host and the gateway, in files; their public ones.
fn keys(directory: &Path) -> anyhow::Result<[String; 2]> {
    let key = |end: &str, fill: u8| -> anyhow::Result<String> {
        secret(&directory.join(format!("{end}.key")), &STANDARD.encode([fill; 32]))?;
        Ok(PrivateKey::new([fill; 32]).public().to_string())
    };
    Ok([key("host", 1)?, key("gateway", 2)?])
}

/// `gateway`: its public key, where the tunnel is WireGuard.
fn host_yaml(directory: &Path, backend: &str, gateway: Option<&str>) -> String {
    let directory = directory.display();
    let (tunnel, key, shard) = match gateway {
        None => (String::new(), "\n      key: 7", String::new()),
        Some(gateway) => (
            format!("\n  tunnel: wireguard\n  wireguard: {{ private_key: {directory}/host.key }}"),
            "",
            format!(", wireguard: {{ public_key: {gateway} }}"),
        ),
    };
    format!(
        "host:
  node: host
  platform: {{ interface: plat0, address: 10.9.0.11 }}{tunnel}
  backend: {backend}
  runtime_dir: {directory}
  admin: 127.0.0.1:9471
  tenants:
    - name: acme{key}
      cidrs: [172.16.0.0/16]
      shards: [{{ shard: 0, gateway: 10.9.0.1, inner: 10.64.0.9{shard} }}]
"
    )
}

/// `host`: its public key, where the tunnel is WireGuard.
fn gateway_yaml(directory: &Path, backend: &str, host: Option<&str>) -> String {
    let directory = directory.display();
    let (tunnel, key, peer) = match host {
        None => ("", "key: 7".to_owned(), "outer: 10.9.0.11".to_owned()),
        Some(host) => {
            ("\n  tunnel: wireguard", format!("wireguard: {{ private_key: {directory}/gateway.key }}"), format!("public_key: {host}"))
        }
    };
    format!(
        "gateway:
  node: gateway
  platform: {{ interface: plat0, address: 10.9.0.1 }}{tunnel}
  backend: {backend}
  runtime_dir: {directory}
  admin: 127.0.0.1:9470
  tenants:
    - name: acme
      {key}
      interface: eni0
      allow: [{{ to: 172.16.0.0/16, tcp: all, udp: all, icmp: true }}]
      snat: {{ address: 172.16.101.10, ports: 1024-65535 }}
      inner: 10.64.0.0/16
peers:
  static: [{{ host: host, {peer}, inner: {{ acme: [10.64.0.9] }} }}]
"
    )
}
