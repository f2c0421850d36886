//! Who is not let in, and what is counted.

use crate::gate::*;
use crate::support::*;
use portway::gateway::jit::News;
use portway::model::PrivateKey;
use portway::proto::jit::{Reaped, Refusal};
use portway::userspace::wireguard::DropReason;
use portway::wire::wireguard::{Initiation, Mac1, Tai64n};

fn host() -> PrivateKey {
    key(THEIRS)
}

#[test]
fn what_is_no_genuine_initiation_is_counted_and_leads_to_nothing() {
    let net = Net::new();
    let gate = Gate::open(&net);
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    let socket = socket(&net, 4000);
    let genuine = initiation(&host(), 1);
    let device = |why| gate.dropped(why);
    let count = |why, send: &[u8]| {
        let before = device(why);
        socket.send(send).unwrap();
        until(|| device(why) == before + 1, || format!("{why:?} to be counted"));
    };
    count(DropReason::Truncated, &genuine[..147]);
    count(DropReason::Truncated, &[&genuine[..], &[0]].concat());
    let mut changed = genuine;
    changed[116] ^= 1;
    count(DropReason::BadMac, &changed);
    // Signed as anybody can who knows our public key; nobody is named in it.
    let mut changed = genuine;
    changed[50] ^= 1;
    let signed = |bytes: [u8; 148]| *Mac1::new(&public(OURS)).sign(Initiation::try_from(bytes).unwrap()).bytes();
    count(DropReason::BadHandshake, &signed(changed));
    // Of the host, as far as anybody can say who knows its public key; but not by it.
    let mut changed = genuine;
    changed[100] ^= 1;
    count(DropReason::BadHandshake, &signed(changed));
    // For another gateway.
    count(DropReason::BadMac, &portway::userspace::wireguard::knock(&host(), &public(9), Tai64n::from_unix(1, 0)).unwrap());
    assert_eq!((gate.directory.asked(), gate.refusals()), (0, vec![]));
    assert!(!gate.stands(&host().public()));
    // And the genuine one is served: its answer is a response, 92 bytes, type 2.
    socket.send(&genuine).unwrap();
    let mut answer = [0; 200];
    assert_eq!((socket.recv(&mut answer).unwrap(), answer[0]), (92, 2));
}

#[test]
fn an_unknown_key_is_refused_and_asked_for_once() {
    let net = Net::new();
    let gate = Gate::open(&net);
    let socket = socket(&net, 4000);
    for second in 1..=20 {
        socket.send(&initiation(&host(), second)).unwrap();
        gate.await_refused(Refusal::Unknown, second);
    }
    assert_eq!(gate.directory.asked(), 1);
    assert!(gate.door.board().peers(&shard()).is_empty());
    assert!(!gate.stands(&host().public()));
}

/// A recording is worthless while the peer stands, after it has gone, and from wherever it comes.
#[test]
fn a_recording_lets_nobody_in() {
    let net = Net::new();
    let mut gate = Gate::with(&net, config(|config| config.idle = 300 * MS));
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    let (own, other) = (socket(&net, 4000), socket(&net, 4001));
    let (first, second) = (initiation(&host(), 1), initiation(&host(), 2));
    own.send(&second).unwrap();
    gate.await_installed(host().public());
    for recording in [&first, &second] {
        other.send(recording).unwrap();
    }
    until(|| gate.dropped(DropReason::Replayed) == 2, || "both recordings to be counted".into());
    assert_eq!(gate.device.read().unwrap().peer(&pw(), &host().public()).unwrap().unwrap().endpoint, Some(at("10.0.0.1:4000")));
    assert_eq!(gate.await_reaped(host().public()), Reaped::Idle);
    // The very same bytes, and bytes that were never seen but are older.
    other.send(&second).unwrap();
    gate.await_refused(Refusal::Repeated, 1);
    other.send(&first).unwrap();
    gate.await_refused(Refusal::Replayed, 1);
    assert!(!gate.stands(&host().public()));
    assert!(gate.door.board().peers(&shard()).is_empty());
    own.send(&initiation(&host(), 3)).unwrap();
    gate.await_installed(host().public());
}

/// Another candidate has seen it before us.
#[test]
fn what_another_node_has_learnt_counts() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    let stamps = vec![(host().public(), Tai64n::from_unix(1_000_000_005, 0))];
    gate.door.order(portway::gateway::jit::Order::Learn { slot: slot(), stamps });
    let socket = socket(&net, 4000);
    socket.send(&initiation(&host(), 5)).unwrap();
    gate.await_refused(Refusal::Replayed, 1);
    socket.send(&initiation(&host(), 6)).unwrap();
    gate.await_installed(host().public());
}

/// Two hosts with one inner address: a fault of the directory's.
#[test]
fn a_peer_that_cannot_be_installed_leaves_nothing_behind() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    gate.directory.says(public(8), registered_to("host-8", "10.64.0.1/32"));
    let (own, other) = (socket(&net, 4000), socket(&net, 4001));
    own.send(&initiation(&host(), 1)).unwrap();
    gate.await_installed(host().public());
    other.send(&initiation(&key(8), 1)).unwrap();
    gate.await_refused(Refusal::Failed, 1);
    assert!(gate.stands(&host().public()) && !gate.stands(&public(8)));
    until(|| gate.door.board().peers(&shard()).len() == 1, || "the board to forget it".into());
    assert!(gate.door.board().peers(&shard()).contains_key(&host().public()));
    // The owner has heard of its stamp and of nothing else.
    let news: Vec<News> = std::iter::from_fn(|| gate.news.try_recv().ok()).collect();
    assert!(matches!(news.as_slice(), [News::Stamp { .. }]), "{news:?}");
}

/// Hosts behind one address are not limited by it: they prove genuine.
#[test]
fn a_crowd_is_let_in() {
    const CROWD: u16 = 300;
    let net = Net::new();
    let gate = Gate::open(&net);
    let nth = |n: u16| {
        // Of no n is it the gateway's own.
        let mut bytes = [3; 32];
        bytes[1..3].copy_from_slice(&n.to_be_bytes());
        PrivateKey::new(bytes)
    };
    let hosts: Vec<PrivateKey> = (0..CROWD).map(nth).collect();
    for (n, host) in hosts.iter().enumerate() {
        gate.directory.says(host.public(), registered(&format!("10.64.{}.{}/32", n / 256, n % 256)));
    }
    let socket = socket(&net, 4000);
    for host in &hosts {
        socket.send(&initiation(host, 1)).unwrap();
    }
    until(|| gate.door.report().counters.installed == u64::from(CROWD), || format!("all of them, {:?}", gate.door.report()));
    assert_eq!(gate.directory.asked(), usize::from(CROWD));
    assert_eq!(gate.door.board().peers(&shard()).len(), usize::from(CROWD));
}
