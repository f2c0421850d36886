//! One peer of an interface. The threads that carry packets read its sessions and its endpoint and note times; everything else is behind one
//! lock that only handshakes and the owner take.

use super::left::{Ages, LeftPeer};
use super::mac::{COOKIE_LIFE, Cookie, Marker};
use super::noise::Initiating;
use super::session::Session;
use super::timers::{Marks, Trying, View};
use super::waiting::{Pool, Waiting};
use crate::model::PublicKey;
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// What an interface is to know of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where it is; none until it says so itself.
    pub endpoint: Option<SocketAddr>,
    /// The inner addresses that are its own: what is for them goes to it, and from them alone it may send. No two peers of an interface share one.
    pub allowed: Vec<IpNet>,
    /// Send something at least this often, from now on; whole seconds, 1 to 65,535.
    pub keepalive: Option<Duration>,
    /// The latest stamp that it is known to have used, here or at another machine with our key: none that is not later counts. One that is earlier
    /// than what is known already changes nothing.
    pub heard: Tai64n,
}

/// A peer as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    pub key: PublicKey,
    pub endpoint: Option<SocketAddr>,
    /// How long ago a session was agreed on.
    pub last_handshake: Option<Duration>,
    /// Inner bytes.
    pub received_bytes: u64,
    /// Inner bytes.
    pub sent_bytes: u64,
    /// The latest stamp that it has used.
    pub heard: Tai64n,
}

#[derive(Debug)]
pub struct Peer {
    pub key: PublicKey,
    sessions: RwLock<Sessions>,
    endpoint: Mutex<Endpoint>,
    /// Milliseconds; 0: none.
    pub keepalive: AtomicU64,
    pub marks: Marks,
    pub received_bytes: AtomicU64,
    pub sent_bytes: AtomicU64,
    /// When the last session was agreed on, milliseconds; 0: never.
    pub agreed: AtomicU64,
    /// Somebody is asked already to begin a handshake.
    pub asked: AtomicBool,
    handshake: Mutex<Handshake>,
    waiting: Mutex<Option<Box<Waiting>>>,
}

#[derive(Debug, Default)]
struct Endpoint {
    now: Option<SocketAddr>,
    /// As the owner gave it last: giving it again does not undo what was learned since.
    given: Option<SocketAddr>,
}

/// At most three at a time.
#[derive(Debug, Default)]
pub struct Sessions {
    /// What is sent goes by this one.
    pub current: Option<Arc<Session>>,
    /// What is still under way to us may come by this one.
    previous: Option<Arc<Session>>,
    /// Agreed on as they wished; theirs to use first, as we do not know whether our answer reached them.
    next: Option<Arc<Session>>,
}

/// What only handshakes and the owner touch.
#[derive(Debug, Default)]
pub struct Handshake {
    /// The peer was removed: nothing is begun any more.
    pub removed: bool,
    pub attempt: Option<Box<Attempt>>,
    pub heard: Tai64n,
    /// When an initiation of theirs was answered last, milliseconds; 0: never.
    pub answered: u64,
    pub allowed: Vec<IpNet>,
    /// Of the last handshake message to them: what a cookie is about. None once one has come.
    pub sent_mac1: Option<[u8; 16]>,
    /// What they want to see, and since when we have it, milliseconds.
    pub cookie: Option<(Cookie, u64)>,
}

impl Handshake {
    /// Marks a handshake message to them, with their cookie if we have one.
    pub fn seal(&mut self, marker: &Marker, message: &mut [u8], now: u64) {
        let life = COOKIE_LIFE.as_millis() as u64;
        let cookie = self.cookie.filter(|(_, since)| now < since + life).map(|(cookie, _)| cookie);
        self.sent_mac1 = Some(marker.seal(message, cookie.as_ref()));
    }
}

#[derive(Debug)]
pub struct Attempt {
    pub initiating: Initiating,
    /// What we call the session to be.
    pub local: u32,
    pub trying: Trying,
}

impl Peer {
    pub fn new(key: PublicKey) -> Self {
        Self {
            key,
            sessions: RwLock::default(),
            endpoint: Mutex::default(),
            keepalive: AtomicU64::new(0),
            marks: Marks::default(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            agreed: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            handshake: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Takes over all but the allowed addresses, which are the table's matter.
    pub fn configure(&self, config: &PeerConfig) {
        let mut endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if config.endpoint.is_some() && config.endpoint != endpoint.given {
            *endpoint = Endpoint { now: config.endpoint, given: config.endpoint };
        }
        drop(endpoint);
        self.keepalive.store(config.keepalive.map_or(0, |every| every.as_millis() as u64), Relaxed);
        let mut handshake = self.handshake();
        handshake.heard = handshake.heard.max(config.heard);
    }

    pub fn handshake(&self) -> MutexGuard<'_, Handshake> {
        self.handshake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sessions(&self) -> RwLockReadGuard<'_, Sessions> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions_mut(&self) -> RwLockWriteGuard<'_, Sessions> {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    /// It was heard from there, beyond doubt: whether that is news. Where it may not roam, only a first endpoint is.
    pub fn heard_at(&self, source: SocketAddr, roaming: bool) -> bool {
        let mut endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let news = endpoint.now != Some(source) && (roaming || endpoint.now.is_none());
        if news {
            endpoint.now = Some(source);
        }
        news
    }

    /// What to send by.
    pub fn session(&self, now: u64) -> Option<Arc<Session>> {
        self.sessions().current.as_ref().filter(|session| session.is_alive(now)).cloned()
    }

    /// We began it and they have answered: it is in use from now on. Answers those that have no place any more.
    pub fn begun(&self, session: Arc<Session>) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions_mut();
        let former = std::mem::take(&mut *sessions);
        let (previous, gone) = match former.next {
            Some(next) => (Some(next), former.current),
            None => (former.current, None),
        };
        *sessions = Sessions { current: Some(session), previous, next: None };
        gone.into_iter().chain(former.previous).collect()
    }

    /// They began it: theirs to use first. Answers those that have no place any more.
    pub fn answered(&self, session: Arc<Session>) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions_mut();
        sessions.next.replace(session).into_iter().chain(sessions.previous.take()).collect()
    }

    /// Something came by this session. If it is the one that they were to use first, it is in use from now on; answers the ones that have no
    /// place any more.
    pub fn confirm(&self, session: &Arc<Session>) -> Option<Vec<Arc<Session>>> {
        let mut sessions = self.sessions_mut();
        let next = sessions.next.take_if(|next| Arc::ptr_eq(next, session))?;
        let current = sessions.current.replace(next);
        let gone = std::mem::replace(&mut sessions.previous, current);
        Some(gone.into_iter().collect())
    }

    /// Takes out the sessions that are at least so old.
    pub fn expire(&self, age: u64, now: u64) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions_mut();
        let Sessions { current, previous, next } = &mut *sessions;
        [current, previous, next].into_iter().filter_map(|slot| slot.take_if(|session| session.age(now) >= age)).collect()
    }

    pub fn view(&self, handshake: &Handshake) -> View {
        let sessions = self.sessions();
        let (unanswered, unreplied, passed) = self.marks.view();
        View {
            unanswered,
            unreplied,
            passed,
            trying: handshake.attempt.as_ref().map(|attempt| attempt.trying),
            oldest: [&sessions.current, &sessions.previous, &sessions.next].into_iter().flatten().map(|s| s.created).min(),
            keepalive: self.keepalive.load(Relaxed),
        }
    }

    /// Keeps a packet until there is a session; whether there was room.
    pub fn wait(&self, packet: &[u8], pool: &Arc<Pool>) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().push(packet, pool)
    }

    /// The packets that were kept, in their order.
    pub fn waited(&self) -> VecDeque<Vec<u8>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        waiting.map(|waiting| waiting.take()).unwrap_or_default()
    }

    /// For a successor. From then on the sessions are another's: there are none here any more.
    pub fn leave(&self, now: u64) -> LeftPeer {
        let handshake = self.handshake();
        let Sessions { current, previous, next } = std::mem::take(&mut *self.sessions_mut());
        let Endpoint { now: endpoint, given } = *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let (unanswered, unreplied, passed) = self.marks.view();
        let age = |time: u64| (time > 0).then(|| now.saturating_sub(time));
        LeftPeer {
            key: self.key,
            endpoint,
            given,
            heard: handshake.heard,
            received_bytes: self.received_bytes.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            ages: Ages {
                agreed: age(self.agreed.load(Relaxed)),
                unanswered: age(unanswered),
                unreplied: age(unreplied),
                passed: age(passed),
            },
            wanting: handshake.attempt.is_some(),
            sessions: [current, previous, next].map(|session| session.map(|session| session.leave(now))),
        }
    }

    /// Goes on with what a predecessor has left, if nothing was agreed on with the peer since. Answers the sessions that are in use from now on.
    pub fn resume(&self, left: LeftPeer, now: u64) -> Vec<Arc<Session>> {
        let time = |age: Option<u64>| age.map_or(0, |age| now.saturating_sub(age).max(1));
        let mut endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        // What was learned counts, unless the owner says otherwise since.
        if endpoint.given.is_none() || endpoint.given == left.given {
            *endpoint = Endpoint { now: left.endpoint, given: left.given };
        }
        drop(endpoint);
        let mut handshake = self.handshake();
        handshake.heard = handshake.heard.max(left.heard);
        let mut sessions = self.sessions_mut();
        if handshake.removed || [&sessions.current, &sessions.previous, &sessions.next].into_iter().any(Option::is_some) {
            return Vec::new();
        }
        self.received_bytes.fetch_add(left.received_bytes, Relaxed);
        self.sent_bytes.fetch_add(left.sent_bytes, Relaxed);
        self.agreed.store(time(left.ages.agreed), Relaxed);
        self.marks.resume(time(left.ages.unanswered), time(left.ages.unreplied), time(left.ages.passed));
        let [current, previous, next] =
            left.sessions.map(|left| Session::resume(left?, now).ok().filter(|session| session.is_alive(now)).map(Arc::new));
        *sessions = Sessions { current, previous, next };
        [&sessions.current, &sessions.previous, &sessions.next].into_iter().flatten().cloned().collect()
    }

    /// Takes a session out, wherever it is.
    pub fn give_up(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions_mut();
        let Sessions { current, previous, next } = &mut *sessions;
        [current, previous, next].into_iter().for_each(|slot| _ = slot.take_if(|known| Arc::ptr_eq(known, session)));
    }

    pub fn status(&self, now: u64) -> PeerStatus {
        let agreed = self.agreed.load(Relaxed);
        PeerStatus {
            key: self.key,
            endpoint: self.endpoint(),
            last_handshake: (agreed > 0).then(|| Duration::from_millis(now.saturating_sub(agreed))),
            received_bytes: self.received_bytes.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            heard: self.handshake().heard,
        }
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
