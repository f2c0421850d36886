//! What is counted of look-ups.

use crate::metrics::Page;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a look-up came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Found,
    /// No such key.
    Unknown,
    /// A host, but not one of this shard.
    Elsewhere,
    /// It would have inner addresses that are not the tenant's.
    OutOfRange,
    /// It would have more inner prefixes than the other candidates can be told of.
    TooMany,
    /// As known before, the directory being away or late.
    FromCache,
    Failed,
}

impl Outcome {
    const ALL: [Outcome; 7] =
        [Outcome::Found, Outcome::Unknown, Outcome::Elsewhere, Outcome::OutOfRange, Outcome::TooMany, Outcome::FromCache, Outcome::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Outcome::Found => "found",
            Outcome::Unknown => "unknown",
            Outcome::Elsewhere => "elsewhere",
            Outcome::OutOfRange => "out_of_range",
            Outcome::TooMany => "too_many",
            Outcome::FromCache => "from_cache",
            Outcome::Failed => "failed",
        }
    }
}

/// Upper bounds of the times that calls take, in microseconds.
const BOUNDS: [u64; 13] = [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];

#[derive(Debug, Default)]
pub struct Figures {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// Calls that had an answer, by the first bound that they kept; those that kept none last.
    within: [AtomicU64; BOUNDS.len() + 1],
    /// Of all of them, microseconds.
    took: AtomicU64,
}

impl Figures {
    pub fn came_to(&self, outcome: Outcome) {
        let place = Outcome::ALL.iter().position(|one| *one == outcome).unwrap_or_default();
        self.outcomes[place].fetch_add(1, Relaxed);
    }

    /// A call that had an answer.
    pub fn took(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|bound| time <= *bound).unwrap_or(BOUNDS.len());
        self.within[place].fetch_add(1, Relaxed);
        self.took.fetch_add(time, Relaxed);
    }

    pub fn status(&self) -> serde_json::Value {
        let outcomes =
            Outcome::ALL.iter().zip(&self.outcomes).map(|(outcome, count)| (outcome.as_str().to_owned(), json!(count.load(Relaxed))));
        outcomes.collect::<serde_json::Map<_, _>>().into()
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of years are exact enough")]
    pub fn metrics(&self, out: &mut Page) {
        for (outcome, count) in Outcome::ALL.iter().zip(&self.outcomes) {
            let help = "Look-ups of keys by what they came to";
            out.counter("portway_directory_look_ups", help, &[("outcome", outcome.as_str())], count.load(Relaxed));
        }
        let within = self.within.iter().map(|count| count.load(Relaxed));
        let (bounds, sum) = (BOUNDS.map(|us| us as f64 / 1e6), self.took.load(Relaxed) as f64 / 1e6);
        out.histogram("portway_directory_look_up_seconds", "How long answered calls for a key took", &[], bounds, within, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[test]
    fn times_are_counted_in_every_bound_that_they_keep() {
        let figures = Figures::default();
        [1, 1_000, 1_001, 60_000_000].into_iter().for_each(|micros| figures.took(Duration::from_micros(micros)));
        figures.came_to(Outcome::FromCache);
        let mut page = Page::default();
        figures.metrics(&mut page);
        let text = page.encode(Format::OpenMetrics).unwrap();
        for line in [
            "portway_directory_look_up_seconds_bucket{le=\"0.0005\"} 1",
            "portway_directory_look_up_seconds_bucket{le=\"0.001\"} 2",
            "portway_directory_look_up_seconds_bucket{le=\"0.0025\"} 3",
            "portway_directory_look_up_seconds_bucket{le=\"10.0\"} 3",
            "portway_directory_look_up_seconds_bucket{le=\"+Inf\"} 4",
            "portway_directory_look_up_seconds_count{} 4",
            "portway_directory_look_up_seconds_sum{} 60.002002",
            "portway_directory_look_ups_total{outcome=\"from_cache\"} 1",
            "portway_directory_look_ups_total{outcome=\"failed\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(figures.status()["from_cache"], 1);
    }
}
