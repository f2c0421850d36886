use super::*;
use crate::model::{Flow, FlowChange, FlowKey, FlowProtocol, FlowStatus, FlowStep, Mark, NatSource, TcpState};
use bytes::Bytes;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

pub const ZONE: u16 = 0x2005;
pub const MARK: Mark = Mark(0x2005);

pub fn flow(number: u32, tcp: Option<TcpState>) -> Flow {
    let (source, destination) = ((number & 0xffff) as u16, 443);
    let protocol = if tcp.is_some() { FlowProtocol::Tcp { source, destination } } else { FlowProtocol::Udp { source, destination } };
    Flow {
        key: FlowKey {
            zone: ZONE,
            source: IpAddr::V4(Ipv4Addr::from_bits(0x0a40_0000 | number >> 16)),
            destination: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 5)),
            protocol,
        },
        nat: Some(NatSource { address: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 4)), port: source | 1024 }),
        tcp,
        status: FlowStatus { seen_reply: true, assured: true },
        mark: MARK,
        timeout: 120,
    }
}

fn tcp(number: u32) -> Flow {
    flow(number, Some(TcpState::Established))
}

pub fn seal() -> Seal {
    Seal::new(b"the key of a test")
}

pub fn sender(session: u64, tuning: Tuning, now: Instant) -> Sender {
    Sender::new(SenderConfig { stream: 77, seal: seal(), session, tuning }, now)
}

pub fn receiver(nonce: u64, tuning: Tuning, now: Instant) -> Receiver {
    Receiver::new(ReceiverConfig { stream: 77, seal: seal(), nonce, zone: ZONE, mark: MARK, tuning }, now)
}

/// Two machines and a wire that is perfect as long as the test does not take datagrams off it.
struct Pair {
    now: Instant,
    sender: Sender,
    receiver: Receiver,
    to_receiver: Vec<Bytes>,
    to_sender: Vec<Bytes>,
    applied: Vec<FlowStep>,
    list: Option<ListId>,
}

impl Pair {
    fn new() -> Self {
        Self::tuned(Tuning::default())
    }

    fn tuned(tuning: Tuning) -> Self {
        let now = Instant::now();
        let (sender, receiver) = (sender(1000, tuning, now), receiver(5000, tuning, now));
        Self { now, sender, receiver, to_receiver: vec![], to_sender: vec![], applied: vec![], list: None }
    }

    /// A pair whose first list, of these flows, is over.
    fn synced(flows: &[Flow]) -> Self {
        let mut pair = Self::new();
        pair.run();
        let list = pair.list.take().expect("a list");
        flows.iter().for_each(|flow| pair.sender.listed(pair.now, list, flow));
        pair.sender.list_ended(pair.now, list);
        pair.run();
        assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
        assert_eq!(pair.take_applied(), flows.iter().copied().map(FlowStep::Create).collect::<Vec<_>>());
        pair
    }

    fn take_applied(&mut self) -> Vec<FlowStep> {
        std::mem::take(&mut self.applied)
    }

    /// Puts on the wire what the machines want to say.
    fn collect(&mut self) {
        while let Some(effect) = self.sender.next_effect() {
            match effect {
                SenderEffect::Send(bytes) => self.to_receiver.push(bytes),
                SenderEffect::List(id) => self.list = Some(id),
            }
        }
        while let Some(effect) = self.receiver.next_effect() {
            match effect {
                ReceiverEffect::Send(bytes) => self.to_sender.push(bytes),
                ReceiverEffect::Apply(step) => self.applied.push(step),
            }
        }
    }

    fn deliver(&mut self) {
        for bytes in std::mem::take(&mut self.to_receiver) {
            self.receiver.handle(self.now, &bytes);
        }
        for bytes in std::mem::take(&mut self.to_sender) {
            self.sender.handle(self.now, &bytes);
        }
        self.collect();
    }

    fn timeouts(&mut self) {
        self.sender.handle_timeout(self.now);
        self.receiver.handle_timeout(self.now);
        self.collect();
    }

    /// Everything that happens within 5 ms.
    fn run(&mut self) {
        for _ in 0..10 {
            self.timeouts();
            for _ in 0..4 {
                self.deliver();
            }
            self.now += Duration::from_micros(500);
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.run();
        }
    }

    fn tell(&mut self, change: FlowChange) {
        self.sender.change(self.now, &change);
    }
}

#[test]
fn hellos_go_out_until_somebody_answers_and_changes_are_not_kept() {
    let mut pair = Pair::new();
    for n in 1..=3 {
        assert_eq!(pair.sender.next_timeout(), Some((pair.now, "hello")));
        pair.timeouts();
        assert_eq!(pair.to_receiver.len(), n);
        pair.tell(FlowChange::Upsert(tcp(1)));
        pair.now += Tuning::default().hello;
    }
    assert_eq!((pair.sender.counters.unheard, pair.sender.in_flight(), pair.sender.is_up()), (3, 0, false));
    assert_eq!(pair.receiver.next_timeout(), None);
}

#[test]
fn changes_arrive_as_steps_and_zone_and_mark_are_the_receivers() {
    let mut pair = Pair::synced(&[tcp(1)]);
    let elsewhere = Flow { key: FlowKey { zone: 9, ..tcp(2).key }, mark: Mark(9), ..tcp(2) };
    pair.tell(FlowChange::Upsert(elsewhere));
    let closing = Flow { tcp: Some(TcpState::FinWait), ..tcp(1) };
    pair.tell(FlowChange::Upsert(closing));
    pair.tell(FlowChange::Destroy(tcp(3).key));
    pair.tell(FlowChange::Destroy(tcp(1).key));
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Create(tcp(2)), FlowStep::Update(closing), FlowStep::Delete(tcp(1).key)]);
    assert_eq!((pair.receiver.flows(), pair.receiver.flow(&tcp(2).key)), (1, Some(&tcp(2))));
}

#[test]
fn another_translation_is_another_connection() {
    let mut pair = Pair::synced(&[tcp(1)]);
    let moved = Flow { nat: Some(NatSource { port: 7, ..tcp(1).nat.unwrap() }), ..tcp(1) };
    pair.tell(FlowChange::Upsert(moved));
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Delete(moved.key), FlowStep::Create(moved)]);
}

#[test]
fn connections_that_nobody_answered_are_not_copied() {
    let mut pair = Pair::synced(&[]);
    let young = |number| Flow { tcp: Some(TcpState::SynSent), status: FlowStatus::default(), ..tcp(number) };
    pair.tell(FlowChange::Upsert(young(1)));
    pair.tell(FlowChange::Destroy(young(1).key));
    let udp = Flow { status: FlowStatus::default(), ..flow(3, None) };
    pair.tell(FlowChange::Upsert(udp));
    pair.sender.overflow(pair.now);
    pair.run();
    let list = pair.list.take().unwrap();
    pair.sender.listed(pair.now, list, &young(2));
    pair.sender.listed(pair.now, list, &udp);
    pair.sender.list_ended(pair.now, list);
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Create(udp)]);
    assert_eq!(pair.sender.counters.tentative, 2);
}

#[test]
fn a_state_that_is_not_told_stays_and_status_only_grows() {
    let mut pair = Pair::synced(&[tcp(1)]);
    let replied = FlowStatus { seen_reply: true, assured: false };
    pair.tell(FlowChange::Upsert(Flow { tcp: None, status: replied, ..tcp(1) }));
    pair.run();
    assert_eq!(pair.take_applied(), []);
    assert_eq!(pair.receiver.flow(&tcp(1).key), Some(&tcp(1)));
}

#[test]
fn a_lost_tail_is_noticed_by_the_heartbeat() {
    let mut pair = Pair::synced(&[]);
    pair.tell(FlowChange::Upsert(tcp(1)));
    pair.sender.flush(pair.now);
    pair.collect();
    pair.to_receiver.clear();
    let begin = pair.now;
    while pair.take_applied().is_empty() {
        assert!(!pair.sender.in_sync(begin + Tuning::default().lag * 2));
        pair.run();
    }
    assert!(pair.now - begin <= Duration::from_millis(20), "{:?}", pair.now - begin);
    assert_eq!((pair.sender.counters.resent, pair.receiver.counters.complaints), (1, 1));
    pair.run();
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
}

#[test]
fn what_overtakes_waits_for_its_turn() {
    let mut pair = Pair::synced(&[]);
    for number in 0..4 {
        pair.tell(FlowChange::Upsert(tcp(number)));
        pair.sender.flush(pair.now);
    }
    pair.collect();
    pair.to_receiver.reverse();
    pair.to_receiver.extend(pair.to_receiver.clone());
    pair.run();
    assert_eq!(pair.take_applied(), (0..4).map(|n| FlowStep::Create(tcp(n))).collect::<Vec<_>>());
    assert_eq!(pair.receiver.counters.refused.duplicate, 4);
}

#[test]
fn a_silent_receiver_is_forgotten_and_welcomed_back() {
    let mut pair = Pair::synced(&[tcp(1)]);
    for _ in 0..300 {
        pair.tell(FlowChange::Upsert(tcp(2)));
        pair.timeouts();
        (pair.to_receiver, pair.to_sender) = (vec![], vec![]);
        pair.now += Duration::from_millis(5);
    }
    assert!(!pair.sender.is_up() && pair.sender.in_flight() == 0 && !pair.receiver.in_sync(pair.now));
    assert!(pair.receiver.is_complete(), "what it has is still good");
    pair.run_for(Duration::from_millis(300));
    assert!(pair.sender.is_up() && !pair.receiver.is_complete());
    let list = pair.list.take().unwrap();
    pair.sender.listed(pair.now, list, &tcp(2));
    pair.sender.list_ended(pair.now, list);
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Create(tcp(2)), FlowStep::Delete(tcp(1).key)]);
    assert_eq!((pair.sender.counters.silences, pair.sender.counters.sessions, pair.receiver.counters.swept), (1, 2, 1));
}

#[test]
fn a_full_ring_ends_the_session() {
    let mut pair = Pair::tuned(Tuning { ring: 10, ..Tuning::default() });
    pair.run();
    for number in 0..2000 {
        pair.tell(FlowChange::Upsert(tcp(number)));
    }
    assert!(!pair.sender.is_up());
    assert_eq!((pair.sender.counters.ring_overruns, pair.sender.in_flight()), (1, 0));
    pair.collect();
    pair.to_receiver.clear();
    pair.run_for(Duration::from_millis(300));
    assert!(pair.sender.is_up());
}

#[test]
fn lost_notices_cost_the_sync_until_a_new_list_is_over() {
    let mut pair = Pair::synced(&[tcp(1), tcp(2)]);
    pair.sender.overflow(pair.now);
    pair.run();
    assert!(!pair.sender.in_sync(pair.now) && !pair.receiver.in_sync(pair.now));
    let first = pair.list.take().unwrap();
    pair.sender.listed(pair.now, first, &tcp(1));
    pair.sender.overflow(pair.now);
    pair.sender.list_ended(pair.now, first);
    pair.run();
    assert!(!pair.sender.in_sync(pair.now) && !pair.receiver.in_sync(pair.now), "lost in the midst of a list: another one");
    assert_eq!(pair.receiver.flows(), 2, "nothing is swept by a list that is not complete");
    let second = pair.list.take().unwrap();
    pair.sender.listed(pair.now, first, &tcp(2));
    pair.sender.listed(pair.now, second, &tcp(1));
    pair.sender.list_ended(pair.now, second);
    pair.run();
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(2).key)]);
}

#[test]
fn what_is_told_stands_against_what_a_list_says_late() {
    let mut pair = Pair::synced(&[tcp(1), tcp(2)]);
    pair.sender.overflow(pair.now);
    pair.run();
    let list = pair.list.take().unwrap();
    // Read from the kernel before, handed on after.
    pair.tell(FlowChange::Destroy(tcp(1).key));
    let closing = Flow { tcp: Some(TcpState::LastAck), ..tcp(2) };
    pair.tell(FlowChange::Upsert(closing));
    pair.tell(FlowChange::Upsert(tcp(3)));
    pair.sender.listed(pair.now, list, &tcp(1));
    pair.sender.listed(pair.now, list, &tcp(2));
    pair.sender.list_ended(pair.now, list);
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(1).key), FlowStep::Update(closing), FlowStep::Create(tcp(3))]);
}

#[test]
fn a_list_renews_copies_of_which_half_the_time_is_over() {
    let udp = flow(1, None);
    let mut pair = Pair::synced(&[udp]);
    let mut updates = vec![];
    for minute in 1..=12 {
        // The sender's own traffic: heartbeats.
        let begin = pair.now;
        while pair.list.is_none() {
            pair.run_for(Duration::from_millis(90));
        }
        assert!(pair.now - begin < Tuning::default().relist + Duration::from_millis(200));
        assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now), "listing again costs no sync");
        let list = pair.list.take().unwrap();
        pair.sender.listed(pair.now, list, &udp);
        pair.sender.list_ended(pair.now, list);
        pair.run();
        if pair.take_applied() == [FlowStep::Update(udp)] {
            updates.push(minute);
        }
    }
    // Held for 600 s: renewed after more than 300.
    assert_eq!(updates, [5, 10]);
    assert_eq!(udp.held(), 600);
}

#[test]
fn a_list_keeps_its_pace_and_waits_for_acknowledgements() {
    let mut pair = Pair::new();
    pair.run();
    let list = pair.list.take().unwrap();
    let begin = pair.now;
    let mut listed = 0;
    while listed < 20_000 {
        for number in 0..pair.sender.list_room(pair.now).min(100) {
            pair.sender.listed(pair.now, list, &tcp(listed + number as u32));
        }
        listed = pair.sender.counters.listed as u32;
        pair.collect();
        assert!(pair.to_receiver.len() <= Tuning::default().window + 3);
        pair.run();
        assert!(pair.sender.next_timeout().is_some_and(|(_, why)| ["flush", "list goes on", "heartbeat"].contains(&why)));
    }
    let seconds = (pair.now - begin).as_secs_f64();
    assert!(f64::from(listed) / seconds <= 1.1 * f64::from(Tuning::default().list_rate), "{listed} in {seconds}");

    // Nothing comes back: the list stops at the window.
    for _ in 0..100 {
        let room = pair.sender.list_room(pair.now);
        (0..room).for_each(|number| pair.sender.listed(pair.now, list, &tcp(number as u32)));
        pair.timeouts();
        pair.to_receiver.clear();
        pair.now += Duration::from_millis(5);
    }
    assert_eq!(pair.sender.list_room(pair.now), 0);
}

#[test]
fn datagrams_played_again_change_nothing() {
    let mut pair = Pair::new();
    let mut seen = vec![];
    for life in 0..3u64 {
        for _ in 0..400 {
            pair.timeouts();
            seen.extend(pair.to_receiver.iter().cloned().map(|bytes| (true, bytes)));
            seen.extend(pair.to_sender.iter().cloned().map(|bytes| (false, bytes)));
            pair.deliver();
            if let Some(list) = pair.list.take() {
                pair.sender.listed(pair.now, list, &tcp(life as u32));
                pair.sender.list_ended(pair.now, list);
            }
            pair.now += Duration::from_millis(1);
        }
        assert!(pair.receiver.in_sync(pair.now), "life {life}");
        if life == 0 {
            pair.sender = sender(2000, Tuning::default(), pair.now);
        } else if life == 1 {
            // The same nonces as before would let old data in: a start takes others.
            pair.receiver = receiver(9000, Tuning::default(), pair.now);
            pair.now += Tuning::default().silence;
        }
    }
    pair.take_applied();
    let (table, sessions) = (pair.receiver.flows(), (pair.sender.counters.sessions, pair.receiver.counters.sessions));
    assert!(seen.len() > 30, "{}", seen.len());
    for (to_receiver, bytes) in seen {
        if to_receiver {
            pair.receiver.handle(pair.now, &bytes);
        } else {
            pair.sender.handle(pair.now, &bytes);
        }
        // Not even back to where it came from.
        if to_receiver { pair.sender.handle(pair.now, &bytes) } else { pair.receiver.handle(pair.now, &bytes) }
    }
    pair.run_for(Duration::from_millis(300));
    assert_eq!(pair.take_applied(), []);
    assert_eq!((pair.receiver.flows(), (pair.sender.counters.sessions, pair.receiver.counters.sessions)), (table, sessions));
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
    assert!(pair.receiver.counters.refused.stale > 0 && pair.sender.counters.refused.misfit > 0);
}

#[test]
fn forged_and_foreign_datagrams_are_counted_and_answered_by_nothing() {
    let mut pair = Pair::synced(&[]);
    let stranger = SenderConfig { stream: 77, seal: Seal::new(b"another key"), session: 1, tuning: Tuning::default() };
    let mut stranger = Sender::new(stranger, pair.now);
    let other = SenderConfig { stream: 78, seal: seal(), session: 1, tuning: Tuning::default() };
    let mut other = Sender::new(other, pair.now);
    for machine in [&mut stranger, &mut other] {
        machine.handle_timeout(pair.now);
        let Some(SenderEffect::Send(bytes)) = machine.next_effect() else { panic!("a hello") };
        pair.receiver.handle(pair.now, &bytes);
        pair.sender.handle(pair.now, &bytes);
    }
    for machine in [&pair.receiver.counters.refused, &pair.sender.counters.refused] {
        assert_eq!((machine.forged, machine.misfit), (1, 1));
    }
    assert_eq!((pair.receiver.next_effect(), pair.sender.next_effect()), (None, None));
}

proptest! {
    /// A peer that has the key and not its wits.
    #[test]
    fn nothing_that_is_said_makes_a_machine_panic(talk: Vec<(u8, u8, u8, Vec<u8>)>) {
        let mut pair = Pair::synced(&[tcp(1)]);
        for (kind, sequence, time, body) in talk {
            let kind = [Kind::Hello, Kind::Welcome, Kind::Data, Kind::Heartbeat, Kind::Ack][usize::from(kind % 5)];
            let sequence = u64::from(sequence) << (sequence % 60);
            let header = Header { kind, stream: 77, session: 1000, nonce: 5000, sequence, time: u64::from(time) << 56 };
            let mut bytes = datagram(header);
            bytes.extend_from_slice(&body);
            seal().close(&mut bytes);
            pair.receiver.handle(pair.now, &bytes);
            pair.sender.handle(pair.now, &bytes);
            pair.run();
        }
    }
}

#[test]
fn a_list_that_fails_is_followed_by_another_after_a_pause() {
    let mut pair = Pair::synced(&[tcp(1)]);
    pair.sender.overflow(pair.now);
    pair.run();
    let list = pair.list.take().expect("a list");
    // Lost while it runs, and then it fails: the next is begun no sooner for it, and makes up for both.
    pair.sender.overflow(pair.now);
    pair.sender.list_failed(pair.now, list);
    assert!(pair.sender.next_timeout().is_some_and(|(at, _)| at > pair.now) || pair.sender.in_flight() > 0);
    pair.run_for(Duration::from_millis(300));
    assert_eq!((pair.list, pair.receiver.is_complete(), pair.sender.in_sync(pair.now)), (None, false, false));
    pair.run_for(Duration::from_millis(300));
    let list = pair.list.take().expect("another list");
    pair.sender.list_ended(pair.now, list);
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(1).key)]);
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
    // The one that failed is over.
    pair.sender.list_failed(pair.now, list);
    assert_eq!(pair.sender.counters.lists_failed, 1);
}

/// The next list, of these flows.
fn list(pair: &mut Pair, flows: &[Flow]) {
    pair.run_for(Tuning::default().relist);
    let list = pair.list.take().expect("a list");
    flows.iter().for_each(|flow| pair.sender.listed(pair.now, list, flow));
    pair.sender.list_ended(pair.now, list);
    pair.run();
}

#[test]
fn what_the_kernel_does_not_take_is_given_to_it_again() {
    let mut pair = Pair::synced(&[tcp(1), tcp(2), tcp(3), tcp(4)]);
    pair.receiver.unwritten(tcp(1).key, true);
    pair.receiver.unwritten(tcp(2).key, true);
    // Somebody has deleted it.
    pair.receiver.vanished(pair.now, tcp(3).key);
    assert!(!pair.receiver.in_sync(pair.now) && !pair.receiver.is_complete());
    list(&mut pair, &[tcp(1), tcp(3), tcp(4)]);
    // Perhaps it stands after all.
    assert_eq!(pair.take_applied(), [FlowStep::Create(tcp(1)), FlowStep::Create(tcp(3)), FlowStep::Delete(tcp(2).key)]);
    assert!(pair.receiver.in_sync(pair.now));
    // Again in vain: then the next list.
    pair.receiver.unwritten(tcp(1).key, true);
    list(&mut pair, &[tcp(3), tcp(4)]);
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(1).key)]);
    assert!(pair.receiver.in_sync(pair.now));
    // One that is merely odd is tried again, and nobody waits for it; an end settles it, too.
    pair.receiver.unwritten(tcp(3).key, false);
    assert!(pair.receiver.in_sync(pair.now));
    pair.tell(FlowChange::Destroy(tcp(3).key));
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(3).key)]);
    // What expires in time is missed by nobody.
    pair.receiver.vanished(pair.now + Duration::from_secs(u64::from(Flow::HELD)), tcp(4).key);
    assert!(pair.receiver.in_sync(pair.now));
}

#[test]
fn a_new_active_knows_better_than_the_former() {
    let former = Pair::synced(&[tcp(1), tcp(2), tcp(3)]).receiver;
    let mut pair = Pair { receiver: receiver(7000, Tuning::default(), Instant::now()), ..Pair::new() };
    pair.receiver.hold();
    pair.run();
    assert!(pair.receiver.is_asked() && !pair.sender.is_up());
    pair.receiver.adopt_from(&former);
    pair.receiver.answer();
    pair.run_for(Duration::from_millis(300));
    let list = pair.list.take().expect("a list");
    let [one, new] = [tcp(1), tcp(4)];
    pair.sender.listed(pair.now, list, &one);
    pair.sender.listed(pair.now, list, &new);
    pair.sender.list_ended(pair.now, list);
    pair.run();
    assert_eq!(pair.take_applied().iter().filter(|step| matches!(step, FlowStep::Create(_))).count(), 1);
    assert_eq!(pair.receiver.flows(), 2);

    // What the former one told after it was asked.
    let mut former = former;
    former.adopt(pair.now, tcp(5));
    pair.receiver.supersede(&mut former);
    pair.collect();
    let mut gone: Vec<FlowKey> = pair.take_applied().iter().map(|step| *step.key()).collect();
    gone.sort();
    assert_eq!(gone, [tcp(2).key, tcp(3).key, tcp(5).key]);
    assert!(former.is_empty() && !former.is_complete() && former.heard().is_none());
}

#[test]
fn a_restarted_receiver_adopts_what_stands() {
    let mut pair = Pair::synced(&[tcp(1), tcp(2)]);
    pair.receiver = receiver(9000, Tuning::default(), pair.now);
    for number in [1, 2, 3] {
        pair.receiver.adopt(pair.now, tcp(number));
    }
    pair.run_for(Tuning::default().silence + Duration::from_millis(300));
    let list = pair.list.take().unwrap();
    for number in [1, 2] {
        pair.sender.listed(pair.now, list, &tcp(number));
    }
    pair.sender.list_ended(pair.now, list);
    pair.run();
    // What stands has less time left than a copy should have.
    assert_eq!(pair.take_applied(), [FlowStep::Update(tcp(1)), FlowStep::Update(tcp(2)), FlowStep::Delete(tcp(3).key)]);
    assert!(pair.receiver.in_sync(pair.now));
}

/// What this thread has computed: what other programs do at the same time does not count.
fn computed() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

/// The bar in the release build is 500,000 a second through each machine; this one is not optimised.
#[test]
fn many_changes_pass_quickly() {
    const COUNT: u32 = 100_000;
    let mut pair = Pair::synced(&[]);
    let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
    let changes: Vec<FlowChange> = (0..COUNT).map(|number| FlowChange::Upsert(tcp(number))).collect();
    for piece in changes.chunks(1000) {
        let begin = computed();
        piece.iter().for_each(|change| pair.sender.change(pair.now, change));
        pair.sender.flush(pair.now);
        pair.collect();
        let sent = computed();
        pair.deliver();
        (sending, receiving) = (sending + (sent - begin), receiving + (computed() - sent));
        pair.deliver();
        pair.now += Duration::from_micros(100);
    }
    assert_eq!(pair.applied.len(), COUNT as usize);
    for (machine, time) in [("sender", sending), ("receiver", receiving)] {
        let rate = f64::from(COUNT) / time.as_secs_f64();
        println!("{machine}: {rate:.0} changes/s");
        assert!(rate > 20_000.0, "{machine}: {rate}");
    }
}
