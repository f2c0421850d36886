use super::*;
use rstest::rstest;

#[test]
fn nothing_is_decided_before_anything_is_known() {
    let mut scaler = Scaler::new(Instant::now(), policy()).unwrap();
    scaler.tick(Instant::now(), UNIX_EPOCH);
    assert_eq!(scaler.next_effect(), Some(Effect::Held(Held::NoFleet)));
    assert_eq!((scaler.next_effect(), scaler.ordered()), (None, None));
}

#[test]
fn what_lasts_is_brought_to_the_target_and_what_is_urgent_at_once() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(200, 2.4);
    assert_eq!(bench.orders, [] as [u32; 0]);
    bench.seconds(118, 2.8);
    assert_eq!(bench.orders, [] as [u32; 0], "of the minute before there is nothing yet");
    bench.seconds(60, 2.8);
    assert_eq!(bench.orders, [5], "70 % in the long run is more than 60 %");
    let decision = bench.decisions[0].to_string();
    assert!(decision.starts_with("4 -> 5 nodes: 6") || decision.starts_with("4 -> 5 nodes: 7"), "{decision}");
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(200, 2.4);
    bench.seconds(16, 3.6);
    assert_eq!(bench.orders, [5], "more than 80 % of twenty seconds cannot wait");
}

#[test]
fn a_flood_is_met_before_it_is_there_and_late_nodes_are_ordered_once() {
    let mut bench = Bench::new(Policy { max: 30, ..policy() }, 2);
    bench.seconds(100, 1.0);
    // Ten times as much within a minute.
    (0..60).for_each(|second| bench.second(1.0 + 9.0 * f64::from(second) / 60.0, |_| true));
    let ordered = bench.ordered();
    assert!((13..=24).contains(&ordered), "{:?}", bench.orders);
    assert!(bench.decisions[0].at - bench.start < s(108), "{:?}", bench.decisions[0]);
    assert!(bench.decisions.iter().any(|decision| matches!(decision.reason, Reason::Saturated { .. })), "{:?}", bench.decisions);
    // They do not come for ten minutes. All that there is is used, but no more are ordered.
    bench.seconds(600, 10.0);
    assert_eq!((bench.ordered(), bench.held()), (ordered, Some("behind")));
    bench.come();
    bench.seconds(60, 10.0);
    assert!(bench.ordered() <= ordered.max(17), "{:?}", bench.orders);
}

#[test]
fn when_all_is_used_and_nobody_saw_it_rise_twice_as_many_are_ordered_again_and_again() {
    let mut bench = Bench::new(Policy { max: 40, ..policy() }, 2);
    bench.seconds(30, 1.0);
    for _ in 0..6 {
        bench.seconds(120, 20.0);
        bench.come();
    }
    assert!(bench.ordered() >= 25, "{:?}", bench.orders);
    assert!(bench.orders.windows(2).all(|pair| pair[1] <= pair[0] * 2 + 4), "{:?}", bench.orders);
}

#[test]
fn steps_and_max_are_kept_to() {
    let step = Step { nodes: 2, percent: 0 };
    let mut bench = Bench::new(Policy { max: 7, out_step: step, in_step: Step { nodes: 1, percent: 0 }, ..policy() }, 2);
    bench.say("alert", &[Wanted::Nodes(9)], 601).unwrap();
    bench.minutes(10, 0.1);
    assert_eq!(bench.orders, [4, 6, 7]);
    assert_eq!(bench.held(), Some("at_max"));
    assert!(bench.holds.contains(&"step") && bench.holds.contains(&"cooldown"), "{:?}", bench.holds);
    assert!(bench.decisions[0].to_string().ends_with("; 9 are wanted"), "{}", bench.decisions[0]);
    bench.orders.clear();
    bench.minutes(60, 0.1);
    assert_eq!(bench.orders, [6, 5, 4, 3, 2]);
    let apart = |pair: &[Decision]| pair[1].at - pair[0].at;
    assert!(bench.decisions[3..].windows(2).all(|pair| apart(pair) >= policy().in_cooldown), "{:?}", bench.decisions);
}

#[test]
fn fewer_only_after_the_whole_window_and_by_its_highest() {
    let mut bench = Bench::new(policy(), 8);
    bench.seconds(200, 2.0);
    assert_eq!((bench.orders.len(), bench.held()), (0, Some("stabilising")));
    bench.seconds(25, 4.3);
    bench.seconds(280, 1.0);
    assert_eq!(bench.orders, [6], "it was 4.3 for a while, which takes 6 at once");
    assert_eq!(bench.decisions[0].to_string(), "8 -> 6 nodes: no more than 6 were needed for 300 s");
    bench.seconds(700, 1.0);
    assert_eq!(bench.orders, [6, 3, 2]);
}

#[test]
fn nodes_that_never_come_keep_no_order_up() {
    let mut bench = Bench::new(policy(), 4);
    bench.say("alert", &[Wanted::Nodes(8)], 100).unwrap();
    bench.seconds(170, 1.0);
    assert_eq!((bench.orders.clone(), bench.held()), (vec![8], Some("behind")));
    bench.seconds(600, 1.0);
    assert_eq!(bench.orders, [8, 4, 2]);
}

#[test]
fn what_somebody_else_orders_is_adopted_and_what_is_told_late_is_not() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(30, 2.0);
    bench.fleet(9, 4);
    bench.seconds(1, 2.0);
    assert_eq!((bench.ordered(), bench.decisions[0].reason.clone()), (9, Reason::Adopted));
    assert_eq!(bench.orders, [] as [u32; 0], "it is ordered already");
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(80, 3.6);
    let ordered = bench.ordered();
    assert_eq!(ordered, 6);
    bench.fleet(4, 4);
    bench.fleet(ordered - 1, 4);
    assert_eq!(bench.ordered(), ordered);
    let orders = bench.orders.len();
    bench.seconds(70, 3.0);
    assert!(bench.orders.len() > orders, "it is not what was ordered: once more");
}

#[test]
fn clocks_that_leap_neither_panic_nor_flap() {
    let mut bench = Bench::new(policy(), 6);
    bench.seconds(100, 3.0);
    let now = bench.now;
    for leap in [Duration::ZERO, s(50), s(86_400 * 365)] {
        let back = now.checked_sub(leap).unwrap_or(now);
        bench.scaler.tick(back, UNIX_EPOCH - leap);
        bench.scaler.handle(back, Input::Reading(node(0), Sample::default())).unwrap_err();
        bench.gather();
    }
    assert_eq!(bench.orders, [] as [u32; 0]);
    // A machine that slept for an hour: nothing is current any more, and the window begins anew.
    bench.now += s(3600);
    bench.tick();
    assert_eq!(bench.held(), Some("missing"));
    bench.come();
    bench.seconds(200, 1.0);
    assert_eq!(bench.orders, [] as [u32; 0]);
}

#[test]
fn another_policy_holds_at_once_and_a_bad_one_is_refused() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(30, 2.0);
    let bad = bench.scaler.handle(bench.now, Input::Policy(Policy { min: 1, ..policy() })).unwrap_err();
    assert_eq!(bad.to_string(), "min 1: a shard has two candidates, use 2 or more");
    bench.scaler.handle(bench.now, Input::Policy(Policy { min: 8, ..policy() })).unwrap();
    bench.seconds(1, 2.0);
    assert_eq!(bench.orders, [8]);
}

#[test]
fn a_longer_window_is_full_before_anybody_is_taken_away() {
    let patient = Policy { in_cooldown: s(1000), ..policy() };
    let mut bench = Bench::new(patient.clone(), 5);
    bench.seconds(100, 3.4);
    assert_eq!(bench.orders, [6]);
    bench.come();
    bench.seconds(600, 1.0);
    // What was needed before the last 300 s is forgotten by now, so 2,000 s are not known before second 2,400.
    bench.scaler.handle(bench.now, Input::Policy(Policy { window: s(2000), ..patient })).unwrap();
    bench.seconds(1690, 1.0);
    assert_eq!((bench.orders.as_slice(), bench.held()), ([6].as_slice(), Some("stabilising")));
    bench.seconds(20, 1.0);
    assert_eq!(bench.orders, [6, 3]);
}

#[test]
fn what_lasted_lasts_when_a_gateway_comes_or_goes() {
    let mut bench = Bench::new(policy(), 5);
    bench.seconds(200, 2.9);
    for serving in [6, 5, 6] {
        bench.fleet(6.max(bench.ordered()), serving);
        // In the seconds in which the shards have moved it happens to be more.
        bench.seconds(4, 3.9);
        bench.seconds(100, 2.9);
    }
    assert_eq!(bench.ordered(), 6, "{:?}", bench.decisions);
    let outlook = bench.scaler.trend.outlook().unwrap();
    assert!((2.9..2.95).contains(&outlook.sustained.unwrap()), "{outlook:?}");
}

#[test]
fn a_mean_of_less_than_a_minute_is_not_sustained() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(59, 3.0);
    assert_eq!((bench.scaler.trend.outlook().unwrap().sustained, bench.orders.len()), (None, 0));
    bench.seconds(3, 3.0);
    assert_eq!(bench.orders, [5]);
}

#[rstest]
#[case::target(Policy { target: f64::NAN, ..policy() }, "target NaN")]
#[case::all(Policy { target: 1.0, ..policy() }, "target 1 leaves no room")]
#[case::one(Policy { min: 1, ..policy() }, "min 1: a shard has two candidates")]
#[case::max(Policy { min: 5, max: 4, ..policy() }, "max 4: use 5 (min) to 1000")]
#[case::cooldown(Policy { in_cooldown: s(5), ..policy() }, "in_cooldown of 5s: use 15s to 86400s")]
#[case::window(Policy { window: s(5), ..policy() }, "window of 5s")]
#[case::step(Policy { out_step: Step { nodes: 0, percent: 50 }, ..policy() }, "out_step of 0 nodes")]
#[case::capacity(Policy { capacity: Capacity { bits: Some(f64::INFINITY), ..Capacity::default() }, ..policy() }, "a node's capacity of inf bits: use 1")]
#[case::connections(Policy { capacity: Capacity { connections: Some(0.5), ..Capacity::default() }, ..policy() }, "a node's capacity of 0.5 connections")]
#[case::hours(
    Policy { schedule: Schedule { hours: vec![Hours { days: vec![], from: 0, to: 60, min: 30 }], ..Schedule::default() }, ..policy() },
    "30 nodes at certain hours are more than there may be"
)]
#[case::minutes(
    Policy { schedule: Schedule { hours: vec![Hours { days: vec![], from: 1440, to: 60, min: 3 }], ..Schedule::default() }, ..policy() },
    "hours from minute 1440 to 60"
)]
fn a_policy_that_cannot_be_is_refused_with_what_to_use(#[case] policy: Policy, #[case] says: &str) {
    let fault = Scaler::new(Instant::now(), policy).unwrap_err().to_string();
    assert!(fault.starts_with(says), "{fault}");
}

#[test]
fn what_is_shown_can_be_written_as_json() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(20, 3.6);
    let shown = serde_json::to_value(bench.scaler.status(bench.now)).unwrap();
    assert_eq!(shown["ordered"], bench.ordered());
    assert_eq!(shown["decisions"][0]["from"], bench.decisions.last().unwrap().from);
    assert_eq!(shown["decisions"][0]["reason"]["why"], bench.decisions.last().unwrap().reason.as_str());
    assert_eq!(shown["gateways"][0]["name"], "gw-0");
    assert_eq!(shown["gateways"][0]["dimension"], "bits");
    let counted: u64 = bench.scaler.counters.decisions().map(|(_, _, many)| many).sum();
    assert_eq!(counted, bench.decisions.len() as u64);
}
