use super::*;

/// The daemon is started again after so long, as the clock on the wall goes by another time.
fn restart(bench: &mut Bench, gone: u64, wall: u64) -> Result<(), crate::model::Invalid> {
    let saved = serde_json::to_string(&bench.scaler.saved(bench.now, bench.wall())).unwrap();
    let shown = bench.wall() + s(wall);
    bench.now += s(gone);
    bench.scaler = Scaler::restore(bench.now, shown, policy(), serde_json::from_str(&saved).unwrap())?;
    Ok(())
}

#[test]
fn levels_outlive_a_restart_with_what_is_left_of_them_and_what_they_came_to() {
    let mut bench = Bench::new(policy(), 4);
    bench.say("alert", &[Wanted::Utilisation(0.9)], 600).unwrap();
    let load = Wanted::Load(Load { bits: Some(27), ..Load::default() });
    bench.say("functions", &[load, Wanted::Nodes(3)], 100).unwrap();
    bench.seconds(10, 1.0);
    assert_eq!(bench.orders, [6]);
    restart(&mut bench, 60, 60).unwrap();
    let left = |bench: &Bench| bench.scaler.status(bench.now).levels.iter().map(|level| (level.nodes, level.left)).collect::<Vec<_>>();
    assert_eq!(left(&bench), [(6, 530.0), (5, 30.0)]);
    bench.come_to(6);
    bench.seconds(30, 1.0);
    assert_eq!(left(&bench), [(6, 500.0)]);
    bench.say("alert", &[Wanted::Utilisation(0.9)], 600).unwrap();
    bench.seconds(1, 1.0);
    assert_eq!((bench.ordered(), left(&bench)), (6, vec![(6, 599.0)]), "said again, it is of the 4 nodes still");
}

#[test]
fn cooldowns_and_serials_go_on_and_the_window_begins_anew() {
    let mut bench = Bench::new(policy(), 6);
    bench.minutes(7, 2.0);
    assert_eq!(bench.orders, [4]);
    let (serial, changed) = (bench.serial, bench.decisions[0].at);
    restart(&mut bench, 5, 5).unwrap();
    bench.come_to(4);
    // Nearly all is used: that would be an order if the last had not been one for fewer just now.
    while bench.now - changed < s(298) {
        bench.seconds(1, 3.4);
    }
    assert_eq!((bench.orders.as_slice(), bench.held()), ([4].as_slice(), Some("cooldown")));
    bench.seconds(5, 3.4);
    assert_eq!(bench.orders, [4, 6]);
    assert!(bench.serial > serial);
    // Quiet for as long as it takes, but the daemon was started in between.
    bench.come();
    bench.seconds(290, 0.5);
    restart(&mut bench, 1, 1).unwrap();
    bench.come_to(6);
    bench.seconds(340, 0.5);
    assert_eq!((bench.orders.as_slice(), bench.held()), ([4, 6].as_slice(), Some("stabilising")));
    bench.seconds(60, 0.5);
    assert_eq!(bench.orders, [4, 6, 3]);
}

#[test]
fn an_order_of_just_now_stands_and_an_older_one_is_what_whoever_runs_the_nodes_says() {
    for (gone, ordered, orders) in [(5, 8, vec![8, 8]), (300, 4, vec![8])] {
        let mut bench = Bench::new(policy(), 4);
        bench.say("alert", &[Wanted::Nodes(8)], 30).unwrap();
        bench.seconds(10, 1.0);
        restart(&mut bench, gone, gone).unwrap();
        bench.fleet(4, 4);
        bench.seconds(1, 1.0);
        assert_eq!((bench.ordered(), &bench.orders), (ordered, &orders), "after {gone} s");
    }
    // One for fewer is not repeated hours later: nobody knows what it would be for.
    let mut bench = Bench::new(policy(), 8);
    bench.deaf = true;
    bench.seconds(380, 1.0);
    assert_eq!(bench.orders, [4]);
    restart(&mut bench, 7200, 7200).unwrap();
    bench.fleet(8, 8);
    bench.seconds(200, 4.5);
    assert_eq!((bench.orders.as_slice(), bench.ordered()), ([4].as_slice(), 8));
}

#[test]
fn what_nobody_else_orders_stands_however_long_ago_it_was_ordered() {
    for (before, listed, stands) in [(8, 4, 8), (4, 8, 8)] {
        let mut bench = Bench::new(policy(), 4);
        let mut saved = bench.scaler.saved(bench.now, bench.wall());
        saved.last_change = Some(SavedChange { ago: 7200, nodes: before, fewer: before < listed });
        bench.scaler = Scaler::restore(bench.now, bench.wall(), policy(), saved).unwrap();
        bench.scaler.order_alone();
        // As nobody is asked what is ordered, it is a guess: as many as there are in a list.
        bench.fleet(listed, listed as usize);
        bench.seconds(1, 1.0);
        assert_eq!(bench.ordered(), stands);
        assert_eq!(bench.orders, if stands == listed { vec![] } else { vec![stands] }, "and is said once more");
    }
}

#[test]
fn serials_go_on_after_a_process_that_could_write_nothing_down() {
    let mut bench = Bench::new(policy(), 4);
    let saved = bench.scaler.saved(bench.now, bench.wall());
    for nodes in [6, 7, 8] {
        bench.say("alert", &[Wanted::Nodes(nodes)], 600).unwrap();
        bench.seconds(20, 1.0);
    }
    assert_eq!(bench.orders, [6, 7, 8]);
    let before = bench.serial;
    for mut scaler in [Scaler::new(bench.now, policy()).unwrap(), Scaler::restore(bench.now, bench.wall(), policy(), saved).unwrap()] {
        bench.pass();
        let serving = (0..4).map(node).collect();
        scaler.handle(bench.now, Input::Fleet { ordered: 4, serving }).unwrap();
        let level = Level { source: "alert".parse().unwrap(), wanted: vec![Wanted::Nodes(6)], until: bench.now + s(60) };
        scaler.handle(bench.now, Input::Level(level)).unwrap();
        scaler.tick(bench.now, bench.wall());
        let serials: Vec<u64> = std::iter::from_fn(|| scaler.next_effect())
            .filter_map(|effect| match effect {
                Effect::Order(order) => Some(order.serial),
                Effect::Decided(_) | Effect::Held(_) => None,
            })
            .collect();
        assert!(matches!(serials[..], [serial] if serial > before), "{serials:?} after {before}");
    }
}

#[test]
fn nothing_is_ordered_before_it_is_known_what_there_is() {
    let mut bench = Bench::new(policy(), 4);
    bench.say("alert", &[Wanted::Nodes(8)], 600).unwrap();
    bench.seconds(1, 1.0);
    restart(&mut bench, 1, 1).unwrap();
    bench.tick();
    assert_eq!((bench.orders.as_slice(), bench.held()), ([8].as_slice(), Some("no_fleet")));
    let saved = bench.scaler.saved(bench.now, bench.wall());
    assert_eq!(saved.last_change, Some(SavedChange { ago: 1, nodes: 8, fewer: false }), "and kept through the next restart");
}

#[test]
fn a_clock_that_goes_back_ends_nothing_and_one_that_leaps_ahead_ends_levels() {
    let mut bench = Bench::new(policy(), 4);
    bench.say("alert", &[Wanted::Nodes(8)], 600).unwrap();
    bench.seconds(100, 1.0);
    let mut saved = bench.scaler.saved(bench.now, bench.wall());
    for (time, left) in [(saved.time + 1_000_000, Some(500.0)), (saved.time - 100, Some(400.0)), (0, None)] {
        saved.time = time;
        let scaler = Scaler::restore(bench.now, bench.wall(), policy(), saved.clone()).unwrap();
        assert_eq!(scaler.status(bench.now).levels.first().map(|level| level.left), left);
    }
    saved.time = u64::MAX;
    saved.levels[0].left = u64::MAX;
    saved.last_change = Some(SavedChange { ago: u64::MAX, nodes: 8, fewer: true });
    let scaler = Scaler::restore(bench.now, bench.wall(), policy(), saved).unwrap();
    assert_eq!(scaler.status(bench.now).levels[0].left, 31.0 * 86_400.0);
}

#[test]
fn what_can_never_have_been_is_refused() {
    let mut bench = Bench::new(policy(), 4);
    bench.say("alert", &[Wanted::Utilisation(0.9)], 600).unwrap();
    let good = bench.scaler.saved(bench.now, bench.wall());
    type Spoil = fn(&mut Saved);
    let spoil: [(&str, Spoil); 6] = [
        ("a serial of", |saved| saved.serial = u64::MAX),
        ("an order of 1001 nodes", |saved| saved.last_change = Some(SavedChange { ago: 0, nodes: 1001, fewer: false })),
        ("can never have been said", |saved| saved.levels[0].wanted = vec![Standing::Utilisation { said: -1.0, work: None }]),
        ("can never have been said", |saved| saved.levels[0].wanted = vec![Standing::Load { said: Load::default(), work: [f64::NAN; 3] }]),
        ("wants nothing", |saved| saved.levels[0].wanted = vec![]),
        ("more than 256 sources", |saved| {
            let level = saved.levels[0].clone();
            let many = (0..257).map(|number| SavedLevel { source: format!("{number}").parse().unwrap(), ..level.clone() });
            saved.levels = many.collect();
        }),
    ];
    for (says, spoil) in spoil {
        let mut saved = good.clone();
        spoil(&mut saved);
        let refused = Scaler::restore(bench.now, bench.wall(), policy(), saved).unwrap_err().to_string();
        assert!(refused.starts_with("what was kept of the time before the restart cannot be: "), "{refused}");
        assert!(refused.contains(says) && refused.ends_with("remove it to begin anew"), "{refused}");
    }
    assert!(
        serde_json::from_str::<Saved>(r#"{"time":1,"serial":2,"last_change":null,"levels":[{"source":"","left":1,"wanted":[]}]}"#).is_err()
    );
}
