//! Where WireGuard peers were, on disk: for a process whose predecessor left it no sessions, because it was killed. It calls them at once; by themselves
//! they would find out after some 15 s.

use crate::daemon::store::Store;
use crate::model::{IfName, PublicKey};
use crate::userspace::wireguard::{Device, PeerConfig};
use crate::wire::wireguard::Tai64n;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// `RUNTIME_DIR/endpoints`: a file for each interface.
pub const KEEPS: &str = "endpoints";

/// An interface's peers, none of it secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Interface {
    name: IfName,
    /// Its own stamps were not later than this.
    stamp: Tai64n,
    peers: BTreeMap<PublicKey, Peer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    endpoint: SocketAddr,
    heard: Tai64n,
}

#[derive(Debug)]
pub struct Remembered {
    store: Store<Interface>,
    /// As a predecessor has left it; gone when it was made use of, or need not be.
    former: BTreeMap<IfName, Interface>,
    saved: BTreeMap<IfName, Interface>,
}

impl Remembered {
    /// What cannot be read is forgotten.
    pub fn open(runtime_dir: &Path) -> anyhow::Result<Self> {
        let store = Store::<Interface>::open(runtime_dir, KEEPS)?;
        let (former, unreadable) = store.load()?;
        for (path, reason) in unreadable {
            tracing::warn!("{} does not say where peers were ({reason}): they come back by themselves", path.display());
        }
        let former: BTreeMap<IfName, Interface> = former.into_iter().map(|interface| (interface.name.clone(), interface)).collect();
        Ok(Self { store, saved: former.clone(), former })
    }

    /// There are sessions: nobody need be called.
    pub fn forget_former(&mut self) {
        self.former.clear();
    }

    /// Calls the peers of an interface that has just got them, those that are where nobody has said otherwise.
    pub fn call(&mut self, device: &Device, name: &IfName, peers: &BTreeMap<PublicKey, PeerConfig>) {
        let Some(Interface { stamp, peers: former, .. }) = self.former.remove(name) else { return };
        let called = || -> Result<usize, crate::userspace::wireguard::Error> {
            device.stamps_after(name, stamp)?;
            let mut called = 0;
            for (key, Peer { endpoint, heard }) in &former {
                let Some(config) = peers.get(key).filter(|config| config.endpoint.is_none()) else { continue };
                device.set_peer(name, *key, &PeerConfig { endpoint: Some(*endpoint), heard: *heard, ..config.clone() })?;
                // One that cannot be reached now says so itself later.
                called += usize::from(device.is_sending(name)? && device.initiate(name, key).is_ok());
            }
            Ok(called)
        };
        match called() {
            Ok(0) => {}
            Ok(called) => tracing::info!("{name}: calling {called} peers where they were last"),
            Err(error) => tracing::warn!("{name}: not all peers are called: {:#}", anyhow::Error::from(error)),
        }
    }

    /// Writes down where peers are now, if that has changed.
    pub fn keep(&mut self, device: &Device) {
        let mut now = BTreeMap::new();
        for interface in device.interfaces() {
            let name = &interface.name;
            let (Ok(peers), Ok(stamp)) = (device.peers(name), device.stamp(name)) else { continue };
            let peer = |endpoint, heard| Peer { endpoint, heard };
            let peers = peers.into_iter().filter(|peer| peer.last_handshake.is_some());
            let peers = peers.filter_map(|known| Some((known.key, peer(known.endpoint?, known.heard)))).collect();
            now.insert(name.clone(), Interface { name: name.clone(), stamp, peers });
        }
        for (name, interface) in now.iter().filter(|(name, interface)| self.saved.get(*name) != Some(*interface)) {
            if let Err(error) = self.store.save(name.as_str(), interface) {
                tracing::warn!("where {name}'s peers are is not written down ({error}): is `runtime_dir` writable?");
            }
        }
        for name in self.saved.keys().filter(|name| !now.contains_key(*name) && !self.former.contains_key(*name)) {
            // What stays is put right by the next.
            let _ = self.store.remove(name.as_str());
        }
        self.saved = now;
    }
}
