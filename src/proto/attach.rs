//! A network interface that a node of an Auto Scaling group takes of those that are free, and lets go when it goes: when to look, which one to take, and what to do when another
//! was faster.

mod lately;
mod trouble;
mod types;

pub use types::{Answer, Call, Counters, Effect, Eni, Stand, Status};

use crate::model::{EniId, Failure, InstanceId, Why};
use crate::wire::arp::Mac;
use lately::Lately;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use trouble::Trouble;

/// One interface, of those that have a tenant's tags in a node's zone.
///
/// ```text
///  wanted:      Look --> one is ours --------------------------> Coming --> the kernel has it: Here, no more calls
///                ^  ---> one is free --> Attach --> done ---+      |                |
///                |                          +--> taken: Look,      +-- Look <-------+ the kernel has it no more
///                |                          |    and not that one
///                +---- backoff -------------+---> none is free, refused, throttled, no answer, the index is not free
///  not wanted:  Look --> one is ours --> Detach --> Look ... --> none: Gone
/// ```
///
/// **The cloud decides who has it.** An ENI is one instance's, and a device index has one ENI; so whatever is called twice, late, or by two nodes at once, is refused by one of these.
/// Which of the free ones is tried first, the instance's id says, so that nodes that start together seldom want the same.
///
/// **One of ours is kept**, whoever attached it: another process of this node, or a call that was never answered. One at another index is not ours: it is told of and left alone.
///
/// **A look may be behind, and a call late.** What was attached a moment ago may still be called free: it is looked again before another is tried. That nothing of ours is left is
/// believed when no call of this process can be under way any more ([`Attach::is_free`]), or of whomever ([`Attach::is_gone`]).
///
/// Contract: what a [`Effect::Call`] comes to goes to [`Attach::ended`], but for one that [`Effect::Drop`] has ended; whether the kernel has [`Attach::mac`] goes to
/// [`Attach::stands`] whenever either changes; call [`Attach::tick`] at [`Attach::timeout`]; take all of [`Attach::next_effect`] after each. `jitter` is random, 0 to 1. Time that
/// goes backwards stands still.
#[derive(Debug)]
pub struct Attach {
    instance: InstanceId,
    latest: Instant,
    wanted: bool,
    next: Next,
    own: Option<Own>,
    lately: Lately,
    /// Until then a call of this process, or of one before it, may still attach one.
    loose: Instant,
    /// One of this process may: it has no answer.
    unanswered: bool,
    /// Which others have taken though looks may still call them free, and which the cloud would not attach: until when they stand behind.
    passed: BTreeMap<EniId, (Passed, Instant)>,
    /// Since it is wanted or not, a look has said that nothing is ours.
    has_looked: bool,
    trouble: Trouble,
    /// Numbers of calls.
    last: u64,
    effects: VecDeque<Effect>,
    counters: Counters,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// Nothing, until something happens.
    Rest,
    Look(Instant),
    Answer {
        number: u64,
        call: Call,
        began: Instant,
    },
}

/// What the cloud says is attached here.
#[derive(Debug)]
struct Own {
    id: EniId,
    mac: Mac,
    since: Instant,
    /// The kernel has it, after so long.
    here: Option<Duration>,
    told_late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    Taken,
    /// It is tried again if there is no other.
    Refused,
}

/// A call that has no answer after so long is given up, and what it came to looked up.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// From one look to the next while something is on its way.
const SOON: Duration = Duration::from_millis(500);
/// The same, after [`LATE`].
const SELDOM: Duration = Duration::from_secs(10);
/// The kernel has an interface some seconds after it is attached. After so long it is told that it has not.
const LATE: Duration = Duration::from_secs(30);
/// So far looks may be behind, and calls that nobody has answered be late.
const BEHIND: Duration = Duration::from_secs(20);
/// From one look to the next, in that time.
const LOOSE: Duration = Duration::from_secs(2);
/// One that was refused, or another's, is not tried again before that if there are others.
const PASSED: Duration = Duration::from_secs(10);
/// After a lost race: half of the first to all of it, doubled for each in a row, up to the second.
const RACE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// After a call that the cloud could not carry out now.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// After one that it would not, or none free: somebody has to mend that.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

impl Attach {
    /// Looks at once. `wanted`: what it looks for is to be attached.
    pub fn new(now: Instant, instance: InstanceId, wanted: bool) -> Self {
        Self {
            instance,
            latest: now,
            wanted,
            next: Next::Look(now),
            own: None,
            lately: Lately::default(),
            loose: now + BEHIND,
            unanswered: false,
            passed: BTreeMap::new(),
            has_looked: false,
            trouble: Trouble::default(),
            last: 0,
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Whether one is to be attached here, or none.
    pub fn want(&mut self, now: Instant, wanted: bool) {
        let now = self.clock(now);
        if self.wanted != wanted {
            (self.wanted, self.has_looked, self.passed) = (wanted, false, BTreeMap::new());
            self.trouble = Trouble::default();
            self.look(now);
        }
    }

    /// That of ours, of which the kernel is to have an interface.
    pub fn mac(&self) -> Option<Mac> {
        self.own.as_ref().map(|own| own.mac)
    }

    /// Whether the kernel has an interface of [`Attach::mac`].
    pub fn stands(&mut self, now: Instant, present: bool) {
        let now = self.clock(now);
        let Some(own) = self.own.as_mut().filter(|_| self.wanted) else { return };
        match (present, own.here) {
            (true, None) => {
                let took = now - own.since;
                own.here = Some(took);
                self.effects.push_back(Effect::Here { eni: own.id.clone(), took });
                self.trouble = Trouble::default();
                if matches!(self.next, Next::Look(_)) {
                    self.next = Next::Rest;
                }
            }
            (false, Some(_)) => {
                self.effects.push_back(Effect::Lost { eni: own.id.clone() });
                self.counters.lost += 1;
                self.own = None;
                self.look(now);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// What a call came to.
    pub fn ended(&mut self, now: Instant, number: u64, outcome: Result<Answer, Failure>, jitter: f64) {
        let now = self.clock(now);
        let Next::Answer { number: awaited, call, .. } = &self.next else { return };
        if *awaited != number {
            return;
        }
        let call = call.clone();
        self.counters.count(&call, &outcome);
        self.next = Next::Look(now);
        match (call, outcome) {
            (Call::Look, Ok(Answer::Seen(enis))) => self.seen(now, &enis, jitter),
            (Call::Attach(_), Ok(Answer::Attached(attachment))) => self.lately.made(now, &attachment),
            (Call::Attach(_), Ok(Answer::Occupied(text))) => self.failed_with(now, "occupied", refusal(text), jitter),
            (Call::Attach(eni), Ok(Answer::Taken)) => {
                self.passed.insert(eni.clone(), (Passed::Taken, now + PASSED));
                self.next = Next::Look(now + self.trouble.wait(RACE, jitter));
                self.effects.push_back(Effect::Taken { eni });
            }
            (Call::Detach(attachment), Ok(Answer::Detached | Answer::Taken)) => {
                self.lately.ended(now, &attachment);
                (self.own, self.next) = (None, Next::Look(now + SOON));
            }
            // An answer to something else.
            (_, Ok(_)) => self.next = Next::Look(now + self.trouble.wait(AGAIN, jitter)),
            (call, Err(failure)) => self.failed(now, &call, failure, jitter),
        }
        self.launch(now);
    }

    pub fn tick(&mut self, now: Instant, jitter: f64) {
        let now = self.clock(now);
        if let Next::Answer { number, began, .. } = self.next
            && began + PATIENCE <= now
        {
            self.effects.push_back(Effect::Drop(number));
            let text = format!("no answer within {PATIENCE:?}: can this machine reach the cloud's API?");
            self.ended(now, number, Err(Failure { why: Why::TimedOut, text, after: None }), jitter);
        }
        self.launch(now);
    }

    /// When to call [`Attach::tick`], at the latest.
    pub fn timeout(&self) -> Option<Instant> {
        match self.next {
            Next::Rest => None,
            Next::Look(at) => Some(at),
            Next::Answer { began, .. } => Some(began + PATIENCE),
        }
    }

    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Nothing is wanted, and nothing of ours is left, nor will come.
    pub fn is_gone(&self) -> bool {
        !self.wanted && self.next == Next::Rest
    }

    /// Nothing is wanted, and nothing of ours is left, nor will come by this process.
    pub fn is_free(&self) -> bool {
        !self.wanted && self.has_looked && self.own.is_none()
    }

    pub fn is_here(&self) -> bool {
        self.wanted && self.own.as_ref().is_some_and(|own| own.here.is_some())
    }

    pub fn status(&self) -> Status {
        let state = match &self.own {
            _ if self.is_gone() => "gone",
            _ if !self.wanted => "going",
            None => "wanted",
            Some(own) if own.here.is_none() => "coming",
            Some(_) => "here",
        };
        let (eni, took) = (self.own.as_ref().map(|own| own.id.clone()), self.own.as_ref().and_then(|own| own.here));
        Status { state, eni, took: took.map(|took| took.as_secs_f64()), failures: self.trouble.count, failure: self.trouble.last.clone() }
    }

    fn seen(&mut self, now: Instant, enis: &[Eni], jitter: f64) {
        self.unanswered &= now < self.loose;
        let (mut ours, mut is_leaving) = (vec![], false);
        for eni in enis {
            match &eni.stand {
                Stand::Ours(attachment) if !self.lately.has_ended(attachment) => {
                    self.lately.made(now, attachment);
                    ours.push((eni, attachment));
                }
                Stand::Ours(_) => is_leaving = true,
                Stand::Leaving(attachment) => {
                    self.lately.ended(now, attachment);
                    is_leaving = true;
                }
                Stand::Free | Stand::Misplaced(_) | Stand::Elsewhere => {}
            }
        }
        self.lately.forget(now);
        // The same as before, if there are several.
        let same = ours.iter().find(|(eni, _)| self.own.as_ref().is_some_and(|own| own.id == eni.id));
        match same.or(ours.first()) {
            Some((eni, _)) if self.wanted => return self.attached(now, eni),
            Some((_, attachment)) => {
                self.has_looked = false;
                return self.call(now, Call::Detach((*attachment).clone()));
            }
            None => {}
        }
        let unseen = self.lately.may_stand(now);
        if !unseen {
            self.own = None;
        }
        let may_be_leaving = self.lately.may_be_leaving(now);
        self.has_looked = !(is_leaving || unseen || may_be_leaving || self.unanswered);
        if is_leaving || unseen {
            self.next = Next::Look(now + SOON);
        } else if self.wanted {
            self.choose(now, enis, jitter);
        } else {
            let is_over = self.loose <= now && !may_be_leaving;
            self.next = if is_over { Next::Rest } else { Next::Look(now + LOOSE) };
            self.effects.extend(is_over.then_some(Effect::Gone));
        }
    }

    /// Of those that are free.
    fn choose(&mut self, now: Instant, enis: &[Eni], jitter: f64) {
        let misplaced = enis.iter().find_map(|eni| if let Stand::Misplaced(device) = eni.stand { Some((&eni.id, device)) } else { None });
        if let Some((eni, device)) = misplaced {
            let text = format!("{eni} is attached at the device index {device} of this instance: detach it, or write `device: {device}`");
            return self.failed_with(now, "misplaced", refusal(text), jitter);
        }
        self.passed.retain(|_, (_, until)| *until > now);
        let how = |eni: &Eni| self.passed.get(&eni.id).map(|(how, _)| *how);
        let free = enis.iter().filter(|eni| eni.stand == Stand::Free && how(eni) != Some(Passed::Taken));
        match free.max_by_key(|eni| (how(eni).is_none(), eni.rank(&self.instance))) {
            Some(eni) => {
                self.loose = now + BEHIND;
                self.call(now, Call::Attach(eni.id.clone()));
            }
            None => {
                self.counters.none += 1;
                self.next = Next::Look(now + self.trouble.wait(REFUSED, jitter));
                let row = self.trouble.row("none", format!("none of {} is free", enis.len()));
                self.effects.push_back(Effect::None { all: enis.len(), row });
            }
        }
    }

    /// The cloud says so.
    fn attached(&mut self, now: Instant, eni: &Eni) {
        if self.own.as_ref().is_none_or(|own| own.id != eni.id) {
            let (id, mac) = (eni.id.clone(), eni.mac);
            self.own = Some(Own { id, mac, since: now, here: None, told_late: false });
        }
        let Some(own) = &mut self.own else { return };
        if own.here.is_some() {
            self.next = Next::Rest;
            return;
        }
        let is_late = own.since + LATE <= now;
        self.next = Next::Look(now + if is_late { SELDOM } else { SOON });
        if is_late && !std::mem::replace(&mut own.told_late, true) {
            self.effects.push_back(Effect::Late { eni: own.id.clone(), mac: own.mac });
        }
        self.trouble = Trouble::default();
    }

    fn failed(&mut self, now: Instant, call: &Call, failure: Failure, jitter: f64) {
        match (call, failure.why) {
            // Another may do.
            (Call::Attach(eni), Why::Refused) => _ = self.passed.insert(eni.clone(), (Passed::Refused, now + PASSED)),
            (Call::Attach(_), Why::Unavailable | Why::TimedOut | Why::Unreachable) => self.unanswered = true,
            (Call::Attach(_), Why::Throttled) | (Call::Look | Call::Detach(_), _) => {}
        }
        self.failed_with(now, failure.why.as_str(), failure, jitter);
    }

    fn failed_with(&mut self, now: Instant, kind: &'static str, failure: Failure, jitter: f64) {
        let wait = self.trouble.wait(if failure.why == Why::Refused { REFUSED } else { AGAIN }, jitter);
        self.next = Next::Look(now + wait.max(failure.after.unwrap_or_default().min(REFUSED.1)));
        let row = self.trouble.row(kind, failure.text.clone());
        self.effects.push_back(Effect::Failed { failure, row });
    }

    /// Unless an answer is awaited, which leads to one.
    fn look(&mut self, now: Instant) {
        if !matches!(self.next, Next::Answer { .. }) {
            self.next = Next::Look(now);
        }
    }

    fn launch(&mut self, now: Instant) {
        if matches!(self.next, Next::Look(at) if at <= now) {
            self.call(now, Call::Look);
        }
    }

    fn call(&mut self, now: Instant, call: Call) {
        self.last += 1;
        self.effects.push_back(Effect::Call { number: self.last, call: call.clone() });
        self.next = Next::Answer { number: self.last, call, began: now };
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }
}

/// Somebody has to mend it.
fn refusal(text: String) -> Failure {
    Failure { why: Why::Refused, text, after: None }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
