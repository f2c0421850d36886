//! The tasks beside the look-ups: telling the directory of this gateway's shards, hearing of changes, writing down what is known.

use super::{Changed, Inner, file, lock, now};
use crate::directory::client::{ClientError, Watched};
use crate::directory::session::Backoff;
use crate::directory::types::{Assignment, Change, ChangeKind, Shard, ShardSpec};
use crate::model::{PublicKey, TenantShard};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How long a call waits for changes; also how long a directory that went away without a word may go unnoticed.
const WAIT: Duration = Duration::from_secs(10);
/// What the directory refused to take is told to it again.
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// Changes that come together are written together.
const GATHER: Duration = Duration::from_secs(2);
/// Between two writings, so many times what one took.
const REST: u32 = 50;
/// A listener that does not listen holds the others up this long.
const HEED: Duration = Duration::from_secs(10);

/// How far the directory knows of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announced {
    Told,
    Refused(String),
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Announced::Told => f.write_str("told"),
            Announced::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Listener {
    to: mpsc::Sender<Changed>,
    /// It has missed something.
    behind: bool,
}

impl Listener {
    pub fn new(to: mpsc::Sender<Changed>) -> Self {
        Self { to, behind: false }
    }

    /// False: nobody listens any more.
    async fn tell(&mut self, changed: Option<&Changed>) -> bool {
        let Some(changed) = (if self.behind { Some(&Changed::All) } else { changed }) else { return !self.to.is_closed() };
        match self.to.send_timeout(changed.clone(), HEED).await {
            Ok(()) => self.behind = false,
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => self.behind = true,
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return false,
        }
        true
    }
}

impl Inner {
    /// To the end: whoever is cut off begins again.
    pub(super) async fn follow(self: Arc<Self>) {
        let end = self.end.clone();
        end.run_until_cancelled(async {
            let mut backoff = Backoff::default();
            loop {
                let Err(error) = self.watch(&mut backoff).await else { continue };
                self.session.cut_off(&error, "what is known");
                tokio::select! {
                    () = sleep(backoff.failed()) => {}
                    () = self.tell.notified() => {}
                }
            }
        })
        .await;
    }

    /// Tells of the shards, then hears of changes, until there is a reason to tell again.
    async fn watch(&self, backoff: &mut Backoff) -> Result<(), ClientError> {
        let assignment = self.session.ask(|client| async move { client.assignment().await }).await?;
        if assignment.gateway.name != self.node {
            // Both would tell of each other's shards in turns.
            let (other, file) = (&assignment.gateway.name, self.session.at().token_file.display());
            return Err(ClientError::Setup(format!("{file} holds the token of gateway {other}, and this is {}", self.node)));
        }
        backoff.succeeded();
        self.session.follows();
        self.announce(&assignment).await?;
        self.join(&assignment).await?;
        let told = Instant::now();
        // After a backup was put back, the directory is behind what was heard.
        let watched = lock(&self.cache).watched().filter(|watched| watched.revision <= assignment.revision);
        if watched.is_none() {
            self.begin_anew(assignment.revision).await;
        }
        let mut from = watched.map_or(assignment.revision, |watched| watched.revision);
        loop {
            let watch = self.session.ask(|client| async move { client.watch(Some(from), WAIT).await });
            let changes = tokio::select! {
                watched = watch => match watched? {
                    Watched::Changes(changes) => changes,
                    Watched::StartAgain => {
                        tracing::warn!("the directory has forgotten what changed since revision {from}: everything is looked at again");
                        lock(&self.cache).missed();
                        return Ok(());
                    }
                },
                () = self.tell.notified() => return Ok(()),
            };
            let again = self.heed(&changes.changes).await || changes.changes.iter().any(|change| self.concerns_group(change));
            {
                let mut cache = lock(&self.cache);
                cache.heard(changes.revision, now());
                if cache.changed {
                    self.dirty.notify_one();
                }
            }
            from = changes.revision;
            if again || told.elapsed() >= TELL_AGAIN && self.untold() {
                return Ok(());
            }
        }
    }

    fn untold(&self) -> bool {
        self.membership.is_untold() || lock(&self.announced).values().any(|announced| *announced != Announced::Told)
    }

    /// What changed before this revision is not known.
    async fn begin_anew(&self, revision: u64) {
        lock(&self.cache).watch_from(revision, now());
        self.flights.all_changed();
        self.dirty.notify_one();
        self.publish(Some(Changed::All)).await;
    }

    /// Puts the shards of this gateway, where the directory has them otherwise.
    async fn announce(&self, assignment: &Assignment) -> Result<(), ClientError> {
        let (specs, withdrawn) = {
            let shards = lock(&self.shards);
            (shards.specs.clone(), shards.withdrawn.clone())
        };
        let present: BTreeMap<&TenantShard, &Shard> = assignment.shards.iter().map(|shard| (&shard.of, shard)).collect();
        let mut announced = BTreeMap::new();
        for (of, spec) in specs {
            let result = match present.get(&of) {
                // Its other candidate tells it; it stays while the present key does.
                Some(shard) if is(shard, &spec, withdrawn.get(&of)) => Ok(()),
                present => {
                    let kept = present.filter(|shard| {
                        let same = shard.public_key == Some(spec.public_key) && spec.next_key.is_none();
                        same && (shard.next_key.is_none() || shard.next_key.as_ref() != withdrawn.get(&of))
                    });
                    let (next_key, next_port) = kept.map_or((spec.next_key, spec.next_port), |shard| (shard.next_key, shard.next_port));
                    let (of, spec) = (&of, &ShardSpec { next_key, next_port, ..spec });
                    self.session.ask(|client| async move { client.put_shard(of, spec).await }).await
                }
            };
            let state = match result {
                Ok(()) => Announced::Told,
                Err(error @ ClientError::Refused { .. }) => Announced::Refused(error.to_string()),
                Err(error) => return Err(error),
            };
            if let (Announced::Refused(why), true) = (&state, lock(&self.announced).get(&of) != Some(&state)) {
                tracing::error!(
                    "the directory does not take {of} from here: {why} (an operator adds it by `portway directory gateway add {} --shard {of}`)",
                    self.node
                );
            }
            announced.insert(of, state);
        }
        *lock(&self.announced) = announced;
        Ok(())
    }

    /// Whether this gateway has to tell of its shards again.
    async fn heed(&self, changes: &[Change]) -> bool {
        let all = changes.iter().any(|change| self.concerns_all(change));
        let keys: Vec<PublicKey> =
            changes.iter().filter(|change| change.kind == ChangeKind::Host).flat_map(|change| change.keys.clone()).collect();
        {
            // Under one lock with the answers that come in, see `fetch`.
            let mut cache = lock(&self.cache);
            keys.iter().for_each(|key| cache.forget(key));
            self.flights.changed(&keys);
            if all {
                self.flights.all_changed();
                let revision = cache.watched().map_or(0, |watched| watched.revision);
                // What was known before may not be so any more; how old it is, counts from when it was said.
                cache.watch_from(revision, now() + 1);
            }
        }
        let changed = if all { Some(Changed::All) } else { (!keys.is_empty()).then_some(Changed::Keys(keys)) };
        self.publish(changed).await;
        all
    }

    /// Whether hosts may have come, gone or changed that it does not name.
    fn concerns_all(&self, change: &Change) -> bool {
        match change.kind {
            ChangeKind::Tenant => true,
            ChangeKind::Gateway => change.name == self.node.as_str(),
            ChangeKind::Shard => change.gone,
            ChangeKind::Host | ChangeKind::Member | ChangeKind::Token => false,
        }
    }

    /// Whether another node may have come or gone, or may serve other shards.
    fn concerns_group(&self, change: &Change) -> bool {
        self.membership.address.is_some() && matches!(change.kind, ChangeKind::Gateway | ChangeKind::Member)
    }

    /// None: whoever is behind is told.
    async fn publish(&self, changed: Option<Changed>) {
        let listeners = std::mem::take(&mut *lock(&self.listeners));
        let mut stay = Vec::with_capacity(listeners.len());
        for mut listener in listeners {
            if listener.tell(changed.as_ref()).await {
                stay.push(listener);
            }
        }
        // Those that came meanwhile need not know.
        lock(&self.listeners).append(&mut stay);
    }

    /// Writes down what is known when it changes, and at the end.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut complained = false;
        loop {
            let ended = self.end.run_until_cancelled(async {
                self.dirty.notified().await;
                sleep(GATHER).await;
            });
            let ended = ended.await.is_none();
            let begun = Instant::now();
            if let Err(error) = self.save().await {
                if !complained {
                    let file = self.file.display();
                    tracing::error!("cannot write {file}, hosts are not known after a restart: {error:#}: may this user write there?");
                }
                complained = true;
            } else {
                complained = false;
            }
            if ended || self.end.run_until_cancelled(sleep(begun.elapsed() * REST)).await.is_none() && !lock(&self.cache).changed {
                return;
            }
        }
    }

    pub(super) async fn save(&self) -> anyhow::Result<()> {
        let stored = {
            let mut cache = lock(&self.cache);
            if !cache.changed {
                return Ok(());
            }
            cache.store(&self.node, self.session.at().url.as_str())
        };
        let path = self.file.clone();
        let saved = tokio::task::spawn_blocking(move || file::save(&path, &stored)).await.map_err(anyhow::Error::from).flatten();
        if saved.is_err() {
            // With the next change, or at the end.
            lock(&self.cache).changed = true;
        }
        saved
    }
}

/// A next key that this gateway has not been given yet, its other candidate has told.
fn is(shard: &Shard, spec: &ShardSpec, withdrawn: Option<&PublicKey>) -> bool {
    let next = match spec.next_key {
        None => shard.next_key.is_none() || shard.next_key.as_ref() != withdrawn,
        Some(_) => (shard.next_key, shard.next_port) == (spec.next_key, spec.next_port),
    };
    next && (shard.endpoint, shard.public_key) == (Some(spec.endpoint), Some(spec.public_key))
}
