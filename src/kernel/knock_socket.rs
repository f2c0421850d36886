//! Initiations that come to our WireGuard ports, as a packet socket sees them: the kernel's WireGuard drops those of strangers and tells nobody.

mod again;
mod filter;

pub use again::Again;

use super::KernelError;
use super::packet::link_address;
use super::vrrp_socket::Family;
use crate::model::IfName;
use crate::wire::ipv4;
use crate::wire::wireguard::Initiation;
use filter::{SNAP, program};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, recv, setsockopt, socket, sockopt};
use socket2::{SockFilter, SockRef};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Packets in one call of [`KnockSocket::receive`], so that a flood leaves time for what else there is.
pub const BATCH: usize = 64;
/// Bytes that wait, as the kernel accounts them: some 10,000 initiations.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Bytes of an IPv6 header and of one of UDP.
const IPV6: usize = 40;
const UDP: usize = 8;

/// One of an interface and IP version. It is bound to that version's protocol and so stands behind the rules of netdev ingress (what is for an
/// address that this node does not have is dropped there), behind the taking off of VLAN tags (what is for a VLAN of the interface is another interface's),
/// and sees nothing that is sent. The checksum of UDP is not looked at: of what comes from this machine it may not be there yet, and an
/// initiation has its own.
#[derive(Debug)]
pub struct KnockSocket {
    socket: OwnedFd,
    family: Family,
    buffer: [u8; SNAP],
    lost: u64,
}

/// What came in one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub payload: &'a [u8],
}

impl<'a> Captured<'a> {
    /// The datagram in an IP packet that the filter lets through; of another, nothing or nonsense.
    pub fn read(family: Family, packet: &'a [u8]) -> Option<Self> {
        let (source, destination, rest): (IpAddr, IpAddr, &'a [u8]) = match family {
            Family::V4 => {
                let header = ipv4::Header::parse(packet).ok()?;
                (header.source.into(), header.destination.into(), packet.get(header.header_len..header.total_len)?)
            }
            Family::V6 => {
                let address = |at: usize| packet.get(at..)?.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into());
                (address(8)?, address(24)?, packet.get(IPV6..)?)
            }
        };
        let port = |at: usize| rest.get(at..)?.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
        let payload = rest.get(UDP..UDP + Initiation::LEN)?;
        Some(Captured { from: (source, port(0)?).into(), to: (destination, port(2)?).into(), payload })
    }
}

impl KnockSocket {
    /// In the calling thread's network namespace. When the interface has gone and come back, it must be opened anew.
    ///
    /// # Errors
    /// Without the interface or `CAP_NET_RAW`.
    pub fn open(interface: &IfName, family: Family, ports: impl IntoIterator<Item = u16>) -> Result<Self, KernelError> {
        let index = if_nametoindex(interface.as_str()).map_err(|_| KernelError::NoInterface(interface.clone()))?;
        // Of no protocol, so that nothing comes before the filter stands.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, None).map_err(failed)?;
        let new = Self { socket, family, buffer: [0; SNAP], lost: 0 };
        new.set_ports(ports)?;
        setsockopt(&new.socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).map_err(failed)?;
        bind(new.socket.as_raw_fd(), &address(family, index)).map_err(failed)?;
        Ok(new)
    }

    /// From now on it takes what is for these ports.
    pub fn set_ports(&self, ports: impl IntoIterator<Item = u16>) -> Result<(), KernelError> {
        let filter: Vec<SockFilter> = program(self.family, ports).into_iter().map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k)).collect();
        SockRef::from(&self.socket).attach_filter(&filter).map_err(|source| KernelError::Socket { what: "for initiations", source })
    }

    /// Takes what has come, up to [`BATCH`] packets, without waiting: how many there were. With exactly that many there may be more.
    ///
    /// # Errors
    /// `ENETDOWN`: the interface is down, or gone.
    pub fn receive(&mut self, mut take: impl FnMut(Captured<'_>)) -> io::Result<usize> {
        for count in 0..BATCH {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => Captured::read(self.family, &self.buffer[..length]).into_iter().for_each(&mut take),
                Err(Errno::EAGAIN) => return Ok(count),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(BATCH)
    }

    /// Packets that passed the filter and found no room, since it was opened.
    pub fn lost(&mut self) -> u64 {
        let mut counts = Statistics { packets: 0, drops: 0 };
        let mut length = size_of::<Statistics>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which is the size of what is pointed at; two numbers have no invalid value.
        let result = unsafe {
            let value = (&raw mut counts).cast();
            libc::getsockopt(self.socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut length)
        };
        // Reading sets them back to zero.
        self.lost += if result == 0 { u64::from(counts.drops) } else { 0 };
        self.lost
    }
}

impl AsFd for KnockSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for KnockSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// `struct tpacket_stats`, include/uapi/linux/if_packet.h.
#[repr(C)]
struct Statistics {
    packets: libc::c_uint,
    drops: libc::c_uint,
}

fn failed(errno: Errno) -> KernelError {
    KernelError::Socket { what: "for initiations", source: errno.into() }
}

/// The interface, as packet sockets name it.
fn address(family: Family, index: u32) -> LinkAddr {
    let protocol = match family {
        Family::V4 => libc::ETH_P_IP,
        Family::V6 => libc::ETH_P_IPV6,
    };
    link_address(protocol as u16, index)
}
