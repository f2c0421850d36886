//! The socket over which nodes agree on whose a HaVip is.

use super::kernel_support::{name, run};
use super::support::{Pair, ip};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use portway::kernel::KernelError;
use portway::kernel::vrrp_socket::{BATCH, Family, VrrpSocket};
use portway::lab::Netns;
use portway::wire::vrrp::Envelope;
use std::os::fd::AsFd;

/// Waits for packets, and takes them.
fn received(socket: &mut VrrpSocket) -> Vec<(Envelope, Vec<u8>)> {
    let mut all = Vec::new();
    let ready = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(5000u16)).unwrap();
    assert_eq!(ready, 1, "nothing came");
    let count = socket.receive(|envelope, payload| all.push((*envelope, payload.to_vec()))).unwrap();
    assert_eq!(count, all.len());
    all
}

#[test]
fn vrrp_packets_arrive_with_their_addresses_and_hop_limit() {
    let pair = Pair::new();
    let open = |netns: &Netns, family, group| netns.run(|| VrrpSocket::open(&name("eth0"), family, group).unwrap());
    pair.neighbour.run(|| {
        run("nft -f - <<'END'
table inet seen { chain input { type filter hook input priority 0
ip protocol 112 ip ttl 255 ip dscp cs6 ip hdrlength 5 counter comment \"v4\"
ip6 nexthdr 112 ip6 hoplimit 255 ip6 dscp cs6 counter comment \"v6\"
}
}
END");
    });
    let cases = [
        (Family::V4, "10.9.0.1", "10.9.0.2", false),
        (Family::V4, "10.9.0.1", "224.0.0.18", true),
        (Family::V6, "fd00::1", "fd00::2", false),
        (Family::V6, "fe80::1", "fe80::2", false),
        (Family::V6, "fd00::1", "ff02::12", true),
        (Family::V6, "fe80::1", "ff02::12", true),
    ];
    pair.node.run(|| run("ip addr add 10.9.0.77/32 dev eth0; ip addr add fd00::77/128 dev eth0 nodad"));
    for (family, from, to, group) in cases {
        let (mut near, mut far) = (open(&pair.node, family, true), open(&pair.neighbour, family, true));
        let mut deaf = open(&pair.neighbour, family, false);
        near.send(ip(from), ip(to), b"one").unwrap();
        let envelope = Envelope { source: ip(from), destination: ip(to), hop_limit: 255 };
        assert_eq!(received(&mut far), [(envelope, b"one".to_vec())]);
        assert_eq!(near.receive(|_, _| ()).unwrap(), 0, "an echo of {to}");
        let mut heard = 0;
        deaf.receive(|_, _| heard += 1).unwrap();
        assert_eq!(heard, usize::from(!group), "without joining the group, {to}");
        let error = near.send(ip(if from == "10.9.0.1" { "10.9.0.99" } else { "fd00::99" }), ip(to), b"one").unwrap_err();
        let not_here = [libc::EINVAL, libc::ENETUNREACH];
        assert!(not_here.contains(&error.raw_os_error().unwrap()), "from an address that is not here: {error}");
    }
    let (near, mut far) = (open(&pair.node, Family::V4, false), open(&pair.neighbour, Family::V4, false));
    // A source other than the one that the kernel would choose; more packets than one call takes; packets of other hop limits.
    for n in 0..=BATCH {
        near.send(ip("10.9.0.77"), ip("10.9.0.2"), &[u8::try_from(n).unwrap(); 40]).unwrap();
    }
    let mut got = received(&mut far);
    assert_eq!(got.len(), BATCH);
    got.append(&mut received(&mut far));
    for (n, (envelope, payload)) in got.iter().enumerate() {
        assert_eq!((envelope.source, payload[0] as usize, payload.len()), (ip("10.9.0.77"), n, 40));
    }
    pair.node.run(|| run("nft 'table ip lower { chain out { type filter hook output priority 0; ip ttl set 254; }; }'"));
    near.send(ip("10.9.0.1"), ip("10.9.0.2"), b"far away").unwrap();
    assert_eq!(received(&mut far)[0].0.hop_limit, 254);
    assert_eq!(near.send(ip("fd00::1"), ip("10.9.0.2"), b"").unwrap_err().raw_os_error(), Some(libc::EAFNOSUPPORT));
    assert!(matches!(pair.node.run(|| VrrpSocket::open(&name("eth7"), Family::V4, true)), Err(KernelError::NoInterface(_))));
    let seen = pair.neighbour.run(|| run("nft list table inet seen"));
    assert!(seen.contains(&format!("counter packets {} bytes", 2 + BATCH + 1)) && seen.contains("counter packets 4 "), "{seen}");
}
