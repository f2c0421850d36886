//! Other network namespaces, as this one knows them.

use super::netlink::{Netlink, Refused, Request};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWNSID: u16 = 88;

/// The number of a namespace, or none if no interface here has its other end there.
pub fn number(netlink: &mut Netlink, namespace: BorrowedFd<'_>) -> Result<Option<i32>, Refused> {
    let mut message = NsidMessage::default();
    message.attributes = vec![NsidAttribute::Fd(namespace.as_raw_fd().unsigned_abs())];
    let answer = netlink.get(Request::route(RouteNetlinkMessage::GetNsId(message), 0))?;
    let Some(RouteNetlinkMessage::NewNsId(answer)) = super::route_message(RTM_NEWNSID, &answer) else { return Ok(None) };
    Ok(answer.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(number) if *number >= 0 => Some(*number),
        _ => None,
    }))
}
