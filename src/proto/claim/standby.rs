//! Connections that stand ready for what may come here: whoever becomes Active claims over them, where a new one would first cost it the round trips of TCP and TLS.
//!
//! A connection stays if it is used. What is asked is small, needs no permission that looks do not, and counts against a limit of its own.
//! <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>

use super::Claim;
use crate::model::{EniId, Failure, Why};
use crate::proto::actuator::backoff;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// From one use to the next, at most; three quarters at least. How long AWS keeps a connection that is idle it does not say, and it differs from service to service.
const EVERY: Duration = Duration::from_secs(20);
/// The same, after it came to nothing, which closes connections: the first time, and again and again. Where others need the cloud more, [`EVERY`] is the first.
const ANEW: Duration = Duration::from_secs(2);
const RARELY: Duration = Duration::from_secs(60);
/// Connections.
const MOST: usize = 4;

#[derive(Debug)]
pub struct Standby {
    /// What is asked after, and over how many connections. None: nothing can come.
    of: Option<(EniId, usize)>,
    next: Instant,
    /// In a row.
    failures: u32,
    /// Of what was asked last, what came to nothing.
    failure: Option<Failure>,
}

impl Standby {
    pub fn new(now: Instant) -> Self {
        Self { of: None, next: now, failures: 0, failure: None }
    }

    /// These claims are not made now, and may have to be: over as many connections as there would be calls at once.
    pub fn set<'c>(&mut self, claims: impl Iterator<Item = &'c Claim>) {
        let (mut enis, mut routes, mut asked) = (BTreeSet::new(), 0, None);
        for claim in claims {
            match claim {
                Claim::Address { eni, .. } => {
                    enis.insert(eni);
                    asked = asked.or(Some(eni));
                }
                Claim::Route { eni, .. } => {
                    routes += 1;
                    asked = asked.or(Some(eni));
                }
                // It waits for its address, and then has that one's connection.
                Claim::Public { .. } => {}
            }
        }
        self.of = asked.map(|eni| (eni.clone(), (enis.len() + routes).min(MOST)));
    }

    /// From when on there is something to ask.
    pub fn due(&self) -> Option<Instant> {
        self.of.as_ref().map(|_| self.next)
    }

    /// What to ask now: an interface for each connection. Answers are asked for by `ended`, or after twice the time.
    pub fn take(&mut self, now: Instant) -> Vec<EniId> {
        let Some((eni, connections)) = self.of.as_ref().filter(|_| self.next <= now) else { return vec![] };
        self.next = now + EVERY * 2;
        vec![eni.clone(); *connections]
    }

    /// Not now: others need the cloud more.
    pub fn put_off(&mut self, now: Instant) {
        if self.next <= now {
            self.next = now + EVERY;
        }
    }

    /// One of those that were asked at once is answered; the last of them says what there is to tell: what came to nothing, and for which time in a row.
    pub fn ended(&mut self, now: Instant, outcome: Result<(), Failure>, is_last: bool, jitter: f64) -> Option<(Failure, u32)> {
        self.failure = self.failure.take().or(outcome.err());
        if !is_last {
            return None;
        }
        let failure = self.failure.take();
        let wait = match &failure {
            None => EVERY.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 4.0),
            Some(Failure { why: Why::Throttled, .. }) => backoff((EVERY, RARELY), self.failures, jitter),
            Some(_) => backoff((ANEW, RARELY), self.failures, jitter),
        };
        self.next = now + wait;
        self.failures = if failure.is_some() { self.failures.saturating_add(1) } else { 0 };
        failure.map(|failure| (failure, self.failures))
    }
}
