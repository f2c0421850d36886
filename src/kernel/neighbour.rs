//! Permanent neighbours: on an NBMA GRE device, the outer address behind which an inner next hop stands.

use super::address::family;
use super::netlink::{Answer, Netlink, Refused, Request};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv4Addr};

pub fn set(index: u32, hop: IpAddr, outer: IpAddr) -> Request {
    let mut message = message(index, hop);
    message.header.state = NeighbourState::Permanent;
    let link_layer = match outer {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(link_layer));
    Request::route(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

pub fn remove(index: u32, hop: IpAddr) -> Request {
    Request::route(RouteNetlinkMessage::DelNeighbour(message(index, hop)), 0)
}

/// A neighbour that is gone already is as good as removed.
pub fn removed(answer: Answer) -> Answer {
    match answer {
        Err(Refused { errno: libc::ENOENT | libc::ENODEV | libc::ENXIO, .. }) => Ok(()),
        other => other,
    }
}

/// All permanent IPv4 neighbours, as (interface index, address, link-layer address). One whose link-layer address is no
/// IP address comes with 0.0.0.0, which is never desired.
pub fn list(netlink: &mut Netlink) -> Result<Vec<(u32, IpAddr, IpAddr)>, Refused> {
    let mut all = NeighbourMessage::default();
    all.header.family = AddressFamily::Inet;
    let entries = netlink.dump(Request::route(RouteNetlinkMessage::GetNeighbour(all), 0))?;
    Ok(entries.iter().filter_map(|(kind, payload)| read(*kind, payload)).collect())
}

fn read(kind: u16, payload: &[u8]) -> Option<(u32, IpAddr, IpAddr)> {
    let RouteNetlinkMessage::NewNeighbour(message) = super::route_message(kind, payload)? else { return None };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut hop, mut outer) = (None, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => hop = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
                outer = v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from)).unwrap_or(outer);
            }
            _ => {}
        }
    }
    Some((message.header.ifindex, hop?, outer))
}

fn message(index: u32, hop: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(hop);
    message.header.ifindex = index;
    message.header.kind = RouteType::Unicast;
    let destination = match hop {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}
