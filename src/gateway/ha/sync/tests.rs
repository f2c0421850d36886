use super::super::board::{Board, Connections};
use super::active::{Active, Telling};
use super::backup::{Backup, Keeping};
use crate::model::{Flow, FlowChange, FlowKey, FlowProtocol, FlowStatus, Mark};
use crate::proto::sync::{Ledger, Peers, Receiver, ReceiverConfig, ReceiverEffect, Sender, SenderConfig, Tuning};
use crate::wire::seal::Seal;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

const ZONE: u16 = 7;
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn flow(port: u16) -> Flow {
    let [source, destination] = [1, 2].map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)));
    let protocol = FlowProtocol::Udp { source: port, destination: 53 };
    Flow {
        key: FlowKey { zone: ZONE, source, destination, protocol },
        nat: None,
        tcp: None,
        status: FlowStatus::default(),
        mark: Mark(7),
        timeout: 30,
    }
}

fn keeping(now: Instant, tuning: Tuning) -> Keeping {
    let config = ReceiverConfig { stream: 1, seal: Seal::new(b"a key"), nonce: 5, zone: ZONE, mark: Mark(7), tuning };
    Keeping { from: PEER, receiver: Receiver::new(config, now), fed: None }
}

/// An Active with one Backup behind a real socket.
struct Pair {
    now: Instant,
    board: Board,
    socket: UdpSocket,
    active: Active,
    far: UdpSocket,
    backup: Keeping,
    /// The Backup answers.
    answers: bool,
}

impl Pair {
    fn new(known: Ledger) -> Self {
        let (now, tuning) = (Instant::now(), Tuning::default());
        let [socket, far] = [0; 2].map(|_| UdpSocket::bind((PEER, 0)).unwrap());
        far.set_nonblocking(true).unwrap();
        let sender = Sender::new(SenderConfig { stream: 1, seal: Seal::new(b"a key"), session: 9, tuning }, now);
        let active = Active { all: vec![Telling::new(PEER, true, sender)], known, peers: Peers::default(), begun: 0 };
        let mut pair = Self { now, board: Board::default(), socket, active, far, backup: keeping(now, tuning), answers: true };
        pair.run(Duration::from_millis(100));
        pair
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(5);
            let mut buffer = [0; 2048];
            self.active.turn(self.now, &self.socket, self.far.local_addr().unwrap().port(), &self.board);
            while let Ok(length) = self.far.recv(&mut buffer) {
                if self.answers {
                    self.backup.receiver.handle(self.now, &buffer[..length]);
                }
            }
            self.backup.receiver.handle_timeout(self.now);
            while let Some(effect) = self.backup.receiver.next_effect() {
                if let ReceiverEffect::Send(datagram) = effect {
                    self.active.all[0].sender.handle(self.now, &datagram);
                }
            }
        }
    }

    /// The kernel is read: these stand.
    fn read(&mut self, flows: &[Flow]) {
        assert!(self.active.waits());
        self.active.begin();
        flows.iter().for_each(|flow| self.active.read(self.now, flow));
        self.active.end(self.now, true);
        self.run(Duration::from_millis(50));
    }
}

fn complete(flows: &[Flow]) -> Ledger {
    let mut known = Ledger::default();
    flows.iter().for_each(|flow| known.told(Instant::now(), *flow, &mut drop));
    known.complete = true;
    known
}

#[test]
fn what_is_known_is_listed_without_a_look_at_the_kernel() {
    let mut pair = Pair::new(complete(&[flow(1), flow(2)]));
    assert!(!pair.active.waits());
    assert!(pair.active.all[0].sender.in_sync(pair.now) && pair.backup.receiver.in_sync(pair.now));
    assert_eq!(pair.backup.receiver.flows(), 2);
    // Of the time that connections have left the kernel alone knows.
    pair.run(Tuning::default().relist + Duration::from_secs(1));
    pair.read(&[flow(2), flow(3)]);
    assert_eq!(pair.active.known.keys().count(), 2);
    assert!(pair.backup.receiver.flow(&flow(3).key).is_some() && pair.backup.receiver.flow(&flow(1).key).is_none());
}

#[test]
fn what_is_not_known_is_read_and_known_from_then_on() {
    let mut pair = Pair::new(Ledger::default());
    pair.active.change(pair.now, &FlowChange::Upsert(flow(1)));
    pair.read(&[flow(1), flow(2)]);
    assert!(pair.active.known.is_complete());
    assert_eq!(pair.backup.receiver.flows(), 2);
    pair.active.overflow(pair.now);
    assert!(!pair.active.known.is_complete(), "notices were lost");
    pair.run(Duration::from_millis(50));
    pair.read(&[flow(2)]);
    assert!(pair.active.known.is_complete() && pair.active.known.get(&flow(1).key).is_none());
}

#[test]
fn connections_are_counted_as_the_kernel_tells_of_them() {
    let mut pair = Pair::new(complete(&[flow(1), flow(2)]));
    let counted = |pair: &Pair| {
        let Connections { begun, standing } = pair.active.connections();
        (begun, standing.map(|standing| (standing.connections, standing.most_to_one)))
    };
    assert_eq!(counted(&pair), (0, Some((2, 2))), "those of the node before have not begun here");
    for port in [3, 3, 4] {
        pair.active.change(pair.now, &FlowChange::Upsert(flow(port)));
    }
    assert_eq!(counted(&pair), (2, Some((4, 4))), "a change of one that stands is no new one");
    pair.active.change(pair.now, &FlowChange::Destroy(flow(1).key));
    assert_eq!(counted(&pair), (2, Some((3, 3))));
    pair.active.overflow(pair.now);
    assert_eq!(counted(&pair), (2, None), "notices were lost");
    pair.run(Duration::from_millis(50));
    pair.read(&[flow(2), flow(9)]);
    assert_eq!(counted(&pair), (2, Some((2, 2))), "as the kernel has them");
}

#[test]
fn a_list_that_cannot_go_on_is_given_up_and_begins_anew() {
    let mut pair = Pair::new(Ledger::default());
    assert!(pair.active.waits());
    pair.active.begin();
    pair.answers = false;
    for port in 1..20_000 {
        if !pair.active.has_room(pair.now) {
            break;
        }
        pair.active.read(pair.now, &flow(port));
    }
    assert!(!pair.active.has_room(pair.now), "nothing is acknowledged");
    pair.active.give_up(pair.now);
    assert!(pair.active.has_room(pair.now), "others can go on");
    pair.active.end(pair.now, true);
    assert!(!pair.active.known.is_complete(), "a part of it is not known");
    pair.answers = true;
    pair.run(Duration::from_secs(2));
    pair.read(&[flow(1)]);
    assert_eq!((pair.active.known.keys().count(), pair.backup.receiver.flows()), (1, 1));
}

#[test]
fn a_backup_that_becomes_the_active_knows_what_stands_or_that_it_does_not() {
    let now = Instant::now();
    let read = |whole| {
        let mut backup = Backup::new(vec![keeping(now, Tuning::default())], None, &Peers::default());
        assert!(backup.waits());
        backup.begin();
        backup.read(now, flow(1));
        backup.end(whole);
        backup
    };
    let known = read(true).into_known().0;
    assert!(known.is_complete() && known.get(&flow(1).key).is_some());
    assert!(!read(false).into_known().0.is_complete(), "the reading broke off");

    let mut late = read(true);
    late.stands(now, flow(2));
    let known = late.into_known().0;
    assert!(known.is_complete() && known.get(&flow(2).key).is_some(), "begun before the promotion was known here");

    let mut lost = read(true);
    lost.overflow(now);
    assert!(!lost.into_known().0.is_complete());

    let mut refused = read(true);
    refused.unwritten(flow(1).key, true);
    let known = refused.into_known().0;
    assert!(!known.is_complete() && known.keys().eq([flow(1).key]), "it may stand");

    let mut undeleted = read(true);
    undeleted.unwritten(flow(3).key, false);
    assert!(undeleted.into_known().0.keys().any(|key| key == flow(3).key), "it goes with all others");

    let told = complete(&[flow(4)]);
    assert!(!Backup::new(vec![keeping(now, Tuning::default())], Some(&told), &Peers::default()).waits());
}

#[test]
fn who_is_told_already_goes_on_being_told_when_others_come() {
    let mut pair = Pair::new(complete(&[flow(1), flow(2)]));
    let (now, newcomer) = (pair.now, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)));
    assert!(pair.active.in_sync(now, true));
    let sender = |stream| Sender::new(SenderConfig { stream, seal: Seal::new(b"a key"), session: 10, tuning: Tuning::default() }, now);
    pair.active.tell_these(vec![Telling::new(PEER, false, sender(1)), Telling::new(newcomer, true, sender(2))]);
    assert!(!pair.active.in_sync(now, true) && !pair.active.in_sync(now, false), "the candidate knows nothing yet");
    pair.run(Duration::from_millis(400));
    assert!(pair.backup.receiver.in_sync(pair.now) && !pair.backup.receiver.is_relieved(pair.now) && !pair.active.waits());
    assert_eq!((pair.active.all[0].sender.counters.sessions, pair.backup.receiver.flows()), (1, 2), "nothing began anew");

    pair.active.relieve(true);
    pair.run(Duration::from_millis(400));
    assert!(pair.backup.receiver.is_relieved(pair.now));
    // A candidate again, whoever else is none: its copies are wanted.
    pair.active.tell_these(vec![Telling::new(PEER, true, sender(1)), Telling::new(newcomer, false, sender(2))]);
    pair.active.relieve(true);
    pair.run(Duration::from_millis(400));
    assert!(pair.active.in_sync(pair.now, true) && !pair.backup.receiver.is_relieved(pair.now));
    assert_eq!(pair.active.all[0].sender.counters.sessions, 1);
}

#[test]
fn what_a_node_that_goes_has_told_stands() {
    let (now, tuning) = (Instant::now(), Tuning::default());
    let other = || {
        let config = ReceiverConfig { stream: 2, seal: Seal::new(b"a key"), nonce: 6, zone: ZONE, mark: Mark(7), tuning };
        Keeping { from: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), receiver: Receiver::new(config, now), fed: None }
    };
    let mut backup = Backup::new(vec![keeping(now, tuning)], Some(&complete(&[flow(1), flow(2)])), &Peers::default());
    backup.hear_these(now, vec![other(), keeping(now, tuning)]);
    assert_eq!(backup.all.iter().map(|one| one.receiver.flows()).collect::<Vec<_>>(), [0, 2], "who told goes on");
    backup.hear_these(now, vec![other()]);
    assert_eq!(backup.all.iter().map(|one| one.receiver.flows()).collect::<Vec<_>>(), [2]);
}
