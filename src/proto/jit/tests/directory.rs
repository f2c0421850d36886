//! The directory: asked once, remembered, slow, away, or talking nonsense.

use super::*;
use crate::proto::rate::Rate;

#[test]
fn one_look_up_serves_all_who_claim_the_same_key() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(bench.claim(1, 5), [Effect::LookUp { peer: peer(5) }]);
    for source in 2..=9 {
        assert_eq!(bench.claim(source, 5), []);
    }
    assert_eq!(bench.claim(9, 5), [], "again, from where it came before");
    assert_eq!(bench.refusals(), [(Refusal::Overtaken, 1)]);
    let effects = bench.found(5);
    let tickets = proofs(&effects);
    assert_eq!(tickets.len(), 9, "one of each source");
    // Nine claim to be the host; the last one is.
    for ticket in &tickets[..8] {
        assert_eq!(bench.handle(Input::Proved { ticket: *ticket, stamp: None }), []);
    }
    let effects = bench.handle(Input::Proved { ticket: tickets[8], stamp: Some(stamp(1)) });
    assert!(matches!(effects.as_slice(), [Effect::Stamp { .. }, Effect::Install { .. }]), "{effects:?}");
    assert_eq!(bench.machine.counters.look_ups, 1);
    assert_eq!(bench.refusals(), [(Refusal::Overtaken, 1), (Refusal::Forged, 8)]);
    assert_eq!(bench.machine.sizes().waiting, 0);
}

#[test]
fn a_key_at_two_interfaces_is_two_peers() {
    let mut bench = Bench::new(Config::default());
    bench.machine.serve(slot(2), &[gateway()]);
    bench.admit(7, 5, stamp(1));
    let effects = bench.handle(Input::Datagram { slot: slot(2), from: from(7), payload: initiation(900).bytes() });
    let [Effect::Claim { ticket, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    let second = Peer { slot: slot(2), key: key(5) };
    assert_eq!(bench.handle(Input::Claimed { ticket: *ticket, claim: Some((key(5), 1)) }), [Effect::LookUp { peer: second }]);
    let effects = bench.handle(Input::Answered { peer: second, answer: Answer::Found(registered(5)) });
    let effects = bench.prove(&effects, Some(stamp(1)));
    assert_eq!(effects.len(), 2, "the same timestamp, as both were made at once: {effects:?}");
}

#[test]
fn an_unknown_key_is_asked_for_once_in_ten_seconds() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(bench.answer(5, Answer::Unknown), []);
    bench.wait(9999 * MS);
    assert_eq!(bench.claim(7, 5), []);
    bench.wait(MS);
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(bench.refusals(), [(Refusal::Unknown, 2)]);
    assert_eq!(bench.handle(Input::Changed { peer: peer(5) }), []);
}

#[test]
fn a_key_that_was_just_registered_need_not_wait() {
    let mut bench = Bench::new(Config::default());
    bench.claim(7, 5);
    bench.answer(5, Answer::Unknown);
    bench.handle(Input::Changed { peer: peer(5) });
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
}

#[test]
fn an_answer_that_is_said_to_have_changed_is_fetched_again_and_serves_if_it_cannot_be() {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(1));
    bench.handle(Input::Gone { peer: peer(5) });
    bench.handle(Input::Changed { peer: peer(5) });
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(proofs(&bench.answer(5, Answer::Failed)).len(), 1);
}

#[test]
fn a_fresh_answer_serves_without_a_look_up_and_an_old_one_does_not() {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(1));
    bench.handle(Input::Gone { peer: peer(5) });
    bench.wait(59 * S);
    let effects = bench.claim(7, 5);
    let effects = bench.prove(&effects, Some(stamp(2)));
    assert!(matches!(effects.as_slice(), [Effect::Stamp { .. }, Effect::Install { .. }]), "{effects:?}");
    bench.handle(Input::Installed { peer: peer(5) });
    bench.handle(Input::Gone { peer: peer(5) });
    bench.wait(S);
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
}

#[test]
fn a_directory_that_fails_is_not_asked_again_at_once() {
    let mut bench = Bench::new(Config::default());
    bench.claim(7, 5);
    assert_eq!(bench.answer(5, Answer::Failed), []);
    assert!(bench.machine.directory_is_away());
    assert_eq!(bench.claim(7, 5), []);
    bench.wait(S);
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(bench.refusals(), [(Refusal::Unavailable, 2)]);
    let effects = bench.found(5);
    assert!(!bench.machine.directory_is_away() && proofs(&effects).len() == 1);
}

/// A host that was here yesterday, while the directory is away.
fn back_after(time: Duration) -> Bench {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(1));
    let reaped = bench.wait(time);
    assert_eq!(reaped, [Effect::Reap { peer: peer(5), why: Reaped::Idle }]);
    bench
}

#[test]
fn what_was_known_serves_while_the_directory_is_away() {
    let mut bench = back_after(23 * 3600 * S);
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    let effects = bench.answer(5, Answer::Failed);
    assert_eq!(proofs(&effects).len(), 1);
    bench.handle(Input::Proved { ticket: proofs(&effects)[0], stamp: Some(stamp(2)) });
    bench.handle(Input::InstallFailed { peer: peer(5) });
    // It is known to be away now: no waiting at all, and a look-up to see whether it is back.
    let effects = bench.claim(7, 5);
    assert_eq!((proofs(&effects).len(), effects.contains(&Effect::LookUp { peer: peer(5) })), (1, true), "{effects:?}");
    assert_eq!(bench.machine.counters.served_stale, 2);
}

#[test]
fn what_was_known_serves_after_a_moment_while_the_directory_is_slow() {
    let mut bench = back_after(3600 * S);
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(bench.machine.poll_timeout(), Some((bench.now + 200 * MS, Timer::ServeStale)));
    assert_eq!(bench.wait(199 * MS), []);
    assert_eq!(proofs(&bench.wait(MS)).len(), 1);
    let effects = bench.claim(8, 5);
    assert_eq!(proofs(&effects).len(), 1, "the next one waits for nothing");
    // Ten seconds later the answer: the host was removed.
    bench.prove(&effects, Some(stamp(2)));
    bench.wait(10 * S);
    assert_eq!(bench.answer(5, Answer::Unknown), [Effect::Reap { peer: peer(5), why: Reaped::Revoked }]);
}

#[test]
fn what_a_peer_was_installed_by_is_not_forgotten_while_it_lives() {
    let mut bench = Bench::new(Config { known: 2, ..Config::default() });
    (5..=8).for_each(|of| bench.admit(7, of, stamp(1)));
    bench.wait(200 * S);
    for of in 6..=8 {
        bench.handle(Input::Seen { peer: peer(of), at: bench.now });
    }
    assert_eq!(bench.wait(100 * S), [Effect::Reap { peer: peer(5), why: Reaped::Idle }]);
    bench.claim(7, 5);
    assert_eq!(proofs(&bench.answer(5, Answer::Failed)).len(), 1);
}

#[test]
fn what_was_known_does_not_serve_for_ever() {
    let mut bench = back_after(25 * 3600 * S);
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(bench.answer(5, Answer::Failed), []);
    assert_eq!(bench.refusals(), [(Refusal::Unavailable, 1)]);
}

#[test]
fn a_directory_that_takes_ten_seconds_serves_the_latest_attempt() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(bench.wait(5 * S), []);
    assert_eq!(bench.claim(7, 5), [], "the host tries again");
    assert_eq!(bench.wait(5 * S), []);
    let effects = bench.found(5);
    assert!(matches!(effects.as_slice(), [Effect::Prove { claim: 2, .. }]), "{effects:?}");
    assert_eq!(bench.refusals(), [(Refusal::Overtaken, 1)]);
}

#[test]
fn a_directory_that_never_answers_is_given_up_and_believed_if_it_does() {
    let mut bench = Bench::new(Config::default());
    bench.claim(7, 5);
    assert_eq!(bench.wait(15 * S), []);
    assert_eq!(bench.refusals(), [(Refusal::Unavailable, 1)]);
    assert_eq!((bench.machine.sizes().looking_up, bench.machine.sizes().waiting), (0, 0));
    assert_eq!(bench.found(5), [], "late");
    assert_eq!(proofs(&bench.claim(7, 5)).len(), 1, "but remembered");
}

#[test]
fn so_many_look_ups_are_out_and_so_many_of_a_source() {
    let config = Config { look_ups: 8, look_ups_per_source: 3, ..Config::default() };
    let mut bench = Bench::new(config);
    let mut out = |source, of| !bench.claim(source, of).is_empty();
    assert_eq!((0..10).filter(|of| out(1, *of)).count(), 3);
    assert_eq!((10..20).filter(|of| out(2, *of)).count(), 3);
    assert!(out(3, 30) && out(4, 40) && !out(5, 50), "eight are out");
    assert_eq!(bench.answer(0, Answer::Unknown), [Effect::LookUp { peer: peer(50) }], "whose first it is goes before");
    assert_eq!(bench.answer(1, Answer::Unknown), [Effect::LookUp { peer: peer(3) }]);
    assert_eq!(bench.machine.sizes().looking_up, 8);
}

/// 64 sources claim keys that nobody knows, as many as they can, and the directory takes ten seconds for each.
#[test]
fn a_slow_directory_and_a_flood_leave_room_for_an_unseen_host() {
    let config = Config {
        per_source: Rate { per_second: 1000, burst: 1000 },
        steps: Rate { per_second: 1_000_000, burst: 100_000 },
        ..Config::default()
    };
    let mut bench = Bench::new(config);
    for of in 0..200_u64 {
        for source in 0..64_u16 {
            bench.claim(source, 1000 + of * 64 + u64::from(source));
        }
    }
    let sizes = bench.machine.sizes();
    assert_eq!(sizes.looking_up, 192);
    assert!(sizes.waiting <= 8192 - 8192 / 65 && bench.refused(Refusal::Crowded) > 4000, "{sizes:?}");
    assert_eq!(bench.claim(100, 5), [Effect::LookUp { peer: peer(5) }]);
    let effects = bench.found(5);
    assert_eq!(bench.prove(&effects, Some(stamp(1))).len(), 2);
}

/// The flood knows the host's key, claims it first, and what it asks for waits behind much else that it asks for.
#[test]
fn nobody_waits_for_the_turn_of_one_who_claims_his_key() {
    let config = Config { look_ups: 8, look_ups_per_source: 1, ..Config::default() };
    let mut bench = Bench::new(config);
    for of in 0..20 {
        bench.claim(1, of);
    }
    assert_eq!(bench.claim(1, 99), []);
    assert_eq!(bench.claim(2, 99), [Effect::LookUp { peer: peer(99) }]);
    bench.found(99);
    // Its turn at source 1 is none any more.
    assert_eq!(bench.machine.counters.look_ups, 2);
    for of in 0..20 {
        assert_eq!(bench.answer(of, Answer::Unknown).len(), usize::from(of < 19), "{of}");
    }
    assert_eq!(bench.machine.counters.look_ups, 21);
}

#[test]
fn when_anything_may_have_changed_everything_is_asked_for_again() {
    let mut bench = Bench::new(Config::default());
    bench.claim(7, 5);
    bench.answer(5, Answer::Unknown);
    bench.admit(7, 6, stamp(1));
    bench.handle(Input::Gone { peer: peer(6) });
    bench.wait(MS);
    bench.machine.distrust(bench.now);
    assert_eq!(bench.claim(7, 5), [Effect::LookUp { peer: peer(5) }]);
    assert_eq!(bench.claim(8, 6), [Effect::LookUp { peer: peer(6) }]);
    // What was said before serves while nothing is.
    assert_eq!(proofs(&bench.answer(6, Answer::Failed)).len(), 1);
    assert_eq!(bench.machine.counters.served_stale, 1);
}
