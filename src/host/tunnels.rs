//! A function host's tunnels, as the userspace data path wants to know them.

use super::Node;
use crate::config::{Host, HostShard, HostTenant, HostTunnel, TunnelKind};
use crate::daemon::carrier::{Tunnels, gre, wireguard};
use crate::daemon::key_file;
use crate::model::{IfName, PrivateKey, Slot};
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
            TunnelKind::Wireguard => Tunnels::Wireguard(served().filter_map(|served| self.wireguard(served)).collect()),
        }
    }

    fn gre(&self, (slot, tenant, shard): (Slot, &HostTenant, &HostShard)) -> Option<gre::Carried> {
        let HostTunnel::Gre { key } = shard.tunnel else { return None };
        let end = End::Host { gateway: shard.gateway, inner: shard.inner, cidrs: tenant.cidrs.clone() };
        let tunnel = Tunnel { interface: IfName::tunnel(slot), local: self.config.platform.address, key, end };
        Some(gre::Carried { tunnel, peers: BTreeMap::new() })
    }

    fn wireguard(&self, (slot, tenant, shard): (Slot, &HostTenant, &HostShard)) -> Option<wireguard::Carried> {
        let HostTunnel::Wireguard { public_key, port } = shard.tunnel else { return None };
        let interface = InterfaceConfig {
            name: IfName::tunnel(slot),
            key: self.key.clone()?,
            listen: SocketAddr::new(self.config.platform.address, listen_port(&self.config, slot)),
            mark: None,
            // A gateway is at its HaVip, wherever a packet may come from.
            roaming: false,
        };
        let gateway = PeerConfig {
            endpoint: Some(SocketAddr::new(shard.gateway, port)),
            allowed: tenant.cidrs.clone(),
            keepalive: Some(Duration::from_secs(KEEPALIVE.into())),
            ..PeerConfig::default()
        };
        Some(wireguard::Carried { interface, speaks: true, peers: [(public_key, gateway)].into() })
    }
}
