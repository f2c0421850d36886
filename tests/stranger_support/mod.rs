//! A WireGuard peer on a lab's platform that knows nothing of Portway: `wg set` has told it a shard's public key, address and port, and that is
//! all. Its own key is in the lab's directory.

#![allow(dead_code, reason = "every test program uses a part")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portway::lab::topology::{PLATFORM, PLATFORM_IF};
use portway::lab::{Lab, Life, Netns, Process, keys, poll_until};
use portway::model::PublicKey;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub const TENANT: &str = "acme";
/// What it is called in the directory.
const NAME: &str = "stranger";
/// On the platform: no host's or gateway's.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 200);
pub const PORT: u16 = 51_820;
const SOON: Duration = Duration::from_secs(10);

/// Whose WireGuard it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Debian's wireguard-go.
    Go,
    Kernel,
}

pub struct Stranger {
    pub netns: Netns,
    pub device: String,
    /// Its address in the tunnel, as the directory gave it.
    pub inner: Ipv4Addr,
    _process: Option<Process>,
    _key: tempfile::NamedTempFile,
}

/// The public key of the lab's stranger.
pub fn public() -> PublicKey {
    keys::of_host(NAME).public()
}

/// Where the first shard is to be found, whoever has it.
pub fn havip(lab: &Lab) -> SocketAddr {
    let shard = lab.topology.shards_of(TENANT).into_iter().next().unwrap();
    SocketAddr::new(shard.gateway.into(), lab.topology.port(TENANT, shard.shard))
}

impl Stranger {
    /// Registered and set up. It has said nothing yet.
    pub fn come(lab: &mut Lab, kind: Kind) -> Self {
        let host = lab.directory().unwrap().add_host(NAME, TENANT, &public()).unwrap();
        let prefix = host.inner.into_values().flatten().next().unwrap();
        let IpAddr::V4(inner) = prefix.addr() else { panic!("{prefix}") };
        let netns = Netns::create().unwrap();
        let platform = lab.node(PLATFORM).unwrap();
        ip(platform, &format!("link add {PLATFORM_IF} netns {} type veth peer name stranger", netns.path().display()));
        ip(platform, "link set stranger master br0 up");
        ip(&netns, "link set lo up");
        ip(&netns, &format!("address add {ADDRESS}/24 dev {PLATFORM_IF}"));
        ip(&netns, &format!("link set {PLATFORM_IF} up"));
        poll_until("the stranger's port", SOON, || Ok(ip(platform, "link show stranger").contains("state UP"))).unwrap();

        let device = format!("s{}", std::process::id());
        let process = match kind {
            Kind::Kernel => {
                ip(&netns, &format!("link add {device} type wireguard"));
                None
            }
            Kind::Go => Some(wireguard_go(lab, &netns, &device)),
        };
        let mut key = tempfile::NamedTempFile::new().unwrap();
        writeln!(key, "{}", STANDARD.encode(keys::of_host(NAME).expose())).unwrap();
        let stranger = Self { netns, device, inner, _process: process, _key: key };
        stranger.plumb(lab);
        stranger
    }

    fn plumb(&self, lab: &Lab) {
        let Self { device, inner, .. } = self;
        let tenant = lab.topology.tenant(TENANT).unwrap();
        let shard = keys::of_shard(TENANT, 0).public();
        self.wg(&format!("set {device} listen-port {PORT} private-key {}", self._key.path().display()));
        self.wg(&format!("set {device} peer {shard} endpoint {} allowed-ips {}", havip(lab), tenant.vpc));
        ip(&self.netns, &format!("link set {device} mtu 1420 up"));
        ip(&self.netns, &format!("address add {inner}/32 dev {device}"));
        ip(&self.netns, &format!("route add {} dev {device} src {inner}", tenant.vpc));
    }

    /// What `wg` prints.
    pub fn wg(&self, arguments: &str) -> String {
        run(&self.netns, "wg", arguments)
    }

    /// Where its gateway is, as it sees it.
    pub fn endpoint(&self) -> SocketAddr {
        let line = self.wg(&format!("show {} endpoints", self.device));
        line.split_whitespace().last().and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("no endpoint: {line}"))
    }
}

fn wireguard_go(lab: &Lab, netns: &Netns, device: &str) -> Process {
    let mut command = netns.command("wireguard-go");
    command.args(["--foreground", device]);
    let process = Process::spawn("wireguard-go", command, &lab.dir().log(NAME), Life::WithLab);
    let process = process.expect("no wireguard-go: run scripts/install-deps test");
    let socket = format!("/var/run/wireguard/{device}.sock");
    // Not by wg: it removes the socket if it comes between its making and its listening.
    poll_until("wireguard-go", SOON, || Ok(UnixStream::connect(&socket).is_ok())).unwrap();
    process
}

pub fn ip(at: &Netns, arguments: &str) -> String {
    run(at, "ip", arguments)
}

/// Runs a command that must succeed.
pub fn run(at: &Netns, program: &str, arguments: &str) -> String {
    let output = at.command(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: run scripts/install-deps test"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The longest that a peer may have no answer when the Active dies without a word, in milliseconds: until the Backup, of priority 100, takes over
/// (RFC 9568, section 6.1), and what the takeover and a new session may cost.
pub fn bound_ms(interval: Duration) -> f64 {
    const TAKEOVER_MS: f64 = 20.0;
    const SESSION_MS: f64 = 10.0;
    interval.as_secs_f64() * 1e3 * (3.0 + 156.0 / 256.0) + TAKEOVER_MS + SESSION_MS
}
