//! Orders as the desired capacity of an Auto Scaling group, and instances that are to go kept waiting until they are drained.

use super::super::brain::Brain;
use super::{Called, locked};
use crate::config;
use crate::daemon::{answer, jitter};
use crate::model::{Failure, NodeName, Why};
use crate::proto::actuator::backoff;
use crate::proto::retire::{Counters, Effect, How, Leaving, Load, Retire};
use crate::wire::autoscaling::{Call, Group, fault, group};
use anyhow::Context;
use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::{Client, Method, redirect};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Mutex as Slow, Notify, OnceCell};
use url::Url;

/// As it stands in signatures.
const SERVICE: &str = "autoscaling";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// Bytes of an answer: of a group of 1,000 instances it is some 500,000.
const LONGEST: usize = 4 << 20;
/// Credentials that end sooner are got anew.
const FRESH: Duration = Duration::from_secs(300);
/// From one look at a group that does not answer to the next, in the end.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What those carry that leave is looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// Looks that are asked for are no more frequent.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);
/// So many follow each other when somebody says that an instance waits: what the group tells of itself may be older than what it publishes.
const LOOKS: i32 = 3;

/// The group, as it is called.
#[derive(Debug)]
pub struct Aws {
    client: Client,
    config: config::AutoScalingGroup,
    endpoint: Url,
    chain: OnceCell<DefaultCredentialsChain>,
    credentials: Slow<Option<Credentials>>,
    seen: Mutex<Seen>,
    /// Rung when somebody says that an instance waits.
    bell: Notify,
}

/// What is known of the group.
#[derive(Debug, Default)]
struct Seen {
    looks: [u64; 2],
    group: Option<GroupStatus>,
    failure: Option<String>,
    leaving: Vec<Leaving>,
    let_go: Counters,
}

#[derive(Debug, Clone, Serialize)]
struct GroupStatus {
    name: String,
    min: u32,
    max: u32,
    desired: u32,
    in_service: usize,
}

/// What there is to show.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    group: Option<GroupStatus>,
    /// Why it is not known better.
    group_failure: Option<String>,
    leaving: Vec<Leaving>,
    #[serde(skip)]
    pub looks: [(&'static str, u64); 2],
    #[serde(skip)]
    pub let_go: Counters,
}

impl Aws {
    pub fn new(config: &config::AutoScalingGroup) -> anyhow::Result<Self> {
        let builder = Client::builder().redirect(redirect::Policy::none()).no_proxy().timeout(config.timeout);
        let client = builder.build().context("`actuator`: cannot set up TLS")?;
        let china = if config.region.starts_with("cn-") { ".cn" } else { "" };
        let own = format!("https://{SERVICE}.{}.amazonaws.com{china}/", config.region);
        let endpoint = config.endpoint.clone().map_or_else(|| own.parse().context("`actuator`: `region` makes no address"), Ok)?;
        let (chain, credentials, seen) = (OnceCell::new(), Slow::new(None), Mutex::default());
        Ok(Self { client, config: config.clone(), endpoint, chain, credentials, seen, bell: Notify::new() })
    }

    pub fn to(&self) -> String {
        format!("the Auto Scaling group {} in {}", self.config.group, self.config.region)
    }

    pub fn shown(&self) -> Shown {
        let seen = locked(&self.seen);
        let [good, failed] = seen.looks;
        Shown {
            group: seen.group.clone(),
            group_failure: seen.failure.clone(),
            leaving: seen.leaving.clone(),
            looks: [("good", good), ("failed", failed)],
            let_go: seen.let_go,
        }
    }

    /// Somebody says that an instance of this group waits in this hook. Whether they are ours; then the group is looked at at once.
    pub fn waits(&self, group: &str, hook: &str) -> bool {
        let is_ours = self.config.group == group && self.config.hook.as_deref() == Some(hook);
        if is_ours {
            self.bell.notify_one();
        }
        is_ours
    }

    /// Sets what is desired.
    pub async fn order(&self, nodes: u32) -> Called {
        self.call(Call::SetDesiredCapacity { nodes }).await.map(|_| None)
    }

    /// The XML of a good answer.
    async fn call(&self, call: Call<'_>) -> Result<String, Failure> {
        let body = call.form(&self.config.group);
        let request = self.signed(body).await?;
        let response = self.client.execute(request).await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = text(response).await?;
        if (200..300).contains(&status) {
            return Ok(text);
        }
        let fault = fault(&text);
        let (code, message) = fault.map_or((String::new(), "nothing that AWS would say".to_owned()), |fault| (fault.code, fault.message));
        let (why, remedy) = meaning(status, &code);
        if why != Why::Throttled {
            // They may have been taken back, or be of another clock.
            *self.credentials.lock().await = None;
        }
        let said = crate::wire::webhook::order::said(format!("{code}: {message}").as_bytes());
        Err(Failure { why, text: format!("{} is answered with {status}{remedy}: {said}", call.action()), after: None })
    }

    async fn signed(&self, body: String) -> Result<reqwest::Request, Failure> {
        let identity = self.credentials().await?.into();
        let unsigned =
            |error: &dyn std::fmt::Display| Failure { why: Why::Refused, text: format!("the call cannot be signed: {error}"), after: None };
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.config.region)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let headers = [("content-type", FORM)];
        let signable = SignableRequest::new("POST", self.endpoint.as_str(), headers.into_iter(), SignableBody::Bytes(body.as_bytes()));
        let (signature, _) = sign(signable.map_err(|error| unsigned(&error))?, &params).map_err(|error| unsigned(&error))?.into_parts();
        let mut request = self.client.request(Method::POST, self.endpoint.clone()).header("content-type", FORM);
        for (name, value) in signature.headers() {
            request = request.header(name, value);
        }
        request.body(body).build().map_err(|error| unsigned(&error))
    }

    /// As AWS's own tools find them: environment, profile, web identity, container, instance.
    async fn credentials(&self) -> Result<Credentials, Failure> {
        let mut known = self.credentials.lock().await;
        let soon = SystemTime::now() + FRESH;
        if let Some(credentials) = known.as_ref().filter(|known| known.expiry().is_none_or(|expiry| expiry > soon)) {
            return Ok(credentials.clone());
        }
        let region = Region::new(self.config.region.clone());
        let chain = self.chain.get_or_init(|| async { DefaultCredentialsChain::builder().region(region).build().await }).await;
        // Looks, heartbeats and orders all wait for this one.
        let provided = tokio::time::timeout(self.config.timeout, chain.provide_credentials()).await.map_err(anyhow::Error::from);
        let credentials = provided.and_then(|provided| provided.map_err(anyhow::Error::from)).map_err(|error| {
            let text = format!("no credentials ({error:#}): give this machine a role that may scale the group, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
            Failure { why: Why::Unavailable, text, after: None }
        })?;
        Ok(known.insert(credentials).clone())
    }

    async fn look(&self) -> Result<Group, Failure> {
        let xml = self.call(Call::DescribeAutoScalingGroups).await?;
        group(&xml, &self.config.group).map_err(|error| Failure { why: Why::Refused, text: error.to_string(), after: None })
    }

    /// Looks at the group, and lets go those that wait, until it is dropped.
    pub async fn watch(self: Arc<Self>, brain: Arc<Brain>) {
        let mut retire = Retire::new(Instant::now());
        let (mut failures, mut looked, mut soon) = (0, Instant::now(), 0);
        let mut next = looked;
        loop {
            if next <= Instant::now() {
                let wait = match self.look().await {
                    Ok(group) => {
                        failures = 0;
                        self.looked(&group, &brain, &mut retire);
                        soon -= i32::from(soon > 0);
                        if soon > 0 { TICK } else { self.config.look }
                    }
                    Err(failure) => {
                        self.not_looked(failure);
                        failures += 1;
                        backoff((self.config.look, LONGEST_WAIT), failures, jitter())
                    }
                };
                looked = Instant::now();
                next = looked + wait;
            }
            self.retire(&mut retire, &brain).await;
            tokio::select! {
                () = tokio::time::sleep(TICK.min(next.saturating_duration_since(Instant::now()))) => {}
                // A group that does not answer is left alone.
                () = self.bell.notified(), if failures == 0 => {
                    (next, soon) = (next.min(looked + SHORTEST_WAIT), LOOKS);
                }
            }
        }
    }

    fn looked(&self, group: &Group, brain: &Brain, retire: &mut Retire) {
        let in_service = group.instances().iter().filter(|instance| instance.is_in_service()).count();
        // A gateway is called as its instance is, or nothing is known of it here.
        let named = |here: bool| {
            let these = group.instances().iter().filter(move |instance| instance.is_in_service() == here);
            these.filter_map(|instance| instance.id.parse().ok()).collect::<BTreeSet<NodeName>>()
        };
        brain.looked(group.desired, named(false), named(true));
        if self.config.hook.is_some() {
            let waiting = group.instances().iter().filter(|instance| instance.waits_to_go()).map(|instance| instance.id.as_str());
            retire.waiting(Instant::now(), waiting);
        }
        let mut seen = locked(&self.seen);
        seen.looks[0] += 1;
        if seen.failure.take().is_some() {
            tracing::info!("{} tells of itself again", self.to());
        }
        let Group { name, min, max, desired, .. } = group;
        seen.group = Some(GroupStatus { name: name.clone(), min: *min, max: *max, desired: *desired, in_service });
    }

    fn not_looked(&self, failure: Failure) {
        let mut seen = locked(&self.seen);
        seen.looks[1] += 1;
        if seen.failure.replace(failure.text.clone()).is_none() {
            tracing::warn!("{}: {}", self.to(), failure.text);
        }
    }

    async fn retire(&self, retire: &mut Retire, brain: &Brain) {
        let Some(hook) = &self.config.hook else { return };
        for Leaving { instance, .. } in retire.leaving(Instant::now()) {
            let load = instance.parse().ok().and_then(|name| brain.load(&name));
            retire.carries(Instant::now(), &instance, load);
        }
        retire.tick(Instant::now());
        while let Some(effect) = retire.next_effect() {
            match effect {
                Effect::Drain(instance) => {
                    tracing::info!("{instance} is to go: it waits until its gateway has handed over its shards");
                }
                Effect::Heartbeat(instance) => {
                    let call = Call::RecordLifecycleActionHeartbeat { hook, instance: &instance };
                    if let Err(failure) = self.call(call).await {
                        tracing::debug!("{instance}: {}", failure.text);
                    }
                }
                Effect::Complete { instance, how, load } => {
                    let done = self.call(Call::CompleteLifecycleAction { hook, instance: &instance }).await;
                    match &done {
                        Ok(_) => told(&instance, how, load),
                        Err(failure) => tracing::warn!("{instance} cannot be let go yet: {}", failure.text),
                    }
                    retire.completed(Instant::now(), &instance, done.is_ok());
                }
            }
        }
        let mut seen = locked(&self.seen);
        (seen.leaving, seen.let_go) = (retire.leaving(Instant::now()), retire.counters());
    }
}

/// For the log: an instance was let go.
fn told(instance: &str, how: How, load: Option<Load>) {
    match (how, load) {
        (How::Drained, _) => tracing::info!("{instance} has no shards any more and may go"),
        (How::Quiet, Some(Load { shards, .. })) => {
            tracing::warn!("{instance} may go: nobody takes its shards ({shards}), and no connection goes through them");
        }
        (How::Late, Some(Load { shards, connections: Some(connections) })) => {
            tracing::warn!("{instance} may go: for too long it has had shards ({shards}) and connections ({connections}), which end");
        }
        (How::Late | How::Quiet, _) => tracing::warn!("{instance} may go: for too long it has not said what it carries"),
    }
}

/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html>, and the errors of each call.
fn meaning(status: u16, code: &str) -> (Why, &'static str) {
    match code {
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => (Why::Throttled, ""),
        // Of these each call says that it may be tried later.
        "ResourceContention" | "ScalingActivityInProgress" | "ServiceUnavailable" | "ExpiredToken" | "ExpiredTokenException" => {
            (Why::Unavailable, "")
        }
        "RequestExpired" | "SignatureDoesNotMatch" => (Why::Refused, " (is this machine's clock right?)"),
        "InvalidClientTokenId" | "UnrecognizedClientException" | "AccessDenied" | "AccessDeniedException" => {
            (Why::Refused, " (docs/autoscaling.md has the policy that the role needs)")
        }
        _ => (Why::of_status(status).unwrap_or(Why::Refused), ""),
    }
}

async fn text(response: reqwest::Response) -> Result<String, Failure> {
    let bytes = answer::whole(response, LONGEST).await.map_err(unreachable)?.ok_or_else(|| {
        let text = format!("the answer has more than {LONGEST} bytes: is `endpoint` one of AWS's?");
        Failure { why: Why::Refused, text, after: None }
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unreachable(error: reqwest::Error) -> Failure {
    let why = if error.is_timeout() { Why::TimedOut } else { Why::Unreachable };
    let text = format!(
        "AWS does not answer ({:#}): may this machine reach it, or an endpoint of the VPC?",
        anyhow::Error::from(error.without_url())
    );
    Failure { why, text, after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_says_is_told_apart() {
        let said = |status, code| meaning(status, code).0;
        assert_eq!(said(400, "Throttling"), Why::Throttled);
        assert_eq!(said(500, "ResourceContention"), Why::Unavailable);
        assert_eq!(said(400, "ScalingActivityInProgress"), Why::Unavailable);
        assert_eq!(said(400, "ValidationError"), Why::Refused);
        assert_eq!(said(403, "AccessDenied"), Why::Refused);
        assert_eq!(said(502, ""), Why::Unavailable);
        assert_eq!(said(429, ""), Why::Throttled);
    }

    #[test]
    fn each_region_has_its_place() {
        let config = |region: &str| config::AutoScalingGroup {
            group: "gateways".into(),
            region: region.into(),
            hook: None,
            endpoint: None,
            look: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
        };
        for (region, place) in [
            ("eu-central-1", "https://autoscaling.eu-central-1.amazonaws.com/"),
            ("cn-north-1", "https://autoscaling.cn-north-1.amazonaws.com.cn/"),
        ] {
            assert_eq!(Aws::new(&config(region)).unwrap().endpoint.as_str(), place);
        }
    }
}
