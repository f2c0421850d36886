//! What does not belong is dropped, and counted.

use crate::support::*;
use portway::userspace::wireguard::{DropReason, Limit, message};
use std::net::UdpSocket;

#[test]
fn an_inner_source_that_is_not_the_peers_is_spoofed() {
    let net = Net::new();
    let gateway = net.gateway(Setup::default());
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let stranger = net.stranger();
    net.ping();
    net.host.ip(&format!("address add 10.64.0.9/32 dev {}", stranger.device));
    assert!(!net.pings("-c 2 -i 0.01 -W 1 -I 10.64.0.9"));
    gateway.await_drops(DropReason::SpoofedInner, 2);
    assert_eq!(gateway.dropped(DropReason::SpoofedInner), 2);
    net.ping();
}

#[test]
fn an_endpoint_roams_where_it_may_and_only_there() {
    for roaming in [true, false] {
        let net = Net::new();
        let gateway = net.gateway(Setup { roaming, ..Setup::default() });
        gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
        let stranger = net.stranger();
        net.ping();
        stranger.set("listen-port 51999");
        assert_eq!(net.pings("-c 2 -i 0.2 -W 1"), roaming);
        let port = if roaming { 51_999 } else { 51_820 };
        assert_eq!(gateway.endpoint(THEIRS), Some(at(&format!("10.0.0.1:{port}"))));
    }
}

#[test]
fn garbage_is_counted_by_what_is_wrong_with_it() {
    let net = Net::new();
    let gateway = net.gateway(Setup::default());
    let sender = net.host.run(|| UdpSocket::bind("10.0.0.1:0")).unwrap();
    let send = |bytes: &[u8]| assert_eq!(sender.send_to(bytes, "10.0.0.2:51820").unwrap(), bytes.len());
    let of = |kind: u8, len: usize| {
        let mut bytes = vec![0; len];
        bytes[0] = kind;
        bytes
    };
    send(&[]);
    send(&of(message::INITIATION, 147));
    send(&of(message::RESPONSE, 93));
    send(&of(message::DATA, 31));
    send(&of(message::DATA, 3));
    gateway.await_drops(DropReason::Truncated, 5);
    send(&of(9, 148));
    send(&[0xff; 1000]);
    gateway.await_drops(DropReason::Malformed, 2);
    send(&of(message::INITIATION, 148));
    send(&of(message::RESPONSE, 92));
    gateway.await_drops(DropReason::BadMac, 2);
    send(&of(message::COOKIE, 64));
    send(&of(message::DATA, 32));
    send(&of(message::DATA, 60_000));
    gateway.await_drops(DropReason::UnknownSession, 3);
    // And the IPv6 router solicitations of the gateway's own kernel.
    let drops = gateway.drops().into_iter().filter(|(why, _)| *why != DropReason::UnsupportedProtocol).collect::<Vec<_>>();
    assert_eq!(drops.iter().map(|(_, n)| n).sum::<u64>(), 12, "{drops:?}");
}

/// More than can be worked off, from the stranger's own address: it is let in all the same, by a cookie if need be.
#[test]
fn a_flooded_gateway_lets_a_stranger_in() {
    let net = Net::new();
    let gateway = net.gateway(Setup { limit: Limit { rate: 1_000_000, burst: 1_000_000 }, ..Setup::default() });
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let _stranger = net.stranger();
    let came = net.flooded("10.0.0.1:0", || {
        gateway.await_drops(DropReason::Overload, 1);
        net.pings("-c 1 -W 9")
    });
    assert!(came && gateway.dropped(DropReason::BadHandshake) > 0, "{:?}", gateway.drops());
}

#[test]
fn a_flood_from_elsewhere_does_not_delay_a_stranger() {
    let net = Net::new();
    let gateway = net.gateway(Setup { limit: Limit::default(), ..Setup::default() });
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let _stranger = net.stranger();
    net.host.ip("address add 10.0.0.99/24 dev eth0");
    let came = net.flooded("10.0.0.99:0", || {
        gateway.await_drops(DropReason::RateLimited, 1_000);
        net.pings("-c 1 -W 4")
    });
    assert!(came, "{:?}", gateway.drops());
    assert_eq!(gateway.dropped(DropReason::Overload), 0);
}

/// Nothing with the interface's port as its source leaves the gateway.
#[test]
fn a_demoted_interface_neither_sends_nor_answers() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let stranger = net.stranger();
    net.ping();
    gateway.device.set_sending(&pw(), false).unwrap();
    let sent = net.count_sent("");
    assert!(!net.pings("-c 2 -i 0.01 -W 1"));
    net.gateway.output("ping -c 2 -i 0.01 -W 1 10.64.0.1");
    assert!(gateway.device.initiate(&pw(), &public(THEIRS)).is_err());
    stranger.set(&format!("peer {} persistent-keepalive 1", public(OURS)));
    gateway.await_drops(DropReason::Silent, 6);
    assert_eq!(sent(), 0);

    // Active once more: it has forgotten what was agreed on, and begins anew.
    gateway.forget_events();
    gateway.device.set_sending(&pw(), true).unwrap();
    gateway.device.initiate(&pw(), &public(THEIRS)).unwrap();
    gateway.await_handshake(THEIRS);
    net.await_ping();
}

/// Who has no endpoint will never answer; what waited for it would only come out of time, or use up memory.
#[test]
fn what_is_for_a_peer_that_is_nowhere_does_not_wait() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    net.gateway.output("ping -c 3 -i 0.01 -W 1 10.64.0.1");
    gateway.await_drops(DropReason::NoEndpoint, 3);
    assert_eq!(gateway.dropped(DropReason::NoEndpoint), 3, "each counts once");
    let _stranger = net.stranger();
    net.ping();
    gateway.await_handshake(THEIRS);
    assert_eq!(gateway.device.counters()[&pw()].traffic.sent_packets, 1, "the answer, and nothing that had waited");
}

/// The kernel refuses the source address while it is another machine's, and takes it as soon as it is ours.
#[test]
fn nothing_is_sent_from_another_address_while_ours_is_away() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
    let _stranger = net.stranger();
    net.gateway.ip("address add 10.0.0.3/24 dev eth0");
    net.gateway.ip("address del 10.0.0.2/24 dev eth0");
    net.gateway.ip("address replace 10.0.0.3/24 dev eth0");
    gateway.device.initiate(&pw(), &public(THEIRS)).unwrap();
    gateway.await_drops(DropReason::SendFailed, 1);
    net.gateway.ip("address add 10.0.0.2/24 dev eth0");
    gateway.device.initiate(&pw(), &public(THEIRS)).unwrap();
    gateway.await_handshake(THEIRS);
}
