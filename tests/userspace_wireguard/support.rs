//! A gateway with our device, and a peer of it at the other end of a cable: another device of ours, or wireguard-go.

use crate::userspace_support::{Namespace, name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portway::model::{IfName, PrivateKey, PublicKey};
use portway::userspace::wireguard::{Clocks, Descriptors, Device, DeviceConfig, DropReason, Event, InterfaceConfig, Limit, PeerConfig};
use portway::wire::wireguard::{Initiation, Mac1};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

pub const PATIENCE: Duration = Duration::from_secs(10);

pub const OURS: u8 = 1;
pub const THEIRS: u8 = 2;

pub fn key(n: u8) -> PrivateKey {
    PrivateKey::new([n; 32])
}

pub fn public(n: u8) -> PublicKey {
    key(n).public()
}

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn pw() -> IfName {
    name("pw-1")
}

pub fn clocks() -> Clocks {
    Clocks { now: Instant::now, wall: SystemTime::now }
}

pub fn allowed(prefixes: &[&str], endpoint: Option<&str>) -> PeerConfig {
    let allowed = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    PeerConfig { endpoint: endpoint.map(at), allowed, ..PeerConfig::default() }
}

/// Our device in a namespace, with one interface.
pub struct Ours {
    pub device: Device,
    pub events: mpsc::Receiver<Event>,
}

pub struct Setup {
    pub clocks: Clocks,
    pub threads: usize,
    pub roaming: bool,
    pub key: u8,
    pub adopt: Descriptors,
    pub limit: Limit,
    pub load: usize,
    pub mark: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            clocks: clocks(),
            threads: 1,
            roaming: true,
            key: OURS,
            adopt: Descriptors::new(),
            limit: Limit { rate: 1_000, burst: 1_000 },
            load: 128,
            mark: None,
        }
    }
}

impl Ours {
    pub fn start(namespace: &Namespace, listen: &str, setup: Setup) -> Ours {
        let mut ours = Self::prepare(namespace, listen, setup);
        ours.device.carry().unwrap();
        ours
    }

    /// Ready, and carries nothing yet.
    pub fn prepare(namespace: &Namespace, listen: &str, setup: Setup) -> Ours {
        let config = DeviceConfig {
            threads: NonZeroUsize::new(setup.threads).unwrap(),
            clocks: setup.clocks,
            initiations: setup.limit,
            load: setup.load,
        };
        let interface = InterfaceConfig { name: pw(), key: key(setup.key), listen: at(listen), mark: setup.mark, roaming: setup.roaming };
        let (mut device, events) = Device::prepare(config, setup.adopt).unwrap();
        assert!(namespace.run(|| device.add_interface(interface)).unwrap());
        Ours { device, events }
    }

    /// Sessions agreed on that were not taken notice of.
    pub fn handshakes(&mut self) -> usize {
        std::iter::from_fn(|| self.events.try_recv().ok()).filter(|event| matches!(event, Event::Handshake { .. })).count()
    }

    pub fn received(&self) -> u64 {
        self.device.counters()[&pw()].traffic.received_packets
    }

    pub fn peer(&self, n: u8, config: &PeerConfig) {
        self.device.set_peer(&pw(), public(n), config).unwrap();
    }

    pub fn drops(&self) -> BTreeMap<DropReason, u64> {
        self.device.counters()[&pw()].drops.iter().filter(|(_, n)| **n > 0).map(|(why, n)| (*why, *n)).collect()
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.device.counters()[&pw()].drops[&reason]
    }

    /// Waits until so many have been dropped for this reason.
    pub fn await_drops(&self, reason: DropReason, count: u64) {
        until(|| self.dropped(reason) >= count, || format!("{count} times {reason:?}, of {:?}", self.drops()));
    }

    pub fn endpoint(&self, n: u8) -> Option<SocketAddr> {
        self.device.peer(&pw(), &public(n)).unwrap().and_then(|peer| peer.endpoint)
    }

    /// The next event of a kind.
    pub fn event<T>(&mut self, mut which: impl FnMut(Event) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    if let Some(found) = which(event) {
                        return found;
                    }
                }
                Err(_) => {
                    assert!(begun.elapsed() < PATIENCE, "no such event");
                    thread::yield_now();
                }
            }
        }
    }

    /// What comes next is news.
    pub fn forget_events(&mut self) {
        while self.events.try_recv().is_ok() {}
    }

    pub fn await_handshake(&mut self, n: u8) {
        self.event(|event| matches!(event, Event::Handshake { key, .. } if key == public(n)).then_some(()));
    }
}

pub fn until(mut done: impl FnMut() -> bool, what: impl Fn() -> String) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {}", what());
        thread::yield_now();
    }
}

/// The gateway is at 10.0.0.2, and 172.16.0.10 inside; its peer at 10.0.0.1, and 10.64.0.1 inside.
pub struct Net {
    pub host: Namespace,
    pub gateway: Namespace,
}

impl Net {
    pub fn new() -> Net {
        let (host, gateway) = (Namespace::new("host"), Namespace::new("gateway"));
        host.cable(&gateway, ("eth0", "10.0.0.1/24"), ("eth0", "10.0.0.2/24"));
        Net { host, gateway }
    }

    pub fn gateway(&self, setup: Setup) -> Ours {
        let ours = Ours::start(&self.gateway, "10.0.0.2:51820", setup);
        self.plumb_gateway();
        ours
    }

    pub fn plumb_gateway(&self) {
        self.gateway.ip("link set pw-1 mtu 1420 up");
        self.gateway.ip("address replace 172.16.0.10/32 dev lo");
        self.gateway.ip("route replace 10.64.0.0/16 dev pw-1 src 172.16.0.10");
    }

    /// A host of ours that is a peer of the gateway's, and it of the host.
    pub fn host(&self, gateway: &Ours, setup: Setup) -> Ours {
        let ours = Ours::start(&self.host, "10.0.0.1:51820", Setup { key: THEIRS, ..setup });
        self.plumb_host("pw-1");
        ours.peer(OURS, &allowed(&["172.16.0.0/16"], Some("10.0.0.2:51820")));
        gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
        ours
    }

    pub fn plumb_host(&self, device: &str) {
        self.host.ip(&format!("link set {device} mtu 1420 up"));
        self.host.ip(&format!("address replace 10.64.0.1/32 dev {device}"));
        self.host.ip(&format!("route replace 172.16.0.0/16 dev {device} src 10.64.0.1"));
    }

    /// The same with wireguard-go; the gateway need not know it.
    pub fn stranger(&self) -> Stranger {
        let stranger = Stranger::start(&self.host);
        stranger.set(&format!("listen-port 51820 private-key {}", stranger.key_file.path().display()));
        let gateway = public(OURS);
        stranger.set(&format!("peer {gateway} endpoint 10.0.0.2:51820 allowed-ips 172.16.0.0/16"));
        self.plumb_host(&stranger.device);
        stranger
    }

    /// Has the gateway count what it sends from its port and is like this; answers a look at how many packets that were.
    pub fn count_sent(&self, like: &str) -> impl Fn() -> u64 {
        for line in ["table ip seen", "chain ip seen out { type filter hook output priority 0 ; }"] {
            self.gateway.exec(&format!("nft add {line}"));
        }
        self.gateway.exec(&format!("nft add rule ip seen out udp sport 51820 {like} counter"));
        let begins = format!("{like} counter packets ");
        move || {
            let seen = self.gateway.exec("nft list chain ip seen out");
            let count = seen.lines().find_map(|line| line.split_once(&begins)?.1.split(' ').next()?.parse().ok());
            count.unwrap_or_else(|| panic!("{begins:?} is not in {seen}"))
        }
    }

    /// Sends the gateway initiations of which nothing is right but their first mac, for as long as this takes.
    pub fn flooded<T>(&self, from: &str, work: impl FnOnce() -> T) -> T {
        let socket = self.host.run(|| UdpSocket::bind(from)).unwrap();
        let done = AtomicBool::new(false);
        let begun = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in (0u64..).take_while(|_| begun.elapsed() < 2 * PATIENCE && !done.load(Ordering::Relaxed)) {
                    socket.send_to(&forged(n), "10.0.0.2:51820").unwrap();
                }
            });
            // Also if it does not come to its end.
            let _end = End(&done);
            work()
        })
    }

    pub fn ping(&self) {
        self.host.exec("ping -c 1 -W 8 172.16.0.10");
    }

    /// For a host that had a session which this end has forgotten: it may send by it until it has heard of another.
    pub fn await_ping(&self) {
        until(|| self.pings("-c 1 -W 1"), || "a ping to be answered".into());
    }

    pub fn pings(&self, arguments: &str) -> bool {
        self.host.output(&format!("ping {arguments} 172.16.0.10")).status.success()
    }

    /// Sends `data` to the gateway and gets back what it saw of it, and as much the other way.
    pub fn transfer(&self, data: &[u8]) {
        let listener = self.gateway.run(|| TcpListener::bind("172.16.0.10:5432")).unwrap();
        let served = thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&Sha256::digest(&all)).unwrap();
            stream.write_all(&all).unwrap();
            from.ip()
        });
        let mut stream = self.host.run(|| TcpStream::connect_timeout(&at("172.16.0.10:5432"), PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(data).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer[..32], Sha256::digest(data)[..], "what arrived at the server");
        assert!(answer[32..] == *data, "what came back");
        assert_eq!(served.join().unwrap().to_string(), "10.64.0.1");
    }
}

/// True when it goes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn forged(n: u64) -> [u8; 148] {
    let mut bytes = [7; 148];
    bytes[..4].copy_from_slice(&[1, 0, 0, 0]);
    bytes[8..16].copy_from_slice(&n.to_be_bytes());
    *Mac1::new(&public(OURS)).sign(Initiation::try_from(bytes).unwrap()).bytes()
}

/// Bytes that do not compress and do not repeat at the length of a segment.
pub fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn control_socket(device: &str) -> String {
    format!("/var/run/wireguard/{device}.sock")
}

/// A wireguard-go of its own.
pub struct Stranger {
    /// Unlike any other's on this machine: its control socket's name is made of it.
    pub device: String,
    process: Child,
    key_file: tempfile::NamedTempFile,
}

impl Stranger {
    fn start(namespace: &Namespace) -> Stranger {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let device = format!("s{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut key_file = tempfile::NamedTempFile::new().unwrap();
        writeln!(key_file, "{}", STANDARD.encode([THEIRS; 32])).unwrap();
        let process = Self::spawn(namespace, &device);
        Stranger { device, process, key_file }
    }

    fn spawn(namespace: &Namespace, device: &str) -> Child {
        let mut command = Command::new("wireguard-go");
        command.args(["--foreground", device]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = namespace.run(|| command.spawn()).expect("no wireguard-go: run scripts/install-deps test");
        // Not by wg: it removes the socket if it comes between its making and its listening.
        until(|| UnixStream::connect(control_socket(device)).is_ok(), || format!("wireguard-go to make {device}"));
        process
    }

    /// The same one once more, which has forgotten its sessions.
    pub fn restart(&mut self, net: &Net) {
        self.end();
        *self = net.stranger();
    }

    pub fn set(&self, arguments: &str) {
        let output = Command::new("wg").arg("set").arg(&self.device).args(arguments.split(' ')).output();
        let output = output.expect("no wg: run scripts/install-deps test");
        assert!(output.status.success(), "wg set {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn show(&self, what: &str) -> String {
        let output = Command::new("wg").args(["show", &self.device, what]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(control_socket(&self.device));
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.end();
    }
}
