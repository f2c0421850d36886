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
fn nobody_is_taken_away_while_somebody_who_is_asked_says_nothing() {
    let mut bench = Bench::new(policy(), 6);
    let source: Source = "prometheus/functions".parse().unwrap();
    bench.scaler.handle(bench.now, Input::Asked(vec![source])).unwrap();
    bench.minutes(20, 1.0);
    assert_eq!((bench.orders.len(), bench.held()), (0, Some("silent")), "nothing has come yet");
    let told = "nothing current is known from prometheus/functions: none is taken away";
    assert_eq!(bench.scaler.held().unwrap().to_string(), told);
    // It speaks for a while, and then no more.
    bench.say("prometheus/functions", &[Wanted::Nodes(2)], 200).unwrap();
    bench.minutes(30, 1.0);
    assert_eq!((bench.orders.len(), bench.held()), (0, Some("silent")));
    // The window begins when it speaks again.
    bench.say("prometheus/functions", &[Wanted::Nodes(2)], 3600).unwrap();
    bench.minutes(4, 1.0);
    assert_eq!((bench.orders.len(), bench.held()), (0, Some("stabilising")));
    bench.minutes(2, 1.0);
    assert_eq!(bench.orders, [3]);
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

#[test]
fn silence_under_overload_scales_out_by_what_was_said_last_and_never_in() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(100, 2.0);
    // All are overrun, and nobody can be read any more.
    bench.seconds(10, 4.0);
    let before = bench.orders.clone();
    for minute in 0..60 {
        (0..60).for_each(|_| bench.second(4.0, |_| false));
        bench.come();
        assert!(bench.ordered() <= 8, "minute {minute}: it grows by what nobody sees: {:?}", bench.decisions);
    }
    assert!(bench.orders.len() > before.len(), "{before:?}, then {:?}", bench.orders);
    assert_eq!(bench.ordered(), 8, "a step, as all was used: {:?}", bench.decisions);
    assert!(bench.decisions.iter().all(|decision| decision.direction() == Direction::Out));
}

#[test]
fn what_one_said_last_counts_for_five_minutes_or_until_it_is_none_of_them() {
    let demand = |bench: &Bench| bench.scaler.trend.outlook().unwrap().latest;
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(100, 2.0);
    (0..299).for_each(|_| bench.second(2.0, |number| number != 0));
    assert!((demand(&bench) - 2.0).abs() < 1e-9);
    (0..3).for_each(|_| bench.second(2.0, |number| number != 0));
    assert!((demand(&bench) - 1.5).abs() < 1e-9);
    assert_eq!(bench.held(), Some("missing"));
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(100, 2.0);
    (0..30).for_each(|_| bench.second(2.0, |number| number != 3));
    bench.fleet(4, 3);
    bench.seconds(1, 1.5);
    assert!((demand(&bench) - 1.5).abs() < 1e-9);
}

#[test]
fn a_dimension_that_is_told_no_more_is_missing_and_takes_nobody_away() {
    let mut bench = Bench::new(policy(), 6);
    let second = |bench: &mut Bench, softirq: Option<f64>| {
        bench.pass();
        for number in 0..bench.serving {
            let sample = Sample { softirq, ..bench.sample(&node(number), 0.1) };
            bench.scaler.handle(bench.now, Input::Reading(node(number), sample)).unwrap();
        }
        bench.tick();
    };
    (0..100).for_each(|_| second(&mut bench, Some(0.55)));
    (0..1200).for_each(|_| second(&mut bench, None));
    assert_eq!((bench.orders.len(), bench.held()), (0, Some("missing")));
    let status = bench.scaler.status(bench.now);
    assert_eq!((status.gateways[0].dimension, status.gateways[0].current), (Some(Dimension::Bits), false));
    // It tells it again: then the window begins.
    (0..299).for_each(|_| second(&mut bench, Some(0.1)));
    assert_eq!(bench.orders, [] as [u32; 0]);
    (0..60).for_each(|_| second(&mut bench, Some(0.1)));
    assert_eq!(bench.orders, [3]);
}
