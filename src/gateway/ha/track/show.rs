//! What is shown of tracking: `status` and metrics.

use super::{Id, Seen, Tracking, lock};
use crate::metrics::Page;
use crate::model::TenantShard;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

impl Tracking {
    /// What a shard depends on: `up` is null until it is known.
    pub fn status(&self, of: &TenantShard, now: Instant) -> Value {
        let live = lock(&self.live);
        let view = |id: &Id| {
            let (item, seen) = (live.tracker.item(id)?, live.seen.get(id));
            let up = item.standing.is_up();
            Some((up, now.saturating_duration_since(item.since), seen.and_then(|seen| seen.error.clone())))
        };
        let all = live.tracker.costs(of).filter_map(|(id, cost)| {
            let (up, since, error) = view(id)?;
            Some(json!({ "what": id.what, "up": up, "since_s": since.as_secs_f64(), "last_error": error, "cost": cost }))
        });
        all.collect()
    }

    pub fn metrics(&self, out: &mut Page) {
        let live = lock(&self.live);
        for (id, item) in live.tracker.items() {
            let labels = [("tenant", id.tenant.as_ref().map_or("", |tenant| tenant.as_str())), ("what", id.what.as_str())];
            // Neither, while it is not known.
            if let Some(up) = item.standing.is_up() {
                let help = "1 while something that shards depend on is up, 0 while it is down";
                out.gauge("portway_track_up", help, &labels, f64::from(u8::from(up)));
            }
            let took = live.seen.get(id).and_then(|Seen { took, .. }| *took);
            if let Some(took) = took.as_ref().map(Duration::as_secs_f64) {
                out.gauge("portway_track_probe_seconds", "How long the last check took", &labels, took);
            }
        }
    }
}
