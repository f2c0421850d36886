//! What packet sockets have in common.

use nix::sys::socket::{LinkAddr, SockaddrLike};

/// An interface, as packet sockets name it.
pub fn link_address(protocol: u16, index: u32) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a whole sockaddr_ll of that length, which is copied before this returns.
    let address = unsafe { LinkAddr::from_raw(std::ptr::from_ref(&address).cast(), Some(length)) };
    address.expect("the family and the length are those of a LinkAddr")
}
