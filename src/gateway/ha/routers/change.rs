//! Which virtual routers there are, and what they say: all but the socket.

use super::super::hands::{Addresses, Deed};
use super::super::instances::{Elsewhere, Virtual};
use super::{Entry, Routers};
use crate::model::TenantShard;
use crate::proto::vrrp::Input;
use crate::wire::vrrp::{Advertisement, Envelope, Freshness, Gate, HOP_LIMIT, Keyring};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// An advertisement is worthless after this time: a recording, or clocks that differ.
const FRESH: Freshness = Freshness::Within(Duration::from_secs(5));

/// What takes a packet to where it is for. Whether it has gone.
pub trait Transmit {
    fn transmit(&mut self, ip: &Envelope, bytes: &[u8]) -> bool;

    /// Since 1970.
    fn clock(&self) -> Duration;
}

impl Routers {
    /// Sends what the machines have said.
    pub fn send(&mut self, network: &mut impl Transmit) {
        let counters = &self.board.counters;
        let mut sent = Vec::new();
        for (place, priority) in self.outbox.drain(..) {
            let entry = &mut self.entries[place];
            let router = &entry.what.router;
            let sign = entry.gate.seal(network.clock());
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
                advertisement.encode(&ip, entry.what.checksum, sign, &mut self.buffer);
                if network.transmit(&ip, &self.buffer) {
                    left += 1;
                    counters.sent.fetch_add(1, Relaxed);
                } else {
                    counters.send_failures.fetch_add(1, Relaxed);
                }
            }
            entry.mute = left == 0 && !entry.what.destinations.is_empty();
            sent.push(place);
        }
        sent.into_iter().for_each(|place| self.lease(place));
    }

    pub fn add(&mut self, now: Instant, what: Virtual, keys: &Keyring, start: Input<'_>, network: &mut impl Transmit) {
        let gate = Gate::new(what.authenticated.then(|| keys.clone()), FRESH);
        self.entries.push(Entry::new(what, gate, now));
        let place = self.entries.len() - 1;
        let in_sync = self.in_sync.get(&self.entries[place].what.of).copied().unwrap_or(false);
        self.handle(now, place, Input::InSync(in_sync));
        self.handle(now, place, start);
        if self.drained {
            self.handle(now, place, Input::Drain);
        }
        self.send(network);
    }

    /// Exactly these from now on; what stays as it was is not disturbed.
    pub fn replace(
        &mut self,
        now: Instant,
        (mut wanted, elsewhere): (Vec<Virtual>, Elsewhere),
        keys: &Keyring,
        addresses: Addresses,
        network: &mut impl Transmit,
    ) {
        self.elsewhere = elsewhere;
        let mut over = BTreeSet::new();
        for place in 0..self.entries.len() {
            let entry = &mut self.entries[place];
            match wanted.iter().position(|what| what.is_like(&entry.what)) {
                Some(at) => {
                    let what = wanted.swap_remove(at);
                    entry.gate.set_keys(what.authenticated.then(|| keys.clone()));
                    entry.machine.configure(what.router.clone());
                    let priority = what.router.priority;
                    if entry.what != what {
                        (entry.given, entry.since) = (false, now);
                    }
                    entry.what = what;
                    // Nobody would say otherwise any more.
                    entry.behind &= entry.what.authenticated && entry.what.signs_with_the_time;
                    self.prioritize(now, place, priority);
                }
                None => {
                    // Twice: not to wait for a successor, who will know what is new as we do.
                    self.handle(now, place, Input::Shutdown);
                    self.handle(now, place, Input::Shutdown);
                    over.insert(place);
                }
            }
        }
        self.send(network);
        let mut places = 0..;
        self.entries.retain(|_| places.next().is_none_or(|place| !over.contains(&place)));
        self.due = self.entries.iter().enumerate().filter_map(|(place, entry)| Some((entry.wakes?, place))).collect();
        // Not before what is gone has been let go, not after what is new has been taken.
        self.tell(Deed::Know(addresses));
        for what in wanted {
            self.add(now, what, keys, Input::Start, network);
        }
    }

    /// What state sync says of a shard.
    pub fn synced(&mut self, now: Instant, of: &TenantShard, in_sync: bool) {
        if let Some(place) = self.entries.iter().position(|entry| entry.what.of == *of) {
            self.entries[place].whole |= in_sync;
            self.handle(now, place, Input::InSync(in_sync));
        }
        self.in_sync.insert(of.clone(), in_sync);
    }
}
