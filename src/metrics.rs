//! A page of metrics, made at the moment it is asked for from what the daemon and the kernel know: nothing is counted
//! twice, and nothing is counted per packet by us.

mod format;
#[cfg(test)]
mod tests;

pub use format::Format;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

type Labels = Vec<(String, String)>;

/// Families by name. Counters get the suffix `_total` when they are written.
#[derive(Debug, Default)]
pub struct Page(BTreeMap<String, Family>);

#[derive(Debug)]
struct Family {
    help: String,
    kind: MetricType,
    samples: BTreeMap<Labels, Value>,
}

#[derive(Debug)]
enum Value {
    Whole(u64),
    Real(f64),
    /// Upper bounds, each with what is above the one before.
    Histogram {
        sum: f64,
        buckets: Vec<(f64, u64)>,
    },
}

impl Page {
    fn sample(&mut self, name: &str, help: &str, kind: MetricType, labels: &[(&str, &str)]) -> &mut Value {
        let family = self.0.entry(name.to_owned());
        let family = family.or_insert_with(|| Family { help: help.to_owned(), kind, samples: BTreeMap::new() });
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        family.samples.entry(labels).or_insert(Value::Whole(0))
    }

    /// What is said twice of the same labels adds up.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        let sample = self.sample(name, help, MetricType::Counter, labels);
        let before = if let Value::Whole(before) = sample { *before } else { 0 };
        *sample = Value::Whole(before + value);
    }

    /// A counter of time, in seconds. Its name says so.
    pub fn seconds(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        *self.sample(name, help, MetricType::Counter, labels) = Value::Real(value);
    }

    /// Of every daemon: by this its counters are known to be another process's.
    pub fn began(&mut self, at: SystemTime) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.gauge("process_start_time_seconds", "When this process began, since 1970", &[], since.as_secs_f64());
    }

    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        *self.sample(name, help, MetricType::Gauge, labels) = Value::Real(value);
    }

    /// How often something was how large: a count for each upper bound of what is above the bound before, and one for what is above them all.
    /// `sum`: of everything.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: impl IntoIterator<Item = f64>,
        counts: impl IntoIterator<Item = u64>,
        sum: f64,
    ) {
        let buckets = bounds.into_iter().chain([f64::INFINITY]).zip(counts).collect();
        *self.sample(name, help, MetricType::Histogram, labels) = Value::Histogram { sum, buckets };
    }

    pub fn encode(self, format: Format) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Written { page: self, format }));
        let mut text = String::new();
        match format {
            Format::OpenMetrics => encode(&mut text, &registry)?,
            Format::Text => encode_registry(&mut text, &registry)?,
        }
        Ok(text)
    }

    /// As `/metrics` is answered, to a request with these headers.
    pub fn answer(self, asked: &HeaderMap) -> Response {
        let format = Format::asked(asked);
        match self.encode(format) {
            Ok(text) => ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

#[derive(Debug)]
struct Written {
    page: Page,
    format: Format,
}

impl Collector for Written {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, family) in &self.page.0 {
            // In Prometheus's own format a family of counters is called as its samples are.
            let plain = matches!((family.kind, self.format), (MetricType::Counter, Format::Text));
            let name = if plain { format!("{name}_total") } else { name.clone() };
            let mut encoder = encoder.encode_descriptor(&name, &family.help, None, family.kind)?;
            for (labels, value) in &family.samples {
                value.encode(plain || matches!(family.kind, MetricType::Gauge), encoder.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl Value {
    /// `plain`: without a suffix.
    fn encode(&self, plain: bool, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Value::Whole(value) if plain => encoder.encode_gauge(value),
            Value::Real(value) if plain => encoder.encode_gauge(value),
            Value::Whole(value) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            Value::Real(value) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            Value::Histogram { sum, buckets } => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
        }
    }
}
