//! Gateways that share HaVips: which shards there are, and which node has which part in them.

use super::{Eni, Gateway, Topology, Wiring, containers, number};
use crate::model::rendezvous;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// What the gateways of one group have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Between two advertisements, in milliseconds.
    pub interval_ms: u64,
    /// For how long a better node lets another be Active, in milliseconds.
    #[serde(default)]
    pub preempt_ms: u64,
    pub shards: Vec<HaVips>,
    /// Machines on which no gateway runs: they are on nobody's list.
    #[serde(default)]
    pub absent: BTreeSet<String>,
    /// Nodes that are about to go.
    #[serde(default)]
    pub leaving: BTreeSet<String>,
    /// The lab's directory says who is in it, and no file.
    #[serde(default)]
    pub by_directory: bool,
}

/// A shard's two addresses, which whoever is Active owns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HaVips {
    pub tenant: String,
    pub shard: u8,
    pub vrid: u8,
    /// What function hosts send tunnel packets to.
    pub platform: Ipv4Addr,
    /// The source that the tenant's server sees.
    pub inside: Ipv4Addr,
}

/// A shard of a tenant as hosts and servers know it, whether one node serves it or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    pub shard: u8,
    /// What function hosts name as its gateway.
    pub gateway: Ipv4Addr,
    /// The source that the tenant's server sees.
    pub source: Ipv4Addr,
    /// The nodes that may serve it.
    pub nodes: Vec<String>,
}

/// Gateways that a group has addresses for: their own in a VPC are 172.16.101.4 to .9.
const MOST_GATEWAYS: usize = 6;
/// Shards of a tenant that a group has addresses for: the tenant's HaVips are 172.16.101.10 to .19.
const MOST_SHARDS: usize = 10;
/// All shards of a group: the platform's HaVips are 10.9.0.50 to .99.
const MOST_HAVIPS: usize = 50;

impl Topology {
    /// `gateways` nodes `gw-1`, `gw-2`, ... (1 to 6), all in every tenant's VPC, that share `shards` (1 to 10) HaVips of
    /// each tenant; on each host a container of each tenant. The nth shard has VRID 51 + n and platform HaVip 10.9.0.(50 + n).
    pub fn group(tenants: &[&str], gateways: usize, shards: usize, hosts: &[Wiring]) -> Self {
        assert!((1..=MOST_GATEWAYS).contains(&gateways) && (1..=MOST_SHARDS).contains(&shards), "more than a group has addresses for");
        assert!(tenants.len() * shards <= MOST_HAVIPS, "at most {MOST_HAVIPS} HaVips");
        let havips = |n: usize| HaVips {
            tenant: tenants[n / shards].to_owned(),
            shard: number(n % shards),
            vrid: 51 + number(n),
            platform: Ipv4Addr::new(10, 9, 0, 50 + number(n)),
            inside: Ipv4Addr::new(172, 16, 101, 10 + number(n % shards)),
        };
        let shards = (0..tenants.len() * shards).map(havips).collect();
        let group =
            Group { interval_ms: 100, preempt_ms: 0, shards, absent: BTreeSet::new(), leaving: BTreeSet::new(), by_directory: false };
        let gateways = (0..gateways).map(|n| member(tenants, number(n))).collect();
        Self { gateways, group: Some(group), ..Self::of(tenants, hosts) }
    }

    /// A group with `each` containers of each tenant on each host, pinned to the tenant's shards in turn.
    #[must_use]
    pub fn with_containers(mut self, each: usize) -> Self {
        let names: Vec<String> = self.tenants.iter().flat_map(|t| std::iter::repeat_n(t.name.clone(), each)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.containers = containers(&self.hosts, &names);
        for (n, container) in self.containers.iter_mut().enumerate() {
            let shards = self.group.iter().flat_map(|g| &g.shards).filter(|s| s.tenant == container.tenant).count();
            container.shard = (shards > 0).then(|| number(n % each % shards.max(1)));
        }
        self
    }

    /// A group that advertises at another interval.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.group.iter_mut().for_each(|group| group.interval_ms = milliseconds(interval));
        self
    }

    /// With WireGuard: hosts and gateways ask a directory.
    #[must_use]
    pub fn with_directory(mut self) -> Self {
        self.directory = true;
        self
    }

    /// The same, and the directory says who is in the group.
    #[must_use]
    pub fn with_group_by_directory(mut self) -> Self {
        self.group.iter_mut().for_each(|group| group.by_directory = true);
        self.with_directory()
    }

    /// With WireGuard: so many more peers.
    #[must_use]
    pub fn with_swarm(mut self, members: u16) -> Self {
        self.swarm = members;
        self
    }

    /// A group whose shards go home this long after their node is back.
    #[must_use]
    pub fn with_preempt(mut self, wait: Duration) -> Self {
        self.group.iter_mut().for_each(|group| group.preempt_ms = milliseconds(wait));
        self
    }

    /// A group in which this node does not take part yet.
    #[must_use]
    pub fn with_absent(mut self, node: &str) -> Self {
        self.group.iter_mut().for_each(|group| _ = group.absent.insert(node.to_owned()));
        self
    }

    /// The gateways that run.
    pub fn members(&self) -> impl Iterator<Item = &Gateway> {
        self.gateways.iter().filter(|gateway| !self.group.iter().any(|group| group.absent.contains(&gateway.node)))
    }

    /// Where each shard of a group belongs.
    pub fn homes(&self) -> BTreeMap<(String, u8), String> {
        let stays = |gateway: &&Gateway| !self.group.iter().any(|group| group.leaving.contains(&gateway.node));
        let home = |of: &HaVips| {
            let name = format!("{}/{}", of.tenant, of.shard);
            let nodes = self.members().filter(stays).map(|gateway| gateway.node.clone());
            Some(((of.tenant.clone(), of.shard), nodes.max_by_key(|node| rendezvous(&name, node))?))
        };
        self.group.iter().flat_map(|group| &group.shards).filter_map(home).collect()
    }

    /// The shards of a tenant.
    pub fn shards_of(&self, tenant: &str) -> Vec<Shard> {
        let serving: Vec<(&Gateway, &Eni)> = self.gateways_of(tenant).collect();
        match &self.group {
            Some(group) => {
                let shard = |s: &HaVips| Shard {
                    shard: s.shard,
                    gateway: s.platform,
                    source: s.inside,
                    nodes: serving.iter().map(|(g, _)| g.node.clone()).collect(),
                };
                group.shards.iter().filter(|s| s.tenant == tenant).map(shard).collect()
            }
            None => {
                let shard = |(n, (g, eni)): (usize, &(&Gateway, &Eni))| Shard {
                    shard: number(n),
                    gateway: g.outer,
                    source: eni.snat,
                    nodes: vec![g.node.clone()],
                };
                serving.iter().enumerate().map(shard).collect()
            }
        }
    }

    /// A gateway's configured priority for a tenant's only shard, by its place in a pair: 200, then 100. Elsewhere the
    /// shards are spread by themselves.
    pub fn priority(&self, gateway: &Gateway, tenant: &str) -> Option<u8> {
        let one = self.shards_of(tenant).len() == 1 && self.gateways.len() == 2;
        let place = self.gateways.iter().position(|g| g.node == gateway.node)?;
        one.then_some(if place == 0 { 200 } else { 100 })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("less than an age")
}

fn member(tenants: &[&str], n: u8) -> Gateway {
    let eni = |(t, tenant): (usize, &&str)| Eni {
        tenant: (*tenant).to_owned(),
        interface: format!("eni{t}"),
        address: Ipv4Addr::new(172, 16, 101, 4 + n),
        snat: Ipv4Addr::new(172, 16, 101, 10),
    };
    Gateway { node: format!("gw-{}", n + 1), outer: Ipv4Addr::new(10, 9, 0, 1 + n), enis: tenants.iter().enumerate().map(eni).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_parts_of_a_group_share_an_address_or_a_vrid() {
        let lab = Topology::group(&["acme", "blue"], MOST_GATEWAYS, MOST_SHARDS, &[Wiring::Veth; 3]).with_containers(10);
        let group = lab.group.as_ref().unwrap();
        let vrids: BTreeSet<u8> = group.shards.iter().map(|s| s.vrid).collect();
        assert_eq!(vrids.len(), 20);
        let outer =
            lab.gateways.iter().map(|g| g.outer).chain(lab.hosts.iter().map(|h| h.outer)).chain(group.shards.iter().map(|s| s.platform));
        assert_eq!(outer.collect::<BTreeSet<_>>().len(), 6 + 3 + 20);
        for tenant in &lab.tenants {
            let own = lab.gateways_of(&tenant.name).map(|(_, eni)| eni.address);
            let inside: BTreeSet<_> = own.chain(lab.shards_of(&tenant.name).iter().map(|s| s.source)).chain([tenant.server]).collect();
            assert_eq!(inside.len(), 6 + 10 + 1);
            let pinned: BTreeSet<_> = lab.containers.iter().filter(|c| c.tenant == tenant.name).map(|c| c.shard).collect();
            assert_eq!(pinned.len(), 10);
        }
    }

    #[test]
    fn without_a_group_every_gateway_is_a_shard() {
        let lab = Topology::apart();
        let shard =
            Shard { shard: 0, gateway: Ipv4Addr::new(10, 9, 0, 2), source: Ipv4Addr::new(172, 16, 101, 10), nodes: vec!["gw-blue".into()] };
        assert_eq!(lab.shards_of("blue"), [shard]);
    }

    #[test]
    fn a_pair_with_one_shard_has_priorities_and_nobody_else() {
        let of = |gateways, shards| {
            let lab = Topology::group(&["acme"], gateways, shards, &[]);
            lab.gateways.iter().map(|g| lab.priority(g, "acme")).collect::<Vec<_>>()
        };
        assert_eq!(of(2, 1), [Some(200), Some(100)]);
        assert_eq!(of(3, 1), [None; 3]);
        assert_eq!(of(2, 4), [None; 2]);
    }
}
