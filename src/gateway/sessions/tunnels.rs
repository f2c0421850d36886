//! The WireGuard interfaces of this node, whoever carries them.

use crate::daemon::carrier::wireguard::read;
use crate::kernel::Kernel;
use crate::model::{IfName, PublicKey};
use crate::plan::{Endpoint, Step, WireguardPeer};
use crate::userspace::wireguard::message::Initiation;
use crate::userspace::wireguard::{Device, PeerConfig, PeerStatus};
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

/// Seconds. The kernel sends a keepalive, and so begins a handshake, when one is asked for of a peer that had none
/// (set_peer, drivers/net/wireguard/netlink.c); how often matters to nobody, for it is taken back at once.
const WAKING: u16 = 25;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub enum Tunnels {
    Userspace(Arc<RwLock<Device>>),
    Kernel(Arc<Kernel>),
}

/// What an interface is to know of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    /// The inner addresses that are its own.
    pub allowed: Vec<IpNet>,
    /// Where it was heard last.
    pub endpoint: Option<SocketAddr>,
    /// The latest stamp that it has used, here or at another candidate. The kernel keeps its own.
    pub heard: Tai64n,
}

/// What can be seen of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    pub endpoint: Option<SocketAddr>,
    /// When the last session was agreed on; a device tells of it by itself.
    pub agreed: Option<SystemTime>,
    /// Bytes that came from it.
    pub received: u64,
    /// The latest stamp that it has used. The kernel keeps its own.
    pub heard: Tai64n,
}

impl Tunnels {
    /// A number for an interface as it stands, with its peers: another when it is made anew. None: it does not stand.
    pub fn incarnation(&self, interface: &IfName) -> Option<u64> {
        match self {
            Self::Userspace(device) => read(device).incarnation(interface),
            Self::Kernel(kernel) => kernel.link(interface).ok().flatten().map(|link| link.index.into()),
        }
    }

    /// Whether an interface speaks. Of the kernel's the fence sees to it.
    pub fn set_sending(&self, interface: &IfName, sending: bool) -> anyhow::Result<()> {
        match self {
            Self::Userspace(device) => Ok(read(device).set_sending(interface, sending)?),
            Self::Kernel(_) => Ok(()),
        }
    }

    /// The latest of our own stamps; the kernel keeps its own.
    pub fn stamp(&self, interface: &IfName) -> Option<Tai64n> {
        match self {
            Self::Userspace(device) => read(device).stamp(interface).ok(),
            Self::Kernel(_) => None,
        }
    }

    /// All further stamps are later than this one. The kernel's are by its clock.
    pub fn stamps_after(&self, interface: &IfName, stamp: Tai64n) {
        if let Self::Userspace(device) = self {
            // An interface that is not there yet has none.
            let _ = read(device).stamps_after(interface, stamp);
        }
    }

    /// Whether it tells by itself who has answered.
    pub fn tells(&self) -> bool {
        matches!(self, Self::Userspace(_))
    }

    /// How much of what it tells by itself was lost.
    pub fn events_lost(&self) -> u64 {
        match self {
            Self::Userspace(device) => read(device).events_lost(),
            Self::Kernel(_) => 0,
        }
    }

    /// Peers that have been heard, as they are.
    pub async fn look(&self, interface: &IfName) -> anyhow::Result<Vec<(PublicKey, News)>> {
        match self {
            Self::Userspace(device) => {
                let peers = read(device).peers(interface)?.into_iter().filter(|peer| peer.last_handshake.is_some());
                let news = |peer: PeerStatus| {
                    (peer.key, News { endpoint: peer.endpoint, agreed: None, received: peer.received_bytes, heard: peer.heard })
                };
                Ok(peers.map(news).collect())
            }
            Self::Kernel(kernel) => {
                let peers = kernel.wireguard_peers(interface)?.into_iter().filter(|seen| seen.agreed.is_some());
                Ok(peers
                    .map(|seen| {
                        (seen.key, News { endpoint: seen.endpoint, agreed: seen.agreed, received: seen.received, heard: Tai64n::NEVER })
                    })
                    .collect())
            }
        }
    }

    /// Adds peers or changes them; those that are there keep their sessions. Each by itself: what fails keeps no other from it.
    pub async fn set_peers(&self, interface: &IfName, peers: &[(PublicKey, Remote)]) -> anyhow::Result<()> {
        match self {
            Self::Userspace(_) => {
                let mut result = Ok(());
                for (key, peer) in peers {
                    result = result.and(self.set_peer(interface, key, peer).await);
                }
                result
            }
            Self::Kernel(kernel) => apply(kernel, &peers.iter().map(|(key, peer)| set(interface, key, peer, 0)).collect::<Vec<_>>()).await,
        }
    }

    /// Adds a peer or changes it; one that is there keeps its sessions.
    pub async fn set_peer(&self, interface: &IfName, key: &PublicKey, peer: &Remote) -> anyhow::Result<()> {
        self.succeed_peers(interface, &[], key, peer).await
    }

    /// The same for a peer that takes over what these had: the same host under another key. What it is about to be sent waits for its session; nobody's
    /// is nothing in between. They are gone when this returns.
    pub async fn succeed_peers(&self, interface: &IfName, former: &[PublicKey], key: &PublicKey, peer: &Remote) -> anyhow::Result<()> {
        match self {
            Self::Userspace(device) => {
                let Remote { allowed, endpoint, heard } = peer.clone();
                Ok(read(device).succeed_peers(interface, former, *key, &PeerConfig { endpoint, allowed, keepalive: None, heard })?)
            }
            Self::Kernel(kernel) => {
                // An address that is allowed to a peer is another's no more, in one step (wg_allowedips_insert_v4, drivers/net/wireguard/allowedips.c).
                let removed = former.iter().map(|key| Step::RemovePeer(interface.clone(), *key));
                apply(kernel, &[set(interface, key, peer, 0)].into_iter().chain(removed).collect::<Vec<_>>()).await
            }
        }
    }

    /// One that is gone counts as removed.
    pub async fn remove_peer(&self, interface: &IfName, key: &PublicKey) -> anyhow::Result<()> {
        match self {
            Self::Userspace(device) => Ok(read(device).remove_peer(interface, key).map(drop)?),
            Self::Kernel(kernel) => apply(kernel, &[Step::RemovePeer(interface.clone(), *key)]).await,
        }
    }

    /// Removes all peers but these.
    pub async fn remove_others(&self, interface: &IfName, stay: &BTreeMap<PublicKey, Vec<IpNet>>) -> anyhow::Result<()> {
        match self {
            Self::Userspace(device) => {
                let device = read(device);
                for peer in device.peers(interface)?.into_iter().filter(|peer| !stay.contains_key(&peer.key)) {
                    device.remove_peer(interface, &peer.key)?;
                }
                Ok(())
            }
            Self::Kernel(kernel) => {
                let all = kernel.wireguard_peers(interface)?.into_iter().map(|peer| peer.key);
                let gone = all.filter(|key| !stay.contains_key(key)).map(|key| Step::RemovePeer(interface.clone(), key));
                apply(kernel, &gone.collect::<Vec<_>>()).await
            }
        }
    }

    /// Begins a handshake at once, with a peer that is set. `anew`: it has not answered the last one, or has given up the session that stands. Our own device
    /// begins anew whatever there is.
    pub async fn initiate(&self, interface: &IfName, key: &PublicKey, peer: &Remote, anew: bool) -> anyhow::Result<()> {
        match self {
            Self::Userspace(device) => Ok(read(device).initiate(interface, key)?),
            Self::Kernel(kernel) => {
                let mut steps = vec![set(interface, key, peer, WAKING), set(interface, key, peer, 0)];
                if anew {
                    // To one that it has initiated to the kernel does so again after 5 s only (REKEY_TIMEOUT, drivers/net/wireguard/messages.h), and by a
                    // session that it has it says its word without another.
                    steps.insert(0, Step::RemovePeer(interface.clone(), *key));
                }
                apply(kernel, &steps).await
            }
        }
    }

    /// Answers an initiation that was seen before its sender was a peer, as if it came now. False: the kernel cannot.
    pub async fn answer(&self, interface: &IfName, from: SocketAddr, initiation: &Initiation) -> anyhow::Result<bool> {
        match self {
            Self::Userspace(device) => read(device).handle_initiation(interface, from, initiation)?,
            Self::Kernel(_) => return Ok(false),
        }
        Ok(true)
    }
}

fn set(interface: &IfName, key: &PublicKey, peer: &Remote, keepalive: u16) -> Step {
    let allowed = peer.allowed.iter().copied().collect();
    Step::SetPeer(interface.clone(), *key, WireguardPeer { allowed, endpoint: Endpoint::Roams(peer.endpoint), keepalive })
}

async fn apply(kernel: &Kernel, steps: &[Step]) -> anyhow::Result<()> {
    match kernel.apply(steps).await.into_iter().next() {
        None => Ok(()),
        Some(failure) => Err(failure.into()),
    }
}
