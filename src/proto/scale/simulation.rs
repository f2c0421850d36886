//! Whole days at steps of a second: our autoscaler, AWS target tracking as AWS describes it, and an oracle, with the same loads, the same target and nodes
//! that take equally long to come.
//!
//! What a node cannot carry is lost and not measured, by anybody: bandwidth beyond an allowance never reaches the machine, a processor is no busier than wholly. Over
//! capacity are the seconds in which more is asked for than the nodes that carry traffic can carry. A node costs from its order to its end.
//!
//! On the noisy day, where bursts are over before any node can come, both are over capacity about equally long with most seeds: what is asserted of it holds for
//! the seed that is fixed, and its price for all.
//!
//! `PORTWAY_SIMULATION_SEED=N` has other noise, `PORTWAY_SIMULATION_LOG=1` prints every decision.
//! `cargo nextest run --lib -E 'test(scale::simulation)' --no-capture` prints the table.

mod aws;
mod day;
mod group;
mod oracle;
mod ours;

use super::Policy;
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

struct Row {
    day: Day,
    ours: Outcome,
    aws: [Outcome; 2],
    oracle: Outcome,
}

fn run(day: Day) -> Row {
    let load = day.load();
    Row {
        day,
        ours: ours::run(&load, policy()),
        aws: [aws::ScaleIn::Proportional, aws::ScaleIn::OneByOne].map(|scale_in| aws::run(&load, &policy(), scale_in)),
        oracle: oracle::run(&load, policy().min),
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!("{:10} {:24} {:>13} {:>10} {:>7} {:>13}\n", "day", "", "seconds over", "node-hours", "changes", "nearest pair");
    for Row { day, ours, aws, oracle } in rows {
        let arms = [("ours", ours), ("AWS target tracking", &aws[0]), ("AWS, in one by one", &aws[1]), ("oracle", oracle)];
        for (name, Outcome { over, node_seconds, changes, nearest }) in arms {
            let hours = *node_seconds as f64 / 3600.0;
            let nearest = nearest.map_or("-".into(), |seconds| format!("{seconds} s"));
            let _ = writeln!(text, "{:10} {name:24} {over:13} {hours:10.1} {changes:7} {nearest:>13}", format!("{day:?}"));
        }
    }
    text
}

#[test]
fn on_every_day_less_time_over_capacity_than_aws_at_no_higher_price_and_without_oscillation() {
    let rows: Vec<Row> = thread::scope(|scope| {
        let days = Day::ALL.map(|day| scope.spawn(move || run(day)));
        days.map(|day| day.join().unwrap()).into_iter().collect()
    });
    let table = table(&rows);
    println!("{table}");
    for Row { day, ours, aws, oracle } in &rows {
        for (aws, percent) in aws.iter().zip(day.may_cost()) {
            assert!(ours.over < aws.over || aws.over == 0 && ours.over == 0, "{day:?}: {} s over capacity\n{table}", ours.over);
            assert!(ours.node_seconds * 100 <= aws.node_seconds * percent, "{day:?}: it costs more\n{table}");
        }
        assert!(oracle.over == 0 && oracle.node_seconds <= ours.node_seconds, "{day:?}: the oracle is none\n{table}");
        let cooldown = policy().in_cooldown.as_secs() as usize;
        assert!(ours.nearest.is_none_or(|apart| apart >= cooldown), "{day:?}: it oscillates\n{table}");
    }
}
