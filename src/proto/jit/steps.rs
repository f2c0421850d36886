//! An initiation's way from the network to its proof.

use super::fair::Rank;
use super::{Effect, Job, Knock, Machine, Peer, Refusal, Source, Standing, Ticket, Waiter};
use crate::model::{PublicKey, Slot};
use crate::wire::wireguard::{Message, Tai64n, classify};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

impl<C> Machine<C> {
    pub(super) fn datagram(&mut self, now: Instant, slot: Slot, from: SocketAddr, payload: &[u8]) -> Result<(), Refusal> {
        let Ok(Message::Initiation(initiation)) = classify(payload) else { return Err(Refusal::Malformed) };
        let keys = self.interfaces.get(&slot).ok_or(Refusal::NoInterface)?;
        if !keys.iter().any(|mac1| mac1.is_right(&initiation)) {
            return Err(Refusal::Mac1);
        }
        let mark = (slot, initiation.mac1());
        if self.repeats.get(&mark).is_some() {
            return Err(Refusal::Repeated);
        }
        let source = Source::from(from);
        if !self.sources.take(now, source) {
            return Err(Refusal::SourceRate);
        }
        if !self.backlog.take(source) {
            return Err(Refusal::Backlog);
        }
        let rank = self.rank(now, source, Rank::Clean);
        self.jobs.push(source, rank, Job::Claim(Knock { slot, from, source, initiation: Arc::new(initiation) }));
        self.repeats.insert(mark, ());
        Ok(())
    }

    pub(super) fn claimed(&mut self, now: Instant, ticket: Ticket, claim: Option<(PublicKey, C)>) -> Result<(), Refusal> {
        let Some(knock) = self.claiming.remove(&ticket) else { return Ok(()) };
        let (key, claim) = claim.ok_or(Refusal::NotForUs)?;
        let (peer, source) = (Peer { slot: knock.slot, key }, knock.source);
        if !self.interfaces.contains_key(&peer.slot) {
            return Err(Refusal::NoInterface);
        }
        let stands = self.live.get(&peer).is_some() || self.is_configured(&peer);
        if let Some((until, why)) = self.unknown.get(&peer)
            && now < *until
            && !stands
        {
            return Err(*why);
        }
        let known = if stands { None } else { self.recall(now, &peer) };
        let hurry = self.away || self.look_ups.is_slow(&peer);
        let serves = stands || known.as_ref().is_some_and(|(_, fresh)| *fresh || hurry);
        if !self.waiting.take(source) {
            return Err(Refusal::Crowded);
        }
        let rank = self.rank(now, source, Rank::Clean);
        if serves {
            if known.as_ref().is_some_and(|(_, fresh)| !fresh) {
                self.counters.served_stale += 1;
                self.look_ups.ask(peer, source, rank);
            }
            self.enqueue_proof(now, peer, Waiter { knock, claim, known: known.map(|(known, _)| known) });
            return Ok(());
        }
        match self.look_ups.wait(peer, source, rank, Waiter { knock, claim, known: None }) {
            Ok(None) => Ok(()),
            Ok(Some(former)) => self.refuse(&former.knock, Refusal::Overtaken),
            Err(waiter) => self.refuse(&waiter.knock, Refusal::Crowded),
        }
    }

    pub(super) fn proved(&mut self, now: Instant, ticket: Ticket, stamp: Option<Tai64n>) -> Result<(), Refusal> {
        let Some((peer, knock, known)) = self.proving.remove(&ticket) else { return Ok(()) };
        self.waiting.give_back(knock.source);
        let stamp = stamp.ok_or(Refusal::Forged)?;
        if self.stamps.get(&peer).is_some_and(|last| stamp <= *last) {
            return Err(Refusal::Replayed);
        }
        self.sources.give_back(knock.source);
        self.learn(peer, stamp);
        self.effects.push_back(Effect::Stamp { peer, stamp });
        if self.is_configured(&peer) {
            self.counters.configured += 1;
            return Ok(());
        }
        if self.live.get(&peer).is_some() {
            self.live.renewed(&peer, now, knock.from);
            self.counters.renewed += 1;
            return Ok(());
        }
        if !self.interfaces.contains_key(&peer.slot) {
            return Err(Refusal::NoInterface);
        }
        // It may have been a peer when this went out, and be none any more.
        let known = known.or_else(|| self.recall(now, &peer).map(|(known, _)| known)).ok_or(Refusal::Unavailable)?;
        if self.live.len() >= self.config.peers {
            return Err(Refusal::Full);
        }
        let (endpoint, registered) = (knock.from, known.registered);
        self.live.insert(peer, Standing { endpoint, registered: registered.clone(), fetched: known.fetched, seen: now, installing: true });
        self.effects.push_back(Effect::Install { peer, endpoint, registered, initiation: knock.initiation });
        Ok(())
    }

    pub(super) fn go_on(&mut self, now: Instant) {
        while let Some(peer) = self.look_ups.start(now, &self.config) {
            self.counters.look_ups += 1;
            self.effects.push_back(Effect::LookUp { peer });
        }
        self.step_due = None;
        while self.claiming.len() + self.proving.len() < self.config.at_work && self.jobs.has_next() {
            let due = self.steps.ready(now, self.config.steps);
            if due > now {
                self.step_due = Some(due);
                return;
            }
            let ticket = Ticket(self.tickets);
            let done = match self.jobs.pop(|_| true) {
                Some((source, Job::Claim(knock))) => {
                    self.backlog.give_back(source);
                    self.claim(ticket, knock)
                }
                Some((_, Job::Prove(peer, waiter))) => self.prove(ticket, peer, waiter),
                None => return,
            };
            match done {
                Ok(()) => {
                    self.tickets += 1;
                    self.steps.take(now, self.config.steps);
                }
                Err(why) => self.counters.refuse(why),
            }
        }
    }

    fn claim(&mut self, ticket: Ticket, knock: Knock) -> Result<(), Refusal> {
        if !self.interfaces.contains_key(&knock.slot) {
            return Err(Refusal::NoInterface);
        }
        self.counters.claims += 1;
        self.effects.push_back(Effect::Claim { ticket, slot: knock.slot, initiation: knock.initiation.clone() });
        self.claiming.insert(ticket, knock);
        Ok(())
    }

    fn prove(&mut self, ticket: Ticket, peer: Peer, Waiter { knock, claim, known }: Waiter<C>) -> Result<(), Refusal> {
        if !self.interfaces.contains_key(&knock.slot) {
            return self.refuse(&knock, Refusal::NoInterface);
        }
        self.counters.proofs += 1;
        self.effects.push_back(Effect::Prove { ticket, peer, claim });
        self.proving.insert(ticket, (peer, knock, known));
        Ok(())
    }

    /// One that held a place among those who wait.
    fn refuse(&mut self, knock: &Knock, why: Refusal) -> Result<(), Refusal> {
        self.waiting.give_back(knock.source);
        Err(why)
    }

    pub(super) fn enqueue_proof(&mut self, now: Instant, peer: Peer, waiter: Waiter<C>) {
        let source = waiter.knock.source;
        self.jobs.push(source, self.rank(now, source, Rank::Begun), Job::Prove(peer, waiter));
    }

    fn rank(&self, now: Instant, source: Source, clean: Rank) -> Rank {
        if self.sources.is_clean(now, source) { clean } else { Rank::Turn }
    }
}
