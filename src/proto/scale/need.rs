//! The highest of all needs, and whose it is.

use super::Scaler;
use super::gateways::Measured;
use super::level::Announced;
use super::reason::Reason;
use super::relief::Loss;
use super::trend::Outlook;
use std::time::Instant;

#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    pub nodes: u32,
    pub reason: Reason,
}

impl Need {
    fn add(&mut self, nodes: u32, reason: impl FnOnce() -> Reason) {
        if nodes > self.nodes {
            *self = Self { nodes, reason: reason() };
        }
    }
}

impl Scaler {
    pub(super) fn need(&mut self, now: Instant, measured: &Measured, outlook: Option<Outlook>) -> Need {
        let policy = &self.policy;
        let mut need = Need { nodes: policy.min, reason: Reason::Minimum };
        need.add(policy.schedule.min(self.wall), || Reason::Schedule);
        let used = |demand: f64| demand / f64::from(measured.counted.max(1));
        if let (Some(Outlook { lately, lasting, soon, .. }), Some((_, dimension))) = (outlook, measured.busiest) {
            let ahead = policy.start_up.as_secs_f64();
            if let Some(lasting) = lasting {
                need.add(policy.nodes_for(lasting), || Reason::Demand { utilisation: used(lasting), dimension });
            }
            need.add(policy.nodes_at_once(lately), || Reason::Demand { utilisation: used(lately), dimension });
            need.add(policy.nodes_at_once(soon), || Reason::Rising { utilisation: used(soon), ahead });
        }
        for (source, said) in self.levels.iter() {
            for standing in &said.wanted {
                need.add(standing.nodes(|work| policy.nodes_for(work)), || Reason::Level { source: source.clone() });
            }
        }
        if let Some(Announced { work, dimension, sources }) = self.levels.announced() {
            need.add(policy.nodes_for(work), || Reason::Announced { sources, dimension });
        }
        self.relieve(now, measured, outlook.map(|outlook| (used(outlook.latest), outlook)), need)
    }

    /// What nothing measures, beside all that. `outlook` with how far the gateways are used.
    fn relieve(&mut self, now: Instant, measured: &Measured, outlook: Option<(f64, Outlook)>, mut need: Need) -> Need {
        let Some(orders) = &self.orders else { return need };
        let (policy, relief, load) = (&self.policy, &mut self.relief, need.nodes);
        if let Some((nodes, utilisation)) = relief.saturated(now, policy, measured.counted, outlook, measured.current > 0) {
            need.add(nodes, || Reason::Saturated { utilisation });
        }
        if let Some((nodes, hottest)) = relief.hot(now, policy, orders, load, measured.hottest.as_ref()) {
            need.add(nodes, || Reason::Hot { node: hottest.node.clone(), utilisation: hottest.utilisation });
        }
        if let Some((nodes, Loss { node, allowance, .. })) = relief.lost(now, policy, orders, load) {
            need.add(nodes, || Reason::Loss { node: node.clone(), allowance: *allowance });
        }
        need
    }
}
