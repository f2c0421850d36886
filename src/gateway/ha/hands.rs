//! The thread that does what the virtual routers decide: leases, addresses, announcements, in the order in which they were decided. It counts what
//! it has done, or the speaker would go on advertising what nobody carries out.

mod aside;
mod deed;

pub use aside::Aside;
pub use deed::Deed;

use super::board::{Board, Takeover};
use super::scribe::Scribe;
use super::sync;
use crate::daemon::bell::Inbox;
use crate::gateway::sessions::{self, Coming};
use crate::kernel::KernelError;
use crate::kernel::announce::Announcer;
use crate::kernel::havip::HaVips;
use crate::kernel::lease::Lease;
use crate::kernel::pass_back::PassBack;
use crate::model::{IfName, TenantShard};
use crate::plan::{ANSWERS, LIVE};
use crate::proto::vrrp::{Announced, FORWARD_AFTER_HANDOVER, State};
use deed::{leases, turning};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tracing::Level;

/// For so long the copies of the last changes may keep addresses waiting (some 1,000 at most, a few milliseconds), those of all shards that come
/// together.
const TAIL: Duration = Duration::from_millis(20);

/// Between looks whether tunnels that are waited for are ready.
const LOOK: Duration = Duration::from_millis(3);

/// The HaVips of each shard, and the interfaces that they belong on.
pub type Addresses = BTreeMap<TenantShard, Vec<(IfName, IpAddr)>>;

/// Shards whose leases are renewed in one transaction: with two addresses each, of 44 bytes, they fit a netlink attribute (64 KiB).
const TOGETHER: usize = 256;

/// Between the first two announcements of a burst: five take 150 ms.
const GAP: Duration = Duration::from_millis(10);

/// What it works with, opened before its thread starts.
#[derive(Debug)]
pub struct Hands {
    pub lease: Lease,
    pub addresses: HaVips,
    pub announcer: Announcer,
    pub sync: sync::Orders,
    pub board: Arc<Board>,
    pub scribe: Scribe,
    pub shards: BTreeMap<TenantShard, Shard>,
    /// With tunnels that have sessions.
    pub back: Option<PassBack>,
    /// Tunnels that carry nothing for a shard that is not here are told when it is.
    pub sessions: sessions::Orders,
    pub aside: Aside,
}

/// The two addresses of a shard and the interfaces that they belong on.
#[derive(Debug, Default)]
pub struct Shard {
    /// The platform's first.
    pub addresses: Vec<(IfName, IpAddr)>,
    /// Until when they are this node's.
    until: Option<Instant>,
    /// Whether it answers for them, too, while it has them.
    answering: bool,
    burst: Option<Burst>,
    /// Until when the node before gets a copy of what belongs to its sessions.
    passes_back: Option<Instant>,
    /// Neighbours do not know yet that the addresses are here.
    unannounced: bool,
}

/// Announcements that are due: not all at once, for what loses one loses its neighbours too.
#[derive(Debug)]
struct Burst {
    left: u8,
    at: Instant,
    /// Until the one after: twice as long each time.
    gap: Duration,
}

impl Hands {
    pub fn know(&mut self, shards: Addresses) {
        let mut old = std::mem::take(&mut self.shards);
        for (of, addresses) in shards {
            let mut shard = old.remove(&of).unwrap_or_default();
            if shard.addresses != addresses {
                let former = std::mem::replace(&mut shard.addresses, addresses);
                let moves = shard.until.is_some();
                self.shards.insert(of.clone(), shard);
                if moves {
                    self.give_up(&of, &former);
                    self.settle(&of);
                }
            } else {
                self.shards.insert(of, shard);
            }
        }
    }

    /// As if the shard had been taken: a process before this one did.
    pub fn adopt(&mut self, of: &TenantShard) {
        if let Some(shard) = self.shards.get_mut(of) {
            shard.answering = true;
        }
    }

    /// Runs until it is told to stop.
    pub fn run(mut self, inbox: &Inbox<Deed>) {
        loop {
            let mut ready = [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, self.wait()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => self.scribe.say(Level::ERROR, format!("waiting for deeds failed: {error}")),
            }
            let deeds: Vec<Deed> = inbox.take().collect();
            // Leases first: of those that stand nothing may lapse while others wait for connections.
            let turning = turning(&deeds);
            let stands = |of: &TenantShard| !turning.contains(of) && !self.aside.has(of);
            let leases = leases(&deeds, stands);
            self.renew(&leases);
            // One that goes and comes back in between is the other's for a moment: its connections are taken over when it comes.
            let (mut coming, mut going, mut back) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
            for deed in &deeds {
                match deed {
                    Deed::Release { of, .. } => _ = going.insert(of.clone()),
                    Deed::Take { of, .. } if going.contains(of) => _ = back.insert(of.clone()),
                    Deed::Take { of, .. } => coming.push(of),
                    _ => {}
                }
            }
            self.sync.promote(&coming, TAIL);
            let mut late = self.speak(&deeds);
            for deed in deeds {
                match &deed {
                    Deed::Stop => return,
                    Deed::Lease { of, .. } if leases.contains_key(of) => {
                        self.done();
                        continue;
                    }
                    Deed::Take { of, .. } => {
                        if back.contains(of) {
                            self.sync.promote(&[of], TAIL);
                        }
                        if let Some(tunnels) = late.remove(of) {
                            self.aside.begin(Instant::now(), of.clone(), tunnels);
                        }
                    }
                    _ => {}
                }
                let now = self.aside.put(deed);
                self.carry_all_out(now);
            }
            let ready = self.aside.ready(Instant::now());
            self.carry_all_out(ready);
            self.announce(Instant::now());
        }
    }

    fn carry_all_out(&mut self, deeds: Vec<Deed>) {
        for deed in deeds {
            // That one is nobody's who counts.
            let counts = !matches!(deed, Deed::Renew);
            self.carry_out(deed);
            if counts {
                self.done();
            }
        }
    }

    /// One deed more of those that the routers have told of: they watch these hands.
    fn done(&self) {
        self.board.counters.deeds.fetch_add(1, Relaxed);
    }

    /// What comes for a shard in a planned move finds tunnels that speak and know its peers: it waits there for a session. Those whose tunnels are not ready
    /// by then. A node that died is not waited for.
    fn speak(&self, deeds: &[Deed]) -> BTreeMap<TenantShard, Coming> {
        let (mut planned, mut others) = (BTreeMap::new(), Vec::new());
        for deed in deeds {
            match deed {
                Deed::Take { of, former: Some(_), .. } if self.shards.contains_key(of) => {
                    planned.insert(of.clone(), self.sessions.come(of.clone()));
                }
                Deed::Take { of, former: None, .. } if self.shards.contains_key(of) => others.push(of.clone()),
                _ => {}
            }
        }
        others.into_iter().for_each(|of| drop(self.sessions.come(of)));
        let deadline = Instant::now() + TAIL;
        planned.retain(|_, tunnels| !tunnels.wait(deadline.saturating_duration_since(Instant::now())));
        planned
    }

    fn wait(&self) -> PollTimeout {
        let next = self.shards.values().filter_map(|shard| Some(shard.burst.as_ref()?.at)).min();
        let burst = next.map(|at| at.saturating_duration_since(Instant::now()));
        let look = (!self.aside.is_empty()).then_some(LOOK);
        let wait = burst.into_iter().chain(look).min().map(|wait| wait.as_micros().div_ceil(1000));
        wait.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX))
    }

    /// Connections first (they are there by now), then the right to use the addresses, then the addresses (RFC 9568 section 6.4.2 has no
    /// connections).
    fn take(&mut self, of: &TenantShard, until: Instant, former: Option<IpAddr>) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        (shard.answering, shard.until, shard.unannounced) = (true, Some(until), true);
        // Before the addresses are there: who compares the two meanwhile puts them there, too.
        self.board.hold(of, true);
        self.pass_back(of, former);
        self.settle(of);
    }

    /// Whoever had the shard has its sessions, too: what belongs to one of those it gets, as long as it goes on forwarding. None: no more.
    fn pass_back(&mut self, of: &TenantShard, former: Option<IpAddr>) {
        let Some((back, shard)) = self.back.as_mut().zip(self.shards.get_mut(of)) else { return };
        let Some((_, havip)) = shard.addresses.first() else { return };
        let now = Instant::now();
        let stands = std::mem::take(&mut shard.passes_back).is_some_and(|until| now < until);
        let result = match former {
            Some(node) => {
                shard.passes_back = Some(now + FORWARD_AFTER_HANDOVER);
                back.begin(*havip, node, FORWARD_AFTER_HANDOVER)
            }
            None if stands => back.end(*havip),
            None => Ok(()),
        };
        if let Err(error) = result {
            self.scribe.say(Level::WARN, format!("{of}: what hosts send before they have new sessions is lost: {error}"));
        }
    }

    /// Puts the addresses of a shard where they belong, with the lease that it has.
    fn settle(&mut self, of: &TenantShard) {
        let Some(shard) = self.shards.get(of) else { return };
        let (addresses, until) = (shard.addresses.clone(), shard.until);
        if let Some(until) = until {
            self.renew(&[(of.clone(), until)].into());
        }
        for ((interface, address), taken) in addresses.iter().zip(self.addresses.take(&addresses)) {
            if let Err(error) = taken {
                self.scribe.say(Level::ERROR, format!("{of}: cannot put {address} on {interface}, trying again: {error}"));
                self.board.again.notify_one();
            }
        }
    }

    fn release(&mut self, of: &TenantShard, taken: bool) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        (shard.answering, shard.burst, shard.until) = (false, None, None);
        let addresses = shard.addresses.clone();
        self.board.hold(of, false);
        self.give_up(of, &addresses);
        self.pass_back(of, None);
        self.sessions.send(sessions::Order::Released(of.clone()));
        self.sync.demote(of, taken);
        // This node may have served it only until somebody else does.
        self.board.again.notify_one();
    }

    /// No longer takes, sends or answers for these, wherever they are.
    fn give_up(&mut self, of: &TenantShard, addresses: &[(IfName, IpAddr)]) {
        if let Err(error) = self.lease.end(&[(LIVE, addresses), (ANSWERS, addresses)]) {
            self.scribe.say(Level::ERROR, format!("{of}: cannot end the lease, it will lapse: {error}"));
        }
        for ((interface, address), released) in addresses.iter().zip(self.addresses.release(addresses)) {
            if let Err(error) = released {
                self.scribe.say(Level::ERROR, format!("{of}: cannot take {address} from {interface}: {error}"));
            }
        }
    }

    /// Those that end together go together: a transaction costs the kernel as much as what is in it.
    fn renew(&mut self, leases: &BTreeMap<TenantShard, Instant>) {
        let mut ends: BTreeMap<Instant, Vec<&TenantShard>> = BTreeMap::new();
        for (of, until) in leases {
            if let Some(shard) = self.shards.get_mut(of) {
                shard.until = Some(*until);
                ends.entry(*until).or_default().push(of);
            }
        }
        for (until, all) in ends.iter().flat_map(|(until, all)| all.chunks(TOGETHER).map(|all| (*until, all))) {
            let Err(error) = self.extend(all, until) else { continue };
            self.scribe.say(Level::ERROR, format!("cannot renew the leases of {}: {error}", listed(all)));
            // One that cannot be renewed shall not cost the others theirs.
            for of in all.iter().filter(|_| all.len() > 1) {
                if let Err(error) = self.extend(&[of], until) {
                    self.scribe.say(Level::ERROR, format!("cannot renew the lease of {of}: {error}"));
                }
            }
        }
    }

    fn extend(&mut self, all: &[&TenantShard], until: Instant) -> Result<(), KernelError> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let of = |shard: &Shard| shard.addresses.clone();
        let shards = || all.iter().filter_map(|of| self.shards.get(of));
        let live: Vec<_> = shards().flat_map(of).collect();
        let answers: Vec<_> = shards().filter(|shard| shard.answering).flat_map(of).collect();
        self.lease.extend(&[(LIVE, &live), (ANSWERS, &answers)], left)
    }

    /// What is due of all bursts. An announcement that cannot go out (the lease is late, or the link) is tried again.
    fn announce(&mut self, now: Instant) {
        for (of, shard) in &mut self.shards {
            let Some(burst) = shard.burst.as_mut().filter(|burst| now >= burst.at) else { continue };
            let mut sent = true;
            for (interface, address) in &shard.addresses {
                if let Err(error) = self.announcer.announce(interface, *address, 1) {
                    sent = false;
                    self.scribe.say(Level::DEBUG, format!("{of}: cannot announce {address} on {interface} yet: {error}"));
                }
            }
            burst.left -= u8::from(sent);
            burst.at = now + burst.gap;
            burst.gap *= 2;
            if burst.left == 0 {
                shard.burst = None;
            }
        }
    }

    fn carry_out(&mut self, deed: Deed) {
        match deed {
            Deed::Know(shards) => self.know(shards),
            Deed::Take { of, until, former } => self.take(&of, until, former),
            Deed::Release { of, taken } => self.release(&of, taken),
            Deed::StopAnswering { of } => {
                let Some(shard) = self.shards.get_mut(&of) else { return };
                (shard.answering, shard.burst) = (false, None);
                if let Err(error) = self.lease.end(&[(ANSWERS, &shard.addresses)]) {
                    self.scribe.say(Level::ERROR, format!("{of}: cannot stop answering: {error}"));
                }
                self.pass_back(&of, None);
            }
            Deed::Announce { of, burst, why } => {
                if let Some(shard) = self.shards.get_mut(&of).filter(|_| burst > 0) {
                    shard.burst = Some(Burst { left: burst, at: Instant::now(), gap: GAP });
                }
                // The first goes at once.
                self.announce(Instant::now());
                // Who is called before that would answer to where the addresses were.
                if self.shards.get_mut(&of).is_some_and(|shard| std::mem::take(&mut shard.unannounced)) {
                    self.sessions.send(sessions::Order::Taken(of.clone()));
                }
                if matches!(why, Announced::Contested | Announced::Healed) {
                    self.board.contest(&of);
                }
                if why == Announced::Healed {
                    self.sessions.send(sessions::Order::Healed(of));
                }
            }
            Deed::Renew => {
                let leases = self.shards.iter().filter_map(|(of, shard)| Some((of.clone(), shard.until?))).collect();
                self.renew(&leases);
            }
            Deed::Changed { of, from, to, why, heard } => {
                self.board.turn(&of, to, why);
                if let (State::Backup, State::Active, Some(heard)) = (from, to, heard) {
                    self.board.took_over(Takeover::new(of.clone(), heard, why, Instant::now()));
                }
                self.scribe.say(Level::INFO, format!("{of}: {from} -> {to}: {why}"));
            }
            Deed::Warned { of, warning } => self.scribe.say(Level::WARN, format!("{of}: {warning}")),
            Deed::Complain(what) => self.scribe.say(Level::ERROR, what),
            Deed::Lease { of, until } => self.renew(&[(of, until)].into()),
            Deed::Stop => {}
        }
    }
}

fn listed(shards: &[&TenantShard]) -> String {
    shards.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
