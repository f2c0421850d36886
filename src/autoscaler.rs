//! `portway autoscaler`: how many gateways there should be. docs/autoscaling.md says how to run it.
//!
//! ```text
//!  gateways' /metrics --scrape--> reading --+
//!                                           v
//!  ticks -------------------------------> Brain: the decision machine (proto::scale) --> log, status, metrics
//!                                           |
//!                                           +--> orders --> actuator: whoever runs the nodes
//!                                           +--> wanted --> GET /v1/wanted: KEDA's metrics-api, or whoever scales
//! ```

mod actuator;
mod api;
mod brain;
mod reading;
mod scrape;
mod show;

use crate::config::{self, Config};
use crate::daemon::sockets;
use crate::daemon::succession::Sole;
use actuator::{Hand, Receiver};
use anyhow::Context;
use brain::Brain;
use scrape::Scrapes;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// An autoscaler at work in this process.
pub struct Running {
    brain: Arc<Brain>,
    scrapes: Scrapes,
    hand: Hand,
    /// Where it listens.
    pub admin: SocketAddr,
    pub socket: PathBuf,
    end: CancellationToken,
    tasks: JoinSet<()>,
    _sole: Sole,
}

impl Running {
    /// One process for a runtime directory.
    pub async fn start(config: &config::Autoscaler, dry_run: bool) -> anyhow::Result<Self> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&config.runtime_dir);
        made.with_context(|| format!("cannot make `runtime_dir` {}", config.runtime_dir.display()))?;
        let sole = Sole::claim(&config.runtime_dir, "autoscaler")?;
        let brain = Arc::new(Brain::new(config, dry_run)?);
        let listener = sockets::bind_tcp("admin", config.admin).await?;
        let admin = listener.local_addr()?;
        let socket = sockets::api_path(&config.runtime_dir, "autoscaler");
        let unix = sockets::bind_unix(&socket, 0o600)?;
        unix.set_nonblocking(true)?;
        let (end, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let receiver = Receiver::new(&config.actuator)?;
        let scrapes = Scrapes::start(config, &brain)?;
        let hand = Hand::default();
        hand.tell(&config.actuator, receiver, &brain);
        let routes = api::routes(brain.clone(), scrapes.outcomes.clone(), hand.clone());
        tasks.spawn(api::serve(listener, routes.clone(), end.clone()));
        tasks.spawn(api::serve(UnixListener::from_std(unix)?, routes, end.clone()));
        tasks.spawn(brain::tick(brain.clone(), end.clone()));
        Ok(Self { brain, scrapes, hand, admin, socket, end, tasks, _sole: sole })
    }

    /// The configuration as it is now. What takes a restart stays as it was, and is named.
    pub fn reload(&mut self, now: &config::Autoscaler, former: &config::Autoscaler) -> anyhow::Result<()> {
        let receiver = Receiver::new(&now.actuator)?;
        self.brain.configure(now)?;
        self.scrapes.replace(now, &self.brain);
        self.hand.tell(&now.actuator, receiver, &self.brain);
        let fixed = [
            ("admin", now.admin != former.admin),
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
        self.scrapes.stop().await;
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Serves until a signal ends it. SIGHUP: the configuration is read anew.
pub async fn run(file: &Path, mut config: config::Autoscaler, dry_run: bool) -> anyhow::Result<ExitCode> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hup = signal(SignalKind::hangup())?;
    let mut running = Running::start(&config, dry_run || config.dry_run).await?;
    tracing::info!("autoscaler of {} gateways, {} to {} nodes", config.gateways.len(), config.nodes.min, config.nodes.max);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv() => match config::load(file) {
                Ok(Config::Autoscaler(new)) => match running.reload(&new, &config) {
                    Ok(()) => {
                        tracing::info!("configuration read anew");
                        config = new;
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
    Ok(ExitCode::SUCCESS)
}
