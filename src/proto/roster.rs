//! Which gateways there are, by what a directory says of them again and again.

use crate::model::{AdminAt, NodeName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// What the directory says of a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    /// How long ago it said something. None: never since the directory was started, or not for an hour.
    pub heard: Option<Duration>,
    /// Where it is asked, as it said then.
    pub at: Option<AdminAt>,
}

/// The gateways that count.
///
/// ```text
///                  the directory has heard it
///  registered ------------------------------------> known: asked, and counted
///      ^                                              |  |
///      +-- no sign of life for SILENT, and as many    |  +-- taken out of the directory --> gone
///          as are ordered have one without it --------+          (at once, or after DOUBT)
/// ```
///
/// A directory that does not answer says nothing, so nothing changes. Only one that answers takes anybody away, and that is never why fewer are ordered.
///
/// **A sign of life** is what a gateway told the directory, or a reading of it that was believed: one of the two may be cut off from it.
///
/// **A list is doubted** if it leaves nobody, or less than half of those who were known within the last [`DOUBT`], and fewer than are ordered. A database that was put
/// back, or emptied, looks like that; whoever takes away half a fleet on purpose loses nothing by waiting.
#[derive(Debug, Default)]
pub struct Roster {
    known: BTreeMap<NodeName, Known>,
    /// In the directory, but never heard there.
    registered: BTreeSet<NodeName>,
    /// When nodes were taken away that nobody had ordered away.
    lost: VecDeque<Instant>,
    doubt: Option<Doubt>,
    /// The first and the last list.
    first: Option<Instant>,
    latest: Option<Instant>,
    is_known: bool,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    at: Option<AdminAt>,
    /// When the directory heard it last; of one from before a restart, the restart.
    told: Instant,
    /// The last sign of life.
    sign: Instant,
}

#[derive(Debug)]
struct Doubt {
    since: Instant,
    gone: BTreeSet<NodeName>,
}

/// Where a gateway is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    At(AdminAt),
    /// It says nowhere.
    Unsaid,
    /// Where this one is by now.
    Taken(NodeName),
}

/// What outlives a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub gateways: BTreeMap<NodeName, Option<AdminAt>>,
}

/// All that there is to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Seconds since the last list. None: there was none.
    pub age: Option<f64>,
    pub known: usize,
    pub registered: BTreeSet<NodeName>,
    /// Taken out of the directory, and not believed to be gone yet.
    pub doubted: BTreeSet<NodeName>,
    /// Seconds until that is believed, if it stays so.
    pub believed_in: Option<f64>,
}

/// How long a list that is doubted must say the same: as long as what a silent gateway said last counts.
pub const DOUBT: Duration = Duration::from_secs(300);
/// Who gives no sign of life for so long is not there, if others are.
pub const SILENT: Duration = Duration::from_secs(300);
/// A sign of life that is older says nothing of now.
pub const ALIVE: Duration = Duration::from_secs(60);
/// All gateways tell a directory that was just started of themselves within this: three times what they wait between two reports.
pub const FIRST: Duration = Duration::from_secs(15);

impl Roster {
    pub fn restore(now: Instant, saved: Saved) -> Self {
        let known: BTreeMap<_, _> = saved.gateways.into_iter().map(|(name, at)| (name, Known { at, told: now, sign: now })).collect();
        Self { is_known: !known.is_empty(), known, ..Self::default() }
    }

    pub fn saved(&self) -> Saved {
        Saved { gateways: self.known.iter().map(|(name, known)| (name.clone(), known.at)).collect() }
    }

    /// The directory has answered. `read`: when the last reading of each was believed; `ordered`: how many there shall be.
    /// Whether other gateways are known now, or are asked elsewhere.
    pub fn hear(
        &mut self,
        now: Instant,
        list: &BTreeMap<NodeName, Listed>,
        read: &BTreeMap<NodeName, Instant>,
        ordered: Option<u32>,
    ) -> bool {
        let (before, many) = (self.saved(), self.known.len());
        self.first.get_or_insert(now);
        self.latest = Some(now);
        for (name, listed) in list {
            self.listed(now, name, *listed);
        }
        for (name, known) in &mut self.known {
            known.sign = known.sign.max(read.get(name).copied().unwrap_or(known.sign));
        }
        self.take_away(now, list, many, ordered);
        self.forget(now, ordered);
        self.registered = list.keys().filter(|name| !self.known.contains_key(*name)).cloned().collect();
        let all_heard = list.values().all(|listed| listed.heard.is_some());
        self.is_known |= !self.known.is_empty() && (all_heard || self.first.is_some_and(|first| since(now, first) >= FIRST));
        before != self.saved()
    }

    /// Whether these are all, as far as anybody can know: a directory that has just been started has not heard everybody yet.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Two never are asked at one address: nodes go, and others get theirs. It is whose the directory heard of last.
    pub fn members(&self) -> impl Iterator<Item = (&NodeName, Place)> {
        let mut owners: BTreeMap<AdminAt, (Instant, &NodeName)> = BTreeMap::new();
        for (name, known) in &self.known {
            if let Some(at) = known.at {
                let owner = owners.entry(at).or_insert((known.told, name));
                *owner = (*owner).max((known.told, name));
            }
        }
        self.known.iter().map(move |(name, known)| {
            let owner = known.at.and_then(|at| owners.get(&at).map(|(_, owner)| (at, *owner)));
            let place = match owner {
                None => Place::Unsaid,
                Some((at, owner)) if owner == name => Place::At(at),
                Some((_, owner)) => Place::Taken(owner.clone()),
            };
            (name, place)
        })
    }

    pub fn status(&self, now: Instant) -> Status {
        let doubt = self.doubt.as_ref();
        Status {
            age: self.latest.map(|at| since(now, at).as_secs_f64()),
            known: self.known.len(),
            registered: self.registered.clone(),
            doubted: doubt.map(|doubt| doubt.gone.clone()).unwrap_or_default(),
            believed_in: doubt.map(|doubt| DOUBT.saturating_sub(since(now, doubt.since)).as_secs_f64()),
        }
    }

    fn listed(&mut self, now: Instant, name: &NodeName, listed: Listed) {
        // A directory that has just been started knows nothing of it: what it said before stands.
        let Some(ago) = listed.heard else { return };
        let told = now.checked_sub(ago).unwrap_or(now);
        let known = self.known.entry(name.clone()).or_insert(Known { at: None, told, sign: told });
        if told >= known.told {
            (known.at, known.told) = (listed.at, told);
        }
        known.sign = known.sign.max(told);
    }

    /// Those that are not in the list any more. `many` were known before it.
    fn take_away(&mut self, now: Instant, list: &BTreeMap<NodeName, Listed>, many: usize, ordered: Option<u32>) {
        self.lost.retain(|at| since(now, *at) < DOUBT);
        let gone: BTreeSet<NodeName> = self.known.keys().filter(|name| !list.contains_key(*name)).cloned().collect();
        let left = self.known.len() - gone.len();
        let as_ordered = ordered.is_some_and(|ordered| left >= whole(ordered));
        if gone.is_empty() || as_ordered || left > 0 && left * 2 >= many + self.lost.len() {
            self.doubt = None;
        } else {
            let since_when = self.doubt.as_ref().map_or(now, |doubt| doubt.since);
            if since(now, since_when) < DOUBT {
                self.doubt = Some(Doubt { since: since_when, gone });
                return;
            }
            self.doubt = None;
        }
        self.known.retain(|name, _| !gone.contains(name));
        if !as_ordered {
            self.lost.extend(gone.iter().map(|_| now));
        }
    }

    /// Those that give no sign of life and are replaced, or were ordered away: whoever runs the nodes does not always tell the directory.
    fn forget(&mut self, now: Instant, ordered: Option<u32>) {
        let alive = self.known.values().filter(|known| since(now, known.sign) <= ALIVE).count();
        if ordered.is_some_and(|ordered| alive >= whole(ordered)) {
            self.known.retain(|_, known| since(now, known.sign) < SILENT);
        }
    }
}

fn since(now: Instant, at: Instant) -> Duration {
    now.saturating_duration_since(at)
}

fn whole(nodes: u32) -> usize {
    usize::try_from(nodes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
