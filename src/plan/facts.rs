//! The world around Portway: what it builds on and does not own.

use crate::model::IfName;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// What `desired` has to know of a network namespace. Interfaces named `pw-*` are ours and not among these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub links: BTreeMap<IfName, LinkFact>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFact {
    /// The kernel's number for it, which changes when an interface goes and one of the same name comes.
    pub index: u32,
    /// `veth`, `bridge`, `vlan`, ... (IFLA_INFO_KIND); none for loopback and physical ones.
    pub kind: Option<String>,
    /// Bytes.
    pub mtu: u32,
    /// Set up by an administrator (IFF_UP), with a carrier or without.
    pub up: bool,
    /// The bridge or bond of which it is a port.
    pub master: Option<IfName>,
    /// For a veth: the id, in this namespace, of the namespace where its peer is; none if the peer is in this one.
    pub link_netnsid: Option<i32>,
    /// IPv4 addresses with their prefix lengths.
    pub addresses: BTreeSet<IpNet>,
}

impl Facts {
    /// The interface that has an address.
    pub fn link_with(&self, address: std::net::IpAddr) -> Option<(&IfName, &LinkFact)> {
        self.links.iter().find(|(_, link)| link.addresses.iter().any(|net| net.addr() == address))
    }

    /// The networks that are on the link of an interface.
    pub fn connected(&self, name: &IfName) -> impl Iterator<Item = IpNet> {
        let addresses = self.links.get(name).into_iter().flat_map(|link| &link.addresses);
        addresses.map(IpNet::trunc).filter(|net| net.prefix_len() < net.max_prefix_len())
    }
}
