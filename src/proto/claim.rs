//! What a cloud has to be told of the shards that are here: when to call it, when to look whether that still holds, and when to call again.

use super::actuator::backoff;
use super::rate::Bucket;
use crate::model::{EniId, Failure, TenantShard, Why};
use pace::Pace;
use standby::Standby;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

mod pace;
mod standby;
mod status;
mod types;

pub use status::{Counters, Status};
pub use types::{Answer, Call, Claim, Effect, Kind};

/// Makes a cloud follow VRRP: whatever is wanted here is claimed, at once and from whoever has it, and what is wanted no more is left alone.
///
/// ```text
///  wanted --> Due --> Calling --> taken ------------------------> Held <--- look: it holds
///              ^          |                                        | |
///              |          +-----> throttled, refused, no answer    | +----> look: it does not hold
///              +----- backoff ---------+---------------------------+------- another node advertises the shard
///  not wanted: forgotten, and what is under way for it dropped
/// ```
///
/// **Nothing is ever given back.** Whoever is Active takes; a node that is not any more has nothing to say, and whatever it said too late is found by the next look of who is.
/// So one owner is left after any order of events, and it is the Active.
///
/// **A call is a fence**: what it comes to counts for the claim that waits for this very call. One that was wanted, then not, then wanted again waits for another.
///
/// **Claims of an ENI go in one call**, and each alone once that was refused, so that one of them does not cost the others theirs. Calls are as many as the cloud takes ([`Pace`]).
///
/// **Who may get a shard keeps connections ready** ([`Standby`]).
///
/// Contract: what a [`Effect::Call`] comes to goes to [`Claims::ended`], but for one that [`Effect::Drop`] has ended; call [`Claims::tick`] at [`Claims::timeout`]; take all of
/// [`Claims::next_effect`] after each. `jitter` is random, 0 to 1. Time that goes backwards stands still.
#[derive(Debug)]
pub struct Claims {
    latest: Instant,
    pace: Pace,
    shards: BTreeMap<TenantShard, Shard>,
    items: BTreeMap<Claim, Item>,
    calls: BTreeMap<u64, Calling>,
    /// Numbers of calls.
    last: u64,
    looks: BTreeMap<Kind, Look>,
    standby: Standby,
    effects: VecDeque<Effect>,
    counters: Counters,
}

#[derive(Debug)]
struct Shard {
    since: Instant,
    claims: BTreeSet<Claim>,
    /// From here, or from a loss, to all claims held.
    took: Option<Duration>,
}

#[derive(Debug)]
struct Item {
    of: TenantShard,
    stand: Stand,
    /// In a row.
    failures: u32,
    failure: Option<Failure>,
    /// In a row: taken, and then found to be somebody else's.
    losses: u32,
    /// It was refused together with others.
    alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Not before then.
    Due(Instant),
    /// It waits for this call.
    Calling(u64),
    /// `taken`: when the cloud said so; None: a process before this one had it.
    Held { taken: Option<Instant>, since: Instant },
}

#[derive(Debug)]
struct Calling {
    call: Call,
    of: BTreeSet<Claim>,
    began: Instant,
}

#[derive(Debug)]
struct Look {
    next: Instant,
    failures: u32,
}

/// A call that has no answer after so long is made again: it does no harm twice.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Calls under way, at most, beside looks.
const TOGETHER: usize = 32;
/// Addresses in one call: an ENI has no more (50 on the largest instances).
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/AvailableIpPerENI.html>
const ADDRESSES: usize = 50;
/// What was taken is not held against the cloud's own memory, which follows behind, before that.
const GRACE: Duration = Duration::from_secs(3);
/// From one claim of what is held to the next, because somebody else advertises it.
const CONTEST: Duration = Duration::from_secs(1);
/// A claim that failed because the cloud could not: half of the first to all of it, doubled for each in a row, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// One that it would not.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A look that was not answered, up to [`Kind::every`].
const LOOK: Duration = Duration::from_secs(1);
/// One that was lost again and again.
const LOST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

impl Claims {
    /// `per_second`: calls of this node, at most.
    pub fn new(now: Instant, per_second: u32) -> Self {
        let looks = Kind::ALL.map(|kind| (kind, Look { next: now, failures: 0 })).into();
        Self {
            latest: now,
            pace: Pace::new(Bucket::new(now), per_second),
            shards: BTreeMap::new(),
            items: BTreeMap::new(),
            calls: BTreeMap::new(),
            last: 0,
            looks,
            standby: Standby::new(now),
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Exactly these shards are here, with these claims. `resumed`: those that a process before this one had, and which may all be held.
    pub fn want(&mut self, now: Instant, wanted: &BTreeMap<TenantShard, BTreeSet<Claim>>, resumed: &BTreeSet<TenantShard>) {
        let now = self.clock(now);
        self.shards.retain(|of, _| wanted.contains_key(of));
        for (of, claims) in wanted {
            let shard = self.shards.entry(of.clone()).or_insert_with(|| Shard { since: now, claims: BTreeSet::new(), took: None });
            if shard.claims != *claims {
                (shard.since, shard.took) = (now, resumed.contains(of).then_some(Duration::ZERO));
                shard.claims.clone_from(claims);
            }
        }
        let shards = &self.shards;
        self.items.retain(|claim, item| shards.get(&item.of).is_some_and(|shard| shard.claims.contains(claim)));
        for (of, claim) in wanted.iter().flat_map(|(of, claims)| claims.iter().map(move |claim| (of, claim))) {
            let known = resumed.contains(of);
            let stand = if known { Stand::Held { taken: None, since: now } } else { Stand::Due(now) };
            if !self.items.contains_key(claim) {
                let item = Item { of: of.clone(), stand, failures: 0, failure: None, losses: 0, alone: false };
                self.items.insert(claim.clone(), item);
                let look = self.looks.get_mut(&claim.kind()).filter(|_| known);
                look.into_iter().for_each(|look| look.next = look.next.min(now));
            }
        }
        self.drop_calls();
        self.launch(now);
    }

    /// All that may be wanted here one day.
    pub fn stand_by(&mut self, now: Instant, all: &BTreeMap<TenantShard, BTreeSet<Claim>>) {
        let now = self.clock(now);
        let away = all.iter().filter(|(of, _)| !self.shards.contains_key(*of));
        self.standby.set(away.flat_map(|(_, claims)| claims));
        self.launch(now);
    }

    /// Another node advertises this shard, and this one keeps it: what the other may have claimed is claimed back.
    pub fn contested(&mut self, now: Instant, of: &TenantShard) {
        let now = self.clock(now);
        for item in self.items.values_mut().filter(|item| item.of == *of) {
            if let Stand::Held { taken, .. } = item.stand {
                item.stand = Stand::Due(taken.map_or(now, |taken| now.max(taken + CONTEST)));
            }
        }
        self.launch(now);
    }

    /// A call has ended.
    pub fn ended(&mut self, now: Instant, number: u64, outcome: Result<Answer, Failure>, jitter: f64) {
        let now = self.clock(now);
        let Some(calling) = self.calls.remove(&number) else { return };
        self.counters.count(&calling.call, outcome.as_ref().map(drop).map_err(|failure| failure.why));
        // Of the others each kind is counted by itself.
        let is_of_pace = calling.call.is_claim();
        if is_of_pace && outcome.as_ref().is_err_and(|failure| failure.why == Why::Throttled) {
            self.pace.slower(now);
        } else if is_of_pace && outcome.is_ok() {
            self.pace.faster();
        }
        match (&calling.call, outcome) {
            (Call::Ready { .. }, outcome) => {
                let is_last = !self.is_readying();
                let told = self.standby.ended(now, outcome.map(drop), is_last, jitter);
                self.effects.extend(told.map(|(failure, row)| Effect::Unready { failure, row }));
            }
            (Call::Look { kind, .. }, Ok(Answer::Holds(holding))) => self.looked(now, *kind, &calling, &holding, jitter),
            (Call::Look { kind, .. }, outcome) => {
                let look = self.looks.get_mut(kind).expect("all kinds are there");
                look.next = look.next.min(now + backoff((LOOK, kind.every()), look.failures, jitter));
                look.failures += u32::from(outcome.is_err());
            }
            (_, Ok(_)) => self.taken(now, number, &calling),
            (_, Err(failure)) => self.failed(now, number, &calling, &failure, jitter),
        }
        self.launch(now);
    }

    pub fn tick(&mut self, now: Instant, jitter: f64) {
        let now = self.clock(now);
        let late: Vec<u64> = self.calls.iter().filter(|(_, calling)| calling.began + PATIENCE <= now).map(|(number, _)| *number).collect();
        for number in late {
            self.effects.push_back(Effect::Drop(number));
            let text = format!("no answer within {PATIENCE:?}: can this machine reach the cloud's API?");
            self.ended(now, number, Err(Failure { why: Why::TimedOut, text, after: None }), jitter);
        }
        self.launch(now);
    }

    /// When to call [`Claims::tick`], at the latest.
    pub fn timeout(&self) -> Option<Instant> {
        let late = self.calls.values().map(|calling| calling.began + PATIENCE).min();
        let ready = self.pace.ready(self.latest);
        let is_full = self.under_way() >= TOGETHER;
        let due = self.items.iter().filter(|(claim, _)| !is_full && self.may(claim)).filter_map(|(_, item)| match item.stand {
            Stand::Due(at) => Some(at.max(ready)),
            Stand::Calling(_) | Stand::Held { .. } => None,
        });
        let looks = Kind::ALL.into_iter().filter(|kind| self.is_looked_at(*kind)).map(|kind| match kind {
            Kind::Address => self.looks[&kind].next,
            Kind::Route | Kind::Public => self.looks[&kind].next.max(ready),
        });
        let standby = self.standby.due().filter(|_| !self.is_readying() && self.under_way() == 0);
        late.into_iter().chain(due.min()).chain(looks.min()).chain(standby).min()
    }

    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn taken(&mut self, now: Instant, number: u64, calling: &Calling) {
        for claim in &calling.of {
            let Some(item) = self.items.get_mut(claim).filter(|item| item.stand == Stand::Calling(number)) else { continue };
            item.stand = Stand::Held { taken: Some(now), since: now };
            (item.failures, item.failure) = (0, None);
            // A cloud that throttles has others to serve, who have claimed nothing yet.
            let is_scarce = claim.kind() != Kind::Address && self.pace.is_slowed(now);
            let look = self.looks.get_mut(&claim.kind()).expect("all kinds are there");
            let next = now + if is_scarce { claim.kind().every() } else { GRACE };
            // Nothing was held of this kind: then there was nothing to look for.
            look.next = if look.next <= now { next } else { look.next.min(next) };
            let of = item.of.clone();
            self.complete(now, &of);
        }
    }

    /// Whether all of a shard is held, for the first time or again.
    fn complete(&mut self, now: Instant, of: &TenantShard) {
        let Some(shard) = self.shards.get_mut(of).filter(|shard| shard.took.is_none()) else { return };
        let held = |claim| self.items.get(claim).is_some_and(|item| matches!(item.stand, Stand::Held { .. }));
        if !shard.claims.iter().all(held) {
            return;
        }
        let took = now - shard.since;
        shard.took = Some(took);
        self.counters.claimed(took);
        self.effects.push_back(Effect::Claimed { of: of.clone(), took });
    }

    fn failed(&mut self, now: Instant, number: u64, calling: &Calling, failure: &Failure, jitter: f64) {
        let together = calling.of.len() > 1 && failure.why == Why::Refused;
        for claim in &calling.of {
            let Some(item) = self.items.get_mut(claim).filter(|item| item.stand == Stand::Calling(number)) else { continue };
            if together {
                (item.alone, item.stand) = (true, Stand::Due(now));
                continue;
            }
            let wait = backoff(if failure.why == Why::Refused { REFUSED } else { AGAIN }, item.failures, jitter);
            item.stand = Stand::Due(now + wait.max(failure.after.unwrap_or_default().min(REFUSED.1)));
            item.failures += 1;
            item.failure = Some(failure.clone());
            let (of, failure, row) = (item.of.clone(), failure.clone(), item.failures);
            self.effects.push_back(Effect::Failed { of, claim: claim.clone(), failure, row });
        }
    }

    fn looked(&mut self, now: Instant, kind: Kind, calling: &Calling, holding: &BTreeSet<Claim>, jitter: f64) {
        let mut next = now + kind.every().mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0);
        for claim in &calling.of {
            let Some(item) = self.items.get_mut(claim) else { continue };
            let Stand::Held { taken, since } = item.stand else { continue };
            if holding.contains(claim) {
                item.losses = 0;
                let of = item.of.clone();
                self.complete(now, &of);
            } else if let Some(at) = taken.map_or(Some(since), |taken| Some(taken + GRACE)).filter(|at| *at > calling.began) {
                // Too early to tell.
                next = next.min(at.max(now));
            } else {
                let wait = if item.losses == 0 { Duration::ZERO } else { backoff(LOST, item.losses, jitter) };
                item.stand = Stand::Due(now + wait);
                item.losses += 1;
                self.counters.lost += 1;
                if let Some(shard) = self.shards.get_mut(&item.of) {
                    (shard.since, shard.took) = (now, None);
                }
                self.effects.push_back(Effect::Lost { of: item.of.clone(), claim: claim.clone() });
            }
        }
        let look = self.looks.get_mut(&kind).expect("all kinds are there");
        // Somebody may have asked for one meanwhile.
        (look.next, look.failures) = (look.next.min(next), 0);
    }

    /// Makes all calls that are due and may be made.
    fn launch(&mut self, now: Instant) {
        let may_call = self.under_way() < TOGETHER && self.pace.ready(now) <= now;
        let due = if may_call { self.due(now) } else { vec![] };
        for (call, of) in due {
            if self.under_way() >= TOGETHER || !self.pace.take(now) {
                break;
            }
            let number = self.call(now, call, of.clone());
            of.iter().filter_map(|claim| self.items.get_mut(claim).map(|item| item.stand = Stand::Calling(number))).for_each(drop);
        }
        for kind in Kind::ALL {
            let is_due = self.looks[&kind].next <= now && self.is_looked_at(kind);
            if is_due && (kind == Kind::Address || self.pace.take(now)) {
                let claims: BTreeSet<Claim> = self.held(kind).cloned().collect();
                self.looks.insert(kind, Look { next: now + kind.every() * 2, failures: self.looks[&kind].failures });
                self.call(now, Call::Look { kind, claims: claims.clone() }, claims);
            }
        }
        if self.pace.is_slowed(now) {
            self.standby.put_off(now);
        }
        // Beside claims it would take their connections.
        if self.under_way() == 0 {
            for eni in self.standby.take(now) {
                self.call(now, Call::Ready { eni }, BTreeSet::new());
            }
        }
    }

    /// The calls that claims wait for, and which.
    fn due(&self, now: Instant) -> Vec<(Call, BTreeSet<Claim>)> {
        let mut calls = vec![];
        let mut together: BTreeMap<&EniId, Vec<(IpAddr, &Claim)>> = BTreeMap::new();
        for (claim, item) in &self.items {
            if !matches!(item.stand, Stand::Due(at) if at <= now) || !self.may(claim) {
                continue;
            }
            let call = match claim.clone() {
                Claim::Address { eni, address } if item.alone => Call::Assign { eni, addresses: vec![address] },
                Claim::Address { address, .. } => {
                    let Claim::Address { eni, .. } = claim else { continue };
                    together.entry(eni).or_default().push((address, claim));
                    continue;
                }
                Claim::Route { table, address, eni } => Call::Route { table, address, eni },
                Claim::Public { allocation, eni, address } => Call::Associate { allocation, eni, address },
            };
            calls.push((call, [claim.clone()].into()));
        }
        for (eni, all) in together {
            for some in all.chunks(ADDRESSES) {
                let addresses = some.iter().map(|(address, _)| *address).collect();
                calls.push((Call::Assign { eni: eni.clone(), addresses }, some.iter().map(|(_, claim)| (*claim).clone()).collect()));
            }
        }
        calls
    }

    /// Whether what it needs holds.
    fn may(&self, claim: &Claim) -> bool {
        let needed = claim.needs().and_then(|needed| self.items.get(&needed));
        needed.is_none_or(|item| matches!(item.stand, Stand::Held { .. }))
    }

    fn held(&self, kind: Kind) -> impl Iterator<Item = &Claim> {
        let held = |item: &Item| matches!(item.stand, Stand::Held { .. });
        self.items.iter().filter(move |(claim, item)| claim.kind() == kind && held(item)).map(|(claim, _)| claim)
    }

    /// Whether there is something to look for, and nobody who does.
    fn is_looked_at(&self, kind: Kind) -> bool {
        let looks = self.calls.values().any(|calling| matches!(&calling.call, Call::Look { kind: looked, .. } if *looked == kind));
        !looks && self.held(kind).next().is_some()
    }

    fn under_way(&self) -> usize {
        self.calls.values().filter(|calling| calling.call.is_claim()).count()
    }

    fn is_readying(&self) -> bool {
        self.calls.values().any(|calling| matches!(calling.call, Call::Ready { .. }))
    }

    fn call(&mut self, now: Instant, call: Call, of: BTreeSet<Claim>) -> u64 {
        self.last += 1;
        self.effects.push_back(Effect::Call { number: self.last, call: call.clone() });
        self.calls.insert(self.last, Calling { call, of, began: now });
        self.last
    }

    /// Those that nobody waits for.
    fn drop_calls(&mut self) {
        let (items, effects) = (&self.items, &mut self.effects);
        self.calls.retain(|number, calling| {
            let waits = |claim: &Claim| match (&calling.call, items.get(claim)) {
                (Call::Look { .. }, item) => item.is_some(),
                (_, item) => item.is_some_and(|item| item.stand == Stand::Calling(*number)),
            };
            let keep = matches!(calling.call, Call::Ready { .. }) || calling.of.iter().any(waits);
            if !keep {
                effects.push_back(Effect::Drop(*number));
            }
            keep
        });
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
