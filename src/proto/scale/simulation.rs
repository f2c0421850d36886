//! Whole days at steps of a second: our autoscaler, AWS target tracking as AWS describes it, and an oracle, with the same loads, the same target and nodes
//! that take equally long to come.
//!
//! What a node cannot carry is lost and not measured, by anybody: bandwidth beyond an allowance never reaches the machine, a processor is no busier than wholly. Over
//! capacity are the seconds in which more is asked for than the nodes that carry traffic can carry. A node costs from its order to its end.
//!
//! All of it is held against every reading of what AWS publishes, with a reading of each gateway every second and every five.
//!
//! `PORTWAY_SIMULATION_LOG=1` prints every decision.
//! `cargo nextest run --lib -E 'test(scale::simulation)' --no-capture` prints the table.

mod aws;
mod day;
mod group;
mod oracle;
mod ours;

use super::Policy;
use aws::Reading;
use day::Day;
use group::Outcome;
use std::fmt::Write;
use std::thread;

const DAY: usize = 24 * 3600;
/// Seconds from an order to a node that carries traffic.
const START_UP: usize = 90;
const MAX: u32 = 60;

fn policy() -> Policy {
    Policy { max: MAX, ..Policy::default() }
}

/// Seconds between two readings of a gateway.
const OFTEN: usize = 1;
const SELDOM: usize = 5;

struct Row {
    day: Day,
    /// With readings every so many seconds.
    ours: Vec<(usize, Outcome)>,
    aws: Vec<(Reading, Outcome)>,
    oracle: Outcome,
}

impl Row {
    fn add(&mut self, other: Self) {
        self.ours.iter_mut().zip(other.ours).for_each(|((_, sum), (_, more))| sum.add(more));
        self.aws.iter_mut().zip(other.aws).for_each(|((_, sum), (_, more))| sum.add(more));
        self.oracle.add(other.oracle);
    }
}

fn run(day: Day, seed: u64, intervals: &[usize]) -> Row {
    let load = day.load(seed);
    Row {
        day,
        ours: intervals.iter().map(|every| (*every, ours::run(&load, policy(), *every))).collect(),
        aws: Reading::all().map(|reading| (reading, aws::run(&load, &policy(), reading))).collect(),
        oracle: oracle::run(&load, policy().min),
    }
}

/// All days with this noise.
fn days(seed: u64, intervals: &[usize]) -> Vec<Row> {
    thread::scope(|scope| {
        let days = Day::ALL.map(|day| scope.spawn(move || run(day, seed, intervals)));
        days.map(|day| day.join().unwrap()).into_iter().collect()
    })
}

fn table(rows: &[Row]) -> String {
    let mut text = format!("{:10} {:30} {:>13} {:>10} {:>7} {:>13}\n", "day", "", "seconds over", "node-hours", "changes", "nearest pair");
    for Row { day, ours, aws, oracle } in rows {
        let ours = ours.iter().map(|(every, outcome)| (format!("ours, readings every {every} s"), outcome));
        let aws = aws.iter().map(|(Reading { base, scale_in }, outcome)| (format!("AWS, {base:?}, {scale_in:?}"), outcome));
        for (name, outcome) in ours.chain(aws).chain([("oracle".into(), oracle)]) {
            let Outcome { over, node_seconds, changes, nearest } = outcome;
            let hours = *node_seconds as f64 / 3600.0;
            let nearest = nearest.map_or("-".into(), |seconds| format!("{seconds} s"));
            let _ = writeln!(text, "{:10} {name:30} {over:13} {hours:10.1} {changes:7} {nearest:>13}", format!("{day:?}"));
        }
    }
    text
}

fn hold(rows: &[Row]) {
    let table = table(rows);
    println!("{table}");
    let cooldown = policy().in_cooldown.as_secs() as usize;
    for Row { day, ours, aws, oracle } in rows {
        for (every, ours) in ours {
            for (reading, aws) in aws {
                let what = format!("{day:?}, readings every {every} s, beside {reading:?}");
                let less = ours.over < aws.over || aws.over == 0 && ours.over == 0;
                assert!(less, "{what}: {} s over capacity\n{table}", ours.over);
                assert!(ours.node_seconds * 100 <= aws.node_seconds * day.may_cost(*reading), "{what}: it costs more\n{table}");
            }
            assert!(oracle.over == 0 && oracle.node_seconds <= ours.node_seconds, "{day:?}: the oracle is none\n{table}");
            assert!(ours.nearest.is_none_or(|apart| apart >= cooldown), "{day:?}: it oscillates\n{table}");
        }
    }
}

#[test]
fn on_every_day_less_time_over_capacity_than_aws_at_no_higher_price_and_without_oscillation() {
    hold(&days(0, &[OFTEN, SELDOM]));
}

#[test]
fn and_with_other_noise() {
    let mut sums: Vec<Row> = days(1, &[SELDOM]);
    for seed in 2..=8 {
        for (sum, row) in sums.iter_mut().zip(days(seed, &[SELDOM])) {
            sum.add(row);
        }
    }
    hold(&sums);
}
