//! The peers that are installed, and when to look whether they still live.

use super::effect::Peer;
use crate::model::{Registered, Slot};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A peer that stands at its interface, or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where its last authentic initiation came from. The interface may know a newer one.
    pub endpoint: SocketAddr,
    pub registered: Arc<Registered>,
    /// When the directory said so.
    pub fetched: Instant,
    /// The last sign of it.
    pub seen: Instant,
    /// The shell has not said yet that it stands.
    pub installing: bool,
}

#[derive(Debug)]
pub struct Live {
    peers: HashMap<Peer, (Standing, Instant)>,
    /// When to look at each. A sign of life moves no entry: it is looked at then.
    checks: BTreeSet<(Instant, Peer)>,
    idle: Duration,
    installing: usize,
}

impl Live {
    pub fn new(idle: Duration) -> Self {
        Self { peers: HashMap::new(), checks: BTreeSet::new(), idle, installing: 0 }
    }

    pub fn len(&self) -> usize {
        self.peers.len()
    }

    pub fn installing(&self) -> usize {
        self.installing
    }

    pub fn get(&self, peer: &Peer) -> Option<&Standing> {
        self.peers.get(peer).map(|(standing, _)| standing)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Peer, &Standing)> {
        self.peers.iter().map(|(peer, (standing, _))| (peer, standing))
    }

    pub fn insert(&mut self, peer: Peer, standing: Standing) {
        self.remove(&peer);
        let check = standing.seen + self.idle;
        self.installing += usize::from(standing.installing);
        self.checks.insert((check, peer));
        self.peers.insert(peer, (standing, check));
    }

    pub fn remove(&mut self, peer: &Peer) -> Option<Standing> {
        let (standing, check) = self.peers.remove(peer)?;
        self.installing -= usize::from(standing.installing);
        self.checks.remove(&(check, *peer));
        Some(standing)
    }

    /// It stands. Where, if it was not known to.
    pub fn installed(&mut self, peer: &Peer) -> Option<SocketAddr> {
        let (standing, _) = self.peers.get_mut(peer)?;
        let was = std::mem::take(&mut standing.installing);
        self.installing -= usize::from(was);
        was.then_some(standing.endpoint)
    }

    /// It could not be installed. Whether it was to be: one that stands by somebody else's doing stays.
    pub fn failed(&mut self, peer: &Peer) -> bool {
        let installing = self.peers.get(peer).is_some_and(|(standing, _)| standing.installing);
        installing && self.remove(peer).is_some()
    }

    pub fn seen(&mut self, peer: &Peer, at: Instant) {
        if let Some((standing, _)) = self.peers.get_mut(peer) {
            standing.seen = standing.seen.max(at);
        }
    }

    /// An authentic initiation of it came from here.
    pub fn renewed(&mut self, peer: &Peer, at: Instant, endpoint: SocketAddr) {
        self.seen(peer, at);
        if let Some((standing, _)) = self.peers.get_mut(peer) {
            standing.endpoint = endpoint;
        }
    }

    /// What the directory says of it now. Whether that is something else.
    pub fn registered(&mut self, peer: &Peer, at: Instant, registered: &Arc<Registered>) -> bool {
        let Some((standing, _)) = self.peers.get_mut(peer) else { return false };
        standing.fetched = at;
        let differs = standing.registered != *registered;
        standing.registered = registered.clone();
        differs
    }

    /// One that has given no sign for too long; it is out now.
    pub fn reap(&mut self, now: Instant) -> Option<(Peer, Standing)> {
        while let Some(&(at, peer)) = self.checks.first().filter(|(at, _)| *at <= now) {
            let (standing, check) = self.peers.get_mut(&peer)?;
            let due = standing.seen + self.idle;
            if due <= now {
                return self.remove(&peer).map(|standing| (peer, standing));
            }
            *check = due;
            self.checks.remove(&(at, peer));
            self.checks.insert((due, peer));
        }
        None
    }

    /// When to look at [`Live::reap`]: not after.
    pub fn next_check(&self) -> Option<Instant> {
        self.checks.first().map(|(at, _)| *at)
    }

    /// All peers of an interface, out now.
    pub fn release(&mut self, slot: Slot) -> Vec<(Peer, Standing)> {
        let of_slot: Vec<Peer> = self.peers.keys().filter(|peer| peer.slot == slot).copied().collect();
        of_slot.into_iter().filter_map(|peer| self.remove(&peer).map(|standing| (peer, standing))).collect()
    }
}
