//! Whoever is registered is served.

use crate::gate::*;
use crate::support::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portway::gateway::jit::{Adopted, Greeting, News, Order};
use portway::proto::jit::{Answer, Reaped, Refusal, Registered};
use portway::userspace::wireguard::{Clocks, DropReason};
use rstest::rstest;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Debian's wireguard-go, set up by `wg set` alone: the ping that makes it knock is answered, and nothing is sent twice.
#[test]
fn a_stranger_whom_the_directory_knows_is_served_at_once() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let _stranger = net.stranger();
    let begun = Instant::now();
    net.ping();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "it tried once more: {took:?}");
    let (key, stamp) = gate.news(|news| if let News::Stamp { key, stamp, .. } = news { Some((key, stamp)) } else { None });
    assert_eq!(key, public(THEIRS));
    let admitted = gate.news(Some);
    let News::Admitted { endpoint, registered, .. } = admitted else { panic!("{admitted:?}") };
    assert_eq!((endpoint, registered.host.as_str()), (at("10.0.0.1:51820"), "host-1"));
    assert_eq!(gate.door.board().peers(&shard())[&public(THEIRS)], ["10.64.0.1/32".parse().unwrap()]);
    assert_eq!(gate.device.read().unwrap().peer(&pw(), &public(THEIRS)).unwrap().unwrap().heard, stamp);
    let report = gate.door.report();
    assert_eq!((report.counters.installed, report.greeted.answered, gate.directory.asked()), (1, 1, 1));
    assert_eq!(report.json()["live"], 1);
    println!("ping {took:?}, of which to its session {:?}", report.latency);
}

#[test]
fn a_stranger_is_served_if_we_begin_as_well() {
    let net = Net::new();
    let mut gate = Gate::with(&net, |setup| setup.greeting = Greeting::Initiate);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let _stranger = net.stranger();
    let begun = Instant::now();
    net.ping();
    assert!(begun.elapsed() < Duration::from_secs(1), "it tried once more: {:?}", begun.elapsed());
    gate.await_installed(public(THEIRS));
    assert_eq!(gate.door.report().greeted.initiated, 1);
}

#[test]
fn a_host_of_ours_is_served_and_its_first_connection_carries_a_megabyte() {
    let net = Net::new();
    let gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let host = Ours::start(&net.host, "10.0.0.1:51820", Setup { key: THEIRS, ..Setup::default() });
    net.plumb_host("pw-1");
    host.peer(OURS, &allowed(&["172.16.0.0/16"], Some("10.0.0.2:51820")));
    let begun = Instant::now();
    net.transfer(&noise(1 << 20, 1));
    assert!(begun.elapsed() < Duration::from_secs(4), "it tried once more: {:?}", begun.elapsed());
    assert_eq!(gate.refusals(), []);
}

/// What it may send from is what the directory says, and follows it.
#[test]
fn what_the_directory_changes_is_changed() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.9/32"));
    let _stranger = net.stranger();
    assert!(!net.pings("-c 1 -W 1"), "that address is not its own");
    gate.await_installed(public(THEIRS));
    assert_eq!(gate.dropped(DropReason::SpoofedInner), 1);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    gate.door.order(Order::Changed(vec![public(THEIRS), public(77)]));
    gate.news(|news| matches!(news, News::Updated { .. }).then_some(()));
    assert!(net.pings("-c 1 -W 1"));
    assert_eq!(gate.door.board().peers(&shard())[&public(THEIRS)], ["10.64.0.1/32".parse().unwrap()]);
}

#[test]
fn who_is_revoked_is_out_at_once_and_stays_out() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let mut stranger = net.stranger();
    net.ping();
    gate.directory.says(public(THEIRS), Answer::Unknown);
    gate.door.order(Order::AllChanged);
    assert_eq!(gate.await_reaped(public(THEIRS)), Reaped::Revoked);
    assert!(!net.pings("-c 1 -W 1"));
    stranger.restart(&net);
    assert!(!net.pings("-c 1 -W 1"));
    gate.await_refused(Refusal::Unknown, 1);
    // And in again: it need not wait for what is remembered of it to be forgotten.
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    gate.door.order(Order::Changed(vec![public(THEIRS)]));
    stranger.restart(&net);
    let begun = Instant::now();
    net.ping();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// Milliseconds that the host's clock is ahead.
static AHEAD: AtomicU64 = AtomicU64::new(0);

fn ahead() -> Instant {
    Instant::now() + Duration::from_millis(AHEAD.load(Ordering::Relaxed))
}

#[test]
fn who_is_idle_is_reaped_and_comes_back_as_easily() {
    let net = Net::new();
    let mut gate = Gate::with(&net, config(|config| config.idle = 300 * MS));
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let clocks = Clocks { now: ahead, wall: SystemTime::now };
    let host = Ours::start(&net.host, "10.0.0.1:51820", Setup { key: THEIRS, clocks, ..Setup::default() });
    net.plumb_host("pw-1");
    host.peer(OURS, &allowed(&["172.16.0.0/16"], Some("10.0.0.2:51820")));
    for round in 1..=3 {
        let begun = Instant::now();
        net.ping();
        assert!(begun.elapsed() < Duration::from_secs(1), "round {round}: {:?}", begun.elapsed());
        assert_eq!(gate.await_reaped(public(THEIRS)), Reaped::Idle);
        // Its session is over by then: 180 s are less than the 300 s that it takes.
        AHEAD.fetch_add(200_000, Ordering::Relaxed);
    }
    assert_eq!(gate.directory.asked(), 1, "what was said a moment ago still holds");
    assert_eq!(gate.refusals(), []);
}

/// Reaped while its host still has a session, which says nothing to this gateway any more. WireGuard misses what it is not answered after 15 s
/// (whitepaper section 6.5: Keepalive-Timeout and Rekey-Timeout), and knocks; so `idle` is longer than a session's life unless somebody wants it otherwise.
#[rstest]
#[case::of_ours(false)]
#[case::wireguard_go(true)]
fn who_is_reaped_with_a_session_at_its_own_end_is_back_when_it_misses_answers(#[case] go: bool) {
    const MISSES: Duration = Duration::from_secs(15);
    let net = Net::new();
    let mut gate = Gate::with(&net, config(|config| config.idle = 3_000 * MS));
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let (mut stranger, mut ours) = (None, None);
    if go {
        stranger = Some(net.stranger());
    } else {
        let host = ours.insert(Ours::start(&net.host, "10.0.0.1:51820", Setup { key: THEIRS, ..Setup::default() }));
        net.plumb_host("pw-1");
        host.peer(OURS, &allowed(&["172.16.0.0/16"], Some("10.0.0.2:51820")));
    }
    net.ping();
    gate.await_installed(public(THEIRS));
    assert_eq!(gate.await_reaped(public(THEIRS)), Reaped::Idle);
    let begun = Instant::now();
    while !net.pings("-c 1 -W 1") {
        assert!(begun.elapsed() < 2 * MISSES, "{:?}", gate.door.report());
    }
    let took = begun.elapsed();
    println!("back after {took:?}");
    // A look at it takes a second.
    assert!(took < MISSES + Duration::from_secs(2), "{took:?}");
    gate.await_installed(public(THEIRS));
    assert_eq!((gate.directory.asked(), gate.refusals()), (1, vec![]), "what was said a moment ago still holds");
    drop((stranger, ours));
}

/// Somebody has removed the peer from the interface; the machine is the last to know.
#[test]
fn a_peer_that_is_missing_comes_back_when_it_knocks() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let mut stranger = net.stranger();
    net.ping();
    gate.await_installed(public(THEIRS));
    assert!(gate.device.read().unwrap().remove_peer(&pw(), &public(THEIRS)).unwrap());
    stranger.restart(&net);
    let begun = Instant::now();
    net.ping();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let why = gate.news(|news| if let News::Reaped { key, why, .. } = news { Some((key, why)) } else { None });
    assert_eq!(why, (public(THEIRS), Reaped::Gone), "whoever follows must not set one who is not let in again");
    gate.await_installed(public(THEIRS));
    assert_eq!(gate.door.board().peers(&shard()).len(), 1);
}

/// Both its keys are good for a while, and its inner address belongs to the one that it comes with.
#[test]
fn a_host_that_has_changed_its_key_takes_its_address_along() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    gate.directory.says(public(8), registered("10.64.0.1/32"));
    let stranger = net.stranger();
    net.ping();
    gate.await_installed(public(THEIRS));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{}", STANDARD.encode([8; 32])).unwrap();
    stranger.set(&format!("private-key {}", file.path().display()));
    let begun = Instant::now();
    net.ping();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    gate.await_installed(public(8));
    let why = gate.news(|news| if let News::Reaped { key, why, .. } = news { Some((key, why)) } else { None });
    assert_eq!(why, (public(THEIRS), Reaped::Replaced));
    assert!(gate.stands(&public(8)) && !gate.stands(&public(THEIRS)));
    assert_eq!(gate.door.board().peers(&shard()).keys().collect::<Vec<_>>(), [&public(8)]);
    assert_eq!(gate.refusals(), []);
}

/// Whoever has the shard next must know of each session that there is, however soon this node dies.
#[test]
fn who_is_let_in_is_told_of_before_it_is_answered() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let device = gate.device.clone();
    let nobody_is_installed = device.write().unwrap();
    let socket = socket(&net, 4000);
    socket.send(&initiation(&key(THEIRS), 1)).unwrap();
    let told = gate.news(|news| if let News::Admitted { key, endpoint, .. } = news { Some((key, endpoint)) } else { None });
    assert_eq!(told, (public(THEIRS), at("10.0.0.1:4000")));
    assert_eq!(nobody_is_installed.peer(&pw(), &public(THEIRS)).unwrap(), None);
    drop(nobody_is_installed);
    until(|| gate.stands(&public(THEIRS)), || "the peer to stand".into());
}

/// Half of what the directory gives it is another's yet: the whole is refused, and leaves nobody behind whom nobody knows.
#[test]
fn a_new_key_that_is_refused_leaves_the_former_one_out_and_gets_in_when_it_can() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    let both = ["10.64.0.1/32", "10.64.0.2/32"].map(|prefix| prefix.parse().unwrap()).into();
    let both = Answer::Found(Arc::new(Registered { host: "host-1".parse().unwrap(), allowed: both }));
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    gate.directory.says(public(8), both);
    for n in [7, 9] {
        gate.directory.says(public(n), registered_to("host-2", "10.64.0.2/32"));
    }
    let (socket, reaped) = (socket(&net, 4000), |news| if let News::Reaped { key, why, .. } = news { Some((key, why)) } else { None });
    for n in [THEIRS, 7] {
        socket.send(&initiation(&key(n), 1)).unwrap();
        gate.await_installed(public(n));
    }
    socket.send(&initiation(&key(8), 1)).unwrap();
    assert_eq!(gate.news(reaped), (public(THEIRS), Reaped::Replaced));
    assert_eq!(gate.news(reaped), (public(8), Reaped::Failed));
    gate.await_refused(Refusal::Failed, 1);
    until(|| !gate.stands(&public(THEIRS)), || "the former one to be gone".into());
    until(|| gate.door.board().peers(&shard()).keys().eq([&public(7)]), || "the board to forget both".into());
    assert!(gate.stands(&public(7)) && !gate.stands(&public(8)));
    // Whose the other half is, is known yet.
    socket.send(&initiation(&key(9), 1)).unwrap();
    gate.await_installed(public(9));
    assert_eq!(gate.news(reaped), (public(7), Reaped::Replaced));
    gate.directory.says(public(9), Answer::Unknown);
    gate.door.order(Order::Changed(vec![public(9)]));
    assert_eq!(gate.news(reaped), (public(9), Reaped::Revoked));
    until(|| !gate.stands(&public(9)), || "the other half to be free".into());
    socket.send(&initiation(&key(8), 2)).unwrap();
    gate.await_installed(public(8));
    assert!(gate.stands(&public(8)));
}

/// Of the node that was Active until now: they stand, and whoever was removed meanwhile does not for long.
#[test]
fn adopted_peers_are_known_and_asked_about() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let heard = Instant::now();
    let one = |n: u8| {
        let prefix = format!("10.64.0.{n}/32").parse().unwrap();
        let registered = Arc::new(Registered { host: "host-1".parse().unwrap(), allowed: vec![prefix] });
        gate.device.read().unwrap().set_peer(&pw(), public(n), &allowed(&[&format!("10.64.0.{n}/32")], None)).unwrap();
        (public(n), Adopted { endpoint: at("10.0.0.1:51820"), registered, heard })
    };
    let peers = vec![one(THEIRS), one(7)];
    gate.door.order(Order::Adopt { slot: slot(), peers });
    let why = gate.news(|news| if let News::Reaped { key, why, .. } = news { Some((key, why)) } else { None });
    assert_eq!(why, (public(7), Reaped::Revoked));
    until(|| !gate.stands(&public(7)), || "the revoked one to be gone".into());
    assert!(gate.stands(&public(THEIRS)));
    until(|| gate.door.board().peers(&shard()).len() == 1, || "the board to forget the revoked one".into());
    assert_eq!(gate.directory.asked(), 2);
}

#[test]
fn after_a_release_nobody_is_let_in() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let mut stranger = net.stranger();
    net.ping();
    gate.await_installed(public(THEIRS));
    gate.door.order(Order::Release { slot: slot() });
    until(|| gate.door.board().peers(&shard()).is_empty(), || "the board to be cleared".into());
    gate.device.read().unwrap().remove_peer(&pw(), &public(THEIRS)).unwrap();
    stranger.restart(&net);
    assert!(!net.pings("-c 1 -W 1"));
    gate.await_refused(Refusal::NoInterface, 1);
    assert!(!gate.stands(&public(THEIRS)));
}
