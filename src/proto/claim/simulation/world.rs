//! The cloud, the nodes and the way between them.

use super::{What, claims, ms};
use crate::model::{EniId, Failure, TenantShard, Why};
use crate::proto::claim::{Answer, Call, Claim, Claims, Effect, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Milliseconds after which nothing is under way any more.
pub const LATEST: u64 = 8_000;
/// Looks may tell of what was so long ago.
const STALE: u64 = 2_000;

/// What the log of some schedule tells.
pub const HAPPENS: [&str; 11] = [
    "is done late",
    "is done twice",
    "is never done",
    "is throttled",
    "is refused",
    "is dropped",
    "was lost",
    "contested",
    "is claimed",
    "is made ready",
    "is not ready",
];

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn share(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }
}

/// Calls that the cloud takes.
#[derive(Clone, Copy)]
pub struct Limit {
    pub per_second: u64,
    pub burst: u64,
}

enum Event {
    Turn {
        node: usize,
        shard: u64,
        here: bool,
    },
    /// A call reaches the cloud.
    Land {
        call: Call,
    },
    /// A node has the answer.
    Answer {
        node: usize,
        number: u64,
        outcome: Result<Answer, Failure>,
    },
    Contest {
        node: usize,
        of: TenantShard,
    },
}

pub struct World {
    start: Instant,
    now: u64,
    nodes: Vec<Claims>,
    shards: u64,
    /// What is at which node.
    here: BTreeMap<(usize, u64), bool>,
    /// Who has what, since when; the latest last.
    owners: BTreeMap<What, Vec<(u64, EniId)>>,
    /// Calls that nobody waits for are answered in vain.
    dropped: BTreeSet<(usize, u64)>,
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    random: Random,
    /// Thousandths of a call that may be made, and when that was so.
    limit: Option<(Limit, u64, u64)>,
    pub is_disorderly: bool,
    pub called: u64,
    /// Calls that claim something.
    pub claimed: u64,
    /// Calls for their connections' sake.
    pub readied: u64,
    pub log: Vec<String>,
}

impl World {
    pub fn new(nodes: u64, shards: u64, random: Random, limit: Option<Limit>) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: 0,
            nodes: (0..nodes).map(|_| Claims::new(start, 50)).collect(),
            shards,
            here: BTreeMap::new(),
            owners: BTreeMap::new(),
            dropped: BTreeSet::new(),
            events: BTreeMap::new(),
            number: 0,
            random,
            limit: limit.map(|limit| (limit, limit.burst * 1000, 0)),
            is_disorderly: false,
            called: 0,
            claimed: 0,
            readied: 0,
            log: vec![],
        }
    }

    pub fn shards(&self) -> u64 {
        self.shards
    }

    pub fn turn(&mut self, at: u64, node: u64, shard: u64, here: bool) {
        self.at(at, Event::Turn { node: node as usize, shard, here });
    }

    fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.events.insert((at.max(self.now), self.number), event);
    }

    pub fn run(&mut self, end: u64) -> Result<(), String> {
        loop {
            let event = self.events.keys().next().map(|(at, _)| *at);
            // A millisecond later at the earliest: what has no end at one time has none at all.
            let timer = self.nodes.iter().filter_map(Claims::timeout).min().map(|at| since_start(self.start, at).max(self.now + 1));
            let next = event.into_iter().chain(timer).min().filter(|at| *at <= end);
            let Some(at) = next else {
                self.now = end;
                return Ok(());
            };
            self.now = at;
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= at) {
                let event = entry.remove();
                self.happen(event)?;
            }
            for node in 0..self.nodes.len() {
                if self.nodes[node].timeout().is_some_and(|due| since_start(self.start, due) <= at) {
                    let jitter = self.random.share();
                    self.nodes[node].tick(self.start + ms(at), jitter);
                    self.obey(node)?;
                }
            }
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let now = self.start + ms(self.now);
        match event {
            Event::Turn { node, shard, here } => {
                self.say(format!("{node}: t{shard} {}", if here { "is here" } else { "is gone" }));
                self.here.insert((node, shard), here);
                let wanted = (0..self.shards).filter(|shard| self.is_here(node, *shard)).map(|shard| claims(node as u64, shard)).collect();
                let resumed = if self.is_disorderly && self.random.below(5) == 0 {
                    BTreeSet::from([claims(node as u64, shard).0])
                } else {
                    BTreeSet::new()
                };
                self.nodes[node].want(now, &wanted, &resumed);
                // With a limit there are many: one that is nowhere stands for those that may come.
                let first = if self.limit.is_some() { self.shards } else { 0 };
                self.nodes[node].stand_by(now, &(first..=self.shards).map(|shard| claims(node as u64, shard)).collect());
                for other in (0..self.nodes.len()).filter(|other| *other != node) {
                    if here && self.is_here(other, shard) && self.random.below(2) == 0 {
                        self.at(self.now + 50, Event::Contest { node: other, of: claims(0, shard).0 });
                    }
                }
                self.obey(node)
            }
            Event::Land { call } => {
                self.land(&call);
                Ok(())
            }
            Event::Answer { node, number, outcome } => {
                if self.dropped.remove(&(node, number)) {
                    return Ok(());
                }
                let jitter = self.random.share();
                self.nodes[node].ended(now, number, outcome, jitter);
                self.obey(node)
            }
            Event::Contest { node, of } => {
                self.say(format!("{node}: {of} is contested"));
                self.nodes[node].contested(now, &of);
                self.obey(node)
            }
        }
    }

    fn obey(&mut self, node: usize) -> Result<(), String> {
        while let Some(effect) = self.nodes[node].next_effect() {
            match effect {
                Effect::Call { number, call } => self.call(node, number, call)?,
                Effect::Drop(number) => {
                    self.say(format!("{node}: {number} is dropped"));
                    self.dropped.insert((node, number));
                }
                Effect::Claimed { of, took } => self.say(format!("{node}: {of} is claimed after {took:?}")),
                Effect::Lost { of, claim } => self.say(format!("{node}: {of} {claim:?} was lost")),
                Effect::Failed { .. } => {}
                Effect::Unready { row, .. } => self.say(format!("{node}: is not ready x{row}")),
            }
        }
        Ok(())
    }

    fn call(&mut self, node: usize, number: u64, call: Call) -> Result<(), String> {
        let addresses = |call: &Call| match call {
            Call::Assign { eni, addresses } => {
                addresses.iter().map(|address| Claim::Address { eni: eni.clone(), address: *address }).collect()
            }
            Call::Route { table, address, eni } => vec![Claim::Route { table: table.clone(), address: *address, eni: eni.clone() }],
            Call::Associate { allocation, eni, address } => {
                vec![Claim::Public { allocation: allocation.clone(), eni: eni.clone(), address: *address }]
            }
            Call::Look { .. } | Call::Ready { .. } => vec![],
        };
        for claim in addresses(&call) {
            let has = (0..self.shards).any(|shard| self.is_here(node, shard) && claims(node as u64, shard).1.contains(&claim));
            if !has {
                return Err(format!("at {} node {node} claims {claim:?}, and the shard is not there", self.now));
            }
            self.claimed += 1;
        }
        if matches!(call, Call::Ready { .. }) {
            self.say(format!("{node}: is made ready"));
            self.readied += 1;
        }
        // Of metadata, and of a limit of its own.
        if !matches!(call, Call::Look { kind: Kind::Address, .. } | Call::Ready { .. }) {
            self.called += 1;
            if !self.lets() {
                self.say(format!("{node}: {call:?} is throttled"));
                self.fail(node, number, Why::Throttled);
                return Ok(());
            }
        }
        let way = 20 + self.random.below(30);
        let (land, answer) = (self.now + way, self.now + 2 * way);
        let dice = if self.is_disorderly { self.random.below(20) } else { 20 };
        let late = self.now + self.random.below(LATEST);
        match dice {
            0 => self.say(format!("{node}: {call:?} is never done")),
            1 => {
                self.say(format!("{node}: {call:?} is done late"));
                self.at(late, Event::Land { call });
            }
            2 => {
                self.say(format!("{node}: {call:?} is done twice"));
                self.at(land, Event::Land { call: call.clone() });
                self.at(late, Event::Land { call });
                self.at(answer, Event::Answer { node, number, outcome: Ok(Answer::Taken) });
            }
            3 => {
                self.say(format!("{node}: {call:?} is refused"));
                self.fail(node, number, Why::Refused);
            }
            4 => {
                self.say(format!("{node}: {call:?} is throttled"));
                self.fail(node, number, Why::Throttled);
            }
            _ => {
                // A look tells of the time when it was made, or of one before.
                let holds = self.holds(&call);
                self.at(land, Event::Land { call });
                self.at(answer, Event::Answer { node, number, outcome: Ok(holds) });
            }
        }
        Ok(())
    }

    fn fail(&mut self, node: usize, number: u64, why: Why) {
        let at = self.now + 20 + self.random.below(30);
        self.at(at, Event::Answer { node, number, outcome: Err(Failure { why, text: why.as_str().into(), after: None }) });
    }

    fn lets(&mut self) -> bool {
        let Some((limit, left, at)) = &mut self.limit else { return true };
        *left = (*left + (self.now - *at) * limit.per_second).min(limit.burst * 1000);
        *at = self.now;
        let lets = *left >= 1000;
        *left -= if lets { 1000 } else { 0 };
        lets
    }

    fn land(&mut self, call: &Call) {
        let mut take = |claim: Claim, eni: &EniId| self.owners.entry(What::of(&claim)).or_default().push((self.now, eni.clone()));
        match call.clone() {
            Call::Assign { eni, addresses } => {
                addresses.into_iter().for_each(|address| take(Claim::Address { eni: eni.clone(), address }, &eni));
            }
            Call::Route { table, address, eni } => take(Claim::Route { table, address, eni: eni.clone() }, &eni),
            Call::Associate { allocation, eni, address } => take(Claim::Public { allocation, eni: eni.clone(), address }, &eni),
            Call::Look { .. } | Call::Ready { .. } => {}
        }
    }

    fn holds(&mut self, call: &Call) -> Answer {
        let Call::Look { claims, .. } = call else { return Answer::Taken };
        let of = self.now - if self.is_disorderly { self.random.below(STALE).min(self.now) } else { 0 };
        Answer::Holds(claims.iter().filter(|claim| self.owner(&What::of(claim), of) == Some(eni(claim))).cloned().collect())
    }

    fn owner(&self, what: &What, at: u64) -> Option<&EniId> {
        self.owners.get(what)?.iter().rev().find(|(since, _)| *since <= at).map(|(_, eni)| eni)
    }

    fn is_here(&self, node: usize, shard: u64) -> bool {
        self.here.get(&(node, shard)).copied().unwrap_or_default()
    }

    /// What does not lead to whoever has its shard.
    pub fn wrong(&self) -> Vec<String> {
        let here = self.here.iter().filter(|(_, here)| **here).map(|((node, shard), _)| claims(*node as u64, *shard));
        let claims = here.flat_map(|(of, claims)| claims.into_iter().map(move |claim| (of.clone(), claim)));
        let wrong = claims.filter(|(_, claim)| self.owner(&What::of(claim), self.now) != Some(eni(claim)));
        wrong.map(|(of, claim)| format!("at {} {of} is where {claim:?} is not", self.now)).collect()
    }

    fn say(&mut self, what: String) {
        self.log.push(format!("{:6} {what}", self.now));
    }
}

fn since_start(start: Instant, at: Instant) -> u64 {
    (at.saturating_duration_since(start).as_micros() as u64).div_ceil(1000)
}

fn eni(claim: &Claim) -> &EniId {
    match claim {
        Claim::Address { eni, .. } | Claim::Route { eni, .. } | Claim::Public { eni, .. } => eni,
    }
}
