use super::*;

fn answer(bench: &mut Bench, answer: Input) {
    bench.scaler.handle(bench.now, answer).unwrap();
}

#[test]
fn an_order_that_was_not_taken_is_kept_and_repeated() {
    let mut bench = Bench::new(policy(), 4);
    bench.deaf = true;
    bench.say("alert", &[Wanted::Nodes(8)], 30).unwrap();
    bench.seconds(1, 2.6);
    let orders = bench.orders.clone();
    let serial = bench.serial;
    answer(&mut bench, Input::NotTaken(serial));
    bench.seconds(1, 2.6);
    assert_eq!(bench.orders, orders);
    bench.seconds(2, 2.6);
    assert_eq!(bench.orders.last(), orders.last());
    assert_eq!(bench.orders.len(), orders.len() + 1, "again after two seconds");
    for _ in 0..20 {
        let serial = bench.serial;
        answer(&mut bench, Input::NotTaken(serial));
        // Five are enough: fewer than are ordered, more than there are.
        bench.seconds(61, 2.6);
    }
    let (last, times) = (bench.ordered(), bench.orders.len());
    assert!(bench.orders[orders.len()..].iter().all(|order| *order == last), "no fewer, though fewer are needed: {:?}", bench.orders);
    assert!(times > 15, "{:?}", bench.orders);
    assert_eq!((bench.held(), bench.scaler.counters.refused_orders), (Some("refused"), 21));
    let serial = bench.serial;
    answer(&mut bench, Input::Taken(serial));
    bench.deaf = false;
    bench.come();
    bench.seconds(200, 0.1);
    assert!(bench.ordered() < last);
}

#[test]
fn an_order_that_is_refused_and_needed_no_more_is_taken_back() {
    let mut bench = Bench::new(policy(), 4);
    bench.deaf = true;
    bench.say("alert", &[Wanted::Nodes(8)], 30).unwrap();
    bench.seconds(1, 1.0);
    assert_eq!(bench.orders, [8]);
    for _ in 0..10 {
        let serial = bench.serial;
        answer(&mut bench, Input::NotTaken(serial));
        bench.seconds(61, 1.0);
    }
    assert!(bench.orders.iter().all(|nodes| [8, 4].contains(nodes)), "nobody is taken away: {:?}", bench.orders);
    assert_eq!((bench.ordered(), bench.decisions.last().unwrap().to), (4, 4), "{:?}", bench.decisions);
    bench.deaf = false;
    bench.come();
    bench.seconds(400, 1.0);
    assert_eq!(bench.ordered(), 2, "and then it goes on as ever");
}

#[test]
fn an_answer_to_an_order_that_is_not_the_latest_changes_nothing() {
    let mut bench = Bench::new(policy(), 4);
    bench.deaf = true;
    bench.say("alert", &[Wanted::Nodes(6)], 3600).unwrap();
    bench.seconds(1, 1.0);
    let first = bench.serial;
    bench.say("alert", &[Wanted::Nodes(8)], 3600).unwrap();
    bench.seconds(20, 1.0);
    assert_eq!(bench.orders, [6, 8]);
    assert!(bench.serial > first);
    // That the first was not taken, is told late: the second is not repeated for it.
    answer(&mut bench, Input::NotTaken(first));
    bench.seconds(10, 1.0);
    assert_eq!((bench.orders.len(), bench.scaler.counters.refused_orders, bench.scaler.counters.late_answers), (2, 0, 1));
    // That the first was taken does not say that the second was.
    let second = bench.serial;
    answer(&mut bench, Input::NotTaken(second));
    answer(&mut bench, Input::Taken(first));
    bench.seconds(1, 1.0);
    assert_eq!(bench.held(), Some("refused"));
    bench.seconds(3, 1.0);
    assert_eq!(bench.orders, [6, 8, 8]);
    // And what is answered is answered.
    let third = bench.serial;
    answer(&mut bench, Input::Taken(third));
    answer(&mut bench, Input::NotTaken(third));
    answer(&mut bench, Input::NotTaken(third + 1));
    bench.seconds(1, 1.0);
    assert_eq!((bench.held(), bench.scaler.counters.late_answers), (Some("behind"), 4));
}

#[test]
fn an_order_that_somebody_has_overruled_is_answered_in_vain() {
    let mut bench = Bench::new(policy(), 4);
    bench.say("alert", &[Wanted::Nodes(6)], 30).unwrap();
    bench.seconds(70, 1.0);
    let serial = bench.serial;
    bench.fleet(9, 6);
    assert_eq!(bench.ordered(), 9);
    answer(&mut bench, Input::NotTaken(serial));
    bench.seconds(5, 1.0);
    assert_eq!((bench.orders.as_slice(), bench.held()), ([6].as_slice(), Some("behind")));
}
