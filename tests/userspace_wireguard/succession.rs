//! One device after another, as when a daemon is restarted: sessions go on, in one of them.

use crate::support::*;
use portway::userspace::wireguard::{Device, DropReason, PeerConfig, Will};
use rstest::rstest;
use std::time::{Duration, Instant};

const GATEWAY: &str = "10.0.0.2:51820";

/// A successor's part before the predecessor has stopped.
fn ready(net: &Net, predecessor: &Device, threads: usize) -> Ours {
    let adopt = predecessor.descriptors().unwrap();
    let successor = Ours::prepare(&net.gateway, GATEWAY, Setup { adopt, threads, ..Setup::default() });
    successor.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    successor
}

fn copy(will: &Will) -> Will {
    will.descriptor().unwrap().into()
}

/// Everything, as a daemon does it: how long nobody carried.
fn succeed(net: &Net, predecessor: &mut Ours, threads: usize) -> (Ours, Duration) {
    let mut successor = ready(net, &predecessor.device, threads);
    let will = Will::new().unwrap();
    let inherited = copy(&will);
    let begun = Instant::now();
    predecessor.device.leave(&will).unwrap();
    assert!(successor.device.inherit(inherited).unwrap());
    successor.device.carry().unwrap();
    (successor, begun.elapsed())
}

fn quietly(ours: &Ours) -> Vec<(DropReason, u64)> {
    // But for IPv6 router solicitations.
    ours.drops().into_iter().filter(|(why, _)| *why != DropReason::UnsupportedProtocol).collect()
}

/// The peer is a stranger, which would notice any other session, and any packet by a counter that it has seen.
#[rstest]
#[case::one_thread(1)]
#[case::several_threads(3)]
fn serial_nothing_is_lost_and_nothing_agreed_on_anew(#[case] threads: usize) {
    let net = Net::new();
    let mut gateway = net.gateway(Setup { threads, ..Setup::default() });
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let stranger = net.stranger();
    net.ping();
    gateway.await_handshake(THEIRS);
    let agreed = stranger.show("latest-handshakes");
    let mut gaps = Vec::new();
    let mut succeed_five_times = |gateway: &mut Ours| {
        for _ in 0..5 {
            until(|| gateway.received() >= 100, || "traffic".into());
            let (successor, gap) = succeed(&net, gateway, threads);
            assert_eq!((quietly(gateway), gateway.handshakes()), (vec![], 0));
            *gateway = successor;
            gaps.push(gap);
        }
    };
    std::thread::scope(|scope| {
        let there = scope.spawn(|| net.host.output("ping -q -i 0.002 -c 1000 -W 5 172.16.0.10"));
        let back = scope.spawn(|| net.gateway.output("ping -q -i 0.002 -c 1000 -W 5 -I 172.16.0.10 10.64.0.1"));
        succeed_five_times(&mut gateway);
        for pings in [there, back] {
            let said = String::from_utf8(pings.join().unwrap().stdout).unwrap();
            assert!(said.contains("1000 packets transmitted, 1000 received, 0% packet loss"), "{said}");
        }
    });
    // As fast as it goes; then the stranger's queues overflow now and then, successor or not.
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| net.transfer(&noise(40 << 20, 11)));
        succeed_five_times(&mut gateway);
        transfer.join().unwrap();
    });
    println!("nobody carried for {gaps:?}");
    assert_eq!((quietly(&gateway), gateway.handshakes()), (vec![], 0));
    assert_eq!(stranger.show("latest-handshakes"), agreed);
    let peer = gateway.device.peer(&pw(), &public(THEIRS)).unwrap().unwrap();
    assert_eq!(peer.endpoint, Some(at("10.0.0.1:51820")), "it is known from the predecessor");
    assert!(peer.last_handshake.is_some() && peer.received_bytes > 40 << 20, "{peer:?}");
}

#[test]
fn sessions_go_on_in_one_device_only() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let mut host = net.host(&gateway, Setup::default());
    net.ping();
    host.await_handshake(OURS);
    let [mut first, second] = [(); 2].map(|()| ready(&net, &gateway.device, 1));
    let will = Will::new().unwrap();
    let [one, other, late] = [(); 3].map(|()| copy(&will));
    gateway.device.leave(&will).unwrap();
    assert!(gateway.device.initiate(&pw(), &public(THEIRS)).is_err(), "what has left its sessions is silent");
    assert!(first.device.inherit(one).unwrap());
    assert!(!second.device.inherit(other).unwrap());
    drop(second);
    first.device.carry().unwrap();
    net.ping();
    // It ends without a word: what it had is nobody's, although the file is still there.
    drop(first);
    let mut third = ready(&net, &gateway.device, 1);
    assert!(!third.device.inherit(late).unwrap());
    third.device.carry().unwrap();
    third.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
    host.forget_events();
    third.device.initiate(&pw(), &public(THEIRS)).unwrap();
    host.await_handshake(OURS);
    net.await_ping();
}

#[test]
fn a_device_that_ends_otherwise_leaves_nothing() {
    let net = Net::new();
    let gateway = net.gateway(Setup::default());
    let mut host = net.host(&gateway, Setup::default());
    net.ping();
    let mut successor = ready(&net, &gateway.device, 1);
    let will = Will::new().unwrap();
    gateway.device.stop();
    assert!(!successor.device.inherit(copy(&will)).unwrap());
    successor.device.carry().unwrap();
    host.forget_events();
    successor.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
    successor.device.initiate(&pw(), &public(THEIRS)).unwrap();
    host.await_handshake(OURS);
    net.await_ping();
}

/// Peers that no configuration names come back later, by whoever knows them.
#[test]
fn a_peer_that_comes_back_later_finds_its_session() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let mut host = net.host(&gateway, Setup::default());
    net.ping();
    let heard = gateway.device.peer(&pw(), &public(THEIRS)).unwrap().unwrap().heard;
    let adopt = gateway.device.descriptors().unwrap();
    let mut successor = Ours::prepare(&net.gateway, GATEWAY, Setup { adopt, ..Setup::default() });
    let will = Will::new().unwrap();
    gateway.device.leave(&will).unwrap();
    assert!(successor.device.inherit(will).unwrap());
    successor.device.carry().unwrap();
    let left = successor.device.left_behind();
    let [left] = &left[..] else { panic!("{left:?}") };
    assert_eq!((&left.interface, left.key, left.endpoint, left.heard), (&pw(), public(THEIRS), Some(at("10.0.0.1:51820")), heard));
    assert!(!net.pings("-c 1 -W 1"));
    host.forget_events();
    successor.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    assert_eq!(successor.device.left_behind(), []);
    net.ping();
    assert_eq!((host.handshakes(), successor.handshakes()), (0, 0));
    assert!(successor.dropped(DropReason::UnknownSession) > 0);
    // One that is removed meanwhile does not.
    let third = ready(&net, &successor.device, 1);
    third.device.remove_peer(&pw(), &public(THEIRS)).unwrap();
    let will = Will::new().unwrap();
    successor.device.leave(&will).unwrap();
    assert!(third.device.inherit(will).unwrap());
    assert!(third.device.remove_peer(&pw(), &public(THEIRS)).is_ok());
    third.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    assert!(third.device.peer(&pw(), &public(THEIRS)).unwrap().unwrap().last_handshake.is_none());
}

#[test]
fn what_is_of_another_key_or_of_a_silent_interface_does_not_go_on() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let _host = net.host(&gateway, Setup::default());
    net.ping();
    let known = |ours: &Ours| ours.device.peer(&pw(), &public(THEIRS)).unwrap().unwrap().last_handshake.is_some();
    let stamp = gateway.device.stamp(&pw()).unwrap();

    let other = Ours::prepare(&net.gateway, "10.0.0.2:51821", Setup { key: 9, ..Setup::default() });
    other.peer(THEIRS, &PeerConfig::default());
    let will = Will::new().unwrap();
    gateway.device.leave(&will).unwrap();
    assert!(other.device.inherit(will).unwrap());
    assert!(!known(&other) && other.device.left_behind().is_empty());

    let mut gateway = net.gateway(Setup { adopt: gateway.device.descriptors().unwrap(), ..Setup::default() });
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
    gateway.device.initiate(&pw(), &public(THEIRS)).unwrap();
    gateway.await_handshake(THEIRS);
    let before = gateway.device.stamp(&pw()).unwrap();
    assert!(before > stamp);
    gateway.device.set_sending(&pw(), false).unwrap();
    let successor = ready(&net, &gateway.device, 1);
    successor.device.set_sending(&pw(), false).unwrap();
    let will = Will::new().unwrap();
    gateway.device.leave(&will).unwrap();
    assert!(successor.device.inherit(will).unwrap());
    assert!(!successor.device.is_sending(&pw()).unwrap());
    assert!(successor.device.stamp(&pw()).unwrap() >= before, "but its stamps are later than the predecessor's");
}
