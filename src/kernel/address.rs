//! Addresses on our interfaces, and on those of others as facts.

use super::netlink::{Answer, Netlink, Refused, Request};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

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

/// All IPv4 addresses, as (interface index, address with its prefix length).
pub fn list(netlink: &mut Netlink) -> Result<Vec<(u32, IpNet)>, Refused> {
    let mut all = AddressMessage::default();
    all.header.family = AddressFamily::Inet;
    let entries = netlink.dump(Request::route(RouteNetlinkMessage::GetAddress(all), 0))?;
    Ok(entries.iter().filter_map(|(kind, payload)| read(*kind, payload)).collect())
}

fn read(kind: u16, payload: &[u8]) -> Option<(u32, IpNet)> {
    let RouteNetlinkMessage::NewAddress(message) = super::route_message(kind, payload)? else { return None };
    // On a point-to-point interface `Address` is the peer's, and `Local` ours.
    let local = message.attributes.iter().find_map(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
    let ip = local.or_else(|| message.attributes.iter().find_map(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None }));
    Some((message.header.index, IpNet::new(ip?, message.header.prefix_len).ok()?))
}

fn message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    message
}

pub fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
