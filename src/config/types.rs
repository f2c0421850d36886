//! The configuration as validated values. `load` makes them from YAML; nothing else does.

use super::cloud::{Attach, Aws};
use super::flow_log::FlowLog;
use super::lifecycle::InstanceMetadata;
use super::registry::{DirectoryAt, HostDirectory};
use super::tunnel::{GatewayTunnel, HostKey, HostTunnel, PeerEnd, TunnelKind};
use crate::model::{
    AdvertInterval, ChecksumForm, Cost, HostName, IfName, KeyId, NodeName, PoolName, Pools, PortRange, Priority, ShardId, TenantName,
    TenantShard, Vrid, VrrpVersion, rendezvous,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The fewest bytes that a packet inside a tunnel must be allowed to have (RFC 8200 section 5, so that IPv6 will fit).
pub const MIN_INNER_MTU: u32 = 1280;

/// One file: exactly one role.
#[derive(Debug, Clone, PartialEq)]
pub enum Config {
    Gateway(Gateway),
    Host(Host),
    Directory(super::Directory),
    Autoscaler(Box<super::Autoscaler>),
}

impl Config {
    /// As its key and the subcommand that runs it are called.
    pub fn role(&self) -> &'static str {
        match self {
            Config::Gateway(_) => "gateway",
            Config::Host(_) => "host",
            Config::Directory(_) => "directory",
            Config::Autoscaler(_) => "autoscaler",
        }
    }
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
    /// By which names `admin` is called beside addresses, names of one label, and those of `localhost` and `internal` (`daemon::names`).
    pub admin_names: BTreeSet<HostName>,
    /// Unset: this node alone, with addresses of its own.
    pub ha: Option<Ha>,
    pub tenants: Vec<GatewayTenant>,
    /// The function hosts that may send, when there is no directory (`peers: {static: [...]}`).
    pub peers: Vec<StaticPeer>,
    /// Who knows the other function hosts. With WireGuard tunnels only.
    pub directory: Option<DirectoryAt>,
    /// How long a peer that came by the directory may be silent until it is taken from the tunnel; it comes back as easily. 1 s to 24 h, default 5 min.
    pub idle: Duration,
    /// Unset: none is written.
    pub flow_log: Option<FlowLog>,
    /// Unset: HaVips follow ARP, or neighbour discovery.
    pub cloud: Option<Box<Aws>>,
}

/// The side toward the other end of the tunnels.
#[derive(Debug, Clone, PartialEq)]
pub struct Platform {
    pub interface: IfName,
    /// The outer address of this node's tunnels.
    pub address: IpAddr,
    /// Bytes that an outer packet may have: 1,280 and [`TunnelKind::overhead`] to 65,535; unset, the interface's MTU.
    pub mtu: Option<u32>,
    pub tunnel: TunnelKind,
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
    /// The interface in the tenant's subnet (the ENI).
    pub interface: IfName,
    /// The next hop toward allowed CIDRs outside the interface's own subnets; unset, they are on the link.
    pub router: Option<IpAddr>,
    pub allow: Vec<Allow>,
    /// With `ha` all shards of the tenant, served here or not; without, one that is the node itself.
    pub shards: Vec<GatewayShard>,
    /// Where this tenant's inner addresses come from; every peer's inner prefix for this tenant lies in it.
    pub inner: IpNet,
    /// What all its shards depend on, beside the interfaces of both sides. Empty without `ha`.
    pub track: Vec<Tracked>,
}

/// The unit that fails over: a pair of addresses and the connections through them.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayShard {
    pub shard: ShardId,
    /// The outer address of its tunnels: the platform HaVip; without `ha`, the node's own.
    pub local: IpAddr,
    pub tunnel: GatewayTunnel,
    /// To the tenant HaVip; without `ha`, as the tenant's `snat` says.
    pub snat: Snat,
    /// None without `ha`.
    pub havip: Option<HaVip>,
}

/// How the two addresses of a shard are shared: [`GatewayShard::local`] and the address of its [`Snat::To`] move together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HaVip {
    pub vrid: Vrid,
    /// Of this node, 1 to 254 (255, an owner, never gives way). Unset: by the rank of this node among the shard's candidates.
    pub priority: Option<Priority>,
}

/// `ha:` who shares the addresses with whom, and how (RFC 9568).
#[derive(Debug, Clone, PartialEq)]
pub struct Ha {
    /// All gateways of the group, this one among them, with the addresses that they advertise from: their platform addresses.
    pub nodes: BTreeMap<NodeName, IpAddr>,
    /// Those of them that are about to go: candidates for no shard. What they have they keep until others have it.
    pub leaving: BTreeSet<NodeName>,
    /// None: the file lists the nodes, and each may serve every shard. Else the directory does (`nodes: directory`): which shards each of them may
    /// serve. Empty, with no node but this one, until it has said so.
    pub eligible: Option<BTreeMap<NodeName, BTreeSet<TenantShard>>>,
    /// Between advertisements, the same on all nodes. Default 100 ms, in version 2 its least, 1 s.
    pub interval: AdvertInterval,
    pub version: VrrpVersion,
    /// The form that is sent; all are taken. Version 2 knows the one over the message only.
    pub checksum: ChecksumForm,
    pub cast: Cast,
    /// How long a node of higher priority waits, in sync, until it takes over; none: it never does. Default zero.
    pub preempt: Option<Duration>,
    /// Whether the machine itself answers (pings, say) at HaVips (RFC 9568 section 6.1, Accept_Mode). Default false.
    pub accept: bool,
    pub authentication: Authentication,
    /// One or two; the first signs, both are taken.
    pub keys: Vec<KeyFile>,
    /// The UDP port of state sync. Default 3790.
    pub sync_port: u16,
    /// What all shards depend on: interfaces and scripts.
    pub track: Vec<Tracked>,
    /// Who may take this node's machine away, and says so there.
    pub lifecycle: Option<Box<InstanceMetadata>>,
    /// Not of the file: shards that this node has, or keeps the connections of, although it is no candidate any more, until the candidates have them.
    pub retained: BTreeSet<TenantShard>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cast {
    /// To each node of the group.
    #[default]
    Unicast,
    /// To 224.0.0.18.
    Multicast,
}

/// Of advertisements. State sync is always authenticated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Authentication {
    /// An HMAC-SHA256 trailer; what has none is dropped.
    #[default]
    Hmac,
    /// For VRRP routers of other makes: whoever can send from a peer's address is believed.
    None,
}

/// Where a key is: a file with 64 to 128 hexadecimal digits, as `openssl rand -hex 32` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    pub id: KeyId,
    pub file: PathBuf,
}

/// Something that shards depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    pub watched: Watched,
    pub cost: Cost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Whether it runs.
    Interface(IfName),
    Probe(Probe),
}

/// A check that is made again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub target: Target,
    /// From the beginning of one to that of the next, 100 ms to 1 h; not before the one before has ended. Default 1 s.
    pub every: Duration,
    /// 10 ms to 1 min. Default 500 ms, of a script 2 s.
    pub timeout: Duration,
    /// Good results in a row until it is up, 1 to 100. Default 2.
    pub rise: u32,
    /// Bad results in a row until it is down, 1 to 100. Default 3.
    pub fall: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A connection can be opened.
    Tcp(SocketAddr),
    /// `GET` is answered as expected.
    Http(HttpCheck),
    /// An echo request is answered.
    Icmp(IpAddr),
    /// It ends with 0. The path is absolute.
    Script { file: PathBuf, args: Vec<String> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    pub at: SocketAddr,
    /// With the query; begins with a slash.
    pub path: String,
    pub expect: StatusRange,
}

/// Statuses of HTTP, both ends included, 100 to 599. Default: any 2xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    pub first: u16,
    pub last: u16,
}

impl StatusRange {
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl Default for StatusRange {
    fn default() -> Self {
        Self { first: 200, last: 299 }
    }
}

/// As `status` and metrics call it; of what a tenant tracks, no two are called the same.
impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watched::Interface(name) => write!(f, "interface {name}"),
            Watched::Probe(probe) => probe.target.fmt(f),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(at) => write!(f, "tcp {at}"),
            Target::Http(check) => write!(f, "http://{}{}", check.at, check.path),
            Target::Icmp(address) => write!(f, "icmp {address}"),
            Target::Script { file, args } => {
                write!(f, "script {}", file.display())?;
                args.iter().try_for_each(|arg| write!(f, " {arg}"))
            }
        }
    }
}

impl Gateway {
    /// The shards that this node is a candidate for, or has, or keeps for those who are.
    pub fn served(&self) -> impl Iterator<Item = (&GatewayTenant, &GatewayShard)> {
        let all = self.tenants.iter().flat_map(|tenant| tenant.shards.iter().map(move |shard| (tenant, shard)));
        all.filter(|(tenant, shard)| match &self.ha {
            None => true,
            Some(ha) => ha.serves(&self.node, &tenant.of(shard.shard)),
        })
    }

    /// Those of them whose HaVips move between the nodes of the group.
    pub fn shared(&self) -> impl Iterator<Item = (&GatewayTenant, &GatewayShard)> {
        self.served().filter(|(_, shard)| shard.havip.is_some())
    }

    /// What this node takes for an interface of a tenant's. None: the interface is there.
    pub fn attach(&self, tenant: &TenantName) -> Option<&Attach> {
        self.cloud.as_ref()?.tenants.get(tenant)?.attach.as_ref()
    }
}

impl GatewayTenant {
    pub fn of(&self, shard: ShardId) -> TenantShard {
        TenantShard { tenant: self.name.clone(), shard }
    }
}

impl Ha {
    /// Clouds bind few machines to an address, and each more is one more copy of every flow.
    pub const CANDIDATES: usize = 2;

    /// What the candidates of a shard have for a priority, unless one is configured, the preferred first: 200 and 100, VRRP's default.
    pub const PRIORITIES: [Priority; Self::CANDIDATES] = [Priority(200), Priority::DEFAULT];

    /// What `node` advertises for a shard: the priority that is configured for it, else by its rank among the candidates. Who is no
    /// candidate comes last, whatever is configured: it is to be relieved.
    pub fn priority(&self, node: &NodeName, of: &TenantShard, configured: Option<Priority>) -> Priority {
        let rank = self.candidates(of).iter().position(|candidate| *candidate == node);
        rank.map_or(Priority::LOWEST, |rank| configured.unwrap_or(Self::PRIORITIES[rank]))
    }

    /// What a node that has served these goes on with although it is no candidate of them any more: who has come in its place knows nothing yet.
    pub fn retain(&mut self, node: &NodeName, served: impl IntoIterator<Item = TenantShard>) {
        // Nobody would be heard who has taken over meanwhile.
        let known = self.eligible.as_ref().is_none_or(|eligible| !eligible.is_empty());
        self.retained = served.into_iter().filter(|of| known && !self.candidates(of).contains(&node)).collect();
    }

    /// Whether the directory says who the nodes are.
    pub fn by_directory(&self) -> bool {
        self.eligible.is_some()
    }

    fn may_serve(&self, node: &NodeName, of: &TenantShard) -> bool {
        self.eligible.as_ref().is_none_or(|eligible| eligible.get(node).is_some_and(|shards| shards.contains(of)))
    }

    pub fn serves(&self, node: &NodeName, of: &TenantShard) -> bool {
        self.candidates(of).contains(&node) || self.retained.contains(of)
    }

    /// Who may be Active for a shard, the preferred first. A node that comes or goes changes as few of these lists as can be.
    pub fn candidates(&self, of: &TenantShard) -> Vec<&NodeName> {
        let name = of.to_string();
        let stay = self.nodes.keys().filter(|node| !self.leaving.contains(*node));
        let mut nodes: Vec<&NodeName> = stay.filter(|node| self.may_serve(node, of)).collect();
        nodes.sort_by_cached_key(|node| std::cmp::Reverse(rendezvous(&name, node.as_str())));
        nodes.truncate(Self::CANDIDATES);
        nodes
    }
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

impl Snat {
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Snat::To { address, .. } => Some(*address),
            Snat::Masquerade { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticPeer {
    pub host: NodeName,
    #[serde(flatten)]
    pub end: PeerEnd,
    /// The only inner sources, by shard: an inner address belongs to one.
    pub inner: BTreeMap<TenantShard, Vec<IpNet>>,
}

impl StaticPeer {
    /// With GRE, its outer address.
    pub fn outer(&self) -> Option<IpAddr> {
        if let PeerEnd::Gre { outer } = self.end { Some(outer) } else { None }
    }
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
    /// By which names `admin` is called beside addresses, names of one label, and those of `localhost` and `internal` (`daemon::names`).
    pub admin_names: BTreeSet<HostName>,
    /// With WireGuard tunnels.
    pub wireguard: Option<HostKey>,
    /// Who knows the gateways. With WireGuard tunnels only.
    pub directory: Option<HostDirectory>,
    /// Those without shards have the directory's.
    pub tenants: Vec<HostTenant>,
    /// Unset: none is written.
    pub flow_log: Option<FlowLog>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct HostTenant {
    pub name: TenantName,
    /// The destinations that go into the tunnel.
    pub cidrs: Vec<IpNet>,
    pub shards: Vec<HostShard>,
    /// None: a function goes through any shard, if the directory says nothing else.
    pub egress: Option<Pools>,
    /// Shards of the directory that are not served for now.
    pub left_out: BTreeSet<ShardId>,
}

impl Host {
    /// The shards that this node has a tunnel to.
    pub fn served(&self) -> impl Iterator<Item = (&HostTenant, &HostShard)> {
        self.tenants.iter().flat_map(|tenant| tenant.shards.iter().map(move |shard| (tenant, shard)))
    }
}

impl HostTenant {
    /// The pools that a shard is in.
    pub fn pools_of(&self, shard: ShardId) -> Vec<&PoolName> {
        self.egress.iter().flat_map(Pools::iter).filter(|(_, shards)| shards.contains(&shard)).map(|(pool, _)| pool).collect()
    }

    pub fn of(&self, shard: ShardId) -> TenantShard {
        TenantShard { tenant: self.name.clone(), shard }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct HostShard {
    pub shard: ShardId,
    /// The gateway's outer address.
    pub gateway: IpAddr,
    pub tunnel: HostTunnel,
    /// This host's inner address in this shard; pod addresses are translated to it.
    pub inner: IpAddr,
}
