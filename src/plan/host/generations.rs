//! Which interfaces the WireGuard tunnels of a host have. Pure.
//!
//! An interface has one key of ours and one of the gateway's, for good: the kernel ends the sessions of one whose key is changed, and two peers cannot
//! share what a peer may send. So other keys are another interface, a generation, beside the one that stands:
//!
//! ```text
//!                 other keys        it is up, and has no session      same gateway key
//!  Settled ------------------> Made -----------------------------> Met -----------> Moved    the route leads to the new one, which now
//!     ^                                                             |                 |      begins a session: what comes waits in it
//!     |                                         another gateway key |                 v
//!     |                            Called <-------------------------+               Tried
//!     |                             ^   |                                             | |
//!     |                             |   | a session       none for PATIENCE:          | |
//!     |                             +---)---------------- the route leads back -------+ |
//!     |                                 v                                               | a session
//!     +----------- LINGER ----------- Leaving <-----------------------------------------+      the former one only takes what still comes
//! ```
//! A new key of this host takes the addresses from the former one as soon as the gateway hears of it: so the route leads first, and nothing comes by
//! the former session behind the initiation. With another key of the gateway each has its own addresses: the route waits for the session, for as
//! long as the gateway needs to have that key.
//!
//! The interface may be there from an earlier change, and a session of its own that the gateway has forgotten since would be taken for the new one. So it
//! is made without a peer, which ends all that it had, and meets the gateway afterwards.

use super::HostShard;
use crate::config::HostTunnel;
use crate::model::{IfName, Lane, PrivateKey, PublicKey, TenantShard};
use crate::plan::slots::{Slots, owner};
use crate::plan::{LinkKind, Route, State};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a former interface still takes what comes. What was sent before the other end heard of the new session is here long before.
pub const LINGER: Duration = Duration::from_secs(10);
/// A session that is not there by then is not awaited with packets. The kernel tries every 5 s (whitepaper section 6.4), our device sooner at first.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How often to look for a session: at first, after [`SOON`], and after [`PATIENCE`]. The kernel does not tell of them.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_ON: Duration = Duration::from_millis(100);
const LOOK_LATER: Duration = Duration::from_secs(1);
/// What is answered at all is answered sooner.
const SOON: Duration = Duration::from_secs(1);

/// An interface with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub lane: Lane,
    pub own: PrivateKey,
    pub gateway: PublicKey,
    pub endpoint: SocketAddr,
}

/// What an interface is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Routes lead to it.
    Present,
    /// They will.
    Coming,
    /// It takes what still comes, and begins nothing.
    Former,
}

/// An interface of a tunnel as it should be now.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    pub generation: &'a Generation,
    pub part: Part,
    /// Whether it has the gateway as its peer yet.
    pub met: bool,
    /// Whether it begins a session by itself.
    pub calls: bool,
    /// There is another.
    pub beside: bool,
}

/// What the machine needs to know of the interfaces that it has asked for.
pub trait Look {
    /// Whether it can send.
    fn is_up(&self, interface: &IfName) -> bool;
    /// Whether a session with the gateway was ever agreed on, since that became its peer.
    fn has_session(&self, interface: &IfName, gateway: &PublicKey) -> bool;
}

/// When to go on: at once, later, or never by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Next {
    Now,
    At(Instant),
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Settled,
    Made,
    Met,
    Called { since: Instant },
    Moved,
    Tried { since: Instant },
    Leaving { until: Instant },
}

#[derive(Debug, Clone)]
struct Tunnel {
    present: Generation,
    beside: Option<Generation>,
    stage: Stage,
}

/// The interfaces of all tunnels.
#[derive(Debug, Clone, Default)]
pub struct Generations {
    tunnels: BTreeMap<TenantShard, Tunnel>,
    /// Where a tunnel stands whose keys nobody knows any more.
    lanes: BTreeMap<TenantShard, Lane>,
}

impl Generations {
    /// Takes over what an earlier process has made. Of the kernel's interfaces the kernel tells the keys; of others, `told` has them.
    pub fn recover(observed: &State, slots: &Slots, told: &BTreeMap<IfName, (PrivateKey, PublicKey, SocketAddr)>, now: Instant) -> Self {
        let routed: BTreeSet<&IfName> = observed
            .routes
            .values()
            .filter_map(|route| if let Route::Unicast { interface, .. } = route { Some(interface) } else { None })
            .collect();
        let mut found = Self::default();
        for (name, link) in &observed.links {
            let Some((of, (slot, lane))) = owner(&link.alias).zip(name.slot()) else { continue };
            if slots.get(&of) != Some(slot) {
                continue;
            }
            let leads = routed.contains(name);
            if leads || !found.lanes.contains_key(&of) {
                found.lanes.insert(of.clone(), lane);
            }
            let Some((own, gateway, endpoint)) = keys(observed, name, &link.kind).or_else(|| told.get(name).cloned()) else { continue };
            let generation = Generation { lane, own, gateway, endpoint };
            match found.tunnels.remove(&of) {
                None => drop(found.tunnels.insert(of, Tunnel { present: generation, beside: None, stage: Stage::Settled })),
                Some(other) => {
                    let (present, beside) = if leads { (generation, other.present) } else { (other.present, generation) };
                    found.tunnels.insert(of, Tunnel { present, beside: Some(beside), stage: Stage::Tried { since: now } });
                }
            }
        }
        // One that nothing leads to, while something leads to another that nobody knows the keys of, is of no use.
        found.tunnels.retain(|of, tunnel| tunnel.beside.is_some() || found.lanes.get(of) == Some(&tunnel.present.lane));
        found
    }

    /// These are the tunnels, and the keys that each should have.
    pub fn want<'s>(&mut self, own: &PrivateKey, shards: impl Iterator<Item = (TenantShard, &'s HostShard)>) {
        let mut wanted = BTreeSet::new();
        for (of, shard) in shards {
            let HostTunnel::Wireguard { public_key, port } = shard.tunnel else { continue };
            let lane = self.lanes.get(&of).copied().unwrap_or(Lane::First);
            let generation = Generation { lane, own: own.clone(), gateway: public_key, endpoint: SocketAddr::new(shard.gateway, port) };
            match self.tunnels.get_mut(&of) {
                Some(tunnel) => tunnel.want(generation),
                None => {
                    self.tunnels.insert(of.clone(), Tunnel { present: generation, beside: None, stage: Stage::Settled });
                }
            }
            wanted.insert(of);
        }
        self.tunnels.retain(|of, _| wanted.contains(of));
        self.lanes.clear();
    }

    /// The interfaces of a tunnel, that which routes lead to first; none if it has no keys.
    pub fn of(&self, of: &TenantShard) -> impl Iterator<Item = Standing<'_>> {
        self.tunnels.get(of).into_iter().flat_map(Tunnel::standing)
    }

    /// The interfaces that a tunnel has, or, if it is none of WireGuard, the one.
    pub fn lanes(&self, of: &TenantShard) -> Vec<Lane> {
        let lanes: Vec<Lane> = self.of(of).map(|standing| standing.generation.lane).collect();
        if lanes.is_empty() { vec![Lane::First] } else { lanes }
    }

    /// The one that routes lead to.
    pub fn present(&self, of: &TenantShard) -> Lane {
        self.tunnels.get(of).map_or(Lane::First, |tunnel| tunnel.present.lane)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TenantShard, Standing<'_>)> {
        self.tunnels.iter().flat_map(|(of, tunnel)| tunnel.standing().map(move |standing| (of, standing)))
    }

    /// A pass has been carried out, or what it answered last has come: what comes next, and when. `Now`: after another pass.
    pub fn advance(&mut self, slots: &Slots, now: Instant, look: &impl Look) -> Next {
        let next = |(of, tunnel): (&TenantShard, &mut Tunnel)| {
            slots.get(of).map(|slot| tunnel.advance(now, look, |lane| IfName::lane(slot, lane)))
        };
        self.tunnels.iter_mut().filter_map(next).min().unwrap_or(Next::Never)
    }
}

/// Of an interface of the kernel's.
fn keys(observed: &State, name: &IfName, kind: &LinkKind) -> Option<(PrivateKey, PublicKey, SocketAddr)> {
    let LinkKind::Wireguard { key, .. } = kind else { return None };
    let mut peers = observed.wireguard.iter().filter(|((interface, _), _)| interface == name);
    match (peers.next(), peers.next()) {
        (Some(((_, gateway), peer)), None) => Some((key.clone(), *gateway, peer.endpoint.address()?)),
        _ => None,
    }
}

impl Generation {
    /// Whether it has the same keys.
    fn is(&self, other: &Generation) -> bool {
        (&self.own, &self.gateway) == (&other.own, &other.gateway)
    }
}

impl Tunnel {
    fn want(&mut self, wanted: Generation) {
        if self.present.is(&wanted) {
            self.present.endpoint = wanted.endpoint;
            if matches!(self.stage, Stage::Made | Stage::Met | Stage::Called { .. }) {
                (self.beside, self.stage) = (None, Stage::Settled);
            }
            return;
        }
        match &mut self.beside {
            Some(beside) if beside.is(&wanted) => beside.endpoint = wanted.endpoint,
            beside => {
                *beside = Some(Generation { lane: self.present.lane.other(), ..wanted });
                self.stage = Stage::Made;
            }
        }
        if matches!(self.stage, Stage::Moved | Stage::Tried { .. } | Stage::Leaving { .. }) {
            // Back again.
            self.stage = Stage::Made;
        }
    }

    fn standing(&self) -> impl Iterator<Item = Standing<'_>> {
        let coming = matches!(self.stage, Stage::Made | Stage::Met | Stage::Called { .. });
        let (part, calls) = (if coming { Part::Coming } else { Part::Former }, matches!(self.stage, Stage::Called { .. }));
        let (met, beside) = (self.stage != Stage::Made, self.beside.is_some());
        let present = Standing { generation: &self.present, part: Part::Present, met: true, calls: self.stage != Stage::Moved, beside };
        [present].into_iter().chain(self.beside.as_ref().map(move |generation| Standing { generation, part, met, calls, beside }))
    }

    fn swap(&mut self) {
        if let Some(beside) = &mut self.beside {
            std::mem::swap(&mut self.present, beside);
        }
    }

    fn advance(&mut self, now: Instant, look: &impl Look, name: impl Fn(Lane) -> IfName) -> Next {
        let Some(beside) = &self.beside else { return Next::Never };
        let agreed = |generation: &Generation| look.has_session(&name(generation.lane), &generation.gateway);
        let again = |since: Instant| {
            let every = match now.saturating_duration_since(since) {
                waited if waited < SOON => LOOK,
                waited if waited < PATIENCE => LOOK_ON,
                _ => LOOK_LATER,
            };
            Next::At(now + every)
        };
        match self.stage {
            Stage::Settled => Next::Never,
            Stage::Made if !look.is_up(&name(beside.lane)) || agreed(beside) => Next::At(now + LOOK_LATER),
            Stage::Made => {
                self.stage = Stage::Met;
                Next::Now
            }
            Stage::Met if beside.gateway == self.present.gateway => {
                self.swap();
                self.stage = Stage::Moved;
                Next::Now
            }
            Stage::Met => {
                self.stage = Stage::Called { since: now };
                Next::Now
            }
            Stage::Called { .. } if agreed(beside) => {
                self.swap();
                self.stage = Stage::Leaving { until: now + LINGER };
                Next::Now
            }
            Stage::Called { since } => again(since),
            Stage::Moved => {
                self.stage = Stage::Tried { since: now };
                Next::Now
            }
            Stage::Tried { .. } if agreed(&self.present) => {
                self.stage = Stage::Leaving { until: now + LINGER };
                Next::At(now + LINGER)
            }
            Stage::Tried { since } if now >= since + PATIENCE => {
                self.swap();
                self.stage = Stage::Called { since };
                Next::Now
            }
            Stage::Tried { since } => again(since),
            Stage::Leaving { until } if now >= until => {
                (self.beside, self.stage) = (None, Stage::Settled);
                Next::Now
            }
            Stage::Leaving { until } => Next::At(until),
        }
    }
}

#[cfg(test)]
mod tests;
