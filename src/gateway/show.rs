//! What `status` and metrics show of a gateway.

use super::Node;
use super::strangers::Count;
use crate::config::{GatewayShard, GatewayTenant, GatewayTunnel, Snat};
use crate::daemon::meter::Watched;
use crate::metrics::Page;
use crate::model::{IfName, Lane, TenantShard};
use serde_json::{Value, json};

impl Node {
    pub(super) fn show(&self) -> Value {
        let admitted = self.let_in();
        let standing = self.peers.by_shard();
        let peers = |of: &TenantShard| (standing.get(of).copied().unwrap_or_default(), admitted.of_shard(of));
        let tenants: Vec<_> =
            self.config.served().map(|(tenant, shard)| self.shard(tenant, shard, peers(&tenant.of(shard.shard)))).collect();
        let (configured, just_in_time) = (self.peers.len(), self.hosts(&admitted));
        json!({
            "node": self.config.node, "backend": self.carrier.name(), "platform_address": self.config.platform.address,
            "tunnel_mtu": self.mtu, "tenants": tenants, "peers": configured + just_in_time, "configured": configured, "admitted": just_in_time,
            "userspace": self.path.status(), "wireguard": self.sessions.status().show(), "jit": self.strangers.status(),
            "flow_log": self.flow_log.status(self.config.flow_log.as_ref()), "ha": self.show_group(),
        })
    }

    fn shard(&self, tenant: &GatewayTenant, shard: &GatewayShard, (configured, admitted): (usize, usize)) -> Value {
        let of = tenant.of(shard.shard);
        let slot = self.slots.get(&of);
        json!({
            "name": tenant.name, "shard": shard.shard, "slot": slot,
            "tunnel": slot.map(|slot| self.ends.of(&of).next().map_or(IfName::tunnel(slot), |end| IfName::lane(slot, end.lane))),
            "key": self.key(&of, shard),
            "beside": self.ends.of(&of).nth(1).map(|end| json!({
                "tunnel": slot.map(|slot| IfName::lane(slot, end.lane)), "key": end.key.public(), "port": end.port,
                "heard": self.heard_beside(&of),
            })),
            "local": shard.local, "interface": tenant.interface, "allow": tenant.allow, "snat": snat(&shard.snat),
            "peers": configured + admitted, "configured": configured, "admitted": admitted,
        })
    }

    /// What hosts must have to send: the GRE key, or the public key of the shard.
    fn key(&self, of: &TenantShard, shard: &GatewayShard) -> Value {
        match shard.tunnel {
            GatewayTunnel::Gre { key } => json!(key),
            GatewayTunnel::Wireguard { .. } => json!(self.keys.get(of).map(|keys| keys.present.0.public())),
        }
    }

    /// The platform's interface and the tenants', and a tunnel for each key of a shard.
    pub(super) fn interfaces(&self) -> Watched {
        let platform = &self.config.platform;
        let tunnels = self.config.served().flat_map(|(tenant, shard)| {
            let of = tenant.of(shard.shard);
            let lanes = self.ends.of(&of).map(|end| end.lane).collect::<Vec<_>>();
            let slot = self.slots.get(&of);
            let lanes = if lanes.is_empty() { vec![Lane::First] } else { lanes };
            lanes.into_iter().filter_map(move |lane| Some((IfName::lane(slot?, lane), of.clone())))
        });
        Watched {
            underlay: self.config.served().map(|(tenant, _)| &tenant.interface).chain([&platform.interface]).cloned().collect(),
            tunnels: tunnels.collect(),
            kind: platform.tunnel,
            carrier: self.carrier,
        }
    }

    fn let_in(&self) -> Count {
        self.strangers.count(|of, key| self.peers.is_at(of, key))
    }

    /// One that is let in at several shards is one host; one that has a name at another shard is counted there.
    fn hosts(&self, admitted: &Count) -> usize {
        admitted.keys().filter(|key| !self.peers.has_key(key)).count()
    }

    #[expect(clippy::cast_precision_loss, reason = "peers of a node are fewer than 2^52")]
    pub(super) fn measure(&self, out: &mut Page) {
        let help = "Function hosts that may send: named by the configuration or the API, or let in just in time";
        let (standing, admitted) = (self.peers.by_shard(), self.let_in());
        for (how, hosts) in [("configured", self.peers.len()), ("admitted", self.hosts(&admitted))] {
            out.gauge("portway_peers", help, &[("how", how)], hosts as f64);
        }
        for of in self.config.served().map(|(tenant, shard)| tenant.of(shard.shard)) {
            let (shard, help) = (of.shard.to_string(), "Function hosts that may send through a shard");
            for (how, hosts) in [("configured", standing.get(&of).copied().unwrap_or_default()), ("admitted", admitted.of_shard(&of))] {
                let labels = [("tenant", of.tenant.as_str()), ("shard", shard.as_str()), ("how", how)];
                out.gauge("portway_shard_peers", help, &labels, hosts as f64);
            }
        }
        out.gauge("portway_tunnel_mtu_bytes", "Bytes that a packet inside a tunnel may have", &[], f64::from(self.mtu));
        self.path.metrics(out);
        self.sessions.status().metrics(out);
        self.strangers.metrics(out);
        self.group.metrics(&self.config, out);
        self.measure_group(out);
        #[cfg(feature = "aws")]
        self.attachments.metrics(out);
        self.flow_log.metrics(self.config.flow_log.as_ref(), out);
    }
}

fn snat(snat: &Snat) -> String {
    match snat {
        Snat::To { address, ports } => format!("{address}:{ports}"),
        Snat::Masquerade { ports } => format!("the interface's address:{ports}"),
    }
}
