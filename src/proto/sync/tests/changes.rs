//! Changes: how they arrive, in what order, and what becomes of lost ones.

use super::*;

#[test]
fn changes_arrive_as_steps_and_zone_and_mark_are_the_receivers() {
    let mut pair = Pair::synced(&[tcp(1)]);
    let elsewhere = Flow { key: FlowKey { zone: 9, ..tcp(2).key }, mark: Mark(9), ..tcp(2) };
    pair.tell(FlowChange::Upsert(elsewhere));
    let closing = Flow { tcp: Some(TcpState::FinWait), ..tcp(1) };
    pair.tell(FlowChange::Upsert(closing));
    pair.tell(FlowChange::Destroy(tcp(3).key));
    pair.tell(FlowChange::Destroy(tcp(1).key));
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Create(tcp(2)), FlowStep::Update(closing), FlowStep::Delete(tcp(1).key)]);
    assert_eq!((pair.receiver.flows(), pair.receiver.flow(&tcp(2).key)), (1, Some(&tcp(2))));
}

#[test]
fn another_translation_is_another_connection() {
    let mut pair = Pair::synced(&[tcp(1)]);
    let moved = Flow { nat: Some(NatSource { port: 7, ..tcp(1).nat.unwrap() }), ..tcp(1) };
    pair.tell(FlowChange::Upsert(moved));
    pair.run();
    assert_eq!(pair.take_applied(), [FlowStep::Delete(moved.key), FlowStep::Create(moved)]);
}

#[test]
fn connections_that_nobody_answered_are_not_copied() {
    let mut pair = Pair::synced(&[]);
    let young = |number| Flow { tcp: Some(TcpState::SynSent), status: FlowStatus::default(), ..tcp(number) };
    pair.tell(FlowChange::Upsert(young(1)));
    pair.tell(FlowChange::Destroy(young(1).key));
    let udp = Flow { status: FlowStatus::default(), ..flow(3, None) };
    pair.tell(FlowChange::Upsert(udp));
    pair.sender.overflow(pair.now);
    pair.run();
    pair.tell_list(&[young(2), udp]);
    assert_eq!(pair.take_applied(), [FlowStep::Create(udp)]);
    assert_eq!(pair.sender.counters.tentative, 2);
}

#[test]
fn a_state_that_is_not_told_stays_and_status_only_grows() {
    let mut pair = Pair::synced(&[tcp(1)]);
    let replied = FlowStatus { seen_reply: true, assured: false };
    pair.tell(FlowChange::Upsert(Flow { tcp: None, status: replied, ..tcp(1) }));
    pair.run();
    assert_eq!(pair.take_applied(), []);
    assert_eq!(pair.receiver.flow(&tcp(1).key), Some(&tcp(1)));
}

#[test]
fn a_lost_tail_is_noticed_by_the_heartbeat() {
    let mut pair = Pair::synced(&[]);
    pair.tell(FlowChange::Upsert(tcp(1)));
    pair.sender.flush(pair.now);
    pair.collect();
    pair.to_receiver.clear();
    let begin = pair.now;
    while pair.take_applied().is_empty() {
        assert!(!pair.sender.in_sync(begin + Tuning::default().lag * 2));
        pair.run();
    }
    assert!(pair.now - begin <= Duration::from_millis(20), "{:?}", pair.now - begin);
    assert_eq!((pair.sender.counters.resent, pair.receiver.counters.complaints), (1, 1));
    pair.run();
    assert!(pair.sender.in_sync(pair.now) && pair.receiver.in_sync(pair.now));
}

#[test]
fn what_overtakes_waits_for_its_turn() {
    let mut pair = Pair::synced(&[]);
    for number in 0..4 {
        pair.tell(FlowChange::Upsert(tcp(number)));
        pair.sender.flush(pair.now);
    }
    pair.collect();
    pair.to_receiver.reverse();
    pair.to_receiver.extend(pair.to_receiver.clone());
    pair.run();
    assert_eq!(pair.take_applied(), (0..4).map(|n| FlowStep::Create(tcp(n))).collect::<Vec<_>>());
    assert_eq!(pair.receiver.counters.refused.duplicate, 4);
}

/// What this thread has computed: what other programs do at the same time does not count.
fn computed() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

/// The bar in the release build is 500,000 a second through each machine; this one is not optimised.
#[test]
fn many_changes_pass_quickly() {
    const COUNT: u32 = 100_000;
    let mut pair = Pair::synced(&[]);
    let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
    let changes: Vec<FlowChange> = (0..COUNT).map(|number| FlowChange::Upsert(tcp(number))).collect();
    for piece in changes.chunks(1000) {
        let begin = computed();
        piece.iter().for_each(|change| pair.sender.change(pair.now, change));
        pair.sender.flush(pair.now);
        pair.collect();
        let sent = computed();
        pair.deliver();
        (sending, receiving) = (sending + (sent - begin), receiving + (computed() - sent));
        pair.deliver();
        pair.now += Duration::from_micros(100);
    }
    assert_eq!(pair.applied.len(), COUNT as usize);
    for (machine, time) in [("sender", sending), ("receiver", receiving)] {
        let rate = f64::from(COUNT) / time.as_secs_f64();
        println!("{machine}: {rate:.0} changes/s");
        assert!(rate > 20_000.0, "{machine}: {rate}");
    }
}
