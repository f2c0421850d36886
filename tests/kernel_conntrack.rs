//! Connections read from one kernel and written into another: seen by `conntrack`, compared with conntrackd, and put to the test by
//! moving live ones from gateway to gateway.

mod conntrack_support;

use conntrack_support::{MARK, SERVER, TRANSLATED, Topology, ZONE, computed, sh, until};
use nix::poll::{PollFd, PollFlags, poll};
use portway::kernel::conntrack::{Conntrack, Filter, FlowDump, FlowWatch, Notices, Written};
use portway::lab::Netns;
use portway::model::{Flow, FlowChange, FlowKey, FlowProtocol, FlowStatus, FlowStep, Mark, NatSource, TcpState};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

fn dump(gateway: &Netns, filter: Filter) -> Vec<Flow> {
    let mut dump = gateway.run(|| FlowDump::start(filter).unwrap());
    let mut flows = Vec::new();
    while dump.next(|flow| flows.push(flow)).unwrap() {}
    flows
}

/// Without the timeouts, which run.
fn timeless(flows: impl IntoIterator<Item = Flow>) -> Vec<Flow> {
    flows.into_iter().map(|flow| Flow { timeout: 0, ..flow }).collect()
}

fn open(gateway: &Netns) -> Conntrack {
    gateway.run(|| Conntrack::open().unwrap())
}

fn create(conntrack: &mut Conntrack, flows: &[Flow]) -> Written {
    conntrack.apply(&flows.iter().copied().map(FlowStep::Create).collect::<Vec<_>>()).unwrap()
}

/// A client and a server that have spoken once.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    fn new(topology: &Topology, listener: &TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let client = topology.client.run(|| TcpStream::connect((SERVER, port)).unwrap());
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), TRANSLATED);
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let mut connection = Self { client, server };
        connection.client_speaks();
        connection.server_speaks();
        connection
    }

    fn client_speaks(&mut self) {
        say(&mut self.client, &mut self.server);
    }

    fn server_speaks(&mut self) {
        say(&mut self.server, &mut self.client);
    }
}

fn say(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

fn listener(topology: &Topology) -> TcpListener {
    topology.server.run(|| TcpListener::bind((SERVER, 0)).unwrap())
}

/// Three TCP connections, two UDP, one ping.
struct Traffic {
    tcp: Vec<Connection>,
    udp: Vec<(UdpSocket, UdpSocket)>,
}

fn traffic(topology: &Topology) -> Traffic {
    let listener = listener(topology);
    let tcp = (0..3).map(|_| Connection::new(topology, &listener)).collect();
    let udp = (0..2).map(|_| {
        let server = topology.server.run(|| UdpSocket::bind((SERVER, 0)).unwrap());
        let client = topology.client.run(|| UdpSocket::bind("10.1.0.10:0").unwrap());
        client.connect(server.local_addr().unwrap()).unwrap();
        (client, server)
    });
    let traffic = Traffic { tcp, udp: udp.collect() };
    // Twice, for the kernel to be sure of the flow.
    for (client, server) in traffic.udp.iter().chain(&traffic.udp).chain(&traffic.udp) {
        let mut buffer = [0; 16];
        client.send(b"ask").unwrap();
        let (_, peer) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"answer", peer).unwrap();
        client.recv(&mut buffer).unwrap();
    }
    sh(&topology.client, &format!("ping -q -c 1 -W 5 {SERVER}"));
    traffic
}

#[test]
fn flows_of_real_traffic_stand_the_same_in_another_kernel() {
    let topology = Topology::new(2);
    let mut watch = topology.gateways[0].run(|| FlowWatch::open(Filter::zone(ZONE), 4 << 20).unwrap());
    assert!(watch.buffer_size() >= 4 << 20);
    let _traffic = traffic(&topology);
    let flows = dump(&topology.gateways[0], Filter::zone(ZONE));
    assert_eq!(flows.len(), 6, "{flows:?}");
    for flow in &flows {
        assert_eq!((flow.key.zone, flow.mark, flow.nat.unwrap().address), (ZONE, Mark(MARK), TRANSLATED.parse::<IpAddr>().unwrap()));
        assert_eq!(flow.tcp, matches!(flow.key.protocol, FlowProtocol::Tcp { .. }).then_some(TcpState::Established));
    }

    let written = create(&mut open(&topology.gateways[1]), &flows);
    assert_eq!((written.created, written.updated, written.refused.len()), (6, 0, 0), "{:?}", written.refused);
    let (here, there) = (topology.seen(0), topology.seen(1));
    assert_eq!(here, there);
    assert_eq!(here.len(), 6);
    assert!(here.iter().any(|flow| flow.contains("protoname=\"icmp\"")), "{here:?}");

    // What was told as it happened comes to the same.
    let mut told = BTreeMap::new();
    let end = watch.read(|change| match change {
        FlowChange::Upsert(flow) => drop(told.insert(flow.key, flow)),
        FlowChange::Destroy(key) => drop(told.remove(&key)),
    });
    assert_eq!(end.unwrap(), Notices::Drained);
    assert_eq!(told.keys().collect::<BTreeSet<_>>(), flows.iter().map(|flow| &flow.key).collect());
    for flow in &flows {
        let told = told[&flow.key];
        assert_eq!((told.nat, told.mark, told.status), (flow.nat, flow.mark, flow.status), "{flow:?}");
        assert_eq!(told.tcp, flow.tcp);
    }
}

fn sample(port: u16, nat: u16) -> Flow {
    let ip = |last| IpAddr::V4(Ipv4Addr::new(10, 2, 0, last));
    Flow {
        key: FlowKey {
            zone: ZONE,
            source: "10.1.0.10".parse().unwrap(),
            destination: ip(10),
            protocol: FlowProtocol::Tcp { source: port, destination: 80 },
        },
        nat: Some(NatSource { address: ip(1), port: nat }),
        tcp: Some(TcpState::SynReceived),
        status: FlowStatus { seen_reply: true, assured: false },
        mark: Mark(MARK),
        timeout: 300,
    }
}

#[test]
fn writing_is_idempotent_and_follows_the_state() {
    let gateway = Netns::create().expect("these tests make network namespaces: run them as root");
    let mut conntrack = open(&gateway);
    let first = sample(1000, 20000);
    let mut count = |step: FlowStep| {
        let written = conntrack.apply(&[step]).unwrap();
        assert!(written.refused.is_empty(), "{:?}", written.refused);
        (written.created, written.updated)
    };
    assert_eq!(count(FlowStep::Create(first)), (1, 0));
    assert_eq!(count(FlowStep::Create(first)), (0, 1), "again");
    let established =
        Flow { tcp: Some(TcpState::Established), status: FlowStatus { seen_reply: true, assured: true }, timeout: 432_000, ..first };
    assert_eq!(count(FlowStep::Update(established)), (0, 1));
    let standing = dump(&gateway, Filter::default());
    assert_eq!(timeless(standing.clone()), timeless([established]));
    assert!(standing[0].timeout > 431_990, "{standing:?}");
    assert_eq!(count(FlowStep::Create(first)), (0, 1), "assured is never taken back");
    assert_eq!(dump(&gateway, Filter::default())[0].status, established.status);
    let untold = Flow { tcp: None, ..first };
    assert_eq!(count(FlowStep::Update(untold)), (0, 1), "a state that is not told stays");
    assert_eq!(dump(&gateway, Filter::default())[0].tcp, Some(TcpState::SynReceived));
    let moved = Flow { nat: Some(NatSource { port: 20001, ..first.nat.unwrap() }), ..first };
    assert_eq!(count(FlowStep::Create(moved)), (1, 0), "another translation replaces");
    assert_eq!(timeless(dump(&gateway, Filter::default())), timeless([moved]));
    let other = sample(1001, 20002);
    assert_eq!(count(FlowStep::Update(other)), (1, 0), "an update of what is gone creates");

    let mut all = dump(&gateway, Filter::default());
    all.sort_by_key(|flow| flow.key);
    assert_eq!(timeless(all), timeless([moved, other]));
    assert_eq!(timeless(conntrack.find(&other.key).unwrap()), timeless([other]));
    let twice = conntrack.apply(&[FlowStep::Delete(other.key), FlowStep::Delete(other.key)]).unwrap();
    assert_eq!((twice.deleted, twice.refused.len()), (1, 0), "deleting is idempotent too");
    assert_eq!(conntrack.find(&other.key).unwrap(), None);

    // What was believed wrongly does not undo what comes after it.
    conntrack.apply(&[FlowStep::Create(moved), FlowStep::Delete(moved.key), FlowStep::Update(other), FlowStep::Delete(other.key)]).unwrap();
    assert_eq!(dump(&gateway, Filter::default()), []);
}

#[test]
fn a_zone_or_a_mark_goes_and_nothing_else() {
    let gateway = Netns::create().expect("these tests make network namespaces: run them as root");
    let mut conntrack = open(&gateway);
    let in_zone = |port, zone, mark| {
        let flow = sample(port, port + 20000);
        Flow { key: FlowKey { zone, ..flow.key }, mark: Mark(mark), ..flow }
    };
    let flows = [in_zone(1, 0, 0), in_zone(2, 0x2001, 0x1_2001), in_zone(3, 0x2001, 0x2_2001), in_zone(4, 0x2002, 0x1_2002)];
    assert_eq!(create(&mut conntrack, &flows).created, 4);
    let left = |filter| {
        let ports = dump(&gateway, filter).into_iter().map(|flow| match flow.key.protocol {
            FlowProtocol::Tcp { source, .. } => source,
            _ => 0,
        });
        ports.collect::<BTreeSet<_>>()
    };
    assert_eq!(left(Filter::zone(0)), [1].into());
    let slot = Filter { zone: None, mark: Mark(0x2001), mask: 0x3fff };
    assert_eq!(left(slot), [2, 3].into());
    assert_eq!(conntrack.delete_all(Filter { zone: Some(0x2001), mark: Mark(0x1_0000), mask: 0xffff_0000 }).unwrap(), 1);
    assert_eq!(left(Filter::default()), [1, 3, 4].into());
    assert_eq!(conntrack.delete_all(Filter::zone(0x2001)).unwrap(), 1);
    assert_eq!(left(Filter::default()), [1, 4].into());
    assert_eq!(conntrack.delete_all(Filter { zone: None, mark: Mark(0x2002), mask: 0x3fff }).unwrap(), 1);
    assert_eq!(left(Filter::default()), [1].into());
}

#[test]
fn live_connections_survive_the_move_of_the_address() {
    let topology = Topology::new(2);
    let listener = listener(&topology);
    let mut connections: Vec<Connection> = (0..4).map(|_| Connection::new(&topology, &listener)).collect();
    let [client_first, server_first, idle, transfer] = &mut connections[..] else { unreachable!() };

    const LENGTH: usize = 128 << 20;
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let pattern: Vec<u8> = (0..1 << 16).map(byte).collect();
    let (mut sender, mut receiver) = (transfer.server.try_clone().unwrap(), transfer.client.try_clone().unwrap());
    let (half, reached_half) = std::sync::mpsc::channel();
    let mid_transfer = std::thread::spawn({
        let pattern = pattern.clone();
        move || {
            for _ in 0..LENGTH / pattern.len() {
                sender.write_all(&pattern).unwrap();
            }
            sender.shutdown(Shutdown::Write).unwrap();
        }
    });
    let received = std::thread::spawn(move || {
        let (mut total, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            let read = receiver.read(&mut buffer).unwrap();
            if read == 0 {
                return total;
            }
            assert!(buffer[..read].iter().enumerate().all(|(i, b)| *b == pattern[(total + i) % pattern.len()]), "damaged near {total}");
            total += read;
            if total >= LENGTH / 8 && total - read < LENGTH / 8 {
                half.send(()).unwrap();
            }
        }
    });
    reached_half.recv_timeout(Duration::from_secs(20)).unwrap();

    let flows = dump(&topology.gateways[0], Filter::zone(ZONE));
    let written = create(&mut open(&topology.gateways[1]), &flows);
    assert_eq!((written.created, written.refused.len()), (4, 0));
    assert!(!received.is_finished(), "the transfer is in the middle");
    topology.move_addresses(0, 1);

    server_first.server_speaks();
    client_first.client_speaks();
    server_first.client_speaks();
    client_first.server_speaks();
    assert_eq!(received.join().unwrap(), LENGTH);
    mid_transfer.join().unwrap();
    idle.server_speaks();
    idle.client_speaks();
}

/// What the copy is good for: without it, a server that speaks first is not heard.
#[test]
fn without_a_copy_a_server_that_speaks_first_is_not_heard() {
    let topology = Topology::new(2);
    let listener = listener(&topology);
    let mut connection = Connection::new(&topology, &listener);
    topology.move_addresses(0, 1);
    connection.server.write_all(b"hello").unwrap();
    connection.client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let heard = connection.client.read(&mut [0; 5]);
    assert!(heard.is_err(), "{heard:?}");
}

#[test]
fn we_write_what_conntrackd_writes() {
    let topology = Topology::new(3);
    let directory = tempfile::tempdir().unwrap();
    // From 0 to 1 by conntrackd, from 0 to 2 by us.
    topology.cable(&topology.gateways[0], "sync", &topology.gateways[1], "sync");
    for (gateway, address) in [(0, "192.168.7.1"), (1, "192.168.7.2")] {
        sh(&topology.gateways[gateway], &format!("ip addr add {address}/24 dev sync; ip link set sync up"));
    }
    let _daemons = [
        topology.conntrackd(directory.path(), 1, ["192.168.7.2", "192.168.7.1"]),
        topology.conntrackd(directory.path(), 0, ["192.168.7.1", "192.168.7.2"]),
    ];
    let mut traffic = traffic(&topology);
    until("conntrackd has copied", || {
        topology.seen(1).len() == 6 && topology.seen(1).iter().filter(|f| f.contains("ESTABLISHED")).count() == 3
    });
    let flows = dump(&topology.gateways[0], Filter::zone(ZONE));
    let written = create(&mut open(&topology.gateways[2]), &flows);
    assert_eq!((written.created, written.refused.len()), (6, 0));
    assert_eq!(topology.seen(2), topology.seen(1));
    assert_eq!(topology.seen(2), topology.seen(0));

    // Both work: the addresses move to the one, and then to the other.
    for (from, to) in [(0, 1), (1, 2)] {
        topology.move_addresses(from, to);
        traffic.tcp.iter_mut().for_each(Connection::server_speaks);
    }
}

#[test]
fn what_one_does_oneself_is_not_told_of() {
    let gateway = Netns::create().unwrap();
    let mut watch = gateway.run(|| FlowWatch::open(Filter::zone(ZONE), 4 << 20).unwrap());
    let (mut own, mut other) = (open(&gateway), open(&gateway));
    watch.pass_over(own.port());
    let [mine, theirs] = [sample(1000, 2000), sample(1001, 2001)];
    create(&mut own, &[mine]);
    create(&mut other, &[theirs]);
    assert_eq!(own.apply(&[FlowStep::Delete(theirs.key)]).unwrap().deleted, 1);
    assert_eq!(other.apply(&[FlowStep::Delete(mine.key)]).unwrap().deleted, 1);
    let mut told = vec![];
    assert_eq!(watch.read(|change| told.push((matches!(change, FlowChange::Upsert(_)), *change.key()))).unwrap(), Notices::Drained);
    assert_eq!(told, [(true, theirs.key), (false, mine.key)]);
}

#[test]
fn lost_notices_are_told_and_a_dump_makes_up_for_them() {
    let gateway = Netns::create().expect("these tests make network namespaces: run them as root");
    let mut watch = gateway.run(|| FlowWatch::open(Filter::zone(ZONE), 64 << 10).unwrap());
    let flows: Vec<Flow> = (0..5000).map(|n| sample(n + 1, 20000 + n)).collect();
    assert_eq!(create(&mut open(&gateway), &flows).created, 5000);
    let (mut told, mut overflows) = (0, 0);
    loop {
        match watch.read(|_| told += 1).unwrap() {
            Notices::Overflow => overflows += 1,
            Notices::More => {}
            Notices::Drained => break,
        }
    }
    assert!(overflows > 0 && watch.overflows >= overflows && (1..5000).contains(&told), "{overflows} overflows, {told} told");
    assert_eq!(dump(&gateway, Filter::zone(ZONE)).len(), 5000);
    // And the watch goes on.
    open(&gateway).apply(&[FlowStep::Delete(flows[0].key)]).unwrap();
    let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, 5000u16).unwrap(), 1);
    let mut last = None;
    watch.read(|change| last = Some(change)).unwrap();
    assert_eq!(last, Some(FlowChange::Destroy(flows[0].key)));
}

/// The bar in the release build is 200,000 a second; this one is not optimised.
#[test]
fn serial_many_flows_are_written_quickly() {
    let gateway = Netns::create().expect("these tests make network namespaces: run them as root");
    let mut conntrack = open(&gateway);
    let flow = |n: u32| {
        let base = sample((n % 50_000) as u16 + 1, (n % 40_000) as u16 + 20_000);
        let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a40_0000 + n / 50_000));
        let destination = IpAddr::V4(Ipv4Addr::from_bits(0xac10_0000 + n / 40_000));
        let key = FlowKey { source, destination, ..base.key };
        Flow { key, tcp: Some(TcpState::Established), ..base }
    };
    let flows: Vec<Flow> = (0..200_000).map(flow).collect();
    let rate = |what: &str, work: &mut dyn FnMut()| {
        let begin = computed();
        work();
        let rate = (flows.len() as f64 / (computed() - begin).as_secs_f64()) as u32;
        println!("{what}: {rate} flows/s");
        rate
    };
    let steps = |step: fn(Flow) -> FlowStep| flows.iter().copied().map(step).collect::<Vec<_>>();
    let (create, update, delete) = (steps(FlowStep::Create), steps(FlowStep::Update), steps(|flow| FlowStep::Delete(flow.key)));
    let created = rate("create", &mut || assert_eq!(conntrack.apply(&create).unwrap().created, flows.len()));
    rate("update", &mut || assert_eq!(conntrack.apply(&update).unwrap().updated, flows.len()));
    rate("dump", &mut || assert_eq!(dump(&gateway, Filter::zone(ZONE)).len(), flows.len()));
    rate("delete", &mut || assert_eq!(conntrack.apply(&delete).unwrap().deleted, flows.len()));
    assert!(created > 20_000, "{created}");
}
