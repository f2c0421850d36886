//! The virtual routers of this node, between the socket and the hands: no I/O.

pub mod change;

use super::board::{Board, Router, Takeovers};
use super::hands::Deed;
use super::instances::{Elsewhere, Virtual};
use crate::config::Ha;
use crate::daemon::bell::Bell;
use crate::model::{Priority, TenantShard};
use crate::proto::skew::Skews;
use crate::proto::vrrp::{Effect, Heard, Input, Instance, State, Why};
use crate::wire::vrrp::{Advertisement, Discard, Envelope, GROUP_V4, GROUP_V6, Gate, Packet, Sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The hands are stuck if they have done nothing of what they were told for so many intervals: leases lapse, and nobody else would know.
const STUCK_INTERVALS: u32 = 2;
/// But not before: a busy machine.
const STUCK: Duration = Duration::from_millis(200);
/// Warnings told in a second: a peer that contradicts itself with every packet must not fill the log.
const WARNINGS: u32 = 10;
/// What a Backup whose clock is behind its Active's has for a priority at most: as much as the second candidate, which then keeps what it has. It takes over
/// from whoever is silent, or has lost what the shard depends on, as ever.
const BEHIND: Priority = Ha::PRIORITIES[1];
/// What a node that is no candidate any more stands at as long as it alone may have all connections: sooner than candidates without them it takes over from
/// whoever is silent, and gives nothing away. It never preempts.
const SPARE: Priority = Priority(254);
/// Who has heard an Active and never had all its connections stands at one more than this part of its priority, until it has them: behind all who know them, at
/// whatever two candidates have unless something else is written.
const UNKNOWING: u8 = 8;
/// By then state sync has told who is in sync of the candidates that a list has made.
const HEARD_OF: Duration = Duration::from_secs(1);

/// All virtual routers of this node: what comes to them, and what they want.
pub struct Routers {
    pub entries: Vec<Entry>,
    /// What is advertised for others.
    pub elsewhere: Elsewhere,
    /// When each wants a `Timeout`.
    pub due: BTreeSet<(Instant, usize)>,
    pub hands: Bell<Deed>,
    pub board: Arc<Board>,
    /// What is to be sent, in the order in which the machines said so.
    pub outbox: Vec<(usize, Priority)>,
    pub buffer: Vec<u8>,
    /// For shards that begin later.
    pub drained: bool,
    pub in_sync: BTreeMap<TenantShard, bool>,
    pub told: Told,
    pub warned: (Instant, u32),
    /// How far our clock is from those of the others.
    pub skews: Skews<IpAddr>,
}

/// Whether the hands keep up with what they are told.
pub struct Told {
    pub deeds: u64,
    pub done: u64,
    /// When they last were seen to do something, or had nothing to do.
    pub at: Instant,
    pub stuck: bool,
}

pub struct Entry {
    pub what: Virtual,
    pub machine: Instance,
    pub gate: Gate,
    pub lease: Option<Instant>,
    /// The last advertisement reached nobody: it does not count, and the lease lapses.
    pub mute: bool,
    /// What tracking says.
    pub able: bool,
    pub priority: Priority,
    /// Our clock is behind that of the node that was heard last, and it matters.
    pub behind: bool,
    /// All connections of the shard have been here since it was another's.
    pub whole: bool,
    /// All candidates have known the connections of a shard that is here and belongs to them: whoever of them comes for it gets it.
    pub given: bool,
    /// When `what` became what it is.
    pub since: Instant,
    pub wakes: Option<Instant>,
    pub transitions: u64,
    pub takeovers: Takeovers,
    pub last: Option<Why>,
    /// Something that the board does not show yet.
    pub unshown: bool,
}

impl Entry {
    pub fn new(what: Virtual, gate: Gate, now: Instant) -> Self {
        Entry {
            machine: Instance::new(what.router.clone(), now),
            priority: what.router.priority,
            what,
            gate,
            lease: None,
            mute: false,
            able: true,
            behind: false,
            whole: false,
            given: false,
            since: now,
            wakes: None,
            transitions: 0,
            takeovers: Takeovers::default(),
            last: None,
            unshown: true,
        }
    }

    /// One whose clock is behind takes no shard from a node that can serve it: its hosts would refuse this one for as long. What it has it keeps, for any
    /// other's clock can follow. One that is no candidate gives a shard away once the candidates know its connections. Who does not know them comes last: a
    /// list may have made it a candidate before those who do have heard of it.
    fn stands_at(&self) -> Priority {
        let status = self.machine.status();
        let spare = match status.state {
            State::Initialize | State::Backup => self.whole,
            State::Active => !self.given,
            State::Offering | State::Releasing => false,
        };
        let priority = if self.what.spare && spare { SPARE } else { self.priority };
        match status.state {
            State::Initialize | State::Backup => {
                let priority = if self.behind { priority.min(BEHIND) } else { priority };
                // Of strangers nobody is told anything, and all of them know as much.
                let told = self.what.authenticated && status.heard.is_some();
                let unknowing = told && !self.whole && !priority.is_owner();
                if unknowing { Priority(1 + priority.0 / UNKNOWING) } else { priority }
            }
            State::Active | State::Offering | State::Releasing => priority,
        }
    }

    fn is_held_back(&self) -> bool {
        self.behind && self.priority > BEHIND && matches!(self.machine.state(), State::Initialize | State::Backup)
    }
}

fn is_group(address: IpAddr) -> bool {
    address == IpAddr::from(GROUP_V4) || address == IpAddr::from(GROUP_V6)
}

impl Routers {
    /// Of no shard yet.
    pub fn new(now: Instant, hands: Bell<Deed>, board: Arc<Board>, elsewhere: Elsewhere) -> Self {
        Self {
            entries: Vec::new(),
            elsewhere,
            due: BTreeSet::new(),
            hands,
            board,
            outbox: Vec::new(),
            buffer: Vec::new(),
            drained: false,
            in_sync: BTreeMap::new(),
            told: Told { deeds: 0, done: 0, at: now, stuck: false },
            warned: (now, 0),
            skews: Skews::default(),
        }
    }

    /// When the next timer is, or was, to be served.
    pub fn due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub fn timeouts(&mut self, now: Instant) {
        while let Some((at, place)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.board.counters.late(now.saturating_duration_since(at));
            self.due.remove(&(at, place));
            self.entries[place].wakes = None;
            self.handle(now, place, Input::Timeout);
        }
    }

    /// A packet of protocol 112. `clock`: since 1970, not read before the packet came.
    pub fn hear(&mut self, now: Instant, clock: Duration, ip: &Envelope, bytes: &[u8]) {
        self.board.counters.received.fetch_add(1, Relaxed);
        if let Err(why) = self.admit(now, clock, ip, bytes) {
            self.board.counters.discard(why);
        }
    }

    fn admit(&mut self, now: Instant, clock: Duration, ip: &Envelope, bytes: &[u8]) -> Result<(), Discard> {
        let packet = Packet::parse(ip, bytes)?;
        let place = self.addressee(ip, &packet.advertisement)?;
        let entry = &mut self.entries[place];
        entry.gate.admit(ip.source, &packet, clock)?;
        self.board.counters.checksum(packet.checksum);
        // No time without a key: it could be anybody's.
        let sent = packet.claimed_sequence().filter(|_| entry.what.authenticated);
        let skew = sent.map(|sent| self.skews.heard(now, ip.source, Sequence::at(clock).later_than(sent)));
        if let Some(skew) = skew {
            self.board.try_skew(ip.source, skew);
        }
        let heard = Heard { from: ip.source, advertisement: packet.advertisement };
        let ours = entry.what.router.addresses.as_addresses();
        if entry.what.peers.is_some() && !ours.share(packet.advertisement.addresses) {
            // With unicast, tenants may have one VRID: it is none of this shard's business.
            entry.machine.overhear(&heard);
            self.effects(now, place);
            self.entries[place].unshown = true;
            return Err(Discard::UnknownVrid);
        }
        if let Some(skew) = skew {
            entry.behind = entry.what.signs_with_the_time && skew.is_behind();
        }
        // Before it could seem better than the Active.
        self.stand(now, place);
        self.handle(now, place, Input::Advertisement(heard));
        Ok(())
    }

    /// What the configuration or tracking says of one.
    pub fn prioritize(&mut self, now: Instant, place: usize, priority: Priority) {
        self.entries[place].priority = priority;
        self.settle(now, place);
    }

    /// Has the machine know at which priority it stands.
    fn stand(&mut self, now: Instant, place: usize) {
        let entry = &mut self.entries[place];
        let status = entry.machine.status();
        // For good: whoever comes for it listens no more, and counts as out of sync.
        entry.given |= entry.what.spare && status.state == State::Active && status.in_sync && now >= entry.since + HEARD_OF;
        let stands_at = entry.stands_at();
        self.feed(now, place, Input::Priority(stands_at));
    }

    /// Whose it is. Routers of different tenants may have one VRID; their addresses tell them apart. If they are nobody's, the first
    /// of that VRID is told.
    fn addressee(&self, ip: &Envelope, advertisement: &Advertisement<'_>) -> Result<usize, Discard> {
        if self.elsewhere.iter().any(|(vrid, theirs)| *vrid == advertisement.vrid && theirs.as_addresses().are(advertisement.addresses)) {
            return Err(Discard::NotServed);
        }
        let mut found = Err(Discard::UnknownVrid);
        let mut shares = None;
        for (place, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.what.router.vrid == advertisement.vrid) {
            // Our own address is let through: the machine warns of it.
            if entry.what.peers.as_ref().is_some_and(|peers| !peers.contains(&ip.source)) && ip.source != entry.what.router.address {
                found = found.or(Err(Discard::UnlistedSource));
                continue;
            }
            // What is not for us has come by accident: a socket of the device sees it all.
            if ip.destination != entry.what.router.address && !is_group(ip.destination) {
                continue;
            }
            let ours = entry.what.router.addresses.as_addresses();
            if ours.are(advertisement.addresses) {
                return Ok(place);
            }
            shares = shares.or(ours.share(advertisement.addresses).then_some(place));
            found = found.or(Ok(place));
        }
        shares.map_or(found, Ok)
    }

    pub fn handle(&mut self, now: Instant, place: usize, input: Input<'_>) {
        self.feed(now, place, input);
        self.settle(now, place);
    }

    /// What follows from whatever came.
    fn settle(&mut self, now: Instant, place: usize) {
        // In another state it may stand at another priority.
        self.stand(now, place);
        // One that goes with an advertisement waits until that has left.
        if self.outbox.iter().all(|(sending, _)| *sending != place) {
            self.lease(place);
        }
        let entry = &mut self.entries[place];
        let wakes = entry.machine.poll_timeout().map(|(at, _)| at);
        if wakes != entry.wakes {
            self.due.extend(wakes.map(|at| (at, place)));
            if let Some(old) = std::mem::replace(&mut entry.wakes, wakes) {
                self.due.remove(&(old, place));
            }
        }
        entry.unshown = true;
    }

    fn feed(&mut self, now: Instant, place: usize, input: Input<'_>) {
        self.entries[place].machine.handle(now, input);
        self.effects(now, place);
    }

    fn effects(&mut self, now: Instant, place: usize) {
        while let Some(effect) = self.entries[place].machine.poll_effect() {
            self.carry_out(now, place, effect);
        }
    }

    fn carry_out(&mut self, now: Instant, place: usize, effect: Effect) {
        let entry = &mut self.entries[place];
        let of = entry.what.of.clone();
        let deed = match effect {
            Effect::SendAdvertisement { priority } => return self.outbox.push((place, priority)),
            Effect::Discarded(why) => return self.board.counters.discard(why),
            Effect::TakeAddresses { former, .. } => {
                entry.lease = entry.machine.lease_ends();
                Deed::Take { of, until: entry.lease.unwrap_or(now), former }
            }
            Effect::Announce { burst, why } => {
                self.board.counters.announce(why);
                Deed::Announce { of, burst, why }
            }
            Effect::StopAnswering => Deed::StopAnswering { of },
            Effect::ReleaseAddresses => {
                (entry.lease, entry.whole, entry.given) = (None, false, false);
                Deed::Release { of, taken: entry.machine.is_succeeded() }
            }
            Effect::Changed { from, to, why } => {
                entry.transitions += 1;
                entry.takeovers.count(from, to, why);
                entry.last = Some(why);
                Deed::Changed { of, from, to, why, heard: entry.machine.status().heard }
            }
            Effect::Warn(warning) => {
                if now.saturating_duration_since(self.warned.0) >= Duration::from_secs(1) {
                    self.warned = (now, 0);
                }
                self.warned.1 += 1;
                if self.warned.1 > WARNINGS {
                    return;
                }
                Deed::Warned { of, warning }
            }
        };
        self.tell(deed);
    }

    pub fn lease(&mut self, place: usize) {
        let entry = &mut self.entries[place];
        let lease = entry.machine.lease_ends();
        let until = lease.filter(|_| lease != entry.lease && !entry.mute);
        entry.lease = lease;
        if let Some(until) = until {
            let of = entry.what.of.clone();
            self.tell(Deed::Lease { of, until });
        }
    }

    pub fn tell(&mut self, deed: Deed) {
        if self.told.deeds == self.told.done {
            // They had nothing to do until now.
            self.told.at = Instant::now();
        }
        self.told.deeds += 1;
        self.hands.send(deed);
    }

    /// A node whose hands are stuck cannot keep its leases: it lets go, so that another takes over.
    pub fn watch_hands(&mut self, now: Instant) {
        let done = self.board.counters.deeds.load(Relaxed);
        if done != self.told.done || done == self.told.deeds {
            (self.told.done, self.told.at) = (done, now);
        }
        let longest = self.entries.iter().map(|entry| entry.what.router.interval.duration()).max().unwrap_or_default();
        let stuck = now.saturating_duration_since(self.told.at) > (longest * STUCK_INTERVALS).max(STUCK);
        if std::mem::replace(&mut self.told.stuck, stuck) != stuck {
            let input = if stuck { Input::Fault } else { Input::Mended };
            for place in 0..self.entries.len() {
                if stuck || self.entries[place].able {
                    self.handle(now, place, input);
                }
            }
        }
    }

    pub fn show(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.unshown) {
            let (status, transitions, takeovers, last) = (entry.machine.status(), entry.transitions, entry.takeovers, entry.last);
            let warnings = entry.machine.warnings().iter().map(ToString::to_string).collect();
            let held_back = entry.is_held_back();
            entry.unshown = !self.board.try_router(&entry.what.of, || Router { status, transitions, takeovers, last, warnings, held_back });
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
