//! The part of the kernel's state that Portway owns, as values that can be compared.
//!
//! Ownership (what `observe` reads, and what a removal may touch):
//! interfaces named `pw-*` and the addresses, neighbours and routes on them; routes with [`ROUTE_PROTOCOL`] in tables
//! 0x70000-0x7ffff; rules with priorities 7000-7999; the nftables tables named `portway`; the sysctls of the
//! interfaces that the configuration names and `fwmark_reflect`, whose former values are kept and given back.

use crate::model::{GreKey, IfName, Mark, PrivateKey, PublicKey};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Ruleset;

/// The route protocol number of every route that Portway adds (`rtm_protocol`; unassigned in iproute2's rt_protos).
pub const ROUTE_PROTOCOL: u8 = 0x70;

/// All that Portway owns in one network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub tables: BTreeMap<NftTable, Ruleset>,
    pub sysctls: BTreeMap<Sysctl, String>,
    pub links: BTreeMap<IfName, Link>,
    pub addresses: BTreeSet<(IfName, IpNet)>,
    /// (interface, address on it) -> link-layer address, which for GRE is the outer address. Permanent entries only.
    pub neighbours: BTreeMap<(IfName, IpAddr), IpAddr>,
    /// Of the kernel's WireGuard interfaces.
    pub wireguard: BTreeMap<(IfName, PublicKey), WireguardPeer>,
    pub routes: BTreeMap<RouteKey, Route>,
    pub rules: BTreeSet<Rule>,
    /// What stands in the named sets and maps of our tables.
    pub elements: BTreeMap<SetName, BTreeMap<Element, Option<Mark>>>,
    /// Interfaces at which packets of established connections take the short way past routing and rules (the flow table of
    /// `table inet portway`, Documentation/networking/nf_flowtable.rst).
    pub flow_devices: BTreeSet<IfName>,
}

/// One of the nftables tables that may be ours; all are named `portway`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NftTable {
    Inet,
    /// For what no table of both families can do.
    Ip,
    Netdev,
}

impl NftTable {
    pub const ALL: [NftTable; 3] = [NftTable::Inet, NftTable::Ip, NftTable::Netdev];

    pub fn family(self) -> &'static str {
        match self {
            NftTable::Inet => "inet",
            NftTable::Ip => "ip",
            NftTable::Netdev => "netdev",
        }
    }
}

/// An IPv4 setting (Documentation/networking/ip-sysctl.rst), of one interface or of the whole network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sysctl {
    /// `all` where it is the whole namespace's.
    pub interface: IfName,
    pub key: SysctlKey,
}

impl Sysctl {
    /// Packets that the kernel makes in answer to another, ICMP errors above all, get that one's mark, and so the routes
    /// of its tenant: without this, nobody hears from a gateway that a packet was too big.
    pub fn fwmark_reflect() -> Self {
        Self { interface: IfName::all(), key: SysctlKey::FwmarkReflect }
    }

    /// A connection that another node has carried for a while is beyond what this one knows of its windows: what comes then
    /// must not count as no connection's (Documentation/networking/nf_conntrack-sysctl.rst).
    pub fn tcp_be_liberal() -> Self {
        Self { interface: IfName::all(), key: SysctlKey::TcpBeLiberal }
    }

    /// Packets and bytes of each connection that begins from now on are counted, at 32 bytes of memory a connection and two atomic additions a packet
    /// (nf_ct_acct_add, net/netfilter/nf_conntrack_core.c).
    pub fn conntrack_acct() -> Self {
        Self { interface: IfName::all(), key: SysctlKey::ConntrackAcct }
    }

    /// When each connection began is noted, at 16 bytes a connection.
    pub fn conntrack_timestamp() -> Self {
        Self { interface: IfName::all(), key: SysctlKey::ConntrackTimestamp }
    }

    /// Below `/proc/sys`.
    pub fn path(&self) -> PathBuf {
        match self.key {
            SysctlKey::FwmarkReflect => ["net/ipv4", self.key.as_str()].iter().collect(),
            SysctlKey::TcpBeLiberal | SysctlKey::ConntrackAcct | SysctlKey::ConntrackTimestamp => {
                ["net/netfilter", self.key.as_str()].iter().collect()
            }
            SysctlKey::Forwarding | SysctlKey::SrcValidMark | SysctlKey::RpFilter => {
                ["net/ipv4/conf", self.interface.as_str(), self.key.as_str()].iter().collect()
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SysctlKey {
    Forwarding,
    SrcValidMark,
    /// 2: what came in must have a way back, by whatever interface. The kernel takes the greater of an interface's value and that of all.
    RpFilter,
    FwmarkReflect,
    #[serde(rename = "nf_conntrack_tcp_be_liberal")]
    TcpBeLiberal,
    #[serde(rename = "nf_conntrack_acct")]
    ConntrackAcct,
    #[serde(rename = "nf_conntrack_timestamp")]
    ConntrackTimestamp,
}

impl SysctlKey {
    /// What every interface of ours has.
    pub const OF_INTERFACE: [SysctlKey; 2] = [SysctlKey::Forwarding, SysctlKey::SrcValidMark];

    pub fn as_str(self) -> &'static str {
        match self {
            SysctlKey::Forwarding => "forwarding",
            SysctlKey::SrcValidMark => "src_valid_mark",
            SysctlKey::RpFilter => "rp_filter",
            SysctlKey::FwmarkReflect => "fwmark_reflect",
            SysctlKey::TcpBeLiberal => "nf_conntrack_tcp_be_liberal",
            SysctlKey::ConntrackAcct => "nf_conntrack_acct",
            SysctlKey::ConntrackTimestamp => "nf_conntrack_timestamp",
        }
    }
}

/// An interface of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub kind: LinkKind,
    /// Bytes, 576 to 65,535.
    pub mtu: u32,
    /// For people (`ip link` shows it), and how a restarted daemon knows whose tunnel this is.
    pub alias: String,
    /// The device group (`ip link show group 28672`), [`IfName::GROUP`]: rules know a tunnel by it at the cost of one comparison.
    pub group: u32,
    pub up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A kernel GRE device (include/uapi/linux/if_tunnel.h). Without `remote` it is NBMA: the neighbour table says
    /// which outer address an inner next hop stands behind.
    Gre { local: IpAddr, remote: Option<IpAddr>, key: GreKey },
    /// A kernel WireGuard device (include/uapi/linux/wireguard.h): who this end is, and its UDP port, at all addresses of the machine.
    Wireguard { key: PrivateKey, port: u16 },
    /// A persistent TUN device whose packets this process carries.
    Tun,
    /// Something else with one of our names: never desired, always removed.
    Other(String),
}

/// The other end of a kernel WireGuard tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardPeer {
    /// The inner sources that it may use, and the destinations that go to it. Two peers of an interface have no address in common.
    pub allowed: BTreeSet<IpNet>,
    pub endpoint: Endpoint,
    /// Seconds of silence after which something is sent, so that the other end knows where this one is; 0: never.
    pub keepalive: u16,
}

/// Where the other end of a WireGuard tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Where it was heard from last; until then there, if that is known.
    Roams(Option<SocketAddr>),
    Fixed(SocketAddr),
}

impl Endpoint {
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Endpoint::Roams(address) => address,
            Endpoint::Fixed(address) => Some(address),
        }
    }

    /// Whether one that is heard from there is as it should be.
    pub fn is_met_by(self, seen: Endpoint) -> bool {
        match self {
            Endpoint::Roams(_) => true,
            Endpoint::Fixed(address) => seen.address() == Some(address),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    pub table: u32,
    pub destination: IpNet,
    pub metric: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Out of an interface; with `via`, to that next hop, taken to be on the link (`onlink`) whatever the addresses say.
    Unicast {
        interface: IfName,
        via: Option<IpAddr>,
        mtu: Option<u32>,
    },
    Unreachable,
    /// As if this table had no route there: the look-up goes on with the next rule, down to the main table (`RTN_THROW`).
    Throw,
}

/// A policy routing rule on the slot bits of the mark.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// 7000 to 7999. Rules of one priority stand in the order of their marks.
    pub priority: u32,
    pub mark: u32,
    pub mask: u32,
    pub action: RuleAction,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleAction {
    /// Look this table up.
    Table(u32),
    /// Go on at this (greater) priority.
    Goto(u32),
    /// Do nothing: something for a `goto` to land on.
    Nop,
}

/// A named set or map of a table of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SetName {
    pub table: NftTable,
    pub name: String,
}

/// A key in a named set or map. Its parts are concatenated in the order written here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Element {
    /// `ipv4_addr`
    Address(IpAddr),
    /// `ipv4_addr . integer . integer . ipv4_addr`: the outer source of a GRE packet, its flags and protocol (always those
    /// of IPv4 with a key), the key, the inner source
    Sender { outer: IpAddr, key: GreKey, inner: IpAddr },
    /// the same with the inner sources of a prefix, flags interval
    SenderPrefix { outer: IpAddr, key: GreKey, inner: IpNet },
    /// `iface_index`
    Interface(u32),
    /// `iface_index . ipv4_addr`
    InterfaceAddress(u32, IpAddr),
    /// `iface_index . ipv4_addr`, flags interval
    InterfacePrefix(u32, IpNet),
}
