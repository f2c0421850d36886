//! The raw socket of protocol 112 (VRRP) of one interface and IP version.
//!
//! One socket serves all instances of an interface, for unicast and the group: it is bound to the device and to no address, as a socket
//! bound to one gets nothing that was sent to the group. The source of what it sends is given with each packet.

use super::KernelError;
use crate::model::IfName;
use crate::wire::ipv4;
use crate::wire::vrrp::{Envelope, GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL};
use nix::cmsg_space;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recv, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Packets in one call of [`VrrpSocket::receive`], so that a flood leaves time for the timers.
pub const BATCH: usize = 64;
/// Longer than any packet of VRRP: an IPv4 header with options (60), 8 bytes, 255 addresses of 16, a trailer. What is cut off here has a wrong
/// length for everybody.
const LONGEST: usize = 8192;
/// Bytes that wait: thousands of advertisements.
const RECEIVE_BUFFER: usize = 4 << 20;
/// DSCP CS6, network control (RFC 4594 section 3.2).
const TRAFFIC_CLASS: u32 = 0xc0;

/// Which IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

#[derive(Debug)]
pub struct VrrpSocket {
    socket: Socket,
    family: Family,
    /// Of its interface.
    index: u32,
    /// Whether it takes what is sent to the group.
    group: bool,
    buffer: Vec<u8>,
}

impl VrrpSocket {
    /// Opens the socket in the calling thread's network namespace. `group`: take what is sent to 224.0.0.18 or ff02::12, too. When the
    /// interface has gone and come back, it must be opened anew.
    ///
    /// # Errors
    /// Without the interface, `CAP_NET_RAW` or `CAP_NET_ADMIN`.
    pub fn open(interface: &IfName, family: Family, group: bool) -> Result<Self, KernelError> {
        let index = if_nametoindex(interface.as_str()).map_err(|_| KernelError::NoInterface(interface.clone()))?;
        let socket = open(interface, index, family, group)
            .map_err(|source| KernelError::Socket { what: "for VRRP packets (protocol 112)", source })?;
        Ok(Self { socket, family, index, group, buffer: vec![0; LONGEST] })
    }

    /// Sends one packet, with TTL or hop limit 255. `from` must be an address of this node. The payload is sent as it is: its checksum is
    /// the caller's.
    ///
    /// # Errors
    /// `EINVAL` or `ENETUNREACH` if `from` is not an address here, `EAFNOSUPPORT` for the other IP version, `WouldBlock` if the device's queue is full.
    pub fn send(&self, from: IpAddr, to: IpAddr, payload: &[u8]) -> io::Result<()> {
        let (fd, payload) = (self.socket.as_raw_fd(), [IoSlice::new(payload)]);
        let sent = match (self.family, from, to) {
            (Family::V4, IpAddr::V4(from), IpAddr::V4(to)) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                let address = |octets: [u8; 4]| libc::in_addr { s_addr: u32::from_ne_bytes(octets) };
                // Index 0: the device is given by the binding, which this would override with an address's.
                let source = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address(from.octets()), ipi_addr: address([0; 4]) };
                sendmsg(fd, &payload, &[ControlMessage::Ipv4PacketInfo(&source)], MsgFlags::MSG_DONTWAIT, Some(&to))
            }
            (Family::V6, IpAddr::V6(from), IpAddr::V6(to)) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, self.index));
                let source = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: self.index };
                sendmsg(fd, &payload, &[ControlMessage::Ipv6PacketInfo(&source)], MsgFlags::MSG_DONTWAIT, Some(&to))
            }
            _ => return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        };
        Ok(sent.map(drop)?)
    }

    /// Takes what has come, up to [`BATCH`] packets, without waiting: how many there were. With exactly that many there may be more.
    pub fn receive(&mut self, mut take: impl FnMut(&Envelope, &[u8])) -> io::Result<usize> {
        for count in 0..BATCH {
            let got = match self.family {
                Family::V4 => self.receive_v4(&mut take),
                Family::V6 => self.receive_v6(&mut take),
            };
            match got.map_err(io::Error::from) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(BATCH)
    }

    /// A raw socket gives IPv4 packets with their header (raw(7)).
    fn receive_v4(&mut self, take: &mut impl FnMut(&Envelope, &[u8])) -> nix::Result<()> {
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT)?;
        let packet = &self.buffer[..length];
        // What was cut off is shorter than its header says, and so no packet.
        if let (Ok(header), Some(&ttl)) = (ipv4::Header::parse(packet), packet.get(8)) {
            let envelope = Envelope { source: header.source.into(), destination: header.destination.into(), hop_limit: ttl };
            take(&envelope, &packet[header.header_len..header.total_len]);
        }
        Ok(())
    }

    fn receive_v6(&mut self, take: &mut impl FnMut(&Envelope, &[u8])) -> nix::Result<()> {
        let mut vectors = [IoSliceMut::new(&mut self.buffer)];
        let mut control = cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let message = recvmsg::<SockaddrIn6>(self.socket.as_raw_fd(), &mut vectors, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let (mut destination, mut hop_limit) = (None, None);
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::Ipv6PacketInfo(info) => destination = Some(IpAddr::from(info.ipi6_addr.s6_addr)),
                ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
                _ => {}
            }
        }
        let (source, length) = (message.address.map(|from| IpAddr::from(from.ip())), message.bytes);
        // IPV6_MULTICAST_ALL is not looked at for raw sockets without an address (`raw_v6_match`).
        let joined = |to: &IpAddr| !to.is_multicast() || self.group;
        if let (Some(source), Some(destination), Some(hop_limit)) = (source, destination.filter(joined), hop_limit) {
            take(&Envelope { source, destination, hop_limit }, &self.buffer[..length]);
        }
        Ok(())
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(interface: &IfName, index: u32, family: Family, group: bool) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(PROTOCOL))))?;
    socket.bind_device(Some(interface.as_str().as_bytes()))?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    let hops = u32::from(HOP_LIMIT);
    match family {
        Family::V4 => {
            socket.set_ttl_v4(hops)?;
            socket.set_multicast_ttl_v4(hops)?;
            socket.set_multicast_loop_v4(false)?;
            // Otherwise it would get what other sockets of this machine have joined.
            socket.set_multicast_all_v4(false)?;
            socket.set_tos_v4(TRAFFIC_CLASS)?;
            if group {
                socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
            }
        }
        // IPV6_CHECKSUM stays off: what we send has its checksum (`wire::vrrp`), and the kernel would drop, uncounted, what others send
        // with a form of it that `wire::vrrp` can read.
        Family::V6 => {
            socket.set_unicast_hops_v6(hops)?;
            socket.set_multicast_hops_v6(hops)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_tclass_v6(TRAFFIC_CLASS)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            if group {
                socket.join_multicast_v6(&GROUP_V6, index)?;
            }
        }
    }
    Ok(socket)
}
