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
    /// Of shards that come here: until the actor knows them, who goes through its orders in their order.
    expected: Mutex<Vec<Arc<(TenantShard, Peers)>>>,
    peers: Mutex<BTreeMap<TenantShard, Arc<Peers>>>,
    report: Mutex<Report>,
    latencies: Mutex<Latencies>,
}

impl Board {
    /// The peers of a shard: those that stand at its interface, and those that are about to be put there or taken from it. Whoever removes
    /// what should not be there reads the interface first and this afterwards.
    pub fn peers(&self, of: &TenantShard) -> Arc<Peers> {
        self.all().remove(of).unwrap_or_default()
    }

    /// Those of all shards; as [`Board::peers`].
    pub fn all(&self) -> BTreeMap<TenantShard, Arc<Peers>> {
        // In this order: the actor puts them there before they are expected no more.
        let expected = lock(&self.expected).clone();
        let mut all = lock(&self.peers).clone();
        for (of, peers) in expected.iter().map(Arc::as_ref) {
            let there = Arc::make_mut(all.entry(of.clone()).or_default());
            peers.iter().for_each(|(key, allowed)| _ = there.entry(*key).or_insert_with(|| allowed.clone()));
        }
        all
    }

    /// Those of a shard that are about to be adopted, until what this answers is dropped.
    pub(super) fn expect(board: &Arc<Self>, of: &TenantShard, peers: Peers) -> Expected {
        let expected = Arc::new((of.clone(), peers));
        lock(&board.expected).push(expected.clone());
        Expected { board: board.clone(), expected }
    }

    /// How many there are in each shard.
    pub fn counts(&self) -> BTreeMap<TenantShard, usize> {
        lock(&self.peers).iter().map(|(of, peers)| (of.clone(), peers.len())).collect()
    }

    pub fn report(&self) -> Report {
        let mut report = lock(&self.report).clone();
        let latencies = lock(&self.latencies);
        (report.latency, report.admissions) = (latencies.summary(), latencies.all);
        drop(latencies);
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

/// Peers that are on the board, though the actor does not know them yet.
#[derive(Debug)]
pub struct Expected {
    board: Arc<Board>,
    expected: Arc<(TenantShard, Peers)>,
}

impl Drop for Expected {
    fn drop(&mut self) {
        lock(&self.board.expected).retain(|expected| !Arc::ptr_eq(expected, &self.expected));
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

    /// The shard has gone, and is back before the actor knows of either.
    #[test]
    fn who_is_expected_stays_on_the_board_whatever_becomes_of_the_others() {
        let (board, of): (Arc<Board>, TenantShard) = (Arc::default(), "acme/1".parse().unwrap());
        let keys = [1, 2].map(|n| PrivateKey::new([n; 32]).public());
        let peers = |n: usize| Peers::from([(keys[n], vec![])]);
        let (first, second) = (Board::expect(&board, &of, peers(0)), Board::expect(&board, &of, peers(1)));
        board.put(&of, keys[0], vec![]);
        drop(first);
        board.clear(&of);
        assert_eq!(board.peers(&of).keys().collect::<Vec<_>>(), [&keys[1]]);
        board.put(&of, keys[1], vec![]);
        drop(second);
        assert_eq!(board.all()[&of].keys().collect::<Vec<_>>(), [&keys[1]]);
        board.take(&of, &keys[1]);
        assert!(board.peers(&of).is_empty());
    }
}
