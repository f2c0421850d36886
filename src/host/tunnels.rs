//! A function host's tunnels, as the userspace data path wants to know them.

use super::Node;
use crate::config::{Host, HostTunnel};
use crate::daemon::carrier::Carried;
use crate::daemon::key_file;
use crate::model::{IfName, PrivateKey};
use crate::userspace::{End, Tunnel};
use std::collections::BTreeMap;

/// The private key of WireGuard tunnels, from its file.
pub fn read_key(config: &Host) -> anyhow::Result<Option<PrivateKey>> {
    config.wireguard.as_ref().map(|own| key_file::private_key(&own.private_key)).transpose()
}

impl Node {
    pub(super) fn tunnels(&self) -> Vec<Carried> {
        self.config
            .served()
            .filter_map(|(tenant, shard)| {
                let HostTunnel::Gre { key } = shard.tunnel else { return None };
                let slot = self.slots.get(&tenant.of(shard.shard))?;
                let end = End::Host { gateway: shard.gateway, inner: shard.inner, cidrs: tenant.cidrs.clone() };
                let tunnel = Tunnel { interface: IfName::tunnel(slot), local: self.config.platform.address, key, end };
                Some(Carried { tunnel, peers: BTreeMap::new() })
            })
            .collect()
    }
}
