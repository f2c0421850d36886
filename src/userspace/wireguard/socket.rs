//! The UDP socket of an interface: many datagrams in one system call, of which the kernel makes each big one from many of one size, and cuts
//! each big one into many (udp(7): `UDP_GRO`, `UDP_SEGMENT`).

use crate::userspace::raw::Buffers;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::time::Duration;

/// Datagrams in one system call, each of them up to 64 KiB that the kernel has put together.
pub const BATCH: usize = 16;

/// Datagrams that the kernel cuts one into, at most (`UDP_MAX_SEGMENTS` before 6.9).
pub const SEGMENTS_MAX: usize = 64;
/// Bytes of them.
pub const BYTES_MAX: usize = 65_000;

/// Bytes that wait in each direction.
const SOCKET_BUFFER: usize = 16 << 20;
/// How long a datagram waits for room in the send buffer before it is dropped (and a stop is seen).
const SEND_PATIENCE: Duration = Duration::from_millis(100);

/// Use the interface's MTU and fragment what is longer; believe no ICMP about the path (include/uapi/linux/in.h, in6.h).
const PMTUDISC_OMIT: libc::c_int = 5;

/// Opens the socket in this thread's network namespace. The address need not be there: what is sent before is refused by the kernel. Several
/// sockets that are `shared` may have one address; each peer's datagrams then come to one of them.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` (buffers, mark), `EADDRINUSE` if somebody else has the port.
pub fn open(listen: SocketAddr, mark: Option<u32>, shared: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    let on: libc::c_int = 1;
    match listen {
        SocketAddr::V4(_) => {
            socket.set_freebind_v4(true)?;
            socket.set_recv_tos_v4(true)?;
            option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTUDISC_OMIT)?;
        }
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
            socket.set_recv_tclass_v6(true)?;
            option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_OMIT)?;
        }
    }
    option(&socket, libc::SOL_UDP, libc::UDP_GRO, on)?;
    // Beyond net.core.[rw]mem_max, which a namespace cannot raise.
    setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER)?;
    setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER)?;
    socket.set_write_timeout(Some(SEND_PATIENCE))?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.set_reuse_port(shared)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

/// Goes on with a socket that [`open`] opened, in this process or another.
pub fn adopt(fd: OwnedFd, mark: Option<u32>, shared: bool) -> io::Result<OwnedFd> {
    let socket = Socket::from(fd);
    socket.set_mark(mark.unwrap_or(0))?;
    socket.set_reuse_port(shared)?;
    Ok(socket.into())
}

/// Whether a descriptor is a socket that is bound to this address.
pub fn is_bound_to(fd: &OwnedFd, listen: SocketAddr) -> bool {
    fd.try_clone().is_ok_and(|fd| Socket::from(fd).local_addr().is_ok_and(|address| address.as_socket() == Some(listen)))
}

/// What to send: one datagram, or several of `segment` bytes each, of which the last may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub to: SocketAddr,
    pub bytes: &'a [u8],
    pub segment: usize,
    /// The outer traffic class.
    pub class: u8,
}

/// What was received into the buffer of the same number.
#[derive(Debug, Clone, Copy)]
pub struct Incoming {
    pub source: SocketAddr,
    pub len: usize,
    /// Bytes of each datagram in it; the last may be shorter.
    pub segment: usize,
    /// The outer traffic class.
    pub class: u8,
    /// It was longer than the buffer.
    pub cut: bool,
}

/// Control data with one value.
#[repr(C)]
struct Note<T> {
    header: libc::cmsghdr,
    value: T,
}

#[repr(C)]
struct Notes {
    class: Note<libc::c_int>,
    segment: Note<u16>,
}

/// Room for the control data that was asked for: a number each for traffic class and segment size.
#[repr(C, align(8))]
struct Room([u8; 96]);

/// Sends up to [`BATCH`]: how many went; an error is about the first of them.
pub fn send(fd: BorrowedFd<'_>, datagrams: &[Outgoing<'_>]) -> Result<usize, Errno> {
    let count = datagrams.len().min(BATCH);
    type Batch = ([libc::mmsghdr; BATCH], [libc::iovec; BATCH], [Notes; BATCH]);
    // SAFETY: all zeroes is a valid value of these structures: plain numbers and null pointers.
    let (mut messages, mut vectors, mut notes): Batch = unsafe { std::mem::zeroed() };
    let addresses: [SockAddr; BATCH] = std::array::from_fn(|i| datagrams.get(i).unwrap_or(&datagrams[0]).to.into());
    for (i, datagram) in datagrams[..count].iter().enumerate() {
        vectors[i] = libc::iovec { iov_base: datagram.bytes.as_ptr().cast_mut().cast(), iov_len: datagram.bytes.len() };
        let (level, kind) = match datagram.to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        let note = &mut notes[i];
        note.class.header.cmsg_len = length::<libc::c_int>();
        note.class.header.cmsg_level = level;
        note.class.header.cmsg_type = kind;
        note.class.value = datagram.class.into();
        note.segment.header.cmsg_len = length::<u16>();
        note.segment.header.cmsg_level = libc::SOL_UDP;
        note.segment.header.cmsg_type = libc::UDP_SEGMENT;
        // Fits: a segment is a packet.
        note.segment.value = datagram.segment as u16;
        let several = datagram.bytes.len() > datagram.segment;
        let header = &mut messages[i].msg_hdr;
        header.msg_name = addresses[i].as_ptr().cast_mut().cast();
        header.msg_namelen = addresses[i].len();
        header.msg_iov = &raw mut vectors[i];
        header.msg_iovlen = 1;
        header.msg_control = std::ptr::from_mut(note).cast();
        header.msg_controllen = if several { size_of::<Notes>() } else { size_of::<Note<libc::c_int>>() } as _;
    }
    // SAFETY: the first `count` messages point at addresses, vectors, notes and datagrams that outlive the call, with their true
    // lengths; the kernel writes nothing but `msg_len`.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0) };
    Errno::result(sent).map(|n| n as usize)
}

/// Receives up to [`BATCH`], without waiting, each into a slot of `buffers`.
pub fn receive(fd: BorrowedFd<'_>, buffers: &mut Buffers, incoming: &mut Vec<Incoming>) -> Result<(), Errno> {
    incoming.clear();
    type Batch = ([libc::mmsghdr; BATCH], [libc::iovec; BATCH], [Room; BATCH]);
    // SAFETY: all zeroes is a valid value of these structures: plain numbers and null pointers.
    let (mut messages, mut vectors, mut rooms): Batch = unsafe { std::mem::zeroed() };
    let mut addresses = [const { None::<SockAddrStorage> }; BATCH].map(|_| SockAddrStorage::zeroed());
    for i in 0..BATCH {
        let slot = buffers.slot_mut(i);
        vectors[i] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        let header = &mut messages[i].msg_hdr;
        header.msg_name = (&raw mut addresses[i]).cast();
        header.msg_namelen = size_of::<SockAddrStorage>() as libc::socklen_t;
        header.msg_iov = &raw mut vectors[i];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut rooms[i]).cast();
        header.msg_controllen = size_of::<Room>() as _;
    }
    // SAFETY: every message points at an address, a vector and room for control data of its own, and every vector at a slot of `buffers`,
    // which is borrowed exclusively; all outlive the call, with their true lengths.
    let got = unsafe { libc::recvmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), BATCH as u32, libc::MSG_DONTWAIT, null_mut()) };
    let got = Errno::result(got)? as usize;
    for (message, storage) in messages[..got].iter().zip(addresses) {
        let header = &message.msg_hdr;
        // SAFETY: the kernel has written an address of this length; it is no longer than there was room for.
        let source = unsafe { SockAddr::new(storage, header.msg_namelen) };
        let len = message.msg_len as usize;
        let (class, segment) = control(header);
        let Some(source) = source.as_socket() else { continue };
        incoming.push(Incoming { source, len, segment: segment.unwrap_or(len), class, cut: header.msg_flags & libc::MSG_TRUNC != 0 });
    }
    Ok(())
}

/// Traffic class, and the size of the segments if there are several.
fn control(header: &libc::msghdr) -> (u8, Option<usize>) {
    let (mut class, mut segment) = (0, None);
    // SAFETY: the kernel has filled the control data of this header and set its length; the macros stay within it.
    unsafe {
        let mut note = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = note.as_ref() {
            let data = libc::CMSG_DATA(note);
            match (head.cmsg_level, head.cmsg_type) {
                // One byte (IPv4) or the first of a number that is less than 256 (IPv6): the low one in the machine's order.
                (libc::IPPROTO_IP, libc::IP_TOS) => class = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => class = data.cast::<libc::c_int>().read_unaligned() as u8,
                (libc::SOL_UDP, libc::UDP_GRO) => segment = usize::try_from(data.cast::<libc::c_int>().read_unaligned()).ok(),
                _ => {}
            }
            note = libc::CMSG_NXTHDR(header, note);
        }
    }
    (class, segment.filter(|size| *size > 0))
}

/// Bytes of control data with such a value, as CMSG_LEN counts them: without what is behind for alignment.
fn length<T>() -> libc::size_t {
    std::mem::offset_of!(Note<T>, value) + size_of::<T>()
}

fn option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is a number of the size that is said, which outlives the call.
    Errno::result(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) })?;
    Ok(())
}
