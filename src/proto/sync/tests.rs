mod changes;
mod hostile;
mod lists;
mod sessions;

use super::*;
use crate::model::{Flow, FlowChange, FlowKey, FlowProtocol, FlowStatus, FlowStep, Mark, NatSource, TcpState};
use bytes::Bytes;
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
    /// For so long the sender's machine stood still, and its clock with it.
    paused: Duration,
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
        Self { now, paused: Duration::ZERO, sender, receiver, to_receiver: vec![], to_sender: vec![], applied: vec![], list: None }
    }

    /// A pair whose first list, of these flows, is over.
    fn synced(flows: &[Flow]) -> Self {
        let mut pair = Self::new();
        pair.run();
        pair.tell_list(flows);
        assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
        assert_eq!(pair.take_applied(), flows.iter().copied().map(FlowStep::Create).collect::<Vec<_>>());
        pair
    }

    /// The list that was asked for: these flows, and its end.
    fn tell_list(&mut self, flows: &[Flow]) {
        let list = self.list.take().expect("a list");
        flows.iter().for_each(|flow| self.sender.listed(self.now, list, flow));
        self.sender.list_ended(self.now, list);
        self.run();
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
            self.sender.handle(self.now - self.paused, &bytes);
        }
        self.collect();
    }

    fn timeouts(&mut self) {
        self.sender.handle_timeout(self.now - self.paused);
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
