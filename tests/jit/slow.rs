//! A directory that is slow, away, or talks nonsense.

use crate::gate::*;
use crate::support::*;
use portway::gateway::jit::Order;
use portway::proto::jit::{Answer, Reaped, Refusal};
use std::time::{Duration, Instant};

#[test]
fn while_one_waits_for_the_directory_others_are_served() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    for n in [7, 8] {
        gate.directory.says(public(n), registered(&format!("10.64.0.{n}/32")));
    }
    let (slow, quick) = (socket(&net, 4000), socket(&net, 4001));
    gate.directory.holds();
    slow.send(&initiation(&key(7), 1)).unwrap();
    until(|| gate.directory.asked() == 1, || "the question".into());
    // The one that was asked first is still held when the other is answered.
    let held = gate.directory.take_hold();
    quick.send(&initiation(&key(8), 1)).unwrap();
    gate.await_installed(public(8));
    assert!(!gate.stands(&public(7)));
    held.close();
    gate.await_installed(public(7));
    assert_eq!(gate.refusals(), []);
}

#[test]
fn a_directory_that_never_answers_is_given_up_and_asked_again() {
    let net = Net::new();
    let mut gate = Gate::with(&net, config(|config| (config.give_up, config.retry) = (200 * MS, 100 * MS)));
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    gate.directory.holds();
    let socket = socket(&net, 4000);
    socket.send(&initiation(&key(THEIRS), 1)).unwrap();
    gate.await_refused(Refusal::Unavailable, 1);
    assert!(gate.door.report().directory_is_away);
    gate.directory.goes_on();
    let begun = Instant::now();
    let mut second = 2;
    while gate.door.report().counters.installed == 0 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", gate.door.report());
        socket.send(&initiation(&key(THEIRS), second)).unwrap();
        second += 1;
        std::thread::sleep(20 * MS);
    }
    gate.await_installed(public(THEIRS));
    assert!(!gate.door.report().directory_is_away);
}

/// It is down, or what it says cannot be read: whom it knew before is served, others are told to wait.
#[test]
fn what_it_has_said_before_serves_while_the_directory_is_down() {
    let net = Net::new();
    let config = config(|config| (config.idle, config.fresh) = (300 * MS, Duration::ZERO));
    let mut gate = Gate::with(&net, config);
    gate.directory.says(public(THEIRS), registered("10.64.0.1/32"));
    let (known, unknown) = (socket(&net, 4000), socket(&net, 4001));
    known.send(&initiation(&key(THEIRS), 1)).unwrap();
    gate.await_installed(public(THEIRS));
    gate.directory.says(public(THEIRS), Answer::Failed);
    gate.directory.says(public(8), Answer::Failed);
    gate.door.order(Order::AllChanged);
    assert_eq!(gate.await_reaped(public(THEIRS)), Reaped::Idle, "not revoked: nothing was said");
    known.send(&initiation(&key(THEIRS), 2)).unwrap();
    gate.await_installed(public(THEIRS));
    unknown.send(&initiation(&key(8), 1)).unwrap();
    gate.await_refused(Refusal::Unavailable, 1);
    let report = gate.door.report();
    assert!(report.directory_is_away && report.counters.served_stale >= 1, "{report:?}");
}

#[test]
fn stopping_waits_for_nobody() {
    let net = Net::new();
    let mut gate = Gate::open(&net);
    gate.directory.holds();
    socket(&net, 4000).send(&initiation(&key(THEIRS), 1)).unwrap();
    until(|| gate.directory.asked() == 1, || "the question".into());
    let begun = Instant::now();
    gate.stop();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
