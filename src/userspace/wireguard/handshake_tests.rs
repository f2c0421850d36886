use super::*;
use crate::userspace::wireguard::event::Events;
use crate::userspace::wireguard::limit::Limit;
use crate::userspace::wireguard::mac::Cookie;
use crate::userspace::wireguard::peer::PeerConfig;
use crate::userspace::wireguard::shared::{Clocks, InterfaceConfig};
use std::fs::File;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::{Instant, SystemTime};

const SOURCE: &str = "192.0.2.7:51820";

fn private(n: u8) -> PrivateKey {
    PrivateKey::new([n; 32])
}

/// An interface whose socket takes nothing, and a peer of it.
fn bench() -> (Shared, Arc<Interface>, Arc<Peer>) {
    bench_with(Instant::now)
}

fn bench_with(now: fn() -> Instant) -> (Shared, Arc<Interface>, Arc<Peer>) {
    let clocks = Clocks { now, wall: SystemTime::now };
    let shared = Shared::new(clocks, Limit::default(), 128, Events::new().0);
    let (name, listen) = ("pw-1".parse().unwrap(), "192.0.2.1:51820".parse().unwrap());
    let config = InterfaceConfig { name, key: private(1), listen, mark: None, roaming: true };
    let null = File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let interface = Arc::new(Interface::new(1, config, vec![null], vec![]));
    let endpoint = Some(SOURCE.parse().unwrap());
    let peer = interface.table_mut().set(private(2).public(), &PeerConfig { endpoint, ..PeerConfig::default() }).unwrap();
    (shared, interface, peer)
}

/// A cookie of the peer's, about a message of ours that began with this number and had this mac.
fn reply(local: u32, mac1: &[u8; 16], cookie: &Cookie) -> CookieReply {
    let mut message = [0; 92];
    message[4..8].copy_from_slice(&local.to_le_bytes());
    message[60..76].copy_from_slice(mac1);
    Marker::of(&private(2).public()).cookie_reply(&message, cookie, [3; 24])
}

/// As a kernel under load asks for it: without, it would never take an answer of ours.
#[test]
fn a_cookie_about_an_answer_of_ours_is_taken_once() {
    let (shared, interface, peer) = bench();
    let (us, seconds) = (private(1).public(), std::time::Duration::from_secs);
    let knocked = |at| knock(&private(2), &us, Tai64n::after(Tai64n::NEVER, seconds(at))).unwrap();
    answer(&shared, &interface, SOURCE.parse().unwrap(), &knocked(1)).unwrap();
    let mac1 = peer.handshake().sent_mac1.unwrap();
    let local = peer.expire(0, 0)[0].local;
    let cookie = [9; 16];
    assert_eq!(
        take_cookie(&shared, &interface, &reply(local, &[0; 16], &cookie)),
        Err(DropReason::BadHandshake),
        "about no message of ours"
    );
    assert_eq!(take_cookie(&shared, &interface, &reply(local ^ 1, &mac1, &cookie)), Err(DropReason::UnknownSession));
    take_cookie(&shared, &interface, &reply(local, &mac1, &cookie)).unwrap();
    assert_eq!(take_cookie(&shared, &interface, &reply(local, &mac1, &cookie)), Err(DropReason::UnknownSession), "a copy");
    let now = shared.now();
    let mut next = [5; 92];
    peer.handshake().seal(&Marker::of(&peer.key), &mut next, now);
    assert!(Marker::proves(&next, &cookie));
    let mut late = [5; 92];
    peer.handshake().seal(&Marker::of(&peer.key), &mut late, now + 120_000);
    assert_eq!(late[76..], [5; 16], "it lasts for two minutes");
}

/// The same for an initiation, which is sent again when the last has had its time.
#[test]
fn a_cookie_about_an_initiation_of_ours_is_taken() {
    let (shared, interface, peer) = bench();
    begin(&shared, &interface, &peer, false).unwrap();
    let (mac1, local) = {
        let handshake = peer.handshake();
        (handshake.sent_mac1.unwrap(), handshake.attempt.as_ref().unwrap().local)
    };
    take_cookie(&shared, &interface, &reply(local, &mac1, &[9; 16])).unwrap();
    assert_eq!(peer.handshake().cookie.map(|(cookie, _)| cookie), Some([9; 16]));
}

#[test]
fn what_waits_for_a_handshake_that_cannot_be_begun_is_dropped() {
    let (shared, interface, peer) = bench();
    let waiting = || interface.drops.snapshot()[&DropReason::NoSession];
    assert!(peer.wait(&[1], &shared.pool));
    begin(&shared, &interface, &peer, false).unwrap();
    assert_eq!(waiting(), 0, "its answer may come");
    // It is asked for again when the interface is silent, which ends what there is.
    interface.set_sending(false);
    interface.forget(&peer, false);
    assert!(peer.wait(&[1], &shared.pool) && peer.wait(&[2], &shared.pool));
    assert_eq!(begin(&shared, &interface, &peer, false), Err(DropReason::Silent));
    assert_eq!((waiting(), peer.waited().len()), (2, 0));
}

/// Milliseconds of a clock that the test sets.
static CLOCK: AtomicU64 = AtomicU64::new(0);
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn clock() -> Instant {
    *BEGIN + std::time::Duration::from_millis(CLOCK.load(Relaxed))
}

/// Or one that is a peer, or somebody with its key, has all of the thread that does handshakes.
#[test]
fn a_peer_is_answered_once_in_twenty_milliseconds() {
    let (shared, interface, peer) = bench_with(clock);
    interface.table_mut().set(private(3).public(), &PeerConfig::default()).unwrap();
    let knock = |of, second, at| {
        CLOCK.store(at, Relaxed);
        let stamp = Tai64n::from_unix(second, 0);
        let message = knock(&private(of), &private(1).public(), stamp).unwrap();
        answer(&shared, &interface, SOURCE.parse().unwrap(), &message)
    };
    assert_eq!(knock(2, 1, 0), Ok(()));
    assert_eq!((knock(2, 2, 0), knock(2, 3, 19)), (Err(DropReason::TooOften), Err(DropReason::TooOften)));
    assert_eq!(knock(3, 1, 19), Ok(()), "others are others");
    assert_eq!(knock(2, 1, 30), Err(DropReason::Replayed));
    assert_eq!(peer.handshake().heard, Tai64n::from_unix(1, 0), "what was not answered is not used up");
    assert_eq!((knock(2, 2, 20), knock(2, 3, 39), knock(2, 3, 40)), (Ok(()), Err(DropReason::TooOften), Ok(())));
}
