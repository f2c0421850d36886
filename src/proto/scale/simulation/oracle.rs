//! Knows the day: just so many nodes as carry what is asked for in each second, ordered as long before as they take to come. Nothing that is never over capacity
//! costs less.

use super::START_UP;
use super::day::Load;
use super::group::Outcome;
use crate::proto::scale::peak::Peak;
use std::time::{Duration, Instant};

pub fn run(load: &Load, min: u32) -> Outcome {
    let start = Instant::now();
    let at = |second: usize| start + Duration::from_secs(second as u64);
    let needed = |second: usize| (load.asked[second].ceil() as u32).max(min);
    let window = Duration::from_secs(START_UP as u64);
    let (mut outcome, mut ahead, mut before) = (Outcome::default(), Peak::default(), None);
    (0..START_UP).for_each(|second| ahead.push(at(second), needed(second), window));
    for second in 0..load.asked.len() {
        let last = (second + START_UP).min(load.asked.len() - 1);
        ahead.push(at(second + START_UP), needed(last), window);
        let nodes = ahead.highest().unwrap_or(min);
        outcome.over += usize::from(load.asked[second] > f64::from(nodes));
        outcome.node_seconds += nodes as usize;
        outcome.changes += usize::from(before.is_some_and(|before| before != nodes));
        before = Some(nodes);
    }
    outcome
}
