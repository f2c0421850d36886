//! Peers that stand: renewed, reaped, revoked, played again.

use super::*;

#[test]
fn a_recording_does_not_bring_a_peer_back() {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(10));
    // The host renews its session; the interface answers, and we take the time.
    let effects = bench.claim(7, 5);
    assert_eq!(bench.prove(&effects, Some(stamp(20))), [Effect::Stamp { peer: peer(5), stamp: stamp(20) }]);
    assert_eq!(bench.machine.counters.renewed, 1);
    assert_eq!(bench.wait(300 * S), [Effect::Reap { peer: peer(5), why: Reaped::Idle }]);

    for (old, source) in [(10, 66), (20, 66), (19, 7)] {
        let mut effects = bench.claim(source, 5);
        if proofs(&effects).is_empty() {
            effects = bench.found(5);
        }
        assert_eq!(bench.prove(&effects, Some(stamp(old))), [], "{old}");
    }
    assert_eq!(bench.refusals(), [(Refusal::Replayed, 3)]);
    bench.admit(7, 5, stamp(20).next());
}

#[test]
fn a_recording_does_not_keep_a_peer_alive_or_move_it() {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(10));
    bench.wait(200 * S);
    let effects = bench.claim(66, 5);
    assert_eq!(bench.prove(&effects, Some(stamp(10))), []);
    assert_eq!(bench.machine.peers().map(|(_, standing)| standing.endpoint).collect::<Vec<_>>(), [from(7)]);
    assert_eq!(bench.wait(100 * S), [Effect::Reap { peer: peer(5), why: Reaped::Idle }]);
}

#[test]
fn what_another_node_learnt_counts_here() {
    let mut bench = Bench::new(Config::default());
    bench.machine.learn(peer(5), stamp(50));
    bench.machine.learn(peer(5), stamp(40));
    bench.claim(7, 5);
    let effects = bench.found(5);
    assert_eq!(bench.prove(&effects, Some(stamp(50))), []);
    bench.admit(7, 5, stamp(51));
    let exported: Vec<_> = bench.machine.stamps(slot(1)).collect();
    assert_eq!(exported, [(key(5), stamp(51))]);
    assert_eq!(bench.machine.stamps(slot(2)).count(), 0);
}

#[test]
fn a_peer_lives_as_long_as_it_is_heard() {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(1));
    bench.admit(8, 6, stamp(1));
    bench.wait(100 * S);
    let (past, future) = (bench.now - 40 * S, bench.now + 1000 * S);
    bench.handle(Input::Seen { peer: peer(5), at: future });
    bench.handle(Input::Seen { peer: peer(5), at: past });
    bench.handle(Input::Seen { peer: peer(6), at: past });
    bench.handle(Input::Seen { peer: peer(9), at: past });
    assert_eq!(bench.wait(259 * S), []);
    assert_eq!(bench.wait(S), [Effect::Reap { peer: peer(6), why: Reaped::Idle }]);
    assert_eq!(bench.wait(39 * S), []);
    assert_eq!(bench.wait(S), [Effect::Reap { peer: peer(5), why: Reaped::Idle }]);
    assert_eq!((bench.machine.sizes().peers, bench.machine.poll_timeout()), (0, None));
}

#[test]
fn one_install_at_a_time() {
    let mut bench = Bench::new(Config::default());
    let first = bench.claim(7, 5);
    assert_eq!(first, [Effect::LookUp { peer: peer(5) }]);
    bench.claim(8, 5);
    let both = bench.found(5);
    let tickets = proofs(&both);
    let effects = bench.handle(Input::Proved { ticket: tickets[0], stamp: Some(stamp(1)) });
    assert_eq!(effects.len(), 2);
    // The host is reached in two ways: its second initiation is genuine too, and later.
    assert_eq!(
        bench.handle(Input::Proved { ticket: tickets[1], stamp: Some(stamp(2)) }),
        [Effect::Stamp { peer: peer(5), stamp: stamp(2) }]
    );
    let effects = bench.claim(9, 5);
    assert_eq!(bench.prove(&effects, Some(stamp(3))), [Effect::Stamp { peer: peer(5), stamp: stamp(3) }], "or it could be played again");
    assert_eq!(bench.machine.sizes().installing, 1);
    let effects = bench.handle(Input::Installed { peer: peer(5) });
    assert_eq!(effects, [Effect::Initiate { peer: peer(5), endpoint: from(9) }], "where it was last");
}

#[test]
fn one_that_cannot_be_installed_may_knock_again() {
    let mut bench = Bench::new(Config::default());
    bench.claim(7, 5);
    let effects = bench.found(5);
    bench.prove(&effects, Some(stamp(1)));
    assert_eq!(bench.handle(Input::InstallFailed { peer: peer(5) }), []);
    assert_eq!(bench.refusals(), [(Refusal::Failed, 1)]);
    assert_eq!(bench.handle(Input::Installed { peer: peer(5) }), [Effect::Reap { peer: peer(5), why: Reaped::Stray }]);
    bench.admit(7, 5, stamp(2));
}

#[test]
fn one_that_stands_by_its_owners_doing_stays_though_it_could_not_be_installed() {
    let mut bench = Bench::new(Config::default());
    bench.claim(7, 5);
    let effects = bench.found(5);
    bench.prove(&effects, Some(stamp(1)));
    let standing = Standing { endpoint: from(7), registered: registered(5), fetched: bench.now, seen: bench.now, installing: false };
    bench.machine.adopt(peer(5), standing);
    assert_eq!(bench.handle(Input::InstallFailed { peer: peer(5) }), []);
    assert_eq!(bench.refusals(), []);
    assert!(bench.machine.peer(&peer(5)).is_some());
    assert_eq!(bench.machine.sizes().installing, 0);
}

#[test]
fn one_that_is_gone_is_installed_again_by_its_next_knock() {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(1));
    assert_eq!(bench.handle(Input::Gone { peer: peer(5) }), []);
    // It was a peer when its proof went out.
    bench.admit(7, 5, stamp(2));
    let effects = bench.claim(7, 5);
    bench.handle(Input::Gone { peer: peer(5) });
    let effects = bench.prove(&effects, Some(stamp(3)));
    assert!(matches!(effects.as_slice(), [Effect::Stamp { .. }, Effect::Install { .. }]), "{effects:?}");
}

#[test]
fn what_the_directory_changes_reaches_the_peer() {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(1));
    assert_eq!(bench.handle(Input::Changed { peer: peer(5) }), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(bench.found(5), [], "the same");
    bench.handle(Input::Changed { peer: peer(5) });
    let effects = bench.answer(5, Answer::Found(registered(6)));
    assert_eq!(effects, [Effect::Update { peer: peer(5), registered: registered(6) }]);
    bench.handle(Input::Changed { peer: peer(5) });
    assert_eq!(bench.answer(5, Answer::Failed), [], "nothing is taken away because the directory is");
    bench.handle(Input::Changed { peer: peer(5) });
    assert_eq!(bench.answer(5, Answer::Unknown), [Effect::Reap { peer: peer(5), why: Reaped::Revoked }]);
}

#[test]
fn adopted_peers_are_peers() {
    let mut bench = Bench::new(Config::default());
    let standing =
        Standing { endpoint: from(7), registered: registered(5), fetched: bench.now, seen: bench.now - 200 * S, installing: false };
    bench.machine.adopt(peer(5), standing.clone());
    bench.machine.adopt(peer(5), standing);
    bench.machine.learn(peer(5), stamp(1));
    let effects = bench.claim(8, 5);
    assert_eq!(bench.prove(&effects, Some(stamp(2))), [Effect::Stamp { peer: peer(5), stamp: stamp(2) }]);
    assert_eq!(bench.wait(299 * S), []);
    assert_eq!(bench.wait(S), [Effect::Reap { peer: peer(5), why: Reaped::Idle }]);
    assert_eq!(bench.machine.sizes().peers, 0);
}

#[test]
fn there_are_as_many_peers_as_there_may_be() {
    let mut bench = Bench::new(Config { peers: 2, ..Config::default() });
    bench.admit(7, 1, stamp(1));
    bench.admit(7, 2, stamp(1));
    bench.claim(7, 3);
    let effects = bench.found(3);
    assert_eq!(bench.prove(&effects, Some(stamp(1))), [Effect::Stamp { peer: peer(3), stamp: stamp(1) }]);
    assert_eq!(bench.refusals(), [(Refusal::Full, 1)]);
    bench.handle(Input::Gone { peer: peer(1) });
    bench.admit(7, 3, stamp(2));
}

/// It is not installed, changed, or reaped by anybody but whoever configures it; a recording of it is one all the same.
#[test]
fn whom_the_configuration_names_is_proved_and_left_alone() {
    let mut bench = Bench::new(Config::default());
    bench.machine.configured(peer(1));
    let effects = bench.claim(1, 1);
    assert_eq!(bench.prove(&effects, Some(stamp(5))), [Effect::Stamp { peer: peer(1), stamp: stamp(5) }]);
    assert_eq!((bench.machine.counters.configured, bench.machine.counters.look_ups, bench.machine.sizes().peers), (1, 0, 0));
    let effects = bench.claim(1, 1);
    assert_eq!(bench.prove(&effects, Some(stamp(5))), []);
    assert_eq!(bench.machine.counters.refused(Refusal::Replayed), 1);
    // Named no more, it may knock.
    bench.machine.configured_no_more(&peer(1));
    assert_eq!(bench.claim(1, 1), [Effect::LookUp { peer: peer(1) }]);
    let effects = bench.found(1);
    assert!(matches!(bench.prove(&effects, Some(stamp(6)))[..], [Effect::Stamp { .. }, Effect::Install { .. }]));
}

#[test]
fn a_peer_that_the_configuration_names_from_now_on_stays_as_it_is() {
    let mut bench = Bench::new(Config::default());
    // One stands, one is being installed, one waits for the directory.
    for n in 1..=2 {
        bench.claim(n, n.into());
        let effects = bench.found(n.into());
        bench.prove(&effects, Some(stamp(1)));
    }
    bench.handle(Input::Installed { peer: peer(1) });
    bench.claim(3, 3);
    (1..=3).for_each(|n| bench.machine.configured(peer(n)));
    assert_eq!(bench.handle(Input::Installed { peer: peer(2) }), [], "no stray");
    let effects = bench.found(3);
    assert_eq!(bench.prove(&effects, Some(stamp(1))), [Effect::Stamp { peer: peer(3), stamp: stamp(1) }]);
    for n in 1..=3 {
        assert_eq!(bench.answer(n, Answer::Unknown), [], "nobody is revoked");
        bench.machine.adopt(peer(n), standing(&bench));
    }
    assert_eq!((bench.machine.sizes().peers, bench.wait(Config::default().idle * 2)), (0, vec![]));
}

fn standing(bench: &Bench) -> Standing {
    Standing { endpoint: from(1), registered: registered(1), fetched: bench.now, seen: bench.now, installing: false }
}
