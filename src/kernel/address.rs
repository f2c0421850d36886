//! Addresses on our interfaces, and on those of others as facts.

use super::netlink::{Answer, Netlink, Refused, Request};
use crate::plan::ROUTE_PROTOCOL;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// In the place where the kernel keeps 0 to 3 for itself: the same number as our routes have.
const OURS: AddressProtocol = AddressProtocol::Other(ROUTE_PROTOCOL);

pub fn add(index: u32, address: IpNet) -> Request {
    Request::route(RouteNetlinkMessage::NewAddress(message(index, address)), NLM_F_CREATE | NLM_F_REPLACE)
}

pub fn remove(index: u32, address: IpNet) -> Request {
    Request::route(RouteNetlinkMessage::DelAddress(message(index, address)), 0)
}

/// An address that is gone already is as good as removed.
pub fn removed(answer: Answer) -> Answer {
    match answer {
        Err(Refused { errno: libc::EADDRNOTAVAIL | libc::ENODEV, .. }) => Ok(()),
        other => other,
    }
}

/// An address that stands.
pub struct Standing {
    /// Of its interface.
    pub index: u32,
    pub address: IpNet,
    /// Whether Portway added it: the kernel keeps who did (`IFA_PROTO`, since Linux 5.18).
    pub ours: bool,
}

/// All IPv4 addresses.
pub fn list(netlink: &mut Netlink) -> Result<Vec<Standing>, Refused> {
    let mut all = AddressMessage::default();
    all.header.family = AddressFamily::Inet;
    let entries = netlink.dump(Request::route(RouteNetlinkMessage::GetAddress(all), 0))?;
    Ok(entries.iter().filter_map(|(kind, payload)| read(*kind, payload)).collect())
}

/// The IPv4 addresses of one interface.
pub fn list_at(netlink: &mut Netlink, index: u32) -> Result<Vec<Standing>, Refused> {
    let mut of = AddressMessage::default();
    of.header.family = AddressFamily::Inet;
    of.header.index = index;
    let entries = match netlink.dump(Request::route(RouteNetlinkMessage::GetAddress(of), 0)) {
        Err(Refused { errno: libc::ENODEV, .. }) => Vec::new(),
        answer => answer?,
    };
    // A kernel without strict checking of requests (before Linux 4.20) tells all of them.
    Ok(entries.iter().filter_map(|(kind, payload)| read(*kind, payload)).filter(|standing| standing.index == index).collect())
}

fn read(kind: u16, payload: &[u8]) -> Option<Standing> {
    let RouteNetlinkMessage::NewAddress(message) = super::route_message(kind, payload)? else { return None };
    // On a point-to-point interface `Address` is the peer's, and `Local` ours.
    let local = message.attributes.iter().find_map(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
    let ip = local.or_else(|| message.attributes.iter().find_map(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None }));
    let ours = message.attributes.contains(&AddressAttribute::Protocol(OURS));
    Some(Standing { index: message.header.index, address: IpNet::new(ip?, message.header.prefix_len).ok()?, ours })
}

fn message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    if address.addr().is_ipv6() {
        // Ours alone, or taken over from a node that may still have it: nothing to detect.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes =
        vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr()), AddressAttribute::Protocol(OURS)];
    message
}

pub fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
