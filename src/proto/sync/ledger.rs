//! What is known of a shard's flows in this node's kernel, told by another node or by the kernel itself: to know new from known, to
//! find what a list leaves out, and to go on without reading the kernel when the shard changes hands.

use super::destinations::Destinations;
use super::table::Table;
use crate::model::{Flow, FlowKey, FlowStep};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How much sooner than we think an entry may expire.
const EXPIRY: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Ledger {
    table: Table<FlowKey, Known>,
    /// Where those of the table go.
    destinations: Box<Destinations>,
    /// Counts lists; the running one, or the last.
    list: u64,
    /// Flows that ended while a list runs. None: no list runs.
    ended: Option<HashSet<FlowKey>>,
    /// What the kernel did not take, or lost again: whether it stands is not known, so the next list writes or deletes it.
    open: HashMap<FlowKey, Open>,
    /// How many of these stand in the way of completeness.
    missed: usize,
    /// Nothing has been missed since all was known: from another node, a whole list was received; of this node's kernel, it was read.
    pub complete: bool,
}

#[derive(Debug)]
struct Open {
    /// The list that ran, or was the last, at that time.
    since: u64,
    missed: bool,
}

#[derive(Debug)]
struct Known {
    flow: Flow,
    /// When the kernel would forget it.
    until: Instant,
    /// The list that ran when it was last told or listed.
    seen: u64,
    /// The list that ran when it was last told.
    told: u64,
}

impl Ledger {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Connections of the destination that has most of them.
    pub fn most_to_one(&self) -> usize {
        self.destinations.most()
    }

    pub fn get(&self, key: &FlowKey) -> Option<&Flow> {
        self.table.get(key).map(|known| &known.flow)
    }

    pub fn is_complete(&self) -> bool {
        self.complete && self.missed == 0
    }

    /// Everything that stands, or may stand because it is not known whether it does.
    pub fn keys(&self) -> impl Iterator<Item = FlowKey> {
        self.table.keys().chain(self.open.keys()).copied()
    }

    /// A flow that stands in the kernel without our doing. What has been told of it is newer.
    pub fn adopt(&mut self, now: Instant, flow: Flow) {
        let until = now + Duration::from_secs(flow.timeout.into());
        self.take_in(Known { flow, until, seen: 0, told: 0 });
    }

    /// What others have told and we have not: it stands too, or may.
    pub fn adopt_from(&mut self, other: &Self) {
        for (_, known) in other.table.iter() {
            self.take_in(Known { seen: 0, told: 0, ..*known });
        }
        for (key, open) in &other.open {
            if !self.table.contains_key(key) {
                self.doubt(*key, open.missed);
            }
        }
    }

    /// Unless it is known.
    fn take_in(&mut self, known: Known) {
        if let Entry::Vacant(vacant) = self.table.entry(known.flow.key) {
            self.destinations.add(vacant.key());
            vacant.insert(known);
        }
    }

    fn remove(&mut self, key: &FlowKey) -> bool {
        let known = self.table.remove(key).is_some();
        if known {
            self.destinations.remove(key);
        }
        known
    }

    /// What another has told is no more than what we know: how many are gone.
    pub fn supersede(&mut self, other: &mut Self, apply: &mut impl FnMut(FlowStep)) -> u64 {
        let before = std::mem::take(other);
        other.list = before.list;
        let mut gone = 0;
        for key in before.table.keys().chain(before.open.keys()).filter(|key| !self.table.contains_key(key)) {
            apply(FlowStep::Delete(*key));
            gone += 1;
        }
        gone
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty() && self.open.is_empty()
    }

    /// The kernel has not taken what was given to it. `missed`: and one cannot be complete without it. Whether it was known here.
    pub fn unwritten(&mut self, key: FlowKey, missed: bool) -> bool {
        let known = self.remove(&key);
        if known {
            self.doubt(key, missed);
        }
        known
    }

    /// Whether this one stands is not known.
    pub fn doubt(&mut self, key: FlowKey, missed: bool) {
        self.close(&key);
        self.open.insert(key, Open { since: self.list, missed });
        self.missed += usize::from(missed);
    }

    /// Flows may have left the kernel unnoticed: the next list gives it each of them again.
    pub fn doubt_all(&mut self, now: Instant) {
        self.interrupt();
        self.table.values_mut().for_each(|known| known.until = now);
    }

    /// It is gone from the kernel, and not by our doing: in time, or somebody else has deleted it.
    pub fn vanished(&mut self, now: Instant, key: FlowKey) {
        if let Some(known) = self.table.get(&key) {
            let early = known.until > now + EXPIRY;
            self.unwritten(key, early);
        }
    }

    fn close(&mut self, key: &FlowKey) -> bool {
        let open = self.open.remove(key);
        self.missed -= usize::from(open.as_ref().is_some_and(|open| open.missed));
        open.is_some()
    }

    /// The running list will not come to its end: what it has said so far is true.
    pub fn break_off(&mut self) {
        self.ended = None;
    }

    /// Changes may be missed from here on, until a list is complete.
    pub fn interrupt(&mut self) {
        (self.complete, self.ended) = (false, None);
    }

    pub fn begin(&mut self, lossy: bool) {
        self.list += 1;
        self.ended = Some(HashSet::new());
        self.complete &= !lossy;
    }

    /// What was neither listed nor told since the list began is gone: how many. None: no list ran.
    pub fn end(&mut self, apply: &mut impl FnMut(FlowStep)) -> Option<u64> {
        self.ended.take()?;
        let before = self.table.len();
        self.table.retain(|key, known| {
            let stays = known.seen == self.list;
            if !stays {
                self.destinations.remove(key);
                apply(FlowStep::Delete(*key));
            }
            stays
        });
        let old: Vec<FlowKey> = self.open.iter().filter(|(_, open)| open.since < self.list).map(|(key, _)| *key).collect();
        for key in old {
            self.close(&key);
            apply(FlowStep::Delete(key));
        }
        self.complete = true;
        Some((before - self.table.len()) as u64)
    }

    pub fn told(&mut self, now: Instant, flow: Flow, apply: &mut impl FnMut(FlowStep)) {
        if let Some(ended) = &mut self.ended {
            ended.remove(&flow.key);
        }
        self.write(now, flow, apply).told = self.list;
    }

    /// What was told since the list began is newer than the list.
    pub fn listed(&mut self, now: Instant, flow: Flow, apply: &mut impl FnMut(FlowStep)) {
        let told = self.table.get(&flow.key).is_some_and(|known| known.told == self.list);
        if !told && self.ended.as_ref().is_none_or(|ended| !ended.contains(&flow.key)) {
            self.write(now, flow, apply);
        }
    }

    pub fn destroyed(&mut self, key: FlowKey, apply: &mut impl FnMut(FlowStep)) {
        if let Some(ended) = &mut self.ended {
            ended.insert(key);
        }
        if self.remove(&key) | self.close(&key) {
            apply(FlowStep::Delete(key));
        }
    }

    fn write(&mut self, now: Instant, flow: Flow, apply: &mut impl FnMut(FlowStep)) -> &mut Known {
        self.close(&flow.key);
        let until = |flow: &Flow| now + Duration::from_secs(flow.held().into());
        let known = match self.table.entry(flow.key) {
            Entry::Vacant(vacant) => {
                self.destinations.add(vacant.key());
                apply(FlowStep::Create(flow));
                vacant.insert(Known { flow, until: until(&flow), seen: 0, told: 0 })
            }
            Entry::Occupied(occupied) => {
                let known = occupied.into_mut();
                if known.flow.nat == flow.nat {
                    known.renew(now, flow, apply);
                } else {
                    apply(FlowStep::Delete(flow.key));
                    apply(FlowStep::Create(flow));
                    (known.flow, known.until) = (flow, until(&flow));
                }
                known
            }
        };
        known.seen = self.list;
        known
    }
}

impl Known {
    /// The same connection, perhaps in another state.
    fn renew(&mut self, now: Instant, flow: Flow, apply: &mut impl FnMut(FlowStep)) {
        let mut merged = Flow { tcp: flow.tcp.or(self.flow.tcp), ..flow };
        merged.status.seen_reply |= self.flow.status.seen_reply;
        merged.status.assured |= self.flow.status.assured;
        let changed = (merged.tcp, merged.status) != (self.flow.tcp, self.flow.status);
        let held = Duration::from_secs(merged.held().into());
        // If only time has passed, it is enough that half of it is left.
        if changed || self.until.saturating_duration_since(now) < held / 2 {
            self.until = now + held;
            apply(FlowStep::Update(merged));
        }
        self.flow = merged;
    }
}
