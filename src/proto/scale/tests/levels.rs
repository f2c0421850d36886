use super::*;

fn say(bench: &mut Bench, source: &str, wanted: Wanted, seconds: u64) {
    bench.say(source, &[wanted], seconds).unwrap();
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
    let level = Level { source: "alert".parse().unwrap(), wanted: vec![Wanted::Utilisation(0.9)], until: now + s(60) };
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
    for used in [f64::NAN, f64::INFINITY, -0.1, 101.0] {
        let refused = bench.say("alert", &[Wanted::Utilisation(used)], 60).unwrap_err().to_string();
        assert_eq!(refused, format!("alert: a utilisation of {used}: use 0 to 100, where 1 is all that the nodes have"));
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
        bench.say(&format!("source-{number}"), &[Wanted::Nodes(2)], 600).unwrap();
    }
    assert!(bench.say("one-more", &[Wanted::Nodes(9)], 600).is_err());
    say(&mut bench, "source-7", Wanted::Nodes(5), 600);
    assert_eq!(bench.orders, [5]);
}

/// 10 bits, 100 packets and 1,000 connections are all that a node carries.
fn measured_in_all() -> Policy {
    Policy { capacity: Capacity { bits: Some(EACH), packets: Some(100.0), connections: Some(1000.0) }, ..policy() }
}

fn bits(bits: u64) -> Wanted {
    Wanted::Load(Load { bits: Some(bits), ..Load::default() })
}

#[test]
fn a_load_is_so_many_nodes_work_and_that_of_all_sources_adds_up() {
    let mut bench = Bench::new(measured_in_all(), 4);
    say(&mut bench, "functions", bits(30), 600);
    assert_eq!(bench.orders, [5], "30 of 10 at 60 %");
    say(&mut bench, "functions", bits(30), 600);
    bench.come();
    bench.seconds(20, 1.0);
    say(&mut bench, "batch", bits(18), 600);
    assert_eq!(bench.orders, [5, 8], "30 and 18");
    assert_eq!(bench.decisions[1].to_string(), "5 -> 8 nodes: loads announced by 2 sources (most of all: bits)");
    let status = bench.scaler.status(bench.now);
    assert_eq!(status.levels.iter().map(|level| level.nodes).collect::<Vec<_>>(), [3, 5]);
}

#[test]
fn a_gateway_passes_each_packet_twice_and_two_hold_each_connection() {
    for load in [
        Load { packets: Some(150), ..Load::default() },
        Load { connections: Some(1500), ..Load::default() },
        Load { bits: Some(1), packets: Some(150), connections: Some(1500) },
    ] {
        let mut bench = Bench::new(measured_in_all(), 4);
        say(&mut bench, "functions", Wanted::Load(load), 600);
        assert_eq!(bench.orders, [5], "{load:?}");
    }
}

#[test]
fn a_load_in_what_is_not_configured_is_refused_with_what_to_configure() {
    let mut bench = Bench::new(policy(), 4);
    for (load, name) in [
        (Load { packets: Some(150), ..Load::default() }, "packets"),
        (Load { bits: Some(30), connections: Some(0), ..Load::default() }, "connections"),
    ] {
        let refused = bench.say("functions", &[Wanted::Load(load)], 600).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("functions: a load in {name}, but")), "{refused}");
        assert!(refused.contains(&format!("configure that (capacity: {name})")), "{refused}");
    }
    assert!(bench.say("functions", &[Wanted::Load(Load::default())], 600).unwrap_err().to_string().contains("without a figure"));
    assert_eq!(bench.scaler.counters.refused_levels, 3);
    bench.seconds(1, 1.0);
    assert_eq!(bench.orders, [] as [u32; 0]);
}

#[test]
fn a_load_goes_by_what_a_node_carries_now_and_outlasts_that_nobody_knows_it_any_more() {
    let mut bench = Bench::new(policy(), 4);
    say(&mut bench, "functions", bits(30), 600);
    let carries = |bits: Option<f64>| Input::Policy(Policy { capacity: Capacity { bits, ..Capacity::default() }, ..policy() });
    bench.scaler.handle(bench.now, carries(Some(5.0))).unwrap();
    bench.seconds(30, 1.0);
    assert_eq!(bench.orders, [5, 10]);
    bench.scaler.handle(bench.now, carries(None)).unwrap();
    bench.seconds(30, 1.0);
    assert_eq!(bench.scaler.status(bench.now).levels[0].nodes, 10);
}

#[test]
fn a_source_may_say_several_things_at_once_and_says_them_all_anew() {
    let mut bench = Bench::new(policy(), 4);
    bench.say("functions", &[Wanted::Nodes(5), Wanted::Utilisation(0.9), bits(10)], 600).unwrap();
    bench.seconds(1, 1.0);
    assert_eq!(bench.orders, [6], "90 % of 4");
    bench.come();
    bench.seconds(20, 1.0);
    bench.say("functions", &[Wanted::Utilisation(0.9), Wanted::Nodes(7)], 600).unwrap();
    bench.seconds(1, 1.0);
    assert_eq!(bench.orders, [6, 7], "the utilisation is still of 4");
    bench.say("functions", &[bits(10)], 600).unwrap();
    assert_eq!(bench.scaler.status(bench.now).levels[0].nodes, 2);
    for (wanted, says) in [(vec![], "wants nothing"), (vec![bits(1), bits(2)], "says one thing twice")] {
        let refused = bench.say("functions", &wanted, 600).unwrap_err().to_string();
        assert!(refused.starts_with("functions: a level that ") && refused.contains(says), "{refused}");
    }
}
