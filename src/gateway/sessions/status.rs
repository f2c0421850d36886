//! What the thread tells of itself.

use crate::metrics::Page;
use crate::model::{Lane, PublicKey, TenantShard};
use crate::plan::gateway::ends::Heard;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Everything but `asleep` only ever grows.
#[derive(Debug, Default)]
pub struct Status {
    /// Peers that have not answered yet.
    asleep: AtomicUsize,
    called: AtomicU64,
    called_again: AtomicU64,
    answered: AtomicU64,
    heard: Mutex<Heard>,
}

impl Status {
    pub(super) fn set_asleep(&self, peers: usize) {
        self.asleep.store(peers, Relaxed);
    }

    /// By which interface the peers of a shard were heard.
    pub(super) fn set_heard(&self, of: &TenantShard, lanes: BTreeMap<PublicKey, Lane>) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.is_empty() {
            heard.remove(of);
        } else {
            heard.insert(of.clone(), lanes);
        }
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn called(&self, again: bool) {
        if again { &self.called_again } else { &self.called }.fetch_add(1, Relaxed);
    }

    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }

    pub fn show(&self) -> serde_json::Value {
        let [called, again, answered] = [&self.called, &self.called_again, &self.answered].map(|count| count.load(Relaxed));
        json!({ "called": called, "called_again": again, "answered": answered, "waiting_for": self.asleep.load(Relaxed) })
    }

    pub fn metrics(&self, out: &mut Page) {
        let help = "Handshakes begun with peers of shards that came here";
        out.counter("portway_wireguard_calls", help, &[("attempt", "first")], self.called.load(Relaxed));
        out.counter("portway_wireguard_calls", help, &[("attempt", "again")], self.called_again.load(Relaxed));
        out.counter("portway_wireguard_calls_answered", "Peers that answered", &[], self.answered.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "peers of a node are fewer than 2^52")]
        out.gauge("portway_wireguard_peers_asleep", "Peers that were called and have not answered", &[], self.asleep.load(Relaxed) as f64);
    }
}
