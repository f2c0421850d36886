//! A queue in which nobody who sends much is in the way of one who sends little.

use super::source::Source;
use std::collections::{HashMap, VecDeque};

/// Sources take turns; one whose first thing is of a lower rank goes before. Of those that have been served and still have something, none goes
/// before who comes new (much as in RFC 8290 section 4.2). How much waits is bounded by [`Shares`].
#[derive(Debug)]
pub struct Fair<T> {
    lines: HashMap<Source, Line<T>>,
    /// Sources with something waiting, by rank.
    turns: [VecDeque<Source>; 3],
}

/// Where a source that had nothing waiting takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// What is begun, of a source that has done nothing wrong.
    Begun,
    /// Of a source that has done nothing wrong.
    Clean,
    /// With those that have been served before.
    Turn,
}

#[derive(Debug)]
struct Line<T> {
    items: VecDeque<T>,
    /// Takes no turns until it is released.
    parked: bool,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), turns: Default::default() }
    }
}

impl<T> Fair<T> {
    /// Whether somebody's turn may come; not if all are parked.
    pub fn has_next(&self) -> bool {
        self.turns.iter().any(|turns| !turns.is_empty())
    }

    pub fn push(&mut self, source: Source, rank: Rank, item: T) {
        let line = self.lines.entry(source).or_insert_with(|| {
            self.turns[rank as usize].push_back(source);
            Line { items: VecDeque::new(), parked: false }
        });
        line.items.push_back(item);
    }

    /// The next of a source that `may`. One that may not is passed over until [`Fair::release`].
    pub fn pop(&mut self, mut may: impl FnMut(Source) -> bool) -> Option<(Source, T)> {
        while let Some(source) = self.turns.iter_mut().find_map(VecDeque::pop_front) {
            let Some(line) = self.lines.get_mut(&source) else { continue };
            if !may(source) {
                line.parked = true;
                continue;
            }
            let item = line.items.pop_front();
            if line.items.is_empty() {
                self.lines.remove(&source);
            } else {
                self.turns[Rank::Turn as usize].push_back(source);
            }
            if let Some(item) = item {
                return Some((source, item));
            }
        }
        None
    }

    /// It may again.
    pub fn release(&mut self, source: Source) {
        if let Some(line) = self.lines.get_mut(&source)
            && std::mem::take(&mut line.parked)
        {
            self.turns[Rank::Turn as usize].push_back(source);
        }
    }
}

/// How many of a limited number of places each source holds: at most as many as are free beyond. Of 64 sources that want all there are, each gets a
/// 65th, and one 65th is left for whoever comes next.
#[derive(Debug)]
pub struct Shares {
    held: HashMap<Source, usize>,
    total: usize,
    capacity: usize,
}

impl Shares {
    pub fn new(capacity: usize) -> Self {
        Self { held: HashMap::new(), total: 0, capacity }
    }

    pub fn take(&mut self, source: Source) -> bool {
        let held = self.held.get(&source).copied().unwrap_or(0);
        let granted = held < self.capacity.saturating_sub(self.total);
        if granted {
            self.held.insert(source, held + 1);
            self.total += 1;
        }
        granted
    }

    pub fn give_back(&mut self, source: Source) {
        if let Some(held) = self.held.get_mut(&source) {
            *held -= 1;
            self.total -= 1;
            if *held == 0 {
                self.held.remove(&source);
            }
        }
    }

    pub fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests;
