//! Connections that take the short way (the kernel's flow table) on both nodes of a stock kernel: what ends them, and who cannot get in.

mod vm_support;

use portway::config::Backend;
use portway::lab::topology::{Container, Wiring};
use portway::lab::{ETHERTYPE_IPV4, Lab, Topology, checksum, gre, ipv4, tcp};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use vm_support::{PATIENCE, inside, sh, wait};

const PORTWAY: &str = env!("CARGO_BIN_EXE_portway");
const GATEWAY: &str = "gw-acme";
const SERVER: &str = "db-acme";
/// The server's address, and a port of it that the tenant may reach.
const TO: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 16, 101, 20), 5203);
/// Outer addresses.
const GATEWAY_OUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const HOST_OUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 101);
/// What `host-1` is called in its tunnel, and the tunnel's key.
const INNER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 101);
const KEY: u32 = 7;
/// How long what must not come is waited for.
const SILENCE: Duration = Duration::from_secs(3);
const COPIES: u64 = 5;
/// The class of service of packets written by hand, by which a node counts them.
const BY_HAND: u8 = 42;

/// Two tenants and two hosts, a container of each tenant on each host: attached. No reverse path filter, which would hide what the
/// rules let through.
fn lab() -> Lab {
    let mut topology = Topology::of(&["acme", "blue"], &[Wiring::Veth, Wiring::Veth]);
    topology.rp_filter = 0;
    let mut lab = Lab::build(topology).unwrap();
    lab.start_daemons(Path::new(PORTWAY), Backend::Kernel).unwrap();
    lab.attach_all().unwrap();
    lab
}

/// The entry of the connection, as `conntrack` tells it.
fn entry(lab: &Lab, node: &str) -> String {
    sh(lab, node, &format!("conntrack -L -p tcp --dport {} 2>/dev/null", TO.1))
}

/// A function that sends, little by little, one letter again and again; a server that counts the letters.
struct Talk {
    letter: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
    received: Arc<[AtomicU64; 2]>,
}

impl Talk {
    /// Begun, and on the short way on both nodes.
    fn start(lab: &Lab, container: &Container) -> Self {
        let talk = Self { letter: Arc::new(b'a'.into()), stop: Arc::default(), received: Arc::default() };
        let listener = lab.node(SERVER).unwrap().run(|| TcpListener::bind(TO)).unwrap();
        let received = talk.received.clone();
        std::thread::spawn(move || {
            let (mut stream, mut block) = (listener.accept().unwrap().0, [0; 4096]);
            while let Ok(length @ 1..) = stream.read(&mut block) {
                for byte in &block[..length] {
                    received[usize::from(byte - b'a')].fetch_add(1, Relaxed);
                }
            }
        });
        let mut stream = lab.node(&container.node).unwrap().run(|| TcpStream::connect_timeout(&TO.into(), PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(SILENCE)).unwrap();
        let (letter, stop) = (talk.letter.clone(), talk.stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Relaxed) && stream.write_all(&[letter.load(Relaxed); 100]).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        for node in [container.host.as_str(), GATEWAY] {
            wait(&format!("[OFFLOAD] at {node}"), || entry(lab, node).contains("[OFFLOAD]"));
        }
        talk.goes_on();
        talk
    }

    fn received(&self, letter: u8) -> u64 {
        self.received[usize::from(letter - b'a')].load(Relaxed)
    }

    fn goes_on(&self) {
        let before = self.received(b'a');
        wait("more of the connection", || self.received(b'a') > before + 1000);
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// A lab in which the first function talks.
fn talking() -> (Lab, Container, Talk) {
    let lab = lab();
    let container = lab.topology.containers[0].clone();
    let talk = Talk::start(&lab, &container);
    (lab, container, talk)
}

#[test]
fn detaching_ends_an_offloaded_connection_at_once() {
    inside("detaching_ends_an_offloaded_connection_at_once", || {
        let (lab, container, talk) = talking();
        let detach = format!("PORTWAY_RUNTIME_DIR={} {PORTWAY} detach {}", lab.dir().runtime(&container.host).display(), container.node);
        sh(&lab, &container.host, &detach);
        // Nothing that is written from now on arrives,
        talk.letter.store(b'b', Relaxed);
        // nor, but for what was on its way already, anything written before.
        std::thread::sleep(Duration::from_millis(300));
        let before = talk.received(b'a');
        std::thread::sleep(SILENCE);
        assert_eq!((talk.received(b'a') - before, talk.received(b'b')), (0, 0), "bytes after the detachment");
        assert!(!entry(&lab, &container.host).contains("OFFLOAD"), "{}", entry(&lab, &container.host));
    });
}

/// A segment in the middle of a connection, in an IPv4 packet that [`count_by_hand`] counts.
fn segment(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    // PSH and ACK.
    let mut packet = ipv4(from.0, to.0, 6, &tcp(from, to, 0x18, b"forged"));
    packet[1] = BY_HAND << 2;
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// From now on a node counts what was written by hand and is addressed to it.
fn count_by_hand(lab: &Lab, node: &str) {
    sh(
        lab,
        node,
        &format!(
            "nft 'table ip probe {{ counter c {{ }}; chain in {{ type filter hook prerouting priority -400; ip dscp {BY_HAND} counter name c; }}; }}'"
        ),
    );
}

fn by_hand(lab: &Lab, node: &str) -> u64 {
    let counter = sh(lab, node, "nft list counter ip probe c");
    counter.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
}

/// An IPv4 packet with its own header, which the kernel sends as it is.
fn send(lab: &Lab, node: &str, source: Ipv4Addr, destination: Ipv4Addr, inner: &[u8]) {
    let packet = ipv4(source, destination, 47, &gre(KEY, ETHERTYPE_IPV4, inner));
    let to = SocketAddr::from(SocketAddrV4::new(destination, 0));
    let socket = lab.node(node).unwrap().run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))).unwrap();
    for _ in 0..COPIES {
        socket.send_to(&packet, &to.into()).unwrap();
    }
}

/// The word after `key` in the answering direction of a connection's entry.
fn answering(entry: &str, key: &str) -> u16 {
    entry.split_whitespace().filter_map(|word| word.strip_prefix(key)).nth(1).unwrap_or_else(|| panic!("{key} in {entry}")).parse().unwrap()
}

/// Sends honest packets, then those of a stranger, then honest ones again: how many of the stranger's came.
fn arrived(lab: &Lab, at: &str, honest: &dyn Fn(), stranger: &dyn Fn()) -> u64 {
    let start = by_hand(lab, at);
    honest();
    wait("honest packets", || by_hand(lab, at) >= start + COPIES);
    stranger();
    std::thread::sleep(SILENCE);
    honest();
    wait("honest packets afterwards", || by_hand(lab, at) >= start + 2 * COPIES);
    std::thread::sleep(SILENCE);
    by_hand(lab, at) - start - 2 * COPIES
}

#[test]
fn nobody_else_gets_into_an_offloaded_connection() {
    inside("nobody_else_gets_into_an_offloaded_connection", || {
        let (lab, container, talk) = talking();
        let port = answering(&entry(&lab, &container.host), "dport=");
        let mut failed = Vec::new();

        count_by_hand(&lab, SERVER);
        sh(&lab, SERVER, &format!("ip route add {GATEWAY_OUTER} via 172.16.101.4"));
        let inner = segment((INNER, port), TO);
        let honest = || send(&lab, "host-1", HOST_OUTER, GATEWAY_OUTER, &inner);
        for (what, node, source) in [
            ("another listed host", "host-2", Ipv4Addr::new(10, 9, 0, 102)),
            ("somebody on the platform who is not listed", "platform", Ipv4Addr::new(10, 9, 0, 254)),
            ("the server's side, with the host's outer source", SERVER, HOST_OUTER),
            ("the server's side, with its own source", SERVER, TO.0),
        ] {
            let count = arrived(&lab, SERVER, &honest, &|| send(&lab, node, source, GATEWAY_OUTER, &inner));
            if count > 0 {
                failed.push(format!("to the server, from {what}: {count} of {COPIES}"));
            }
        }

        count_by_hand(&lab, &container.node);
        let answer = segment(TO, (INNER, port));
        let honest = || send(&lab, GATEWAY, GATEWAY_OUTER, HOST_OUTER, &answer);
        for (what, node, source) in [
            ("another gateway", "gw-blue", Ipv4Addr::new(10, 9, 0, 2)),
            ("another tenant's function, with the gateway's outer source", "fn-1b", GATEWAY_OUTER),
        ] {
            let count = arrived(&lab, &container.node, &honest, &|| send(&lab, node, source, HOST_OUTER, &answer));
            if count > 0 {
                failed.push(format!("to the function, from {what}: {count} of {COPIES}"));
            }
        }
        assert!(failed.is_empty(), "packets of strangers came:\n{}", failed.join("\n"));
        for node in [container.host.as_str(), GATEWAY] {
            assert!(entry(&lab, node).contains("[OFFLOAD]"), "{}", entry(&lab, node));
        }
        talk.goes_on();
    });
}
