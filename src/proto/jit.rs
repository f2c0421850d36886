//! Peers just in time: a key costs nothing until its owner knocks.

mod config;
mod counters;
mod directory;
mod effect;
mod fair;
mod generations;
mod live;
mod look_ups;
mod refusal;
mod source;
mod steps;

pub use crate::model::Registered;
pub use config::Config;
pub use counters::{Counters, Sizes};
pub use effect::{Answer, Effect, Input, Peer, Reaped, Ticket};
pub use generations::Generations;
pub use live::Standing;
pub use refusal::Refusal;
pub use source::Source;

use crate::model::{PublicKey, Slot};
use crate::proto::rate::Bucket;
use crate::wire::wireguard::{Initiation, Mac1, Tai64n};
use fair::{Fair, Shares};
use live::Live;
use look_ups::LookUps;
use source::Buckets;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// All interfaces of one node.
///
/// ```text
///  datagram
///    | type, length                                          malformed
///    | mac1: one BLAKE2s                                     mac1
///    | seen before?                                          repeated
///    | bucket of the source: garbage it may send             source_rate
///    v
///  jobs, fair by source                                      backlog
///    | budget of steps, all sources together
///    v
///  Claim ------ first step: one X25519, by a worker -------> not_for_us
///    |
///    | which key?
///    +-- a peer's already, or of the configuration: prove it,
///    |   for the replay memory ----------------------------------------+
///    +-- unknown a moment ago                                unknown   |
///    +-- known, fresh ------------------------------------------------>+
///    +-- else wait, with whoever waits for the same key      crowded   |
///          |                                                           |
///          v                                                           |
///        LookUp --- so many at once, so many of a source --> unknown, unavailable
///          |                                                           |
///          | found, or no answer and a stale one                       |
///          v                                                           v
///        jobs again: Prove -- second step: one X25519 or a kept one -> forged
///          |
///          | timestamp greater than the key's last           replayed
///          v
///        Stamp, Install --Installed--> Initiate               full, failed
///          |
///          v
///        a peer ---- no sign of it for long, revoked, gone --> Reap
/// ```
///
/// On the right, the counters of those who get no further ([`Refusal`]). A packet costs constant time in each step
/// (a peer that comes or goes, the logarithm of their number), and everything that is remembered or waits is bounded by [`Config`].
///
/// **A peer's initiations are proved as well**, at the cost of two steps every two minutes, though its interface answers them: otherwise a recording of
/// one would be newer than what is remembered, and install the peer again after it has gone.
///
/// **The machine holds no secret.** `C` is what the first step leaves for the second.
///
/// Contract: feed every [`Input`] to [`Machine::handle`], then take all of [`Machine::next_effect`] and carry them out in order, then ask
/// [`Machine::poll_timeout`], which may have changed. [`Machine::handle_timeout`] may come early. Answer each `Claim`, `Prove` and `Install` once. An answer
/// for something that has ended meanwhile is ignored.
#[derive(Debug)]
pub struct Machine<C> {
    config: Config,
    /// Of each, by the keys that it is called by.
    interfaces: HashMap<Slot, Vec<Mac1>>,
    /// By `mac1`: as good as the whole.
    repeats: Generations<(Slot, [u8; 16]), ()>,
    sources: Buckets,
    steps: Bucket,
    /// When there is a step again, if one is wanted.
    step_due: Option<Instant>,
    /// Steps to be done.
    jobs: Fair<Job<C>>,
    /// First steps to be done.
    backlog: Shares,
    claiming: HashMap<Ticket, Knock>,
    proving: HashMap<Ticket, (Peer, Knock, Option<Known>)>,
    tickets: u64,
    waiting: Shares,
    look_ups: LookUps<Waiter<C>>,
    known: Generations<Peer, Known>,
    unknown: Generations<Peer, (Instant, Refusal)>,
    /// The last look-up failed.
    away: bool,
    /// Answers up to then are not fresh.
    distrusted: Option<Instant>,
    live: Live,
    /// Whom the configuration names.
    configured: HashMap<Slot, HashSet<PublicKey>>,
    stamps: Generations<Peer, Tai64n>,
    effects: VecDeque<Effect<C>>,
    pub counters: Counters,
}

/// An initiation with `mac1` right.
#[derive(Debug)]
struct Knock {
    slot: Slot,
    from: SocketAddr,
    source: Source,
    initiation: Arc<Initiation>,
}

/// One whose first step is done.
#[derive(Debug)]
struct Waiter<C> {
    knock: Knock,
    claim: C,
    /// None: of a peer that is installed, or not known yet.
    known: Option<Known>,
}

#[derive(Debug)]
enum Job<C> {
    Claim(Knock),
    Prove(Peer, Waiter<C>),
}

/// An answer of the directory, and when it came.
#[derive(Debug, Clone)]
struct Known {
    registered: Arc<Registered>,
    fetched: Instant,
    /// The directory has said that it is something else now.
    outdated: bool,
}

/// When to call [`Machine::handle_timeout`], at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// To spend what has come into the budget of steps.
    Step,
    /// To serve those who have waited for a fresh answer with a stale one.
    ServeStale,
    /// To give up a look-up.
    GiveUp,
    /// To look whether a peer still lives.
    Idle,
}

impl<C> Machine<C> {
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            interfaces: HashMap::new(),
            repeats: Generations::new(config.repeats),
            sources: Buckets::new(now, config.per_source, config.sources),
            steps: Bucket::new(now),
            step_due: None,
            jobs: Fair::default(),
            backlog: Shares::new(config.backlog),
            claiming: HashMap::new(),
            proving: HashMap::new(),
            tickets: 0,
            waiting: Shares::new(config.waiting),
            look_ups: LookUps::new(config.waiting),
            known: Generations::new(config.known),
            unknown: Generations::new(config.unknowns),
            away: false,
            distrusted: None,
            live: Live::new(config.idle),
            configured: HashMap::new(),
            stamps: Generations::new(config.stamps),
            effects: VecDeque::new(),
            counters: Counters::default(),
            config,
        }
    }

    /// From now on this interface's datagrams are looked at. Another key for one that is: what waits under the old one comes to nothing.
    pub fn serve(&mut self, slot: Slot, keys: &[PublicKey]) {
        self.interfaces.insert(slot, keys.iter().map(Mac1::new).collect());
    }

    /// No more. Its peers are no longer this machine's affair, and the shell's to remove; what was known of them serves if they come back.
    pub fn release(&mut self, slot: Slot) {
        self.interfaces.remove(&slot);
        self.configured.remove(&slot);
        for (peer, standing) in self.live.release(slot) {
            self.remember(peer, standing);
        }
    }

    /// Whoever configures this interface lets this peer in and out from now on: its initiations are proved, for the replay memory, and lead to nothing
    /// else. If it was one of this machine's, it is none any more, and stays as it is.
    pub fn configured(&mut self, peer: Peer) {
        self.live.remove(&peer);
        self.configured.entry(peer.slot).or_default().insert(peer.key);
    }

    /// No more: it may knock.
    pub fn configured_no_more(&mut self, peer: &Peer) {
        self.configured.get_mut(&peer.slot).map(|keys| keys.remove(&peer.key));
    }

    pub fn is_configured(&self, peer: &Peer) -> bool {
        self.configured.get(&peer.slot).is_some_and(|keys| keys.contains(&peer.key))
    }

    /// A peer that stands already: of a process before this one, or of the node that was Active until now.
    pub fn adopt(&mut self, peer: Peer, standing: Standing) {
        if !self.is_configured(&peer) {
            self.live.insert(peer, standing);
        }
    }

    /// What another node has learnt, or this one before it was restarted: initiations of this peer are older than that, or recordings. Whether it is news.
    pub fn learn(&mut self, peer: Peer, stamp: Tai64n) -> bool {
        match self.stamps.renew(&peer) {
            Some(last) if stamp <= *last => false,
            Some(last) => {
                *last = stamp;
                true
            }
            None if stamp == Tai64n::NEVER => false,
            None => {
                self.stamps.insert(peer, stamp);
                true
            }
        }
    }

    /// The latest initiation of a peer, as far as it is remembered.
    pub fn last(&self, peer: &Peer) -> Option<Tai64n> {
        self.stamps.get(peer).copied()
    }

    /// Anything may have changed in the directory: what it has said until now serves only while it says nothing, and whom it did not know may ask
    /// again. Feed [`Input::Changed`] for those of [`Machine::peers`] too, as fast as look-ups allow.
    pub fn distrust(&mut self, now: Instant) {
        self.distrusted = Some(now);
        self.unknown = Generations::new(self.config.unknowns);
    }

    /// The replay memory of an interface: what [`Machine::learn`] takes, for a node that was not told each [`Effect::Stamp`].
    pub fn stamps(&self, slot: Slot) -> impl Iterator<Item = (PublicKey, Tai64n)> {
        self.stamps.iter().filter(move |(peer, _)| peer.slot == slot).map(|(peer, stamp)| (peer.key, *stamp))
    }

    /// The peers that stand, or are about to.
    pub fn peers(&self) -> impl Iterator<Item = (&Peer, &Standing)> {
        self.live.iter()
    }

    pub fn peer(&self, peer: &Peer) -> Option<&Standing> {
        self.live.get(peer)
    }

    pub fn sizes(&self) -> Sizes {
        Sizes {
            sources: self.sources.len(),
            repeats: self.repeats.len(),
            backlog: self.backlog.total(),
            at_work: self.claiming.len() + self.proving.len(),
            waiting: self.waiting.total(),
            looking_up: self.look_ups.out(),
            asked: self.look_ups.len().max(self.look_ups.queued()),
            known: self.known.len(),
            unknown: self.unknown.len(),
            peers: self.live.len(),
            installing: self.live.installing(),
            stamps: self.stamps.len(),
            stamps_forgotten: self.stamps.crowded_out,
        }
    }

    /// Whether the last look-up failed.
    pub fn directory_is_away(&self) -> bool {
        self.away
    }

    pub fn handle(&mut self, now: Instant, input: Input<'_, C>) {
        let outcome = match input {
            Input::Datagram { slot, from, payload } => self.datagram(now, slot, from, payload),
            Input::Claimed { ticket, claim } => self.claimed(now, ticket, claim),
            Input::Answered { peer, answer } => self.answered(now, peer, answer),
            Input::Proved { ticket, stamp } => self.proved(now, ticket, stamp),
            Input::Installed { peer } => self.installed(peer),
            Input::InstallFailed { peer } if self.live.failed(&peer) => Err(Refusal::Failed),
            Input::InstallFailed { .. } => Ok(()),
            Input::Seen { peer, at } => {
                self.live.seen(&peer, at.min(now));
                Ok(())
            }
            Input::Gone { peer } => {
                self.gone(peer);
                Ok(())
            }
            Input::Changed { peer } => {
                self.changed(peer);
                Ok(())
            }
        };
        if let Err(why) = outcome {
            self.counters.refuse(why);
        }
        self.go_on(now);
    }

    /// Whatever is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(peer) = self.look_ups.out_of_patience(now) {
            if let Some(known) = self.recall(now, &peer).map(|(known, _)| known) {
                let waiters: Vec<_> = self.look_ups.take_waiters(&peer).collect();
                self.counters.served_stale += waiters.len() as u64;
                self.prove_all(now, peer, waiters, &known);
            }
        }
        while let Some(peer) = self.look_ups.overdue(now) {
            self.unanswered(now, peer);
        }
        while let Some((peer, standing)) = self.live.reap(now) {
            self.reap(peer, Reaped::Idle);
            self.remember(peer, standing);
        }
        self.go_on(now);
    }

    /// When to call [`Machine::handle_timeout`], and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let [serve_stale, give_up] = self.look_ups.deadlines();
        let timers = [
            (self.step_due, Timer::Step),
            (serve_stale, Timer::ServeStale),
            (give_up, Timer::GiveUp),
            (self.live.next_check(), Timer::Idle),
        ];
        timers.into_iter().filter_map(|(at, timer)| Some((at?, timer))).min_by_key(|(at, _)| *at)
    }

    pub fn next_effect(&mut self) -> Option<Effect<C>> {
        self.effects.pop_front()
    }

    fn installed(&mut self, peer: Peer) -> Result<(), Refusal> {
        if self.is_configured(&peer) {
            // It has become so meanwhile.
        } else if self.live.get(&peer).is_none() {
            self.reap(peer, Reaped::Stray);
        } else if let Some(endpoint) = self.live.installed(&peer) {
            self.counters.installed += 1;
            self.effects.push_back(Effect::Initiate { peer, endpoint });
        }
        Ok(())
    }

    fn gone(&mut self, peer: Peer) {
        if let Some(standing) = self.live.remove(&peer) {
            self.remember(peer, standing);
        }
    }

    fn reap(&mut self, peer: Peer, why: Reaped) {
        self.counters.reaped += 1;
        self.effects.push_back(Effect::Reap { peer, why });
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
