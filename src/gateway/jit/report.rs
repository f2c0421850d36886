//! What `status` and metrics show.

use crate::metrics::Page;
use crate::proto::jit::{Counters, Sizes};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub counters: Counters,
    pub sizes: Sizes,
    /// The last look-up failed.
    pub directory_is_away: bool,
    /// Jobs that wait for a hand or are in it.
    pub jobs: usize,
    /// Peers for whom the directory is to be asked again, and has not been yet.
    pub rechecks: usize,
    /// Stamps that are used up and not on the disk yet ([`super::Jit::report`]).
    pub unwritten: usize,
    /// Knocks for which there was no room.
    pub knocks_lost: u64,
    /// Knocks and new sessions of which the device could not tell us ([`super::Jit::report`]).
    pub events_lost: u64,
    /// Initiations that the kernel did not keep for us: the socket's buffer was full.
    pub captures_lost: u64,
    pub greeted: Greeted,
    /// Peers that could not be taken from their interface.
    pub stuck: u64,
    /// From a knock to the peer's session, of those admitted last.
    pub latency: Option<Latency>,
    /// The same of all.
    pub admissions: Admissions,
}

/// How peers got their sessions. Everything here only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Greeted {
    /// Their own initiation was answered.
    pub answered: u64,
    /// We began.
    pub initiated: u64,
    /// Neither worked: they knock again.
    pub failed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

/// Upper bounds, in milliseconds.
const BOUNDS: [u32; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admissions {
    /// For each bound, and for what took longer.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

/// The last so many.
const REMEMBERED: usize = 1024;

#[derive(Debug, Default)]
pub struct Latencies {
    /// Microseconds.
    ring: Vec<u32>,
    next: usize,
    pub all: Admissions,
}

impl Latencies {
    pub fn add(&mut self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        match self.ring.get_mut(self.next) {
            Some(place) => *place = micros,
            None => self.ring.push(micros),
        }
        self.next = (self.next + 1) % REMEMBERED;
        let place = BOUNDS.iter().position(|ms| latency <= Duration::from_millis((*ms).into()));
        self.all.counts[place.unwrap_or(BOUNDS.len())] += 1;
        self.all.sum = self.all.sum.saturating_add(latency);
    }

    pub fn summary(&self) -> Option<Latency> {
        let mut sorted = self.ring.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(place).map(|micros| Duration::from_micros((*micros).into()))
        };
        Some(Latency { p50: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

impl Report {
    pub fn json(&self) -> Value {
        let Report { counters, sizes, .. } = self;
        let refused: serde_json::Map<String, Value> =
            counters.refusals().filter(|(_, n)| *n > 0).map(|(why, n)| (why.as_str().into(), n.into())).collect();
        json!({
            "known": sizes.known,
            "live": sizes.peers - sizes.installing,
            "installing": sizes.installing,
            "admitted": counters.installed,
            "reaped": counters.reaped,
            "refused": refused,
            "greeted": { "answered": self.greeted.answered, "initiated": self.greeted.initiated, "failed": self.greeted.failed },
            "directory": {
                "away": self.directory_is_away, "look_ups": counters.look_ups, "failed": counters.failed_look_ups,
                "served_stale": counters.served_stale, "asking": sizes.looking_up, "rechecks": self.rechecks,
            },
            "queues": {
                "backlog": sizes.backlog, "waiting": sizes.waiting, "asked": sizes.asked, "jobs": self.jobs,
                "knocks_lost": self.knocks_lost, "events_lost": self.events_lost, "captures_lost": self.captures_lost,
            },
            "stamps": sizes.stamps,
            "stamps_unwritten": self.unwritten,
            "stamps_forgotten": sizes.stamps_forgotten,
            "admission_ms": self.latency.map(|latency| json!({
                "p50": ms(latency.p50), "p99": ms(latency.p99), "max": ms(latency.max),
            })),
        })
    }

    pub fn metrics(&self, page: &mut Page) {
        let Report { counters, sizes, .. } = self;
        let states = [("known", sizes.known), ("live", sizes.peers - sizes.installing), ("installing", sizes.installing)];
        for (state, count) in states {
            let help = "Peers just in time: answers of the directory that are remembered, peers that stand, peers that are about to";
            page.gauge("portway_jit_peers", help, &[("state", state)], count as f64);
        }
        for (why, count) in counters.refusals() {
            page.counter("portway_jit_refused", "Initiations that led to nothing, by reason", &[("reason", why.as_str())], count);
        }
        let queues = [
            ("backlog", sizes.backlog),
            ("at_work", sizes.at_work),
            ("waiting", sizes.waiting),
            ("look_ups", sizes.asked),
            ("jobs", self.jobs),
            ("rechecks", self.rechecks),
            ("stamps", self.unwritten),
        ];
        for (queue, length) in queues {
            page.gauge("portway_jit_queue", "What waits for a peer just in time", &[("queue", queue)], length as f64);
        }
        let events = [
            ("installed", counters.installed),
            ("renewed", counters.renewed),
            ("configured", counters.configured),
            ("reaped", counters.reaped),
            ("answered", self.greeted.answered),
            ("initiated", self.greeted.initiated),
            ("not_greeted", self.greeted.failed),
            ("not_removed", self.stuck),
        ];
        for (event, count) in events {
            page.counter("portway_jit_events", "What was done with peers just in time", &[("event", event)], count);
        }
        let look_ups = [("asked", counters.look_ups), ("failed", counters.failed_look_ups), ("served_stale", counters.served_stale)];
        for (result, count) in look_ups {
            page.counter("portway_jit_look_ups", "Questions to the directory about who knocks", &[("result", result)], count);
        }
        for (step, count) in [("first", counters.claims), ("second", counters.proofs)] {
            page.counter("portway_jit_steps", "Initiations that were opened, by step", &[("step", step)], count);
        }
        for (place, count) in [("queue", self.knocks_lost), ("device", self.events_lost), ("socket", self.captures_lost)] {
            let help = "Initiations for which there was no room; of the device, also news of sessions";
            page.counter("portway_jit_lost", help, &[("place", place)], count);
        }
        page.counter("portway_jit_stamps_forgotten", "Keys whose recordings count as new again", &[], sizes.stamps_forgotten);
        let away = f64::from(u8::from(self.directory_is_away));
        page.gauge("portway_jit_directory_away", "Whether the last look-up failed", &[], away);
        let Admissions { counts, sum } = self.admissions;
        let (help, bounds) = ("From a knock to the peer's session", BOUNDS.map(|ms| f64::from(ms) / 1e3));
        page.histogram("portway_jit_admission_seconds", help, &[], bounds, counts, sum.as_secs_f64());
    }
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;
    use crate::proto::jit::Refusal;

    #[test]
    fn the_last_thousand_count() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary(), None);
        (0..5000).for_each(|n| latencies.add(Duration::from_micros(n)));
        let us = Duration::from_micros;
        assert_eq!(latencies.summary(), Some(Latency { p50: us(4487), p99: us(4989), max: us(4999) }));
    }

    #[test]
    fn all_are_counted_by_how_long_they_took() {
        let mut latencies = Latencies::default();
        [0, 1_000, 1_001, 20_000_000].into_iter().for_each(|us| latencies.add(Duration::from_micros(us)));
        let mut page = Page::default();
        Report { admissions: latencies.all, ..Report::default() }.metrics(&mut page);
        let text = page.encode(Format::OpenMetrics).unwrap();
        for (le, count) in [("0.001", 2), ("0.002", 3), ("10.0", 3), ("+Inf", 4)] {
            assert!(text.contains(&format!("portway_jit_admission_seconds_bucket{{le=\"{le}\"}} {count}\n")), "{text}");
        }
        assert!(text.contains("portway_jit_admission_seconds_sum{} 20.002001\n"), "{text}");
    }

    #[test]
    fn every_reason_is_a_label_whether_it_happened_or_not() {
        let mut page = Page::default();
        Report::default().metrics(&mut page);
        let text = page.encode(Format::OpenMetrics).unwrap();
        for why in Refusal::ALL {
            assert!(text.contains(&format!("portway_jit_refused_total{{reason=\"{why}\"}} 0")), "{text}");
        }
        assert_eq!(Report::default().json()["refused"], json!({}));
    }

    #[test]
    fn every_field_of_the_status_stands_in_the_document() {
        fn fields(of: &Value, into: &mut Vec<String>) {
            for (name, value) in of.as_object().into_iter().flatten() {
                into.push(name.clone());
                fields(value, into);
            }
        }
        let latency = Latency { p50: Duration::ZERO, p99: Duration::ZERO, max: Duration::ZERO };
        let mut names = Vec::new();
        fields(&Report { latency: Some(latency), ..Report::default() }.json(), &mut names);
        let document = include_str!("../../../docs/metrics.md").split("`jit.peers` in the status").nth(1).unwrap();
        for name in names {
            assert!(document.contains(&format!("`{name}`")), "docs/metrics.md does not say what `{name}` is");
        }
    }

    #[test]
    fn what_is_lost_is_counted_by_where_and_what_waits_by_what_for() {
        let mut page = Page::default();
        let report = Report { knocks_lost: 1, events_lost: 2, captures_lost: 3, unwritten: 4, ..Report::default() };
        report.metrics(&mut page);
        let text = page.encode(Format::OpenMetrics).unwrap();
        for (place, count) in [("queue", 1), ("device", 2), ("socket", 3)] {
            assert!(text.contains(&format!("portway_jit_lost_total{{place=\"{place}\"}} {count}")), "{text}");
        }
        assert!(text.contains("portway_jit_queue{queue=\"stamps\"} 4"), "{text}");
        assert_eq!((&report.json()["queues"]["events_lost"], &report.json()["stamps_unwritten"]), (&json!(2), &json!(4)));
    }
}
