use super::*;

fn level(bench: &Bench, source: &str, wanted: Wanted, seconds: u64) -> Input {
    Input::Level(Level { source: source.parse().unwrap(), wanted, until: bench.now + s(seconds) })
}

fn say(bench: &mut Bench, source: &str, wanted: Wanted, seconds: u64) {
    let input = level(bench, source, wanted, seconds);
    bench.scaler.handle(bench.now, input).unwrap();
    bench.seconds(1, 1.0);
}

#[test]
fn what_is_said_again_changes_nothing_and_the_highest_counts() {
    let mut bench = Bench::new(policy(), 4);
    for _ in 0..50 {
        say(&mut bench, "alert", Wanted::Nodes(6), 600);
    }
    say(&mut bench, "queue", Wanted::Nodes(5), 600);
    assert_eq!(bench.orders, [6]);
    assert_eq!(bench.decisions[0].to_string(), "4 -> 6 nodes: wanted by alert");
    let status = bench.scaler.status(bench.now);
    assert_eq!(status.levels.iter().map(|level| level.nodes).collect::<Vec<_>>(), [6, 5]);
}

#[test]
fn a_utilisation_is_of_the_nodes_of_its_moment() {
    let mut bench = Bench::new(policy(), 4);
    say(&mut bench, "alert", Wanted::Utilisation(0.9), 600);
    assert_eq!(bench.orders, [6]);
    bench.come();
    for _ in 0..60 {
        say(&mut bench, "alert", Wanted::Utilisation(0.9), 600);
    }
    assert_eq!(bench.orders, [6], "the same, said again when they have come");
    say(&mut bench, "alert", Wanted::Utilisation(0.91), 600);
    assert_eq!(bench.orders, [6, 10], "another one is of six");
}

#[test]
fn one_that_comes_before_the_nodes_are_known_is_of_those_that_are() {
    let now = Instant::now();
    let mut scaler = Scaler::new(now, policy()).unwrap();
    let level = Level { source: "alert".parse().unwrap(), wanted: Wanted::Utilisation(0.9), until: now + s(60) };
    scaler.handle(now, Input::Level(level)).unwrap();
    scaler.handle(now, Input::Fleet { ordered: 4, serving: (0..4).map(node).collect() }).unwrap();
    scaler.tick(now, UNIX_EPOCH);
    assert_eq!(scaler.ordered(), Some(6));
}

#[test]
fn it_ends_by_itself_or_when_it_is_taken_back() {
    let mut bench = Bench::new(policy(), 4);
    say(&mut bench, "alert", Wanted::Nodes(6), 600);
    bench.come();
    say(&mut bench, "alert", Wanted::Nodes(6), 30);
    say(&mut bench, "other", Wanted::Nodes(5), 6000);
    bench.scaler.handle(bench.now, Input::LevelEnds("other".parse().unwrap())).unwrap();
    assert_eq!(bench.scaler.status(bench.now).levels.len(), 1);
    bench.seconds(30, 1.0);
    assert_eq!(bench.scaler.status(bench.now).levels, []);
    bench.seconds(700, 1.0);
    assert_eq!(bench.orders, [6, 3, 2]);
    say(&mut bench, "late", Wanted::Nodes(9), 0);
    assert_eq!(bench.ordered(), 2, "it had ended when it came");
}

#[test]
fn nonsense_is_refused_and_no_more_is_ordered_than_max() {
    let mut bench = Bench::new(policy(), 4);
    for used in [f64::NAN, f64::INFINITY, -0.1, 11.0] {
        let input = level(&bench, "alert", Wanted::Utilisation(used), 60);
        assert!(bench.scaler.handle(bench.now, input).unwrap_err().to_string().contains("by alert: use 0 to 10"));
    }
    assert_eq!(bench.scaler.counters.refused_levels, 4);
    assert!("".parse::<Source>().is_err() && "a\nb".parse::<Source>().is_err());
    say(&mut bench, "alert", Wanted::Nodes(u32::MAX), 600);
    bench.seconds(60, 1.0);
    assert_eq!(bench.orders, [8, 16, 20]);
    assert_eq!(bench.held(), Some("at_max"));
}

#[test]
fn a_source_too_many_is_refused_and_those_that_are_known_may_speak() {
    let mut bench = Bench::new(policy(), 4);
    for number in 0..256 {
        let input = level(&bench, &format!("source-{number}"), Wanted::Nodes(2), 600);
        bench.scaler.handle(bench.now, input).unwrap();
    }
    let input = level(&bench, "one-more", Wanted::Nodes(9), 600);
    assert!(bench.scaler.handle(bench.now, input).is_err());
    say(&mut bench, "source-7", Wanted::Nodes(5), 600);
    assert_eq!(bench.orders, [5]);
}
