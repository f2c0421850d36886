//! A function host's tunnels, as the userspace data path wants to know them.

use super::Node;
use crate::daemon::carrier::Carried;
use crate::model::IfName;
use crate::userspace::{End, Tunnel};
use std::collections::BTreeMap;

impl Node {
    pub(super) fn tunnels(&self) -> Vec<Carried> {
        self.config
            .served()
            .filter_map(|(tenant, shard)| {
                let slot = self.slots.get(&tenant.of(shard.shard))?;
                let end = End::Host { gateway: shard.gateway, inner: shard.inner, cidrs: tenant.cidrs.clone() };
                let tunnel = Tunnel { interface: IfName::tunnel(slot), local: self.config.platform.address, key: tenant.key, end };
                Some(Carried { tunnel, peers: BTreeMap::new() })
            })
            .collect()
    }
}
