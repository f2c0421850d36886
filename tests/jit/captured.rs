//! Initiations that a packet socket sees, and that the machine opens itself, as with the kernel's WireGuard. What stands in for that here is our
//! device, at another port than the one that is knocked at.

use crate::gate::*;
use crate::support::*;
use crate::userspace_support::{Namespace, name};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket};
use portway::gateway::jit::{Capture, Greeting, Order, Setup};
use portway::kernel::knock_socket::{Again, KnockSocket};
use portway::kernel::vrrp_socket::Family;
use portway::model::{Lane, PrivateKey};
use portway::plan::gateway::ends::End;
use portway::proto::jit::Refusal;
use portway::wire::wireguard::{Initiation, Mac1};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const PORT: u16 = 51_999;

fn host() -> PrivateKey {
    key(THEIRS)
}

fn capturing(setup: &mut Setup) {
    setup.capture = Some(Capture { interface: name("eth0"), family: Family::V4 });
    setup.greeting = Greeting::Initiate;
    setup.config = portway::proto::jit::Config::default();
}

fn serve(gate: &Gate, port: u16) {
    gate.door.order(Order::Serve { of: shard(), slot: slot(), ends: vec![End { lane: Lane::First, key: key(OURS), port }] });
}

fn open(net: &Net) -> Gate {
    let gate = Gate::with(net, capturing);
    serve(&gate, PORT);
    gate
}

/// To a port where nobody listens. Not connected: the kernel would have the next datagram fail that says so.
struct Sender(UdpSocket, u16);

impl Sender {
    fn send(&self, bytes: &[u8]) {
        self.0.send_to(bytes, ("10.0.0.2", self.1)).unwrap();
    }
}

fn to(net: &Net, port: u16, from: u16) -> Sender {
    Sender(net.host.run(|| UdpSocket::bind(("10.0.0.1", from))).unwrap(), port)
}

/// Until it is captured: the socket may not be open yet when an order returns.
fn knock_until(gate: &Gate, socket: &Sender, mut second: u64, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "nobody hears: {:?}", gate.door.report());
        socket.send(&initiation(&host(), second));
        second += 1;
        std::thread::sleep(10 * MS);
    }
}

#[test]
fn who_knocks_is_captured_opened_installed_and_greeted() {
    let net = Net::new();
    let mut gate = open(&net);
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    // Not connected: what comes back comes from the interface's own port.
    let socket = net.host.run(|| UdpSocket::bind("10.0.0.1:4000")).unwrap();
    socket.set_read_timeout(Some(10 * MS)).unwrap();
    let (begun, mut second, mut room) = (Instant::now(), 1, [0; 2048]);
    let (length, from) = loop {
        assert!(begun.elapsed() < PATIENCE, "no greeting");
        // The packet socket may not be open yet.
        socket.send_to(&initiation(&host(), second), ("10.0.0.2", PORT)).unwrap();
        second += 1;
        if let Ok(got) = socket.recv_from(&mut room) {
            break got;
        }
    };
    assert_eq!((length, room[0], from), (148, 1, at("10.0.0.2:51820")), "an initiation of ours");
    gate.await_installed(host().public());
    assert!(gate.stands(&host().public()));
    assert_eq!(gate.door.report().greeted.initiated, 1);
    assert_eq!(gate.door.report().counters.refused(Refusal::Mac1), 0);
}

#[test]
fn what_is_not_genuine_is_counted_by_its_reason() {
    let net = Net::new();
    let mut gate = open(&net);
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    let socket = to(&net, PORT, 4000);
    let genuine = initiation(&host(), 1_000);
    let signed = |at: usize| {
        let mut bytes = genuine;
        bytes[at] ^= 1;
        *Mac1::new(&public(OURS)).sign(Initiation::try_from(bytes).unwrap()).bytes()
    };
    let mut unsigned = genuine;
    unsigned[116] ^= 1;
    knock_until(&gate, &socket, 1, || gate.door.report().counters.installed == 1);
    gate.await_installed(host().public());
    let before = gate.door.report().counters;
    let count = |why, bytes: &[u8; 148]| {
        let already = gate.refused(why);
        socket.send(bytes);
        gate.await_refused(why, already + 1);
    };
    count(Refusal::Mac1, &unsigned);
    count(Refusal::NotForUs, &signed(50));
    count(Refusal::Forged, &signed(100));
    count(Refusal::Unknown, &initiation(&key(9), 1));
    let recording = initiation(&host(), 0);
    count(Refusal::Replayed, &recording);
    count(Refusal::Repeated, &recording);
    // Too short, too long, another type, another port: they do not come as far.
    socket.send(&genuine[..147]);
    socket.send(&[&genuine[..], &[0]].concat());
    socket.send(&[&[2], &genuine[1..]].concat());
    to(&net, PORT + 1, 4001).send(&genuine);
    socket.send(&genuine);
    until(|| gate.door.report().counters.renewed > before.renewed, || "the genuine one".into());
    let others: u64 = gate.door.report().counters.refusals().map(|(_, n)| n).sum::<u64>() - before.refusals().map(|(_, n)| n).sum::<u64>();
    assert_eq!(others, 6, "{:?}", gate.refusals());
    assert_eq!(gate.door.report().captures_lost, 0);
}

#[test]
fn another_port_is_heard_from_then_on() {
    let net = Net::new();
    let gate = open(&net);
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    let (first, second) = (to(&net, PORT, 4000), to(&net, PORT + 1, 4001));
    knock_until(&gate, &first, 1, || gate.door.report().counters.installed == 1);
    serve(&gate, PORT + 1);
    knock_until(&gate, &second, 10_000, || gate.door.report().counters.renewed > 0);
    let claims = gate.door.report().counters.claims;
    first.send(&initiation(&host(), 90_000));
    second.send(&initiation(&host(), 90_001));
    until(|| gate.door.report().counters.claims > claims, || "the second".into());
    assert_eq!(gate.door.report().counters.claims, claims + 1);
}

#[test]
fn a_platform_interface_that_comes_back_is_heard_again() {
    let net = Net::new();
    let gate = open(&net);
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    let socket = to(&net, PORT, 4000);
    knock_until(&gate, &socket, 1, || gate.door.report().counters.installed == 1);
    net.host.ip("link delete eth0");
    drop(socket);
    net.host.cable(&net.gateway, ("eth0", "10.0.0.1/24"), ("eth0", "10.0.0.2/24"));
    let socket = to(&net, PORT, 4000);
    knock_until(&gate, &socket, 10_000, || gate.door.report().counters.renewed > 0);
}

/// What is for a VLAN of the interface is not the interface's; and of fragments there are none.
#[test]
fn only_the_interfaces_own_whole_packets_are_captured() {
    let net = Net::new();
    let mut ears = net.gateway.run(|| KnockSocket::open(&name("eth0"), Family::V4, [PORT])).unwrap();
    let heard = |ears: &mut KnockSocket| {
        let mut all = Vec::new();
        ears.receive(|captured| all.push((captured.from, captured.to, captured.payload.to_vec()))).unwrap();
        all
    };
    let genuine = initiation(&host(), 1);
    net.host.run(|| send_tagged(&net, &genuine));
    // 1,480 bytes of the first, the rest in a second, which has no header of UDP and may begin with anything.
    let socket = to(&net, PORT, 4000);
    socket.send(&[1, 0, 0, 0].repeat(700));
    socket.send(&genuine);
    until_heard(&mut ears, &(at("10.0.0.1:4000"), SocketAddr::from(([10, 0, 0, 2], PORT)), genuine.to_vec()));
    assert_eq!(heard(&mut ears), []);
    assert_eq!(ears.lost(), 0);
}

/// The same in VLAN 5, past the kernel, which may know no VLANs.
fn send_tagged(net: &Net, payload: &[u8]) {
    let link = net.gateway.exec("ip -o link show dev eth0");
    let mac = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let udp = [4000u16, PORT, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
    let mut ip = portway::wire::ipv4::outer([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 0, 0, 1);
    ip[9] = 17;
    portway::wire::ipv4::set_total_len(&mut ip, (20 + udp.len() + payload.len()) as u16);
    let frame = [&mac[..], &[2, 0, 0, 0, 0, 1], &[0x81, 0, 0, 5, 8, 0], &ip, &udp, payload].concat();
    let index = nix::net::if_::if_nametoindex("eth0").unwrap();
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0x8100u16.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the pointer is to a whole sockaddr_ll of that length, which is copied before this returns.
    let address = unsafe { LinkAddr::from_raw(std::ptr::from_ref(&address).cast(), Some(length)) }.unwrap();
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
    assert_eq!(sendto(raw.as_raw_fd(), &frame, &address, MsgFlags::empty()).unwrap(), frame.len());
}

/// The first thing that is heard.
fn until_heard(ears: &mut KnockSocket, expected: &(SocketAddr, SocketAddr, Vec<u8>)) {
    let mut all = Vec::new();
    let begun = Instant::now();
    while all.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "nothing was heard");
        ears.receive(|captured| all.push((captured.from, captured.to, captured.payload.to_vec()))).unwrap();
    }
    assert_eq!(all, std::slice::from_ref(expected));
}

#[test]
fn ipv6_is_captured_as_well() {
    let net = Net::new();
    for (namespace, address) in [(&net.host, "fd00::1"), (&net.gateway, "fd00::2")] {
        namespace.ip(&format!("address add {address}/64 dev eth0 nodad"));
    }
    let mut ears = net.gateway.run(|| KnockSocket::open(&name("eth0"), Family::V6, [PORT])).unwrap();
    let socket = net.host.run(|| UdpSocket::bind("[fd00::1]:4000")).unwrap();
    let genuine = initiation(&host(), 1);
    socket.send_to(&genuine, ("fd00::2", PORT)).unwrap();
    until_heard(
        &mut ears,
        &(at("[fd00::1]:4000"), SocketAddr::from(("fd00::2".parse::<std::net::Ipv6Addr>().unwrap(), PORT)), genuine.to_vec()),
    );
}

/// More than there is room for is lost, and counted.
#[test]
fn what_finds_no_room_is_counted() {
    let net = Net::new();
    let mut ears = net.gateway.run(|| KnockSocket::open(&name("eth0"), Family::V4, [PORT])).unwrap();
    let socket = to(&net, PORT, 4000);
    let genuine = initiation(&host(), 1);
    let begun = Instant::now();
    while ears.lost() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "room without end");
        (0..1_000).for_each(|_| socket.send(&genuine));
    }
}

/// Once more, from whom it came, to a socket of this machine; to another machine's address nothing leaves.
#[test]
fn an_initiation_is_brought_in_once_more_as_it_came() {
    let net = Net::new();
    let namespace: &Namespace = &net.gateway;
    namespace.ip("address add fd00::2/64 dev eth0 nodad");
    let again = namespace.run(Again::open).unwrap();
    let genuine = Initiation::try_from(initiation(&host(), 1)).unwrap();
    for (local, from) in [("10.0.0.2:51820", "192.0.2.77:51820"), ("[fd00::2]:51820", "[2001:db8::77]:4000")] {
        let socket = namespace.run(|| UdpSocket::bind(local)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        namespace.run(|| again.send(at(from), at(local), &genuine)).unwrap();
        let mut room = [0; 200];
        let (length, source) = socket.recv_from(&mut room).unwrap();
        assert_eq!((&room[..length], source), (&genuine.bytes()[..], at(from)));
    }
    // An address that is another machine's: it hears nothing of it.
    net.host.ip("address add 10.0.0.3/24 dev eth0");
    let (other, marker) =
        (net.host.run(|| UdpSocket::bind("10.0.0.3:51820")).unwrap(), namespace.run(|| UdpSocket::bind("10.0.0.2:9")).unwrap());
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    let send = |from, to| namespace.run(|| again.send(at(from), at(to), &genuine));
    assert!(send("192.0.2.77:51820", "10.0.0.3:51820").is_err());
    marker.send_to(b"marker", "10.0.0.3:51820").unwrap();
    assert_eq!(other.recv_from(&mut [0; 200]).unwrap(), (6, at("10.0.0.2:9")));
    assert!(send("192.0.2.77:1", "[fd00::2]:51820").is_err());
}
