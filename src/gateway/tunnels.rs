//! A gateway's tunnels: their keys, and what the userspace data path wants to know of them.

use super::Node;
use crate::config::{Gateway, GatewayTunnel};
use crate::daemon::carrier::Carried;
use crate::daemon::key_file;
use crate::model::{IfName, PrivateKey, TenantShard};
use crate::userspace::{End, Tunnel};
use anyhow::Context;
use std::collections::BTreeMap;

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
    pub(super) fn tunnels(&self) -> Vec<Carried> {
        let carried = self.config.served().filter_map(|(tenant, shard)| {
            let of = tenant.of(shard.shard);
            let GatewayTunnel::Gre { key } = shard.tunnel else { return None };
            let interface = IfName::tunnel(self.slots.get(&of)?);
            let tunnel = Tunnel { interface, local: shard.local, key, end: End::Gateway };
            let peers = self.peers.iter().filter_map(|(peer, _)| Some((peer.outer()?, peer.inner.get(&of)?.clone()))).collect();
            Some(Carried { tunnel, peers })
        });
        carried.collect()
    }
}
