//! Who is not let in, and what is counted.

use crate::gate::*;
use crate::support::*;
use portway::gateway::jit::{News, Order};
use portway::gateway::stamps::{NAME, Stamps};
use portway::metrics::{Format, Page};
use portway::model::PrivateKey;
use portway::proto::jit::{Reaped, Refusal};
use portway::userspace::wireguard::DropReason;
use portway::wire::wireguard::{Initiation, Mac1, Tai64n};
use std::path::Path;

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

/// A process that ends as it should, and one that is killed two seconds after the last initiation: what it leaves is as it was written until then.
#[test]
fn a_recording_lets_nobody_in_after_a_restart() {
    let (net, dir, killed) = (Net::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = |dir: &Path| {
        let mut stamps = Stamps::open(dir).unwrap();
        let found = stamps.found(&[shard()]).remove(&shard()).unwrap();
        let used = stamps.used().clone();
        let gate = Gate::with(&net, |setup| (setup.config.idle, setup.used) = (300 * MS, Some(used)));
        gate.directory.says(host().public(), registered("10.64.0.1/32"));
        gate.door.order(Order::Recall { slot: slot(), stamps: found });
        (gate, stamps)
    };
    let (own, other) = (socket(&net, 4000), socket(&net, 4001));
    let (first, second, third, fourth) = (initiation(&host(), 1), initiation(&host(), 2), initiation(&host(), 3), initiation(&host(), 4));
    let comes_and_goes = |gate: &mut Gate, initiation: &[u8]| {
        own.send(initiation).unwrap();
        gate.await_installed(host().public());
        assert_eq!(gate.await_reaped(host().public()), Reaped::Idle);
    };
    let (mut gate, stamps) = open(dir.path());
    comes_and_goes(&mut gate, &second);
    gate.stop();
    drop((gate, stamps));

    let (mut gate, stamps) = open(dir.path());
    for (n, recording) in [&first, &second].into_iter().enumerate() {
        other.send(recording).unwrap();
        gate.await_refused(Refusal::Replayed, n as u64 + 1);
    }
    assert!(!gate.stands(&host().public()) && gate.door.report().counters.installed == 0);
    comes_and_goes(&mut gate, &third);
    until(|| stamps.used().waiting() == 0, || "the stamp to be written down by itself".into());
    std::fs::copy(dir.path().join(NAME), killed.path().join(NAME)).unwrap();
    gate.stop();
    drop((gate, stamps));

    let (mut gate, stamps) = open(killed.path());
    other.send(&third).unwrap();
    gate.await_refused(Refusal::Replayed, 1);
    assert!(!gate.stands(&host().public()));
    own.send(&fourth).unwrap();
    gate.await_installed(host().public());
    gate.stop();
    drop((gate, stamps));

    // It is the file that keeps it out: a node that has lost it lets it in, as nobody can know better.
    let lost = tempfile::tempdir().unwrap();
    let (mut gate, _stamps) = open(lost.path());
    other.send(&third).unwrap();
    gate.await_installed(host().public());
}

/// Another candidate has seen it before us.
#[test]
fn what_another_node_has_learnt_counts() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.says(host().public(), registered("10.64.0.1/32"));
    let stamps = vec![(host().public(), Tai64n::from_unix(1_000_000_005, 0))];
    gate.door.order(Order::Learn { slot: slot(), stamps });
    let socket = socket(&net, 4000);
    socket.send(&initiation(&host(), 5)).unwrap();
    gate.await_refused(Refusal::Replayed, 1);
    socket.send(&initiation(&host(), 6)).unwrap();
    gate.await_installed(host().public());
}

/// As when the owner is far behind, and no more fits between the device and it.
#[test]
fn a_knock_that_the_device_cannot_pass_on_is_counted() {
    let net = Net::new();
    let (gate, events) = Gate::deaf(&net, |_| {});
    drop(events);
    let socket = socket(&net, 4000);
    for n in 1..=3 {
        socket.send(&initiation(&host(), n)).unwrap();
        until(|| gate.report().events_lost == n, || format!("{n} to be counted, of {:?}", gate.report()));
    }
    let mut page = Page::default();
    gate.report().metrics(&mut page);
    let text = page.encode(Format::OpenMetrics).unwrap();
    assert!(text.contains("portway_jit_lost_total{place=\"device\"} 3"), "{text}");
    assert_eq!(gate.report().json()["queues"]["events_lost"], 3);
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
    // Who was told of it is told that it does not stand.
    let news: Vec<News> = std::iter::from_fn(|| gate.news.try_recv().ok()).collect();
    assert!(matches!(news.as_slice(), [News::Stamp { .. }, News::Admitted { .. }, News::Reaped { why: Reaped::Failed, .. }]), "{news:?}");
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
