//! What the benchmarks of gateways that share HaVips have in common: scenarios of the lab, run again and again, and what came of each.

use super::Options;
use super::figures::{Bar, Report};
use anyhow::{Context, ensure};
use portway::config::Backend;
use portway::lab::Kill;
use portway::lab::scenario::{self, Scenario};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What a planned handover may cost, in milliseconds.
pub const PLANNED_MS: f64 = 5.0;
/// Connections held through a failover, of four kinds; a fifth as many UDP flows beside them.
pub const FLOWS: usize = 1000;

pub fn portway() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portway"))
}

impl Options {
    /// Rounds: those asked for, or these, or in the short form as many as show that it works.
    pub fn rounds_of(&self, long: usize, short: usize) -> usize {
        self.rounds.unwrap_or(if self.short { short } else { long })
    }

    pub fn backend(&self) -> anyhow::Result<Backend> {
        match self.backend.as_str() {
            "userspace" => Ok(Backend::Userspace),
            "kernel" => Ok(Backend::Kernel),
            other => anyhow::bail!("{other:?} is no backend"),
        }
    }

    /// How long the idle ones among the connections are idle.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(if self.short { 2 } else { 60 })
    }
}

pub fn scenario(kill: Kill, interval_ms: u64, flows: usize, idle: Duration) -> scenario::Options {
    scenario::Options { kill, interval: Duration::from_millis(interval_ms), flows, idle, ..scenario::Options::default() }
}

/// The rounds of one arm.
pub struct Arm {
    name: String,
    columns: BTreeMap<String, Vec<f64>>,
}

impl Arm {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), columns: BTreeMap::new() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn note(&mut self, column: &str, value: f64) {
        self.columns.entry(column.to_owned()).or_default().push(value);
    }

    /// A scenario in a lab of its own; what it measured becomes a round.
    pub fn play(&mut self, scenario: Scenario, backend: Backend, options: &scenario::Options) -> anyhow::Result<()> {
        let outcome = scenario.run(portway(), backend, options).with_context(|| format!("scenario {}", scenario.name()))?;
        ensure!(outcome.figures.contains_key("gap_ms"), "scenario {} tells no gap", scenario.name());
        self.take(&outcome.figures);
        let failed: Vec<String> = outcome.checks.iter().filter(|c| !c.held).map(|c| format!("{}: {}", c.claim, c.detail)).collect();
        self.tell(&failed);
        Ok(())
    }

    /// Every number becomes a value of its column.
    pub fn take(&mut self, figures: &Map<String, Value>) {
        for (name, value) in figures {
            if let Some(value) = value.as_f64() {
                self.note(name, value);
            }
        }
    }

    /// One line for who watches.
    pub fn tell(&self, failed: &[String]) {
        let last = |column: &str| self.columns.get(column).and_then(|values| values.last().copied());
        let known =
            ["gap_ms", "quiet_ms", "asked_ms", "lost", "survived", "udp_survived", "owner_ms", "listed_s", "known", "peers_back_ms"];
        let text: Vec<String> = known.iter().filter_map(|name| last(name).map(|value| format!("{name} {value:.1}"))).collect();
        eprintln!("  {}: {}{}", self.name, text.join(", "), failed.iter().map(|f| format!("\n    ! {f}")).collect::<String>());
    }

    pub fn column(&self, column: &str) -> &[f64] {
        self.columns.get(column).map_or(&[], Vec::as_slice)
    }

    /// A figure of a column, if there is one.
    pub fn report(&self, report: &mut Report, column: &str, metric: &str, unit: &'static str, bar: Option<Bar>) {
        if let Some(values) = self.columns.get(column) {
            report.add(&self.name, metric, unit, values.clone(), bar);
        }
    }

    /// The gap, what the machine makes of the probe by itself, and how late the probe was.
    pub fn report_gap(&self, report: &mut Report, bar: Option<Bar>) {
        self.report(report, "gap_ms", "longest time without an answer", "ms", bar);
        self.report(report, "quiet_ms", "the same before anything happened", "ms", None);
        self.report(report, "asked_ms", "longest time between two questions", "ms", None);
        self.report(report, "lost", "pings lost", "1", None);
    }

    /// Which connections went on.
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    pub fn report_flows(&self, report: &mut Report, flows: usize) {
        self.report(report, "survived", "TCP connections that went on", "1", Some(Bar::EachAtLeast(flows as f64)));
        self.report(report, "udp_survived", "UDP flows that went on", "1", Some(Bar::EachAtLeast((flows / 5) as f64)));
        self.report(report, "resets", "connections reset", "1", None);
    }
}

/// The bound, in seconds, within which 99 of 100 of a histogram's events were, of those between two readings. Infinite beyond the last bound,
/// and none without an event.
pub fn late_within(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, histogram: &str) -> Option<f64> {
    let buckets = after.iter().filter(|(name, _)| name.starts_with(histogram)).filter_map(|(name, value)| {
        let bound = name.split_once("le=\"")?.1.split('"').next()?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        Some((bound, value - before.get(name).unwrap_or(&0.0)))
    });
    let mut counts: Vec<(f64, f64)> = buckets.collect();
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = counts.last().map_or(0.0, |(_, count)| *count);
    counts.iter().find(|(_, count)| all > 0.0 && *count >= all * 0.99).map(|(bound, _)| *bound)
}
