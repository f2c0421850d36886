//! A network interface that a node of an Auto Scaling group takes of those that are free, and lets go when it goes: when to look, which one to take, and what to do when another
//! was faster.

use super::actuator::backoff;
use crate::model::{EniId, Failure, InstanceId, Why};
use crate::wire::arp::Mac;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// One interface, of those that have a tenant's tags in a node's zone.
///
/// ```text
///  wanted:      Look --> one is ours --------------------------> Coming --> the kernel has it: Here, no more calls
///                ^  ---> one is free --> Attach --> done ---+      |                |
///                |                          +--> taken: Look,      +-- Look <-------+ the kernel has it no more
///                |                          |    and not that one
///                +---- backoff -------------+---> none is free, refused, throttled, no answer
///  not wanted:  Look --> one is ours --> Detach --> Look ... --> none: Gone
/// ```
///
/// **The cloud decides who has it.** An ENI is one instance's, and a device index has one ENI; so whatever is called twice, late, or by two nodes at once, is refused by one of these.
/// Which of the free ones is tried first, the instance's id says, so that nodes that start together seldom want the same.
///
/// **One of ours is kept**, whoever attached it: another process of this node, or a call that was never answered.
///
/// **A look may be behind, and a call late.** What was attached a moment ago may still be called free: it is looked again before another is tried. And that nothing of ours is left is
/// believed when no call can be under way any more, whoever made it.
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
    /// The cloud has said that one is attached, and no look has shown it: until then one may.
    placed: Option<Instant>,
    /// Until then a call of this process, or of one before it, may still attach one.
    loose: Instant,
    /// Which others have taken though looks may still call them free, and which the cloud would not attach: until when they stand behind.
    passed: BTreeMap<EniId, (Passed, Instant)>,
    /// Since it is wanted or not, a look has said that nothing is ours.
    has_looked: bool,
    /// In a row: calls that failed, looks that found none free, races that were lost.
    failures: u32,
    failure: Option<String>,
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

/// One with all the tags, as the cloud describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    pub id: EniId,
    pub mac: Mac,
    pub stand: Stand,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    Free,
    /// Attached to this instance, or about to be, by this attachment.
    Ours(String),
    /// It was, and is on its way out.
    Leaving,
    /// Another's, or being made or deleted.
    Elsewhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say this to the cloud.
    Call { number: u64, call: Call },
    /// The answer is of no use any more.
    Drop(u64),
    /// For the log: the kernel has it, after so long.
    Here { eni: EniId, took: Duration },
    /// For the log: it is attached, and the kernel has no interface of this MAC.
    Late { eni: EniId, mac: Mac },
    /// For the log: the kernel has it no more.
    Lost { eni: EniId },
    /// For the log: nothing of ours is left.
    Gone,
    /// For the log: of so many with these tags none is free. `row`: so many times in a row.
    None { all: usize, row: u32 },
    /// For the log: another was faster.
    Taken { eni: EniId },
    /// For the log.
    Failed { failure: Failure, row: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Which there are.
    Look,
    Attach(EniId),
    /// By its attachment.
    Detach(String),
}

/// What a good call comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Seen(Vec<Eni>),
    Done,
    /// It is another's; or, to be detached, nobody's.
    Taken,
}

/// They only ever grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    calls: BTreeMap<(&'static str, &'static str), u64>,
    /// Looks that found none free.
    pub none: u64,
    /// Times that the kernel lost one.
    pub lost: u64,
}

/// What there is to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// `here`, `coming`, `wanted`, `going` or `gone`.
    pub state: &'static str,
    pub eni: Option<EniId>,
    /// Seconds from the attachment to the kernel's interface, as far as this process has seen it.
    pub took: Option<f64>,
    /// In a row.
    pub failures: u32,
    pub failure: Option<String>,
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

impl Call {
    /// A metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Call::Look => "look",
            Call::Attach(_) => "attach",
            Call::Detach(_) => "detach",
        }
    }
}

impl Counters {
    /// By what was called, and what became of it: `done`, `taken` or why not.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.calls.iter().map(|((call, result), count)| (*call, *result, *count))
    }

    fn count(&mut self, call: &Call, outcome: &Result<Answer, Failure>) {
        let result = match outcome {
            Ok(Answer::Seen(_) | Answer::Done) => "done",
            Ok(Answer::Taken) => "taken",
            Err(failure) => failure.why.as_str(),
        };
        *self.calls.entry((call.as_str(), result)).or_default() += 1;
    }
}

impl Attach {
    /// Looks at once. `wanted`: what it looks for is to be attached.
    pub fn new(now: Instant, instance: InstanceId, wanted: bool) -> Self {
        let (passed, effects, counters) = (BTreeMap::new(), VecDeque::new(), Counters::default());
        let (next, own, placed, loose) = (Next::Look(now), None, None, now + BEHIND);
        Self {
            instance,
            latest: now,
            wanted,
            next,
            own,
            placed,
            loose,
            passed,
            has_looked: false,
            failures: 0,
            failure: None,
            last: 0,
            effects,
            counters,
        }
    }

    /// Whether one is to be attached here, or none.
    pub fn want(&mut self, now: Instant, wanted: bool) {
        let now = self.clock(now);
        if self.wanted != wanted {
            (self.wanted, self.failures, self.failure) = (wanted, 0, None);
            (self.has_looked, self.passed) = (false, BTreeMap::new());
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
                (self.failures, self.failure) = (0, None);
                self.effects.push_back(Effect::Here { eni: own.id.clone(), took });
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
            (Call::Attach(_), Ok(Answer::Done)) => self.placed = Some(now + BEHIND),
            (Call::Attach(eni), Ok(_)) => {
                self.passed.insert(eni.clone(), (Passed::Taken, now + PASSED));
                self.next = Next::Look(now + self.again(RACE, jitter));
                self.effects.push_back(Effect::Taken { eni });
            }
            (Call::Detach(_), Ok(_)) => {
                (self.own, self.next) = (None, Next::Look(now + SOON));
            }
            // An answer to something else.
            (Call::Look, Ok(_)) => self.next = Next::Look(now + self.again(AGAIN, jitter)),
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

    /// Nothing is wanted, and the last look has shown nothing of ours.
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
        Status { state, eni, took: took.map(|took| took.as_secs_f64()), failures: self.failures, failure: self.failure.clone() }
    }

    fn seen(&mut self, now: Instant, enis: &[Eni], jitter: f64) {
        let ours = |eni: &&Eni| matches!(eni.stand, Stand::Ours(_));
        // The same as before, if there are several.
        let same = enis.iter().filter(ours).find(|eni| self.own.as_ref().is_some_and(|own| own.id == eni.id));
        let own = same.or_else(|| enis.iter().find(ours));
        let is_leaving = enis.iter().any(|eni| eni.stand == Stand::Leaving);
        match own {
            Some(own) if self.wanted => return self.attached(now, own),
            Some(Eni { stand: Stand::Ours(attachment), .. }) => return self.call(now, Call::Detach(attachment.clone())),
            Some(_) | None => self.own = None,
        }
        self.has_looked = !is_leaving;
        let unseen = self.placed.is_some_and(|until| now < until);
        if is_leaving || unseen {
            self.next = Next::Look(now + SOON);
            return;
        }
        self.placed = None;
        if !self.wanted {
            let is_over = self.loose <= now;
            self.next = if is_over { Next::Rest } else { Next::Look((now + LOOSE).min(self.loose)) };
            self.effects.extend(is_over.then_some(Effect::Gone));
            return;
        }
        self.passed.retain(|_, (_, until)| *until > now);
        let how = |eni: &Eni| self.passed.get(&eni.id).map(|(how, _)| *how);
        let free = enis.iter().filter(|eni| eni.stand == Stand::Free && how(eni) != Some(Passed::Taken));
        match free.max_by_key(|eni| (how(eni).is_none(), rank(&self.instance, &eni.id))) {
            Some(eni) => {
                self.loose = now + BEHIND;
                self.call(now, Call::Attach(eni.id.clone()));
            }
            None => {
                self.counters.none += 1;
                self.next = Next::Look(now + self.again(REFUSED, jitter));
                self.failure = Some(format!("none of {} is free", enis.len()));
                self.effects.push_back(Effect::None { all: enis.len(), row: self.failures });
            }
        }
    }

    /// The cloud says so.
    fn attached(&mut self, now: Instant, eni: &Eni) {
        self.placed = None;
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
        (self.failures, self.failure) = (0, None);
        if is_late && !std::mem::replace(&mut own.told_late, true) {
            self.effects.push_back(Effect::Late { eni: own.id.clone(), mac: own.mac });
        }
    }

    fn failed(&mut self, now: Instant, call: &Call, failure: Failure, jitter: f64) {
        let refused = failure.why == Why::Refused;
        if let (Call::Attach(eni), true) = (call, refused) {
            // Another may do.
            self.passed.insert(eni.clone(), (Passed::Refused, now + PASSED));
        }
        let wait = self.again(if refused { REFUSED } else { AGAIN }, jitter);
        self.next = Next::Look(now + wait.max(failure.after.unwrap_or_default().min(REFUSED.1)));
        self.failure = Some(failure.text.clone());
        self.effects.push_back(Effect::Failed { failure, row: self.failures });
    }

    fn again(&mut self, limits: (Duration, Duration), jitter: f64) -> Duration {
        let wait = backoff(limits, self.failures, jitter);
        self.failures = self.failures.saturating_add(1);
        wait
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

/// In which order an instance tries those that are free.
fn rank(instance: &InstanceId, eni: &EniId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (instance.as_str(), eni.as_str()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
