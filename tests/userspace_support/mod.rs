//! Network namespaces of a test's own, and a function host and a gateway in two of them.
//!
//! A namespace lives as long as the descriptor that holds it; nothing is done in the one that the test started in.

#![allow(dead_code, reason = "every test program uses a part")]

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};
use portway::model::{GreKey, IfName};
use portway::userspace::{Dataplane, DataplaneConfig, Descriptors, DropReason, End, Tunnel};
use portway::wire::{gre, ipv4};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

pub struct Namespace {
    file: File,
    /// For whoever debugs.
    name: &'static str,
}

impl Namespace {
    pub fn new(name: &'static str) -> Namespace {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces want root: run the tests as root (or under `unshare -Urn`)");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let namespace = Namespace { file: thread::spawn(make).join().unwrap(), name };
        println!("{name}: nsenter --net={}", namespace.path());
        namespace.ip("link set lo up");
        namespace
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Does something in a thread that is inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a command to its end.
    pub fn output(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        self.run(|| command.output()).unwrap_or_else(|fault| panic!("{}: {line}: {fault}: is it installed?", self.name))
    }

    /// Runs a command that must succeed.
    pub fn exec(&self, line: &str) -> String {
        let output = self.output(line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}: {line}: {}{}", self.name, text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    pub fn ip(&self, arguments: &str) {
        self.exec(&format!("ip {arguments}"));
    }

    /// A cable to another namespace, with an address at each end.
    pub fn cable(&self, other: &Namespace, ours: (&str, &str), theirs: (&str, &str)) {
        self.ip(&format!("link add {} type veth peer name {} netns {}", ours.0, theirs.0, other.path()));
        for (namespace, (device, address)) in [(self, ours), (other, theirs)] {
            namespace.ip(&format!("address add {address} dev {device}"));
            namespace.ip(&format!("link set {device} up"));
        }
    }

    pub fn offloads_off(&self, device: &str) {
        self.exec(&format!("ethtool -K {device} tso off gso off gro off"));
    }
}

pub fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub const KEY: GreKey = GreKey(7001);

/// A function host 10.0.0.1 and a gateway 10.0.0.2, joined by a cable; the inner address is 10.64.0.1, the server
/// 172.16.0.10 is the gateway itself.
pub struct Pair {
    pub host: Namespace,
    pub gateway: Namespace,
    pub host_path: Dataplane,
    pub gateway_path: Dataplane,
}

pub fn start(namespace: &Namespace, adopt: Descriptors) -> Dataplane {
    namespace.run(|| Dataplane::start(&DataplaneConfig::default(), adopt)).unwrap()
}

pub fn host_tunnel(n: usize, key: GreKey) -> Tunnel {
    host_tunnel_to(n, "10.0.0.2", key)
}

pub fn host_tunnel_to(n: usize, gateway: &str, key: GreKey) -> Tunnel {
    let end = End::Host { gateway: address(gateway), inner: address("10.64.0.1"), cidrs: vec!["172.16.0.0/16".parse().unwrap()] };
    Tunnel { interface: name(&format!("pw-{n}")), local: address("10.0.0.1"), key, end }
}

pub fn gateway_tunnel(n: usize, key: GreKey) -> Tunnel {
    gateway_tunnel_at(n, "10.0.0.2", key)
}

pub fn gateway_tunnel_at(n: usize, local: &str, key: GreKey) -> Tunnel {
    Tunnel { interface: name(&format!("pw-{n}")), local: address(local), key, end: End::Gateway }
}

impl Pair {
    pub fn new() -> Pair {
        let (host, gateway) = (Namespace::new("host"), Namespace::new("gateway"));
        host.cable(&gateway, ("eth0", "10.0.0.1/24"), ("eth0", "10.0.0.2/24"));
        let mut host_path = start(&host, Descriptors::new());
        let mut gateway_path = start(&gateway, Descriptors::new());
        host.run(|| host_path.add_tunnel(&host_tunnel(1, KEY))).unwrap();
        gateway.run(|| gateway_path.add_tunnel(&gateway_tunnel(1, KEY))).unwrap();
        gateway_path.set_peer(&name("pw-1"), address("10.0.0.1"), &["10.64.0.1/32".parse().unwrap()]).unwrap();
        let pair = Pair { host, gateway, host_path, gateway_path };
        pair.plumb();
        pair
    }

    /// Addresses and routes of the TUN devices: what the kernel's reconciler does.
    pub fn plumb(&self) {
        self.host.ip("link set pw-1 mtu 1472 up");
        self.host.ip("address replace 10.64.0.1/32 dev pw-1");
        self.host.ip("route replace 172.16.0.0/16 dev pw-1 src 10.64.0.1");
        self.gateway.ip("link set pw-1 mtu 1472 up");
        self.gateway.ip("address replace 172.16.0.10/32 dev lo");
        self.gateway.ip("route replace 10.64.0.0/16 dev pw-1 src 172.16.0.10");
        for (namespace, path, tunnel) in [(&self.host, &self.host_path, "pw-1"), (&self.gateway, &self.gateway_path, "pw-1")] {
            namespace.exec(&format!("ip link show dev {tunnel}"));
            assert!(path.tunnels().iter().any(|t| t.interface.as_str() == tunnel));
        }
    }

    /// Sends GRE payloads to the gateway from an outer source in the host's namespace, past the host's own data path.
    pub fn inject(&self, source: &str, payloads: &[Vec<u8>]) {
        self.inject_to("10.0.0.2", source, payloads);
    }

    pub fn inject_to(&self, destination: &str, source: &str, payloads: &[Vec<u8>]) {
        let [source, destination]: [Ipv4Addr; 2] = [source, destination].map(|address| address.parse().unwrap());
        let to = SockaddrIn::from(SocketAddrV4::new(destination, 0));
        self.host.run(|| {
            let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
            for payload in payloads {
                let packet = [&ipv4::outer(source, destination, 0, 20 + payload.len() as u16, 1)[..], payload].concat();
                sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
            }
        });
    }
}

/// What the gateway has dropped since it was started.
pub fn drops(pair: &Pair) -> BTreeMap<DropReason, u64> {
    pair.gateway_path.counters().drops
}

/// Waits until so many packets more than before have been dropped, and gives the reasons.
pub fn dropped_since(pair: &Pair, before: &BTreeMap<DropReason, u64>, count: u64) -> BTreeMap<DropReason, u64> {
    let start = Instant::now();
    loop {
        let new = drops(pair).into_iter().map(|(why, n)| (why, n - before[&why])).filter(|(_, n)| *n > 0).collect::<BTreeMap<_, _>>();
        if new.values().sum::<u64>() >= count {
            return new;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "only {new:?}");
        thread::yield_now();
    }
}

/// An IPv4 packet with a right header checksum.
pub fn inner(source: &str, destination: &str, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = ipv4::outer(source.parse().unwrap(), destination.parse().unwrap(), 0, 0, 1).to_vec();
    packet[9] = protocol;
    packet.extend(body);
    let len = packet.len() as u16;
    ipv4::set_total_len(&mut packet[..20], len);
    packet
}

/// A ping that the gateway takes.
pub fn echo() -> Vec<u8> {
    inner("10.64.0.1", "172.16.0.10", 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])
}

pub fn with_key(key: u32, inner: &[u8]) -> Vec<u8> {
    [&gre::header(GreKey(key), gre::Protocol::Ipv4)[..], inner].concat()
}
