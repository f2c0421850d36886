//! Messages of Amazon SNS: verified by a certificate that is fetched, acted on, remembered.

use super::super::actuator::Hand;
use super::{body, unless_pushed_out};
use crate::config;
use crate::daemon::answer;
use crate::daemon::http::Strangers;
use crate::metrics::Page;
use crate::wire::webhook::sns::lifecycle::{Told, Transition};
use crate::wire::webhook::sns::{
    CERTIFICATE_LIMIT, Certificate, CertificateUrl, Certificates, Effect, Message, REMEMBERED, SubscribeUrl, Verifier, WINDOW, Waiter,
};
use crate::wire::webhook::{Body, Novelty, Refusal};
use anyhow::Context;
use axum::extract::Request;
use reqwest::Client;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime};
use tokio::sync::oneshot;

/// Bodies that are taken or wait for a certificate at once, as anybody may send one: 16 MiB at most. Whoever comes when there are as many gets the place of the one who came first.
const ROOM: usize = 64;

/// How SNS is reached: by the system's names and roots, unless a test stands in for it. The URLs stay what they are.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    pub hosts: Vec<(String, SocketAddr)>,
    pub roots: Option<Vec<reqwest::Certificate>>,
}

impl Reach {
    fn client(&self) -> anyhow::Result<Client> {
        let builder =
            Client::builder().https_only(true).no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(Certificates::PATIENCE);
        let builder = self.hosts.iter().fold(builder, |builder, (host, at)| builder.resolve(host, *at));
        let builder = match &self.roots {
            Some(roots) => builder.tls_certs_only(roots.iter().cloned()),
            None => builder,
        };
        builder.build().context("cannot make a client for SNS: are there certificates of authorities on this machine (ca-certificates)?")
    }
}

pub struct Sns {
    verifier: Mutex<Verifier>,
    fetching: Mutex<Fetching>,
    reach: Reach,
    /// None: no topic may send here.
    client: RwLock<Option<Client>>,
    for_somebody: AtomicBool,
    unproved: Strangers,
    subscribed: AtomicU64,
    /// Whom orders are given to.
    hand: Hand,
    /// Instances that wait: of whom orders are given to, of somebody else.
    lifecycle: [AtomicU64; 2],
}

struct Fetching {
    certificates: Certificates,
    waiting: BTreeMap<Waiter, oneshot::Sender<Result<Certificate, Refusal>>>,
    last: u64,
}

impl Sns {
    pub fn new(config: &config::Webhooks, reach: &Reach, hand: Hand) -> anyhow::Result<Self> {
        let sns = Self {
            verifier: Mutex::new(Verifier::new(vec![], WINDOW, REMEMBERED)),
            fetching: Mutex::new(Fetching { certificates: Certificates::new(), waiting: BTreeMap::new(), last: 0 }),
            reach: reach.clone(),
            client: RwLock::new(None),
            for_somebody: AtomicBool::new(false),
            unproved: Strangers::default(),
            subscribed: AtomicU64::new(0),
            hand,
            lifecycle: Default::default(),
        };
        sns.configure(config)?;
        Ok(sns)
    }

    pub fn configure(&self, config: &config::Webhooks) -> anyhow::Result<()> {
        if !config.topics.is_empty() && self.client().is_none() {
            let client = self.reach.client()?;
            *self.client.write().unwrap_or_else(PoisonError::into_inner) = Some(client);
        }
        self.verifier().change(config.topics.clone());
        self.for_somebody.store(!config.topics.is_empty(), Relaxed);
        Ok(())
    }

    /// Whether the configuration names a topic.
    pub fn is_for_somebody(&self) -> bool {
        self.for_somebody.load(Relaxed)
    }

    pub async fn take(self: &Arc<Self>, request: Request) -> Result<Novelty, Refusal> {
        let (head, body) = request.into_parts();
        Body::announced(&head.headers, Body::LIMIT)?;
        let stranger = self.unproved.enter_one_of(ROOM);
        let bytes = unless_pushed_out(&stranger, body::take(body, Body::LIMIT)).await?;
        let envelope = self.verifier().check(Body::new(&bytes, Body::LIMIT)?, SystemTime::now())?;
        let certificate = unless_pushed_out(&stranger, self.certificate(envelope.certificate_url())).await?;
        let verified = self.verifier().verify(envelope, &certificate, SystemTime::now())?;
        drop(stranger);
        if self.verifier().seen(&verified.id) {
            return Ok(Novelty::Again);
        }
        self.act(&verified.message).await?;
        self.verifier().taken(verified.id, SystemTime::now());
        Ok(Novelty::First)
    }

    async fn act(&self, message: &Message) -> Result<(), Refusal> {
        match message {
            Message::Subscribe { topic, url } => {
                self.subscribe(url).await?;
                self.subscribed.fetch_add(1, Relaxed);
                tracing::info!("{topic} sends here from now on");
            }
            Message::Unsubscribed { topic } => {
                tracing::warn!("somebody has ended the subscription of {topic}: nothing comes from there any more");
            }
            Message::Notification { topic, id, text } => match Told::read(text)? {
                Told::Waiting(transition) => self.wait_for(&transition),
                Told::Test => tracing::info!("{topic} was tried out ({id})"),
                Told::Other => tracing::debug!("{topic}: {id} is not for an autoscaler"),
            },
        }
        Ok(())
    }

    /// Said by a group, and no order to us: it is a reason to look at it at once.
    fn wait_for(&self, transition: &Transition) {
        let Transition { direction, instance, group, hook, .. } = transition;
        let is_ours = self.hand.waits(group, hook);
        self.lifecycle[usize::from(!is_ours)].fetch_add(1, Relaxed);
        if is_ours {
            tracing::info!("{instance} of {group} waits for the hook {hook} ({direction:?}): the group is looked at");
        } else {
            tracing::info!("{instance} of {group} waits for the hook {hook} ({direction:?}), which is not that of `actuator.aws`");
        }
    }

    async fn subscribe(&self, url: &SubscribeUrl) -> Result<(), Refusal> {
        let not = |why: String| Refusal::NotNow(format!("the subscription could not be confirmed, {why}"));
        let client = self.client().ok_or_else(|| not("no topic is configured any more".into()))?;
        let answer = client.get(url.as_str()).send().await.map_err(|error| not(told(error)))?;
        if answer.status().is_success() { Ok(()) } else { Err(not(format!("SNS answers with {}", answer.status().as_u16()))) }
    }

    /// Waits for it, if it has to be fetched.
    async fn certificate(self: &Arc<Self>, url: &CertificateUrl) -> Result<Certificate, Refusal> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut fetching = self.fetching();
            fetching.last += 1;
            let waiter = Waiter(fetching.last);
            fetching.waiting.insert(waiter, sender);
            fetching.certificates.want(Instant::now(), SystemTime::now(), url, waiter);
            self.carry_out(&mut fetching);
        }
        receiver.await.unwrap_or_else(|_| Err(Refusal::NotNow("this autoscaler ends".into())))
    }

    fn carry_out(self: &Arc<Self>, fetching: &mut Fetching) {
        while let Some(effect) = fetching.certificates.next_effect() {
            let (waiter, result) = match effect {
                Effect::Fetch(url) => {
                    tokio::spawn(self.clone().fetch(url));
                    continue;
                }
                Effect::Known(waiter, certificate) => (waiter, Ok(certificate)),
                Effect::Refused(waiter, refusal) => (waiter, Err(refusal)),
            };
            if let Some(sender) = fetching.waiting.remove(&waiter) {
                // Whoever has hung up does not wait any more.
                let _ = sender.send(result);
            }
        }
    }

    /// Ends within [`Certificates::PATIENCE`], so whatever is late is seen to by then.
    async fn fetch(self: Arc<Self>, url: CertificateUrl) {
        let got = match self.client() {
            Some(client) => get(&client, url.as_str()).await,
            None => Err("no topic is configured any more".into()),
        };
        let answer = got.as_ref().map(Vec::as_slice).map_err(String::as_str);
        let mut fetching = self.fetching();
        fetching.certificates.fetched(Instant::now(), SystemTime::now(), &url, answer);
        self.carry_out(&mut fetching);
    }

    pub fn remembered(&self) -> usize {
        self.verifier().remembered()
    }

    pub fn metrics(&self, page: &mut Page) {
        let counted = self.fetching().certificates.counters;
        for (result, count) in [("begun", counted.fetches), ("failed", counted.failed), ("full", counted.full)] {
            page.counter("portway_webhook_certificate_fetches", "Certificates of SNS that were fetched", &[("result", result)], count);
        }
        page.counter("portway_webhook_subscriptions", "Subscriptions of topics that were confirmed", &[], self.subscribed.load(Relaxed));
        for (result, count) in ["looked", "unknown"].into_iter().zip(&self.lifecycle) {
            let help = "Instances that wait for a lifecycle hook";
            page.counter("portway_webhook_lifecycle_messages", help, &[("result", result)], count.load(Relaxed));
        }
    }

    fn verifier(&self) -> MutexGuard<'_, Verifier> {
        self.verifier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetching(&self) -> MutexGuard<'_, Fetching> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Option<Client> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn get(client: &Client, url: &str) -> Result<Vec<u8>, String> {
    let answer = client.get(url).send().await.map_err(told)?;
    if !answer.status().is_success() {
        return Err(format!("SNS answers with {}", answer.status().as_u16()));
    }
    let bytes = answer::whole(answer, CERTIFICATE_LIMIT).await.map_err(told)?;
    bytes.ok_or_else(|| format!("it has more than {CERTIFICATE_LIMIT} bytes"))
}

/// Without the URL, where there may be a token.
fn told(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}
