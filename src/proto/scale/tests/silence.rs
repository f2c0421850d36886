use super::*;

#[test]
fn nobody_is_taken_away_while_one_is_not_heard() {
    let mut bench = Bench::new(policy(), 6);
    for minute in 0..30 {
        (0..60).for_each(|_| bench.second(1.0, |number| number != 3));
        bench.come();
        assert_eq!(bench.orders, [] as [u32; 0], "minute {minute}");
    }
    assert_eq!(bench.held(), Some("missing"));
    assert_eq!(bench.scaler.held().unwrap().to_string(), "nothing current is known of gw-3: none is taken away");
    bench.minutes(6, 1.0);
    assert_eq!(bench.orders, [3], "and when it is, the window begins");
}

#[test]
fn silence_of_all_keeps_the_last_decision() {
    let mut bench = Bench::new(policy(), 6);
    bench.seconds(60, 3.0);
    for _ in 0..60 {
        (0..60).for_each(|_| bench.second(0.0, |_| false));
        bench.come();
    }
    assert_eq!((bench.orders.len(), bench.held()), (0, Some("missing")));
    bench.minutes(10, 3.3);
    assert_eq!(bench.orders, [] as [u32; 0]);
}

#[test]
fn one_that_falls_silent_and_comes_back_is_no_flood() {
    let mut bench = Bench::new(policy(), 6);
    bench.seconds(300, 3.4);
    for _ in 0..5 {
        (0..60).for_each(|_| bench.second(3.4, |number| number != 0));
        bench.seconds(60, 3.4);
        bench.come();
    }
    assert_eq!(bench.orders, [] as [u32; 0]);
}

#[test]
fn a_restart_of_a_gateway_is_no_flood_either() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(100, 2.2);
    bench.now += s(1);
    let anew = Sample { clock: 0.5, bits: 0.0, ..Sample::default() };
    bench.scaler.handle(bench.now, Input::Reading(node(2), anew)).unwrap_err();
    bench.tick();
    bench.seconds(100, 2.2);
    assert_eq!(bench.orders, [] as [u32; 0]);
    assert_eq!(bench.scaler.counters.refused().map(|(_, many)| many).sum::<u64>(), 2, "and once more, as its clock leaps back here");
}

#[test]
fn with_some_silent_the_others_still_call_for_more() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(60, 2.0);
    (0..120).for_each(|_| bench.second(3.9, |number| number != 0));
    assert!(bench.ordered() > 4, "{:?}", bench.holds);
}

#[test]
fn nobody_is_taken_away_while_it_is_not_known_who_is_there() {
    let mut bench = Bench::new(policy(), 6);
    bench.talks = false;
    bench.seconds(1200, 1.0);
    assert_eq!(bench.orders, [] as [u32; 0]);
    assert_eq!(bench.held(), Some("fleet_stale"));
}
