//! What is known of a shard's peers while it is here.

use super::Served;
use super::tunnels::{News, Remote};
use crate::model::{IfName, Lane, PublicKey, Registered, TenantShard};
use crate::plan::gateway::ends::End;
use crate::wire::sync::peer::{PeerRecord, PeerState};
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Between two words about a peer that is merely active.
const ACTIVE: Duration = Duration::from_secs(5);
/// Who has sent nothing for longer counts as if it had for so long. Whoever is in the midst of something is called first after a failover; a handshake every
/// two minutes is nothing of the kind.
const QUIET: Duration = Duration::from_secs(60);

/// So often something must have come by another interface alone, without a new session there.
const ELSEWHERE: u8 = 2;

#[derive(Debug)]
pub struct Shard {
    pub served: Served,
    /// Its interfaces that were set up for it, or left to themselves as the shard was not here:
    /// [`Tunnels::incarnation`](super::tunnels::Tunnels::incarnation).
    pub stands: BTreeMap<Lane, u64>,
    /// What those who are called are to be set to.
    pub called: HashMap<PublicKey, Remote>,
    /// Those of them who may have given up the session that stands here.
    anew: HashSet<PublicKey>,
    /// Of each of our own keys, the last stamp that was told, and when.
    stamps: BTreeMap<PublicKey, (Tai64n, Instant)>,
    /// Somebody has not answered since the shard is here.
    doubted: bool,
    peers: HashMap<PublicKey, Peer>,
}

/// Peers, and for how long each has not been heard.
pub type Calls = Vec<((TenantShard, PublicKey), Duration)>;

/// One that was heard here, or let in.
#[derive(Debug, Default)]
struct Peer {
    endpoint: Option<SocketAddr>,
    /// Of one that nobody has configured.
    member: Option<Arc<Registered>>,
    /// The latest that it has used, as far as that is known here.
    stamp: Tai64n,
    /// What was last told of it at each interface, as far as it was looked at, and when.
    told: BTreeMap<Lane, (News, Instant)>,
    /// What had come from it at each, when it was looked at.
    received: BTreeMap<Lane, u64>,
    /// The interface at which it was heard last.
    lane: Option<Lane>,
    /// The latest session that was seen, where the device does not tell of them.
    agreed: Option<SystemTime>,
    /// Looks in a row at which something had come by another interface alone.
    elsewhere: u8,
    /// When something came from it, as far as that is known.
    active: Option<Instant>,
}

/// Of our own key, as if we were a peer: nobody is idle there, and what is behind it counts by the clock.
fn own_state(key: PublicKey, stamp: Tai64n) -> PeerState {
    PeerState { key, stamp, endpoint: None, idle: Duration::ZERO, member: None }
}

impl Shard {
    pub fn new(served: Served) -> Self {
        Self {
            served,
            stands: BTreeMap::new(),
            called: HashMap::new(),
            anew: HashSet::new(),
            stamps: BTreeMap::new(),
            doubted: false,
            peers: HashMap::new(),
        }
    }

    /// Whether what is known holds for these values too: there is an interface that keeps its key.
    pub fn is_of(&self, served: &Served) -> bool {
        self.served.slot == served.slot && self.served.ends.iter().any(|end| served.ends.iter().any(|other| end.is(other)))
    }

    pub fn interface(&self, lane: Lane) -> IfName {
        IfName::lane(self.served.slot, lane)
    }

    /// All of them, that of the present key first.
    pub fn interfaces(&self) -> impl Iterator<Item = IfName> + use<> {
        let slot = self.served.slot;
        self.served.ends.iter().map(|end| end.lane).collect::<Vec<_>>().into_iter().map(move |lane| IfName::lane(slot, lane))
    }

    /// Whether this is one of its own keys.
    pub fn is_own(&self, key: &PublicKey) -> bool {
        self.served.ends.iter().any(|end| end.key.public() == *key)
    }

    pub fn has(&self, interface: &IfName) -> bool {
        self.interfaces().any(|name| name == *interface)
    }

    /// The incarnation of one that was set up last.
    pub fn stood(&self, interface: &IfName) -> u64 {
        interface.slot().and_then(|(_, lane)| self.stands.get(&lane)).copied().unwrap_or_default()
    }

    /// Everybody who may be here, as an interface that has just come is to know them: they have no sessions there.
    pub fn everybody(&self) -> Vec<(PublicKey, Remote)> {
        let members = self.peers.iter().filter_map(|(key, peer)| Some((*key, peer.member.as_ref()?.allowed.clone())));
        let configured = self.served.peers.iter().map(|(key, allowed)| (*key, allowed.clone()));
        let all: BTreeMap<_, _> = members.chain(configured).collect();
        all.into_iter().map(|(key, allowed)| (key, Remote { allowed, ..Remote::default() })).collect()
    }

    /// It was heard at this interface. Whether that is another than before.
    pub fn heard_at(&mut self, key: PublicKey, interface: &IfName) -> bool {
        let lane = interface.slot().map(|(_, lane)| lane);
        let peer = self.peers.entry(key).or_default();
        let changed = lane.is_some() && peer.lane != lane;
        (peer.lane, peer.elsewhere) = (lane.or(peer.lane), 0);
        changed
    }

    /// Something had come from it by these, each with its latest session, when it was looked at. Whether it is another than before: one with a later
    /// session, or one by which alone things come for a while; what was under way when a host moved is no reason to go back.
    pub fn grew_at(&mut self, key: PublicKey, at: &[(Option<SystemTime>, Lane)]) -> bool {
        let peer = self.peers.entry(key).or_default();
        let later = at.iter().max().filter(|(agreed, _)| *agreed > peer.agreed);
        let lane = match (later, at) {
            (Some((agreed, lane)), _) => {
                peer.agreed = *agreed;
                *lane
            }
            (None, [(_, lane)]) if peer.lane.is_some() && peer.lane != Some(*lane) && peer.elsewhere < ELSEWHERE => {
                peer.elsewhere += 1;
                return false;
            }
            (None, [(_, lane)]) => *lane,
            (None, _) => return false,
        };
        peer.elsewhere = 0;
        peer.lane.replace(lane) != Some(lane)
    }

    /// Of all peers, if there are two interfaces.
    pub fn lanes(&self) -> BTreeMap<PublicKey, Lane> {
        let two = self.served.ends.len() > 1;
        self.peers.iter().filter(|_| two).filter_map(|(key, peer)| Some((*key, peer.lane?))).collect()
    }

    /// The inner prefixes of a peer; none: nobody knows it here.
    pub fn allowed(&self, state: &PeerState) -> Option<Vec<IpNet>> {
        let member = || state.member.as_ref().map(|member| member.allowed.clone());
        self.served.peers.get(&state.key).cloned().or_else(member)
    }

    /// The configuration names others, or gives them other prefixes: whom it names anew or otherwise, and whom no more.
    pub fn change(&mut self, served: Served) -> (Vec<(PublicKey, Vec<IpNet>)>, Vec<PublicKey>) {
        let former = std::mem::replace(&mut self.served, served).peers;
        let changed = self.served.peers.iter().filter(|(key, allowed)| former.get(key) != Some(allowed));
        let changed: Vec<(PublicKey, Vec<IpNet>)> = changed.map(|(key, allowed)| (*key, allowed.clone())).collect();
        let gone: Vec<PublicKey> = former.into_keys().filter(|key| !self.served.peers.contains_key(key)).collect();
        changed.iter().for_each(|(key, allowed)| self.configured(*key, allowed));
        gone.iter().for_each(|key| self.configured_no_more(key));
        (changed, gone)
    }

    /// The same of one.
    pub fn configure(&mut self, key: PublicKey, prefixes: Option<Vec<IpNet>>) {
        match prefixes {
            Some(prefixes) => {
                self.configured(key, &prefixes);
                self.served.peers.insert(key, prefixes);
            }
            None => {
                self.configured_no_more(&key);
                self.served.peers.remove(&key);
            }
        }
    }

    fn configured(&mut self, key: PublicKey, allowed: &[IpNet]) {
        if let Some(remote) = self.called.get_mut(&key) {
            remote.allowed = allowed.to_vec();
        }
        // It is nobody's to remove any more.
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.member = None;
        }
    }

    fn configured_no_more(&mut self, key: &PublicKey) {
        self.called.remove(key);
        self.peers.remove(key);
    }

    /// What another node has told. What was heard here is newer.
    pub fn adopt(&mut self, now: Instant, states: Vec<PeerState>) {
        for state in states {
            if self.is_own(&state.key) {
                continue;
            }
            let configured = self.served.peers.contains_key(&state.key);
            let counts = state.endpoint.is_some() && (state.member.is_some() || configured);
            if !counts && !self.peers.contains_key(&state.key) {
                continue;
            }
            let peer = self.peers.entry(state.key).or_default();
            peer.endpoint = peer.endpoint.or(state.endpoint);
            peer.member = peer.member.take().or(state.member).filter(|_| !configured);
            peer.stamp = peer.stamp.max(state.stamp);
            peer.active = peer.active.or(now.checked_sub(state.idle));
        }
    }

    /// All that is known of its peers, for an interface that knows nothing: as another node would have told it. Our own stamp is among it.
    pub fn states(&self, now: Instant) -> Vec<PeerState> {
        let own = self.stamps.iter().filter(|(key, _)| self.is_own(key)).map(|(key, (stamp, _))| own_state(*key, *stamp));
        self.peers.keys().map(|key| self.state(now, *key, Tai64n::NEVER)).chain(own).collect()
    }

    /// Those of them who can be reached are called, these and no others, and how long each has not been heard. `anew`: whatever session there is.
    pub fn summon(&mut self, remotes: Vec<(PublicKey, Remote)>, states: &[PeerState], anew: bool) -> Calls {
        self.called = remotes.into_iter().filter(|(_, remote)| remote.endpoint.is_some()).collect();
        self.anew = self.called.keys().filter(|_| anew).copied().collect();
        let called = states.iter().filter(|state| self.called.contains_key(&state.key));
        called.map(|state| ((self.served.of.clone(), state.key), state.idle)).collect()
    }

    /// What it is to be set to when it is called, and whether whatever session stands there is worthless.
    pub fn call(&mut self, key: &PublicKey) -> Option<(&Remote, bool)> {
        Some((self.called.get(key)?, self.anew.remove(key)))
    }

    /// Whether it may be a peer: it is configured, or was let in.
    pub fn knows(&self, key: &PublicKey) -> bool {
        self.served.peers.contains_key(key) || self.is_member(key)
    }

    /// It was heard there.
    pub fn heard(&mut self, now: Instant, key: PublicKey, endpoint: SocketAddr, stamp: Tai64n) -> PeerRecord {
        let peer = self.peers.entry(key).or_default();
        (peer.endpoint, peer.stamp) = (Some(endpoint), peer.stamp.max(stamp));
        self.record(now, key, stamp)
    }

    /// It has used this stamp.
    pub fn stamped(&mut self, now: Instant, key: PublicKey, stamp: Tai64n) -> PeerRecord {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.stamp = peer.stamp.max(stamp);
        }
        self.record(now, key, stamp)
    }

    /// Our own stamps up to this one count as used up, and the other candidates are to know before they need it: who follows within a second would go by
    /// what was told before.
    pub fn reckon(&mut self, now: Instant, own: PublicKey, stamp: Tai64n) -> PeerRecord {
        self.stamps.insert(own, (stamp, now));
        PeerRecord::Told(own_state(own, stamp))
    }

    /// What there is to tell, where its stamps have come further than was told.
    pub fn came_to(&mut self, now: Instant, own: PublicKey, stamp: Tai64n) -> Option<PeerRecord> {
        let told = self.stamps.get(&own).map_or(Tai64n::NEVER, |(told, _)| *told);
        (stamp > told).then(|| self.reckon(now, own, stamp))
    }

    /// Of each interface the stamp that is so much ahead of where its own would be by now; none, where nothing is known of it.
    pub fn ahead(&self, now: Instant, by: Duration) -> Vec<(Lane, PublicKey, Tai64n)> {
        let ahead = |end: &End| {
            let own = end.key.public();
            let (told, at) = self.stamps.get(&own)?;
            Some((end.lane, own, told.plus(now.saturating_duration_since(*at) + by)))
        };
        self.served.ends.iter().filter_map(ahead).collect()
    }

    /// A peer does not answer. Of the first one since the shard is here, as [`Shard::ahead`]; of later ones, which are just not there, nothing.
    pub fn doubt(&mut self, now: Instant, by: Duration) -> Vec<(Lane, PublicKey, Tai64n)> {
        let ahead = if self.doubted { Vec::new() } else { self.ahead(now, by) };
        self.doubted |= !ahead.is_empty();
        ahead
    }

    pub fn admitted(&mut self, now: Instant, key: PublicKey, endpoint: Option<SocketAddr>, registered: &Arc<Registered>) -> PeerRecord {
        let peer = self.peers.entry(key).or_default();
        peer.endpoint = endpoint.or(peer.endpoint);
        // It has knocked.
        peer.active = endpoint.map(|_| now).or(peer.active);
        peer.member = Some(registered.clone());
        if let Some(remote) = self.called.get_mut(&key) {
            remote.allowed.clone_from(&registered.allowed);
        }
        self.record(now, key, Tai64n::NEVER)
    }

    /// It stands no more; its stamps are used all the same.
    pub fn reaped(&mut self, now: Instant, key: PublicKey) -> PeerRecord {
        self.peers.remove(&key);
        self.called.remove(&key);
        self.record(now, key, Tai64n::NEVER)
    }

    /// What somebody who looks at a peer finds: whether it is news, and whether it was heard since it was last looked at.
    pub fn looked_at(&mut self, now: Instant, lane: Lane, key: PublicKey, news: News) -> Look {
        let peer = self.peers.entry(key).or_default();
        let told = peer.told.get(&lane).copied();
        let grew = news.received > peer.received.insert(lane, news.received).unwrap_or(0);
        let agreed = told.is_none_or(|(told, _)| (told.endpoint, told.agreed, told.heard) != (news.endpoint, news.agreed, news.heard));
        if news.received > told.map_or(0, |(told, _)| told.received) {
            peer.active = Some(now);
        }
        let active = peer.active.is_some_and(|active| told.is_some_and(|(_, told)| active > told && now >= told + ACTIVE));
        if agreed || active {
            peer.told.insert(lane, (news, now));
        }
        let record = news.endpoint.filter(|_| agreed || active).map(|at| self.heard(now, key, at, news.heard));
        Look { agreed, grew, record }
    }

    /// This interface was opened anew, and counts anew.
    pub fn begin_anew(&mut self, lane: Lane) {
        for peer in self.peers.values_mut() {
            peer.told.remove(&lane);
            peer.received.remove(&lane);
        }
    }

    /// The shard is another node's.
    pub fn release(&mut self) {
        self.doubted = false;
        self.called.clear();
        self.peers.clear();
    }

    pub fn is_member(&self, key: &PublicKey) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.member.is_some())
    }

    fn record(&self, now: Instant, key: PublicKey, stamp: Tai64n) -> PeerRecord {
        let state = self.state(now, key, stamp);
        PeerRecord::Told(PeerState { idle: state.idle.min(QUIET), ..state })
    }

    fn state(&self, now: Instant, key: PublicKey, stamp: Tai64n) -> PeerState {
        let peer = self.peers.get(&key);
        let idle = peer.and_then(|peer| peer.active).map_or(QUIET, |at| now.saturating_duration_since(at));
        let stamp = peer.map_or(stamp, |peer| stamp.max(peer.stamp));
        let (endpoint, member) = peer.map(|peer| (peer.endpoint, peer.member.clone())).unwrap_or_default();
        PeerState { key, stamp, endpoint, idle, member }
    }
}

/// What looking at a peer comes to.
#[derive(Debug)]
pub struct Look {
    /// There is a session that was not there when it was looked at last.
    pub agreed: bool,
    /// Something has come from it since.
    pub grew: bool,
    /// To be told.
    pub record: Option<PeerRecord>,
}
