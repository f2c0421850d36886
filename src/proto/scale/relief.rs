//! Needs that nothing measures: all is used, or the cloud drops. More of what there is, and then wait for it to come.

use super::orders::Orders;
use super::policy::{Policy, Step};
use super::sample::Allowance;
use super::trend::Outlook;
use crate::model::NodeName;
use std::time::Instant;

/// A gateway from which the cloud held packets back.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    pub node: NodeName,
    pub allowance: Allowance,
    pub at: Instant,
}

/// From this utilisation on, what is carried is not what is asked for.
pub const SATURATED: f64 = 0.95;
/// What a loss asks for.
const FOR_LOSS: Step = Step { nodes: 1, percent: 10 };

/// What is asked for is a number of nodes that stands while its cause lasts. It grows only when all that were ordered have carried traffic for the
/// short cooldown: what they are good for has to be seen first.
#[derive(Debug, Clone, Default)]
pub struct Relief {
    loss: Option<Loss>,
    for_loss: Option<u32>,
    /// And since when.
    for_saturation: Option<(Instant, u32)>,
}

impl Relief {
    pub fn lose(&mut self, loss: Loss) {
        self.loss = Some(loss);
    }

    /// The nodes that the last loss takes, if it was just now.
    pub fn lost(&mut self, now: Instant, policy: &Policy, orders: &Orders) -> Option<(u32, &Loss)> {
        let current = |loss: &Loss| now.saturating_duration_since(loss.at) <= policy.stale_after;
        self.for_loss = match self.loss.as_ref().filter(|loss| current(loss)) {
            None => None,
            Some(_) => raised(self.for_loss, orders, FOR_LOSS, || orders.complete_for(now, policy.out_cooldown)),
        };
        self.for_loss.zip(self.loss.as_ref())
    }

    /// The nodes that it takes when all is used, and how much of the nodes is used (the first of `outlook`). What was to be expected when it began, over the whole time that a node takes to come:
    /// afterwards the load cannot be seen to rise.
    pub fn saturated(&mut self, now: Instant, policy: &Policy, orders: &Orders, outlook: Option<(f64, Outlook)>) -> Option<(u32, f64)> {
        let Some((used, outlook)) = outlook.filter(|(used, _)| *used >= SATURATED) else {
            self.for_saturation = None;
            return None;
        };
        let (since, asked) = self.for_saturation.unwrap_or((now, 0));
        let lasts = now.saturating_duration_since(since) >= policy.out_cooldown;
        let at_work = || lasts && orders.complete_for(now, policy.out_cooldown);
        let more = raised(Some(asked), orders, policy.out_step, at_work).unwrap_or(asked);
        let nodes = more.max(policy.nodes_at_once(outlook.at_horizon));
        self.for_saturation = Some((since, nodes));
        Some((nodes, used))
    }
}

/// A step more than is ordered, once that is there and at work.
fn raised(asked: Option<u32>, orders: &Orders, step: Step, at_work: impl Fn() -> bool) -> Option<u32> {
    let more = || orders.ordered.saturating_add(step.of(orders.ordered));
    match asked {
        Some(asked) if asked > orders.ordered || !at_work() => Some(asked),
        Some(_) => Some(more()),
        None => at_work().then(more),
    }
}
