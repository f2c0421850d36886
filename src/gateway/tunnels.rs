//! A gateway's tunnels, as the userspace data path wants to know them.

use super::Node;
use crate::daemon::carrier::Carried;
use crate::model::{IfName, TenantShard};
use crate::userspace::{End, Tunnel};

impl Node {
    pub(super) fn tunnels(&self) -> Vec<Carried> {
        let tenants = self.config.tenants.iter();
        tenants
            .filter_map(|tenant| {
                let slot = self.slots.get(&TenantShard { tenant: tenant.name.clone(), shard: Default::default() })?;
                let tunnel = Tunnel { interface: IfName::tunnel(slot), key: tenant.key, end: End::Gateway };
                let peers = self.peers.iter().filter_map(|(peer, _)| Some((peer.outer, peer.inner.get(&tenant.name)?.clone()))).collect();
                Some(Carried { tunnel, peers })
            })
            .collect()
    }
}
