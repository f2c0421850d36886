//! Target tracking of an Auto Scaling group, by what AWS publishes (Amazon EC2 Auto Scaling User Guide, "Target tracking scaling policies", "Set the default instance
//! warmup"; API reference, PutScalingPolicy), with every default:
//! - metrics of one minute; the alarm for more is on after 3 minutes in a row above the target, that for fewer after 15 below 90 % of it;
//! - a minute without data is no evidence for either (INSUFFICIENT_DATA);
//! - more: in proportion to the metric, rounded up. From how many nodes is not published in so many words, so there are three readings: from those that are warm (those to
//!   come or to warm up "count as part of the current capacity", so an alarm that goes on orders no more than once), from those that carry traffic, and from those
//!   that are ordered, which while nodes are still to come is more each minute;
//! - a node is warm 300 s after it carries traffic (the default cooldown stands in where no warm-up is configured); until then its metrics do not
//!   count, and nobody is taken away;
//! - fewer: "more gradually". How is not published, so there are two: in proportion, as cheap as can be, and one node at a time, as safe as can be. Both with the
//!   default cooldown of 300 s between two of them.

use super::day::Load;
use super::group::{Group, Outcome};
use crate::proto::scale::Policy;
use std::collections::VecDeque;

const MORE_AFTER: usize = 3;
const FEWER_AFTER: usize = 15;
const WARM_UP: usize = 300;
const COOLDOWN: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleIn {
    Proportional,
    OneByOne,
}

/// The nodes that the metric is a mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    Warm,
    Serving,
    Ordered,
}

/// How what is published may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub base: Base,
    pub scale_in: ScaleIn,
}

impl Reading {
    pub fn all() -> impl Iterator<Item = Self> {
        let bases = [Base::Warm, Base::Serving, Base::Ordered].into_iter();
        bases.flat_map(|base| [ScaleIn::Proportional, ScaleIn::OneByOne].map(|scale_in| Self { base, scale_in }))
    }
}

pub fn run(load: &Load, policy: &Policy, Reading { base, scale_in }: Reading) -> Outcome {
    let mut group = Group::new(policy.nodes_for(load.asked[0]).max(policy.min));
    let (mut minute, mut minutes): (Vec<f64>, VecDeque<Option<f64>>) = (vec![], VecDeque::new());
    let mut last_in = None;
    for (second, asked) in load.asked.iter().enumerate() {
        let used = group.carry(second, *asked);
        if load.heard[second] {
            minute.push(used);
        }
        if (second + 1) % 60 != 0 {
            continue;
        }
        minutes.push_front((!minute.is_empty()).then(|| minute.iter().sum::<f64>() / minute.len() as f64));
        minutes.truncate(FEWER_AFTER);
        minute.clear();
        let all = |count: usize, breach: &dyn Fn(f64) -> bool| {
            minutes.len() >= count && minutes.iter().take(count).all(|mean| mean.is_some_and(breach))
        };
        let warm = group.older_than(second, WARM_UP);
        let Some(mean) = minutes[0] else { continue };
        let nodes = match base {
            Base::Warm => warm,
            Base::Serving => group.serving(second).len() as u32,
            Base::Ordered => group.ordered(),
        };
        let proportional = policy.nodes_for(f64::from(nodes) * mean).clamp(policy.min, policy.max);
        if all(MORE_AFTER, &|mean| mean > policy.target) {
            group.order(second, proportional.max(group.ordered()));
        } else if all(FEWER_AFTER, &|mean| mean < 0.9 * policy.target)
            && warm == group.ordered()
            && last_in.is_none_or(|before| second - before >= COOLDOWN)
            && proportional < group.ordered()
        {
            let nodes = match scale_in {
                ScaleIn::Proportional => proportional,
                ScaleIn::OneByOne => group.ordered() - 1,
            };
            group.order(second, nodes);
            last_in = Some(second);
        }
    }
    group.outcome
}
