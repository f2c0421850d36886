//! One device after another: what it takes to go on with a predecessor's sessions, and to leave one's own to a successor.

use super::device::Device;
use super::left::{Left, LeftInterface, LeftPeer};
use super::peer::Peer;
use super::session::REJECT_AFTER;
use super::shared::{Interface, Shared};
use super::will::{Error, Will};
use crate::model::{IfName, PublicKey};
use crate::wire::wireguard::Tai64n;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a predecessor had, as far as nobody has gone on with it.
#[derive(Debug, Default)]
pub struct Legacy(Mutex<Rest>);

#[derive(Debug, Default)]
struct Rest {
    interfaces: BTreeMap<IfName, (LeftInterface, HashMap<PublicKey, LeftPeer>)>,
    /// When it was inherited, milliseconds.
    since: u64,
}

/// A peer that a predecessor had and this device has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    pub interface: IfName,
    pub key: PublicKey,
    pub endpoint: Option<SocketAddr>,
    pub heard: Tai64n,
}

impl Legacy {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_up(&self, left: Left, now: u64) {
        let by_key = |mut interface: LeftInterface| {
            let peers = std::mem::take(&mut interface.peers).into_iter().map(|peer| (peer.key, peer)).collect();
            (interface.name.clone(), (interface, peers))
        };
        *self.rest() = Rest { interfaces: left.interfaces.into_iter().map(by_key).collect(), since: now };
    }

    /// An interface is here. With another key its sessions are over; the answer is whether it spoke until now.
    pub fn interface(&self, interface: &Interface) -> bool {
        let mut rest = self.rest();
        let Some((left, _)) = rest.interfaces.get(&interface.config.name) else { return false };
        if left.key == *interface.identity.public() {
            interface.stamps_after(left.stamp);
            return left.speaks;
        }
        rest.interfaces.remove(&interface.config.name);
        false
    }

    /// A peer is here: its sessions go on, if there are none since, and it is looked at soon.
    pub fn peer(&self, shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>) {
        let now = shared.now();
        let (left, since) = {
            let mut rest = self.rest();
            let since = rest.since;
            if now.saturating_sub(since) >= REJECT_AFTER {
                rest.interfaces.clear();
            }
            let Some((_, peers)) = rest.interfaces.get_mut(&interface.config.name) else { return };
            let Some(left) = peers.remove(&peer.key) else { return };
            (left, since)
        };
        let wanting = left.wanting;
        for session in peer.resume(left.older(now.saturating_sub(since)), now) {
            if !interface.hold_anew(peer, &session) {
                peer.give_up(&session);
            }
        }
        if wanting {
            shared.ask(interface, peer);
        }
        shared.look(peer.marks.claim(now).then_some(now), interface, peer);
    }

    /// Nobody is to go on with this peer's sessions.
    pub fn forget(&self, interface: &IfName, peer: Option<&PublicKey>) {
        let mut rest = self.rest();
        match peer {
            None => drop(rest.interfaces.remove(interface)),
            Some(key) => drop(rest.interfaces.get_mut(interface).and_then(|(_, peers)| peers.remove(key))),
        }
    }
}

impl Device {
    /// Goes on with the sessions that a predecessor has left in its will, for the interfaces and peers that are here and those that come later. Whether
    /// there were any. An interface that spoke goes on to speak. To be called when the predecessor's device has stopped, before [`Device::carry`].
    ///
    /// # Errors
    /// If the will cannot be read. Then there are no sessions, as if there had been no predecessor.
    pub fn inherit(&self, will: Will) -> Result<bool, Error> {
        let Some((left, ago)) = will.take()? else { return Ok(false) };
        self.legacy.take_up(left.older(ago), self.shared.now());
        for interface in self.all_interfaces() {
            if self.legacy.interface(interface) {
                interface.set_sending(true);
            }
            let peers = interface.table().peers().cloned().collect::<Vec<_>>();
            peers.iter().for_each(|peer| self.legacy.peer(&self.shared, interface, peer));
        }
        Ok(true)
    }

    /// Peers of the predecessor that nobody has set here. Their sessions wait for [`Device::set_peer`], as long as such sessions last.
    pub fn left_behind(&self) -> Vec<LeftBehind> {
        let of = |name: &IfName, peer: &LeftPeer| LeftBehind {
            interface: name.clone(),
            key: peer.key,
            endpoint: peer.endpoint,
            heard: peer.heard,
        };
        self.legacy.rest().interfaces.iter().flat_map(|(name, (_, peers))| peers.values().map(move |peer| of(name, peer))).collect()
    }

    /// Stops all threads after they have passed on what they had read, and leaves the sessions to whoever has the will's descriptor. Nothing is sent any
    /// more when this returns, and there are no sessions here.
    ///
    /// # Errors
    /// If the will cannot be written, or a thread cannot be stopped: then a successor begins anew.
    pub fn leave(&mut self, will: &Will) -> Result<(), Error> {
        let stopped = self.halt();
        let now = self.shared.now();
        let left = Left { interfaces: self.all_interfaces().map(|interface| interface.leave(now)).collect() };
        // One that still runs might count on.
        if stopped { will.write(&left) } else { Err(Error::Running) }
    }
}

impl Interface {
    /// What a successor needs. It is silent from now on, without sessions.
    fn leave(&self, now: u64) -> LeftInterface {
        let speaks = self.is_sending();
        self.set_sending(false);
        let table = self.table();
        let peers = table.peers().map(|peer| peer.leave(now)).collect();
        LeftInterface { name: self.config.name.clone(), key: *self.identity.public(), speaks, stamp: self.last_stamp(), peers }
    }
}

impl Left {
    /// As it is so much later.
    fn older(mut self, by: Duration) -> Left {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        for interface in &mut self.interfaces {
            interface.peers = std::mem::take(&mut interface.peers).into_iter().map(|peer| peer.older(by)).collect();
        }
        self
    }
}

impl LeftPeer {
    fn older(mut self, by: u64) -> LeftPeer {
        let ages = &mut self.ages;
        for age in [&mut ages.agreed, &mut ages.unanswered, &mut ages.unreplied, &mut ages.passed].into_iter().flatten() {
            *age = age.saturating_add(by);
        }
        for session in self.sessions.iter_mut().flatten() {
            session.age = session.age.saturating_add(by);
        }
        self
    }
}
