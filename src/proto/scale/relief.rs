//! Needs that nothing measures: all is used, or one gateway is, or the cloud drops. More of what there is, and then wait for it to come.
//!
//! More nodes may not mend it: shards are not divisible, and a machine may be held back for what it does by itself. So a hot gateway and a loss come to [`MOST`] nodes
//! beyond what the load wants, and then to no more, however long they last. Both are remembered until they have not been seen for the policy's window; one
//! that comes again before is the same one still. Only when all is used there is no bound but the policy's: how much is asked for then, nobody knows.

use super::gateways::Hottest;
use super::orders::Orders;
use super::policy::{Policy, Step};
use super::sample::Allowance;
use super::trend::Outlook;
use crate::model::NodeName;
use std::time::{Duration, Instant};

/// A gateway from which the cloud held packets back.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    pub node: NodeName,
    pub allowance: Allowance,
    pub at: Instant,
}

/// From this utilisation on, what is carried is not what is asked for.
const SATURATED: f64 = 0.95;
/// What a loss asks for at once.
const FOR_LOSS: Step = Step { nodes: 1, percent: 10 };
/// And a hot gateway.
const FOR_HEAT: Step = Step { nodes: 1, percent: 0 };
/// What each of the two comes to.
const MOST: Step = Step { nodes: 2, percent: 20 };
/// A gateway is hot that has been for so long, with nobody coming or going.
const LASTS: Duration = Duration::from_secs(60);

/// What is asked for is a number of nodes that stands while its cause lasts. For a loss or a hot gateway it grows only when all that were ordered have carried traffic for the
/// short cooldown: what they are good for has to be seen first. When all is used it grows with those that carry traffic.
#[derive(Debug, Clone, Default)]
pub struct Relief {
    loss: Option<Loss>,
    for_loss: Option<u32>,
    heat: Option<Heat>,
    /// And since when.
    for_saturation: Option<(Instant, u32)>,
}

#[derive(Debug, Clone)]
struct Heat {
    /// Whose it is, and when it was last.
    hottest: Hottest,
    seen: Instant,
    /// What was ordered when it began, or what the load took since.
    base: u32,
    asked: Option<u32>,
}

impl Relief {
    pub fn lose(&mut self, loss: Loss) {
        self.loss = Some(loss);
    }

    /// The nodes that the last loss takes, if it was just now. `load`: those that the load takes.
    pub fn lost(&mut self, now: Instant, policy: &Policy, orders: &Orders, load: u32) -> Option<(u32, &Loss)> {
        let ago = |loss: &Loss| now.saturating_duration_since(loss.at);
        let memory = policy.window.max(policy.stale_after);
        self.for_loss = self.loss.as_ref().filter(|loss| ago(loss) <= memory).and_then(|loss| {
            let at_work = || ago(loss) <= policy.stale_after && orders.complete_for(now, policy.out_cooldown);
            Some(raised(self.for_loss, orders, FOR_LOSS, at_work)?.min(beyond(load)))
        });
        self.for_loss.zip(self.loss.as_ref()).filter(|(_, loss)| ago(loss) <= policy.stale_after)
    }

    /// The nodes that it takes that one gateway is hot, if one is or was just now.
    pub fn hot(&mut self, now: Instant, policy: &Policy, orders: &Orders, load: u32, hottest: Option<&Hottest>) -> Option<(u32, &Hottest)> {
        let hot = hottest.filter(|hottest| {
            let all = hottest.utilisation / hottest.skew;
            hottest.over >= LASTS && hottest.utilisation >= policy.urgent() && all < policy.urgent()
        });
        if let Some(hottest) = hot {
            let (base, asked) = self.heat.as_ref().map_or((orders.ordered, None), |heat| (heat.base, heat.asked));
            self.heat = Some(Heat { hottest: hottest.clone(), seen: now, base, asked });
        }
        let over = |heat: &Heat| now.saturating_duration_since(heat.seen) > policy.window;
        if let Some(heat) = &mut self.heat {
            heat.base = heat.base.max(load).min(orders.ordered);
        }
        // Forgotten before its nodes have gone, it would begin again from these, and so on.
        self.heat = self.heat.take().filter(|heat| !over(heat) || orders.ordered > heat.base);
        let heat = self.heat.as_mut()?;
        let at_work = || hot.is_some() && orders.complete_for(now, policy.out_cooldown);
        let asked = raised(heat.asked, orders, FOR_HEAT, at_work).map(|asked| asked.min(beyond(heat.base)));
        heat.asked = asked.filter(|_| !over(heat));
        heat.asked.map(|asked| (asked, &heat.hottest))
    }

    /// The nodes that it takes when all is used, and how much of the nodes is used (the first of `outlook`). At once what was to be expected when it began, over the whole time that a node takes to
    /// come, as afterwards the load cannot be seen to rise; and when it lasts a step more than are `serving`, as long as they are `heard`. Those to come are part of that step, and
    /// when they have come, and all is still used, the next one follows.
    pub fn saturated(
        &mut self,
        now: Instant,
        policy: &Policy,
        serving: u32,
        outlook: Option<(f64, Outlook)>,
        heard: bool,
    ) -> Option<(u32, f64)> {
        let Some((used, outlook)) = outlook.filter(|(used, _)| *used >= SATURATED) else {
            self.for_saturation = None;
            return None;
        };
        let (since, asked) = self.for_saturation.unwrap_or((now, 0));
        let lasts = heard && now.saturating_duration_since(since) >= policy.out_cooldown;
        let step = if lasts { serving.saturating_add(policy.out_step.of(serving)) } else { 0 };
        let nodes = asked.max(step).max(policy.nodes_at_once(outlook.at_horizon));
        self.for_saturation = Some((since, nodes));
        Some((nodes, used))
    }

    /// Without a break, for twice the short cooldown.
    pub fn all_is_used(&self, now: Instant, policy: &Policy) -> bool {
        self.for_saturation.is_some_and(|(since, _)| now.saturating_duration_since(since) >= policy.out_cooldown * 2)
    }
}

fn beyond(nodes: u32) -> u32 {
    nodes.saturating_add(MOST.of(nodes))
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
