//! What the directory says of this host, as it changes: a task that watches it, and what it has learned, for the passes. Another tells the directory of it.

mod report;

use crate::config::DirectoryAt;
use crate::directory::client::{ClientError, Watched};
use crate::directory::enrolled;
use crate::directory::session::{Backoff, Session, told};
use crate::directory::types::Membership;
use crate::metrics::Page;
use crate::model::{NodeName, TenantShard};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a call waits for changes; also how long a directory that went away without a word may go unnoticed.
const WAIT: Duration = Duration::from_secs(10);
/// A host that knows nothing from before waits this long for the directory before it begins without.
const FIRST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Members {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    node: NodeName,
    session: Session,
    latest: Mutex<Option<Arc<Membership>>>,
    /// How often that became different.
    changes: AtomicU64,
    /// A pass is wanted.
    again: Arc<Notify>,
    attachments: watch::Sender<Option<BTreeMap<TenantShard, u16>>>,
    /// It answers again.
    back: Notify,
}

impl Members {
    /// As the directory said before. Asks nobody yet.
    pub fn new(node: NodeName, at: DirectoryAt, again: Arc<Notify>) -> Self {
        let known = enrolled::load(&at.state_dir, at.url.as_str()).unwrap_or_else(|error| {
            tracing::warn!("what the directory said before the start is not known any more: {error:#}");
            None
        });
        let attachments = watch::Sender::new(None);
        let shared = Shared {
            node,
            session: Session::new(at),
            latest: Mutex::new(known.map(Arc::new)),
            changes: AtomicU64::new(0),
            again,
            attachments,
            back: Notify::new(),
        };
        Self { shared: Arc::new(shared), tasks: JoinSet::new() }
    }

    /// Watches the directory from now on. Returns when something is known, or nothing can be for now.
    pub async fn start(&mut self) {
        // What was written down before there were pools says nothing of them.
        let known = self.latest();
        if known.as_ref().is_none_or(|known| known.egress.is_none()) {
            let meanwhile = if known.is_some() { "what it said before counts" } else { "no tenant of it is served" };
            match timeout(FIRST, self.shared.fetch()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!("the directory says nothing, {meanwhile} until it does: {}", told(&error)),
                Err(_) => tracing::error!("the directory has said nothing for {FIRST:?}, {meanwhile} until it does"),
            }
        }
        self.tasks.spawn(self.shared.clone().follow());
        self.tasks.spawn(self.shared.clone().report());
    }

    pub fn stop(&mut self) {
        self.tasks.abort_all();
    }

    /// How many attachments lead to each shard now: the directory is told.
    pub fn tell(&self, attachments: BTreeMap<TenantShard, u16>) {
        self.shared.attachments.send_if_modified(|told| {
            let other = told.as_ref() != Some(&attachments);
            *told = Some(attachments);
            other
        });
    }

    /// What it says now. None: nothing, ever.
    pub fn latest(&self) -> Option<Arc<Membership>> {
        lock(&self.shared.latest).clone()
    }

    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Relaxed)
    }

    pub fn at(&self) -> &DirectoryAt {
        self.shared.session.at()
    }

    /// The files of token and CA may be others.
    pub fn renew(&self) {
        self.shared.session.renew();
    }

    pub fn status(&self) -> serde_json::Value {
        let standing = self.shared.session.standing();
        json!({
            "url": self.at().url.as_str(), "reachable": standing.reachable, "error": standing.error, "failed": standing.failed,
            "heard_s": standing.heard.map(|at| at.elapsed().as_secs_f64()), "revision": self.latest().map(|latest| latest.host.revision),
        })
    }

    pub fn metrics(&self, out: &mut Page) {
        let standing = self.shared.session.standing();
        let reachable = f64::from(u8::from(standing.reachable == Some(true)));
        out.gauge("portway_directory_reachable", "1 when the last call to the directory was answered", &[], reachable);
        if let Some(heard) = standing.heard {
            out.gauge("portway_directory_heard_seconds", "Since the directory last answered", &[], heard.elapsed().as_secs_f64());
        }
    }
}

impl Shared {
    /// To the end: whoever is cut off begins again.
    async fn follow(self: Arc<Self>) {
        let (mut backoff, mut away) = (Backoff::default(), false);
        loop {
            let Err(error) = self.watch(&mut backoff, &mut away).await else { continue };
            away = true;
            self.session.cut_off(&error, "what stands");
            sleep(backoff.failed()).await;
        }
    }

    /// Asks, and waits until it is worth asking again. Only changes that concern this host are told.
    async fn watch(&self, backoff: &mut Backoff, away: &mut bool) -> Result<(), ClientError> {
        let mut since = self.fetch().await?;
        backoff.succeeded();
        self.session.follows();
        if std::mem::take(away) {
            self.back.notify_one();
        }
        loop {
            match self.session.ask(|client| async move { client.watch(Some(since), WAIT).await }).await? {
                Watched::Changes(changes) if changes.changes.is_empty() => since = changes.revision,
                Watched::Changes(_) | Watched::StartAgain => return Ok(()),
            }
        }
    }

    /// What the directory says now; from which revision to watch.
    async fn fetch(&self) -> Result<u64, ClientError> {
        let membership = self.session.ask(|client| async move { client.membership().await }).await?;
        if membership.host.name != self.node {
            let (other, file) = (&membership.host.name, self.session.at().token_file.display());
            let remedy = "write its name as `node`, or enrol this one";
            return Err(ClientError::Setup(format!("{file} holds the token of host {other}, and this is {}: {remedy}", self.node)));
        }
        let revision = membership.host.revision;
        let known = lock(&self.latest).clone();
        let differs = |known: &Membership| {
            (&known.shards, &known.host.keys, &known.host.inner, &known.egress)
                != (&membership.shards, &membership.host.keys, &membership.host.inner, &membership.egress)
        };
        if known.is_none_or(|known| differs(&known)) {
            let membership = Arc::new(membership);
            *lock(&self.latest) = Some(membership.clone());
            self.changes.fetch_add(1, Relaxed);
            self.again.notify_one();
            self.save(membership).await;
        }
        Ok(revision)
    }

    /// A busy disk takes seconds: nothing else waits for it.
    async fn save(&self, membership: Arc<Membership>) {
        let at = self.session.at().clone();
        let saved = tokio::task::spawn_blocking(move || enrolled::save(&at.state_dir, at.url.as_str(), &membership)).await;
        if let Err(error) = saved.map_err(anyhow::Error::from).flatten() {
            tracing::error!("what the directory says is not known after a restart: {error:#}");
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
