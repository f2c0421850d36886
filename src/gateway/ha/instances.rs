//! From the configuration to one virtual router for each shard that this node serves.

use crate::config::{Authentication, Cast, Gateway, Ha, Snat};
use crate::model::{AddressList, ChecksumForm, Invalid, Priority, TenantShard, Vrid};
use crate::plan::gateway::Carrier;
use crate::proto::vrrp::{Announcements, Config, Handover, Preempt, Preferred};
use crate::wire::vrrp::{GROUP_V4, GROUP_V6};
use anyhow::Context;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// One virtual router, and whom it talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Virtual {
    pub of: TenantShard,
    pub router: Config,
    /// The only senders that are listened to: the other nodes, not only the candidates, for who these are may just have changed. None:
    /// whoever sends to the group.
    pub peers: Option<Vec<IpAddr>>,
    /// Where advertisements go: the other nodes, or the group. Who believes by an older list that it is a candidate must not think that nobody is Active.
    pub destinations: Vec<IpAddr>,
    pub checksum: ChecksumForm,
    /// Whether advertisements carry, and must carry, the trailer.
    pub authenticated: bool,
    /// Hosts refuse a node whose clock is behind that of the node before: the kernel's WireGuard signs handshakes with its time.
    pub signs_with_the_time: bool,
    /// This node is no candidate any more, and has the shard, or its connections, until the candidates do.
    pub spare: bool,
}

impl Virtual {
    /// Whether it goes on as this one: all else can change while it runs.
    pub fn is_like(&self, other: &Virtual) -> bool {
        self.of == other.of && self.router.goes_on_from(&other.router)
    }
}

/// Those of a node; none without `ha`. `carrier`: of its tunnels.
pub fn virtuals(config: &Gateway, carrier: Carrier) -> anyhow::Result<Vec<Virtual>> {
    let Some(ha) = &config.ha else { return Ok(Vec::new()) };
    let signs_with_the_time = carrier.is_kernel_wireguard(config.platform.tunnel);
    let served = config.served().filter_map(|(tenant, shard)| Some((tenant.of(shard.shard), shard, shard.havip?)));
    served
        .map(|(of, shard, havip)| {
            let Snat::To { address, .. } = shard.snat else { anyhow::bail!("shard {of} has no tenant HaVip") };
            let spare = ha.retained.contains(&of);
            let router = router(config, ha, &of, havip.vrid, havip.priority, &[shard.local, address]);
            let mut router = router.with_context(|| format!("shard {of} cannot be shared"))?;
            if spare {
                // It takes over when nobody is left, and from nobody.
                router.preempt = Preempt::Never;
            }
            let group = if router.address.is_ipv4() { GROUP_V4.into() } else { GROUP_V6.into() };
            let (peers, destinations) = match ha.cast {
                Cast::Unicast => (Some(others(config, ha)), others(config, ha)),
                Cast::Multicast => (None, vec![group]),
            };
            let (checksum, authenticated) = (ha.checksum, ha.authentication == Authentication::Hmac);
            Ok(Virtual { of, router, peers, destinations, checksum, authenticated, signs_with_the_time, spare })
        })
        .collect()
}

/// The other nodes of the group.
pub fn others(config: &Gateway, ha: &Ha) -> Vec<IpAddr> {
    ha.nodes.iter().filter(|(node, _)| **node != config.node).map(|(_, address)| *address).collect()
}

/// What is advertised of shards that this node does not serve.
pub type Elsewhere = Vec<(Vrid, AddressList)>;

pub fn elsewhere(config: &Gateway) -> anyhow::Result<Elsewhere> {
    let served: BTreeSet<TenantShard> = config.served().map(|(tenant, shard)| tenant.of(shard.shard)).collect();
    let all = config.tenants.iter().flat_map(|tenant| tenant.shards.iter().map(move |shard| (tenant, shard)));
    let others = all.filter(|(tenant, shard)| !served.contains(&tenant.of(shard.shard)));
    let advertised = others.filter_map(|(_, shard)| match (shard.havip, &shard.snat) {
        (Some(havip), Snat::To { address, .. }) => Some((havip.vrid, [shard.local, *address])),
        _ => None,
    });
    advertised.map(|(vrid, addresses)| Ok((vrid, AddressList::new(&addresses)?))).collect()
}

/// The first of a shard's candidates, unless what is configured says otherwise.
fn preferred(ha: &Ha, of: &TenantShard) -> Option<Preferred> {
    let first = ha.candidates(of).into_iter().next()?;
    Some(Preferred { address: *ha.nodes.get(first)?, above: Ha::PRIORITIES[1] })
}

fn router(
    config: &Gateway,
    ha: &Ha,
    of: &TenantShard,
    vrid: Vrid,
    configured: Option<Priority>,
    addresses: &[IpAddr],
) -> Result<Config, Invalid> {
    let router = Config {
        vrid,
        version: ha.version,
        priority: ha.priority(&config.node, of, configured),
        address: config.platform.address,
        addresses: AddressList::new(addresses)?,
        interval: ha.interval,
        preempt: ha.preempt.map_or(Preempt::Never, Preempt::After),
        preferred: preferred(ha, of).filter(|_| configured.is_none()),
        accept: ha.accept,
        announcements: Announcements::default(),
        handover: Handover::planned(ha.interval),
    };
    router.check().map(|()| router)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::collections::BTreeMap;

    const AS_IT_IS: &str = "interval: 100ms";

    /// What one of three nodes serves: of a shard without a priority, and one with.
    fn of(node: u8, ha: &str) -> Vec<Virtual> {
        let yaml = format!(
            "gateway:
  node: gw-{node}
  platform: {{ interface: eth0, address: 10.9.0.{node} }}
  ha:
    nodes: {{ gw-1: 10.9.0.1, gw-2: 10.9.0.2, gw-3: 10.9.0.3 }}
    {ha}
    keys: [{{ id: 1, file: /etc/portway/ha.key }}]
  tenants:
    - name: acme
      key: 7
      interface: eth1
      allow: [{{ to: 172.16.0.0/16, tcp: all }}]
      inner: 10.64.0.0/16
      shards:
        - {{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }}
        - {{ shard: 1, vrid: 52, platform: 10.9.0.51, tenant: 172.16.101.11, priority: 150 }}
"
        );
        match config::parse(&yaml, "f") {
            Ok(config::Config::Gateway(gateway)) => virtuals(&gateway, Carrier::Userspace).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// By node: its priority for a shard, and whom it prefers.
    fn preferring(shard: &str, ha: &str) -> BTreeMap<u8, (u8, Option<IpAddr>)> {
        let router = |node| of(node, ha).into_iter().find(|of| of.of.to_string() == shard).map(|of| of.router);
        let seen = |node| router(node).map(|router| (node, (router.priority.0, router.preferred.map(|preferred| preferred.address))));
        (1..=3).filter_map(seen).collect()
    }

    #[test]
    fn both_candidates_know_who_is_the_first() {
        for ha in [AS_IT_IS, "leaving: [gw-1]", "leaving: [gw-2]", "leaving: [gw-3]"] {
            let all = preferring("acme/0", ha);
            let first = all.iter().find(|(_, (priority, _))| *priority == 200).map(|(node, _)| IpAddr::from([10, 9, 0, *node]));
            assert!(first.is_some() && all.len() == 2, "{ha}: {all:?}");
            assert!(all.values().all(|(_, preferred)| *preferred == first), "{ha}: {all:?}");
        }
    }

    #[test]
    fn where_priorities_are_configured_nobody_knows() {
        assert_eq!(preferring("acme/1", AS_IT_IS).into_values().collect::<Vec<_>>(), [(150, None), (150, None)]);
    }
}
