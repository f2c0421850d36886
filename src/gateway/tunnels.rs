//! A gateway's tunnels: their keys, and what the userspace data path wants to know of them.

use super::Node;
use super::sessions::{self, Sessions};
use super::strangers::Strangers;
use crate::config::{Gateway, GatewayShard, GatewayTenant, GatewayTunnel, StaticPeer, TunnelKind};
use crate::daemon::carrier::{Path, Tunnels, gre, wireguard};
use crate::daemon::key_file;
use crate::kernel::Kernel;
use crate::model::{IfName, PrivateKey, TenantShard};
use crate::plan::gateway::shards;
use crate::userspace::wireguard::{InterfaceConfig, PeerConfig};
use crate::userspace::{End, Tunnel};
use crate::wire::wireguard::Tai64n;
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// The private keys of all WireGuard tunnels, from their files.
pub fn read_keys(config: &Gateway) -> anyhow::Result<BTreeMap<TenantShard, PrivateKey>> {
    let mut keys = BTreeMap::new();
    for (tenant, shard) in config.served() {
        if let GatewayTunnel::Wireguard { private_key, .. } = &shard.tunnel {
            let of = tenant.of(shard.shard);
            let key = key_file::private_key(private_key).with_context(|| format!("{of} has no WireGuard key"))?;
            keys.insert(of, key);
        }
    }
    Ok(keys)
}

impl Node {
    pub(super) fn tunnels(&self) -> Tunnels {
        match self.config.platform.tunnel {
            TunnelKind::Gre => Tunnels::Gre(self.config.served().filter_map(|served| self.gre(served)).collect()),
            TunnelKind::Wireguard => {
                let holds = self.group.board().holds();
                Tunnels::Wireguard(self.config.served().filter_map(|served| self.wireguard(served, &holds)).collect())
            }
        }
    }

    fn gre(&self, (tenant, shard): (&GatewayTenant, &GatewayShard)) -> Option<gre::Carried> {
        let of = tenant.of(shard.shard);
        let GatewayTunnel::Gre { key } = shard.tunnel else { return None };
        let interface = IfName::tunnel(self.slots.get(&of)?);
        let tunnel = Tunnel { interface, local: shard.local, key, end: End::Gateway };
        let peers = self.peers.iter().filter_map(|(peer, _)| Some((peer.outer()?, peer.inner.get(&of)?.clone()))).collect();
        Some(gre::Carried { tunnel, peers })
    }

    fn wireguard(&self, (tenant, shard): (&GatewayTenant, &GatewayShard), holds: &BTreeSet<TenantShard>) -> Option<wireguard::Carried> {
        let of = tenant.of(shard.shard);
        let GatewayTunnel::Wireguard { port, .. } = shard.tunnel else { return None };
        let interface = InterfaceConfig {
            name: IfName::tunnel(self.slots.get(&of)?),
            key: self.keys.get(&of)?.clone(),
            listen: SocketAddr::new(shard.local, port),
            mark: None,
            roaming: true,
        };
        let peer = |peer: &StaticPeer| {
            Some((peer.end.public_key()?, PeerConfig { allowed: peer.inner.get(&of)?.clone(), ..PeerConfig::default() }))
        };
        let peers = self.peers.iter().filter_map(|(known, _)| peer(known)).collect();
        Some(wireguard::Carried { interface, speaks: shard.havip.is_none() || holds.contains(&of), peers })
    }

    /// Whoever follows the peers of WireGuard tunnels, and lets in those that knock.
    pub(super) fn start_sessions(&mut self, kernel: &Arc<Kernel>) -> anyhow::Result<()> {
        let (tunnels, events) = match (&mut self.path, self.config.platform.tunnel) {
            (_, TunnelKind::Gre) | (Path::Gre(_), _) => return Ok(()),
            (Path::Kernel, TunnelKind::Wireguard) => (sessions::tunnels::Tunnels::Kernel(kernel.clone()), None),
            (Path::Wireguard(path), TunnelKind::Wireguard) => match path.watch() {
                Some((device, events)) => (sessions::tunnels::Tunnels::Userspace(device), Some(events)),
                None => return Ok(()),
            },
        };
        let (strangers, way) = Strangers::start(&self.config, &self.keys, &tunnels)?;
        (self.strangers, self.sessions) = (strangers, Sessions::start(tunnels, events, way)?);
        Ok(())
    }

    /// Whom a process before this one had let in, and sessions of such that it has left to ours. It has stopped, so these are all.
    pub(super) fn find_strangers(&mut self) {
        let shards = self.shards_by_interface();
        match (&mut self.path, &self.kernel) {
            (Path::Wireguard(path), _) => {
                path.inherit();
                for left in path.left_behind() {
                    let Some(of) = shards.get(&left.interface).filter(|of| !self.peers.is_at(of, &left.key)) else { continue };
                    let Some(registered) = self.strangers.found(of, left.key, Vec::new(), left.endpoint, left.heard) else { continue };
                    if !registered.allowed.is_empty()
                        && let Err(error) = path.resume(&left, &registered.allowed)
                    {
                        tracing::warn!("{of}: the session of {} cannot go on: {error:#}", left.key);
                    }
                }
            }
            (Path::Kernel, Some(kernel)) if self.config.platform.tunnel == TunnelKind::Wireguard => {
                for (interface, of) in &shards {
                    let peers = kernel.wireguard_standing(interface).unwrap_or_else(|error| {
                        tracing::error!("{of}: who was let in before is not known: {:#}", anyhow::Error::from(error));
                        BTreeMap::new()
                    });
                    for (key, peer) in peers.into_iter().filter(|(key, _)| !self.peers.is_at(of, key)) {
                        let allowed = peer.allowed.into_iter().collect();
                        self.strangers.found(of, key, allowed, peer.endpoint.address(), Tai64n::NEVER);
                    }
                }
            }
            (Path::Kernel | Path::Gre(_), _) => {}
        }
    }

    fn shards_by_interface(&self) -> BTreeMap<IfName, TenantShard> {
        shards(&self.config).into_iter().filter_map(|of| Some((IfName::tunnel(self.slots.get(&of)?), of))).collect()
    }

    /// The shards whose WireGuard interfaces stand.
    pub(super) fn served(&self) -> sessions::Order {
        let served = |(tenant, shard): (&GatewayTenant, &GatewayShard)| {
            let of = tenant.of(shard.shard);
            let (slot, key) = (self.slots.get(&of)?, self.keys.get(&of)?.clone());
            let GatewayTunnel::Wireguard { port, .. } = shard.tunnel else { return None };
            let peer = |peer: &StaticPeer| Some((peer.end.public_key()?, peer.inner.get(&of)?.clone()));
            let peers = self.peers.iter().filter_map(|(known, _)| peer(known)).collect();
            Some(sessions::Served { of, slot, key, port, shared: shard.havip.is_some(), peers })
        };
        sessions::Order::Serve { shards: self.config.served().filter_map(served).collect(), left: self.strangers.left() }
    }
}
