//! What has come, and what became of it.

use crate::metrics::Page;
use crate::wire::webhook::{Novelty, Refusal};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Refusals that are none of a post's.
pub const UNKNOWN: &str = "unknown";
pub const WRONG_METHOD: &str = "wrong_method";

const ENTRANCES: [&str; 4] = ["alerts", "demand", "other", "sns"];
const RESULTS: [&str; 3] = ["again", "refused", "taken"];

#[derive(Debug, Default)]
pub struct Counters(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    posts: BTreeMap<(&'static str, &'static str), u64>,
    refused: BTreeMap<&'static str, u64>,
    /// Ends of alerts that were older than what fired.
    old: u64,
    /// Alerts that Alertmanager has left out of its notifications.
    truncated: u64,
    last_refusal: Option<String>,
}

impl Counters {
    pub fn take(&self, entrance: &'static str, novelty: Novelty) {
        let result = match novelty {
            Novelty::First => "taken",
            Novelty::Again => "again",
        };
        *self.locked().posts.entry((entrance, result)).or_default() += 1;
    }

    pub fn refuse(&self, entrance: &'static str, why: &'static str) {
        let mut counted = self.locked();
        *counted.posts.entry((entrance, "refused")).or_default() += 1;
        *counted.refused.entry(why).or_default() += 1;
    }

    pub fn refuse_for(&self, entrance: &'static str, refusal: &Refusal) {
        self.refuse(entrance, refusal.label());
        self.locked().last_refusal = Some(format!("{entrance}: {refusal}"));
    }

    /// A part of a post that counts otherwise.
    pub fn leave_out(&self, entrance: &'static str, refusal: &Refusal) {
        let mut counted = self.locked();
        *counted.refused.entry(refusal.label()).or_default() += 1;
        counted.last_refusal = Some(format!("{entrance}: {refusal}"));
    }

    pub fn old(&self, ends: usize) {
        self.locked().old += ends as u64;
    }

    pub fn truncated(&self, alerts: u64) {
        if alerts > 0 {
            tracing::warn!("Alertmanager has left {alerts} alerts out of a notification, which lapse here: raise its `max_alerts`");
            let mut counted = self.locked();
            counted.truncated = counted.truncated.saturating_add(alerts);
        }
    }

    pub fn status(&self) -> Value {
        let counted = self.locked();
        let sum = |wanted: &str| counted.posts.iter().filter(|((_, result), _)| *result == wanted).map(|(_, count)| count).sum::<u64>();
        json!({ "taken": sum("taken"), "again": sum("again"), "refused": sum("refused"), "last_refusal": counted.last_refusal })
    }

    pub fn metrics(&self, page: &mut Page) {
        let counted = self.locked();
        for (entrance, result) in ENTRANCES.into_iter().flat_map(|entrance| RESULTS.map(|result| (entrance, result))) {
            let count = counted.posts.get(&(entrance, result)).copied().unwrap_or_default();
            page.counter("portway_webhook_posts", "What was posted", &[("entrance", entrance), ("result", result)], count);
        }
        for why in Refusal::LABELS.into_iter().chain([UNKNOWN, WRONG_METHOD]) {
            let count = counted.refused.get(why).copied().unwrap_or_default();
            page.counter("portway_webhook_refused", "Posts that do not count, by reason", &[("reason", why)], count);
        }
        page.counter("portway_webhook_old_ends", "Ends of alerts that are older than what fires", &[], counted.old);
        page.counter("portway_webhook_truncated_alerts", "Alerts that Alertmanager has left out", &[], counted.truncated);
    }

    fn locked(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
