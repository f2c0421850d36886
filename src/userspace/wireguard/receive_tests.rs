use super::*;
use crate::model::{PrivateKey, PublicKey};
use crate::userspace::wireguard::event::Events;
use crate::userspace::wireguard::inbox::{Rank, Work};
use crate::userspace::wireguard::limit::Limit;
use crate::userspace::wireguard::message::{DATA_HEADER_LEN, DATA_OVERHEAD, TAG_LEN};
use crate::userspace::wireguard::noise::Keys;
use crate::userspace::wireguard::peer::PeerConfig;
use crate::userspace::wireguard::shared::{Clocks, InterfaceConfig};
use proptest::prelude::*;
use std::fs::File;
use std::time::{Instant, SystemTime};
use zeroize::Zeroizing;

const SOURCE: &str = "192.0.2.7:51820";

/// A receiving thread's state, an interface whose device takes everything, and a peer that seals.
struct Bench {
    shared: Shared,
    interface: Arc<Interface>,
    receiver: Receiver,
    theirs: Session,
}

fn key(n: u8) -> PublicKey {
    PrivateKey::new([n; 32]).public()
}

fn bench() -> Bench {
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let clocks = Clocks { now: Instant::now, wall: SystemTime::now };
    let shared = Shared::new(clocks, Limit { rate: 5, burst: 5 }, 128, Events::new().0);
    let config = InterfaceConfig {
        name: "pw-1".parse().unwrap(),
        key: PrivateKey::new([1; 32]),
        listen: "192.0.2.1:51820".parse().unwrap(),
        mark: None,
        roaming: true,
    };
    let interface = Arc::new(Interface::new(1, config, vec![null()], vec![null()]));
    let allowed = |prefix: &str| PeerConfig { allowed: vec![prefix.parse().unwrap()], ..PeerConfig::default() };
    let peer = interface.table_mut().set(key(2), &allowed("10.64.0.0/24")).unwrap();
    interface.table_mut().set(key(3), &allowed("10.64.1.0/24")).unwrap();
    let keys = |a: u8, b: u8| Keys { seal: Zeroizing::new([a; 32]), open: Zeroizing::new([b; 32]) };
    let local = interface.reserve(&peer).unwrap();
    let ours = Arc::new(Session::new(keys(8, 9), local, 77, false, shared.now()).unwrap());
    interface.hold(&peer, &ours);
    peer.answered(ours);
    let theirs = Session::new(keys(9, 8), 77, local, true, shared.now()).unwrap();
    Bench { shared, interface, receiver: Receiver::new(0), theirs }
}

impl Bench {
    /// Receives a batch as the kernel gives it: buffers of datagrams that are `segment` bytes each.
    fn receive(&mut self, slots: &[(Vec<u8>, usize, bool)]) {
        let Bench { shared, interface, receiver, .. } = self;
        let now = shared.now();
        receiver.runs.clear();
        receiver.opened.clear();
        receiver.accepted.clear();
        for (slot, (bytes, segment, cut)) in slots.iter().enumerate() {
            receiver.buffers.slot_mut(slot)[..bytes.len()].copy_from_slice(bytes);
            let incoming = Incoming { source: SOURCE.parse().unwrap(), len: bytes.len(), segment: *segment, class: 0, cut: *cut };
            receiver.open(shared, interface, slot, &incoming, now);
        }
        receiver.judge(interface);
        for run in &receiver.runs {
            heard(shared, interface, run, &mut receiver.sealer, now);
        }
        receiver.deliver(interface);
    }

    fn seal(&self, inner: &[u8]) -> Vec<u8> {
        let mut message = [&[0; DATA_HEADER_LEN][..], inner, &[0; TAG_LEN]].concat();
        self.theirs.seal(&mut message).unwrap();
        message
    }

    fn dropped(&self) -> Vec<(DropReason, u64)> {
        self.interface.drops.snapshot().into_iter().filter(|(_, n)| *n > 0).collect()
    }

    fn delivered(&self) -> u64 {
        self.interface.traffic.snapshot().received_packets
    }
}

fn ip(source: [u8; 4], padding: usize) -> Vec<u8> {
    let mut packet = ipv4::outer(source.into(), [172, 16, 0, 10].into(), 0, 28, 1).to_vec();
    packet[9] = nested::UDP;
    ipv4::set_total_len(&mut packet, 28);
    packet.extend([0, 9, 0, 9, 0, 8, 0, 0]);
    packet.resize(28 + padding, 0);
    packet
}

#[test]
fn a_peer_sends_from_its_own_addresses_only() {
    let mut bench = bench();
    let good = bench.seal(&ip([10, 64, 0, 5], 4));
    let others = bench.seal(&ip([10, 64, 1, 5], 4));
    let nobodys = bench.seal(&ip([10, 65, 0, 5], 4));
    let (len, all) = (good.len(), [good.clone(), others, nobodys, good].concat());
    // One buffer of four datagrams, of which the last is a copy of the first.
    bench.receive(&[(all, len, false)]);
    assert_eq!(bench.delivered(), 1);
    assert_eq!(bench.dropped(), [(DropReason::Replayed, 1), (DropReason::SpoofedInner, 2)]);
    let peer = bench.interface.table().peer(&key(2)).unwrap().clone();
    assert_eq!((peer.endpoint(), peer.received_bytes.load(Relaxed)), (Some(SOURCE.parse().unwrap()), 28));
    assert!(peer.session(bench.shared.now()).is_some(), "what came by it confirms a session");
}

#[test]
fn what_is_inside_is_looked_at() {
    let mut bench = bench();
    let mut tunnel = ip([10, 64, 0, 5], 0);
    tunnel[9] = nested::GRE;
    let mut v6 = ip([10, 64, 0, 5], 0);
    v6[0] = 0x60;
    let long = ip([10, 64, 0, 5], 0)[..27].to_vec();
    let slots = [tunnel, v6, long, vec![]].map(|inner| bench.seal(&inner)).map(|message| (message.clone(), message.len(), false));
    bench.receive(&slots);
    let want = [(DropReason::Truncated, 1), (DropReason::UnsupportedProtocol, 1), (DropReason::Nested, 1)];
    assert_eq!((bench.delivered(), bench.dropped()), (0, want.to_vec()), "and an empty one is no fault");
}

#[test]
fn a_silent_interface_hears_nothing() {
    let mut bench = bench();
    bench.interface.set_sending(false);
    let good = bench.seal(&ip([10, 64, 0, 5], 4));
    let len = good.len();
    bench.receive(&[([good.clone(), good].concat(), len, false)]);
    assert_eq!((bench.delivered(), bench.dropped()), (0, vec![(DropReason::Silent, 2)]));
}

#[test]
fn one_source_may_not_send_as_many_initiations_as_it_likes() {
    let mut bench = bench();
    let message = bench.forged(0);
    bench.receive(&[(message.repeat(9), 148, false)]);
    // To the others cookies were to be sent, which here go nowhere.
    assert_eq!(bench.dropped(), [(DropReason::RateLimited, 4), (DropReason::SendFailed, 4)]);
    assert_eq!(bench.waiting().iter().map(|received| received.bytes.len()).sum::<usize>(), 5 * 148);
}

impl Bench {
    /// The handshake messages that wait for the control thread.
    fn waiting(&self) -> Vec<Received> {
        let inbox = &self.shared.inbox;
        (0..inbox.waiting()).map(|_| if let Work::Message(received) = inbox.next(|| 0) { received } else { panic!("no message") }).collect()
    }

    /// As many messages wait as there may be without cookies.
    fn load(&self) {
        for n in 0..128 {
            let received = Received { interface: self.interface.clone(), source: SOURCE.parse().unwrap(), bytes: Box::new([n]) };
            assert!(self.shared.inbox.message(received, Rank::First));
        }
    }

    /// An initiation of which nothing is right but its first mac.
    fn forged(&self, seed: u8) -> [u8; 148] {
        let mut message = [seed; 148];
        message[..4].copy_from_slice(&[1, 0, 0, 0]);
        self.interface.marker.seal(&mut message, None);
        message
    }
}

/// Otherwise whoever knows our public key could fill the queue of those who wait for the control thread.
#[test]
fn answers_that_nobody_waits_for_do_not_wait_for_the_control_thread() {
    let mut bench = bench();
    let peer = bench.interface.table().peer(&key(2)).unwrap().clone();
    let awaited = bench.interface.reserve(&peer).unwrap();
    let message = |kind: u8, len: usize, at: usize, number: u32| {
        let mut bytes = vec![0; len];
        bytes[0] = kind;
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        if kind == 2 {
            bench.interface.marker.seal(&mut bytes, None);
        }
        (bytes, len, false)
    };
    let session = word(&bench.seal(b""), 4);
    let slots = [
        message(2, 92, 8, awaited.wrapping_add(1)),
        // That one has been answered.
        message(2, 92, 8, session),
        message(2, 92, 8, awaited),
        message(3, 64, 4, awaited.wrapping_add(1)),
        message(3, 64, 4, awaited),
        // About our answer to their initiation.
        message(3, 64, 4, session),
    ];
    bench.receive(&slots);
    assert_eq!(bench.waiting().iter().map(|received| received.bytes[0]).collect::<Vec<_>>(), [2, 3, 3]);
    assert_eq!(bench.dropped(), [(DropReason::UnknownSession, 3)]);
}

/// A flood from addresses that are not its own takes nobody's room among those whose initiations are counted.
#[test]
fn under_load_only_who_is_where_it_says_is_counted() {
    let mut bench = bench();
    bench.load();
    let message = bench.forged(7);
    bench.receive(&[(message.repeat(9), 148, false)]);
    let source: SocketAddr = SOURCE.parse().unwrap();
    let dropped = |bench: &Bench| [DropReason::Overload, DropReason::RateLimited].map(|why| bench.interface.drops.snapshot()[&why]);
    assert_eq!(dropped(&bench), [9, 0], "sent cookies");
    // All of the five that it may send are left.
    let cookie = bench.interface.baker.lock().unwrap().cookie(source, bench.shared.now(), |_| false).unwrap();
    let mut proven = message;
    bench.interface.marker.seal(&mut proven, Some(&cookie));
    bench.receive(&[(proven.repeat(9), 148, false)]);
    assert_eq!(dropped(&bench), [9, 4]);
    // What is sent in its name without one is another matter.
    bench.receive(&[(message.repeat(3), 148, false)]);
    assert_eq!(dropped(&bench), [12, 4]);
}

#[test]
fn a_flood_is_not_sent_a_cookie_for_each_message() {
    let mut bench = bench();
    bench.load();
    let message = bench.forged(7);
    let cookies = Limit::COOKIES.burst as usize;
    for _ in 0..cookies / 50 {
        bench.receive(&[(message.repeat(100), 148, false)]);
    }
    let dropped = bench.interface.drops.snapshot();
    let sent = dropped[&DropReason::Overload] as usize;
    assert_eq!(sent + dropped[&DropReason::RateLimited] as usize, 2 * cookies);
    assert!(sent >= cookies, "{dropped:?}");
}

/// Who forges an address keeps nobody out who has it: it is asked for a cookie, and comes before the forger's.
#[test]
fn what_is_sent_in_its_name_keeps_nobody_out() {
    let mut bench = bench();
    let forged = bench.forged(7);
    bench.receive(&[(forged.repeat(200), 148, false)]);
    let waiting = bench.waiting().len();
    assert_eq!(waiting, 5, "as many as one may send");
    let source: SocketAddr = SOURCE.parse().unwrap();
    let cookie = bench.interface.baker.lock().unwrap().cookie(source, bench.shared.now(), |_| false).unwrap();
    let mut genuine = bench.forged(8);
    bench.interface.marker.seal(&mut genuine, Some(&cookie));
    bench.receive(&[(forged.repeat(10), 148, false), (genuine.to_vec(), 148, false)]);
    let waiting: Vec<u8> = bench.waiting().iter().map(|received| received.bytes[9]).collect();
    assert_eq!(waiting, [8]);
}

fn datagram() -> impl Strategy<Value = (u8, Vec<u8>, prop::sample::Index, u8)> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    (0u8..8, bytes, any::<prop::sample::Index>(), 0u8..8)
}

proptest! {
    /// Whatever comes, each datagram is delivered, or a sign of life, or waits for the control thread, or is counted, once.
    #[test]
    fn nothing_gets_lost_uncounted(datagrams in prop::collection::vec(datagram(), 1..12), segment in 1usize..300, cut: bool) {
        let mut bench = bench();
        let mut slots = Vec::new();
        let (mut good, mut total) = (0, 0);
        for (n, (kind, bytes, at, bit)) in datagrams.into_iter().enumerate() {
            let damaged = |mut message: Vec<u8>| {
                let at = at.index(message.len());
                message[at] ^= 1 << bit;
                message
            };
            let (message, segment) = match kind {
                0 => { good += 1; (bench.seal(&ip([10, 64, 0, 5], n % 5)), usize::MAX) }
                1 => (damaged(bench.seal(&ip([10, 64, 0, 5], 4))), usize::MAX),
                2 => (bench.seal(&bytes), usize::MAX),
                3 => (bench.seal(&ip([10, 64, 1, 5], 0)), usize::MAX),
                4 => {
                    let mut message = bytes;
                    message.resize(148, 0);
                    message[..4].copy_from_slice(&[1 + bit % 3, 0, 0, 0]);
                    bench.interface.marker.seal(&mut message, None);
                    (message, usize::MAX)
                }
                _ => (bytes, segment),
            };
            let segment = segment.min(message.len().max(1));
            total += message.len().div_ceil(segment).max(1);
            slots.push((message, segment, cut && kind > 4));
        }
        bench.receive(&slots);
        let dropped = bench.dropped().iter().map(|(_, n)| n).sum::<u64>();
        let delivered = bench.delivered();
        let waiting = bench.shared.inbox.waiting() as u64;
        let alive = slots.iter().filter(|(message, ..)| message.len() == DATA_OVERHEAD).count() as u64;
        prop_assert!(delivered >= good);
        let seen = dropped + delivered + waiting;
        prop_assert!(seen <= total as u64 && seen + alive >= total as u64, "{} of {}, {} empty: {:?}", seen, total, alive, bench.dropped());
    }
}
