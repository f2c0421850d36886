//! The whole way of a connection from one kernel to another: notices and lists, both machines, injection. The datagrams are handed
//! over by the test.

mod conntrack_support;

use conntrack_support::{MARK, SERVER, Topology, ZONE, computed, until};
use portway::kernel::conntrack::{Conntrack, Filter, FlowDump, FlowWatch, Notices};
use portway::lab::Netns;
use portway::model::{Flow, FlowKey, FlowProtocol, FlowStatus, FlowStep, Mark, NatSource, TcpState};
use portway::proto::sync::{ListId, Receiver, ReceiverConfig, ReceiverEffect, Sender, SenderConfig, SenderEffect, Tuning};
use portway::wire::seal::Seal;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// What the shells of two nodes do, in one loop.
struct Nodes<'n> {
    from: &'n Netns,
    watch: FlowWatch,
    dump: Option<(ListId, FlowDump)>,
    sender: Sender,
    receiver: Receiver,
    conntrack: Conntrack,
    /// Never to be taken for connections that were refused.
    refused: usize,
}

impl<'n> Nodes<'n> {
    fn new(from: &'n Netns, to: &Netns) -> Self {
        let (seal, now, tuning) = (Seal::new(b"a key of sixteen"), Instant::now(), Tuning::default());
        let (zone, mark) = (ZONE, Mark(MARK));
        Self {
            from,
            watch: from.run(|| FlowWatch::open(Filter::zone(ZONE), 64 << 20).unwrap()),
            dump: None,
            sender: Sender::new(SenderConfig { stream: 1, seal: seal.clone(), session: 1, tuning }, now),
            receiver: Receiver::new(ReceiverConfig { stream: 1, seal, nonce: 2, zone, mark, tuning }, now),
            conntrack: to.run(|| Conntrack::open().unwrap()),
            refused: 0,
        }
    }

    /// One turn. Whether there was nothing to read.
    fn turn(&mut self) -> bool {
        let now = Instant::now();
        let Self { watch, sender, receiver, dump, .. } = self;
        let notices = watch.read(|change| sender.change(now, &change)).unwrap();
        if notices == Notices::Overflow {
            sender.overflow(now);
        }
        if let Some((list, reading)) = dump.as_mut().filter(|_| sender.list_room(now) > 0) {
            let list = *list;
            if !reading.next(|flow| sender.listed(now, list, &flow)).unwrap() {
                *dump = None;
                sender.list_ended(now, list);
            }
        }
        sender.handle_timeout(now);
        receiver.handle_timeout(now);
        let mut steps = vec![];
        while let Some(effect) = sender.next_effect() {
            match effect {
                SenderEffect::Send(bytes) => receiver.handle(now, &bytes),
                SenderEffect::List(list) => *dump = Some((list, self.from.run(|| FlowDump::start(Filter::zone(ZONE)).unwrap()))),
            }
        }
        while let Some(effect) = receiver.next_effect() {
            match effect {
                ReceiverEffect::Send(bytes) => sender.handle(now, &bytes),
                ReceiverEffect::Apply(step) => steps.push(step),
            }
        }
        self.refused += self.conntrack.apply(&steps).unwrap().refused.len();
        notices == Notices::Drained
    }

    fn run_until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        until(what, || {
            for _ in 0..10 {
                self.turn();
            }
            holds(self)
        });
    }

    fn settled(&self) -> bool {
        let now = Instant::now();
        self.sender.in_sync(now) && self.sender.in_flight() == 0 && self.receiver.in_sync(now)
    }
}

#[test]
fn connections_before_and_after_the_start_come_and_go_on_the_other_node() {
    let topology = Topology::new(2);
    let listener = topology.server.run(|| TcpListener::bind((SERVER, 0)).unwrap());
    let connect = || {
        let client = topology.client.run(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"hello").unwrap();
        (&client).read_exact(&mut [0; 5]).unwrap();
        (client, server)
    };
    let before = connect();
    let mut nodes = Nodes::new(&topology.gateways[0], &topology.gateways[1]);
    nodes.run_until("the first list", Nodes::settled);
    assert_eq!(topology.seen(1), topology.seen(0));
    assert_eq!(topology.seen(1).len(), 1);

    let after = connect();
    let udp =
        (topology.client.run(|| UdpSocket::bind("10.1.0.10:0").unwrap()), topology.server.run(|| UdpSocket::bind((SERVER, 0)).unwrap()));
    udp.0.send_to(b"ask", udp.1.local_addr().unwrap()).unwrap();
    udp.1.recv_from(&mut [0; 8]).unwrap();
    nodes.run_until("the new ones", |nodes| nodes.receiver.flows() == 3 && nodes.settled());
    assert_eq!(topology.seen(1), topology.seen(0));

    // An end is told; after a time-out of the kernel as after a closing.
    drop(after);
    conntrack_support::sh(&topology.gateways[0], "conntrack -D -p udp -w 8193");
    nodes.run_until("the end of one", |nodes| nodes.receiver.flows() == 2 && nodes.settled());
    assert_eq!(topology.seen(1), topology.seen(0));

    // And what was copied works.
    topology.move_addresses(0, 1);
    let (mut client, mut server) = before;
    server.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    assert_eq!(nodes.refused, 0);
}

/// Both nodes' work in one thread: 20,000 new connections a second are the least.
#[test]
fn serial_new_connections_are_copied_as_fast_as_they_come() {
    let (from, to) = (Netns::create().unwrap(), Netns::create().unwrap());
    let mut nodes = Nodes::new(&from, &to);
    nodes.run_until("the first list", Nodes::settled);
    let mut source = from.run(|| Conntrack::open().unwrap());
    let connection = |n: u32| {
        let (near, far) = (IpAddr::V4(Ipv4Addr::from_bits(0x0a40_0000 | n >> 15)), IpAddr::V4(Ipv4Addr::from_bits(0xac10_0000 | n >> 15)));
        let protocol = FlowProtocol::Tcp { source: 1 + (n & 0x7fff) as u16, destination: 443 };
        Flow {
            key: FlowKey { zone: ZONE, source: near, destination: far, protocol },
            nat: Some(NatSource { address: IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1)), port: 20_000 + (n & 0x7fff) as u16 }),
            tcp: Some(TcpState::Established),
            status: FlowStatus { seen_reply: true, assured: true },
            mark: Mark(MARK),
            timeout: 300,
        }
    };
    const COUNT: u32 = 100_000;
    let (begin, mut made) = (computed(), Duration::ZERO);
    for piece in 0..COUNT / 1000 {
        let making = computed();
        let steps: Vec<FlowStep> = (0..1000).map(|n| FlowStep::Create(connection(piece * 1000 + n))).collect();
        assert_eq!(source.apply(&steps).unwrap().created, 1000);
        made += computed() - making;
        while !nodes.turn() {}
    }
    while nodes.receiver.flows() < COUNT as usize {
        nodes.turn();
    }
    let rate = f64::from(COUNT) / (computed() - begin - made).as_secs_f64();
    println!("{rate:.0} connections/s; lag {:?} ms: {:?}", portway::proto::sync::Lags::BOUNDS, nodes.sender.counters.lag.counts);
    assert_eq!((nodes.watch.overflows, nodes.refused, nodes.sender.counters.resent), (0, 0, 0));
    assert!(rate > 20_000.0, "{rate}");
}
