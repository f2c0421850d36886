//! A page of metrics, made at the moment it is asked for from what the daemon and the kernel know: nothing is counted
//! twice, and nothing is counted per packet by us.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

type Labels = Vec<(String, String)>;
/// Help text and samples of each family.
type Families<Metric> = BTreeMap<String, (String, Family<Labels, Metric>)>;

/// Families by name. Counters get the suffix `_total` when they are written.
#[derive(Debug, Default)]
pub struct Page {
    counters: Families<Counter>,
    seconds: Families<Counter<f64, AtomicU64>>,
    gauges: Families<Gauge<f64, AtomicU64>>,
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Page {
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        let (_, family) = self.counters.entry(name.to_owned()).or_insert_with(|| (help.to_owned(), Family::default()));
        family.get_or_create(&owned(labels)).inc_by(value);
    }

    /// A counter of time, in seconds. Its name says so.
    pub fn seconds(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let (_, family) = self.seconds.entry(name.to_owned()).or_insert_with(|| (help.to_owned(), Family::default()));
        family.get_or_create(&owned(labels)).inc_by(value);
    }

    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let (_, family) = self.gauges.entry(name.to_owned()).or_insert_with(|| (help.to_owned(), Family::default()));
        family.get_or_create(&owned(labels)).set(value);
    }

    /// In the OpenMetrics text format.
    pub fn encode(self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        for (name, (help, family)) in self.counters {
            registry.register(name, help, family);
        }
        for (name, (help, family)) in self.seconds {
            registry.register(name, help, family);
        }
        for (name, (help, family)) in self.gauges {
            registry.register(name, help, family);
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// As `/metrics` is answered.
impl IntoResponse for Page {
    fn into_response(self) -> Response {
        match self.encode() {
            Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}
