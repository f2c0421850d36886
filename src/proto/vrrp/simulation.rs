//! Two to five nodes on a simulated network: loss, delay, partitions, clocks that run at different speeds, crashes, processes that stand still,
//! drains, faults, changing priorities, flows that are in sync or not.
//!
//! Each seed is one schedule: disorder for forty intervals, then everything is mended, then quiet. Asserted:
//! - the effects of each node are in order (addresses are released only if they were taken, and so on);
//! - two nodes that can hear each other, no packet between them being lost, are not both Active for longer than an interval and a packet's
//!   way;
//! - six intervals after everything was mended there is always an Active, and at the end exactly one; if preemption is on
//!   it is one of the highest priority.
//!
//! `PORTWAY_SIMULATION_SEED=N` runs one schedule and prints it, `PORTWAY_SIMULATION_RUNS=N` that many.

mod network;
mod node;
mod schedule;

use schedule::Schedule;
use std::collections::BTreeSet;
use std::env;

const RUNS: u64 = 10_000;

/// The reasons for which states must have changed in the course of the runs: a transition that no schedule reaches is not tested by any.
const WHYS: [&str; 15] = [
    "active_released",
    "active_silent",
    "drain",
    "fault",
    "handed_over",
    "no_successor",
    "outranked",
    "overtaken",
    "owner",
    "preempted",
    "shutdown",
    "started",
    "successor_advertises",
    "successor_silent",
    "undrain",
];

#[test]
fn there_is_one_active_whatever_happens() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|e| panic!("{name}={text}: {e}")));
    if let Some(seed) = number("PORTWAY_SIMULATION_SEED") {
        let schedule = Schedule::new(seed);
        println!("seed {seed}: {schedule:#?}");
        let outcome = network::run(&schedule, true);
        println!("{}", outcome.log.join("\n"));
        return outcome.result.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
    let runs = number("PORTWAY_SIMULATION_RUNS").unwrap_or(RUNS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut failed, mut whys) = (vec![], BTreeSet::new());
    std::thread::scope(|scope| {
        let part = |first: u64| {
            scope.spawn(move || {
                (first..runs)
                    .step_by(threads)
                    .map(|seed| (seed, network::run(&Schedule::new(seed), false)))
                    .fold(Default::default(), gather)
            })
        };
        let parts: Vec<_> = (0..threads as u64).map(part).collect();
        for part in parts {
            let (faults, reasons): Gathered = part.join().expect("a thread that ends");
            failed.extend(faults);
            whys.extend(reasons);
        }
    });
    assert!(failed.is_empty(), "{}\nsee one with PORTWAY_SIMULATION_SEED=N and --no-capture", failed.join("\n"));
    assert!(runs < RUNS || whys.iter().copied().eq(WHYS), "reached: {whys:?}");
}

type Gathered = (Vec<String>, BTreeSet<&'static str>);

fn gather((mut failed, mut whys): Gathered, (seed, outcome): (u64, network::Outcome)) -> Gathered {
    whys.extend(outcome.whys);
    if let Err(fault) = outcome.result
        && failed.len() < 5
    {
        failed.push(format!("seed {seed}: {fault}"));
    }
    (failed, whys)
}

#[test]
fn a_planned_handover_leaves_no_moment_without_an_answer() {
    let mut handovers = 0;
    for seed in 0..2000 {
        let outcome = network::run(&Schedule::planned(seed), false);
        assert_eq!(outcome.result, Ok(()), "seed {seed}");
        handovers += usize::from(outcome.whys.contains("handed_over"));
    }
    assert!(handovers > 1000, "{handovers} of 2000 runs had one");
}

#[test]
fn a_schedule_is_the_same_every_time() {
    let twice = [(); 2].map(|()| network::run(&Schedule::new(4711), true).log);
    assert!(!twice[0].is_empty());
    assert_eq!(twice[0], twice[1]);
}

/// Two machines that do not agree on who goes first must be noticed: otherwise the simulation shows nothing.
#[test]
fn a_broken_network_is_noticed() {
    let mut noticed = 0;
    for seed in 0..20 {
        let mut schedule = Schedule::new(seed);
        schedule.deaf = true;
        noticed += usize::from(network::run(&schedule, false).result.is_err());
    }
    assert_eq!(noticed, 20);
}
