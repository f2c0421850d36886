//! The thread that does what the virtual routers decide: leases, addresses, announcements, in the order in which they were decided; and
//! says so.

use super::bell::Inbox;
use super::board::Board;
use super::sync;
use crate::kernel::announce::Announcer;
use crate::kernel::havip::HaVips;
use crate::kernel::lease::Lease;
use crate::model::{IfName, TenantShard};
use crate::plan::{ANSWERS, LIVE};
use crate::proto::vrrp::{State, Warning, Why};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For so long the copies of the last changes may keep the addresses waiting: some 1,000 at most, a few milliseconds.
const TAIL: Duration = Duration::from_millis(20);

/// The HaVips of each shard, and the interfaces that they belong on.
pub type Addresses = BTreeMap<TenantShard, Vec<(IfName, IpAddr)>>;

/// Between the first two announcements of a burst: five take 150 ms.
const GAP: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub enum Deed {
    /// The shards and their addresses, from now on.
    Know(Addresses),
    Take {
        of: TenantShard,
        until: Instant,
    },
    Lease {
        of: TenantShard,
        until: Instant,
    },
    StopAnswering {
        of: TenantShard,
    },
    Release {
        of: TenantShard,
    },
    Announce {
        of: TenantShard,
        burst: u8,
    },
    Changed {
        of: TenantShard,
        from: State,
        to: State,
        why: Why,
    },
    Warned {
        of: TenantShard,
        warning: Warning,
    },
    Complain(String),
    /// End, and leave everything as it stands.
    Stop,
}

/// What it works with, opened before its thread starts.
#[derive(Debug)]
pub struct Hands {
    pub lease: Lease,
    pub addresses: HaVips,
    pub announcer: Announcer,
    pub sync: sync::Orders,
    pub board: Arc<Board>,
    pub shards: BTreeMap<TenantShard, Shard>,
}

/// The two addresses of a shard and the interfaces that they belong on.
#[derive(Debug, Default)]
pub struct Shard {
    pub addresses: Vec<(IfName, IpAddr)>,
    /// Whether this node answers for them, too, while it has them.
    answering: bool,
    burst: Option<Burst>,
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
        self.shards.retain(|of, shard| shards.get(of).is_some_and(|addresses| *addresses == shard.addresses));
        for (of, addresses) in shards {
            self.shards.entry(of).or_insert(Shard { addresses, answering: false, burst: None });
        }
    }

    /// As if the shard had been taken: a process before this one did.
    pub fn adopt(&mut self, of: &TenantShard) {
        if let Some(shard) = self.shards.get_mut(of) {
            shard.answering = true;
            self.board.hold(of, true);
        }
    }

    /// Runs until it is told to stop.
    pub fn run(mut self, inbox: &Inbox<Deed>) {
        loop {
            let mut ready = [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, self.wait()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => tracing::error!(%error, "waiting for deeds failed"),
            }
            // Of several leases of a shard the last counts; they go to the kernel together.
            let mut leases: BTreeMap<TenantShard, Instant> = BTreeMap::new();
            for deed in inbox.take() {
                match deed {
                    Deed::Stop => {
                        self.renew(std::mem::take(&mut leases));
                        return;
                    }
                    Deed::Lease { of, until } => drop(leases.insert(of, until)),
                    Deed::Take { of, until } => {
                        leases.remove(&of);
                        self.take(&of, until);
                    }
                    Deed::Release { of } => {
                        leases.remove(&of);
                        self.release(&of);
                    }
                    deed => {
                        self.renew(std::mem::take(&mut leases));
                        self.small(deed);
                    }
                }
            }
            self.renew(leases);
            self.announce(Instant::now());
        }
    }

    fn wait(&self) -> PollTimeout {
        let next = self.shards.values().filter_map(|shard| Some(shard.burst.as_ref()?.at)).min();
        let wait = next.map(|at| at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000));
        wait.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX))
    }

    /// Connections first, then the right to use the addresses, then the addresses (RFC 9568 section 6.4.2 has no connections).
    fn take(&mut self, of: &TenantShard, until: Instant) {
        let begun = Instant::now();
        self.sync.promote(of, TAIL);
        tracing::debug!("{of}: copies complete after {:?}", begun.elapsed());
        let Some(shard) = self.shards.get_mut(of) else { return };
        shard.answering = true;
        let addresses = shard.addresses.clone();
        self.renew([(of.clone(), until)].into());
        for ((interface, address), taken) in addresses.iter().zip(self.addresses.take(&addresses)) {
            if let Err(error) = taken {
                tracing::error!("{of}: cannot put {address} on {interface}: {error}");
            }
        }
        self.board.hold(of, true);
        tracing::debug!("{of}: addresses taken after {:?}", begun.elapsed());
    }

    fn release(&mut self, of: &TenantShard) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        (shard.answering, shard.burst) = (false, None);
        let addresses = shard.addresses.clone();
        if let Err(error) = self.lease.end(&[(LIVE, &addresses), (ANSWERS, &addresses)]) {
            tracing::error!("{of}: cannot end the lease, it will lapse: {error}");
        }
        for ((interface, address), released) in addresses.iter().zip(self.addresses.release(&addresses)) {
            if let Err(error) = released {
                tracing::error!("{of}: cannot take {address} from {interface}: {error}");
            }
        }
        self.board.hold(of, false);
        self.sync.demote(of);
    }

    fn renew(&mut self, leases: BTreeMap<TenantShard, Instant>) {
        let now = Instant::now();
        for (of, until) in leases {
            let Some(shard) = self.shards.get(&of) else { continue };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                continue;
            }
            let both = [(LIVE, shard.addresses.as_slice()), (ANSWERS, shard.addresses.as_slice())];
            let sets = if shard.answering { &both[..] } else { &both[..1] };
            if let Err(error) = self.lease.extend(sets, left) {
                tracing::error!("{of}: cannot renew the lease: {error}");
            }
        }
    }

    /// What is due of all bursts. An announcement that cannot go out (the lease is late, or the link) is tried again.
    fn announce(&mut self, now: Instant) {
        for (of, shard) in &mut self.shards {
            let Some(burst) = shard.burst.as_mut().filter(|burst| now >= burst.at) else { continue };
            let mut sent = true;
            for (interface, address) in &shard.addresses {
                if let Err(error) = self.announcer.announce(interface, *address, 1) {
                    sent = false;
                    tracing::debug!("{of}: cannot announce {address} on {interface} yet: {error}");
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

    fn small(&mut self, deed: Deed) {
        match deed {
            Deed::Know(shards) => self.know(shards),
            Deed::StopAnswering { of } => {
                let Some(shard) = self.shards.get_mut(&of) else { return };
                (shard.answering, shard.burst) = (false, None);
                if let Err(error) = self.lease.end(&[(ANSWERS, &shard.addresses)]) {
                    tracing::error!("{of}: cannot stop answering: {error}");
                }
            }
            Deed::Announce { of, burst } => {
                if let Some(shard) = self.shards.get_mut(&of).filter(|_| burst > 0) {
                    shard.burst = Some(Burst { left: burst, at: Instant::now(), gap: GAP });
                }
                // The first goes at once.
                self.announce(Instant::now());
            }
            Deed::Changed { of, from, to, why } => {
                self.board.turn(&of, to, why);
                tracing::info!("{of}: {from} -> {to}: {why}");
            }
            Deed::Warned { of, warning } => tracing::warn!("{of}: {warning}"),
            Deed::Complain(what) => tracing::error!("{what}"),
            Deed::Take { .. } | Deed::Lease { .. } | Deed::Release { .. } | Deed::Stop => {}
        }
    }
}
