//! What the actor tells of itself: read by the reconciler, `status` and metrics.

use super::report::{Latencies, Report};
use crate::model::{PublicKey, TenantShard};
use crate::plan::gateway::Admitted;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The peers of a shard, and the inner addresses of each.
pub type Peers = Admitted;

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

    /// Those of all shards; as [`Board::peers`].
    pub fn all(&self) -> BTreeMap<TenantShard, Arc<Peers>> {
        lock(&self.peers).clone()
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

    /// What was there for it before.
    pub(super) fn put(&self, of: &TenantShard, key: PublicKey, allowed: Vec<IpNet>) -> Option<Vec<IpNet>> {
        let mut all = lock(&self.peers);
        match all.get_mut(of) {
            Some(peers) => Arc::make_mut(peers).insert(key, allowed),
            None => {
                all.insert(of.clone(), Arc::new(Peers::from([(key, allowed)])));
                None
            }
        }
    }

    pub(super) fn take(&self, of: &TenantShard, key: &PublicKey) -> Option<Vec<IpNet>> {
        Arc::make_mut(lock(&self.peers).get_mut(of)?).remove(key)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;

    #[test]
    fn what_a_reader_holds_does_not_change_under_it() {
        let (board, of): (Board, TenantShard) = (Board::default(), "acme/1".parse().unwrap());
        let keys = [1, 2].map(|n| PrivateKey::new([n; 32]).public());
        assert!(board.peers(&of).is_empty());
        board.put(&of, keys[0], vec!["10.64.0.1/32".parse().unwrap()]);
        let before = board.peers(&of);
        board.put(&of, keys[1], vec![]);
        board.take(&of, &keys[0]);
        assert_eq!(before.keys().collect::<Vec<_>>(), [&keys[0]]);
        assert_eq!(board.peers(&of).keys().collect::<Vec<_>>(), [&keys[1]]);
        assert_eq!(board.counts()[&of], 1);
        board.clear(&of);
        assert_eq!((board.peers(&of).len(), board.counts().len()), (0, 0));
    }
}
