//! What is known of a shard's peers while it is here.

use super::Served;
use super::tunnels::{News, Remote};
use crate::model::{IfName, PublicKey};
use crate::proto::jit::Registered;
use crate::wire::sync::peer::{Member, PeerRecord, PeerState};
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between two words about a peer that is merely active.
const ACTIVE: Duration = Duration::from_secs(5);
/// Who has sent nothing for longer counts as if it had for so long. Whoever is in the midst of something is called first after a failover; a handshake every
/// two minutes is nothing of the kind.
const QUIET: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Shard {
    pub served: Served,
    pub interface: IfName,
    /// The public half of the shard's key.
    pub own: PublicKey,
    /// What those who are called are to be set to.
    pub called: HashMap<PublicKey, Remote>,
    /// The last of our own stamps that was told.
    pub stamp: Tai64n,
    peers: HashMap<PublicKey, Peer>,
}

/// One that was heard here, or let in.
#[derive(Debug, Default)]
struct Peer {
    endpoint: Option<SocketAddr>,
    /// Of one that nobody has configured.
    member: Option<Member>,
    /// What was last told of it, as far as it was looked at, and when.
    told: Option<(News, Instant)>,
    /// When something came from it, as far as that is known.
    active: Option<Instant>,
}

impl Shard {
    pub fn new(served: Served) -> Self {
        let (interface, own) = (IfName::tunnel(served.slot), served.key.public());
        Self { served, interface, own, called: HashMap::new(), stamp: Tai64n::NEVER, peers: HashMap::new() }
    }

    /// Whether what is known holds for these values too.
    pub fn is_of(&self, served: &Served) -> bool {
        (self.served.slot, &self.served.key) == (served.slot, &served.key)
    }

    /// The inner prefixes of a peer; none: nobody knows it here.
    pub fn allowed(&self, state: &PeerState) -> Option<Vec<IpNet>> {
        let member = || state.member.as_ref().map(|member| member.allowed.clone());
        self.served.peers.get(&state.key).cloned().or_else(member)
    }

    /// The configuration names others, or gives them other prefixes. Those that it names no more.
    pub fn change(&mut self, served: Served) -> Vec<PublicKey> {
        let former = std::mem::replace(&mut self.served, served);
        let gone: Vec<PublicKey> = former.peers.into_keys().filter(|key| !self.served.peers.contains_key(key)).collect();
        gone.iter().for_each(|key| _ = self.called.remove(key));
        for (key, remote) in &mut self.called {
            if let Some(allowed) = self.served.peers.get(key) {
                remote.allowed.clone_from(allowed);
            }
        }
        gone
    }

    /// One that was let in on the node before, if it was and nobody has configured it meanwhile.
    pub fn adopt(&mut self, state: &PeerState) {
        if state.endpoint.is_none() || state.member.is_none() || self.served.peers.contains_key(&state.key) {
            return;
        }
        self.peers.insert(state.key, Peer { endpoint: state.endpoint, member: state.member.clone(), ..Peer::default() });
    }

    /// It was heard there.
    pub fn heard(&mut self, now: Instant, key: PublicKey, endpoint: SocketAddr, stamp: Tai64n) -> PeerRecord {
        self.peers.entry(key).or_default().endpoint = Some(endpoint);
        self.record(now, key, stamp)
    }

    /// It has used this stamp.
    pub fn stamped(&self, now: Instant, key: PublicKey, stamp: Tai64n) -> PeerRecord {
        self.record(now, key, stamp)
    }

    /// Of our own, as if we were a peer: nobody is idle there, and what is behind it counts by the clock.
    pub fn own_stamp(&self, stamp: Tai64n) -> PeerRecord {
        PeerRecord::Told(PeerState { key: self.own, stamp, endpoint: None, idle: Duration::ZERO, member: None })
    }

    pub fn admitted(&mut self, now: Instant, key: PublicKey, endpoint: Option<SocketAddr>, registered: &Registered) -> PeerRecord {
        let peer = self.peers.entry(key).or_default();
        peer.endpoint = endpoint.or(peer.endpoint);
        peer.member = Some(Member { host: registered.host.clone(), allowed: registered.allowed.clone() });
        self.record(now, key, Tai64n::NEVER)
    }

    /// It stands no more; its stamps are used all the same.
    pub fn reaped(&mut self, now: Instant, key: PublicKey) -> PeerRecord {
        self.peers.remove(&key);
        self.called.remove(&key);
        self.record(now, key, Tai64n::NEVER)
    }

    /// What somebody who looks at a peer finds: whether it is news, and whether it was heard since it was last looked at.
    pub fn looked_at(&mut self, now: Instant, key: PublicKey, news: News) -> Look {
        let peer = self.peers.entry(key).or_default();
        let agreed = peer.told.is_none_or(|(told, _)| (told.endpoint, told.agreed, told.heard) != (news.endpoint, news.agreed, news.heard));
        if news.received > peer.told.map_or(0, |(told, _)| told.received) {
            peer.active = Some(now);
        }
        let active = peer.active.is_some_and(|active| peer.told.is_some_and(|(_, told)| active > told && now >= told + ACTIVE));
        if agreed || active {
            peer.told = Some((news, now));
        }
        let record = news.endpoint.filter(|_| agreed || active).map(|at| self.heard(now, key, at, news.heard));
        Look { agreed, record }
    }

    /// The shard is another node's.
    pub fn release(&mut self) {
        self.called.clear();
        self.peers.clear();
    }

    pub fn is_member(&self, key: &PublicKey) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.member.is_some())
    }

    fn record(&self, now: Instant, key: PublicKey, stamp: Tai64n) -> PeerRecord {
        let peer = self.peers.get(&key);
        let idle = peer.and_then(|peer| peer.active).map_or(QUIET, |at| now.saturating_duration_since(at).min(QUIET));
        let (endpoint, member) = peer.map(|peer| (peer.endpoint, peer.member.clone())).unwrap_or_default();
        PeerRecord::Told(PeerState { key, stamp, endpoint, idle, member })
    }
}

/// What looking at a peer comes to.
#[derive(Debug)]
pub struct Look {
    /// There is a session that was not there when it was looked at last.
    pub agreed: bool,
    /// To be told.
    pub record: Option<PeerRecord>,
}
