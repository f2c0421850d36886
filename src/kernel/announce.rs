//! Tells a link that an address is here now: gratuitous ARP, unsolicited neighbour advertisements.
//!
//! For IPv4 both forms go out, one after the other. RFC 9568 wants a request, RFC 5227 section 3 says why: requests are what every ARP
//! implementation looks at. But some hosts and virtual switches learn from replies alone, and the second frame costs 42 bytes.
//! A neighbour running Linux takes either for an entry that it has, even one younger than its lock time (`arp_is_garp`); neither
//! makes it a new entry unless arp_accept is set, and it needs none: it asks when it has something to send. Switches learn from the
//! source of any frame, for which one would do.

use super::netlink::Netlink;
use super::packet::link_address;
use super::{KernelError, link};
use crate::model::IfName;
use crate::wire::{arp, ndp};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Sends announcements in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Announcer {
    netlink: Netlink,
    /// Of no protocol, so that nothing is received. One for all interfaces: to close a packet socket takes milliseconds (`synchronize_net`).
    socket: OwnedFd,
}

impl Announcer {
    pub fn open() -> Result<Self, KernelError> {
        let netlink = Netlink::open(libc::NETLINK_ROUTE).map_err(|source| KernelError::Open { what: "for interfaces", source })?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(failed)?;
        Ok(Self { netlink, socket })
    }

    /// Announces an address `burst` times at once, with the interface's own MAC. The frames pass the rules of netdev egress: the lease
    /// that lets this node answer for the address must stand.
    ///
    /// # Errors
    /// If there is no such interface, it is down (`ENETDOWN`) or is not Ethernet (`EPFNOSUPPORT`), and when its queue is full or the rules drop it, as without a lease (`ENOBUFS`).
    pub fn announce(&mut self, interface: &IfName, address: IpAddr, burst: u8) -> Result<(), KernelError> {
        let found = link::ethernet(&mut self.netlink, interface).map_err(|e| KernelError::read("an interface", e))?;
        let (index, mac) = found.ok_or_else(|| KernelError::NoInterface(interface.clone()))?;
        let mac = mac.ok_or(Errno::EPFNOSUPPORT).map_err(failed)?;
        let send = |protocol, frame: &[u8]| {
            let to = link_address(protocol, index);
            sendto(self.socket.as_raw_fd(), frame, &to, MsgFlags::empty()).map(drop).map_err(failed)
        };
        for _ in 0..burst {
            match address {
                IpAddr::V4(address) => {
                    send(arp::ETHERTYPE, &arp::Frame::gratuitous_request(mac, address).encode())?;
                    send(arp::ETHERTYPE, &arp::Frame::gratuitous_reply(mac, address).encode())?;
                }
                IpAddr::V6(address) => send(ndp::ETHERTYPE, &ndp::advertisement(mac, address))?,
            }
        }
        Ok(())
    }
}

fn failed(errno: Errno) -> KernelError {
    KernelError::Socket { what: "to announce an address", source: io::Error::from(errno) }
}
