//! WireGuard carried by this process: what it has been told, and what it is to be told.

use super::remembered::Remembered;
use super::{Carry, take};
use crate::config::PeerEnd;
use crate::metrics::Page;
use crate::model::{IfName, PublicKey};
use crate::userspace::wireguard::{
    self as device, Clocks, Device, DeviceConfig, DropReason, Event, InterfaceConfig, LeftBehind, PeerConfig, Role, Will,
};
use anyhow::{Context, anyhow};
use ipnet::IpNet;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Instant, SystemTime};
use tokio::sync::mpsc;

/// An interface and its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub interface: InterfaceConfig,
    /// Whether its address is this node's when it is opened: if not, nothing leaves it, and nobody is answered, until somebody says otherwise
    /// ([`Device::set_sending`]).
    pub speaks: bool,
    pub peers: BTreeMap<PublicKey, PeerConfig>,
}

#[derive(Debug)]
pub struct Path {
    device: Arc<RwLock<Device>>,
    /// What happens to peers, until somebody wants to know.
    events: Option<mpsc::Receiver<Event>>,
    told: BTreeMap<IfName, Carried>,
    /// Where a predecessor has left its sessions, or has yet to.
    inherited: Option<Will>,
    /// Where ours will be left.
    will: Will,
    remembered: Remembered,
    begun: bool,
    /// Tunnels that are not carried as they should be, and why.
    failing: BTreeMap<IfName, String>,
    /// How often that was.
    failures: BTreeMap<IfName, u64>,
}

/// What became of tunnels that are to be carried.
#[derive(Debug)]
pub struct Carrying {
    /// Devices that were opened.
    pub opened: Vec<IfName>,
    /// Of those that are not carried as they should be. It is no fault of the others.
    pub failure: Option<anyhow::Error>,
}

impl Path {
    /// Makes ready to go on with a predecessor's sockets and devices, which it may still use: packets are left to it until [`Path::begin`].
    pub fn start(inherited: &mut BTreeMap<String, OwnedFd>, tunnels: &[Carried], runtime_dir: &std::path::Path) -> anyhow::Result<Self> {
        let (adopted, will) = (take(inherited), inherited.remove(Will::NAME).map(Will::from));
        let at_once = |carried: &&Carried| adopted.contains_key(&Role::Tun(carried.interface.name.clone(), 0));
        let at_once: Vec<Carried> = tunnels.iter().filter(at_once).cloned().collect();
        let clocks = Clocks { now: Instant::now, wall: SystemTime::now };
        let (device, events) = Device::prepare(DeviceConfig::new(clocks), adopted)?;
        let (device, told) = (Arc::new(RwLock::new(device)), BTreeMap::new());
        let remembered = Remembered::open(runtime_dir)?;
        let mut path = Self {
            device,
            events: Some(events),
            told,
            inherited: will,
            will: Will::new()?,
            remembered,
            begun: false,
            failing: BTreeMap::new(),
            failures: BTreeMap::new(),
        };
        match path.carry(&at_once).failure {
            None => Ok(path),
            // The predecessor goes on.
            Some(error) => Err(error),
        }
    }

    /// The predecessor has stopped: takes its sessions over. Whoever has them and is not known yet can be set until [`Path::begin`] without a packet lost.
    pub fn inherit(&mut self) {
        let will = self.inherited.take();
        match will.map(|will| read(&self.device).inherit(will)) {
            Some(Ok(true)) => self.remembered.forget_former(),
            Some(Err(error)) => tracing::warn!("{:#}", anyhow::Error::from(error)),
            Some(Ok(false)) | None => {}
        }
    }

    /// Goes on with the predecessor's sessions, and with its packets.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.inherit();
        let mut device = self.device.write().unwrap_or_else(PoisonError::into_inner);
        self.begun = true;
        self.told.iter().for_each(|(name, told)| self.remembered.call(&device, name, &told.peers));
        Ok(device.carry()?)
    }

    /// Peers with sessions of a predecessor that nobody has set here.
    pub fn left_behind(&self) -> Vec<LeftBehind> {
        read(&self.device).left_behind()
    }

    /// One of them may go on, with these prefixes. It is nobody whom [`Path::carry`] is told of.
    pub fn resume(&self, left: &LeftBehind, allowed: &[IpNet]) -> anyhow::Result<()> {
        let (endpoint, heard) = (left.endpoint, left.heard);
        let peer = PeerConfig { endpoint, allowed: allowed.to_vec(), keepalive: None, heard };
        Ok(read(&self.device).set_peer(&left.interface, left.key, &peer)?)
    }

    /// Whether a session with it was ever agreed on.
    pub fn has_session(&self, interface: &IfName, peer: &PublicKey) -> bool {
        matches!(read(&self.device).peer(interface, peer), Ok(Some(known)) if known.last_handshake.is_some())
    }

    /// The device, for whoever follows its peers as they come and go, and what happens to them: told once.
    pub fn watch(&mut self) -> Option<(Arc<RwLock<Device>>, mpsc::Receiver<Event>)> {
        self.events.take().map(|events| (self.device.clone(), events))
    }

    fn device_mut(&self) -> RwLockWriteGuard<'_, Device> {
        self.device.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries exactly these tunnels from now on. One that cannot be carried keeps no other from it.
    pub fn carry(&mut self, tunnels: &[Carried]) -> Carrying {
        let (mut opened, mut failures) = (Vec::new(), Vec::new());
        self.failing.clear();
        let stays = |name: &IfName| tunnels.iter().any(|carried| carried.interface.name == *name);
        for gone in self.told.extract_if(.., |name, _| !stays(name)).map(|(name, _)| name).collect::<Vec<_>>() {
            self.device_mut().remove_interface(&gone);
        }
        for carried in tunnels {
            let name = &carried.interface.name;
            let result = self.open(carried).and_then(|new| {
                opened.extend(new.then(|| name.clone()));
                self.tell(carried).with_context(|| format!("cannot tell {name} of its peers"))
            });
            if let Err(error) = result {
                *self.failures.entry(name.clone()).or_default() += 1;
                self.failing.insert(name.clone(), format!("{error:#}"));
                failures.push(error);
            } else if self.begun {
                self.remembered.call(&read(&self.device), name, &carried.peers);
            }
        }
        if self.begun {
            self.remembered.keep(&read(&self.device));
        }
        let (several, first) = (failures.len() > 1, failures.into_iter().next());
        let listed = || self.failing.values().map(String::as_str).collect::<Vec<_>>().join("; ");
        Carrying { opened, failure: if several { Some(anyhow!("{}", listed())) } else { first } }
    }

    /// Whether it is new.
    fn open(&mut self, carried: &Carried) -> anyhow::Result<bool> {
        let name = &carried.interface.name;
        // Told again even if it is known: its device may have been made anew.
        let opened = self.add(carried);
        if opened.is_err() {
            // What was there before is not any more, nor are its peers.
            self.told.remove(name);
        }
        let opened = opened.with_context(|| format!("cannot carry {name}"))?;
        if opened {
            self.told.insert(name.clone(), Carried { peers: BTreeMap::new(), ..carried.clone() });
        }
        Ok(opened)
    }

    /// Silent from the beginning where it is to be, so that no peer hears from a node that does not have the address: in one step, as whoever sees it
    /// may know better.
    fn add(&self, carried: &Carried) -> Result<bool, device::Error> {
        let mut device = self.device_mut();
        let new = device.add_interface(carried.interface.clone())?;
        if new && !carried.speaks {
            device.set_sending(&carried.interface.name, false)?;
        }
        Ok(new)
    }

    fn tell(&mut self, carried: &Carried) -> anyhow::Result<()> {
        let (name, device) = (&carried.interface.name, read(&self.device));
        let Some(told) = self.told.get_mut(name) else { return Ok(()) };
        for gone in told.peers.extract_if(.., |key, _| !carried.peers.contains_key(key)).map(|(key, _)| key).collect::<Vec<_>>() {
            device.remove_peer(name, &gone)?;
        }
        let changed = carried.peers.iter().filter(|(key, peer)| told.peers.get(key) != Some(peer));
        let changed: Vec<(PublicKey, &PeerConfig)> = changed.map(|(key, peer)| (*key, peer)).collect();
        // What passes from one peer to another is given up first: no two have the same.
        for (key, peer) in &changed {
            let Some(former) = told.peers.get_mut(key) else { continue };
            let allowed: Vec<IpNet> = former.allowed.iter().filter(|prefix| peer.allowed.contains(prefix)).copied().collect();
            if allowed.len() < former.allowed.len() {
                let less = PeerConfig { allowed, ..(*peer).clone() };
                device.set_peer(name, *key, &less)?;
                *former = less;
            }
        }
        // What is wrong with one keeps no other out.
        let mut result = Ok(());
        for (key, peer) in changed {
            match device.set_peer(name, key, peer) {
                Ok(()) => _ = told.peers.insert(key, peer.clone()),
                Err(error) => result = result.and(Err(error.into())),
            }
        }
        result
    }
}

impl Carry for Path {
    fn set_peer(&mut self, interface: &IfName, end: &PeerEnd, prefixes: &[IpNet]) -> anyhow::Result<()> {
        if let (PeerEnd::Wireguard { public_key }, Some(told)) = (end, self.told.get_mut(interface)) {
            let peer = PeerConfig { allowed: prefixes.to_vec(), ..PeerConfig::default() };
            read(&self.device).set_peer(interface, *public_key, &peer)?;
            told.peers.insert(*public_key, peer);
        }
        Ok(())
    }

    fn remove_peer(&mut self, interface: &IfName, end: &PeerEnd) -> anyhow::Result<()> {
        if let (PeerEnd::Wireguard { public_key }, Some(told)) = (end, self.told.get_mut(interface)) {
            read(&self.device).remove_peer(interface, public_key)?;
            told.peers.remove(public_key);
        }
        Ok(())
    }

    fn status(&self) -> serde_json::Value {
        json!({ "failing": self.failing, "drops": drops(&read(&self.device)), "tunnels": read(&self.device).counters().into_iter().map(|(name, count)| (name, count.traffic)).collect::<BTreeMap<_, _>>() })
    }

    fn metrics(&self, out: &mut Page) {
        for (reason, packets) in drops(&read(&self.device)) {
            super::dropped(out, reason.as_str(), packets);
        }
        for (interface, failures) in &self.failures {
            let help = "Attempts to carry a userspace tunnel that failed";
            out.counter("portway_tunnel_failures", help, &[("tunnel", interface.as_str())], *failures);
        }
        for (interface, count) in read(&self.device).counters() {
            super::traffic(out, &interface, &count.traffic);
        }
    }

    fn descriptors(&self) -> anyhow::Result<BTreeMap<String, OwnedFd>> {
        let mut all = super::named(read(&self.device).descriptors()?);
        all.insert(Will::NAME.into(), self.will.descriptor()?);
        Ok(all)
    }

    fn stop(mut self: Box<Self>) {
        self.remembered.keep(&read(&self.device));
        if let Err(error) = self.device_mut().leave(&self.will) {
            tracing::warn!("{:#}", anyhow::Error::from(error));
        }
    }
}

/// Nothing is left half-done under this lock that a panic could spoil.
pub fn read(device: &RwLock<Device>) -> RwLockReadGuard<'_, Device> {
    device.read().unwrap_or_else(PoisonError::into_inner)
}

/// Of all interfaces together.
fn drops(device: &Device) -> BTreeMap<DropReason, u64> {
    let mut all = BTreeMap::new();
    for (reason, packets) in device.counters().into_values().flat_map(|count| count.drops) {
        *all.entry(reason).or_default() += packets;
    }
    all
}
