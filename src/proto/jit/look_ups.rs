//! Questions to the directory: each key's once, however many ask; so many at once; and nobody's before everybody's.

use super::config::Config;
use super::effect::Peer;
use super::fair::{Fair, Rank, Shares};
use super::source::Source;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

/// `W`: who waits for an answer.
#[derive(Debug)]
pub struct LookUps<W> {
    asked: HashMap<Peer, Asked<W>>,
    /// A peer stands here once for each source that asked for it before it went out, so that none waits for another's turn.
    queue: Fair<Peer>,
    /// In the queue.
    places: Shares,
    out: usize,
    out_of: HashMap<Source, usize>,
    /// When waiting for a fresh answer ends; of those that are out.
    patience: BTreeSet<(Instant, Peer)>,
    /// When waiting for any answer ends; of those that are out.
    give_up: BTreeSet<(Instant, Peer)>,
}

#[derive(Debug)]
struct Asked<W> {
    /// One of each source, the latest.
    waiters: BTreeMap<Source, W>,
    out: Option<Out>,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    /// Whose turn it was.
    of: Source,
    patience: Instant,
    give_up: Instant,
    slow: bool,
}

impl<W> LookUps<W> {
    pub fn new(capacity: usize) -> Self {
        Self {
            asked: HashMap::new(),
            queue: Fair::default(),
            places: Shares::new(capacity),
            out: 0,
            out_of: HashMap::new(),
            patience: BTreeSet::new(),
            give_up: BTreeSet::new(),
        }
    }

    /// How many are out or wait.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    /// How many are out.
    pub fn out(&self) -> usize {
        self.out
    }

    /// How many places are taken in the queue.
    pub fn queued(&self) -> usize {
        self.places.total()
    }

    /// Sees that it is asked for. Whether there was room.
    pub fn ask(&mut self, peer: Peer, source: Source, rank: Rank) -> bool {
        let known = self.asked.get(&peer);
        let queued = known.is_some_and(|asked| asked.out.is_some() || asked.waiters.contains_key(&source));
        if queued {
            return true;
        }
        if !self.places.take(source) {
            return known.is_some();
        }
        self.queue.push(source, rank, peer);
        self.asked.entry(peer).or_insert_with(|| Asked { waiters: BTreeMap::new(), out: None });
        true
    }

    /// Waits for the answer. The waiter whose place this one takes, or this one itself if there is no room.
    pub fn wait(&mut self, peer: Peer, source: Source, rank: Rank, waiter: W) -> Result<Option<W>, W> {
        if !self.ask(peer, source, rank) {
            return Err(waiter);
        }
        match self.asked.get_mut(&peer) {
            Some(asked) => Ok(asked.waiters.insert(source, waiter)),
            None => Err(waiter),
        }
    }

    /// The next to go out, if one may.
    pub fn start(&mut self, now: Instant, config: &Config) -> Option<Peer> {
        while self.out < config.look_ups {
            let (of, peer) = self.queue.pop(|source| self.out_of.get(&source).is_none_or(|out| *out < config.look_ups_per_source))?;
            self.places.give_back(of);
            let Some(asked) = self.asked.get_mut(&peer).filter(|asked| asked.out.is_none()) else { continue };
            let (patience, give_up) = (now + config.serve_stale, now + config.give_up);
            asked.out = Some(Out { of, patience, give_up, slow: false });
            self.out += 1;
            *self.out_of.entry(of).or_default() += 1;
            self.patience.insert((patience, peer));
            self.give_up.insert((give_up, peer));
            return Some(peer);
        }
        None
    }

    /// It is answered: who has waited.
    pub fn end(&mut self, peer: &Peer) -> impl Iterator<Item = W> + use<W> {
        let asked = self.asked.remove(peer);
        if let Some(Out { of, patience, give_up, .. }) = asked.as_ref().and_then(|asked| asked.out) {
            self.patience.remove(&(patience, *peer));
            self.give_up.remove(&(give_up, *peer));
            self.out -= 1;
            if let Some(out) = self.out_of.get_mut(&of) {
                *out -= 1;
                if *out == 0 {
                    self.out_of.remove(&of);
                }
            }
            self.queue.release(of);
        }
        asked.map(|asked| asked.waiters).unwrap_or_default().into_values()
    }

    /// Who waits for it; it goes on.
    pub fn take_waiters(&mut self, peer: &Peer) -> impl Iterator<Item = W> + use<W> {
        self.asked.get_mut(peer).map(|asked| std::mem::take(&mut asked.waiters)).unwrap_or_default().into_values()
    }

    /// Whether it has been out for longer than anybody should wait who could be served otherwise.
    pub fn is_slow(&self, peer: &Peer) -> bool {
        self.asked.get(peer).and_then(|asked| asked.out).is_some_and(|out| out.slow)
    }

    /// One that has just become slow.
    pub fn out_of_patience(&mut self, now: Instant) -> Option<Peer> {
        let (_, peer) = self.patience.first().filter(|(at, _)| *at <= now).copied()?;
        self.patience.pop_first();
        if let Some(out) = self.asked.get_mut(&peer).and_then(|asked| asked.out.as_mut()) {
            out.slow = true;
        }
        Some(peer)
    }

    /// One to give up; [`LookUps::end`] does.
    pub fn overdue(&self, now: Instant) -> Option<Peer> {
        self.give_up.first().filter(|(at, _)| *at <= now).map(|(_, peer)| *peer)
    }

    /// When to look at [`LookUps::out_of_patience`], and at [`LookUps::overdue`]: not after.
    pub fn deadlines(&self) -> [Option<Instant>; 2] {
        [&self.patience, &self.give_up].map(|deadlines| deadlines.first().map(|(at, _)| *at))
    }
}
