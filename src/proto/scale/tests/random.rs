use super::*;
use proptest::prelude::*;

/// A stretch of time: how long, how much load in nodes' worth, and what goes wrong.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    seconds: u64,
    load: f64,
    /// This gateway is not heard.
    silent: Option<usize>,
    /// This one says this.
    nonsense: Option<(usize, f64)>,
    refused: bool,
    come: bool,
    leap: u64,
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let number = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), Just(0.0), Just(1e300), 0.0..100.0f64];
    let wrong = (proptest::option::weighted(0.2, 0usize..20), proptest::option::weighted(0.2, (0usize..20, number)));
    let rest = (any::<bool>(), any::<bool>(), prop_oneof![8 => Just(0u64), 1 => 1u64..10_000]);
    (1u64..200, 0.0f64..16.0, wrong, rest).prop_map(|(seconds, load, (silent, nonsense), (refused, come, leap))| {
        let refused = refused && seconds.is_multiple_of(5);
        Stretch { seconds, load, silent, nonsense, refused, come, leap }
    })
}

fn live(bench: &mut Bench, stretch: Stretch) {
    bench.now += s(stretch.leap);
    if stretch.come {
        bench.come();
    }
    if stretch.refused {
        bench.scaler.handle(bench.now, Input::NotTaken(bench.serial)).unwrap();
    }
    for _ in 0..stretch.seconds {
        if let Some((number, value)) = stretch.nonsense {
            let bad = Sample { clock: value, bits: value, packets: value, softirq: Some(value), ..Sample::default() };
            let _ = bench.scaler.handle(bench.now, Input::Reading(node(number), bad));
        }
        bench.second(stretch.load, |number| stretch.silent != Some(number));
        if bench.orders.last().is_some() && stretch.seconds.is_multiple_of(3) {
            bench.come();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever comes: between min and max, within the steps, never an opposite change within its cooldown, every one with its reason.
    #[test]
    fn there_is_no_pair_within_the_cooldown_whatever_comes(stretches in proptest::collection::vec(stretch(), 1..14), nodes in 2usize..12) {
        let policy = policy();
        let mut bench = Bench::new(policy.clone(), nodes);
        for stretch in stretches {
            live(&mut bench, stretch);
        }
        for Decision { from, to, reason, .. } in &bench.decisions {
            prop_assert!((policy.min..=policy.max).contains(to) && from != to);
            let step = if to > from { policy.out_step } else { policy.in_step };
            prop_assert!(from.abs_diff(*to) <= step.of(*from), "{from} -> {to}");
            prop_assert!(!reason.to_string().is_empty());
        }
        for (pair, soon) in bench.decisions.windows(2).zip(bench.soon.iter().skip(1)) {
            let apart = pair[1].at - pair[0].at;
            let all_used = *soon >= 0.95 * f64::from(pair[1].from);
            let cooldown = match (pair[0].direction(), pair[1].direction(), &pair[1].reason) {
                (_, Direction::In, _) => policy.in_cooldown,
                // Back after a change to fewer: only if all that is left would be used.
                (Direction::In, Direction::Out, Reason::Demand { .. } | Reason::Rising { .. } | Reason::Hot { .. }) if !all_used => {
                    policy.in_cooldown
                }
                (_, Direction::Out, _) => policy.out_cooldown,
            };
            prop_assert!(apart >= cooldown, "{:?}", pair);
        }
        let ordered: Vec<u32> = bench.decisions.iter().map(|decision| decision.to).collect();
        let mut given = bench.orders.clone();
        given.dedup();
        prop_assert!(ordered.iter().all(|nodes| given.contains(nodes)), "every decision is ordered");
    }

    /// While anybody is silent, or nonsense is all that comes of it, there are never fewer.
    #[test]
    fn what_is_missing_takes_nobody_away(loads in proptest::collection::vec((1u64..300, 0.0f64..12.0), 1..12), silent in 0usize..6) {
        let mut bench = Bench::new(policy(), 6);
        for (seconds, load) in loads {
            for _ in 0..seconds {
                bench.second(load, |number| number != silent);
            }
            bench.come();
        }
        prop_assert!(bench.decisions.iter().all(|decision| decision.direction() == Direction::Out), "{:?}", bench.decisions);
    }

    /// The same inputs, each given once or many times, come to the same.
    #[test]
    fn levels_given_often_are_as_good_as_given_once(said in proptest::collection::vec((0u32..4, 2u32..25, 1u64..900), 1..20), times in 2usize..5) {
        let run = |times: usize| {
            let mut bench = Bench::new(policy(), 4);
            for (source, nodes, seconds) in &said {
                for _ in 0..times {
                    bench.say(&format!("source-{source}"), &[Wanted::Nodes(*nodes)], *seconds).unwrap();
                }
                bench.seconds(40, 1.5);
                bench.come();
            }
            bench.orders
        };
        prop_assert_eq!(run(1), run(times));
    }
}
