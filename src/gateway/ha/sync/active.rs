//! A shard that is Active here: one stream to each of the other candidates, and to whoever else still keeps copies.

use super::super::board::{Board, Connections, Flows, Standing, Told};
use super::send;
use crate::model::{Flow, FlowChange, FlowKey, FlowStep, PublicKey};
use crate::proto::sync::{Ledger, ListId, Peers, Sender, SenderEffect};
use crate::wire::sync::peer::PeerRecord;
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

pub struct Active {
    pub all: Vec<Telling>,
    /// What stands in this kernel. While it is complete nobody needs to read the kernel to begin a stream, or to end this role.
    pub known: Ledger,
    /// WireGuard peers.
    pub peers: Peers,
    /// Connections that have begun since this role did.
    pub begun: u64,
}

pub struct Telling {
    to: IpAddr,
    /// It is to have copies; otherwise it may have some.
    candidate: bool,
    pub sender: Sender,
    list: Listing,
    /// The session whose first list has begun.
    began: u64,
}

/// Where a list comes from.
enum Listing {
    /// None runs.
    Idle,
    /// First the peers: these are left.
    Peers(ListId, std::vec::IntoIter<PublicKey>),
    /// From the kernel, when it is read next.
    Waiting(ListId),
    /// From the kernel, which is being read.
    Reading(ListId),
    /// From what is known: these are left.
    Recalling(ListId, std::vec::IntoIter<FlowKey>),
}

impl Active {
    /// These from now on. Who listens already goes on listening.
    pub fn tell_these(&mut self, all: Vec<Telling>) {
        let mut former = std::mem::take(&mut self.all);
        let same = |old: &Telling, new: &Telling| {
            let listens = old.sender.is_up() || old.candidate == new.candidate;
            listens && (old.to, old.sender.stream_id()) == (new.to, new.sender.stream_id())
        };
        self.all = all
            .into_iter()
            .map(|new| match former.iter().position(|old| same(old, &new)) {
                Some(at) => Telling { candidate: new.candidate, ..former.swap_remove(at) },
                None => new,
            })
            .collect();
    }

    /// Whether all candidates have all connections. `awaited`: also those that do not listen.
    pub fn in_sync(&self, now: Instant, awaited: bool) -> bool {
        let mut candidates = self.all.iter().filter(|one| one.candidate && (awaited || one.sender.is_up())).peekable();
        candidates.peek().is_some() && candidates.all(|one| one.sender.in_sync(now))
    }

    /// Whether those who are no candidates are told that they need not keep their copies.
    pub fn relieve(&mut self, relieved: bool) {
        self.all.iter_mut().for_each(|one| one.sender.relieve(relieved && !one.candidate));
    }

    pub fn turn(&mut self, now: Instant, socket: &UdpSocket, port: u16, board: &Board) {
        self.all.iter_mut().for_each(|telling| telling.turn(now, (&self.known, &self.peers), socket, port, board));
    }

    /// What has become of a WireGuard peer.
    pub fn peer(&mut self, now: Instant, record: &PeerRecord) {
        match record {
            PeerRecord::Told(state) | PeerRecord::Listed(state) => self.peers.told(now, state.clone()),
            PeerRecord::Gone(key) => self.peers.gone(now, key),
        }
        self.all.iter_mut().for_each(|telling| telling.sender.peer(now, record.clone()));
    }

    pub fn change(&mut self, now: Instant, change: &FlowChange) {
        match change {
            FlowChange::Upsert(flow) => {
                let mut count = |step: FlowStep| self.begun += u64::from(matches!(step, FlowStep::Create(_)));
                self.known.told(now, *flow, &mut count);
            }
            FlowChange::Destroy(key) => self.known.destroyed(*key, &mut drop),
        }
        self.all.iter_mut().for_each(|telling| telling.sender.change(now, change));
    }

    /// What there is to be told goes at the next turn.
    pub fn flush(&mut self, now: Instant) {
        self.all.iter_mut().for_each(|telling| telling.sender.flush(now));
    }

    /// The kernel lost notices.
    pub fn overflow(&mut self, now: Instant) {
        self.known.interrupt();
        self.all.iter_mut().for_each(|telling| telling.sender.overflow(now));
    }

    /// Whether a list waits for the kernel to be read.
    pub fn waits(&self) -> bool {
        self.all.iter().any(|Telling { sender, list, .. }| matches!(list, Listing::Waiting(id) if sender.lists(*id)))
    }

    /// The kernel is read from here on.
    pub fn begin(&mut self) {
        if !self.waits() {
            return;
        }
        self.known.begin(false);
        for telling in &mut self.all {
            if let Listing::Waiting(list) = telling.list {
                telling.list = Listing::Reading(list);
            }
        }
    }

    fn is_reading(&self) -> bool {
        self.all.iter().any(|telling| matches!(telling.list, Listing::Reading(_)))
    }

    /// Whether all that list what is read can take more. Each is asked: it is what lets them gain room.
    pub fn has_room(&mut self, now: Instant) -> bool {
        self.all.iter_mut().map(|telling| telling.has_room(now)).filter(|room| !room).count() == 0
    }

    /// Lists that could not go on for too long: the others go on without them, and they begin anew.
    pub fn give_up(&mut self, now: Instant) {
        for telling in &mut self.all {
            if let (false, Listing::Reading(list)) = (telling.has_room(now), &telling.list) {
                telling.sender.list_failed(now, *list);
                telling.list = Listing::Idle;
            }
        }
    }

    pub fn read(&mut self, now: Instant, flow: &Flow) {
        if self.is_reading() {
            self.known.listed(now, *flow, &mut drop);
        }
        for Telling { sender, list, .. } in &mut self.all {
            if let Listing::Reading(id) = list {
                sender.listed(now, *id, flow);
            }
        }
    }

    /// The reading is over; `whole`: it came to its end.
    pub fn end(&mut self, now: Instant, whole: bool) {
        match whole && self.is_reading() {
            true => drop(self.known.end(&mut drop)),
            false => self.known.break_off(),
        }
        for Telling { sender, list, .. } in &mut self.all {
            if let Listing::Reading(id) = *list {
                *list = Listing::Idle;
                match whole {
                    true => sender.list_ended(now, id),
                    false => sender.list_failed(now, id),
                }
            }
        }
    }

    pub fn connections(&self) -> Connections {
        let standing = Standing { connections: self.known.len(), most_to_one: self.known.most_to_one() };
        Connections { begun: self.begun, standing: self.known.is_complete().then_some(standing) }
    }

    pub fn show(&self, now: Instant) -> Flows {
        Flows::Told(self.all.iter().filter(|one| one.candidate || one.sender.is_up()).map(|telling| telling.show(now)).collect())
    }
}

impl Telling {
    pub fn new(to: IpAddr, candidate: bool, sender: Sender) -> Self {
        Self { to, candidate, sender, list: Listing::Idle, began: 0 }
    }

    fn turn(&mut self, now: Instant, known: (&Ledger, &Peers), socket: &UdpSocket, port: u16, board: &Board) {
        self.recall(now, known);
        self.sender.handle_timeout(now);
        while let Some(effect) = self.sender.next_effect() {
            match effect {
                SenderEffect::Send(datagram) => send(socket, self.to, port, &datagram, board),
                SenderEffect::List(list) => {
                    self.list = Listing::Peers(list, known.1.keys().collect::<Vec<_>>().into_iter());
                    self.recall(now, known);
                }
            }
        }
    }

    /// A list of flows that begins a session has what is known, if that is all. The later ones are there to tell what nobody is told of: how
    /// long connections will be kept.
    fn begin(&mut self, list: ListId, known: &Ledger) -> Listing {
        let session = self.sender.counters.sessions;
        let first = std::mem::replace(&mut self.began, session) != session;
        if first && known.is_complete() {
            Listing::Recalling(list, known.keys().collect::<Vec<_>>().into_iter())
        } else {
            Listing::Waiting(list)
        }
    }

    fn recall(&mut self, now: Instant, (known, peers): (&Ledger, &Peers)) {
        if let Listing::Peers(list, left) = &mut self.list {
            let list = *list;
            while let room @ 1.. = self.sender.list_room(now).min(left.len()) {
                for state in left.by_ref().take(room).filter_map(|key| peers.get(now, &key)) {
                    self.sender.listed_peer(now, list, state);
                }
            }
            if left.len() == 0 {
                self.list = self.begin(list, known);
            }
        }
        let Listing::Recalling(list, left) = &mut self.list else { return };
        let list = *list;
        while let room @ 1.. = self.sender.list_room(now).min(left.len()) {
            // What has ended since is not known any more, and its end has been told.
            for flow in left.by_ref().take(room).filter_map(|key| known.get(&key)) {
                self.sender.listed(now, list, flow);
            }
        }
        if left.len() == 0 {
            self.list = Listing::Idle;
            self.sender.list_ended(now, list);
        }
    }

    fn has_room(&mut self, now: Instant) -> bool {
        // If the session has ended nobody waits for the rest.
        !matches!(self.list, Listing::Reading(list) if self.sender.lists(list)) || self.sender.list_room(now) > 0
    }

    fn show(&self, now: Instant) -> Told {
        let sender = &self.sender;
        Told {
            to: self.to,
            candidate: self.candidate,
            up: sender.is_up(),
            in_sync: sender.in_sync(now),
            lag: sender.lag(now),
            counters: sender.counters,
        }
    }
}
