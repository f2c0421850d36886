//! Routes in our tables.

use super::address::family;
use super::netlink::{Answer, Netlink, Refused, Request};
use crate::model::IfName;
use crate::plan::{ROUTE_PROTOCOL, Route, RouteKey};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

/// The route tables that are Portway's.
pub const TABLES: RangeInclusive<u32> = 0x70000..=0x7ffff;
const RTM_DELROUTE: u16 = 25;
/// `RT_TABLE_COMPAT`: the table's number stands in an attribute, as it has more than 8 bits.
const TABLE_IN_ATTRIBUTE: u8 = 252;

/// Adds or replaces. `index` is that of the interface of a unicast route.
pub fn set(key: &RouteKey, route: &Route, index: Option<u32>) -> Request {
    Request::route(RouteNetlinkMessage::NewRoute(message(key, route, index)), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Removes a route that is known in full, or finds it gone. Its kind and interface are told with it, as the kernel takes
/// metric 0 for "any": the `unreachable` behind it stays.
pub fn remove_one(netlink: &mut Netlink, key: &RouteKey, route: &Route, index: Option<u32>) -> Answer {
    let request = Request::route(RouteNetlinkMessage::DelRoute(message(key, route, index)), 0);
    netlink.execute(vec![request]).pop().map_or(Ok(()), removed)
}

fn removed(answer: Answer) -> Answer {
    match answer {
        Err(Refused { errno: libc::ESRCH | libc::ENODEV, .. }) => Ok(()),
        other => other,
    }
}

fn message(key: &RouteKey, route: &Route, index: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(key.destination.addr());
    message.header.destination_prefix_length = key.destination.prefix_len();
    message.header.table = TABLE_IN_ATTRIBUTE;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.attributes = vec![
        RouteAttribute::Destination(key.destination.network().into()),
        RouteAttribute::Table(key.table),
        RouteAttribute::Priority(key.metric),
    ];
    match route {
        Route::Unreachable => message.header.kind = RouteType::Unreachable,
        Route::Throw => message.header.kind = RouteType::Throw,
        Route::Unicast { via, mtu, .. } => {
            message.header.kind = RouteType::Unicast;
            message.attributes.extend(index.map(RouteAttribute::Oif));
            match via {
                Some(via) => {
                    message.header.flags = RouteFlags::Onlink;
                    message.attributes.push(RouteAttribute::Gateway((*via).into()));
                }
                None => message.header.scope = RouteScope::Link,
            }
            message.attributes.extend(mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
        }
    }
    message
}

/// A route of ours as it stands, with the kernel's own words for it.
pub struct Standing {
    pub key: RouteKey,
    pub route: Route,
    payload: Vec<u8>,
}

/// Removes exactly those routes. The kernel would take metric 0 for "any metric", so that removing a route that is gone
/// already would take the `unreachable` behind it: what is removed is therefore described by what the kernel said of it.
pub fn remove<'k>(netlink: &mut Netlink, names: &HashMap<u32, IfName>, keys: impl Iterator<Item = &'k RouteKey>) -> Vec<Answer> {
    let keys: Vec<_> = keys.collect();
    let standing = match list(netlink, names) {
        Ok(standing) => standing,
        Err(refused) => return vec![Err(refused); keys.len()],
    };
    let mut standing: HashMap<RouteKey, Vec<u8>> = standing.into_iter().map(|s| (s.key, s.payload)).collect();
    let mut answers: Vec<Answer> = vec![Ok(()); keys.len()];
    let (places, requests): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .enumerate()
        .filter_map(|(place, key)| {
            let mut payload = standing.remove(key)?;
            // rtm_flags: the state of the next hop, which is no part of the description
            payload.get_mut(8..12)?.fill(0);
            Some((place, Request::new(RTM_DELROUTE, 0, &payload)))
        })
        .unzip();
    for (place, answer) in places.into_iter().zip(netlink.execute(requests)) {
        answers[place] = removed(answer);
    }
    answers
}

/// All routes of ours.
pub fn list(netlink: &mut Netlink, names: &HashMap<u32, IfName>) -> Result<Vec<Standing>, Refused> {
    let mut ours = RouteMessage::default();
    ours.header.address_family = AddressFamily::Inet;
    ours.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    let entries = netlink.dump(Request::route(RouteNetlinkMessage::GetRoute(ours), 0))?;
    Ok(entries
        .into_iter()
        .filter_map(|(kind, payload)| {
            let (key, route) = read(kind, &payload, names)?;
            Some(Standing { key, route, payload })
        })
        .collect())
}

fn read(kind: u16, payload: &[u8], names: &HashMap<u32, IfName>) -> Option<(RouteKey, Route)> {
    let RouteNetlinkMessage::NewRoute(message) = super::route_message(kind, payload)? else { return None };
    let (mut table, mut metric, mut network, mut interface, mut via, mut mtu) =
        (u32::from(message.header.table), 0, IpAddr::V4(Ipv4Addr::UNSPECIFIED), None, None, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Table(n) => table = n,
            RouteAttribute::Priority(n) => metric = n,
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => network = IpAddr::V4(ip),
            RouteAttribute::Oif(index) => interface = names.get(&index).cloned(),
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => via = Some(IpAddr::V4(ip)),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.into_iter().find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(mtu) } else { None });
            }
            _ => {}
        }
    }
    if u8::from(message.header.protocol) != ROUTE_PROTOCOL || !TABLES.contains(&table) {
        return None;
    }
    let destination = IpNet::new(network, message.header.destination_prefix_length).ok()?;
    let route = match (message.header.kind, interface) {
        (RouteType::Unreachable, _) => Route::Unreachable,
        (RouteType::Throw, _) => Route::Throw,
        (_, Some(interface)) => Route::Unicast { interface, via, mtu },
        // An interface that went while we were reading took the route with it.
        _ => return None,
    };
    Some((RouteKey { table, destination, metric }, route))
}
