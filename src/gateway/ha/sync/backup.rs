//! A shard that is not Active here: one stream from each of the others that may be.

use super::super::board::{Board, Flows, Kept};
use super::send;
use crate::model::{Flow, FlowKey, FlowStep};
use crate::proto::sync::{Ledger, Peers, Receiver, ReceiverEffect};
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

pub struct Backup {
    pub all: Vec<Keeping>,
    /// Until this is done nobody's list begins, or the list could not say what of it is gone.
    standing: Standing,
    /// Nothing stands in the kernel, or has gone from it, unknown to us.
    whole: bool,
}

/// What stands in the kernel and nobody here has told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The kernel is to be read.
    Unread,
    Reading,
    Read,
}

pub struct Keeping {
    pub from: IpAddr,
    pub receiver: Receiver,
    /// How many sessions there had been when it last took over what the others knew: for the next one that is enough.
    pub fed: Option<u64>,
}

impl Backup {
    /// `known`: what stands in the kernel, if that is known; otherwise it is read. It stays until the first list says otherwise.
    pub fn new(mut all: Vec<Keeping>, known: Option<&Ledger>, peers: &Peers) -> Self {
        let read = all.is_empty() || known.is_some();
        if let Some(first) = all.first_mut() {
            first.receiver.adopt_peers(peers);
        }
        // The first receiver takes what stands; the others have it from there when they are asked.
        if let (Some(known), Some(first)) = (known, all.first_mut()) {
            first.receiver.adopt_all(known);
        }
        Self { all, standing: if read { Standing::Read } else { Standing::Unread }, whole: true }
    }

    /// These from now on. Who tells already goes on; what the others have told stands until somebody who tells knows better.
    pub fn hear_these(&mut self, now: Instant, all: Vec<Keeping>) {
        let mut former = std::mem::take(&mut self.all);
        let same = |old: &Keeping, new: &Keeping| (old.from, old.receiver.stream_id()) == (new.from, new.receiver.stream_id());
        self.all = all
            .into_iter()
            .map(|new| match former.iter().position(|old| same(old, &new)) {
                Some(at) => former.swap_remove(at),
                None => new,
            })
            .collect();
        for mut gone in former.into_iter().filter(|gone| !gone.receiver.is_empty()) {
            if let Some(one) = self.all.iter_mut().find(|one| one.receiver.in_sync(now)) {
                one.receiver.supersede(&mut gone.receiver);
            } else if let Some(first) = self.all.first_mut() {
                first.receiver.adopt_from(&gone.receiver);
                first.receiver.adopt_peers(gone.receiver.peers());
            }
        }
    }

    /// What all have told of peers.
    pub fn peers(&self) -> Peers {
        let mut peers = Peers::default();
        self.all.iter().for_each(|keeping| peers.adopt_from(keeping.receiver.peers()));
        peers
    }

    /// All that is known of what stands here, for a node that becomes the Active.
    pub fn into_known(self) -> (Ledger, Peers) {
        let mut all = self.all;
        // Of what two have told differently, the later holds.
        all.sort_by_key(|keeping| std::cmp::Reverse(keeping.receiver.heard()));
        let mut all = all.into_iter().map(|keeping| keeping.receiver.into_known());
        let (mut known, mut peers) = all.next().unwrap_or_default();
        let told = known.len();
        for (other, their_peers) in all {
            known.adopt_from(&other);
            peers.adopt_from(&their_peers);
        }
        known.break_off();
        // What only others know may have ended since.
        known.complete = self.whole && self.standing == Standing::Read && known.len() == told;
        (known, peers)
    }

    pub fn turn(&mut self, now: Instant, steps: &mut Vec<FlowStep>, socket: &UdpSocket, port: u16, board: &Board) {
        if self.standing == Standing::Read {
            self.answer();
        }
        self.supersede(now);
        for Keeping { from, receiver, .. } in &mut self.all {
            receiver.handle_timeout(now);
            while let Some(effect) = receiver.next_effect() {
                match effect {
                    ReceiverEffect::Send(datagram) => send(socket, *from, port, &datagram, board),
                    ReceiverEffect::Apply(step) => steps.push(step),
                }
            }
        }
    }

    /// Whether the kernel is to be read.
    pub fn waits(&self) -> bool {
        self.standing == Standing::Unread
    }

    /// The kernel is read from here on.
    pub fn begin(&mut self) {
        if self.waits() {
            self.standing = Standing::Reading;
        }
    }

    pub fn read(&mut self, now: Instant, flow: Flow) {
        if let (Standing::Reading, Some(first)) = (self.standing, self.all.first_mut()) {
            first.receiver.adopt(now, flow);
        }
    }

    /// The reading is over; `whole`: it came to its end.
    pub fn end(&mut self, whole: bool) {
        if self.standing == Standing::Reading {
            self.standing = Standing::Read;
            self.whole &= whole;
        }
    }

    /// The kernel tells of a connection, and it was not we who wrote it: the addresses are here already, and their traffic.
    pub fn stands(&mut self, now: Instant, flow: Flow) {
        if let Some(last) = self.last_heard() {
            last.receiver.adopt(now, flow);
        }
    }

    /// Whoever is, or was, the Active.
    fn last_heard(&mut self) -> Option<&mut Keeping> {
        self.all.iter_mut().max_by_key(|one| one.receiver.heard())
    }

    /// The kernel lost notices.
    pub fn overflow(&mut self, now: Instant) {
        self.whole = false;
        self.all.iter_mut().for_each(|one| one.receiver.overflow(now));
    }

    fn answer(&mut self) {
        for place in 0..self.all.len() {
            let (before, rest) = self.all.split_at_mut(place);
            if let Some((one, after)) = rest.split_first_mut().filter(|(one, _)| one.receiver.is_asked()) {
                if one.fed.replace(one.receiver.counters.sessions) != Some(one.receiver.counters.sessions) {
                    before.iter().chain(&*after).for_each(|other| one.receiver.adopt_from(&other.receiver));
                }
                one.receiver.answer();
            }
        }
    }

    /// What a former Active told is stale once the new one's list is here.
    fn supersede(&mut self, now: Instant) {
        let Some(place) = self.all.iter().position(|one| one.receiver.in_sync(now)) else { return };
        let (before, rest) = self.all.split_at_mut(place);
        let Some((one, after)) = rest.split_first_mut() else { return };
        for other in before.iter_mut().chain(after).filter(|other| !other.receiver.is_live(now) && !other.receiver.is_empty()) {
            one.receiver.supersede(&mut other.receiver);
        }
    }

    pub fn unwritten(&mut self, key: FlowKey, missed: bool) {
        let known = self.all.iter_mut().map(|one| one.receiver.unwritten(key, missed)).filter(|known| *known).count();
        if known == 0
            && let Some(last) = self.last_heard()
        {
            // One that was to go.
            last.receiver.doubt(key);
        }
    }

    pub fn vanished(&mut self, now: Instant, key: FlowKey) {
        self.all.iter_mut().for_each(|one| one.receiver.vanished(now, key));
    }

    pub fn show(&self, now: Instant) -> Flows {
        let show = |Keeping { from, receiver, .. }: &Keeping| Kept {
            from: *from,
            in_sync: receiver.in_sync(now),
            flows: receiver.flows(),
            lag: receiver.lag(),
            counters: receiver.counters,
        };
        Flows::Kept(self.all.iter().map(show).collect())
    }
}
