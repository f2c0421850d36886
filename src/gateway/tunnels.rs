//! A gateway's tunnels, as the userspace data path wants to know them.

use super::Node;
use crate::daemon::carrier::Carried;
use crate::model::IfName;
use crate::userspace::{End, Tunnel};

impl Node {
    pub(super) fn tunnels(&self) -> Vec<Carried> {
        let carried = self.config.served().filter_map(|(tenant, shard)| {
            let of = tenant.of(shard.shard);
            let interface = IfName::tunnel(self.slots.get(&of)?);
            let tunnel = Tunnel { interface, local: shard.local, key: tenant.key, end: End::Gateway };
            let peers = self.peers.iter().filter_map(|(peer, _)| Some((peer.outer, peer.inner.get(&of)?.clone()))).collect();
            Some(Carried { tunnel, peers })
        });
        carried.collect()
    }
}
