//! The world around Portway that a desired state depends on, and that is not Portway's.

use crate::config::Platform;
use crate::model::IfName;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// The interfaces of one network namespace, and what its kernel can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub links: BTreeMap<IfName, LinkFacts>,
    /// Whether this kernel has flow tables (CONFIG_NF_FLOW_TABLE).
    pub flow_tables: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkFacts {
    pub index: u32,
    pub mtu: u32,
    /// `IFLA_INFO_KIND`: "veth", "bridge", "tun"; none for a physical interface.
    pub kind: Option<String>,
    /// The index of the bridge, bond or VRF that this interface is a port of.
    pub master: Option<u32>,
    pub up: bool,
    /// Up, with a carrier, and ready to send (`IFF_RUNNING`); it follows the carrier a moment later.
    pub running: bool,
    /// The number under which this namespace knows the one where the other end is (`IFLA_LINK_NETNSID`).
    pub peer_namespace: Option<i32>,
    /// Addresses that Portway did not add, with their prefix lengths.
    pub addresses: Vec<IpNet>,
}

impl Facts {
    pub fn link(&self, name: &IfName) -> Option<&LinkFacts> {
        self.links.get(name)
    }

    pub fn by_index(&self, index: u32) -> Option<(&IfName, &LinkFacts)> {
        self.links.iter().find(|(_, link)| link.index == index)
    }

    /// Bytes that an inner packet may have.
    pub fn tunnel_mtu(&self, platform: &Platform) -> u32 {
        let outer = platform.mtu.or_else(|| Some(self.link(&platform.interface)?.mtu)).unwrap_or(1500);
        outer.saturating_sub(platform.tunnel.overhead())
    }

    /// The networks that are on the link of an interface.
    pub fn connected(&self, name: &IfName) -> impl Iterator<Item = IpNet> {
        on_link(self.links.get(name).into_iter().flat_map(|link| &link.addresses))
    }
}

/// The networks that addresses put on the link of their interface; an address by itself puts none there.
pub fn on_link<'a>(addresses: impl Iterator<Item = &'a IpNet>) -> impl Iterator<Item = IpNet> {
    addresses.map(IpNet::trunc).filter(|net| net.prefix_len() < net.max_prefix_len())
}
