//! Notices that something changed in the kernel, so that drift is repaired at once.

use super::link::Links;
use super::netlink::{Message, messages, receive};
use super::{KernelError, Refused, attr, route};
use crate::model::IfName;
use crate::plan::PRIORITIES;
use futures::FutureExt;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::rule::RuleAttribute;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use tokio::io::unix::AsyncFd;

/// What changed. Changes that this process made through its [`super::Kernel`] or through an [`Own`] socket are not told, those of a ruleset
/// excepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An interface came, changed, or is `gone`: ours or any other.
    Link { index: u32, name: Option<IfName>, gone: bool },
    /// An IPv4 address came or went, on any interface.
    Address,
    /// A route of our protocol or in our tables came or went.
    Route,
    /// A rule of our priorities came or went.
    Rule,
    /// A neighbour on one of our interfaces went.
    Neighbour,
    /// Forwarding was turned off on some interface, or on all of them.
    Forwarding,
    /// Some nftables table changed.
    Nft,
    /// Notices were lost: anything may have changed.
    Overflow,
}

/// Neighbours that this process takes away, by interface and address.
pub(super) type Leaving = Arc<Mutex<HashSet<(u32, IpAddr)>>>;

/// The netlink ports of this process's sockets.
pub(super) type Ports = Arc<Mutex<HashSet<u32>>>;

/// As long as this lives, what is changed through a socket of this process is not told.
#[derive(Debug)]
pub struct Own {
    ports: Ports,
    port: u32,
}

impl Own {
    pub(super) fn new(ports: Ports, port: u32) -> Self {
        super::lock(&ports).insert(port);
        Self { ports, port }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        super::lock(&self.ports).remove(&self.port);
    }
}

// Multicast groups: include/uapi/linux/rtnetlink.h, netfilter/nfnetlink.h
const ROUTE_GROUPS: [u32; 6] = [1, 3, 5, 7, 8, 24];
const NETFILTER_GROUPS: [u32; 1] = [7];

pub struct Watch {
    route: AsyncFd<Socket>,
    netfilter: AsyncFd<Socket>,
    own: Ports,
    leaving: Leaving,
    /// The indices of our interfaces: a notice of a neighbour has no name, and no longer says that it was permanent.
    tunnels: HashSet<u32>,
    buffer: Vec<u8>,
    ready: VecDeque<Change>,
}

impl Watch {
    /// Must be called within a tokio runtime. `links` lists the interfaces, after the subscription.
    pub(super) fn open(own: Ports, leaving: Leaving, links: impl FnOnce() -> Result<Links, Refused>) -> Result<Self, KernelError> {
        let open = |source| KernelError::Open { what: "for notices", source };
        let route = subscribe(libc::NETLINK_ROUTE, &ROUTE_GROUPS).map_err(open)?;
        let netfilter = subscribe(libc::NETLINK_NETFILTER, &NETFILTER_GROUPS).map_err(open)?;
        let names = links().map_err(|refused| KernelError::read("interfaces", refused))?.names;
        let tunnels = names.into_iter().filter(|(_, name)| name.is_ours()).map(|(index, _)| index).collect();
        Ok(Self { route, netfilter, own, leaving, tunnels, buffer: Vec::new(), ready: VecDeque::new() })
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) -> Result<Change, KernelError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            let Self { route, netfilter, own, leaving, tunnels, buffer, ready } = self;
            let read = |source| KernelError::Open { what: "for notices", source };
            tokio::select! {
                socket = route.readable() => drain(socket.map_err(read)?, buffer, own, leaving, ready, |m| route_change(tunnels, leaving, m)).map_err(read)?,
                socket = netfilter.readable() => drain(socket.map_err(read)?, buffer, own, leaving, ready, |_| Some(Change::Nft)).map_err(read)?,
            }
        }
    }
}

impl Watch {
    /// Forgets what has been announced up to now: whoever looks at everything next need not hear of it.
    pub fn forget(&mut self) {
        self.ready.clear();
        while let Some(Ok(_)) = self.next().now_or_never() {
            self.ready.clear();
        }
    }
}

fn subscribe(family: i32, groups: &[u32]) -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(family as isize)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    // A privilege; without it, bursts overflow sooner, which costs a full look.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &(4 << 20));
    groups.iter().try_for_each(|group| socket.add_membership(*group))?;
    // SAFETY: a `Socket` owns one descriptor, always gives out that one, and closes it only when dropped.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// One datagram; what is left makes the socket ready again at once.
fn drain(
    mut guard: tokio::io::unix::AsyncFdReadyGuard<'_, Socket>,
    buffer: &mut Vec<u8>,
    own: &Ports,
    leaving: &Leaving,
    ready: &mut VecDeque<Change>,
    mut change: impl FnMut(Message<'_>) -> Option<Change>,
) -> io::Result<()> {
    match guard.try_io(|socket| receive(socket.get_ref(), buffer, 0).map(drop)) {
        Ok(Ok(())) => {
            let own = super::lock(own);
            for message in messages(buffer) {
                // Every notice is looked at, our own too: they say which interfaces there are.
                if let Some(change) = change(message).filter(|change| !own.contains(&message.port) && ready.back() != Some(change)) {
                    ready.push_back(change);
                }
            }
            Ok(())
        }
        Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
            // Notices of what we took away may be among the lost ones.
            super::lock(leaving).clear();
            ready.push_back(Change::Overflow);
            Ok(())
        }
        Ok(Err(error)) => Err(error),
        Err(_would_block) => Ok(()),
    }
}

fn route_change(tunnels: &mut HashSet<u32>, leaving: &Leaving, message: Message<'_>) -> Option<Change> {
    const RTM_DELLINK: u16 = 17;
    const RTM_NEWNETCONF: u16 = 80;
    if message.kind == RTM_NEWNETCONF {
        return forwarding_ended(message.payload).then_some(Change::Forwarding);
    }
    match super::route_message(message.kind, message.payload)? {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            let name = link.attributes.iter().find_map(|a| if let LinkAttribute::IfName(name) = a { name.parse().ok() } else { None });
            // A port that leaves its bridge is announced as deleted too, in the bridge's family (br_ifinfo_notify).
            let (index, gone) = (link.header.index, message.kind == RTM_DELLINK && link.header.interface_family == AddressFamily::Unspec);
            if !gone && name.as_ref().is_some_and(IfName::is_ours) {
                tunnels.insert(index);
            } else if gone {
                tunnels.remove(&index);
            }
            Some(Change::Link { index, name, gone })
        }
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => Some(Change::Address),
        RouteNetlinkMessage::NewRoute(r) | RouteNetlinkMessage::DelRoute(r) => {
            let ours = r.attributes.iter().any(|a| matches!(a, RouteAttribute::Table(table) if route::TABLES.contains(table)));
            ours.then_some(Change::Route)
        }
        RouteNetlinkMessage::NewRule(r) | RouteNetlinkMessage::DelRule(r) => {
            let ours = r.attributes.iter().any(|a| matches!(a, RuleAttribute::Priority(p) if PRIORITIES.contains(p)));
            ours.then_some(Change::Rule)
        }
        RouteNetlinkMessage::DelNeighbour(n) => {
            let hop = n.attributes.iter().find_map(|a| match a {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
                _ => None,
            });
            let expected = hop.is_some_and(|hop| super::lock(leaving).remove(&(n.header.ifindex, hop)));
            (!expected && tunnels.contains(&n.header.ifindex)).then_some(Change::Neighbour)
        }
        _ => None,
    }
}

/// A changed setting (include/uapi/linux/netconf.h). Writes to /proc have no sender, ours neither; but we turn on only.
fn forwarding_ended(notice: &[u8]) -> bool {
    const HEADER: usize = 4;
    const NETCONFA_FORWARDING: u16 = 2;
    let value = notice.get(HEADER..).and_then(|attributes| attr::find(attributes, NETCONFA_FORWARDING));
    value.is_some_and(|value| value.iter().all(|byte| *byte == 0))
}
