//! TUN devices: the only thing about an interface that netlink cannot make.

use crate::model::IfName;
use nix::sys::stat::Mode;
use nix::{fcntl, fcntl::OFlag};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// What every open of one device must agree on (`tun_set_iff`): no link-layer header, no protocol word before a packet,
/// a `virtio_net_hdr` that carries segmentation offload, several queues.
pub const FLAGS: i32 = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), libc::ifreq);
nix::ioctl_write_int_bad!(tun_set_persist, nix::request_code_write!(b'T', 203, size_of::<libc::c_int>()));

/// Opens one more queue of a TUN device of the calling thread's network namespace, and makes the device if there is none.
/// The descriptor is non-blocking.
pub fn open_tun(name: &IfName) -> io::Result<OwnedFd> {
    let tun = fcntl::open("/dev/net/tun", OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())?;
    // SAFETY: `ifreq` is plain old data for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // An `IfName` has at most 15 bytes, so that a zero remains at the end.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = FLAGS as libc::c_short;
    // SAFETY: `tun` is open and `request` is a whole `ifreq` that lives through the call.
    unsafe { tun_set_iff(tun.as_raw_fd(), &request) }?;
    Ok(tun)
}

/// Makes a TUN device that outlives its openers, so that its addresses and routes survive a restart.
pub fn create_persistent(name: &IfName) -> io::Result<()> {
    let tun = open_tun(name)?;
    // SAFETY: `tun` is an open TUN descriptor; the argument is a plain integer.
    unsafe { tun_set_persist(tun.as_raw_fd(), 1) }?;
    Ok(())
}
