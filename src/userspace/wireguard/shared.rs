//! What the threads of the device and its owner share.

use super::super::counters::Traffic;
use super::counters::{DropReason, Drops, InterfaceCount};
use super::event::{Event, Events};
use super::inbox::Inbox;
use super::limit::{Buckets, Limit};
use super::mac::{Baker, Marker};
use super::noise::Identity;
use super::peer::Peer;
use super::session::Session;
use super::table::Table;
use super::waiting::Pool;
use crate::model::{IfName, PrivateKey};
use crate::userspace::tun;
use crate::wire::wireguard::Tai64n;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime};

/// Where the device gets the time from.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Of timers: may stand still while the machine sleeps, and never goes back.
    pub now: fn() -> Instant,
    /// Of stamps.
    pub wall: fn() -> SystemTime,
}

/// An interface, its socket and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceConfig {
    pub name: IfName,
    pub key: PrivateKey,
    /// Where datagrams are taken, and what they are sent from. The address need not be one of this machine's: until it is, nothing arrives,
    /// and nothing is sent.
    pub listen: SocketAddr,
    /// `SO_MARK` of what is sent.
    pub mark: Option<u32>,
    /// Whether a peer is believed to be where it was last heard. Otherwise only one without an endpoint gets one so.
    pub roaming: bool,
}

/// What one of our numbers for a session stands for.
#[derive(Debug, Clone)]
pub struct Held {
    pub peer: Arc<Peer>,
    /// None: an initiation of ours that has not been answered.
    pub session: Option<Arc<Session>>,
}

#[derive(Debug)]
pub struct Interface {
    /// Never used twice by one device.
    pub id: u64,
    pub config: InterfaceConfig,
    pub identity: Identity,
    pub marker: Marker,
    /// One for each receiving thread.
    pub sockets: Vec<OwnedFd>,
    /// One for each transmitting thread.
    pub queues: Vec<OwnedFd>,
    pub traffic: Traffic,
    pub drops: Drops,
    /// Bytes.
    pub mtu: AtomicUsize,
    /// Its link was removed: the queues are dead.
    pub lost: AtomicBool,
    /// The kernel cuts what is sent into datagrams; not so where a device cannot sum them up.
    pub segmenting: AtomicBool,
    sending: AtomicBool,
    /// Held while something is sent.
    gate: RwLock<()>,
    table: RwLock<Table>,
    held: RwLock<HashMap<u32, Held>>,
    stamp: Mutex<Tai64n>,
    pub baker: Mutex<Baker>,
}

impl Interface {
    pub fn new(id: u64, config: InterfaceConfig, sockets: Vec<OwnedFd>, queues: Vec<OwnedFd>) -> Self {
        let identity = Identity::new(config.key.clone());
        Self {
            id,
            marker: Marker::of(identity.public()),
            identity,
            config,
            sockets,
            queues,
            traffic: Traffic::default(),
            drops: Drops::default(),
            mtu: AtomicUsize::new(usize::from(u16::MAX)),
            lost: AtomicBool::new(false),
            segmenting: AtomicBool::new(true),
            sending: AtomicBool::new(true),
            gate: RwLock::default(),
            table: RwLock::default(),
            held: RwLock::default(),
            stamp: Mutex::default(),
            baker: Mutex::default(),
        }
    }

    /// Taken once for a batch, never held over a system call or the cipher.
    pub fn table(&self) -> RwLockReadGuard<'_, Table> {
        // A panic elsewhere leaves the table whole: its methods check first and change afterwards.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn held(&self, local: u32) -> Option<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).get(&local).cloned()
    }

    /// A number that stands for nothing yet, and does from now on.
    pub fn reserve(&self, peer: &Arc<Peer>) -> Result<u32, getrandom::Error> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        loop {
            let local = getrandom::u32()?;
            if let std::collections::hash_map::Entry::Vacant(place) = held.entry(local) {
                place.insert(Held { peer: peer.clone(), session: None });
                return Ok(local);
            }
        }
    }

    /// Goes on with a number of a predecessor's; whether it stood for nothing yet.
    pub fn hold_anew(&self, peer: &Arc<Peer>, session: &Arc<Session>) -> bool {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let std::collections::hash_map::Entry::Vacant(place) = held.entry(session.local) else { return false };
        place.insert(Held { peer: peer.clone(), session: Some(session.clone()) });
        true
    }

    pub fn hold(&self, peer: &Arc<Peer>, session: &Arc<Session>) {
        let held = Held { peer: peer.clone(), session: Some(session.clone()) };
        self.held.write().unwrap_or_else(PoisonError::into_inner).insert(session.local, held);
    }

    pub fn release(&self, locals: impl IntoIterator<Item = u32>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        for local in locals {
            held.remove(&local);
        }
    }

    pub fn release_sessions(&self, sessions: &[Arc<Session>]) {
        if !sessions.is_empty() {
            self.release(sessions.iter().map(|session| session.local));
        }
    }

    /// The stamp for an initiation: later than all before.
    pub fn next_stamp(&self, wall: Duration) -> Tai64n {
        let mut last = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Tai64n::after(*last, wall);
        *last
    }

    pub fn last_stamp(&self) -> Tai64n {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stamps_after(&self, stamp: Tai64n) {
        let mut last = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        *last = stamp.max(*last);
    }

    /// When this returns, nothing more is sent, if so.
    pub fn set_sending(&self, sending: bool) {
        self.sending.store(sending, Relaxed);
        drop(self.gate.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_sending(&self) -> bool {
        self.sending.load(Relaxed)
    }

    pub fn dropped(&self, reason: DropReason) {
        self.drops.count(reason, 1);
    }

    /// Reads the device's MTU again. One that cannot be read stays as it was: the device is gone, and that shows elsewhere.
    pub fn refresh_mtu(&self) {
        if let Some(Ok(mtu)) = self.sockets.first().map(|socket| tun::mtu(socket, &self.config.name)) {
            self.mtu.store(mtu, Relaxed);
        }
    }

    /// Ends whatever there is with a peer: its sessions and what is begun. Whether it may begin anew is told before.
    pub fn forget(&self, peer: &Peer, removed: bool) {
        let mut handshake = peer.handshake();
        handshake.removed |= removed;
        self.release(handshake.attempt.take().map(|attempt| attempt.local));
        self.release_sessions(&peer.expire(0, 0));
        peer.marks.clear();
        peer.waited();
        peer.asked.store(false, Relaxed);
    }

    pub fn snapshot(&self) -> InterfaceCount {
        InterfaceCount { traffic: self.traffic.snapshot(), drops: self.drops.snapshot(), peers: self.table().len() }
    }
}

/// Milliseconds before a device was made that it can tell of: sessions of a predecessor are older than it.
const BEFORE: u64 = 1 << 40;

#[derive(Debug)]
pub struct Shared {
    clocks: Clocks,
    started: Instant,
    interfaces: RwLock<HashMap<u64, Arc<Interface>>>,
    pub inbox: Inbox,
    pub events: Events,
    /// Initiations from addresses that anybody may have claimed.
    pub claimed: Mutex<Buckets>,
    /// Of those who have shown to be there.
    pub proven: Mutex<Buckets>,
    /// In all, under any one address.
    pub cookies: Mutex<Buckets>,
    pub pool: Arc<Pool>,
    pub stop: AtomicBool,
}

impl Shared {
    pub fn new(clocks: Clocks, limit: Limit, load: usize, events: Events) -> Self {
        Self {
            clocks,
            started: (clocks.now)(),
            interfaces: RwLock::default(),
            inbox: Inbox::new(load),
            events,
            claimed: Mutex::new(Buckets::new(limit)),
            proven: Mutex::new(Buckets::new(limit)),
            cookies: Mutex::new(Buckets::new(Limit::COOKIES)),
            pool: Arc::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Milliseconds since [`BEFORE`] the device was made: 0 is never.
    pub fn now(&self) -> u64 {
        (self.clocks.now)().saturating_duration_since(self.started).as_millis() as u64 + BEFORE
    }

    /// Since 1970.
    pub fn wall(&self) -> Duration {
        (self.clocks.wall)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    pub fn interfaces(&self) -> RwLockReadGuard<'_, HashMap<u64, Arc<Interface>>> {
        self.interfaces.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn interfaces_mut(&self) -> RwLockWriteGuard<'_, HashMap<u64, Arc<Interface>>> {
        self.interfaces.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, event: Event) {
        self.events.tell(event);
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Sees to it that somebody looks at the peer by then.
    pub fn look(&self, by: Option<u64>, interface: &Arc<Interface>, peer: &Arc<Peer>) {
        if let Some(by) = by {
            self.inbox.look(by, interface, peer);
        }
    }

    /// Has a handshake begun, unless somebody was asked for it already.
    pub fn ask(&self, interface: &Arc<Interface>, peer: &Arc<Peer>) {
        if !peer.asked.swap(true, Relaxed) {
            self.inbox.begin(interface, peer);
        }
    }
}
