//! The thread that speaks VRRP for all shards. It does nothing that could take long: addresses, leases, announcements and log
//! lines are the hands' ([`super::hands`]), so that no advertisement waits for the kernel, a disk or a reader of the log.

use super::bell::{Bell, Inbox};
use super::board::Board;
use super::hands::{Addresses, Deed};
use super::instances::{Elsewhere, Virtual};
use super::routers::{Entry, Routers, Told};
use crate::kernel::vrrp_socket::{BATCH, VrrpSocket};
use crate::model::{Priority, TenantShard};
use crate::proto::skew::Skews;
use crate::proto::vrrp::Input;
use crate::wire::vrrp::{Advertisement, Envelope, Freshness, Gate, HOP_LIMIT, Keyring};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An advertisement is worthless after this time: a recording, or clocks that differ.
const FRESH: Freshness = Freshness::Within(Duration::from_secs(5));
/// How long the socket is read at most before timers that are late have their turn: long enough for all that its buffer holds, so that a process which
/// stood still hears what waits; and a bound if packets come as fast as they are read.
const READING: Duration = Duration::from_millis(20);

/// What others ask of the thread.
#[derive(Debug)]
pub enum Order {
    /// Exactly these from now on; what stays as it was is not disturbed.
    Replace(Vec<Virtual>, Elsewhere, Box<Keyring>, Addresses),
    Drain,
    Undrain,
    /// Hand everything over; again: do not wait for it.
    Retire,
    Priority(TenantShard, Priority),
    /// What tracking found: whether the node can serve the shard.
    Able(TenantShard, bool),
    InSync(TenantShard, bool),
    /// End at once and leave everything as it stands: another process goes on.
    Stop,
}

/// Its state beside the socket.
struct Speaker {
    socket: VrrpSocket,
    routers: Routers,
}

/// Runs until it is told to stop. `resumed`: shards whose HaVips a process before this one had until now.
pub fn run(
    socket: VrrpSocket,
    inbox: &Inbox<Order>,
    hands: Bell<Deed>,
    board: Arc<Board>,
    (virtuals, elsewhere): (Vec<Virtual>, Elsewhere),
    keys: &Keyring,
    resumed: &BTreeSet<TenantShard>,
) {
    let now = Instant::now();
    let routers = Routers {
        entries: Vec::new(),
        elsewhere,
        due: BTreeSet::new(),
        hands,
        told: Told { deeds: 0, done: 0, at: now, stuck: false },
        board,
        outbox: Vec::new(),
        buffer: Vec::new(),
        drained: false,
        in_sync: BTreeMap::new(),
        warned: (now, 0),
        skews: Skews::default(),
    };
    let mut speaker = Speaker { socket, routers };
    for what in virtuals {
        let start = if resumed.contains(&what.of) { Input::Resume } else { Input::Start };
        speaker.add(what, keys, start);
    }
    speaker.listen(inbox);
}

impl Speaker {
    fn listen(&mut self, inbox: &Inbox<Order>) {
        loop {
            self.routers.show();
            let wait = self.routers.due().map(|at| at.saturating_duration_since(Instant::now()));
            let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(inbox.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut ready, wait.map(TimeSpec::from_duration), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => self.routers.tell(Deed::Complain(format!("waiting for advertisements failed: {error}"))),
            }
            self.read();
            for order in inbox.take() {
                if matches!(order, Order::Stop) {
                    return;
                }
                self.obey(order);
            }
            self.routers.timeouts(Instant::now());
            self.routers.watch_hands(Instant::now());
            self.send();
        }
    }

    /// What waits, before any timer that is late: at least one batch, which is all of it but in a flood.
    fn read(&mut self) {
        let until = reading(Instant::now(), self.routers.due());
        loop {
            let routers = &mut self.routers;
            let now = Instant::now();
            // Read after the packet has come: a clock that was read before it, and a pause in between, would seem to be behind the sender's.
            let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            match self.socket.receive(|ip, bytes| routers.hear(now, clock(), ip, bytes)) {
                // The socket was found empty. What has come since is read after the timers: in a flood there is always something.
                Ok(..BATCH) => return self.send(),
                Ok(_) => self.send(),
                // An ICMP error about something that was sent, or the interface is down: nothing to read.
                Err(_) => return,
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Replace(virtuals, elsewhere, keys, addresses) => {
                self.routers.elsewhere = elsewhere;
                self.replace(virtuals, &keys, addresses);
            }
            Order::Drain => {
                self.routers.drained = true;
                self.all(now, Input::Drain);
            }
            Order::Undrain => {
                self.routers.drained = false;
                self.all(now, Input::Undrain);
            }
            Order::Retire => self.all(now, Input::Shutdown),
            Order::Priority(of, priority) => {
                if let Some(place) = self.routers.entries.iter().position(|entry| entry.what.of == of) {
                    self.routers.prioritize(now, place, priority);
                    self.send();
                }
            }
            Order::Able(of, able) => {
                let stuck = self.routers.told.stuck;
                self.routers.entries.iter_mut().filter(|entry| entry.what.of == of).for_each(|entry| entry.able = able);
                self.one(now, &of, if able && !stuck { Input::Mended } else { Input::Fault });
            }
            Order::InSync(of, in_sync) => {
                self.routers.entries.iter_mut().filter(|entry| entry.what.of == of).for_each(|entry| entry.whole |= in_sync);
                self.one(now, &of, Input::InSync(in_sync));
                self.routers.in_sync.insert(of, in_sync);
            }
            Order::Stop => {}
        }
    }

    fn all(&mut self, now: Instant, input: Input<'_>) {
        (0..self.routers.entries.len()).for_each(|place| self.routers.handle(now, place, input));
        self.send();
    }

    fn one(&mut self, now: Instant, of: &TenantShard, input: Input<'_>) {
        if let Some(place) = self.routers.entries.iter().position(|entry| entry.what.of == *of) {
            self.routers.handle(now, place, input);
            self.send();
        }
    }

    fn add(&mut self, what: Virtual, keys: &Keyring, start: Input<'_>) {
        let now = Instant::now();
        let gate = Gate::new(what.authenticated.then(|| keys.clone()), FRESH);
        self.routers.entries.push(Entry::new(what, gate, now));
        let place = self.routers.entries.len() - 1;
        let in_sync = self.routers.in_sync.get(&self.routers.entries[place].what.of).copied().unwrap_or(false);
        self.routers.handle(now, place, Input::InSync(in_sync));
        self.routers.handle(now, place, start);
        if self.routers.drained {
            self.routers.handle(now, place, Input::Drain);
        }
        self.send();
    }

    fn replace(&mut self, mut wanted: Vec<Virtual>, keys: &Keyring, addresses: Addresses) {
        let now = Instant::now();
        let mut over = BTreeSet::new();
        for place in 0..self.routers.entries.len() {
            let entry = &mut self.routers.entries[place];
            match wanted.iter().position(|what| what.is_like(&entry.what)) {
                Some(at) => {
                    let what = wanted.swap_remove(at);
                    entry.gate.set_keys(what.authenticated.then(|| keys.clone()));
                    entry.machine.configure(what.router.clone());
                    let priority = what.router.priority;
                    entry.what = what;
                    // Nobody would say otherwise any more.
                    entry.behind &= entry.what.authenticated && entry.what.signs_with_the_time;
                    self.routers.prioritize(now, place, priority);
                }
                None => {
                    // Twice: not to wait for a successor, who will know what is new as we do.
                    self.routers.handle(now, place, Input::Shutdown);
                    self.routers.handle(now, place, Input::Shutdown);
                    over.insert(place);
                }
            }
        }
        self.send();
        let mut places = 0..;
        self.routers.entries.retain(|_| places.next().is_none_or(|place| !over.contains(&place)));
        self.routers.due = self.routers.entries.iter().enumerate().filter_map(|(place, entry)| Some((entry.wakes?, place))).collect();
        // Not before what is gone has been let go, not after what is new has been taken.
        self.routers.tell(Deed::Know(addresses));
        for what in wanted {
            self.add(what, keys, Input::Start);
        }
    }

    /// Sends what the machines have said.
    fn send(&mut self) {
        let counters = &self.routers.board.counters;
        let mut sent = Vec::new();
        for (place, priority) in self.routers.outbox.drain(..) {
            let entry = &mut self.routers.entries[place];
            let router = &entry.what.router;
            let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let sign = entry.gate.seal(clock);
            let advertisement = Advertisement {
                version: router.version,
                vrid: router.vrid,
                priority,
                interval: router.interval,
                addresses: router.addresses.as_addresses(),
            };
            let mut left = 0;
            for destination in &entry.what.destinations {
                let ip = Envelope { source: router.address, destination: *destination, hop_limit: HOP_LIMIT };
                advertisement.encode(&ip, entry.what.checksum, sign, &mut self.routers.buffer);
                match self.socket.send(router.address, *destination, &self.routers.buffer) {
                    Ok(()) => {
                        left += 1;
                        counters.sent.fetch_add(1, Relaxed);
                    }
                    Err(_) => drop(counters.send_failures.fetch_add(1, Relaxed)),
                }
            }
            entry.mute = left == 0 && !entry.what.destinations.is_empty();
            sent.push(place);
        }
        sent.into_iter().for_each(|place| self.routers.lease(place));
    }
}

/// Until when the socket is read. Up to the next timer; where that is late already, for as long again: what came in that time is read in less, unless more comes
/// than can be read.
fn reading(now: Instant, due: Option<Instant>) -> Instant {
    let off = due.map_or(READING, |due| if due > now { due - now } else { now - due });
    now + off.min(READING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_read_until_the_next_timer_and_what_waited_before_one_that_is_late() {
        let (now, ms) = (Instant::now() + Duration::from_secs(1), Duration::from_millis);
        for (due, wanted) in [(Some(now + ms(3)), ms(3)), (Some(now + ms(80)), READING), (Some(now), ms(0)), (None, READING)] {
            assert_eq!(reading(now, due) - now, wanted);
        }
        for (late, wanted) in [(ms(1), ms(1)), (ms(15), ms(15)), (ms(500), READING)] {
            assert_eq!(reading(now, Some(now - late)) - now, wanted);
        }
    }
}
