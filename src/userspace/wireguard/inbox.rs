//! What waits for the thread that does handshakes: messages of them, requests to begin one, and peers to look at later. No I/O.

use super::peer::Peer;
use super::shared::Interface;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Handshake messages of a rank that may wait: at 0.1 ms each, a tenth of a second's work.
const ROOM: usize = 1_024;
/// What [`super::DeviceConfig::load`] is, unless somebody knows better.
pub const LOAD: usize = 128;

/// A handshake message whose mac1 is right.
#[derive(Debug)]
pub struct Received {
    pub interface: Arc<Interface>,
    pub source: SocketAddr,
    pub bytes: Box<[u8]>,
}

/// Who goes before whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// Of an address that has sent nothing wrong of late, and what was waited for.
    First,
    /// Of one that sends much and proves little: a flood waits behind those who come new.
    Later,
}

/// One thing to do.
#[derive(Debug)]
pub enum Work {
    Message(Received),
    Begin(Arc<Interface>, Arc<Peer>),
    /// The peer was to be looked at by then.
    Look(Arc<Interface>, Arc<Peer>, u64),
    Stop,
}

#[derive(Debug)]
pub struct Inbox {
    load: usize,
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By rank.
    messages: [VecDeque<Received>; 2],
    begin: VecDeque<(Weak<Interface>, Weak<Peer>)>,
    looks: BinaryHeap<Reverse<Look>>,
    /// Of messages, before anything else.
    turn: bool,
    stop: bool,
}

#[derive(Debug)]
struct Look {
    by: u64,
    interface: Weak<Interface>,
    peer: Weak<Peer>,
}

impl Inbox {
    pub fn new(load: usize) -> Self {
        Self { load, waiting: Mutex::default(), ready: Condvar::new() }
    }

    /// Whether there was room.
    pub fn message(&self, received: Received, rank: Rank) -> bool {
        let mut waiting = self.lock();
        let messages = &mut waiting.messages[rank as usize];
        let room = messages.len() < ROOM;
        if room {
            messages.push_back(received);
            self.ready.notify_one();
        }
        room
    }

    /// Whether much waits that goes before one more of this rank.
    pub fn is_loaded(&self, rank: Rank) -> bool {
        self.lock().messages[..=rank as usize].iter().map(VecDeque::len).sum::<usize>() >= self.load
    }

    pub fn begin(&self, interface: &Arc<Interface>, peer: &Arc<Peer>) {
        self.lock().begin.push_back((Arc::downgrade(interface), Arc::downgrade(peer)));
        self.ready.notify_one();
    }

    pub fn look(&self, by: u64, interface: &Arc<Interface>, peer: &Arc<Peer>) {
        let look = Look { by, interface: Arc::downgrade(interface), peer: Arc::downgrade(peer) };
        let mut waiting = self.lock();
        let first = waiting.looks.peek().is_none_or(|Reverse(first)| by < first.by);
        waiting.looks.push(Reverse(look));
        if first {
            self.ready.notify_one();
        }
    }

    pub fn stop(&self) {
        self.lock().stop = true;
        self.ready.notify_one();
    }

    /// The next thing to do; waits until there is one. Messages take turns with the rest, so that neither many peers who are sent to and do not answer
    /// nor many who knock delay the others; of the rest, what was promised for a time goes first.
    pub fn next(&self, now: impl Fn() -> u64) -> Work {
        let mut waiting = self.lock();
        loop {
            if waiting.stop {
                // Of a flood the rest is lost.
                let last = if waiting.count() < self.load.min(LOAD) { waiting.message() } else { None };
                return last.map_or(Work::Stop, Work::Message);
            }
            if std::mem::take(&mut waiting.turn)
                && let Some(received) = waiting.message()
            {
                return Work::Message(received);
            }
            waiting.turn = true;
            let time = now();
            while let Some(Reverse(look)) = waiting.looks.peek()
                && look.by <= time
            {
                let alive = look.interface.upgrade().zip(look.peer.upgrade()).map(|(interface, peer)| (interface, peer, look.by));
                waiting.looks.pop();
                if let Some((interface, peer, by)) = alive {
                    return Work::Look(interface, peer, by);
                }
            }
            while let Some((interface, peer)) = waiting.begin.pop_front() {
                if let Some((interface, peer)) = interface.upgrade().zip(peer.upgrade()) {
                    return Work::Begin(interface, peer);
                }
            }
            if let Some(received) = waiting.message() {
                return Work::Message(received);
            }
            waiting = match waiting.looks.peek() {
                Some(Reverse(look)) => {
                    let time = Duration::from_millis(look.by - time);
                    self.ready.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.ready.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Messages that wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.lock().count()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn message(&mut self) -> Option<Received> {
        self.messages.iter_mut().find_map(VecDeque::pop_front)
    }

    fn count(&self) -> usize {
        self.messages.iter().map(VecDeque::len).sum()
    }
}

impl PartialEq for Look {
    fn eq(&self, other: &Self) -> bool {
        self.by == other.by
    }
}

impl Eq for Look {}

impl PartialOrd for Look {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Look {
    fn cmp(&self, other: &Self) -> Ordering {
        self.by.cmp(&other.by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;
    use crate::userspace::wireguard::shared::InterfaceConfig;

    fn interface() -> Arc<Interface> {
        let config = InterfaceConfig {
            name: "pw-1".parse().unwrap(),
            key: PrivateKey::new([1; 32]),
            listen: "192.0.2.1:51820".parse().unwrap(),
            mark: None,
            roaming: true,
        };
        Arc::new(Interface::new(1, config, vec![], vec![]))
    }

    fn peer() -> Arc<Peer> {
        Arc::new(Peer::new(PrivateKey::new([2; 32]).public()))
    }

    fn message(interface: &Arc<Interface>) -> Received {
        Received { interface: interface.clone(), source: "192.0.2.9:1".parse().unwrap(), bytes: Box::new([]) }
    }

    #[test]
    fn what_is_due_is_done_in_its_order_and_takes_turns_with_what_came() {
        let (inbox, interface, peer) = (Inbox::new(LOAD), interface(), peer());
        assert!(inbox.message(message(&interface), Rank::First));
        inbox.begin(&interface, &peer);
        [30, 10, 20].into_iter().for_each(|by| inbox.look(by, &interface, &peer));
        let next = |now| match inbox.next(|| now) {
            Work::Look(_, _, by) => format!("look by {by}"),
            Work::Begin(..) => "begin".into(),
            Work::Message(_) => "message".into(),
            Work::Stop => "stop".into(),
        };
        assert!(inbox.message(message(&interface), Rank::First));
        let all = ["look by 10", "message", "look by 20", "message", "begin", "look by 30"];
        assert_eq!([20, 20, 20, 20, 20, 30].map(next), all);
        inbox.begin(&interface, &peer);
        assert!(inbox.message(message(&interface), Rank::First));
        inbox.stop();
        assert_eq!([0, 0].map(next), ["message", "stop"], "what has come is worked off, and nothing is begun");
        (0..LOAD).for_each(|_| assert!(inbox.message(message(&interface), Rank::First)));
        assert_eq!(next(0), "stop", "a flood is not");
    }

    #[test]
    fn a_peer_that_is_gone_needs_no_work() {
        let (inbox, interface) = (Inbox::new(LOAD), interface());
        inbox.look(1, &interface, &peer());
        inbox.begin(&interface, &peer());
        assert!(inbox.message(message(&interface), Rank::First));
        assert!(matches!(inbox.next(|| 5), Work::Message(_)));
    }

    #[test]
    fn there_is_room_for_so_many_messages_and_load_shows_before() {
        let (inbox, interface) = (Inbox::new(LOAD), interface());
        let took = (0..2 * ROOM)
            .filter(|n| inbox.is_loaded(Rank::First) == (*n >= LOAD) && inbox.message(message(&interface), Rank::First))
            .count();
        assert_eq!(took, ROOM);
    }

    #[test]
    fn a_flood_waits_behind_who_comes_new() {
        let (inbox, interface) = (Inbox::new(LOAD), interface());
        let numbered = |n: u8| Received { bytes: Box::new([n]), ..message(&interface) };
        assert_eq!((0..2 * ROOM).filter(|_| inbox.message(numbered(9), Rank::Later)).count(), ROOM);
        assert!(inbox.is_loaded(Rank::Later) && !inbox.is_loaded(Rank::First));
        assert!(inbox.message(numbered(1), Rank::First) && inbox.message(numbered(2), Rank::First));
        let next = || if let Work::Message(received) = inbox.next(|| 0) { received.bytes[0] } else { 0 };
        assert_eq!([next(), next(), next()], [1, 2, 9]);
    }
}
