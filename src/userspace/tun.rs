//! Opening a TUN device whose packets carry an offload header, and reading and writing it.

use super::vnet;
use crate::model::IfName;
use nix::errno::Errno;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Layer 3, no packet information, an offload header, and several queues allowed (`struct ifreq`'s `ifr_flags`).
const FLAGS: i32 = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

// include/uapi/linux/if_tun.h: what the reader of the device is able to finish itself.
const CHECKSUM: u32 = 0x01;
const TSO4: u32 = 0x02;
/// UDP segmentation, since 6.2; the kernel wants both families together.
const USO: u32 = 0x20 | 0x40;

/// Opens a queue of the device in this thread's network namespace, making the device if there is none. It stays when
/// the process goes. Reads and writes do not block.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`, `EINVAL` if an interface of that name is no TUN device with our flags, `EBUSY` if
/// all its queues are taken, `ENOENT` without /dev/net/tun.
pub fn open(interface: &IfName) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/net/tun")?;
    let fd = OwnedFd::from(file);
    let mut request = request(interface);
    request.ifr_ifru.ifru_flags = FLAGS as libc::c_short;
    ioctl(&fd, libc::TUNSETIFF, &mut request)?;
    ioctl_value(&fd, libc::TUNSETPERSIST, 1)?;
    let mut size = vnet::LEN as libc::c_int;
    ioctl(&fd, libc::TUNSETVNETHDRSZ, &mut size)?;
    ioctl_value(&fd, libc::TUNSETOFFLOAD, CHECKSUM | TSO4 | USO).or_else(|_| ioctl_value(&fd, libc::TUNSETOFFLOAD, CHECKSUM | TSO4))?;
    Ok(fd)
}

/// Whether this descriptor is a queue of that device, opened as [`open`] does.
pub fn is_queue_of(fd: &OwnedFd, interface: &IfName) -> bool {
    let mut found = request(interface);
    found.ifr_name = [0; libc::IFNAMSIZ];
    ioctl(fd, libc::TUNGETIFF, &mut found).is_ok() && found.ifr_name == request(interface).ifr_name
}

/// The device's MTU in bytes; `socket` is any socket in its network namespace.
pub fn mtu(socket: &OwnedFd, interface: &IfName) -> io::Result<usize> {
    let mut request = request(interface);
    ioctl(socket, libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU succeeded, so the kernel has filled this member of the union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(io::Error::other)
}

/// Reads one packet with its offload header; none if there is none now.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
    match nix::unistd::read(fd, buffer) {
        Ok(len) => Ok(Some(len)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn request(interface: &IfName) -> libc::ifreq {
    // SAFETY: all zeroes is a valid `ifreq`: an array and a union of plain numbers and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // An `IfName` has at most 15 bytes: one zero stays.
    for (to, from) in request.ifr_name.iter_mut().zip(interface.as_str().bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn ioctl<T>(fd: &OwnedFd, number: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: `argument` is an exclusive reference to what the request reads and writes: an `ifreq` or an `int`.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), number, std::ptr::from_mut(argument)) })?;
    Ok(())
}

fn ioctl_value(fd: &OwnedFd, number: libc::Ioctl, argument: u32) -> io::Result<()> {
    // SAFETY: these requests take their argument by value.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), number, libc::c_ulong::from(argument)) })?;
    Ok(())
}
