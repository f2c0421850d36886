//! The door for what is posted (`wire::webhook` says what counts): the head before the body, the level to the brain, and only then is it remembered as
//! taken. Refusals are counted by their reason, and told.
//!
//! ```text
//!  demand, alerts --> Keys::door --> place? --> body --> Pass::admit --> Replay::ask --> Brain::hear --> Replay::taken --> 200
//!  sns -------------> topics? -----> place? --> body --> sns::Sns ---------------------------------------------> 200
//! ```

mod body;
mod counters;
mod sns;

pub use sns::Reach;

use super::actuator::Hand;
use super::brain::Brain;
use crate::config;
use crate::daemon::http::{Known, Stranger, Strangers};
use crate::daemon::key_file;
use crate::metrics::Page;
use crate::wire::webhook::alertmanager::{self, History, Notification, Order};
use crate::wire::webhook::auth::{Keys, Limits, Proof};
use crate::wire::webhook::demand::Demand;
use crate::wire::webhook::{ALERTS, Body, DEMAND, Novelty, Refusal, Replay, SNS, Saved};
use anyhow::anyhow;
use axum::extract::{Request, State};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use counters::Counters;
use serde_json::{Value, json};
use sns::Sns;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// Bodies that are taken at once of those who have shown a token, and of those who claim to have signed, as anybody can: 32 MiB each at most. Of the latter, whoever comes when
/// there are as many gets the place of the one who came first.
const ROOM: usize = 128;
const LOOK: Duration = Duration::from_secs(1);
/// Connections at once; beyond, the next one gets a stranger's place.
pub const PLACES: u32 = 1024;
/// Alerts of which is known when they began and ended: four times the levels that an autoscaler keeps.
const ALERTS_KNOWN: usize = 1024;

/// All that the posts have in common.
pub struct Door {
    brain: Arc<Brain>,
    keys: RwLock<Arc<Keys>>,
    book: Mutex<Book>,
    /// Of those who have shown a token.
    proved: Semaphore,
    /// Of those who claim to have signed.
    claimed: Strangers,
    sns: Arc<Sns>,
    counters: Counters,
}

/// What tells an old post from a new one.
struct Book {
    replay: Replay,
    order: Order,
    history: History,
}

/// What was admitted.
struct Post {
    bytes: Vec<u8>,
    proof: Proof,
}

/// What a post came to.
struct Taken {
    novelty: Novelty,
    /// Of what stood in it and does not count.
    left_out: Vec<Refusal>,
}

impl Taken {
    fn whole(novelty: Novelty) -> Self {
        Self { novelty, left_out: vec![] }
    }
}

impl Door {
    /// `replay` is what an earlier process has left in order; `hand` gives orders to whoever may be spoken of.
    pub fn new(config: &config::Webhooks, brain: Arc<Brain>, hand: Hand, replay: Option<Replay>, reach: &Reach) -> anyhow::Result<Self> {
        let replay = replay.unwrap_or_else(|| Replay::new(Limits::default().window, SystemTime::now()));
        let order = Order::new(alertmanager::LASTS, ALERTS_KNOWN);
        let door = Self {
            keys: RwLock::new(Arc::new(keys(config)?)),
            book: Mutex::new(Book { replay, order, history: History::default() }),
            proved: Semaphore::new(ROOM),
            claimed: Strangers::default(),
            sns: Arc::new(Sns::new(config, reach, hand)?),
            counters: Counters::default(),
            brain,
        };
        door.look();
        Ok(door)
    }

    /// Tokens, keys and topics as they are now; what was taken stays known. What cannot be used changes nothing.
    pub fn configure(&self, config: &config::Webhooks) -> anyhow::Result<()> {
        let keys = Arc::new(keys(config)?);
        self.sns.configure(config)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Notes how many nodes there are, again and again: an alert may want one more than there were when it began.
    pub async fn look_often(self: Arc<Self>, end: CancellationToken) {
        while tokio::time::timeout(LOOK, end.cancelled()).await.is_err() {
            self.look();
        }
    }

    fn look(&self) {
        let status = self.brain.status();
        // Before it is known what there is, it is not none that serve.
        if status.ordered.is_some() {
            self.book().history.note(SystemTime::now(), status.serving);
        }
    }

    pub fn saved(&self) -> Saved {
        self.book().replay.saved()
    }

    pub fn routes(self: Arc<Self>) -> Router {
        let other = |status, code, error: &'static str| {
            move |State(door): State<Arc<Door>>| async move {
                door.counters.refuse("other", code);
                told(status, code, error)
            }
        };
        let remedy = "there is nothing here: POST to /v1/demand, /v1/alerts or /v1/sns";
        Router::new()
            .route(DEMAND, post(demand))
            .route(ALERTS, post(alerts))
            .route(SNS, post(notification))
            .fallback(other(StatusCode::NOT_FOUND, counters::UNKNOWN, remedy))
            .method_not_allowed_fallback(other(
                StatusCode::METHOD_NOT_ALLOWED,
                counters::WRONG_METHOD,
                "this is for POST alone: send it by POST",
            ))
            .with_state(self)
    }

    /// All that can be seen of who sent it.
    async fn admit(&self, request: Request) -> Result<Post, Refusal> {
        let (head, body) = request.into_parts();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let pass = keys.door(&head, SystemTime::now())?;
        let bytes = if pass.is_proved() {
            let _place = place(&self.proved)?;
            body::take(body, pass.limit()).await?
        } else {
            let stranger = self.claimed.enter_one_of(ROOM);
            unless_pushed_out(&stranger, body::take(body, pass.limit())).await?
        };
        let proof = pass.admit(&bytes)?.proof;
        if let Some(known) = head.extensions.get::<Known>() {
            known.trust();
        }
        Ok(Post { bytes, proof })
    }

    fn demand(&self, post: &Post) -> Result<Taken, Refusal> {
        let wall = SystemTime::now();
        let demand = Demand::parse(Body::new(&post.bytes, Body::LIMIT)?, wall)?;
        let subject = demand.subject();
        let mut book = self.book();
        if book.replay.ask(&post.proof, &subject)? == Novelty::Again {
            return Ok(Taken::whole(Novelty::Again));
        }
        self.brain.hear(demand.said(Instant::now())).map_err(|refused| Refusal::Invalid(refused.to_string()))?;
        book.replay.taken(&post.proof, &subject, wall);
        Ok(Taken::whole(Novelty::First))
    }

    /// What could not be acted on is refused by 503, as Alertmanager sends nothing else again.
    fn alerts(&self, post: &Post) -> Result<Taken, Refusal> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let notification = Notification::parse(Body::new(&post.bytes, Body::LIMIT)?)?;
        let subject = notification.subject();
        let mut book = self.book();
        let novelty = book.replay.ask(&post.proof, &subject)?;
        if novelty == Novelty::First {
            let Book { replay, order, history } = &mut *book;
            let heard = order.take(&notification, history, now);
            let hear = |said| self.brain.hear(said).map_err(|refused| Refusal::NotNow(refused.to_string()));
            // All that can count does, whatever is refused beside it.
            let failed = heard.said.into_iter().fold(None, |failed, said| hear(said).err().or(failed));
            if let Some(refusal) = failed.or(heard.refused) {
                return Err(refusal);
            }
            replay.taken(&post.proof, &subject, wall);
            self.counters.old(heard.old);
        }
        self.counters.truncated(notification.truncated);
        Ok(Taken { novelty, left_out: notification.unread })
    }

    async fn notification(&self, request: Request) -> Result<Taken, Refusal> {
        let known = request.extensions().get::<Known>().cloned();
        let novelty = self.sns.take(request).await?;
        if let Some(known) = known {
            known.trust();
        }
        Ok(Taken::whole(novelty))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, entrance: &'static str, result: Result<Taken, Refusal>) -> Response {
        match result {
            Ok(Taken { novelty, left_out }) => {
                self.counters.take(entrance, novelty);
                left_out.iter().for_each(|refusal| self.counters.leave_out(entrance, refusal));
                let left_out: Vec<String> = left_out.iter().map(Refusal::to_string).collect();
                Json(if left_out.is_empty() { json!({ "taken": true }) } else { json!({ "taken": true, "left_out": left_out }) })
                    .into_response()
            }
            Err(refusal) => {
                self.counters.refuse_for(entrance, &refusal);
                let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut response = told(status, refusal.label(), &refusal.to_string());
                if status == StatusCode::UNAUTHORIZED {
                    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                response
            }
        }
    }

    pub fn status(&self) -> Value {
        self.counters.status()
    }

    pub fn metrics(&self, page: &mut Page) {
        self.counters.metrics(page);
        let (sources, posts) = self.book().replay.remembered();
        let alerts = self.book().order.remembered();
        for (what, count) in [("sources", sources), ("posts", posts), ("alerts", alerts), ("messages", self.sns.remembered())] {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            page.gauge("portway_webhook_remembered", "What is known so that nothing counts twice", &[("what", what)], count as f64);
        }
        self.sns.metrics(page);
    }
}

async fn demand(State(door): State<Arc<Door>>, request: Request) -> Response {
    let result = door.admit(request).await.and_then(|post| door.demand(&post).inspect_err(warn("a demand")));
    door.answer("demand", result)
}

async fn alerts(State(door): State<Arc<Door>>, request: Request) -> Response {
    let result = door.admit(request).await.and_then(|post| door.alerts(&post).inspect_err(warn("a notification of Alertmanager")));
    door.answer("alerts", result)
}

async fn notification(State(door): State<Arc<Door>>, request: Request) -> Response {
    if !door.sns.is_for_somebody() {
        door.counters.refuse("sns", counters::UNKNOWN);
        return told(StatusCode::NOT_FOUND, counters::UNKNOWN, "no topic may send here: name those that may in `webhooks.sns.topics`");
    }
    let result = door.notification(request).await;
    door.answer("sns", result)
}

/// Of those whom the configuration names; what strangers do wrong is counted only.
fn warn(what: &'static str) -> impl Fn(&Refusal) {
    move |refusal| tracing::warn!("{what} does not count: {refusal}")
}

fn told(status: StatusCode, code: &str, error: &str) -> Response {
    (status, Json(json!({ "error": error, "code": code }))).into_response()
}

fn place(room: &Semaphore) -> Result<SemaphorePermit<'_>, Refusal> {
    room.try_acquire().map_err(|_| Refusal::NotNow(FULL.into()))
}

async fn unless_pushed_out<T>(stranger: &Stranger, doing: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    tokio::select! {
        done = doing => done,
        () = stranger.pushed_out() => Err(Refusal::NotNow(FULL.into())),
    }
}

const FULL: &str = "as many posts as can be taken at once are in hand";

fn keys(config: &config::Webhooks) -> anyhow::Result<Keys> {
    let tokens = config.tokens.iter().map(|file| key_file::token(file)).collect::<anyhow::Result<_>>()?;
    let keys = config.keys.iter().map(|key| Ok((key.id, key_file::key(key)?))).collect::<anyhow::Result<_>>()?;
    Keys::new(config.audience.clone(), tokens, keys, Limits::default()).map_err(|error| anyhow!("`webhooks.keys`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscaler::tests;
    use crate::config::{Actuator, AutoScalingGroup};

    fn webhooks() -> config::Webhooks {
        let listen = "127.0.0.1:1".parse().unwrap();
        config::Webhooks { listen, tls: None, audience: "a".parse().unwrap(), tokens: vec![], keys: vec![], topics: vec![] }
    }

    fn one_more(door: &Door) -> Option<u32> {
        door.look();
        door.book().history.one_more(SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn how_many_there_are_is_noted_when_it_is_known() {
        let mut config = tests::config();
        config.actuator = Actuator::Aws(AutoScalingGroup {
            group: "gateways".into(),
            region: "eu-central-1".into(),
            hook: None,
            endpoint: None,
            look: LOOK,
            timeout: LOOK,
        });
        let brain = Arc::new(Brain::new(&config, false, None).unwrap());
        let door =
            Door::new(&webhooks(), brain.clone(), Hand::new(super::super::parts::Parts::default()), None, &Reach::default()).unwrap();
        assert_eq!(one_more(&door), None, "the group has not answered");
        config.actuator = Actuator::None;
        brain.ask(false);
        brain.configure(&config).unwrap();
        assert_eq!(one_more(&door), Some(1));
    }
}
