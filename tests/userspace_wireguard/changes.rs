//! Interfaces that come and go, and what the socket of one is like.

use crate::support::*;
use crate::userspace_support::name;
use portway::userspace::wireguard::{InterfaceConfig, PeerConfig, knock};
use portway::wire::wireguard::Tai64n;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn config(ours: &Ours) -> InterfaceConfig {
    ours.device.interfaces()[0].clone()
}

/// The peer once more, which has been called: where its interface was made again.
fn come_back(net: &Net, gateway: &mut Ours) {
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
    gateway.forget_events();
    gateway.device.initiate(&pw(), &public(THEIRS)).unwrap();
    gateway.await_handshake(THEIRS);
    net.await_ping();
}

#[test]
fn an_interface_that_is_removed_is_gone_and_can_come_back() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let _host = net.host(&gateway, Setup::default());
    net.ping();
    let config = config(&gateway);
    assert!(!net.gateway.run(|| gateway.device.add_interface(config.clone())).unwrap(), "it is there and the same");
    net.ping();
    assert!(gateway.device.remove_interface(&pw()) && !gateway.device.remove_interface(&pw()));
    assert!(!net.pings("-c 1 -W 1"));
    assert!(gateway.device.set_peer(&pw(), public(THEIRS), &PeerConfig::default()).is_err());
    assert!(net.gateway.run(|| gateway.device.add_interface(config)).unwrap());
    come_back(&net, &mut gateway);
}

#[test]
fn a_link_that_somebody_removes_is_missed_and_can_be_made_again() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let _host = net.host(&gateway, Setup::default());
    net.ping();
    net.gateway.ip("link del pw-1");
    until(|| gateway.device.lost() == [pw()], || "the link to be missed".into());
    let config = config(&gateway);
    assert!(net.gateway.run(|| gateway.device.add_interface(config)).unwrap());
    assert_eq!(gateway.device.lost(), []);
    net.plumb_gateway();
    come_back(&net, &mut gateway);
}

/// A thread that is busy with what comes still has the former interface's socket.
#[test]
fn a_key_that_changes_has_the_port_at_once() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let config = config(&gateway);
    let socket = net.host.run(|| UdpSocket::bind("10.0.0.1:0")).unwrap();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                // For want of room, or refused while there is nobody.
                let _ = socket.send_to(&[4; 1000], "10.0.0.2:51820");
            }
        });
        for turn in 0..1000 {
            let config = InterfaceConfig { key: key(10 + turn as u8 % 2), ..config.clone() };
            let added = net.gateway.run(|| gateway.device.add_interface(config));
            if !matches!(added, Ok(true)) {
                enough.store(true, Ordering::Relaxed);
            }
            assert!(added.unwrap(), "turn {turn}");
        }
        enough.store(true, Ordering::Relaxed);
    });
    assert!(net.gateway.run(|| gateway.device.add_interface(config)).unwrap());
    let _host = net.host(&gateway, Setup::default());
    net.await_ping();
}

/// Each has its own key, port and peers; an initiation for one is none for the other.
#[test]
fn two_interfaces_of_one_device_are_two() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let _host = net.host(&gateway, Setup::default());
    let (listen, second) = (at("10.0.0.2:51821"), name("pw-2"));
    let other = InterfaceConfig { name: second.clone(), key: key(7), listen, mark: None, roaming: true };
    assert!(net.gateway.run(|| gateway.device.add_interface(other)).unwrap());
    // The same peer and the same addresses, as with two tenants.
    gateway.device.set_peer(&second, public(THEIRS), &allowed(&["10.64.0.1/32"], None)).unwrap();
    net.ping();
    let seen = |interface| gateway.device.peer(interface, &public(THEIRS)).unwrap().unwrap().last_handshake.is_some();
    assert_eq!((seen(&pw()), seen(&second)), (true, false));
    let knock = knock(&key(THEIRS), &public(OURS), Tai64n::after(Tai64n::NEVER, Duration::from_secs(1 << 40))).unwrap();
    assert!(gateway.device.handle_initiation(&second, at("10.0.0.1:51820"), &knock).is_err());
    // One was answered a moment ago.
    let answered = || gateway.device.handle_initiation(&pw(), at("10.0.0.1:51820"), &knock).is_ok();
    until(answered, || "the initiation to be answered".into());
}

#[test]
fn nobody_is_its_own_peer() {
    let net = Net::new();
    let gateway = net.gateway(Setup::default());
    let error = gateway.device.set_peer(&pw(), public(OURS), &allowed(&[], None)).unwrap_err();
    assert!(error.to_string().contains("own key"), "{error}");
    assert_eq!(gateway.device.counters()[&pw()].peers, 0);
}

#[test]
fn what_is_sent_carries_the_mark() {
    let net = Net::new();
    let gateway = net.gateway(Setup { mark: Some(0x4000), ..Setup::default() });
    let [without, with] = ["meta mark != 0x00004000", "meta mark 0x00004000"].map(|like| net.count_sent(like));
    let _host = net.host(&gateway, Setup::default());
    net.ping();
    assert_eq!((without(), with() > 0), (0, true));
}

#[test]
fn a_keepalive_begins_a_session_and_is_heard_again_and_again() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let stranger = net.stranger();
    let keepalive = Some(Duration::from_secs(1));
    gateway.peer(THEIRS, &PeerConfig { keepalive, ..allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")) });
    gateway.await_handshake(THEIRS);
    let received = || stranger.show("transfer").split('\t').nth(1).map_or(0, |bytes| bytes.parse::<u64>().unwrap());
    let before = received();
    until(|| received() >= before + 64, || "two keepalives of 32 bytes".into());
}
