//! What the directory has said, and what serves while it says nothing.

use super::fair::Rank;
use super::{Answer, Effect, Known, Machine, Peer, Reaped, Refusal, Standing, Waiter};
use std::time::Instant;

impl<C> Machine<C> {
    pub(super) fn answered(&mut self, now: Instant, peer: Peer, answer: Answer) -> Result<(), Refusal> {
        let registered = match answer {
            Answer::Found(registered) => registered,
            Answer::Unknown => {
                self.away = false;
                self.unknown.insert(peer, (now + self.config.unknown, Refusal::Unknown));
                self.known.remove(&peer);
                if self.live.remove(&peer).is_some() {
                    self.reap(peer, Reaped::Revoked);
                }
                self.refuse_all(&peer, Refusal::Unknown);
                return Ok(());
            }
            Answer::Failed => {
                self.unanswered(now, peer);
                return Ok(());
            }
        };
        self.away = false;
        self.unknown.remove(&peer);
        let known = Known { registered, fetched: now, outdated: false };
        if self.live.registered(&peer, now, &known.registered) {
            self.effects.push_back(Effect::Update { peer, registered: known.registered.clone() });
        }
        let waiters: Vec<_> = self.look_ups.end(&peer).collect();
        self.prove_all(now, peer, waiters, &known);
        self.known.insert(peer, known);
        Ok(())
    }

    /// The directory has said nothing, or nothing that can be understood.
    pub(super) fn unanswered(&mut self, now: Instant, peer: Peer) {
        self.away = true;
        self.counters.failed_look_ups += 1;
        match self.recall(now, &peer) {
            Some((known, _)) => {
                let waiters: Vec<_> = self.look_ups.end(&peer).collect();
                self.counters.served_stale += waiters.len() as u64;
                self.prove_all(now, peer, waiters, &known);
            }
            None => {
                self.unknown.insert(peer, (now + self.config.retry, Refusal::Unavailable));
                self.refuse_all(&peer, Refusal::Unavailable);
            }
        }
    }

    pub(super) fn changed(&mut self, peer: Peer) {
        self.unknown.remove(&peer);
        if let Some(known) = self.known.renew(&peer) {
            known.outdated = true;
        }
        if let Some(standing) = self.live.get(&peer) {
            self.look_ups.ask(peer, standing.endpoint.into(), Rank::Turn);
        }
    }

    /// What the directory said of it, if it can still serve, and whether it is fresh.
    pub(super) fn recall(&self, now: Instant, peer: &Peer) -> Option<(Known, bool)> {
        let known = self.known.get(peer)?;
        let age = now.saturating_duration_since(known.fetched);
        let trusted = !known.outdated && self.distrusted.is_none_or(|at| known.fetched > at);
        (age < self.config.stale).then(|| (known.clone(), age < self.config.fresh && trusted))
    }

    /// It is no peer any more; its answer may serve again.
    pub(super) fn remember(&mut self, peer: Peer, standing: Standing) {
        let outdated = self.known.get(&peer).is_some_and(|known| known.outdated);
        self.known.insert(peer, Known { registered: standing.registered, fetched: standing.fetched, outdated });
    }

    pub(super) fn prove_all(&mut self, now: Instant, peer: Peer, waiters: Vec<Waiter<C>>, known: &Known) {
        for waiter in waiters {
            self.enqueue_proof(now, peer, Waiter { known: Some(known.clone()), ..waiter });
        }
    }

    pub(super) fn refuse_all(&mut self, peer: &Peer, why: Refusal) {
        for waiter in self.look_ups.end(peer) {
            self.waiting.give_back(waiter.knock.source);
            self.counters.refuse(why);
        }
    }
}
