//! Figures: what was measured, what the bar is, and how both are told.

use anyhow::Context;
use serde_json::json;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;

/// What a figure has to be to pass.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// The median.
    AtMost(f64),
    AtLeast(f64),
    /// The 99th percentile.
    P99AtMost(f64),
    /// The worst.
    EachAtMost(f64),
    EachAtLeast(f64),
}

#[derive(Debug)]
pub struct Figure {
    arm: String,
    metric: String,
    unit: &'static str,
    /// Sorted.
    values: Vec<f64>,
    latency: bool,
    bar: Option<Bar>,
}

/// The figures of one benchmark, in the order in which they were made.
#[derive(Debug)]
pub struct Report {
    bench: &'static str,
    figures: Vec<Figure>,
}

impl Report {
    pub fn new(bench: &'static str) -> Self {
        Self { bench, figures: Vec::new() }
    }

    pub fn add(&mut self, arm: impl Into<String>, metric: impl Into<String>, unit: &'static str, values: Vec<f64>, bar: Option<Bar>) {
        self.push(arm, metric, unit, values, false, bar);
    }

    /// A figure whose percentiles matter.
    pub fn latency(&mut self, arm: impl Into<String>, metric: impl Into<String>, milliseconds: Vec<f64>, bar: Option<Bar>) {
        self.push(arm, metric, "ms", milliseconds, true, bar);
    }

    fn push(
        &mut self,
        arm: impl Into<String>,
        metric: impl Into<String>,
        unit: &'static str,
        mut values: Vec<f64>,
        latency: bool,
        bar: Option<Bar>,
    ) {
        assert!(!values.is_empty(), "a figure without a measurement");
        values.sort_by(f64::total_cmp);
        self.figures.push(Figure { arm: arm.into(), metric: metric.into(), unit, values, latency, bar });
    }

    /// Whether every bar was held.
    pub fn held(&self) -> bool {
        self.figures.iter().all(|figure| figure.held() != Some(false))
    }

    /// `target/bench/NAME.jsonl`, one line a figure.
    pub fn write(&self) -> anyhow::Result<()> {
        let path = directory()?.join(format!("{}.jsonl", self.bench));
        let mut file = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        for figure in &self.figures {
            writeln!(file, "{}", figure.json(self.bench))?;
        }
        Ok(())
    }
}

impl Figure {
    fn held(&self) -> Option<bool> {
        self.bar.map(|bar| match bar {
            Bar::AtMost(limit) => median(&self.values) <= limit,
            Bar::AtLeast(limit) => median(&self.values) >= limit,
            Bar::P99AtMost(limit) => percentile(&self.values, 0.99) <= limit,
            Bar::EachAtMost(limit) => self.values[self.values.len() - 1] <= limit,
            Bar::EachAtLeast(limit) => self.values[0] >= limit,
        })
    }

    fn json(&self, bench: &str) -> serde_json::Value {
        let mut line = json!({
            "bench": bench, "arm": self.arm, "metric": self.metric, "unit": self.unit,
            "median": round(median(&self.values)), "min": round(self.values[0]), "max": round(self.values[self.values.len() - 1]),
            "n": self.values.len(),
        });
        if self.latency {
            line["p50"] = round(percentile(&self.values, 0.5)).into();
            line["p99"] = round(percentile(&self.values, 0.99)).into();
        }
        if let (Some(bar), Some(held)) = (self.bar, self.held()) {
            line["bar"] = bar.to_string().into();
            line["pass"] = held.into();
        }
        line
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bar::AtMost(limit) => write!(f, "<= {limit}"),
            Bar::AtLeast(limit) => write!(f, ">= {limit}"),
            Bar::P99AtMost(limit) => write!(f, "p99 <= {limit}"),
            Bar::EachAtMost(limit) => write!(f, "each <= {limit}"),
            Bar::EachAtLeast(limit) => write!(f, "each >= {limit}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<34} {:<34} {:>10} {:>10} {:>10} {:>10} {:>6}  bar",
            format!("{}: arm", self.bench),
            "metric",
            "median",
            "p99",
            "min",
            "max",
            "n"
        )?;
        for figure in &self.figures {
            let values = &figure.values;
            let p99 = if figure.latency { show(percentile(values, 0.99)) } else { "-".into() };
            let verdict = match (figure.bar, figure.held()) {
                (Some(bar), Some(true)) => format!("{bar}  pass"),
                (Some(bar), _) => format!("{bar}  MISS"),
                _ => String::new(),
            };
            writeln!(
                f,
                "{:<34} {:<34} {:>10} {p99:>10} {:>10} {:>10} {:>6}  {verdict}",
                figure.arm,
                format!("{} [{}]", figure.metric, figure.unit),
                show(median(values)),
                show(values[0]),
                show(values[values.len() - 1]),
                values.len(),
            )?;
        }
        Ok(())
    }
}

/// Where the lines go.
pub fn directory() -> anyhow::Result<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

fn show(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Of values in any order.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value at or below which this share of all values lies (nearest rank); for the middle of an even number, the mean of both.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "ranks are small")]
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    if share == 0.5 && count.is_multiple_of(2) {
        return (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0;
    }
    sorted[((share * count as f64).ceil() as usize).clamp(1, count) - 1]
}
