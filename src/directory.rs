//! `portway directory`: the registry of tenants, gateways, hosts, keys and inner addresses, over HTTP. docs/directory.md says how to run it.
//!
//! ```text
//!  HTTPS, loopback --+                 +-- door: whose token is it? (remembered)
//!  RUNTIME_DIR/     -+--> api --> Directory --> store: SQLite or PostgreSQL
//!    directory.sock  |                 +-- feed: what has changed --> long polls
//!  admin: /metrics --+                 +-- oidc: issuers' keys
//! ```

pub mod api;
pub mod client;
mod door;
pub mod enrolled;
mod feed;
mod fleet;
pub mod oidc;
pub mod proof;
pub mod refusal;
pub mod session;
pub mod store;
pub mod token;
pub mod types;

use crate::config::{self, Config};
use crate::daemon::http::{self, Certificate, Listener, Places};
use crate::daemon::names::Names;
use crate::daemon::pulse::Pulse;
use crate::daemon::sockets;
use crate::daemon::succession::Sole;
use crate::metrics::Page;
use crate::model::Secret;
use anyhow::{Context, bail, ensure};
use door::Door;
use feed::Feed;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use oidc::Issuers;
use refusal::{Code, Refusal};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::changes::News;
use store::{Store, StoreError};
use token::TokenText;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::ChangeKind;

/// What another process has written to a shared database is noticed after this long at most.
const LOOK: Duration = Duration::from_millis(250);
/// How often what has expired is removed, and old changes forgotten.
const TIDY: Duration = Duration::from_secs(1);

/// The time by a clock that tests can set.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What all calls share.
pub struct Directory {
    store: Store,
    secret: Secret,
    issuers: Issuers,
    door: Door,
    feed: Feed,
    clock: Clock,
    key_grace: Duration,
    keep_changes: u64,
    counters: Counters,
    /// What gateways say of themselves.
    reports: fleet::Reports,
    /// By which the admin listener is called.
    names: Names,
    begun: SystemTime,
    end: CancellationToken,
}

/// Answers by route and status, refusals by reason.
#[derive(Debug, Default)]
struct Counters {
    answers: Mutex<HashMap<(String, u16), u64>>,
    refusals: Mutex<HashMap<Code, u64>>,
    enrolled: AtomicU64,
}

impl Directory {
    async fn open(config: &config::Directory, clock: Clock) -> anyhow::Result<Self> {
        let opened = Store::open(&config.database, random()?).await;
        let store = opened
            .with_context(|| format!("cannot use the database ({}): is it there, and may this user write to it?", config.database))?;
        let feed = Feed::new(store.ping().await?);
        Ok(Self {
            secret: store.secret().await.context("cannot read the database's secret")?,
            issuers: Issuers::new(&config.oidc)?,
            door: Door::default(),
            feed,
            begun: clock(),
            clock,
            key_grace: config.key_grace,
            keep_changes: config.keep_changes,
            counters: Counters::default(),
            reports: fleet::Reports::default(),
            names: Names::new(config.admin_names.clone()),
            end: CancellationToken::new(),
            store,
        })
    }

    /// Seconds since 1970.
    fn now(&self) -> i64 {
        let since = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    fn heed(&self, news: Option<&News>) {
        self.door.heed(news);
        let gone = news.map(|news| &news.change).filter(|change| change.kind == ChangeKind::Host && change.gone);
        if let Some(host) = gone.and_then(|change| change.name.parse().ok()) {
            self.reports.forget_host(&host);
        }
    }

    /// Whoever asks after this sees what was written before.
    async fn catch_up(&self) {
        if let Err(error) = self.feed.catch_up(&self.store, |news| self.heed(news)).await {
            tracing::error!("cannot read what has changed: {:#}", anyhow::Error::from(error));
        }
    }

    async fn tidy(&self) -> Result<(), StoreError> {
        if self.store.expire(self.now()).await? {
            self.catch_up().await;
        }
        self.store.compact(self.keep_changes).await
    }

    fn answered(&self, route: &str, status: u16, refused: Option<Code>) {
        let locked = |counts: &Mutex<HashMap<(String, u16), u64>>| {
            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry((route.to_owned(), status)).or_default() += 1;
        };
        locked(&self.counters.answers);
        if let Some(code) = refused {
            *self.counters.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
        }
    }

    /// How many there have been.
    fn answers(&self) -> u64 {
        self.counters.answers.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of what fits into memory are exact")]
    async fn metrics(&self) -> Page {
        let mut page = Page::default();
        page.began(self.begun);
        self.names.metrics(&mut page);
        let ready = self.store.count().await;
        page.gauge("portway_ready", "1 when the database answers", &[], f64::from(u8::from(ready.is_ok())));
        for (what, count) in ready.unwrap_or_default() {
            page.gauge("portway_directory_known", "What the directory holds", &[("what", what)], count as f64);
        }
        page.gauge("portway_directory_revision", "Counts all changes", &[], self.feed.revision() as f64);
        page.gauge("portway_directory_watchers", "Calls that wait for changes", &[], self.feed.watchers() as f64);
        page.gauge(
            "portway_directory_tokens_remembered",
            "Tokens that need no look into the database",
            &[],
            self.door.remembered_tokens() as f64,
        );
        page.counter(
            "portway_directory_enrolled",
            "Hosts that enrolled, those that came again among them",
            &[],
            self.counters.enrolled.load(Relaxed),
        );
        for ((route, status), count) in self.counters.answers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [("route", route.as_str()), ("status", &status.to_string())];
            page.counter("portway_directory_answers", "Answers by route and status", &labels, *count);
        }
        let refusals = self.counters.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for code in Code::ALL {
            let count = refusals.get(code).copied().unwrap_or_default();
            page.counter("portway_directory_refused", "Calls that were refused, by reason", &[("reason", code.as_str())], count);
        }
        page
    }
}

/// From the kernel.
fn random<const LEN: usize>() -> anyhow::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).context("the kernel gives no random bytes")?;
    Ok(bytes)
}

/// A directory at work in this process.
pub struct Running {
    directory: Arc<Directory>,
    /// Where it listens: the configured addresses, with the ports that the kernel chose if they were 0.
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub socket: PathBuf,
    certificate: Option<Arc<Certificate>>,
    tasks: JoinSet<()>,
    _sole: (Sole, Option<std::fs::File>),
}

impl Running {
    /// Opens the database and listens. One process for a runtime directory, and one for a file of SQLite.
    pub async fn start(config: &config::Directory, clock: Clock) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&config.runtime_dir)
            .with_context(|| format!("cannot make `runtime_dir` {}", config.runtime_dir.display()))?;
        let sole = (Sole::claim(&config.runtime_dir, "directory")?, lock(&config.database)?);
        let certificate = config.tls.as_ref().map(Certificate::load).transpose()?.map(Arc::new);
        let directory = Arc::new(Directory::open(config, clock).await?);
        let (listener, admin_listener) =
            (sockets::bind_tcp("listen", config.listen).await?, sockets::bind_tcp("admin", config.admin).await?);
        let (listen, admin) = (listener.local_addr()?, admin_listener.local_addr()?);
        let socket = sockets::api_path(&config.runtime_dir, "directory");
        let unix = sockets::bind_unix(&socket, 0o600)?;
        unix.set_nonblocking(true)?;
        let places = Places::within(getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft));
        let (api, end) = (api::routes(directory.clone()), directory.end.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(http::serve(Listener::Tcp(listener, certificate.clone()), places.everybody, api.clone(), end.clone()));
        let local = Listener::Unix(tokio::net::UnixListener::from_std(unix)?);
        tasks.spawn(http::serve(local, places.local, api::for_local_operator(api).merge(api::measured(directory.clone())), end.clone()));
        tasks.spawn(http::serve(
            Listener::Tcp(admin_listener, None),
            places.local,
            directory.names.guard(api::admin(directory.clone())),
            end.clone(),
        ));
        tasks.spawn(until(end.clone(), tidily(directory.clone())));
        tasks.spawn(until(end, looking(directory.clone())));
        Ok(Self { directory, listen, admin, socket, certificate, tasks, _sole: sole })
    }

    /// Reads the certificate anew.
    pub fn reload(&self) {
        let Some(certificate) = &self.certificate else { return };
        match certificate.reload() {
            Ok(()) => tracing::info!("certificate read anew"),
            Err(error) => tracing::error!("the certificate cannot be used, the old one stays in force: {error:#}"),
        }
    }

    /// Answers what is in hand, and ends.
    pub async fn stop(mut self) {
        self.directory.end.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.directory.store.close().await;
    }
}

/// Its threads, caches and numbers are one process's: two would not hear of each other's changes.
fn lock(database: &config::Database) -> anyhow::Result<Option<std::fs::File>> {
    let config::Database::Sqlite(path) = database else { return Ok(None) };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the directory of `database`, {}", folder.display()))?;
    }
    private(path)?;
    let lock = path.with_extension("lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&lock);
    let file = file.with_context(|| format!("cannot open {}: may this user write there?", lock.display()))?;
    if file.try_lock().is_err() {
        bail!("another `portway directory` holds {}: end it, or use PostgreSQL, which several can share", lock.display());
    }
    Ok(Some(file))
}

/// In the file is what challenges are derived from: whoever reads it can prove to have any key.
fn private(path: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::options().create(true).truncate(false).write(true).mode(0o600).open(path);
    let shown = path.display();
    let file = file.with_context(|| format!("cannot open `database` {shown}: may this user write there?"))?;
    let mode = file.metadata().with_context(|| format!("cannot look at {shown}"))?.mode();
    ensure!(mode & 0o007 == 0, "everybody may read or change the database {shown}, which holds a secret: chmod o= {shown}*");
    Ok(())
}

async fn until(end: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = end.cancelled() => {}
        () = task => {}
    }
}

async fn tidily(directory: Arc<Directory>) {
    let mut ticks = tokio::time::interval(TIDY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = directory.tidy().await {
            tracing::error!("cannot tidy up: {:#}", anyhow::Error::from(error));
        }
    }
}

async fn looking(directory: Arc<Directory>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pulse = Pulse::new(Instant::now());
    loop {
        ticks.tick().await;
        directory.catch_up().await;
        pulse.beat(Instant::now());
    }
}

/// As many as this process may have: thousands watch.
fn raise_descriptors() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}

/// Serves until a signal ends it. SIGHUP: the certificate is read anew.
pub async fn run(file: &Path, config: config::Directory) -> anyhow::Result<ExitCode> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hup = signal(SignalKind::hangup())?;
    if let Err(error) = raise_descriptors() {
        tracing::warn!("cannot raise the limit of open files, and every connection takes one: {error}");
    }
    let running = Running::start(&config, Arc::new(SystemTime::now)).await?;
    tracing::info!("directory at {}, {}", running.listen, config.database);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv() => {
                running.reload();
                if !matches!(config::load(file), Ok(Config::Directory(new)) if new == config) {
                    tracing::warn!("the configuration has changed, or has faults: all but the certificate takes a restart");
                }
            }
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// A token that there has not been, with its hash.
fn mint() -> Result<TokenText, Refusal> {
    random().map(|bytes| TokenText::new(&bytes)).map_err(|error| {
        tracing::error!("{error:#}");
        Refusal::new(Code::Unavailable, "no random bytes are to be had", "try again; the directory's log says more")
    })
}
