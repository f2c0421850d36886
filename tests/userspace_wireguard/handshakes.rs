//! Peers that are not known yet, sessions that grow old, stamps.

use crate::support::*;
use portway::userspace::wireguard::{Clocks, DropReason, Event, PeerConfig};
use portway::wire::wireguard::Tai64n;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

fn unknown(event: Event) -> Option<(SocketAddr, Tai64n, Box<[u8; 148]>)> {
    match event {
        Event::UnknownInitiation { source, key, stamp, bytes, .. } if key == public(THEIRS) => Some((source, stamp, bytes)),
        _ => None,
    }
}

/// The ping that made the stranger knock is answered: nothing is sent twice.
#[test]
fn an_unknown_peer_is_let_in_by_the_initiation_that_it_knocked_with() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let _stranger = net.stranger();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let ping = scope.spawn(|| net.ping());
        let (source, stamp, bytes) = gateway.event(unknown);
        assert_eq!(source, at("10.0.0.1:51820"));
        gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
        gateway.device.handle_initiation(&pw(), source, &bytes).unwrap();
        let heard = gateway.event(|event| if let Event::Handshake { heard, .. } = event { Some(heard) } else { None });
        assert_eq!(heard, stamp);
        ping.join().unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(4), "it tried once more: {:?}", begun.elapsed());
    assert_eq!(gateway.dropped(DropReason::UnknownKey), 1);
}

/// The other way to let it in: we begin.
#[test]
fn an_unknown_peer_is_let_in_by_an_initiation_of_ours() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let _stranger = net.stranger();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let ping = scope.spawn(|| net.ping());
        gateway.event(unknown);
        gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
        gateway.device.initiate(&pw(), &public(THEIRS)).unwrap();
        ping.join().unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(4), "it tried once more: {:?}", begun.elapsed());
}

#[test]
fn an_initiation_counts_once_also_after_the_peer_was_removed() {
    let net = Net::new();
    let mut gateway = net.gateway(Setup::default());
    let host = net.host(&gateway, Setup::default());
    gateway.device.remove_peer(&pw(), &public(THEIRS)).unwrap();
    host.device.initiate(&pw(), &public(OURS)).unwrap();
    let (source, stamp, bytes) = gateway.event(unknown);
    let peer = allowed(&["10.64.0.1/32"], None);
    gateway.peer(THEIRS, &peer);
    gateway.device.handle_initiation(&pw(), source, &bytes).unwrap();
    assert!(gateway.device.handle_initiation(&pw(), source, &bytes).is_err());
    assert!(gateway.device.remove_peer(&pw(), &public(THEIRS)).unwrap());
    gateway.peer(THEIRS, &PeerConfig { heard: stamp, ..peer });
    assert!(gateway.device.handle_initiation(&pw(), source, &bytes).is_err());
    assert_eq!(gateway.dropped(DropReason::Replayed), 2);
    // One of the last 20 ms would do for the host, but its answer was of the peer that is gone.
    let agreed = || {
        host.device.initiate(&pw(), &public(OURS)).unwrap();
        gateway.device.peer(&pw(), &public(THEIRS)).unwrap().unwrap().last_handshake.is_some()
    };
    until(agreed, || "a session".into());
    net.ping();
}

/// Milliseconds that the clock of the tests below is ahead.
static AHEAD: AtomicU64 = AtomicU64::new(0);

fn ahead() -> Instant {
    Instant::now() + Duration::from_millis(AHEAD.load(Ordering::Relaxed))
}

#[test]
fn a_session_in_use_is_renewed_without_a_loss_and_an_idle_one_ends() {
    let net = Net::new();
    let clocks = Clocks { now: ahead, wall: SystemTime::now };
    let mut gateway = net.gateway(Setup { clocks, ..Setup::default() });
    let mut host = net.host(&gateway, Setup { clocks, ..Setup::default() });
    net.ping();
    gateway.await_handshake(THEIRS);
    host.await_handshake(OURS);
    // The host began it, so it is the host that renews it.
    AHEAD.fetch_add(121_000, Ordering::Relaxed);
    assert!(net.pings("-c 20 -i 0.01 -W 1"));
    gateway.await_handshake(THEIRS);
    host.await_handshake(OURS);
    let age = gateway.device.peers(&pw()).unwrap()[0].last_handshake.unwrap();
    assert!(age < Duration::from_secs(10), "{age:?}");
    // Too old to be used by either: the next packet waits for a new one.
    gateway.forget_events();
    AHEAD.fetch_add(200_000, Ordering::Relaxed);
    net.ping();
    gateway.await_handshake(THEIRS);
    for ours in [&gateway, &host] {
        let lost = ours.drops().into_iter().filter(|(why, _)| *why != DropReason::UnsupportedProtocol).collect::<Vec<_>>();
        assert_eq!(lost, []);
    }
}

/// We began it, so we renew it; the stranger's clock stands still meanwhile.
#[test]
fn a_session_with_a_stranger_is_renewed() {
    let net = Net::new();
    let clocks = Clocks { now: ahead, wall: SystemTime::now };
    let mut gateway = net.gateway(Setup { clocks, ..Setup::default() });
    let _stranger = net.stranger();
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820")));
    let ping = "ping -c 10 -i 0.01 -W 2 10.64.0.1";
    net.gateway.exec(ping);
    gateway.await_handshake(THEIRS);
    for _ in 0..3 {
        // A clock that leaps has either end begin one.
        gateway.forget_events();
        AHEAD.fetch_add(121_000, Ordering::Relaxed);
        assert!(net.gateway.exec(ping).contains(" 0% packet loss"));
        gateway.await_handshake(THEIRS);
    }
}

/// A gateway that always asks for a cookie gives one to a stranger, who comes back with it.
#[test]
fn a_stranger_comes_in_by_a_cookie() {
    let net = Net::new();
    let gateway = net.gateway(Setup { load: 0, ..Setup::default() });
    gateway.peer(THEIRS, &allowed(&["10.64.0.1/32"], None));
    let _stranger = net.stranger();
    let begun = Instant::now();
    net.ping();
    assert!(begun.elapsed() > Duration::from_secs(4), "not before its second attempt");
    assert_eq!(gateway.dropped(DropReason::Overload), 1);
}

/// And so do we.
#[test]
fn we_come_in_by_a_cookie() {
    let net = Net::new();
    let gateway = net.gateway(Setup { load: 0, ..Setup::default() });
    let host = net.host(&gateway, Setup::default());
    net.ping();
    assert_eq!(gateway.dropped(DropReason::Overload), 1);
    // It lasts for two minutes.
    gateway.device.remove_peer(&pw(), &public(THEIRS)).unwrap();
    host.device.initiate(&pw(), &public(OURS)).unwrap();
    gateway.await_drops(DropReason::UnknownKey, 1);
    assert_eq!(gateway.dropped(DropReason::Overload), 1);
}

fn behind() -> SystemTime {
    SystemTime::now() - Duration::from_secs(20)
}

/// Two machines with one key, the second one's clock 20 s behind.
#[test]
fn a_clock_that_is_behind_does_not_delay_a_successor() {
    let net = Net::new();
    let first = net.gateway(Setup::default());
    let mut host = net.host(&first, Setup::default());
    let peer = allowed(&["10.64.0.1/32"], Some("10.0.0.1:51820"));
    first.peer(THEIRS, &peer);
    first.device.initiate(&pw(), &public(THEIRS)).unwrap();
    host.await_handshake(OURS);
    let stamp = first.device.stamp(&pw()).unwrap();
    first.device.stop();

    let clocks = Clocks { wall: behind, ..clocks() };
    let second = net.gateway(Setup { clocks, ..Setup::default() });
    second.peer(THEIRS, &peer);
    second.device.initiate(&pw(), &public(THEIRS)).unwrap();
    host.await_drops(DropReason::Replayed, 1);
    second.device.stamps_after(&pw(), stamp).unwrap();
    second.device.initiate(&pw(), &public(THEIRS)).unwrap();
    host.await_handshake(OURS);
    assert!(second.device.stamp(&pw()).unwrap() > stamp);
}
