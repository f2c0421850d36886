//! Tells whoever runs the nodes how many there shall be.
//!
//! ```text
//!  Brain --watch: the newest order--> Task: proto::actuator --call--> Receiver: webhook, aws
//!    ^                                  |
//!    +------- taken, not taken ---------+
//! ```

#[cfg(feature = "aws")]
mod aws;
mod webhook;

use super::brain::Brain;
use super::parts::Parts;
use crate::config;
use crate::daemon::jitter;
use crate::model::Failure;
use crate::proto::actuator::{Actuator, Counters, Effect, Status};
use crate::proto::scale;
use crate::wire::webhook::order::Order;
use futures::future::{BoxFuture, FutureExt};
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use webhook::Webhook;

/// The newest order. None: there was none.
pub type Orders = watch::Receiver<Option<Arc<Order>>>;

/// What came of a call: how many are ordered now, if the other side says so.
type Called = Result<Option<u32>, Failure>;

/// Who runs the nodes.
#[derive(Debug)]
pub struct Receiver {
    how: How,
    /// A call may take so long.
    limit: Duration,
}

#[derive(Debug)]
enum How {
    Webhook(Webhook),
    #[cfg(feature = "aws")]
    Aws(Arc<aws::Aws>),
}

impl Receiver {
    /// None: orders are given to nobody.
    ///
    /// # Errors
    /// What is wrong with the files that the configuration names.
    pub fn new(config: &config::Actuator) -> anyhow::Result<Option<Self>> {
        Ok(match config {
            config::Actuator::None => None,
            config::Actuator::Webhook(config) => Some(Self { how: How::Webhook(Webhook::new(config)?), limit: config.timeout }),
            #[cfg(feature = "aws")]
            config::Actuator::Aws(config) => Some(Self { how: How::Aws(Arc::new(aws::Aws::new(config)?)), limit: config.timeout }),
            #[cfg(not(feature = "aws"))]
            config::Actuator::Aws(_) => anyhow::bail!("`actuator.aws` needs a Portway that was built with the feature `aws`"),
        })
    }

    fn kind(&self) -> &'static str {
        match &self.how {
            How::Webhook(_) => "webhook",
            #[cfg(feature = "aws")]
            How::Aws(_) => "aws",
        }
    }

    /// Where, without what could be secret.
    fn shown(&self) -> String {
        match &self.how {
            How::Webhook(webhook) => webhook.shown(),
            #[cfg(feature = "aws")]
            How::Aws(aws) => aws.to(),
        }
    }

    async fn call(self: Arc<Self>, order: Arc<Order>) -> (u32, Called) {
        let called = match &self.how {
            How::Webhook(webhook) => webhook.call(&order).await,
            #[cfg(feature = "aws")]
            How::Aws(aws) => aws.order(order.wanted).await,
        };
        (order.wanted, called)
    }

    /// Beside giving orders: what it is asked, until that is dropped. None: nothing.
    #[cfg(feature = "aws")]
    fn watch(&self, brain: &Arc<Brain>) -> Option<BoxFuture<'static, ()>> {
        match &self.how {
            How::Webhook(_) => None,
            How::Aws(aws) => Some(aws.clone().watch(brain.clone()).boxed()),
        }
    }

    #[cfg(not(feature = "aws"))]
    fn watch(&self, _: &Arc<Brain>) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Somebody says that an instance of this Auto Scaling group waits in this hook. Whether they are these; then what there is, is looked at at once.
    #[cfg(feature = "aws")]
    fn waits(&self, group: &str, hook: &str) -> bool {
        match &self.how {
            How::Webhook(_) => false,
            How::Aws(aws) => aws.waits(group, hook),
        }
    }

    #[cfg(not(feature = "aws"))]
    fn waits(&self, _: &str, _: &str) -> bool {
        false
    }

    #[cfg(feature = "aws")]
    fn group(&self) -> Option<aws::Shown> {
        match &self.how {
            How::Webhook(_) => None,
            How::Aws(aws) => Some(aws.shown()),
        }
    }
}

/// Whom orders are given to, and what has come of them.
#[derive(Debug)]
struct Line {
    receiver: Mutex<Arc<Receiver>>,
    machine: Mutex<Actuator>,
}

/// What there is to show.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    kind: &'static str,
    to: String,
    #[serde(flatten)]
    pub status: Status,
    #[serde(skip)]
    pub counters: Counters,
    #[cfg(feature = "aws")]
    #[serde(flatten)]
    pub group: Option<aws::Shown>,
}

impl Line {
    fn receiver(&self) -> Arc<Receiver> {
        locked(&self.receiver).clone()
    }

    fn machine(&self) -> MutexGuard<'_, Actuator> {
        locked(&self.machine)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives orders, as a task of its own.
#[derive(Debug, Clone)]
pub struct Hand {
    at_work: Arc<Mutex<Option<AtWork>>>,
    parts: Parts,
}

#[derive(Debug)]
struct AtWork {
    of: config::Actuator,
    line: Arc<Line>,
    /// Ends all of them when it is dropped.
    tasks: JoinSet<()>,
}

impl Hand {
    pub fn new(parts: Parts) -> Self {
        Self { at_work: Arc::default(), parts }
    }

    /// Whom to tell from now on. Who has just come is told the last order; with whom only keys and times are others, all goes on.
    pub fn tell(&self, config: &config::Actuator, receiver: Option<Receiver>, brain: &Arc<Brain>) {
        let mut at_work = locked(&self.at_work);
        let Some(receiver) = receiver.filter(|_| !brain.dry_run) else {
            *at_work = None;
            brain.ask(false);
            return;
        };
        if let Some(same) = at_work.as_mut().filter(|at_work| at_work.of.is_same_place(config)) {
            if config.is_asked() {
                // Nothing is new.
                return;
            }
            same.of = config.clone();
            same.line.machine().limit(receiver.limit);
            *locked(&same.line.receiver) = Arc::new(receiver);
            return;
        }
        *at_work = None;
        let machine = Mutex::new(Actuator::new(Instant::now(), receiver.limit));
        let watch = receiver.watch(brain);
        brain.ask(config.is_asked());
        let line = Arc::new(Line { receiver: Mutex::new(Arc::new(receiver)), machine });
        let task = Task { line: line.clone(), brain: brain.clone(), orders: brain.orders() };
        let mut tasks = JoinSet::new();
        tasks.spawn(self.parts.clone().run(task.run()));
        watch.into_iter().for_each(|watch| drop(tasks.spawn(self.parts.clone().run(watch))));
        *at_work = Some(AtWork { of: config.clone(), line, tasks });
    }

    fn line(&self) -> Option<Arc<Line>> {
        locked(&self.at_work).as_ref().map(|at_work| at_work.line.clone())
    }

    /// Somebody says that an instance of this Auto Scaling group waits in this hook. Whether that is whom orders are given to.
    pub fn waits(&self, group: &str, hook: &str) -> bool {
        self.line().is_some_and(|line| line.receiver().waits(group, hook))
    }

    /// None: orders are given to nobody.
    pub fn shown(&self) -> Option<Shown> {
        let line = self.line()?;
        let (receiver, machine) = (line.receiver(), line.machine());
        Some(Shown {
            kind: receiver.kind(),
            to: receiver.shown(),
            status: machine.status(Instant::now()),
            counters: machine.counters(),
            #[cfg(feature = "aws")]
            group: receiver.group(),
        })
    }

    /// An order that is being given is not waited for.
    pub async fn stop(&self) {
        let at_work = locked(&self.at_work).take();
        if let Some(mut at_work) = at_work {
            at_work.tasks.shutdown().await;
        }
    }
}

struct Task {
    line: Arc<Line>,
    brain: Arc<Brain>,
    orders: Orders,
}

impl Task {
    async fn run(mut self) {
        let mut call: Option<BoxFuture<'static, (u32, Called)>> = None;
        loop {
            // Also what was ordered before this began.
            let newest = self.orders.borrow_and_update().clone();
            if let Some(order) = &newest {
                self.line.machine().order(Instant::now(), scale::Order { serial: order.serial, nodes: order.wanted });
            }
            loop {
                // The lock is not held while the effects are carried out.
                let Some(effect) = self.line.machine().next_effect() else { break };
                match effect {
                    Effect::Call { .. } => call = newest.clone().map(|order| self.line.receiver().call(order).boxed()),
                    Effect::Hang => call = None,
                    other => self.tell(other),
                }
            }
            let wake = self.line.machine().timeout();
            tokio::select! {
                changed = self.orders.changed() => if changed.is_err() { return },
                (ordered, called) = async { call.as_mut().expect("guarded").await }, if call.is_some() => {
                    call = None;
                    self.ended(ordered, called);
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {
                    self.line.machine().tick(Instant::now(), jitter());
                }
            }
        }
    }

    fn ended(&self, ordered: u32, called: Called) {
        if let Ok(said) = called {
            self.brain.told(said.unwrap_or(ordered));
        }
        self.line.machine().ended(Instant::now(), called.map(drop), jitter());
    }

    fn tell(&self, effect: Effect) {
        match effect {
            // The caller's.
            Effect::Call { .. } | Effect::Hang => {}
            Effect::Answer { serial, taken } => self.brain.answered(serial, taken),
            Effect::Failed { failure, row, again } => {
                let to = self.line.receiver().shown();
                let again = again.map_or(String::new(), |again| format!("; again in {:.1} s", again.as_secs_f64()));
                match row {
                    1 => tracing::warn!("{to} has not taken an order: {}{again}", failure.text),
                    3 => tracing::error!("{to} has not taken an order three times in a row: {}{again}", failure.text),
                    _ => tracing::debug!("{to} has not taken an order, {row} times in a row: {}{again}", failure.text),
                }
            }
            Effect::Recovered { failures } => {
                tracing::info!("{} takes orders again, after {failures} failures", self.line.receiver().shown());
            }
        }
    }
}

/// Of a text that may say how long to wait (Retry-After, RFC 9110 section 10.2.3): seconds, or a date.
fn retry_after(value: &str, now: std::time::SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are too long anyhow.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    // What is over is now.
    httpdate::parse_http_date(value).ok().map(|at| at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn how_long_to_wait_is_said_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:20 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
