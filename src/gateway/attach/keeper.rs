//! Has one interface attached, or none.

use super::translate::At;
use crate::cloud::aws::Caller;
use crate::cloud::metadata::Metadata;
use crate::config::{self, Aws};
use crate::daemon::{jitter, until};
use crate::gateway::ha::Links;
use crate::gateway::ha::cloud::identity::Place;
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::{Failure, IfName, TenantName};
use crate::proto::actuator::backoff;
use crate::proto::attach::{Answer, Attach, Effect, PATIENCE};
use crate::wire::arp::{self, Mac};
use futures::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// From one question of who this is to the next, while metadata do not answer.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Has one attached until it is dropped, which leaves it as it is.
#[derive(Debug)]
pub struct Keeper {
    pub of: Of,
    shared: Arc<Shared>,
    wanted: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What is attached depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Of {
    pub tenant: TenantName,
    pub interface: IfName,
    pub attach: config::Attach,
    /// Of which the rest, addresses, is another's business.
    pub aws: Aws,
}

/// Another's end, or its own, that somebody waits for.
#[derive(Debug)]
pub struct Before {
    tenant: TenantName,
    is_free: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Nothing is attached, and nothing is to be.
    is_free: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Once it is known who this is.
    machine: Option<Attach>,
    zone: Option<String>,
    /// Why it is not; or what the kernel calls the interface instead.
    failure: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// `before`: what is to be let go first.
    pub fn start(of: Of, kernel: Arc<Kernel>, links: watch::Receiver<Links>, wanted: bool, before: Vec<Before>) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), is_free: watch::Sender::new(false) });
        let (wanted, wants) = watch::channel(wanted);
        let metadata = Arc::new(Metadata::new(&of.aws.metadata));
        let task = Task { of: of.clone(), metadata, kernel, links, wants, shared: shared.clone(), before };
        Self { of, shared, wanted, task: tokio::spawn(task.run()) }
    }

    pub fn want(&self, wanted: bool) {
        self.wanted.send_if_modified(|present| std::mem::replace(present, wanted) != wanted);
    }

    pub fn is_wanted(&self) -> bool {
        *self.wanted.borrow()
    }

    /// Whoever has to wait until this is let go.
    pub fn before(&self) -> Before {
        Before { tenant: self.of.tenant.clone(), is_free: self.shared.is_free.subscribe() }
    }

    /// Nothing is attached, nor will be.
    pub fn is_gone(&self) -> bool {
        self.shared.state().machine.as_ref().is_some_and(Attach::is_gone)
    }

    /// Does nothing.
    #[cfg(test)]
    pub fn idle(of: Of) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), is_free: watch::Sender::new(false) });
        Self { of, shared, wanted: watch::Sender::new(true), task: tokio::spawn(std::future::pending()) }
    }

    pub fn status(&self) -> Value {
        let state = self.shared.state();
        let mut shown = state.machine.as_ref().map_or_else(|| json!({ "state": "wanted", "eni": null }), |machine| json!(machine.status()));
        if let Some(failure) = &state.failure {
            shown["failure"] = json!(failure);
        }
        let config::Attach { device, tags } = &self.of.attach;
        (shown["device"], shown["tags"], shown["zone"]) = (json!(device), json!(tags), json!(state.zone));
        shown
    }

    pub fn metrics(&self, out: &mut Page) {
        let state = self.shared.state();
        let tenant = ("tenant", self.of.tenant.as_str());
        let gauge = |is: bool| f64::from(u8::from(is));
        let here = state.machine.as_ref().is_some_and(Attach::is_here);
        let help = "1 when the interface that a tenant's traffic needs is attached, and in the kernel";
        out.gauge("portway_attach_here", help, &[tenant], gauge(here));
        let help = "1 while it is to be so, 0 when the node has let it go";
        out.gauge("portway_attach_wanted", help, &[tenant], gauge(self.is_wanted()));
        let counters = state.machine.as_ref().map(Attach::counters).cloned().unwrap_or_default();
        for (call, result, count) in counters.calls() {
            let help = "Calls about interfaces to attach, by what became of them";
            out.counter("portway_attach_calls", help, &[tenant, ("call", call), ("result", result)], count);
        }
        out.counter("portway_attach_none_free", "Times that no interface with the tenant's tags was free", &[tenant], counters.none);
        out.counter("portway_attach_lost", "Times that an attached interface went away by itself", &[tenant], counters.lost);
    }
}

impl Before {
    pub async fn is_free(&mut self) {
        // One that has ended holds nothing up.
        let _ = self.is_free.wait_for(|is_free| *is_free).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    of: Of,
    metadata: Arc<Metadata>,
    kernel: Arc<Kernel>,
    links: watch::Receiver<Links>,
    wants: watch::Receiver<bool>,
    shared: Arc<Shared>,
    before: Vec<Before>,
}

type Ended = (u64, Result<Answer, Failure>);

impl Task {
    async fn run(mut self) {
        for mut before in std::mem::take(&mut self.before) {
            self.shared.state().failure = Some(format!("the interface of {} is let go first", before.tenant));
            before.is_free().await;
        }
        let (place, caller) = self.identify().await;
        let at = Arc::new(At { place, caller, attach: self.of.attach.clone() });
        let machine = Attach::new(Instant::now(), at.place.instance.clone(), *self.wants.borrow());
        *self.shared.state() = State { machine: Some(machine), zone: Some(at.place.zone.clone()), failure: None };
        let mut calling: Option<BoxFuture<'static, Ended>> = None;
        loop {
            let wake = self.obey(&at, &mut calling);
            tokio::select! {
                changed = self.wants.changed() => if changed.is_err() { return },
                changed = self.links.changed() => if changed.is_err() { return },
                (number, outcome) = async { calling.as_mut().expect("guarded").await }, if calling.is_some() => {
                    calling = None;
                    if let Some(machine) = &mut self.shared.state().machine {
                        machine.ended(Instant::now(), number, outcome, jitter());
                    }
                }
                () = until(wake) => {}
            }
        }
    }

    /// Tells the machine what there is, and carries out what it says. When to do so again at the latest.
    fn obey(&mut self, at: &Arc<At>, calling: &mut Option<BoxFuture<'static, Ended>>) -> Option<Instant> {
        let wanted = *self.wants.borrow_and_update();
        let links = self.links.borrow_and_update().clone();
        let shared = self.shared.clone();
        let mut state = shared.state();
        let now = Instant::now();
        let State { machine: Some(machine), failure, .. } = &mut *state else { return None };
        machine.want(now, wanted);
        machine.tick(now, jitter());
        let called = machine.mac().map(|mac| self.called(mac, &links));
        machine.stands(now, called == Some(Some(self.of.interface.clone())));
        let other = called.flatten().filter(|name| *name != self.of.interface);
        *failure = other.map(|name| {
            let Of { tenant, interface, .. } = &self.of;
            format!("the interface of {tenant} is here as {name}, and the configuration has {interface}: have udev name it so by its MAC (docs/aws.md), or write {name}")
        });
        while let Some(effect) = machine.next_effect() {
            match effect {
                Effect::Call { number, call } => {
                    let at = at.clone();
                    *calling = Some(async move { (number, at.carry_out(&call).await) }.boxed());
                }
                Effect::Drop(_) => *calling = None,
                other => self.tell(&at.place, other, failure.as_deref()),
            }
        }
        let is_free = machine.is_free();
        self.shared.is_free.send_if_modified(|present| std::mem::replace(present, is_free) != is_free);
        machine.timeout()
    }

    /// By the kernel.
    fn called(&self, mac: Mac, links: &Links) -> Option<IfName> {
        let has = |name: &&IfName| self.kernel.mac(name).is_ok_and(|found| found == Some(mac));
        [&self.of.interface].into_iter().chain(links.keys()).find(has).cloned()
    }

    /// Asks until it is known which instance this is.
    async fn identify(&self) -> (Place, Caller) {
        let mut failures = 0;
        loop {
            let found = async {
                let place = Place::find(&self.metadata, &self.of.aws).await?;
                let caller = Caller::new("ec2", &place.region, self.of.aws.endpoint.as_ref(), PATIENCE);
                let caller = caller.map_err(|error| error.to_string())?.with_metadata(self.metadata.clone());
                Ok::<_, String>((place, caller))
            };
            match found.await {
                Ok(found) => return found,
                Err(why) => {
                    if failures == 0 {
                        tracing::error!("no interface can be attached for {}, trying again: {why}", self.of.tenant);
                    }
                    self.shared.state().failure = Some(why);
                }
            }
            tokio::time::sleep(backoff(AGAIN, failures, jitter())).await;
            failures += 1;
        }
    }

    fn tell(&self, place: &Place, effect: Effect, misnamed: Option<&str>) {
        let Of { tenant, interface, attach, .. } = &self.of;
        match effect {
            // The caller's.
            Effect::Call { .. } | Effect::Drop(_) => {}
            Effect::Here { eni, took } => {
                tracing::info!("{tenant}: {eni} is attached and here as {interface}, after {} ms", took.as_millis());
            }
            Effect::Late { eni, mac } => match misnamed {
                Some(text) => tracing::error!("{text}"),
                None => tracing::error!(
                    "{tenant}: {eni} is attached, and the kernel has no interface with its MAC {} yet: what does `dmesg` say of it?",
                    arp::written(mac)
                ),
            },
            Effect::Lost { eni } => tracing::warn!("{tenant}: {interface} is gone: has somebody detached {eni}? One is attached again"),
            Effect::Gone => tracing::info!("{tenant}: no interface of this node's is attached any more"),
            Effect::Taken { eni } => tracing::info!("{tenant}: another node was faster and has {eni}: another is tried"),
            Effect::None { all, row } => {
                let text = format!(
                    "{tenant}: no network interface with the tags {} is free in {}: {all} there have them. Make more (Terraform: `autoscaling.spare_interfaces`); trying again",
                    tags(attach),
                    place.zone
                );
                if row == 1 { tracing::error!("{text}") } else { tracing::debug!("{text}") }
            }
            Effect::Failed { failure, row } => {
                let text = format!("{tenant}: its interface cannot be attached or let go yet, trying again: {}", failure.text);
                if row == 1 { tracing::warn!("{text}") } else { tracing::debug!("{text}") }
            }
        }
    }
}

fn tags(attach: &config::Attach) -> String {
    attach.tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}
