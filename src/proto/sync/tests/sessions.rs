//! Sessions: how they begin, end, and go over to others.

use super::*;

#[test]
fn hellos_go_out_until_somebody_answers_and_changes_are_not_kept() {
    let mut pair = Pair::new();
    for n in 1..=3 {
        assert_eq!(pair.sender.next_timeout(), Some((pair.now, "hello")));
        pair.timeouts();
        assert_eq!(pair.to_receiver.len(), n);
        pair.tell(FlowChange::Upsert(tcp(1)));
        pair.now += Tuning::default().hello;
    }
    assert_eq!((pair.sender.counters.unheard, pair.sender.in_flight(), pair.sender.is_up()), (3, 0, false));
    assert_eq!(pair.receiver.next_timeout(), None);
}

#[test]
fn a_silent_receiver_is_forgotten_and_welcomed_back() {
    let mut pair = Pair::synced(&[tcp(1)]);
    for _ in 0..300 {
        pair.tell(FlowChange::Upsert(tcp(2)));
        pair.timeouts();
        (pair.to_receiver, pair.to_sender) = (vec![], vec![]);
        pair.now += Duration::from_millis(5);
    }
    assert!(!pair.sender.is_up() && pair.sender.in_flight() == 0 && !pair.receiver.in_sync(pair.now));
    assert!(pair.receiver.is_complete(), "what it has is still good");
    pair.run_for(Duration::from_millis(300));
    assert!(pair.sender.is_up() && !pair.receiver.is_complete());
    pair.tell_list(&[tcp(2)]);
    assert_eq!(pair.take_applied(), [FlowStep::Create(tcp(2)), FlowStep::Delete(tcp(1).key)]);
    assert_eq!((pair.sender.counters.silences, pair.sender.counters.sessions, pair.receiver.counters.swept), (1, 2, 1));
}

#[test]
fn one_copy_too_many_is_told_so_and_until_then_it_is_kept() {
    let mut pair = Pair::synced(&[tcp(1)]);
    pair.run_for(Duration::from_millis(300));
    assert!(!pair.receiver.is_relieved(pair.now));
    pair.sender.relieve(true);
    pair.run_for(Duration::from_millis(300));
    assert!(pair.receiver.is_relieved(pair.now) && pair.receiver.in_sync(pair.now), "and it goes on being told");
    pair.tell(FlowChange::Upsert(tcp(2)));
    pair.run_for(Duration::from_millis(300));
    assert_eq!(pair.receiver.flows(), 2);
    pair.sender.relieve(false);
    pair.run_for(Duration::from_millis(300));
    assert!(!pair.receiver.is_relieved(pair.now), "it is needed again");
    pair.sender.relieve(true);
    pair.run_for(Duration::from_millis(300));
    assert!(!pair.receiver.is_relieved(pair.now + Duration::from_secs(1)), "whoever said so has fallen silent");
}

#[test]
fn a_full_ring_ends_the_session() {
    let mut pair = Pair::tuned(Tuning { ring: 10, ..Tuning::default() });
    pair.run();
    for number in 0..2000 {
        pair.tell(FlowChange::Upsert(tcp(number)));
    }
    assert!(!pair.sender.is_up());
    assert_eq!((pair.sender.counters.ring_overruns, pair.sender.in_flight()), (1, 0));
    pair.collect();
    pair.to_receiver.clear();
    pair.run_for(Duration::from_millis(300));
    assert!(pair.sender.is_up());
}

#[test]
fn a_new_active_knows_better_than_the_former() {
    let former = Pair::synced(&[tcp(1), tcp(2), tcp(3)]).receiver;
    let mut pair = Pair { receiver: receiver(7000, Tuning::default(), Instant::now()), ..Pair::new() };
    pair.receiver.hold();
    pair.run();
    assert!(pair.receiver.is_asked() && !pair.sender.is_up());
    pair.receiver.adopt_from(&former);
    pair.receiver.answer();
    pair.run_for(Duration::from_millis(300));
    pair.tell_list(&[tcp(1), tcp(4)]);
    assert_eq!(pair.take_applied().iter().filter(|step| matches!(step, FlowStep::Create(_))).count(), 1);
    assert_eq!(pair.receiver.flows(), 2);

    // What the former one told after it was asked.
    let mut former = former;
    former.adopt(pair.now, tcp(5));
    pair.receiver.supersede(&mut former);
    pair.collect();
    let mut gone: Vec<FlowKey> = pair.take_applied().iter().map(|step| *step.key()).collect();
    gone.sort();
    assert_eq!(gone, [tcp(2).key, tcp(3).key, tcp(5).key]);
    assert!(former.is_empty() && !former.is_complete() && former.heard().is_none());
}

#[test]
fn a_restarted_receiver_adopts_what_stands() {
    let mut pair = Pair::synced(&[tcp(1), tcp(2)]);
    pair.receiver = receiver(9000, Tuning::default(), pair.now);
    for number in [1, 2, 3] {
        pair.receiver.adopt(pair.now, tcp(number));
    }
    pair.run_for(Tuning::default().silence + Duration::from_millis(300));
    pair.tell_list(&[tcp(1), tcp(2)]);
    // What stands has less time left than a copy should have.
    assert_eq!(pair.take_applied(), [FlowStep::Update(tcp(1)), FlowStep::Update(tcp(2)), FlowStep::Delete(tcp(3).key)]);
    assert!(pair.receiver.in_sync(pair.now));
}

#[test]
fn a_machine_that_stood_still_is_in_sync_again_before_long() {
    let mut pair = Pair::synced(&[tcp(1)]);
    pair.run_for(Duration::from_secs(30));
    pair.paused = Duration::from_millis(300);
    pair.run_for(Duration::from_secs(1));
    assert!(!pair.receiver.in_sync(pair.now), "all that comes seems to be late");
    pair.run_for(Duration::from_secs(10));
    assert!(pair.receiver.in_sync(pair.now), "it seems {:?} late", pair.receiver.lag());
    assert_eq!(pair.sender.counters.sessions, 1);
}
