//! Real traffic.

use crate::support::*;
use portway::userspace::wireguard::DropReason;
use rstest::rstest;

fn assert_nothing_dropped(ours: &Ours) {
    let drops = ours.drops().into_iter().filter(|(why, _)| *why != DropReason::UnsupportedProtocol).collect::<Vec<_>>();
    assert_eq!(drops, [], "IPv6 router solicitations apart, nothing is dropped");
}

#[rstest]
#[case::offloads_on(false, false, 1)]
#[case::several_threads(false, false, 3)]
#[case::cables_without_offloads(true, false, 1)]
#[case::nothing_with_offloads(true, true, 1)]
fn ping_and_tcp_arrive_whole(#[case] cables_off: bool, #[case] tuns_off: bool, #[case] threads: usize) {
    let net = Net::new();
    let gateway = net.gateway(Setup { threads, ..Setup::default() });
    let host = net.host(&gateway, Setup { threads, ..Setup::default() });
    for namespace in [&net.host, &net.gateway] {
        if cables_off {
            namespace.offloads_off("eth0");
        }
        if tuns_off {
            namespace.offloads_off("pw-1");
        }
    }
    net.ping();
    assert!(net.pings("-c 3 -i 0.01 -W 2 -s 1392 -M do"), "as long as the MTU allows");
    assert!(net.pings("-c 3 -i 0.01 -W 2 -s 8000"), "in fragments");
    net.transfer(&noise(20 << 20, 7));
    for ours in [&gateway, &host] {
        let traffic = ours.device.counters()[&pw()].traffic;
        assert!(traffic.received_bytes > 20 << 20 && traffic.sent_bytes > 20 << 20, "{traffic:?}");
        assert_nothing_dropped(ours);
    }
    let peer = &gateway.device.peers(&pw()).unwrap()[0];
    assert!(peer.received_bytes > 20 << 20 && peer.sent_bytes > 20 << 20 && peer.last_handshake.is_some(), "{peer:?}");
    assert_eq!(peer.endpoint, Some(at("10.0.0.1:51820")));
}

/// Outer datagrams longer than the way takes: they are fragmented, as other implementations have it.
#[test]
fn a_way_with_a_small_mtu_is_no_obstacle() {
    let net = Net::new();
    let gateway = net.gateway(Setup::default());
    let _host = net.host(&gateway, Setup::default());
    for namespace in [&net.host, &net.gateway] {
        namespace.ip("link set eth0 mtu 1300");
    }
    net.transfer(&noise(2 << 20, 3));
}

#[rstest]
#[case::offloads_on(false)]
#[case::offloads_off(true)]
fn a_stranger_is_served(#[case] off: bool) {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let stranger = net.stranger();
    if off {
        net.host.offloads_off("eth0");
        net.gateway.offloads_off("eth0");
    }
    net.ping();
    gateway.await_handshake(THEIRS);
    net.gateway.exec("ping -c 3 -i 0.01 -W 2 10.64.0.1");
    net.transfer(&noise(8 << 20, 5));
    assert_nothing_dropped(&gateway);
    assert!(stranger.show("transfer").split('\t').skip(1).all(|bytes| bytes.parse::<u64>().unwrap() > 8 << 20));
}

/// Outside IPv6, inside what it always is.
#[test]
fn the_way_to_a_stranger_may_be_ipv6() {
    let net = Net::new();
    net.host.ip("address add fd00::1/64 dev eth0 nodad");
    net.gateway.ip("address add fd00::2/64 dev eth0 nodad");
    let gateway = Ours::start(&net.gateway, "[fd00::2]:51820", Setup::default());
    net.plumb_gateway();
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let stranger = net.stranger();
    stranger.set(&format!("peer {} endpoint [fd00::2]:51820", public(OURS)));
    net.ping();
    net.transfer(&noise(4 << 20, 9));
    assert_eq!(gateway.endpoint(THEIRS), Some(at("[fd00::1]:51820")));
    let elsewhere = allowed(&[], Some("10.0.0.1:51820"));
    assert!(gateway.device.set_peer(&pw(), public(THEIRS), &elsewhere).is_err(), "of another family");
    assert_nothing_dropped(&gateway);
}

/// We begin, and what made us begin is delivered.
#[test]
fn our_first_packet_waits_for_the_strangers_answer() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let _stranger = net.stranger();
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
    net.gateway.exec("ping -c 1 -W 2 10.64.0.1");
    gateway.await_handshake(THEIRS);
}

#[test]
fn a_stranger_that_forgot_everything_comes_back() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let mut stranger = net.stranger();
    net.ping();
    gateway.await_handshake(THEIRS);
    stranger.restart(&net);
    net.ping();
    gateway.await_handshake(THEIRS);
    net.gateway.exec("ping -c 1 -W 2 10.64.0.1");
}

#[test]
fn a_successor_goes_on_with_the_descriptors() {
    let net = Net::new();
    let gateway = net.gateway(Setup::default());
    let mut host = net.host(&gateway, Setup::default());
    net.ping();
    let adopt = gateway.device.descriptors().unwrap();
    let names = adopt.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names, ["wg-udp-0-pw-1", "wg-tun-0-pw-1"]);
    gateway.device.stop();
    let successor = net.gateway(Setup { adopt, ..Setup::default() });
    successor.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
    host.forget_events();
    successor.device.initiate(&pw(), &public(THEIRS)).unwrap();
    host.await_handshake(OURS);
    net.ping();
}
