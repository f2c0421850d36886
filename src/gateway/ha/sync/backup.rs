//! A shard that is not Active here: one stream from each of the others that may be.

use super::super::board::{Board, Flows, Kept};
use super::send;
use crate::kernel::conntrack::FlowDump;
use crate::model::{FlowKey, FlowStep};
use crate::proto::sync::{Receiver, ReceiverEffect};
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

/// Pieces of what stands, of some hundred connections, that are read before others have their turn.
const PIECES: usize = 8;

pub struct Backup {
    pub all: Vec<Keeping>,
    /// What stands in the kernel and has not been looked at yet. Until it is, nobody's list begins, or the list could not say what of
    /// it is gone.
    pub standing: Option<FlowDump>,
}

pub struct Keeping {
    pub from: IpAddr,
    pub receiver: Receiver,
    /// How many sessions there had been when it last took over what the others knew: for the next one that is enough.
    pub fed: Option<u64>,
}

impl Backup {
    /// Whether there is more to read in the kernel.
    pub fn turn(&mut self, now: Instant, steps: &mut Vec<FlowStep>, socket: &UdpSocket, port: u16, board: &Board) -> bool {
        let more = self.adopt(now);
        if !more {
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
        more
    }

    /// The first receiver takes what stands; the others have it from there when they are asked.
    fn adopt(&mut self, now: Instant) -> bool {
        let (Some(reading), Some(first)) = (&mut self.standing, self.all.first_mut()) else { return false };
        for _ in 0..PIECES {
            match reading.next(|flow| first.receiver.adopt(now, flow)) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!("connections that stand are left as they are: {error}"),
            }
            self.standing = None;
            return false;
        }
        true
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
        self.all.iter_mut().for_each(|one| one.receiver.unwritten(key, missed));
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
