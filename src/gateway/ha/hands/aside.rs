//! Deeds of shards that wait for their tunnels, while everything else goes on.
//!
//! In a planned move the node before goes on forwarding for longer ([`FORWARD_AFTER_HANDOVER`](crate::proto::vrrp::FORWARD_AFTER_HANDOVER)), and what came to a
//! tunnel that does not know its peers yet would be lost.

use super::deed::Deed;
use crate::gateway::sessions::Coming;
use crate::model::TenantShard;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For so long a shard waits at most: less than what the routers take for hands that are stuck.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Aside(BTreeMap<TenantShard, Waiting>);

#[derive(Debug)]
struct Waiting {
    tunnels: Coming,
    until: Instant,
    /// In their order.
    deeds: Vec<Deed>,
}

impl Aside {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, of: &TenantShard) -> bool {
        self.0.contains_key(of)
    }

    /// Deeds of this shard wait from now on.
    pub fn begin(&mut self, now: Instant, of: TenantShard, tunnels: Coming) {
        self.0.entry(of).or_insert(Waiting { tunnels, until: now + PATIENCE, deeds: Vec::new() });
    }

    /// What is to be done now: this deed, unless its shard waits. One that goes waits no more.
    pub fn put(&mut self, deed: Deed) -> Vec<Deed> {
        let Some(waiting) = deed.of().and_then(|of| self.0.get_mut(of)) else { return vec![deed] };
        let (goes, of) = (matches!(deed, Deed::Release { .. } | Deed::StopAnswering { .. }), deed.of().cloned());
        waiting.deeds.push(deed);
        of.filter(|_| goes).and_then(|of| self.0.remove(&of)).map(|waiting| in_order(waiting.deeds)).unwrap_or_default()
    }

    /// What is to be done of shards whose tunnels are ready, or have been waited for long enough.
    pub fn ready(&mut self, now: Instant) -> Vec<Deed> {
        let is_over = |waiting: &Waiting| now >= waiting.until || waiting.tunnels.wait(Duration::ZERO);
        let over: Vec<TenantShard> = self.0.iter().filter(|(_, waiting)| is_over(waiting)).map(|(of, _)| of.clone()).collect();
        over.iter().filter_map(|of| self.0.remove(of)).flat_map(|waiting| in_order(waiting.deeds)).collect()
    }
}

/// What has waited, with the lease that it has by now instead of those that it had: a shorter one would end what stands.
fn in_order(mut deeds: Vec<Deed>) -> Vec<Deed> {
    let latest = deeds.iter().filter_map(|deed| match deed {
        Deed::Lease { until, .. } | Deed::Take { until, .. } => Some(*until),
        _ => None,
    });
    let Some(latest) = latest.max() else { return deeds };
    for deed in &mut deeds {
        if let Deed::Take { until, .. } | Deed::Lease { until, .. } = deed {
            *until = latest;
        }
    }
    deeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    const LEASE: Duration = Duration::from_millis(250);

    fn of(name: &str) -> TenantShard {
        name.parse().unwrap()
    }

    fn take(now: Instant) -> Deed {
        Deed::Take { of: of("acme/1"), until: now + LEASE, former: Some([10, 9, 0, 1].into()) }
    }

    fn lease(name: &str, until: Instant) -> Deed {
        Deed::Lease { of: of(name), until }
    }

    /// The deeds in short: what each is, and until when after `now`.
    fn shown(now: Instant, deeds: &[Deed]) -> Vec<(&'static str, Option<Duration>)> {
        let show = |deed: &Deed| match deed {
            Deed::Take { until, .. } => ("take", Some(*until - now)),
            Deed::Lease { until, .. } => ("lease", Some(*until - now)),
            Deed::Release { .. } => ("release", None),
            Deed::Announce { .. } => ("announce", None),
            _ => ("other", None),
        };
        deeds.iter().map(show).collect()
    }

    #[test]
    fn what_waits_comes_in_its_order_with_the_lease_that_it_has_by_then() {
        let (now, mut aside, (done, ready)) = (Instant::now(), Aside::default(), sync_channel(1));
        aside.begin(now, of("acme/1"), Coming::of(ready));
        assert!(aside.put(take(now)).is_empty());
        let announce = Deed::Announce { of: of("acme/1"), burst: 5, why: crate::proto::vrrp::Announced::Promoted };
        assert!(aside.put(announce).is_empty());
        assert!(aside.put(lease("acme/1", now + 2 * LEASE)).is_empty());
        assert_eq!(shown(now, &aside.put(lease("acme/2", now + LEASE))), [("lease", Some(LEASE))], "another's does not wait");
        assert!(aside.ready(now).is_empty());
        drop(done);
        assert_eq!(shown(now, &aside.ready(now)), [("take", Some(2 * LEASE)), ("announce", None), ("lease", Some(2 * LEASE))]);
        assert!(aside.is_empty());
    }

    #[test]
    fn nothing_waits_for_ever_and_what_goes_does_not_wait() {
        let (now, mut aside, (_done, ready)) = (Instant::now(), Aside::default(), sync_channel(1));
        aside.begin(now, of("acme/1"), Coming::of(ready));
        aside.put(take(now));
        assert!(aside.ready(now + PATIENCE - Duration::from_millis(1)).is_empty());
        assert_eq!(shown(now, &aside.ready(now + PATIENCE)), [("take", Some(LEASE))]);

        let (_done, ready) = sync_channel(1);
        aside.begin(now, of("acme/1"), Coming::of(ready));
        aside.put(take(now));
        let release = Deed::Release { of: of("acme/1"), taken: true };
        assert_eq!(shown(now, &aside.put(release)), [("take", Some(LEASE)), ("release", None)]);
        assert!(aside.is_empty());
    }
}
