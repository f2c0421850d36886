//! `portway autoscaler`: how many gateways there should be. docs/autoscaling.md says how to run it.
//!
//! ```text
//!  directory --discovery--> roster: which gateways there are
//!                                |
//!  gateways' /metrics --scrape--+> reading --+
//!                                           v
//!  ticks -------------------------------> Brain: the decision machine (proto::scale) --> log, status, metrics
//!  posts --------> webhooks --> levels ----> |
//!  Prometheus ---> prometheus -> levels ---> +--> orders --> actuator: whoever runs the nodes
//!                                            +--> wanted --> GET /v1/wanted: KEDA's metrics-api, or whoever scales
//!                                            +--> kept: STATE_DIR/autoscaler.json
//! ```

mod actuator;
mod api;
mod brain;
mod discovery;
mod fleet;
mod kept;
mod outcomes;
mod parts;
mod prometheus;
mod reading;
mod scrape;
mod show;
mod webhooks;

pub use webhooks::Reach;

use crate::config::{self, Config};
use crate::daemon::http::{self, Certificate, Listener};
use crate::daemon::names::Names;
use crate::daemon::sockets;
use crate::daemon::succession::Sole;
use actuator::{Hand, Receiver};
use anyhow::Context;
use brain::Brain;
use discovery::Discovery;
use parts::Parts;
use prometheus::Queries;
use scrape::Scrapes;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use webhooks::Door;

/// An autoscaler at work in this process.
pub struct Running {
    brain: Arc<Brain>,
    scrapes: Arc<Scrapes>,
    discovery: Discovery,
    queries: Queries,
    door: Option<Arc<Door>>,
    certificate: Option<Arc<Certificate>>,
    file: Arc<kept::File>,
    hand: Hand,
    /// Where it listens.
    pub admin: SocketAddr,
    pub webhooks: Option<SocketAddr>,
    pub socket: PathBuf,
    end: CancellationToken,
    tasks: JoinSet<()>,
    parts: Parts,
    _sole: Sole,
}

impl Running {
    /// One process for a runtime directory.
    pub async fn start(config: &config::Autoscaler, dry_run: bool) -> anyhow::Result<Self> {
        Self::start_within(config, dry_run, &Reach::default()).await
    }

    /// As [`Running::start`]; `reach` says where SNS is.
    pub async fn start_within(config: &config::Autoscaler, dry_run: bool, reach: &Reach) -> anyhow::Result<Self> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&config.runtime_dir);
        made.with_context(|| format!("cannot make `runtime_dir` {}", config.runtime_dir.display()))?;
        let sole = Sole::claim(&config.runtime_dir, "autoscaler")?;
        let file = Arc::new(kept::File::new(&config.state_dir));
        let former = file.load(brain::policy(&config.nodes), dry_run || !config.actuator.is_asked());
        let (former, taken) = former.map_or((None, None), |former| (Some((former.scaler, former.roster)), former.replay));
        let brain = Arc::new(Brain::new(config, dry_run, former)?);
        // What was taken counts once: if it cannot be taken out of the file, a crash would bring it back.
        let taken = taken.filter(|_| file.write(&brain, None));
        let parts = Parts::default();
        let hand = Hand::new(parts.clone());
        let door = |webhooks| Door::new(webhooks, brain.clone(), hand.clone(), taken, reach).map(Arc::new);
        let door = config.webhooks.as_ref().map(door).transpose()?;
        let certificate = config.webhooks.as_ref().and_then(|webhooks| webhooks.tls.as_ref());
        let certificate = certificate.map(Certificate::load).transpose()?.map(Arc::new);
        let listener = sockets::bind_tcp("admin", config.admin).await?;
        let admin = listener.local_addr()?;
        let socket = sockets::api_path(&config.runtime_dir, "autoscaler");
        let unix = sockets::bind_unix(&socket, 0o600)?;
        unix.set_nonblocking(true)?;
        let (end, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let receiver = Receiver::new(&config.actuator)?;
        let (scrapes, discovery) = (Arc::new(Scrapes::new()?), Discovery::default());
        let queries = Queries::start(config.prometheus.as_ref(), &brain)?;
        hand.tell(&config.actuator, receiver, &brain);
        discovery.follow(config, &brain, &scrapes);
        let names = Names::new(config.admin_names.clone());
        let routes = api::routes(api::Told {
            brain: brain.clone(),
            outcomes: scrapes.outcomes.clone(),
            discovery: discovery.clone(),
            door: door.clone(),
            queries: queries.told.clone(),
            file: file.clone(),
            hand: hand.clone(),
            names: names.clone(),
            begun: SystemTime::now(),
        });
        let unix = Listener::Unix(UnixListener::from_std(unix)?);
        tasks.spawn(parts.clone().run(http::serve(Listener::Tcp(listener, None), http::LOCAL, names.guard(routes.clone()), end.clone())));
        tasks.spawn(parts.clone().run(http::serve(unix, http::LOCAL, routes, end.clone())));
        tasks.spawn(parts.clone().run(brain::tick(brain.clone(), end.clone())));
        tasks.spawn(parts.clone().run(kept::keep(file.clone(), brain.clone(), end.clone())));
        let mut webhooks = None;
        if let Some((config, door)) = config.webhooks.as_ref().zip(door.clone()) {
            let listener = sockets::bind_tcp("webhooks.listen", config.listen).await?;
            webhooks = Some(listener.local_addr()?);
            tasks.spawn(parts.clone().run(door.clone().look_often(end.clone())));
            let listener = Listener::Tcp(listener, certificate.clone());
            tasks.spawn(parts.clone().run(http::serve(listener, webhooks::PLACES, door.routes(), end.clone())));
        }
        Ok(Self {
            brain,
            scrapes,
            discovery,
            queries,
            hand,
            door,
            certificate,
            file,
            admin,
            webhooks,
            socket,
            end,
            tasks,
            parts,
            _sole: sole,
        })
    }

    /// The configuration as it is now. What takes a restart stays as it was, and is named.
    pub fn reload(&mut self, now: &config::Autoscaler, former: &config::Autoscaler) -> anyhow::Result<()> {
        let receiver = Receiver::new(&now.actuator)?;
        if let Some(certificate) = &self.certificate {
            certificate.reload()?;
        }
        // Who takes them out of the file wants nobody to post any more, whatever still listens.
        let closed = former.webhooks.as_ref().map(config::Webhooks::closed);
        if let (Some(door), Some(webhooks)) = (&self.door, now.webhooks.as_ref().or(closed.as_ref())) {
            door.configure(webhooks)?;
        }
        self.brain.configure(now)?;
        self.discovery.follow(now, &self.brain, &self.scrapes);
        self.queries.replace(now.prometheus.as_ref(), &self.brain);
        self.hand.tell(&now.actuator, receiver, &self.brain);
        let served = |config: &config::Autoscaler| config.webhooks.as_ref().map(|webhooks| (webhooks.listen, webhooks.tls.clone()));
        let fixed = [
            ("admin", now.admin != former.admin),
            ("admin_names", now.admin_names != former.admin_names),
            ("webhooks.listen` or `webhooks.tls", served(now) != served(former)),
            ("runtime_dir", now.runtime_dir != former.runtime_dir),
            ("state_dir", now.state_dir != former.state_dir),
            ("dry_run", now.dry_run != former.dry_run),
        ];
        for (name, _) in fixed.iter().filter(|(_, differs)| *differs) {
            tracing::warn!("`{name}` has changed: it takes a restart");
        }
        Ok(())
    }

    /// Answers what is in hand, and ends.
    pub async fn stop(mut self) {
        self.end.cancel();
        self.hand.stop().await;
        self.discovery.stop().await;
        self.scrapes.stop().await;
        self.queries.stop().await;
        while self.tasks.join_next().await.is_some() {}
        // Nothing is taken any more, so this is all of it.
        self.file.write(&self.brain, self.door.as_deref());
    }
}

/// Serves until a signal ends it. SIGHUP: the configuration is read anew.
pub async fn run(file: &Path, mut config: config::Autoscaler, dry_run: bool) -> anyhow::Result<ExitCode> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hup = signal(SignalKind::hangup())?;
    let mut running = Running::start(&config, dry_run || config.dry_run).await?;
    tracing::info!("autoscaler of {}, {} to {} nodes", config.gateways, config.nodes.min, config.nodes.max);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut is_broken = false;
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            () = running.parts.broken() => {
                is_broken = true;
                break;
            }
            _ = hup.recv() => match config::load(file) {
                Ok(Config::Autoscaler(new)) => match running.reload(&new, &config) {
                    Ok(()) => {
                        tracing::info!("configuration read anew");
                        config = *new;
                    }
                    Err(error) => tracing::error!("the configuration cannot be used, the old one stays in force: {error:#}"),
                },
                Ok(_) => tracing::error!("{} has become another role's configuration; the old one stays in force", file.display()),
                Err(faults) => tracing::error!("the configuration has faults, the old one stays in force:\n{faults}"),
            },
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    running.stop().await;
    anyhow::ensure!(
        !is_broken,
        "a part of it has broken, as is said above: please report it, and have it started anew (systemd: Restart=on-failure)"
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Config};

    /// Of one gateway, which nobody asks.
    pub fn config() -> config::Autoscaler {
        match config::parse("autoscaler: { gateways: [{ name: a, metrics: 'http://127.0.0.1:1/metrics' }] }", "f") {
            Ok(Config::Autoscaler(config)) => *config,
            other => panic!("{other:?}"),
        }
    }
}
