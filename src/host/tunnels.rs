//! A function host's tunnels, as the userspace data path wants to know them.

use super::Node;
use crate::config::{Host, HostShard, HostTenant, HostTunnel, TunnelKind};
use crate::daemon::carrier::{Path, Tunnels, gre, wireguard};
use crate::daemon::key_file;
use crate::kernel::Kernel;
use crate::model::{IfName, PrivateKey, PublicKey, Slot};
use crate::plan::gateway::Carrier;
use crate::plan::host::generations::{Generation, Look, Standing};
use crate::plan::host::{KEEPALIVE, listen_port};
use crate::userspace::wireguard::{InterfaceConfig, PeerConfig};
use crate::userspace::{End, Tunnel};
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The private key of WireGuard tunnels, from its file.
pub fn read_key(config: &Host) -> anyhow::Result<Option<PrivateKey>> {
    let Some(own) = &config.wireguard else { return Ok(None) };
    let key = key_file::private_key(&own.private_key);
    match &config.directory {
        Some(_) if !own.private_key.exists() => key.context("this host has no key yet: enrol it first, by `portway enroll`"),
        _ => key,
    }
    .map(Some)
}

impl Node {
    pub(super) fn tunnels(&self) -> Tunnels {
        let served = || self.config.served().filter_map(|(tenant, shard)| Some((self.slots.get(&tenant.of(shard.shard))?, tenant, shard)));
        match self.config.platform.tunnel {
            TunnelKind::Gre => Tunnels::Gre(served().filter_map(|served| self.gre(served)).collect()),
            TunnelKind::Wireguard => {
                let generations = |(slot, tenant, shard): (Slot, &HostTenant, &HostShard)| {
                    self.generations
                        .of(&tenant.of(shard.shard))
                        .map(move |standing| self.wireguard((slot, tenant, standing)))
                        .collect::<Vec<_>>()
                };
                Tunnels::Wireguard(served().flat_map(generations).collect())
            }
        }
    }

    fn gre(&self, (slot, tenant, shard): (Slot, &HostTenant, &HostShard)) -> Option<gre::Carried> {
        let HostTunnel::Gre { key } = shard.tunnel else { return None };
        let end = End::Host { gateway: shard.gateway, inner: shard.inner, cidrs: tenant.cidrs.clone() };
        let tunnel = Tunnel { interface: IfName::tunnel(slot), local: self.config.platform.address, key, end };
        Some(gre::Carried { tunnel, peers: BTreeMap::new() })
    }

    fn wireguard(&self, (slot, tenant, standing): (Slot, &HostTenant, Standing)) -> wireguard::Carried {
        let Generation { lane, own, gateway, endpoint } = standing.generation;
        let interface = InterfaceConfig {
            name: IfName::lane(slot, *lane),
            key: own.clone(),
            listen: SocketAddr::new(self.config.platform.address, listen_port(&self.config, slot, *lane)),
            mark: None,
            // A gateway is at its HaVip, wherever a packet may come from.
            roaming: false,
        };
        let peer = PeerConfig {
            endpoint: Some(*endpoint),
            allowed: tenant.cidrs.clone(),
            keepalive: standing.calls.then_some(Duration::from_secs(KEEPALIVE.into())),
            ..PeerConfig::default()
        };
        wireguard::Carried { interface, speaks: true, peers: standing.met.then_some((*gateway, peer)).into_iter().collect() }
    }
}

/// What the generations of tunnels want to know, of the kernel or of this process's data path.
pub(super) struct Seen<'a> {
    pub carrier: Carrier,
    pub kernel: &'a Kernel,
    pub path: &'a Path,
}

impl Look for Seen<'_> {
    fn is_up(&self, interface: &IfName) -> bool {
        self.kernel.link(interface).is_ok_and(|link| link.is_some_and(|link| link.up))
    }

    fn has_session(&self, interface: &IfName, gateway: &PublicKey) -> bool {
        match self.carrier {
            Carrier::Userspace => self.path.has_session(interface, gateway),
            Carrier::Kernel => match self.kernel.wireguard_peers(interface) {
                Ok(peers) => peers.iter().any(|peer| peer.key == *gateway && peer.agreed.is_some()),
                Err(error) => {
                    tracing::warn!("whether {interface} has a session cannot be seen: {:#}", anyhow::Error::from(error));
                    false
                }
            },
        }
    }
}
