//! What the actor tells of itself: read by the reconciler, `status` and metrics.

use super::report::{Latencies, Report};
use crate::model::{PublicKey, TenantShard};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The peers of a shard, and the inner addresses of each.
pub type Peers = BTreeMap<PublicKey, Vec<IpNet>>;

/// Locks are held for a copy of a pointer only, or of a page of numbers.
#[derive(Debug, Default)]
pub struct Board {
    peers: Mutex<BTreeMap<TenantShard, Arc<Peers>>>,
    report: Mutex<Report>,
    latencies: Mutex<Latencies>,
}

impl Board {
    /// The peers of a shard: those that stand at its interface, and those that are about to be put there or taken from it. Whoever removes
    /// what should not be there reads the interface first and this afterwards.
    pub fn peers(&self, of: &TenantShard) -> Arc<Peers> {
        lock(&self.peers).get(of).cloned().unwrap_or_default()
    }

    /// How many there are in each shard.
    pub fn counts(&self) -> BTreeMap<TenantShard, usize> {
        lock(&self.peers).iter().map(|(of, peers)| (of.clone(), peers.len())).collect()
    }

    pub fn report(&self) -> Report {
        let mut report = lock(&self.report).clone();
        report.latency = lock(&self.latencies).summary();
        report
    }

    pub(super) fn put(&self, of: &TenantShard, key: PublicKey, allowed: Vec<IpNet>) {
        let mut all = lock(&self.peers);
        match all.get_mut(of) {
            Some(peers) => _ = Arc::make_mut(peers).insert(key, allowed),
            None => _ = all.insert(of.clone(), Arc::new(Peers::from([(key, allowed)]))),
        }
    }

    pub(super) fn take(&self, of: &TenantShard, key: &PublicKey) {
        if let Some(peers) = lock(&self.peers).get_mut(of) {
            Arc::make_mut(peers).remove(key);
        }
    }

    pub(super) fn clear(&self, of: &TenantShard) {
        // Dropped outside of the lock: it may be long.
        let gone = lock(&self.peers).remove(of);
        drop(gone);
    }

    pub(super) fn publish(&self, report: Report) {
        *lock(&self.report) = report;
    }

    pub(super) fn took(&self, latency: std::time::Duration) {
        lock(&self.latencies).add(latency);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves what is in it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
