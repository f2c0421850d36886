//! Takes the tenants' network interfaces that a node of an Auto Scaling group comes up without, and lets them go when it goes: asks EC2, and does what `proto::attach` says.

use super::Node;
use super::ha::Links;
use super::ha::cloud::identity::Place;
use crate::cloud::aws::{Caller, Refusal};
use crate::cloud::metadata::Metadata;
use crate::config::{self, Aws, Gateway};
use crate::daemon::{jitter, until};
use crate::kernel::Kernel;
use crate::metrics::Page;
use crate::model::{Failure, IfName, TenantName, Why};
use crate::plan::gateway::shards;
use crate::proto::actuator::backoff;
use crate::proto::attach::{Answer, Attach, Call, Effect, Eni, PATIENCE, Stand};
use crate::wire::arp::Mac;
use crate::wire::ec2;
use futures::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// From one question of who this is to the next, while metadata do not answer.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Whoever ends waits no longer for its interfaces to be let go: with the instance they are let go as well.
const LETS_GO: Duration = Duration::from_secs(10);

/// Another took it between a look and the call, or it was deleted.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
const TAKEN: [&str; 2] = ["InvalidNetworkInterface.InUse", "InvalidNetworkInterfaceID.NotFound"];
/// It is detached already.
const DETACHED: [&str; 1] = ["InvalidAttachmentID.NotFound"];

/// Of each tenant whose interface is attached by this node.
#[derive(Debug, Default)]
pub struct Attachments(BTreeMap<TenantName, Keeper>);

/// Has one attached until it is dropped, which leaves it as it is.
#[derive(Debug)]
struct Keeper {
    of: Of,
    shared: Arc<Shared>,
    wanted: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What is attached depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Of {
    tenant: TenantName,
    interface: IfName,
    attach: config::Attach,
    /// Of which the rest, addresses, is another's business.
    aws: Aws,
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

impl Attachments {
    /// Has these attached, or none of them. What stands no more in the configuration stays attached.
    fn follow(&mut self, config: &Gateway, kernel: &Arc<Kernel>, links: &watch::Receiver<Links>, wanted: bool) {
        let Some(aws) = &config.cloud else { return self.0.clear() };
        let of = |tenant: &config::GatewayTenant| {
            let aws = Aws { platform: config::Side::default(), tenants: BTreeMap::new(), ..(**aws).clone() };
            let attach = config.attach(&tenant.name)?.clone();
            Some(Of { tenant: tenant.name.clone(), interface: tenant.interface.clone(), attach, aws })
        };
        let all: BTreeMap<TenantName, Of> = config.tenants.iter().filter_map(|tenant| Some((tenant.name.clone(), of(tenant)?))).collect();
        self.0.retain(|name, keeper| all.get(name) == Some(&keeper.of));
        for (name, of) in all {
            let keeper = self.0.entry(name).or_insert_with(|| Keeper::start(of, kernel.clone(), links.clone(), wanted));
            keeper.want(wanted);
        }
    }

    /// Lets all go, and returns when they are, or after some time.
    pub async fn let_go(&self) {
        let all = async {
            for keeper in self.0.values() {
                keeper.want(false);
                // One that has ended lets nothing go.
                let _ = keeper.shared.is_free.subscribe().wait_for(|is_free| *is_free).await;
            }
        };
        if tokio::time::timeout(LETS_GO, all).await.is_err() {
            tracing::warn!("network interfaces could not be let go in time: they are free when this instance is terminated");
        }
    }

    pub fn stop(&mut self) {
        self.0.clear();
    }

    /// By tenant.
    pub fn status(&self) -> Value {
        let of = |keeper: &Keeper| {
            let state = keeper.shared.state();
            let mut shown =
                state.machine.as_ref().map_or_else(|| json!({ "state": "wanted", "eni": null }), |machine| json!(machine.status()));
            if let Some(failure) = &state.failure {
                shown["failure"] = json!(failure);
            }
            let config::Attach { device, tags } = &keeper.of.attach;
            (shown["device"], shown["tags"], shown["zone"]) = (json!(device), json!(tags), json!(state.zone));
            shown
        };
        self.0.iter().map(|(name, keeper)| (name.to_string(), of(keeper))).collect::<serde_json::Map<_, _>>().into()
    }

    pub fn metrics(&self, out: &mut Page) {
        for (tenant, keeper) in &self.0 {
            let state = keeper.shared.state();
            let tenant = ("tenant", tenant.as_str());
            let here = state.machine.as_ref().is_some_and(Attach::is_here);
            let help = "1 when the interface that a tenant's traffic needs is attached, and in the kernel";
            out.gauge("portway_attach_here", help, &[tenant], f64::from(u8::from(here)));
            let counters = state.machine.as_ref().map(Attach::counters).cloned().unwrap_or_default();
            for (call, result, count) in counters.calls() {
                let help = "Calls about interfaces to attach, by what became of them";
                out.counter("portway_attach_calls", help, &[tenant, ("call", call), ("result", result)], count);
            }
            out.counter("portway_attach_none_free", "Times that no interface with the tenant's tags was free", &[tenant], counters.none);
            out.counter("portway_attach_lost", "Times that an attached interface went away by itself", &[tenant], counters.lost);
        }
    }
}

impl Node {
    pub(super) fn take_or_let_go(&mut self) {
        let Some(kernel) = &self.kernel else { return };
        let has_left = self.leaves() && shards(&self.config).is_empty();
        let is_done = (has_left || self.group.end().1) && self.group.board().holds().is_empty();
        self.attachments.follow(&self.config, kernel, &self.group.links(), !is_done);
    }
}

impl Keeper {
    fn start(of: Of, kernel: Arc<Kernel>, links: watch::Receiver<Links>, wanted: bool) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), is_free: watch::Sender::new(false) });
        let (wanted, wants) = watch::channel(wanted);
        let metadata = Arc::new(Metadata::new(&of.aws.metadata));
        let task = Task { of: of.clone(), metadata, kernel, links, wants, shared: shared.clone() };
        Self { of, shared, wanted, task: tokio::spawn(task.run()) }
    }

    fn want(&self, wanted: bool) {
        self.wanted.send_if_modified(|present| std::mem::replace(present, wanted) != wanted);
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
}

type Ended = (u64, Result<Answer, Failure>);

impl Task {
    async fn run(mut self) {
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
                    mac.map(|byte| format!("{byte:02x}")).join(":")
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

/// Who calls, and about what.
struct At {
    place: Place,
    caller: Caller,
    attach: config::Attach,
}

impl At {
    async fn carry_out(&self, call: &Call) -> Result<Answer, Failure> {
        let Self { place, attach, .. } = self;
        match call {
            Call::Look => {
                // Not `status=available` alone: which are this node's is the same question.
                let of = ec2::Interfaces::Tagged { zone: &place.zone, tags: &attach.tags };
                let xml = self.said(ec2::Call::DescribeNetworkInterfaces { of }).await.map_err(|refusal| refusal.failure)?;
                let odd = |text: String| Failure { why: Why::Unavailable, text, after: None };
                let all = ec2::interfaces(&xml).map_err(|error| odd(error.to_string()))?;
                let enis =
                    all.into_iter().map(|one| eni(&one, place).ok_or_else(|| odd(format!("{} has the MAC {:?}", one.id, one.mac_address))));
                enis.collect::<Result<_, _>>().map(Answer::Seen)
            }
            Call::Attach(eni) => {
                let called = self.said(ec2::Call::AttachNetworkInterface { eni, instance: &place.instance, device: attach.device }).await;
                answer(called, &TAKEN)
            }
            Call::Detach(attachment) => answer(self.said(ec2::Call::DetachNetworkInterface { attachment }).await, &DETACHED),
        }
    }

    async fn said(&self, call: ec2::Call<'_>) -> Result<String, Refusal> {
        self.caller.call(SystemTime::now(), call.action(), call.form(false)).await
    }
}

fn answer(called: Result<String, Refusal>, taken: &[&str]) -> Result<Answer, Failure> {
    match called {
        Ok(_) => Ok(Answer::Done),
        Err(refusal) if taken.contains(&refusal.code.as_str()) => Ok(Answer::Taken),
        Err(refusal) => Err(refusal.failure),
    }
}

/// None: it has no MAC.
fn eni(one: &ec2::Interface, place: &Place) -> Option<Eni> {
    let bytes: Vec<u8> = one.mac_address.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    let attachment = one.attachment.as_ref().filter(|attachment| attachment.instance_id == place.instance.as_str());
    let stand = match (attachment, one.status.as_str()) {
        (Some(attachment), _) if attachment.status == "detaching" => Stand::Leaving,
        (Some(attachment), _) if attachment.status != "detached" => Stand::Ours(attachment.id.clone()),
        (_, "available") => Stand::Free,
        _ => Stand::Elsewhere,
    };
    Some(Eni { id: one.id.clone(), mac: bytes.try_into().ok()?, stand })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ec2_says_of_an_interface_is_told_apart() {
        let place = Place { instance: "i-0a1b2c3d".parse().unwrap(), region: "eu-central-1".into(), zone: "eu-central-1a".into() };
        let stand = |status: &str, attachment: &str| {
            let xml = format!(
                "<A><networkInterfaceSet><item><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId><status>{status}</status>\
                 <macAddress>02:00:00:00:00:0f</macAddress>{attachment}</item></networkInterfaceSet></A>"
            );
            let eni = eni(&ec2::interfaces(&xml).unwrap()[0], &place).expect("a MAC");
            assert_eq!(eni.mac, [2, 0, 0, 0, 0, 15]);
            eni.stand
        };
        let attached = |instance: &str, status: &str| {
            format!(
                "<attachment><attachmentId>eni-attach-1</attachmentId><instanceId>{instance}</instanceId><status>{status}</status></attachment>"
            )
        };
        assert_eq!(stand("available", ""), Stand::Free);
        assert_eq!(stand("pending", ""), Stand::Elsewhere);
        for status in ["attaching", "attached"] {
            assert_eq!(stand("in-use", &attached("i-0a1b2c3d", status)), Stand::Ours("eni-attach-1".into()));
            assert_eq!(stand("in-use", &attached("i-0a1b2c3e", status)), Stand::Elsewhere);
        }
        assert_eq!(stand("in-use", &attached("i-0a1b2c3d", "detaching")), Stand::Leaving);
        assert_eq!(stand("available", &attached("i-0a1b2c3d", "detached")), Stand::Free);
    }
}
