//! What a gateway knows from the directory: whose key it is that knocks. docs/directory.md says how it is set up.
//!
//! ```text
//!  look_up(shard, key) --> directory -----------> Found, Unknown
//!        |                    | no answer
//!        +---- cache <--------+  ---------------> Found as known before, Failed
//!                ^ |
//!                | +--> known-hosts.json, for the next process
//!  follow: tells the directory this gateway's shards, and watches --> changes()
//! ```
//!
//! The machine for peers just in time (`proto/jit.rs`) has a cache of its own, by which it needs no second look-up within a minute. The one here
//! outlives the process, and serves only when the directory does not.

mod cache;
mod figures;
mod file;
mod flights;
mod follow;
pub mod members;
pub mod report;

use crate::config::{DirectoryAt, Gateway};
use crate::directory::client::ClientError;
use crate::directory::session::Session;
use crate::directory::types::{Host, ShardSpec};
use crate::metrics::Page;
use crate::model::{NodeName, PublicKey, TenantShard};
use crate::plan::gateway::ends::Keys;
use crate::proto::jit::{Answer, Registered};
use cache::{Cache, Known};
use figures::{Figures, Outcome};
use flights::Flights;
use follow::Announced;
use ipnet::IpNet;
use members::Membership;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After this long what was known before is answered, if there is something. The call goes on, and what it brings serves the next.
const LATE: Duration = Duration::from_secs(1);
/// A call whose answer was overtaken by a change is made again this often.
const AGAIN: u32 = 3;
/// Changes that wait for a listener.
const QUEUE: usize = 256;

/// What has become different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Whatever is known of these keys.
    Keys(Vec<PublicKey>),
    /// Whatever is known of any.
    All,
}

/// A share of it; all are the same.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeName,
    session: Session,
    file: PathBuf,
    cache: Mutex<Cache>,
    flights: Flights,
    figures: Figures,
    shards: Mutex<Shards>,
    /// Of each shard that this gateway has to tell of, how far that is.
    announced: Mutex<BTreeMap<TenantShard, Announced>>,
    /// The shards are others, and are to be told.
    tell: Notify,
    /// Something is to be written.
    dirty: Notify,
    listeners: Mutex<Vec<follow::Listener>>,
    membership: Membership,
    group_file: PathBuf,
    tasks: TaskTracker,
    end: CancellationToken,
}

/// Those that this gateway serves.
#[derive(Debug, Default)]
struct Shards {
    /// Where their tenants' inner addresses come from.
    ranges: BTreeMap<TenantShard, IpNet>,
    specs: BTreeMap<TenantShard, ShardSpec>,
    /// Next keys that this gateway has told of, and that are taken back.
    withdrawn: BTreeMap<TenantShard, PublicKey>,
}

impl Shards {
    fn of(config: &Gateway, keys: &BTreeMap<TenantShard, Keys>) -> Self {
        let mut shards = Self::default();
        for (tenant, shard) in config.served() {
            let of = tenant.of(shard.shard);
            if let Some(Keys { present: (key, port), next }) = keys.get(&of) {
                let (next_key, next_port) = next.as_ref().map(|(key, port)| (key.public(), *port)).unzip();
                let endpoint = SocketAddr::new(shard.local, *port);
                let spec = ShardSpec { endpoint, public_key: key.public(), next_key, next_port };
                shards.specs.insert(of.clone(), spec);
            }
            shards.ranges.insert(of, tenant.inner);
        }
        shards
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Registry {
    /// Begins to tell the directory of the shards that this gateway serves (`keys`: theirs) and to watch it, in tasks of the present runtime.
    /// None without `directory` in the configuration. Nothing here waits for the directory.
    pub fn start(config: &Gateway, keys: &BTreeMap<TenantShard, Keys>) -> Option<Self> {
        let at = config.directory.clone()?;
        let file = at.state_dir.join(file::NAME);
        let known = file::load(&file, &config.node, at.url.as_str()).map(|stored| Cache::restore(stored, now()));
        let inner = Arc::new(Inner {
            node: config.node.clone(),
            membership: Membership::of(config),
            group_file: members::file(&at),
            session: Session::new(at),
            file,
            cache: Mutex::new(known.unwrap_or_default()),
            flights: Flights::default(),
            figures: Figures::default(),
            shards: Mutex::new(Shards::of(config, keys)),
            announced: Mutex::default(),
            tell: Notify::new(),
            dirty: Notify::new(),
            listeners: Mutex::default(),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        });
        inner.tasks.spawn(inner.clone().follow());
        inner.tasks.spawn(inner.clone().keep());
        inner.tasks.spawn(inner.clone().keep_group());
        Some(Self(inner))
    }

    /// The configuration was read anew: shards may be others, and what the files of token and CA hold. Where the directory is, is taken up at a start.
    pub fn reload(&self, config: &Gateway, keys: &BTreeMap<TenantShard, Keys>) {
        let mut shards = lock(&self.0.shards);
        let former = std::mem::replace(&mut *shards, Shards::of(config, keys));
        for (of, told) in former.specs {
            let back = shards.specs.get(&of).is_some_and(|spec| spec.next_key.is_none() && spec.public_key == told.public_key);
            let withdrawn = told.next_key.or_else(|| former.withdrawn.get(&of).copied()).filter(|_| back);
            shards.withdrawn.extend(withdrawn.map(|key| (of, key)));
        }
        drop(shards);
        self.0.membership.reload(config);
        self.0.session.renew();
        self.0.tell.notify_one();
    }

    /// As configured.
    pub fn at(&self) -> &DirectoryAt {
        self.0.session.at()
    }

    /// Whose key this is, for this shard. Takes as long as the directory, 10 s at most; 1 s if something is known from before, and no time if
    /// the last call to the directory failed, too. What is from before is a day old at most.
    pub async fn look_up(&self, of: &TenantShard, key: &PublicKey) -> Answer {
        let inner = &self.0;
        let known = lock(&inner.cache).recall(key, now());
        let (answer, outcome) = match known {
            Some(known) if inner.session.is_away() => inner.as_known_before(of, &known),
            known => {
                // In a task of its own: whoever does not wait for it any more has the next one profit.
                let call = inner.tasks.spawn({
                    let (inner, key) = (inner.clone(), *key);
                    async move { inner.end.run_until_cancelled(inner.fetch(key)).await }
                });
                let patience = if known.is_some() { LATE } else { Duration::MAX };
                let fetched = match tokio::time::timeout(patience, call).await {
                    Ok(Ok(Some(Ok(host)))) => Some(host),
                    // It has failed, or not ended yet.
                    Ok(Ok(Some(Err(_)) | None) | Err(_)) | Err(_) => None,
                };
                match (fetched, known) {
                    (Some(Some(host)), _) => inner.admits(of, &host),
                    (Some(None), _) => (Answer::Unknown, Outcome::Unknown),
                    (None, Some(known)) => inner.as_known_before(of, &known),
                    (None, None) => (Answer::Failed, Outcome::Failed),
                }
            }
        };
        inner.figures.came_to(outcome);
        answer
    }

    /// What was known of a key when somebody last looked it up, at once.
    pub fn recall(&self, of: &TenantShard, key: &PublicKey) -> Option<Arc<Registered>> {
        let known = lock(&self.0.cache).recall(key, now())?;
        if let (Answer::Found(registered), _) = self.0.admits(of, &known) { Some(registered) } else { None }
    }

    /// What becomes different from now on, as the directory tells it: within a second if it can be reached. Who listens must take what comes;
    /// if it has not for 10 s, it is told `All` later.
    pub fn changes(&self) -> mpsc::Receiver<Changed> {
        let (to, from) = mpsc::channel(QUEUE);
        lock(&self.0.listeners).push(follow::Listener::new(to));
        from
    }

    /// Writes down what is known.
    pub async fn write_down(&self) {
        if let Err(error) = self.0.save().await {
            tracing::error!("cannot write {}: {error:#}", self.0.file.display());
        }
        if let Err(error) = self.0.save_group().await {
            tracing::error!("cannot write {}: {error:#}", self.0.group_file.display());
        }
    }

    /// Writes down what is known, and ends.
    pub async fn stop(&self) {
        self.0.end.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        lock(&self.0.listeners).clear();
    }

    pub fn status(&self) -> serde_json::Value {
        let inner = &self.0;
        let (standing, now) = (inner.session.standing(), now());
        let (known, watched, oldest) = {
            let cache = lock(&inner.cache);
            (cache.len(), cache.watched(), cache.oldest(now))
        };
        let shards = lock(&inner.announced);
        json!({
            "url": inner.session.at().url.as_str(), "reachable": standing.reachable, "error": standing.error, "failed": standing.failed,
            "heard_s": standing.heard.map(|at| at.elapsed().as_secs_f64()),
            "look_ups": inner.figures.status(),
            "revision": watched.map(|watched| watched.revision), "watched_s": watched.map(|watched| now.saturating_sub(watched.until)),
            "known": known, "oldest_s": oldest, "member": inner.membership.status(),
            "shards": shards.iter().map(|(of, announced)| (of.to_string(), announced.to_string())).collect::<BTreeMap<_, _>>(),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and seconds are far below what is exact")]
    pub fn metrics(&self, out: &mut Page) {
        let inner = &self.0;
        let reachable = inner.session.standing().reachable == Some(true);
        out.gauge("portway_directory_reachable", "1 when the last call to the directory was answered", &[], f64::from(u8::from(reachable)));
        inner.figures.metrics(out);
        let (known, watched, oldest) = {
            let cache = lock(&inner.cache);
            (cache.len(), cache.watched(), cache.oldest(now()))
        };
        out.gauge("portway_directory_cached_hosts", "Keys whose owner is known while the directory is away", &[], known as f64);
        let help = "Since the directory last stood by the oldest of what is known";
        out.gauge("portway_directory_cache_age_seconds", help, &[], oldest.unwrap_or_default() as f64);
        if let Some(watched) = watched {
            out.gauge("portway_directory_watched_revision", "Up to which all changes were heard", &[], watched.revision as f64);
            let since = now().saturating_sub(watched.until) as f64;
            out.gauge("portway_directory_watched_seconds", "Since all changes up to then were heard", &[], since);
        }
        let untold = lock(&inner.announced).values().filter(|announced| **announced != Announced::Told).count();
        out.gauge("portway_directory_untold_shards", "Shards that the directory does not know as they are", &[], untold as f64);
        inner.membership.metrics(out);
    }
}

impl Inner {
    /// What the directory says of a key. Remembers it.
    async fn fetch(&self, key: PublicKey) -> Result<Option<Arc<Known>>, ClientError> {
        for _ in 1..AGAIN {
            let call = self.flights.begin(key);
            let found = self.call(&key).await?;
            // Nobody may say something between the look and the entry, or the entry would be older than what was said.
            let mut cache = lock(&self.cache);
            if !call.overtaken() {
                return Ok(self.remember(&mut cache, key, found));
            }
        }
        // It changes faster than it can be asked for: this serves now and is not kept.
        let found = self.call(&key).await?;
        Ok(found.map(|host| Arc::new(Known { host: host.name, inner: host.inner, fetched: now() })))
    }

    async fn call(&self, key: &PublicKey) -> Result<Option<Host>, ClientError> {
        let begun = Instant::now();
        let key = *key;
        let found = self.session.ask(|client| async move {
            let found = client.peer(&key).await?;
            match &found {
                Some(host) if !host.keys.iter().any(|one| one.public_key == key) => Err(client.garbage("another host than was asked for")),
                _ => Ok(found),
            }
        });
        let found = found.await?;
        self.figures.took(begun.elapsed());
        Ok(found)
    }

    fn remember(&self, cache: &mut Cache, key: PublicKey, found: Option<Host>) -> Option<Arc<Known>> {
        let known = match found {
            Some(host) => Some(cache.insert(key, &host, now())),
            None => {
                cache.forget(&key);
                None
            }
        };
        if cache.changed {
            self.dirty.notify_one();
        }
        known
    }

    /// Whether a host may come in at a shard, and with which inner addresses.
    fn admits(&self, of: &TenantShard, known: &Known) -> (Answer, Outcome) {
        let Some(allowed) = known.inner.get(of).filter(|allowed| !allowed.is_empty()) else { return (Answer::Unknown, Outcome::Elsewhere) };
        let range = lock(&self.shards).ranges.get(of).copied();
        if let Some(outside) = allowed.iter().find(|net| !range.is_some_and(|range| range.contains(*net))) {
            let range = range.map_or_else(|| "none".into(), |range| range.to_string());
            tracing::error!(
                "host {} is refused: the directory gives it {outside} in {of}, whose `inner` here is {range}: make both the same",
                known.host
            );
            return (Answer::Unknown, Outcome::OutOfRange);
        }
        if allowed.len() > Registered::PREFIXES {
            tracing::error!(
                "host {} is refused: the directory gives it {} inner prefixes in {of}, and gateways tell each other of {} at most: give it fewer, wider ones",
                known.host,
                allowed.len(),
                Registered::PREFIXES
            );
            return (Answer::Unknown, Outcome::TooMany);
        }
        (Answer::Found(Arc::new(Registered { host: known.host.clone(), allowed: allowed.clone() })), Outcome::Found)
    }

    fn as_known_before(&self, of: &TenantShard, known: &Known) -> (Answer, Outcome) {
        match self.admits(of, known) {
            (answer, Outcome::Found) => (answer, Outcome::FromCache),
            other => other,
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
