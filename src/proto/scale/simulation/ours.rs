//! The machine, fed as a shell feeds it: readings every so many seconds, what the cloud says every 15.

use super::day::Load;
use super::group::{Group, Outcome};
use crate::model::NodeName;
use crate::proto::scale::{Allowance, Capacity, Effect, Input, Policy, Sample, Scaler};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

const EACH_BITS: f64 = 1e10;
const FLEET: usize = 15;

pub fn run(load: &Load, policy: Policy, every: usize) -> Outcome {
    let start = Instant::now();
    let mut group = Group::new(policy.nodes_for(load.asked[0]).max(policy.min));
    let capacity = Capacity { bits: Some(EACH_BITS), ..Capacity::default() };
    let mut scaler = Scaler::new(start, Policy { capacity, ..policy }).unwrap();
    let mut names: Vec<NodeName> = vec![];
    let mut counted: BTreeMap<u32, [f64; 2]> = BTreeMap::new();
    for (second, asked) in load.asked.iter().enumerate() {
        let since = Duration::from_secs(second as u64);
        let now = start + since;
        let used = group.carry(second, *asked);
        let serving: Vec<u32> = group.serving(second).iter().map(|(number, _)| *number).collect();
        let lost = (asked / serving.len() as f64 - used).max(0.0);
        while names.len() < serving.last().map_or(0, |last| *last as usize + 1) {
            names.push(name(names.len()));
        }
        if second % FLEET == 0 {
            let serving = serving.iter().map(|number| names[*number as usize].clone()).collect();
            scaler.handle(now, Input::Fleet { ordered: group.ordered(), serving }).unwrap();
        }
        for number in &serving {
            let [bits, held_back] = counted.entry(*number).or_default();
            *bits += used * EACH_BITS;
            *held_back += (lost * 1e6).ceil();
            if load.heard[second] && second % every == 0 {
                let mut sample = Sample { clock: second as f64, bits: *bits, ..Sample::default() };
                sample.exceeded[Allowance::BandwidthIn as usize] = Some(*held_back);
                scaler.handle(now, Input::Reading(names[*number as usize].clone(), sample)).unwrap();
            }
        }
        scaler.tick(now, UNIX_EPOCH + since);
        while let Some(effect) = scaler.next_effect() {
            match effect {
                Effect::Order(order) => {
                    group.order(second, order.nodes);
                    scaler.handle(now, Input::Taken(order.serial)).unwrap();
                }
                Effect::Decided(decision) if std::env::var_os("PORTWAY_SIMULATION_LOG").is_some() => {
                    println!("{:?} {second} {decision}", load.day);
                }
                Effect::Decided(_) | Effect::Held(_) => {}
            }
        }
    }
    group.outcome
}

fn name(number: usize) -> NodeName {
    format!("gw-{number}").parse().unwrap()
}
