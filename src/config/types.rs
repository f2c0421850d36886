//! The configuration as validated values. `load` makes them from YAML; nothing else does.

use crate::model::{GreKey, IfName, NodeName, PortRange, ShardId, TenantName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Bytes that a tunnel adds to a packet: IPv4 header 20 (RFC 791), GRE header with a key 8 (RFC 2890 section 2).
pub const TUNNEL_OVERHEAD: u32 = 20 + 8;

/// The fewest bytes that a packet inside a tunnel must be allowed to have (RFC 8200 section 5, so that IPv6 will fit).
pub const MIN_INNER_MTU: u32 = 1280;

/// One file: exactly one role.
#[derive(Debug, Clone, PartialEq)]
pub enum Config {
    Gateway(Gateway),
    Host(Host),
}

/// `gateway:` a proxy machine at a tenant VPC's edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    pub node: NodeName,
    pub platform: Platform,
    pub backend: Backend,
    /// Where the control socket and what must outlive the process are kept; absolute, at most 80 bytes. Default `/run/portway`.
    pub runtime_dir: PathBuf,
    /// `/metrics`, `/healthz`, `/readyz`. Default 127.0.0.1:9470.
    pub admin: SocketAddr,
    pub tenants: Vec<GatewayTenant>,
    /// The function hosts that may send, when there is no directory (`peers: {static: [...]}`).
    pub peers: Vec<StaticPeer>,
}

/// The side toward the other end of the tunnels.
#[derive(Debug, Clone, PartialEq)]
pub struct Platform {
    pub interface: IfName,
    /// The outer address of this node's tunnels.
    pub address: IpAddr,
    /// Bytes that an outer packet may have: 1,308 (1,280 and [`TUNNEL_OVERHEAD`]) to 65,535; unset, the interface's MTU.
    pub mtu: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Kernel tunnels where the kernel has them, else userspace.
    #[default]
    Auto,
    Kernel,
    Userspace,
}

#[derive(Debug, Clone, PartialEq)]
pub struct GatewayTenant {
    pub name: TenantName,
    /// The GRE key of this tenant's tunnels, the same on its function hosts. No two tenants of a node share one.
    pub key: GreKey,
    /// The interface in the tenant's subnet (the ENI).
    pub interface: IfName,
    /// The next hop toward allowed CIDRs outside the interface's own subnets; unset, they are on the link.
    pub router: Option<IpAddr>,
    pub allow: Vec<Allow>,
    pub snat: Snat,
    /// Where this tenant's inner addresses come from; every peer's inner prefix for this tenant lies in it.
    pub inner: IpNet,
}

/// Destinations that functions of a tenant may reach. What no entry allows is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Allow {
    pub to: IpNet,
    /// Sorted, disjoint and not adjacent, as in `udp`. Empty: none.
    pub tcp: Vec<PortRange>,
    pub udp: Vec<PortRange>,
    pub icmp: bool,
}

/// The source that the tenant's servers see.
#[derive(Debug, Clone, PartialEq)]
pub enum Snat {
    /// One fixed address, ports from this range, picked at random. Default 1024-65535.
    To { address: IpAddr, ports: PortRange },
    /// The interface's own address. Default when no address is given.
    Masquerade { ports: PortRange },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticPeer {
    pub host: NodeName,
    /// The only source that this host's tunnel packets may have.
    pub outer: IpAddr,
    /// The only inner sources, by tenant.
    pub inner: BTreeMap<TenantName, Vec<IpNet>>,
}

/// `host:` a machine that runs functions of many tenants.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    pub node: NodeName,
    pub platform: Platform,
    pub backend: Backend,
    /// As a gateway's.
    pub runtime_dir: PathBuf,
    /// As a gateway's. Default 127.0.0.1:9471.
    pub admin: SocketAddr,
    pub tenants: Vec<HostTenant>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct HostTenant {
    pub name: TenantName,
    pub key: GreKey,
    /// The destinations that go into the tunnel.
    pub cidrs: Vec<IpNet>,
    pub shards: Vec<HostShard>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct HostShard {
    pub shard: ShardId,
    /// The gateway's outer address.
    pub gateway: IpAddr,
    /// This host's inner address in this shard; pod addresses are translated to it.
    pub inner: IpAddr,
}
