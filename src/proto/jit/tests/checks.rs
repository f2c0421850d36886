//! What is looked at, in which order, and how much of it.

use super::*;
use crate::proto::rate::Rate;

#[test]
fn a_knock_becomes_a_peer() {
    let mut bench = Bench::new(Config::default());
    let (ticket, initiation) = bench.knock(7);
    assert_eq!(bench.handle(Input::Claimed { ticket, claim: Some((key(5), 99)) }), [Effect::LookUp { peer: peer(5) }]);

    let effects = bench.found(5);
    let [Effect::Prove { ticket, peer: of, claim: 99 }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(*of, peer(5));

    let effects = bench.handle(Input::Proved { ticket: *ticket, stamp: Some(stamp(1)) });
    let install = Effect::Install { peer: peer(5), endpoint: from(7), registered: registered(5), initiation };
    assert_eq!(effects, [Effect::Stamp { peer: peer(5), stamp: stamp(1) }, install]);
    assert_eq!(bench.machine.sizes().installing, 1);

    assert_eq!(bench.handle(Input::Installed { peer: peer(5) }), [Effect::Initiate { peer: peer(5), endpoint: from(7) }]);
    assert_eq!(bench.handle(Input::Installed { peer: peer(5) }), [], "once");
    let sizes = bench.machine.sizes();
    assert_eq!((sizes.peers, sizes.installing, sizes.waiting, sizes.at_work, sizes.asked), (1, 0, 0, 0, 0));
    assert_eq!(bench.refusals(), []);
}

#[test]
fn what_is_cheap_to_refuse_costs_no_step() {
    let mut bench = Bench::new(Config::default());
    let good = initiation(1);
    let cases: [(&[u8], Refusal); 4] = [
        (&[], Refusal::Malformed),
        (&good.bytes()[..147], Refusal::Malformed),
        (&[good.bytes(), &[0][..]].concat(), Refusal::Malformed),
        (&[4; 32], Refusal::Malformed),
    ];
    for (i, (payload, why)) in cases.into_iter().enumerate() {
        assert_eq!(bench.datagram(7, payload), []);
        assert_eq!(bench.refusals(), [(why, i as u64 + 1)]);
    }
    let mut forged = *good.bytes();
    forged[60] ^= 1;
    assert_eq!(bench.datagram(7, &forged), []);
    assert_eq!(bench.handle(Input::Datagram { slot: slot(2), from: from(7), payload: good.bytes() }), []);
    assert_eq!(bench.refusals(), [(Refusal::Malformed, 4), (Refusal::NoInterface, 1), (Refusal::Mac1, 1)]);
    assert_eq!(bench.machine.sizes(), Sizes::default(), "nothing of it is remembered");
}

#[test]
fn the_same_garbage_costs_one_step() {
    let mut bench = Bench::new(Config::default());
    let (ticket, initiation) = bench.knock(7);
    assert_eq!(bench.handle(Input::Claimed { ticket, claim: None }), []);
    assert_eq!(bench.handle(Input::Claimed { ticket, claim: Some((key(1), 1)) }), [], "answered already");
    for source in 0..1000 {
        assert_eq!(bench.datagram(source, initiation.bytes()), []);
    }
    assert_eq!(bench.refusals(), [(Refusal::Repeated, 1000), (Refusal::NotForUs, 1)]);
    assert_eq!(bench.machine.sizes().sources, 1, "and takes nothing from those whose addresses it comes from");
}

#[test]
fn a_source_of_garbage_runs_dry_and_one_of_hosts_does_not() {
    let config = Config { per_source: Rate { per_second: 10, burst: 8 }, ..Config::default() };
    let mut bench = Bench::new(config);
    for _ in 0..8 {
        let (ticket, _) = bench.knock(7);
        bench.handle(Input::Claimed { ticket, claim: None });
    }
    assert_eq!(bench.datagram(7, initiation(500).bytes()), []);
    assert_eq!(bench.refusals(), [(Refusal::SourceRate, 1), (Refusal::NotForUs, 8)]);
    bench.wait(100 * MS);
    bench.knock(7);
    // Behind one address a hundred hosts, at once.
    (0..100).for_each(|host| bench.admit(8, host, stamp(1)));
}

#[test]
fn what_turns_out_forged_or_unknown_is_not_given_back() {
    let config = Config { per_source: Rate { per_second: 10, burst: 8 }, ..Config::default() };
    let mut bench = Bench::new(config);
    for of in 0..4 {
        assert_eq!(bench.claim(7, of), [Effect::LookUp { peer: peer(of) }]);
        bench.answer(of, Answer::Unknown);
    }
    bench.claim(7, 10);
    let effects = bench.found(10);
    assert_eq!(bench.prove(&effects, None), []);
    for _ in 0..3 {
        let effects = bench.claim(7, 10);
        assert_eq!(bench.prove(&effects, None), [], "the directory was not asked again");
    }
    assert_eq!(bench.datagram(7, initiation(500).bytes()), []);
    assert_eq!(bench.refusals(), [(Refusal::SourceRate, 1), (Refusal::Unknown, 4), (Refusal::Forged, 4)]);
    assert_eq!(bench.machine.stamps(slot(1)).count(), 0);
}

#[test]
fn steps_of_all_together_stay_within_their_budget() {
    let config = Config { steps: Rate { per_second: 100, burst: 4 }, at_work: 1000, ..Config::default() };
    let mut bench = Bench::new(config);
    let mut claims = 0;
    for n in 0..100 {
        claims += bench.datagram(n, initiation(1000 + u64::from(n)).bytes()).len();
    }
    assert_eq!((claims, bench.machine.sizes().backlog), (4, 96));
    assert_eq!(bench.machine.poll_timeout(), Some((bench.now + 10 * MS, Timer::Step)));
    let claims: Vec<_> = bench.wait(100 * MS);
    assert_eq!(claims.len(), 10);
    // The second steps are of the same budget, and go first.
    let tickets: Vec<_> =
        claims.iter().map(|claim| if let Effect::Claim { ticket, .. } = claim { *ticket } else { panic!("{claim:?}") }).collect();
    for (n, ticket) in tickets.into_iter().enumerate() {
        bench.handle(Input::Claimed { ticket, claim: Some((key(1), n as u64)) });
    }
    assert_eq!(bench.found(1), []);
    let proofs = super::proofs(&bench.wait(50 * MS)).len();
    assert_eq!(proofs, 5);
}

#[test]
fn so_many_are_with_workers_and_no_more() {
    let config = Config { at_work: 3, ..Config::default() };
    let mut bench = Bench::new(config);
    let tickets: Vec<_> = (0..3).map(|source| bench.knock(source).0).collect();
    assert_eq!(bench.datagram(9, initiation(1000).bytes()), []);
    assert_eq!((bench.machine.sizes().at_work, bench.machine.poll_timeout()), (3, None), "an answer will wake it, no timer");
    let effects = bench.handle(Input::Claimed { ticket: tickets[1], claim: None });
    assert!(matches!(effects.as_slice(), [Effect::Claim { .. }]), "{effects:?}");
}

#[test]
fn a_full_backlog_has_a_place_for_one_more_source() {
    let config = Config { at_work: 1, backlog: 10, per_source: Rate { per_second: 10, burst: 1000 }, ..Config::default() };
    let mut bench = Bench::new(config);
    bench.knock(1);
    for n in 0..20 {
        bench.datagram(1, initiation(1000 + n).bytes());
    }
    assert_eq!((bench.machine.sizes().backlog, bench.refused(Refusal::Backlog)), (5, 15));
    bench.datagram(2, initiation(2000).bytes());
    assert_eq!((bench.machine.sizes().backlog, bench.refused(Refusal::Backlog)), (6, 15));
    // What found no place is not held to be seen.
    assert_eq!(bench.datagram(3, initiation(1019).bytes()), []);
    assert_eq!((bench.machine.sizes().backlog, bench.refused(Refusal::Repeated)), (7, 0));
}

#[test]
fn an_interface_that_is_released_is_nobodys() {
    let mut bench = Bench::new(Config::default());
    bench.admit(7, 5, stamp(1));
    let (first, _) = bench.knock(7);
    let second = bench.claim(8, 6);
    assert_eq!(second, [Effect::LookUp { peer: peer(6) }]);
    bench.machine.release(slot(1));
    assert_eq!(bench.machine.peers().count(), 0);
    assert_eq!(bench.handle(Input::Claimed { ticket: first, claim: Some((key(9), 1)) }), []);
    assert_eq!(bench.found(6), []);
    assert_eq!(bench.datagram(7, initiation(1000).bytes()), []);
    assert_eq!(bench.refusals(), [(Refusal::NoInterface, 3)]);
    let sizes = bench.machine.sizes();
    assert_eq!((sizes.waiting, sizes.at_work, sizes.backlog), (0, 0, 0));
    assert_eq!(bench.machine.stamps(slot(1)).collect::<Vec<_>>(), [(key(5), stamp(1))], "recordings stay worthless");
}
