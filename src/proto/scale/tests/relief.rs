use super::*;

/// A second in which so much load is carried by all alike, and a counter of all of them has risen.
fn lose(bench: &mut Bench, held_back: &mut [f64; 5], allowance: Allowance, many: f64, load: f64) {
    bench.pass();
    held_back[allowance as usize] += many;
    for number in 0..bench.serving {
        let used = load / bench.serving as f64;
        let sample = Sample { exceeded: held_back.map(Some), ..bench.sample(&node(number), used) };
        bench.scaler.handle(bench.now, Input::Reading(node(number), sample)).unwrap();
    }
    bench.tick();
}

#[test]
fn loss_adds_a_node_at_once_and_another_only_when_that_one_has_not_helped() {
    let mut bench = Bench::new(policy(), 4);
    bench.seconds(70, 2.3);
    let mut held_back = [0.0; 5];
    let mut lose = |bench: &mut Bench, allowance: Allowance, many: f64| lose(bench, &mut held_back, allowance, many, 2.3);
    lose(&mut bench, Allowance::LinkLocal, 0.0);
    lose(&mut bench, Allowance::LinkLocal, 9.0);
    assert_eq!(bench.orders, [] as [u32; 0], "more nodes do not mend that");
    lose(&mut bench, Allowance::Packets, 1.0);
    assert_eq!(bench.orders, [5]);
    assert_eq!(bench.decisions[0].reason, Reason::Loss { node: node(3), allowance: Allowance::Packets });
    assert_eq!(bench.decisions[0].to_string(), "4 -> 5 nodes: packets of gw-3 are held back: pps_allowance_exceeded rises");
    (0..50).for_each(|_| lose(&mut bench, Allowance::Packets, 1.0));
    assert_eq!(bench.orders, [5], "it has not come yet");
    bench.come();
    (0..20).for_each(|_| lose(&mut bench, Allowance::Packets, 1.0));
    assert_eq!(bench.orders, [5, 6]);
}

#[test]
fn a_small_loss_that_lasts_for_hours_or_comes_again_and_again_adds_two_nodes_and_no_more() {
    // All the time, every minute, and with pauses after which what it was given has just gone or is about to.
    for every in [1, 60, 310, 450, 620, 900] {
        let mut bench = Bench::new(policy(), 4);
        bench.seconds(70, 2.3);
        let mut held_back = [0.0; 5];
        for second in 0..5400 {
            let many = if second % every == 0 { 1.0 } else { 0.0 };
            lose(&mut bench, &mut held_back, Allowance::BandwidthIn, many, 2.3);
            if second % 60 == 59 {
                bench.come();
            }
            assert!(bench.ordered() <= 6, "every {every} s: {:?}", bench.orders);
        }
        assert!(bench.orders.contains(&5), "every {every} s: {:?}", bench.orders);
        if every <= 60 {
            assert_eq!(bench.orders, [5, 6]);
        }
        bench.minutes(30, 2.2);
        assert_eq!(bench.ordered(), 4, "every {every} s: it has stopped: {:?}", bench.orders);
    }
}

#[test]
fn loss_takes_what_the_load_takes_and_two_nodes() {
    let mut bench = Bench::new(policy(), 8);
    bench.seconds(70, 2.3);
    let mut held_back = [0.0; 5];
    (0..600).for_each(|_| lose(&mut bench, &mut held_back, Allowance::Packets, 1.0, 2.3));
    assert_eq!(bench.ordered(), 6, "fewer, though packets are lost: {:?}", bench.decisions);
}

/// A second in which one gateway is used so much, and the others hardly.
fn heat(bench: &mut Bench, seconds: u64, hot: f64) {
    (0..seconds).for_each(|_| bench.second_of_each(|number| if number == 1 { hot } else { 0.05 }, |_| true));
}

#[test]
fn one_hot_gateway_asks_for_one_node_once_it_lasts_and_for_another_when_that_one_is_at_work() {
    let mut bench = Bench::new(policy(), 5);
    heat(&mut bench, 100, 0.3);
    heat(&mut bench, 30, 0.95);
    assert_eq!(bench.orders, [] as [u32; 0], "half a minute is no while");
    heat(&mut bench, 100, 0.95);
    assert_eq!(bench.orders, [6]);
    assert!(matches!(&bench.decisions[0].reason, Reason::Hot { node: hot, utilisation } if *hot == node(1) && *utilisation > 0.8));
    assert!(bench.decisions[0].to_string().contains("% of gw-1 is used for a while"), "{}", bench.decisions[0]);
    heat(&mut bench, 600, 0.95);
    assert_eq!(bench.orders, [6], "it has not come yet");
    bench.come();
    heat(&mut bench, 50, 0.95);
    assert_eq!(bench.orders, [6], "what the new one takes over is to be seen first");
    heat(&mut bench, 30, 0.95);
    assert_eq!(bench.orders, [6, 7]);
}

#[test]
fn a_shard_that_no_node_can_share_adds_two_nodes_and_no_more_however_often_it_is_hot() {
    for cold in [0, 320, 700] {
        let mut bench = Bench::new(policy(), 5);
        for _ in 0..4 {
            for _ in 0..8 {
                heat(&mut bench, 120, 0.95);
                bench.come();
            }
            assert!(bench.ordered() <= 7, "cold for {cold} s: {:?}", bench.orders);
            heat(&mut bench, cold, 0.2);
            bench.come();
        }
        assert!(bench.orders.contains(&7), "cold for {cold} s: {:?}", bench.orders);
    }
}

#[test]
fn nobody_is_taken_away_while_the_busiest_would_be_used_beyond_the_target() {
    let mut bench = Bench::new(policy(), 5);
    heat(&mut bench, 1200, 0.5);
    // 0.5 at 5 nodes is 0.625 at 4. The sum of all is 0.7: two would do.
    assert_eq!((bench.orders.len(), bench.held()), (0, Some("uneven")));
    assert_eq!(bench.scaler.held().unwrap().to_string(), "2 would do if all were used alike, but gw-1 would be used beyond the target");
    heat(&mut bench, 900, 0.35);
    assert_eq!(bench.ordered(), 3, "0.35 at 5 is 0.58 at 3: {:?}", bench.orders);
}

#[test]
fn a_load_that_all_carry_alike_is_not_hot() {
    let mut bench = Bench::new(Policy { max: 5, ..policy() }, 5);
    bench.seconds(600, 4.9);
    assert_eq!((bench.orders.len(), bench.held()), (0, Some("at_max")));
    bench.scaler.handle(bench.now, Input::Policy(policy())).unwrap();
    bench.seconds(1, 4.9);
    assert!(!matches!(bench.decisions[0].reason, Reason::Hot { .. }), "{:?}", bench.decisions);
}
