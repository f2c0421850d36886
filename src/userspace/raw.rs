//! The raw socket of the platform side: whole IPv4 packets of protocol 47, in batches.

use crate::model::IfName;
use crate::wire::nested::GRE;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::mem::offset_of;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::time::Duration;

/// Packets in one system call.
pub const BATCH: usize = 128;

/// Bytes that wait in each direction: about 50 ms at 1 Gbit/s, as the kernel accounts them.
const SOCKET_BUFFER: usize = 16 << 20;
/// How long a packet waits for room in the send buffer before it is dropped (and a stop is seen).
const SEND_PATIENCE: Duration = Duration::from_millis(100);

/// Opens the socket in this thread's network namespace. It receives what the kernel delivers to any address of this
/// machine, also one that comes later, and sends packets whose IP header we write (so DF, ECN and source are ours).
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`, `ENODEV` for an unknown device.
pub fn open(device: Option<&IfName>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(GRE))))?;
    socket.set_header_included_v4(true)?;
    // Beyond net.core.[rw]mem_max, which a namespace cannot raise.
    setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER)?;
    setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER)?;
    socket.set_write_timeout(Some(SEND_PATIENCE))?;
    socket.bind_device(device.map(|d| d.as_str().as_bytes()))?;
    Ok(socket.into())
}

/// A packet to send: everything up to the inner payload, and that payload.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// As in the header.
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub header: &'a [u8],
    pub payload: &'a [u8],
}

/// Tells routing the source of a message (ip(7), IP_PKTINFO). It does not look into a header that we write, so rules by source
/// (`ip rule add from ADDRESS`, one for each interface of a cloud's machine) would not hold for the message.
#[repr(C)]
struct Source {
    header: libc::cmsghdr,
    info: libc::in_pktinfo,
}

/// Bytes, as CMSG_LEN counts them: without what may be behind for alignment.
const SOURCE_LEN: usize = offset_of!(Source, info) + size_of::<libc::in_pktinfo>();

/// Sends up to [`BATCH`] packets: how many went; an error is about the first of them.
///
/// The kernel takes any source in a header that we write, one that is no address of this machine (any more) included
/// (`inet_sk_flowi_flags`: FLOWI_FLAG_ANYSRC with IP_HDRINCL): such a packet is sent, and what others there are in the batch
/// with it.
pub fn send(fd: BorrowedFd<'_>, packets: &[Outgoing<'_>]) -> Result<usize, Errno> {
    let count = packets.len().min(BATCH);
    type Batch = ([libc::mmsghdr; BATCH], [[libc::iovec; 2]; BATCH], [libc::sockaddr_in; BATCH], [Source; BATCH]);
    // SAFETY: all zeroes is a valid value of these structures: plain numbers and null pointers.
    let (mut messages, mut vectors, mut addresses, mut sources): Batch = unsafe { std::mem::zeroed() };
    for (i, packet) in packets[..count].iter().enumerate() {
        let address = &mut addresses[i];
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from(packet.to).to_be();
        vectors[i] =
            [packet.header, packet.payload].map(|bytes| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        let header = &mut messages[i].msg_hdr;
        header.msg_name = std::ptr::from_mut(address).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = vectors[i].as_mut_ptr();
        header.msg_iovlen = 2;
        let source = &mut sources[i];
        source.header.cmsg_len = SOURCE_LEN as _;
        source.header.cmsg_level = libc::IPPROTO_IP;
        source.header.cmsg_type = libc::IP_PKTINFO;
        source.info.ipi_spec_dst.s_addr = u32::from(packet.from).to_be();
        header.msg_control = std::ptr::from_mut(source).cast();
        header.msg_controllen = size_of::<Source>() as _;
    }
    // SAFETY: the first `count` messages point at addresses, vectors, sources and packets that outlive the call, with their
    // true lengths; the kernel writes nothing but `msg_len`.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0) };
    Errno::result(sent).map(|n| n as usize)
}

/// Receives up to as many packets as there are buffers, without waiting; `lengths` says how long each is. A packet
/// longer than its buffer is cut off.
pub fn receive(fd: BorrowedFd<'_>, buffers: &mut Buffers, lengths: &mut [usize; BATCH]) -> Result<usize, Errno> {
    // SAFETY: all zeroes is a valid value of these structures: plain numbers and null pointers.
    let (mut messages, mut vectors): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) = unsafe { std::mem::zeroed() };
    let (slots, _) = buffers.bytes.as_chunks_mut::<STRIDE>();
    for ((slot, message), vector) in slots.iter_mut().zip(&mut messages).zip(&mut vectors) {
        *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: every message points at one vector and every vector at one slot of `buffers`, which is borrowed
    // exclusively and holds BATCH slots; no name, no control data.
    let got = unsafe { libc::recvmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), BATCH as u32, libc::MSG_DONTWAIT, null_mut()) };
    let got = Errno::result(got)? as usize;
    for (length, message) in lengths.iter_mut().zip(&messages[..got]) {
        *length = message.msg_len as usize;
    }
    Ok(got)
}

/// Room for [`BATCH`] packets of any length. Pages that no packet ever touched cost nothing.
#[derive(Debug)]
pub struct Buffers {
    bytes: Vec<u8>,
}

/// 65,535 bytes and an offload header; not a multiple of 4,096, so that the packets' headers do not all fall into the
/// same lines of the cache.
pub const STRIDE: usize = 65_536 + 320;

impl Default for Buffers {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH * STRIDE] }
    }
}

impl Buffers {
    pub fn slot(&self, index: usize) -> &[u8] {
        &self.bytes[index * STRIDE..(index + 1) * STRIDE]
    }

    pub fn slot_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index * STRIDE..(index + 1) * STRIDE]
    }
}
