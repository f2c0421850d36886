//! A look at the machine that changes nothing and needs no directory: for whoever wants to know before a daemon starts.

use super::netlink::Netlink;
use super::wireguard::Wireguard;
use super::{KernelError, address, link, nft};
use crate::model::IfName;
use crate::plan::facts::Facts;
use crate::wire::arp::Mac;
use serde_json::Value;

/// What netlink and nft say.
#[derive(Debug)]
pub struct Survey {
    pub facts: Facts,
    /// Whether this kernel has GRE devices; without CAP_NET_ADMIN the answer is always no.
    pub gre: bool,
}

impl Survey {
    pub fn take() -> Result<Self, KernelError> {
        let mut netlink = Netlink::open(libc::NETLINK_ROUTE).map_err(|source| KernelError::Open { what: "for routes", source })?;
        Ok(Self { facts: facts(&mut netlink)?, gre: link::has_gre(&mut netlink) })
    }

    /// The MAC of an interface, if it is there and Ethernet.
    pub fn mac(name: &IfName) -> Result<Option<Mac>, KernelError> {
        let mut netlink = Netlink::open(libc::NETLINK_ROUTE).map_err(|source| KernelError::Open { what: "for routes", source })?;
        let found = link::ethernet(&mut netlink, name).map_err(|error| KernelError::read("an interface", error))?;
        Ok(found.and_then(|(_, mac)| mac))
    }

    /// Whether this kernel has WireGuard. Everybody may ask.
    pub fn has_wireguard() -> Result<bool, KernelError> {
        Ok(Wireguard::open()?.is_there())
    }

    /// What `nft --version` says.
    pub async fn nft_version() -> Result<String, KernelError> {
        nft::version().await
    }

    /// All nftables rules of this namespace, without the elements of sets (libnftables-json(5)).
    pub async fn ruleset() -> Result<Value, KernelError> {
        nft::ruleset_json().await
    }
}

/// The world that is not ours: interfaces and their IPv4 addresses.
pub fn facts(netlink: &mut Netlink) -> Result<Facts, KernelError> {
    let links = link::list(netlink).map_err(|e| KernelError::read("interfaces", e))?;
    let mut facts = links.facts;
    for standing in address::list(netlink).map_err(|e| KernelError::read("addresses", e))?.iter().filter(|standing| !standing.ours) {
        if let Some(fact) = links.names.get(&standing.index).and_then(|name| facts.links.get_mut(name)) {
            fact.addresses.push(standing.address);
        }
    }
    Ok(facts)
}
