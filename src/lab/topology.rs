//! Who is in a lab and which addresses they have. Data only: [`super::wiring`] makes interfaces of it,
//! [`super::configs`] the daemons' configuration, [`super::picture`] the drawing.
//!
//! Every tenant's VPC has the same CIDR on purpose: telling overlapping tenants apart is the product.

mod group;

pub use group::{Group, HaVips, Shard};

use crate::config::TunnelKind;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The switch that joins function hosts and gateways; a namespace with a bridge in it.
pub const PLATFORM: &str = "platform";
/// The platform's own address on that network, used by the decoy only.
pub const PLATFORM_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 254);
/// The tenant that the decoy claims to be.
pub const NOBODY: &str = "nobody";
/// The interface toward the platform, on hosts and gateways.
pub const PLATFORM_IF: &str = "plat0";
/// Where clouds answer for instance metadata. In a lab every VPC answers for it, so that only policy keeps functions out.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Tenants or hosts that a lab has addresses for: the 24th tenant's inner prefix is 10.87.0.0/16, the containers' is 10.88.0.0/16.
pub const MOST: usize = 24;

/// Ports that servers in the VPCs listen on.
pub mod port {
    /// HTTP, allowed.
    pub const HTTP: u16 = 80;
    /// HTTP too, and in nobody's `allow`.
    pub const FORBIDDEN: u16 = 8080;
    pub const IPERF: u16 = 5201;
    /// TCP echo and UDP echo.
    pub const ECHO: u16 = 5202;
    /// TCP and UDP of [`Flows`](super::super::Flows), while there are any.
    pub const FLOWS: u16 = 5203;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    pub tenants: Vec<Tenant>,
    pub gateways: Vec<Gateway>,
    pub hosts: Vec<Host>,
    pub containers: Vec<Container>,
    /// The hosts' main tables lead the tenants' CIDR to a server that belongs to nobody. A packet that falls
    /// through its tenant's table reaches it, and is seen to have leaked.
    pub decoy: bool,
    /// `rp_filter` of hosts and gateways: 0, 1 strict, 2 loose. Distributions differ; strict is the hardest.
    pub rp_filter: u8,
    /// The gateways are one group that shares HaVips. Without it, each gateway is a shard of every tenant it serves.
    #[serde(default)]
    pub group: Option<Group>,
    #[serde(default)]
    pub tunnel: TunnelKind,
    /// Gateways and hosts ask a directory on the platform who is who.
    #[serde(default)]
    pub directory: bool,
    /// Further peers of the first tenant's first shard, at the first host: [`super::swarm`].
    #[serde(default)]
    pub swarm: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    pub name: String,
    pub key: u32,
    pub vpc: Ipv4Net,
    pub inner: Ipv4Net,
    /// The server's address: the same in every VPC.
    pub server: Ipv4Addr,
    /// A second address of the server that no other VPC has: whoever of another tenant gets an answer from it is in the wrong VPC.
    pub own: Ipv4Addr,
}

impl Tenant {
    /// The namespace of this tenant's VPC: its switch and its server in one.
    pub fn node(&self) -> String {
        format!("db-{}", self.name)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    pub node: String,
    /// The outer address of its tunnels.
    pub outer: Ipv4Addr,
    /// One interface in each VPC that it serves.
    pub enis: Vec<Eni>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Eni {
    pub tenant: String,
    pub interface: String,
    pub address: Ipv4Addr,
    /// The source that the tenant's server sees; the daemon puts it on the interface. Unused where the gateways share
    /// HaVips: there it is the shard's.
    pub snat: Ipv4Addr,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub node: String,
    pub outer: Ipv4Addr,
    pub wiring: Wiring,
}

/// How a host's containers are joined to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wiring {
    /// A veth each, as CNI's `ptp` makes them.
    Veth,
    /// Ports of one bridge, as CNI's `bridge` makes them.
    Bridge,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub node: String,
    pub host: String,
    pub tenant: String,
    pub address: Ipv4Addr,
    /// The host's end of its veth.
    pub port: String,
    pub attach: Attach,
    /// The shard it is pinned to; otherwise its name decides.
    #[serde(default)]
    pub shard: Option<u8>,
}

impl Container {
    /// The host's address on the container's network, its default route.
    pub fn first_hop(&self) -> Ipv4Addr {
        let [a, b, c, _] = self.address.octets();
        Ipv4Addr::new(a, b, c, 1)
    }
}

/// Which form of the host's API attaches a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attach {
    Interface,
    InterfaceAndSource,
    Netns,
}

impl Topology {
    /// Two tenants, two gateways that share their HaVips, two function hosts with a container of each tenant; every form of attachment.
    pub fn demo() -> Self {
        Self::group(&["acme", "blue"], 2, 1, &[Wiring::Veth, Wiring::Bridge]).with_every_attachment()
    }

    /// As [`Topology::demo`] with a gateway for each tenant, `gw-acme` and `gw-blue`, that shares nothing with the other.
    pub fn apart() -> Self {
        Self::of(&["acme", "blue"], &[Wiring::Veth, Wiring::Bridge]).with_every_attachment()
    }

    fn with_every_attachment(mut self) -> Self {
        use Attach::*;
        for (container, attach) in self.containers.iter_mut().zip([Interface, Netns, InterfaceAndSource, InterfaceAndSource]) {
            container.attach = attach;
        }
        self
    }

    /// `tenants` tenants with one CIDR (1 to 24), all of them on one host, and the decoy.
    pub fn overlap(tenants: usize) -> Self {
        let names: Vec<String> = (1..=tenants).map(|n| format!("t{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Self { decoy: true, ..Self::of(&names, &[Wiring::Veth]) }
    }

    /// A gateway for each tenant, and on each host a container of each tenant.
    pub fn of(tenants: &[&str], hosts: &[Wiring]) -> Self {
        assert!(tenants.len() <= MOST && hosts.len() <= MOST, "a lab's addresses are for up to {MOST} tenants and hosts");
        let hosts: Vec<Host> = hosts
            .iter()
            .enumerate()
            .map(|(h, wiring)| Host { node: format!("host-{}", h + 1), outer: Ipv4Addr::new(10, 9, 0, 101 + number(h)), wiring: *wiring })
            .collect();
        Self {
            tenants: tenants.iter().enumerate().map(|(t, name)| tenant(name, number(t))).collect(),
            gateways: tenants.iter().enumerate().map(|(t, name)| gateway(name, number(t))).collect(),
            containers: containers(&hosts, tenants),
            hosts,
            decoy: false,
            rp_filter: 1,
            group: None,
            tunnel: TunnelKind::default(),
            directory: false,
            swarm: 0,
        }
    }

    pub fn with_tunnel(self, tunnel: TunnelKind) -> Self {
        Self { tunnel, ..self }
    }

    /// The UDP port of a shard's WireGuard, no other shard's of the lab.
    pub fn port(&self, tenant: &str, shard: u8) -> u16 {
        let place = self.tenants.iter().position(|t| t.name == tenant).map_or(0, number);
        51820 + 16 * u16::from(place) + u16::from(shard)
    }

    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|t| t.name == name)
    }

    pub fn host(&self, node: &str) -> Option<&Host> {
        self.hosts.iter().find(|h| h.node == node)
    }

    pub fn container(&self, node: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.node == node)
    }

    /// The gateways of a tenant with their interface in its VPC.
    pub fn gateways_of<'a>(&'a self, tenant: &'a str) -> impl Iterator<Item = (&'a Gateway, &'a Eni)> + 'a {
        self.gateways.iter().filter_map(move |g| g.enis.iter().find(|e| e.tenant == tenant).map(|e| (g, e)))
    }

    /// The inner address of a host in one shard of a tenant: the tenant's prefix, then the shard, then the host.
    pub fn inner(&self, tenant: &Tenant, shard: u8, host: &Host) -> Ipv4Addr {
        let [a, b, ..] = tenant.inner.addr().octets();
        Ipv4Addr::new(a, b, shard, host.outer.octets()[3])
    }

    /// Every namespace, the platform first.
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes = vec![PLATFORM.to_owned()];
        nodes.extend(self.hosts.iter().map(|h| h.node.clone()));
        nodes.extend(self.containers.iter().map(|c| c.node.clone()));
        nodes.extend(self.gateways.iter().map(|g| g.node.clone()));
        nodes.extend(self.tenants.iter().map(Tenant::node));
        nodes
    }
}

fn number(n: usize) -> u8 {
    u8::try_from(n).expect("a lab counts nothing beyond 255")
}

/// On each host a container for each name of a tenant; a tenant named twice has two.
fn containers(hosts: &[Host], tenants: &[&str]) -> Vec<Container> {
    let places = (0..hosts.len()).flat_map(|h| (0..tenants.len()).map(move |t| (h, t)));
    let container = |(h, t): (usize, usize)| {
        let letter = char::from(b'a' + number(t));
        Container {
            node: format!("fn-{}{letter}", h + 1),
            host: hosts[h].node.clone(),
            tenant: tenants[t].to_owned(),
            address: Ipv4Addr::new(10, 88, number(h) + 1, number(t) + 2),
            port: format!("fn{}{letter}", h + 1),
            attach: Attach::Interface,
            shard: None,
        }
    };
    places.map(container).collect()
}

fn tenant(name: &str, number: u8) -> Tenant {
    Tenant {
        name: name.to_owned(),
        key: 7 + u32::from(number),
        vpc: Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 16),
        inner: Ipv4Net::new_assert(Ipv4Addr::new(10, 64 + number, 0, 0), 16),
        server: Ipv4Addr::new(172, 16, 101, 20),
        own: Ipv4Addr::new(172, 16, 200, 1 + number),
    }
}

fn gateway(tenant: &str, number: u8) -> Gateway {
    let eni = Eni {
        tenant: tenant.to_owned(),
        interface: "eni0".to_owned(),
        address: Ipv4Addr::new(172, 16, 101, 4),
        snat: Ipv4Addr::new(172, 16, 101, 10),
    };
    Gateway { node: format!("gw-{tenant}"), outer: Ipv4Addr::new(10, 9, 0, 1 + number), enis: vec![eni] }
}
