//! The thread that speaks VRRP for all shards. It does nothing that could take long: addresses, leases, announcements and log
//! lines are the hands' ([`super::hands`]), so that no advertisement waits for the kernel, a disk or a reader of the log.

use super::bell::{Bell, Inbox};
use super::board::{Board, Router};
use super::hands::{Addresses, Deed};
use super::instances::Virtual;
use crate::kernel::vrrp_socket::{BATCH, VrrpSocket};
use crate::model::{Priority, TenantShard};
use crate::proto::vrrp::{Effect, Heard, Input, Instance, Why};
use crate::wire::vrrp::{Advertisement, Discard, Envelope, Freshness, GROUP_V4, GROUP_V6, Gate, HOP_LIMIT, Keyring, Packet};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An advertisement is worthless after this time: a recording, or clocks that differ.
const FRESH: Freshness = Freshness::Within(Duration::from_secs(5));
/// Readings of the socket before timers have their turn: more than its buffer holds, so that a process which stood still hears all that
/// waits, and a bound if packets come as fast as they are read.
const READINGS: usize = 128;

/// What others ask of the thread.
#[derive(Debug)]
pub enum Order {
    /// Exactly these from now on; what stays as it was is not disturbed.
    Replace(Vec<Virtual>, Box<Keyring>, Addresses),
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
    core: Core,
}

struct Core {
    entries: Vec<Entry>,
    /// When each wants a `Timeout`.
    due: BTreeSet<(Instant, usize)>,
    hands: Bell<Deed>,
    board: Arc<Board>,
    /// What is to be sent, in the order in which the machines said so.
    outbox: Vec<(usize, Priority)>,
    buffer: Vec<u8>,
}

struct Entry {
    what: Virtual,
    machine: Instance,
    gate: Gate,
    lease: Option<Instant>,
    wakes: Option<Instant>,
    transitions: u64,
    last: Option<Why>,
    /// Something that the board does not show yet.
    unshown: bool,
}

/// Runs until it is told to stop. `resumed`: shards whose HaVips a process before this one had until now.
pub fn run(
    socket: VrrpSocket,
    inbox: &Inbox<Order>,
    hands: Bell<Deed>,
    board: Arc<Board>,
    virtuals: Vec<Virtual>,
    keys: &Keyring,
    resumed: &BTreeSet<TenantShard>,
) {
    let core = Core { entries: Vec::new(), due: BTreeSet::new(), hands, board, outbox: Vec::new(), buffer: Vec::new() };
    let mut speaker = Speaker { socket, core };
    for what in virtuals {
        let start = if resumed.contains(&what.of) { Input::Resume } else { Input::Start };
        speaker.add(what, keys, start);
    }
    speaker.listen(inbox);
}

impl Speaker {
    fn listen(&mut self, inbox: &Inbox<Order>) {
        loop {
            self.core.show();
            let wait = self.core.wait(Instant::now());
            let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(inbox.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut ready, wait.map(TimeSpec::from_duration), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => self.core.hands.send(Deed::Complain(format!("waiting for advertisements failed: {error}"))),
            }
            self.read();
            for order in inbox.take() {
                if matches!(order, Order::Stop) {
                    return;
                }
                self.obey(order);
            }
            self.core.timeouts(Instant::now());
            self.send();
        }
    }

    /// All that waits, before any timer that is late.
    fn read(&mut self) {
        for _ in 0..READINGS {
            let core = &mut self.core;
            let (now, clock) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
            match self.socket.receive(|ip, bytes| core.hear(now, clock, ip, bytes)) {
                // The socket was found empty. What has come since is read after the timers: in a flood there is always something.
                Ok(..BATCH) => return self.send(),
                Ok(_) => self.send(),
                // An ICMP error about something that was sent, or the interface is down: nothing to read.
                Err(_) => return,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Replace(virtuals, keys, addresses) => self.replace(virtuals, &keys, addresses),
            Order::Drain => self.all(now, Input::Drain),
            Order::Undrain => self.all(now, Input::Undrain),
            Order::Retire => self.all(now, Input::Shutdown),
            Order::Priority(of, priority) => self.one(now, &of, Input::Priority(priority)),
            Order::Able(of, true) => self.one(now, &of, Input::Mended),
            Order::Able(of, false) => self.one(now, &of, Input::Fault),
            Order::InSync(of, in_sync) => self.one(now, &of, Input::InSync(in_sync)),
            Order::Stop => {}
        }
    }

    fn all(&mut self, now: Instant, input: Input<'_>) {
        (0..self.core.entries.len()).for_each(|place| self.core.handle(now, place, input));
        self.send();
    }

    fn one(&mut self, now: Instant, of: &TenantShard, input: Input<'_>) {
        if let Some(place) = self.core.entries.iter().position(|entry| entry.what.of == *of) {
            self.core.handle(now, place, input);
            self.send();
        }
    }

    fn add(&mut self, what: Virtual, keys: &Keyring, start: Input<'_>) {
        let now = Instant::now();
        let gate = Gate::new(what.authenticated.then(|| keys.clone()), FRESH);
        let machine = Instance::new(what.router.clone(), now);
        self.core.entries.push(Entry { what, machine, gate, lease: None, wakes: None, transitions: 0, last: None, unshown: true });
        self.core.handle(now, self.core.entries.len() - 1, start);
        self.send();
    }

    fn replace(&mut self, mut wanted: Vec<Virtual>, keys: &Keyring, addresses: Addresses) {
        let now = Instant::now();
        let mut over = BTreeSet::new();
        for place in 0..self.core.entries.len() {
            let entry = &mut self.core.entries[place];
            match wanted.iter().position(|what| what.is_like(&entry.what)) {
                Some(at) => {
                    let what = wanted.swap_remove(at);
                    entry.gate.set_keys(what.authenticated.then(|| keys.clone()));
                    let priority = what.router.priority;
                    entry.what = what;
                    self.core.handle(now, place, Input::Priority(priority));
                }
                None => {
                    // Twice: not to wait for a successor, who will know what is new as we do.
                    self.core.handle(now, place, Input::Shutdown);
                    self.core.handle(now, place, Input::Shutdown);
                    over.insert(place);
                }
            }
        }
        self.send();
        let mut places = 0..;
        self.core.entries.retain(|_| places.next().is_none_or(|place| !over.contains(&place)));
        self.core.due = self.core.entries.iter().enumerate().filter_map(|(place, entry)| Some((entry.wakes?, place))).collect();
        // Not before what is gone has been let go, not after what is new has been taken.
        self.core.hands.send(Deed::Know(addresses));
        for what in wanted {
            self.add(what, keys, Input::Start);
        }
    }

    /// Sends what the machines have said.
    fn send(&mut self) {
        let counters = &self.core.board.counters;
        for (place, priority) in self.core.outbox.drain(..) {
            let entry = &mut self.core.entries[place];
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
            for destination in &entry.what.destinations {
                let ip = Envelope { source: router.address, destination: *destination, hop_limit: HOP_LIMIT };
                advertisement.encode(&ip, entry.what.checksum, sign, &mut self.core.buffer);
                match self.socket.send(router.address, *destination, &self.core.buffer) {
                    Ok(()) => counters.sent.fetch_add(1, Relaxed),
                    Err(_) => counters.send_failures.fetch_add(1, Relaxed),
                };
            }
        }
    }
}

fn is_group(address: IpAddr) -> bool {
    address == IpAddr::from(GROUP_V4) || address == IpAddr::from(GROUP_V6)
}

impl Core {
    fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.first().map(|(at, _)| at.saturating_duration_since(now))
    }

    fn timeouts(&mut self, now: Instant) {
        while let Some((at, place)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.board.counters.late(now.saturating_duration_since(at));
            self.due.remove(&(at, place));
            self.entries[place].wakes = None;
            self.handle(now, place, Input::Timeout);
        }
    }

    /// A packet of protocol 112.
    fn hear(&mut self, now: Instant, clock: Duration, ip: &Envelope, bytes: &[u8]) {
        self.board.counters.received.fetch_add(1, Relaxed);
        if let Err(why) = self.admit(now, clock, ip, bytes) {
            self.board.counters.discard(why);
        }
    }

    fn admit(&mut self, now: Instant, clock: Duration, ip: &Envelope, bytes: &[u8]) -> Result<(), Discard> {
        let packet = Packet::parse(ip, bytes)?;
        let place = self.addressee(ip, &packet.advertisement)?;
        self.entries[place].gate.admit(ip.source, &packet, clock)?;
        self.board.counters.checksum(packet.checksum);
        self.handle(now, place, Input::Advertisement(Heard { from: ip.source, advertisement: packet.advertisement }));
        Ok(())
    }

    /// Whose it is. Routers of different tenants may have one VRID; their addresses tell them apart.
    fn addressee(&self, ip: &Envelope, advertisement: &Advertisement<'_>) -> Result<usize, Discard> {
        let mut found = Err(Discard::UnknownVrid);
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
            if entry.what.router.addresses.as_addresses().are(advertisement.addresses) {
                return Ok(place);
            }
            found = found.or(Ok(place));
        }
        found
    }

    fn handle(&mut self, now: Instant, place: usize, input: Input<'_>) {
        let entry = &mut self.entries[place];
        entry.machine.handle(now, input);
        while let Some(effect) = entry.machine.poll_effect() {
            let of = entry.what.of.clone();
            match effect {
                Effect::SendAdvertisement { priority } => self.outbox.push((place, priority)),
                Effect::TakeAddresses { .. } => {
                    entry.lease = entry.machine.lease_ends();
                    self.hands.send(Deed::Take { of, until: entry.lease.unwrap_or(now) });
                }
                Effect::Announce { burst, why } => {
                    self.board.counters.announce(why);
                    self.hands.send(Deed::Announce { of, burst });
                }
                Effect::StopAnswering => self.hands.send(Deed::StopAnswering { of }),
                Effect::ReleaseAddresses => {
                    entry.lease = None;
                    self.hands.send(Deed::Release { of });
                }
                Effect::Changed { from, to, why } => {
                    entry.transitions += 1;
                    entry.last = Some(why);
                    self.hands.send(Deed::Changed { of, from, to, why });
                }
                Effect::Warn(warning) => self.hands.send(Deed::Warned { of, warning }),
                Effect::Discarded(why) => self.board.counters.discard(why),
            }
        }
        let lease = entry.machine.lease_ends();
        if let Some(until) = lease.filter(|_| lease != entry.lease) {
            self.hands.send(Deed::Lease { of: entry.what.of.clone(), until });
        }
        entry.lease = lease;
        let wakes = entry.machine.poll_timeout().map(|(at, _)| at);
        if wakes != entry.wakes {
            self.due.extend(wakes.map(|at| (at, place)));
            if let Some(old) = std::mem::replace(&mut entry.wakes, wakes) {
                self.due.remove(&(old, place));
            }
        }
        entry.unshown = true;
    }

    fn show(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.unshown) {
            let (status, transitions, last) = (entry.machine.status(), entry.transitions, entry.last);
            let warnings = entry.machine.warnings().iter().map(ToString::to_string).collect();
            entry.unshown = !self.board.try_router(&entry.what.of, || Router { status, transitions, last, warnings });
        }
    }
}
