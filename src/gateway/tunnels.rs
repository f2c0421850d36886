//! A gateway's tunnels: their keys, and what the userspace data path wants to know of them.

use super::Node;
use super::registry::report::{self, Told};
use super::sessions::{self, Sessions};
use super::strangers::Strangers;
use crate::config::{Gateway, GatewayShard, GatewayTenant, GatewayTunnel, StaticPeer, TunnelKind};
use crate::daemon::carrier::{Path, Tunnels, gre, wireguard};
use crate::daemon::key_file;
use crate::kernel::Kernel;
use crate::model::{AdminAt, IfName, Lane, TenantShard};
use crate::plan::gateway::ends::{End, Heard, Keys};
use crate::plan::gateway::{Admitted, shards};
use crate::userspace::wireguard::{InterfaceConfig, PeerConfig};
use crate::userspace::{self, Tunnel};
use crate::wire::wireguard::Tai64n;
use anyhow::{Context, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The private keys of all WireGuard tunnels, from their files.
pub fn read_keys(config: &Gateway) -> anyhow::Result<BTreeMap<TenantShard, Keys>> {
    let mut keys = BTreeMap::new();
    for (tenant, shard) in config.served() {
        if let GatewayTunnel::Wireguard { private_key, port, next } = &shard.tunnel {
            let of = tenant.of(shard.shard);
            let key = key_file::private_key(private_key).with_context(|| format!("{of} has no WireGuard key"))?;
            let next = match next {
                None => None,
                Some(next) => {
                    let coming = key_file::private_key(&next.private_key).with_context(|| format!("{of} has no next WireGuard key"))?;
                    ensure!(
                        coming != key,
                        "the next WireGuard key of {of} is the present one: write another to {}",
                        next.private_key.display()
                    );
                    Some((coming, next.port))
                }
            };
            keys.insert(of, Keys { present: (key, *port), next });
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
                Tunnels::Wireguard(self.config.served().flat_map(|served| self.wireguard(served, &holds)).collect())
            }
        }
    }

    fn gre(&self, (tenant, shard): (&GatewayTenant, &GatewayShard)) -> Option<gre::Carried> {
        let of = tenant.of(shard.shard);
        let GatewayTunnel::Gre { key } = shard.tunnel else { return None };
        let interface = IfName::tunnel(self.slots.get(&of)?);
        let tunnel = Tunnel { interface, local: shard.local, key, end: userspace::End::Gateway };
        let peers = self.peers.iter().filter_map(|(peer, _)| Some((peer.outer()?, peer.inner.get(&of)?.clone()))).collect();
        Some(gre::Carried { tunnel, peers })
    }

    /// Everybody is at each interface of a shard.
    fn wireguard(&self, (tenant, shard): (&GatewayTenant, &GatewayShard), holds: &BTreeSet<TenantShard>) -> Vec<wireguard::Carried> {
        let of = tenant.of(shard.shard);
        let Some(slot) = self.slots.get(&of) else { return Vec::new() };
        let peer = |peer: &StaticPeer| {
            Some((peer.end.public_key()?, PeerConfig { allowed: peer.inner.get(&of)?.clone(), ..PeerConfig::default() }))
        };
        let peers: BTreeMap<_, _> = self.peers.iter().filter_map(|(known, _)| peer(known)).collect();
        let speaks = shard.havip.is_none() || holds.contains(&of);
        let one = |end: &End| {
            let (name, listen) = (IfName::lane(slot, end.lane), SocketAddr::new(shard.local, end.port));
            let interface = InterfaceConfig { name, key: end.key.clone(), listen, mark: None, roaming: true };
            wireguard::Carried { interface, speaks, peers: peers.clone() }
        };
        self.ends.of(&of).map(one).collect()
    }

    /// The interfaces, their keys and where they listen, for a successor.
    pub(super) fn keep_keys(&mut self) -> anyhow::Result<()> {
        let locals: BTreeMap<TenantShard, IpAddr> =
            self.config.served().map(|(tenant, shard)| (tenant.of(shard.shard), shard.local)).collect();
        let (ends, slots) = (&self.ends, &self.slots);
        self.keyring.keep(ends.iter().filter_map(|(of, end)| {
            let (slot, local) = (slots.get(of)?, locals.get(of)?);
            Some((IfName::lane(slot, end.lane), &end.key, end.key.public(), SocketAddr::new(*local, end.port)))
        }))
    }

    /// By which interface each peer of a shard with two was heard; those that were not yet since the start, as the process before had it.
    pub(super) fn heard(&self, hosts: &[&StaticPeer], admitted: &BTreeMap<TenantShard, Arc<Admitted>>) -> Heard {
        let mut heard = self.sessions.heard();
        for (of, led) in self.led.iter().filter(|(of, _)| self.ends.of(of).count() > 1) {
            let configured = hosts.iter().filter_map(|peer| Some((peer.end.public_key()?, peer.inner.get(of)?)));
            let strangers = admitted.get(of).into_iter().flat_map(|peers| peers.iter().map(|(key, prefixes)| (*key, prefixes)));
            let known = heard.entry(of.clone()).or_default();
            for (key, prefixes) in configured.chain(strangers) {
                if let Some(lane) = prefixes.first().and_then(|prefix| led.get(&prefix.trunc())) {
                    known.entry(key).or_insert(*lane);
                }
            }
        }
        heard
    }

    /// How many hosts of a shard with two keys were heard under the one that is not the present one.
    pub(super) fn heard_beside(&self, of: &TenantShard) -> usize {
        let lane = self.ends.of(of).nth(1).map(|end| end.lane);
        self.sessions.heard().get(of).map_or(0, |heard| heard.values().filter(|heard| Some(**heard) == lane).count())
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
        let (kernel, platform) = (kernel.clone(), self.config.platform.interface.clone());
        let group = self.config.ha.as_ref().map(|_| self.group.shared_board());
        let admin = AdminAt::of_listener(self.config.admin, self.config.platform.address);
        let traffic = Box::new(move || report::traffic(&kernel, &platform));
        strangers.tell(Told { group, traffic, peers: strangers.counter(), admin });
        let again = self.group.board().again.clone();
        if let Some(registry) = strangers.registry() {
            registry.ring(again.clone());
        }
        (self.strangers, self.sessions) = (strangers, Sessions::start(tunnels, events, way, again)?);
        Ok(())
    }

    /// Whom a process before this one had let in, and sessions of such that it has left to ours. It has stopped, so these are all.
    pub(super) fn find_strangers(&mut self) {
        self.recall();
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

    /// Recordings of initiations that a process before this one has answered are worthless.
    pub(super) fn recall(&mut self) {
        let slots = shards(&self.config).into_iter().filter_map(|of| Some((of.clone(), self.slots.get(&of)?))).collect();
        self.strangers.recall(&slots, self.config.ha.is_some());
    }

    fn shards_by_interface(&self) -> BTreeMap<IfName, TenantShard> {
        let all = shards(&self.config).into_iter().filter_map(|of| Some((self.slots.get(&of)?, of)));
        all.flat_map(|(slot, of)| [Lane::First, Lane::Second].map(|lane| (IfName::lane(slot, lane), of.clone()))).collect()
    }

    /// The shards whose WireGuard interfaces stand.
    pub(super) fn served(&self) -> sessions::Order {
        let served = |(tenant, shard): (&GatewayTenant, &GatewayShard)| {
            let of = tenant.of(shard.shard);
            let (slot, ends) = (self.slots.get(&of)?, self.ends.of(&of).cloned().collect::<Vec<_>>());
            if ends.is_empty() {
                return None;
            }
            let peer = |peer: &StaticPeer| Some((peer.end.public_key()?, peer.inner.get(&of)?.clone()));
            let peers = self.peers.iter().filter_map(|(known, _)| peer(known)).collect();
            Some(sessions::Served { of, slot, ends, shared: shard.havip.is_some(), peers })
        };
        sessions::Order::Serve { shards: self.config.served().filter_map(served).collect(), left: self.strangers.left() }
    }
}
