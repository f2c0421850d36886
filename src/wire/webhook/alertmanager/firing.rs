//! The alerts that fire now, and how many nodes they ask for.

use super::{Ask, Fingerprint, Notification, State};
use crate::wire::webhook::Refusal;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

/// How long an alert counts after it was last heard of, unless the configuration says otherwise: an hour longer than Alertmanager
/// takes to repeat itself (`repeat_interval`, 4 h if nothing is written).
pub const LASTS: Duration = Duration::from_secs(5 * 3600);

/// Changes of the number of nodes that are remembered.
const CHANGES: usize = 256;

/// What fires. A set: an alert that is heard of again changes nothing, and the end of one takes away what it asked for.
///
/// "One more" is one more than there were when the alert began to fire, by the history that [`Firing::capacity`] is told. So it asks for the same
/// number as long as it fires, however often it is sent and however many nodes there are by now; several such alerts of one moment ask for one
/// node together. If that one node does not help, the alert goes on to fire and asks for no other: for more, write `portway_nodes`, or rules for
/// more than one height of load. An alert that began before the history (this process began later) asks for what there was in the beginning:
/// that nothing is taken away, as nobody knows whether its node is there already.
#[derive(Debug)]
pub struct Firing {
    lasts: Duration,
    limit: usize,
    alerts: BTreeMap<Fingerprint, Kept>,
    /// The number of nodes from each time on; the oldest first.
    history: VecDeque<(SystemTime, u32)>,
}

#[derive(Debug)]
struct Kept {
    name: String,
    starts_at: SystemTime,
    ask: Ask,
    /// None as long as nobody has said how many there are.
    nodes: Option<u32>,
    heard: Instant,
}

/// The most that any alert asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    pub nodes: u32,
    /// The name of the alert.
    pub alert: String,
}

/// What one notification did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    pub begun: usize,
    pub repeated: usize,
    pub ended: usize,
    /// Firing, but asking for nothing; or ended, and not known.
    pub ignored: usize,
}

impl Firing {
    /// At most `limit` alerts, each for `lasts` after it was last heard of.
    pub fn new(lasts: Duration, limit: usize) -> Self {
        Self { lasts, limit, alerts: BTreeMap::new(), history: VecDeque::new() }
    }

    /// There are this many nodes now. To be told after every look at them.
    pub fn capacity(&mut self, now: SystemTime, nodes: u32) {
        if self.history.back().is_some_and(|(_, last)| *last == nodes) {
            return;
        }
        if self.history.len() == CHANGES {
            self.history.pop_front();
        }
        self.history.push_back((now, nodes));
        let history = &self.history;
        for kept in self.alerts.values_mut().filter(|kept| kept.nodes.is_none()) {
            kept.nodes = wanted(history, kept.ask, kept.starts_at);
        }
    }

    /// All that it says counts, even if there is no room for some of it.
    pub fn take(&mut self, notification: &Notification, now: Instant) -> (Taken, Option<Refusal>) {
        self.expire(now);
        let (mut taken, mut refused) = (Taken::default(), None);
        for alert in &notification.alerts {
            let State::Firing(Some(ask)) = alert.state else {
                let known = self.alerts.remove(&alert.fingerprint).is_some();
                *(if known { &mut taken.ended } else { &mut taken.ignored }) += 1;
                continue;
            };
            let full = self.alerts.len() >= self.limit;
            match self.alerts.get_mut(&alert.fingerprint) {
                Some(known) if (known.starts_at, known.ask) == (alert.starts_at, ask) => {
                    known.heard = now;
                    taken.repeated += 1;
                    continue;
                }
                None if full => {
                    refused = Some(Refusal::Full { what: "alerts that ask for nodes", limit: self.limit });
                    continue;
                }
                Some(_) | None => taken.begun += 1,
            }
            let nodes = wanted(&self.history, ask, alert.starts_at);
            let kept = Kept { name: alert.name(), starts_at: alert.starts_at, ask, nodes, heard: now };
            self.alerts.insert(alert.fingerprint, kept);
        }
        (taken, refused)
    }

    /// How many nodes are asked for. Changes with [`Firing::take`], and at [`Firing::next`].
    pub fn level(&self, now: Instant) -> Option<Level> {
        let counting = self.alerts.values().filter(|kept| now < kept.heard + self.lasts);
        let highest = counting.filter_map(|kept| Some((kept.nodes?, kept))).max_by_key(|(nodes, _)| *nodes);
        highest.map(|(nodes, kept)| Level { nodes, alert: kept.name.clone() })
    }

    /// When the next alert lapses.
    pub fn next(&self) -> Option<Instant> {
        self.alerts.values().map(|kept| kept.heard + self.lasts).min()
    }

    /// Takes away what has lapsed; how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.alerts.len();
        self.alerts.retain(|_, kept| now < kept.heard + self.lasts);
        before - self.alerts.len()
    }

    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }
}

fn wanted(history: &VecDeque<(SystemTime, u32)>, ask: Ask, starts_at: SystemTime) -> Option<u32> {
    match ask {
        Ask::Nodes(nodes) => Some(nodes),
        Ask::OneMore => {
            let (_, first) = history.front()?;
            let then = history.iter().rev().find(|(from, _)| *from <= starts_at);
            Some(then.map_or(*first, |(_, nodes)| nodes.saturating_add(1)))
        }
    }
}

#[cfg(test)]
mod tests;
