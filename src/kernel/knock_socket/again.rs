//! An initiation that went by before its sender was a peer, brought before the interface once more.

use crate::kernel::KernelError;
use crate::wire::checksum::Sum;
use crate::wire::ipv4;
use crate::wire::wireguard::Initiation;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrIn, SockaddrIn6, sendto};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const DATAGRAM: usize = UDP_HEADER + Initiation::LEN;
const IPV6_HEADER: usize = 40;
/// Hops: to this machine itself, or at most one that has taken over the address meanwhile.
const TTL: u8 = 1;

/// Sends from any address to one of this machine. Such packets go over loopback.
///
/// The kernel's WireGuard then believes its peer behind loopback, finds at the next packet that it is not, and has routing choose the
/// source (`send4`, drivers/net/wireguard/socket.c); which address that is the gateway's rules see to, until something comes from the peer.
#[derive(Debug)]
pub struct Again {
    v4: Socket,
    v6: Option<Socket>,
}

impl Again {
    /// In the calling thread's network namespace.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open() -> Result<Self, KernelError> {
        let open = |domain| -> io::Result<Socket> { Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(libc::IPPROTO_RAW))) };
        let failed = |source| KernelError::Socket { what: "to bring initiations before the interface", source };
        let v4 = open(Domain::IPV4).map_err(failed)?;
        v4.set_header_included_v4(true).map_err(failed)?;
        let v6 = open(Domain::IPV6).and_then(|socket| socket.set_header_included_v6(true).map(|()| socket));
        // A machine without IPv6 has nobody to ask for it.
        Ok(Self { v4, v6: v6.ok() })
    }

    /// # Errors
    /// `EADDRNOTAVAIL` if `to` is not an address of this machine (any more), `EAFNOSUPPORT` if it is of another IP version than `from`.
    pub fn send(&self, from: SocketAddr, to: SocketAddr, initiation: &Initiation) -> io::Result<()> {
        // A socket that were bound to loopback would not find the way: routes to our own addresses are of the devices that have them.
        Socket::new(Domain::for_address(to), Type::DGRAM, None)?.bind(&SocketAddr::new(to.ip(), 0).into())?;
        let sent = match (from, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let target = SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0));
                sendto(self.v4.as_raw_fd(), &packet_v4(from, to, initiation), &target, MsgFlags::MSG_DONTWAIT)
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                let socket = self.v6.as_ref().ok_or(Errno::EAFNOSUPPORT)?;
                let target = SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 0, 0, 0));
                sendto(socket.as_raw_fd(), &packet_v6(from, to, initiation), &target, MsgFlags::MSG_DONTWAIT)
            }
            _ => return Err(Errno::EAFNOSUPPORT.into()),
        };
        Ok(sent.map(drop)?)
    }
}

fn udp(from: u16, to: u16, initiation: &Initiation) -> [u8; DATAGRAM] {
    let mut all = [0; DATAGRAM];
    all[..2].copy_from_slice(&from.to_be_bytes());
    all[2..4].copy_from_slice(&to.to_be_bytes());
    all[4..6].copy_from_slice(&(DATAGRAM as u16).to_be_bytes());
    all[UDP_HEADER..].copy_from_slice(initiation.bytes());
    all
}

/// Without a checksum of UDP, which IPv4 allows (RFC 768).
fn packet_v4(from: SocketAddrV4, to: SocketAddrV4, initiation: &Initiation) -> Vec<u8> {
    let length = ipv4::HEADER_LEN + DATAGRAM;
    let addresses: [Ipv4Addr; 2] = [*from.ip(), *to.ip()];
    let mut header = ipv4::outer(addresses[0], addresses[1], 0, length as u16, 0);
    header[8] = TTL;
    header[9] = UDP;
    ipv4::set_total_len(&mut header, length as u16);
    [&header[..], &udp(from.port(), to.port(), initiation)].concat()
}

fn packet_v6(from: SocketAddrV6, to: SocketAddrV6, initiation: &Initiation) -> Vec<u8> {
    let addresses: [Ipv6Addr; 2] = [*from.ip(), *to.ip()];
    let mut datagram = udp(from.port(), to.port(), initiation);
    let pseudo = Sum::default().with(&addresses[0].octets()).with(&addresses[1].octets());
    let sum = pseudo.word(DATAGRAM as u16).word(UDP.into()).with(&datagram);
    // A sum of zero would say that there is none (RFC 8200 section 8.1).
    let checksum = match sum.finish() {
        0 => 0xffff,
        other => other,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    let mut header = [0; IPV6_HEADER];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(DATAGRAM as u16).to_be_bytes());
    header[6] = UDP;
    header[7] = TTL;
    header[8..24].copy_from_slice(&addresses[0].octets());
    header[24..40].copy_from_slice(&addresses[1].octets());
    [&header[..], &datagram].concat()
}
