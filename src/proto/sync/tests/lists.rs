//! Lists: what they sweep, renew and repair, at what pace, and when they fail.

use super::*;

#[test]
fn lost_notices_cost_the_sync_until_a_new_list_is_over() {
    let mut pair = Pair::synced(&[tcp(1), tcp(2)]);
    pair.sender.overflow(pair.now);
    pair.run();
    assert!(!pair.sender.in_sync(pair.now) && !pair.receiver.in_sync(pair.now));
    let first = pair.list.take().unwrap();
    pair.sender.listed(pair.now, first, &tcp(1));
    pair.sender.overflow(pair.now);
    pair.sender.list_ended(pair.now, first);
    pair.run();
    assert!(!pair.sender.in_sync(pair.now) && !pair.receiver.in_sync(pair.now), "lost in the midst of a list: another one");
    assert_eq!(pair.receiver.flows(), 2, "nothing is swept by a list that is not complete");
    let second = pair.list.take().unwrap();
    pair.sender.listed(pair.now, first, &tcp(2));
    pair.sender.listed(pair.now, second, &tcp(1));
    pair.sender.list_ended(pair.now, second);
    pair.run();
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(2).key)]);
}

#[test]
fn what_is_told_stands_against_what_a_list_says_late() {
    let mut pair = Pair::synced(&[tcp(1), tcp(2)]);
    pair.sender.overflow(pair.now);
    pair.run();
    let list = pair.list.take().unwrap();
    // Read from the kernel before, handed on after.
    pair.tell(FlowChange::Destroy(tcp(1).key));
    let closing = Flow { tcp: Some(TcpState::LastAck), ..tcp(2) };
    pair.tell(FlowChange::Upsert(closing));
    pair.tell(FlowChange::Upsert(tcp(3)));
    pair.sender.listed(pair.now, list, &tcp(1));
    pair.sender.listed(pair.now, list, &tcp(2));
    pair.sender.list_ended(pair.now, list);
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(1).key), FlowStep::Update(closing), FlowStep::Create(tcp(3))]);
}

#[test]
fn a_list_renews_copies_of_which_half_the_time_is_over() {
    let udp = flow(1, None);
    let mut pair = Pair::synced(&[udp]);
    let mut updates = vec![];
    for minute in 1..=12 {
        // The sender's own traffic: heartbeats.
        let begin = pair.now;
        while pair.list.is_none() {
            pair.run_for(Duration::from_millis(90));
        }
        assert!(pair.now - begin < Tuning::default().relist + Duration::from_millis(200));
        assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now), "listing again costs no sync");
        pair.tell_list(&[udp]);
        if pair.take_applied() == [FlowStep::Update(udp)] {
            updates.push(minute);
        }
    }
    // Held for 600 s: renewed after more than 300.
    assert_eq!(updates, [5, 10]);
    assert_eq!(udp.held(), 600);
}

#[test]
fn a_list_keeps_its_pace_and_waits_for_acknowledgements() {
    let mut pair = Pair::new();
    pair.run();
    let list = pair.list.take().unwrap();
    let begin = pair.now;
    let mut listed = 0;
    while listed < 20_000 {
        for number in 0..pair.sender.list_room(pair.now).min(100) {
            pair.sender.listed(pair.now, list, &tcp(listed + number as u32));
        }
        listed = pair.sender.counters.listed as u32;
        pair.collect();
        assert!(pair.to_receiver.len() <= Tuning::default().window + 3);
        pair.run();
        assert!(pair.sender.next_timeout().is_some_and(|(_, why)| ["flush", "list goes on", "heartbeat"].contains(&why)));
    }
    let seconds = (pair.now - begin).as_secs_f64();
    assert!(f64::from(listed) / seconds <= 1.1 * f64::from(Tuning::default().list_rate), "{listed} in {seconds}");

    // Nothing comes back: the list stops at the window.
    for _ in 0..100 {
        let room = pair.sender.list_room(pair.now);
        (0..room).for_each(|number| pair.sender.listed(pair.now, list, &tcp(number as u32)));
        pair.timeouts();
        pair.to_receiver.clear();
        pair.now += Duration::from_millis(5);
    }
    assert_eq!(pair.sender.list_room(pair.now), 0);
}

#[test]
fn a_list_that_fails_is_followed_by_another_after_a_pause() {
    let mut pair = Pair::synced(&[tcp(1)]);
    pair.sender.overflow(pair.now);
    pair.run();
    let list = pair.list.take().expect("a list");
    // Lost while it runs, and then it fails: the next is begun no sooner for it, and makes up for both.
    pair.sender.overflow(pair.now);
    pair.sender.list_failed(pair.now, list);
    assert!(pair.sender.next_timeout().is_some_and(|(at, _)| at > pair.now) || pair.sender.in_flight() > 0);
    pair.run_for(Duration::from_millis(300));
    assert_eq!((pair.list, pair.receiver.is_complete(), pair.sender.in_sync(pair.now)), (None, false, false));
    pair.run_for(Duration::from_millis(300));
    let list = pair.list.take().expect("another list");
    pair.sender.list_ended(pair.now, list);
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(1).key)]);
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
    // The one that failed is over.
    pair.sender.list_failed(pair.now, list);
    assert_eq!(pair.sender.counters.lists_failed, 1);
}

/// The next list, of these flows.
fn next_list(pair: &mut Pair, flows: &[Flow]) {
    pair.run_for(Tuning::default().relist);
    pair.tell_list(flows);
}

#[test]
fn what_the_kernel_does_not_take_is_given_to_it_again() {
    let mut pair = Pair::synced(&[tcp(1), tcp(2), tcp(3), tcp(4)]);
    pair.receiver.unwritten(tcp(1).key, true);
    pair.receiver.unwritten(tcp(2).key, true);
    // Somebody has deleted it.
    pair.receiver.vanished(pair.now, tcp(3).key);
    assert!(!pair.receiver.in_sync(pair.now) && !pair.receiver.is_complete());
    next_list(&mut pair, &[tcp(1), tcp(3), tcp(4)]);
    // Perhaps it stands after all.
    assert_eq!(pair.take_applied(), [FlowStep::Create(tcp(1)), FlowStep::Create(tcp(3)), FlowStep::Delete(tcp(2).key)]);
    assert!(pair.receiver.in_sync(pair.now));
    // Again in vain: then the next list.
    pair.receiver.unwritten(tcp(1).key, true);
    next_list(&mut pair, &[tcp(3), tcp(4)]);
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(1).key)]);
    assert!(pair.receiver.in_sync(pair.now));
    // One that is merely odd is tried again, and nobody waits for it; an end settles it, too.
    pair.receiver.unwritten(tcp(3).key, false);
    assert!(pair.receiver.in_sync(pair.now));
    pair.tell(FlowChange::Destroy(tcp(3).key));
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Delete(tcp(3).key)]);
    // What expires in time is missed by nobody.
    pair.receiver.vanished(pair.now + Duration::from_secs(u64::from(Flow::HELD)), tcp(4).key);
    assert!(pair.receiver.in_sync(pair.now));
}

#[test]
fn a_list_that_is_due_before_long_begins_early_and_one_that_is_not_does_not() {
    let (mut pair, relist) = (Pair::synced(&[tcp(1)]), Tuning::default().relist);
    for (time, early) in [(relist / 4, false), (relist / 2, true)] {
        pair.run_for(time);
        pair.sender.list_early(pair.now);
        pair.run();
        assert_eq!(pair.list.is_some(), early);
        assert!(pair.sender.in_sync(pair.now), "it takes nothing back");
    }
    let list = pair.list.unwrap();
    assert!(pair.sender.lists(list));
    pair.tell_list(&[tcp(1)]);
    assert!(!pair.sender.lists(list));
}

#[test]
fn a_ledger_is_complete_when_a_list_is_over() {
    let (now, mut ledger) = (Instant::now(), Ledger::default());
    let closing = Flow { timeout: 100, ..flow(1, Some(TcpState::FinWait)) };
    ledger.begin(false);
    ledger.listed(now, closing, &mut drop);
    ledger.listed(now, tcp(2), &mut drop);
    ledger.destroyed(tcp(2).key, &mut drop);
    ledger.listed(now, tcp(2), &mut drop);
    assert!(!ledger.is_complete());
    assert_eq!(ledger.end(&mut drop), Some(0));
    assert!(ledger.is_complete());
    assert_eq!(ledger.keys().collect::<Vec<_>>(), [closing.key], "what has ended is not known any more");
    assert_eq!(ledger.get(&closing.key), Some(&closing), "as the kernel last told");
}

#[test]
fn what_may_stand_in_the_kernel_is_taken_over_with_what_does() {
    let (now, mut told, mut other) = (Instant::now(), Ledger::default(), Ledger::default());
    told.complete = true;
    told.told(now, tcp(1), &mut drop);
    for flow in [tcp(1), tcp(2), tcp(3)] {
        other.told(now, flow, &mut drop);
    }
    assert!(other.unwritten(tcp(1).key, true) && other.unwritten(tcp(2).key, true) && !other.unwritten(tcp(4).key, true));
    told.adopt_from(&other);
    assert!(!told.is_complete(), "the second was missed");
    assert_eq!(told.keys().collect::<std::collections::BTreeSet<_>>(), [1, 2, 3].map(|n| tcp(n).key).into());
    assert_eq!(told.get(&tcp(2).key), None);
}

#[test]
fn after_notices_were_lost_all_copies_are_written_again() {
    let mut pair = Pair::synced(&[tcp(1), flow(2, None)]);
    pair.receiver.overflow(pair.now);
    assert!(!pair.receiver.is_complete() && !pair.receiver.in_sync(pair.now));
    pair.run_for(Tuning::default().silence + Duration::from_millis(500));
    pair.tell_list(&[tcp(1), flow(2, None)]);
    assert_eq!(pair.take_applied(), [FlowStep::Update(tcp(1)), FlowStep::Update(flow(2, None))]);
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
}

#[test]
fn only_a_list_that_has_spent_its_room_waits_for_a_deadline() {
    let tuning = Tuning { list_rate: 1000, ..Tuning::default() };
    let mut pair = Pair::tuned(tuning);
    pair.run();
    let list = pair.list.take().unwrap();
    let soon = |pair: &Pair| pair.sender.next_timeout().is_some_and(|(_, why)| why == "list goes on");
    assert!(!soon(&pair), "it can go on at any time");
    for n in 0..u32::try_from(pair.sender.list_room(pair.now)).unwrap() {
        pair.sender.listed(pair.now, list, &tcp(n));
    }
    pair.run();
    assert_eq!(pair.sender.list_room(pair.now).min(1), usize::from(!soon(&pair)));
}

#[test]
fn a_list_that_breaks_off_has_swept_nothing() {
    let (now, mut ledger) = (Instant::now(), Ledger::default());
    ledger.told(now, tcp(1), &mut drop);
    ledger.begin(false);
    ledger.break_off();
    assert_eq!(ledger.end(&mut drop), None);
    assert_eq!(ledger.len(), 1);
}
