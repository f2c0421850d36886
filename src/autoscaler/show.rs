//! What is known, for people and for Prometheus.

use super::actuator::Shown;
use super::outcomes::Outcome;
use crate::metrics::Page;
use crate::model::NodeName;
use crate::proto::scale::{Counters, Status};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Gateways of which nothing current is known.
pub fn silent(status: &Status) -> Vec<String> {
    let silent = status.gateways.iter().filter(|gateway| !gateway.current);
    silent.map(|gateway| gateway.name.to_string()).collect()
}

/// Of every gateway is known what it carries, and which there are.
pub fn is_ready(status: &Status) -> bool {
    !status.gateways.is_empty() && silent(status).is_empty()
}

pub fn status(status: &Status, outcomes: &BTreeMap<NodeName, Outcome>, actuator: Option<&Shown>, dry_run: bool) -> Value {
    let mut shown = json!(status);
    shown["role"] = "autoscaler".into();
    shown["version"] = env!("CARGO_PKG_VERSION").into();
    shown["ready"] = is_ready(status).into();
    shown["dry_run"] = dry_run.into();
    shown["actuator"] = json!(actuator);
    for (decision, shown) in status.decisions.iter().zip(shown["decisions"].as_array_mut().into_iter().flatten()) {
        shown["because"] = decision.reason.to_string().into();
    }
    for gateway in shown["gateways"].as_array_mut().into_iter().flatten() {
        let asked = gateway["name"].as_str().and_then(|name| name.parse().ok()).and_then(|name: NodeName| outcomes.get(&name));
        gateway["scrape"] = json!(asked);
    }
    shown
}

pub fn metrics(status: &Status, counters: &Counters, outcomes: &BTreeMap<NodeName, Outcome>, actuator: Option<&Shown>) -> Page {
    let mut page = Page::default();
    page.gauge("portway_ready", "1 when of every gateway is known what it carries", &[], f64::from(u8::from(is_ready(status))));
    if let Some(ordered) = status.ordered {
        page.gauge("portway_autoscaler_wanted_nodes", "Gateways that there shall be", &[], ordered.into());
    }
    page.gauge("portway_autoscaler_serving_nodes", "Gateways that carry traffic", &[], status.serving.into());
    page.gauge("portway_autoscaler_min_nodes", "Never fewer", &[], status.min.into());
    page.gauge("portway_autoscaler_max_nodes", "Never more", &[], status.max.into());
    page.gauge("portway_autoscaler_target_ratio", "What the nodes can carry that should be used", &[], status.target);
    if let Some(demand) = status.demand {
        page.gauge("portway_autoscaler_demand_nodes", "Load, in what one node can carry", &[], demand);
    }
    for gateway in &status.gateways {
        let labels = [("gateway", gateway.name.as_str())];
        if let Some(used) = gateway.utilisation {
            page.gauge("portway_autoscaler_utilisation_ratio", "What a gateway can carry that is used", &labels, used);
        }
        if let Some(age) = gateway.age {
            page.gauge("portway_autoscaler_reading_age_seconds", "Since the last reading that was believed", &labels, age);
        }
    }
    for (name, outcome) in outcomes {
        for (result, count) in [("good", outcome.good), ("failed", outcome.failed)] {
            let labels = [("gateway", name.as_str()), ("result", result)];
            page.counter("portway_autoscaler_scrapes", "Times a gateway was asked", &labels, count);
        }
    }
    page.counter("portway_autoscaler_readings", "Readings of gateways", &[], counters.readings);
    for (why, count) in counters.refused() {
        page.counter("portway_autoscaler_readings_refused", "Readings that were not believed", &[("reason", why.as_str())], count);
    }
    for (allowance, count) in counters.losses() {
        let labels = [("allowance", allowance.as_str())];
        page.counter("portway_autoscaler_held_back", "Readings in which the cloud had held packets back", &labels, count);
    }
    for (direction, reason, count) in counters.decisions() {
        let labels = [("direction", direction.as_str()), ("reason", reason)];
        page.counter("portway_autoscaler_decisions", "Changes of the number of nodes", &labels, count);
    }
    for (why, count) in counters.held() {
        page.counter("portway_autoscaler_held", "Times that another number was wanted and not ordered", &[("why", why)], count);
    }
    if let Some(Shown { status, counters, .. }) = actuator {
        let (alarm, failures) = (f64::from(u8::from(status.alarm)), f64::from(status.failures));
        page.gauge(
            "portway_autoscaler_actuator_alarm",
            "1 when whoever runs the nodes has not taken an order three times in a row",
            &[],
            alarm,
        );
        page.gauge("portway_autoscaler_actuator_failures", "Orders that were not taken, since one was", &[], failures);
        for (result, count) in counters.all() {
            page.counter("portway_autoscaler_orders", "Orders given, by what became of them", &[("result", result)], count);
        }
    }
    #[cfg(feature = "aws")]
    if let Some(group) = actuator.and_then(|actuator| actuator.group.as_ref()) {
        for (result, count) in group.looks {
            page.counter("portway_autoscaler_group_looks", "Times the Auto Scaling group was looked at", &[("result", result)], count);
        }
        for (how, count) in group.let_go.all() {
            page.counter("portway_autoscaler_let_go", "Instances that were let go", &[("how", how)], count);
        }
    }
    page
}
