//! `portway gateway` and `portway host`.

use crate::config::{self, Config};
use crate::daemon::reconcile::Role;
use crate::{daemon, gateway, host};
use anyhow::{anyhow, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The YAML file; `examples/` has documented ones.
    #[arg(long, short)]
    config: PathBuf,
    /// Remove everything that Portway set up here, give settings their former values back, and exit.
    #[arg(long)]
    teardown: bool,
}

impl Args {
    pub fn gateway(self) -> anyhow::Result<ExitCode> {
        match load(&self.config)? {
            Config::Gateway(config) if self.teardown => teardown::<gateway::Node>(&config.runtime_dir),
            Config::Gateway(config) => run(gateway::run(self.config, config)),
            other => bail!("{} configures no gateway: run `portway {}`", self.config.display(), other.role()),
        }
    }

    pub fn host(self) -> anyhow::Result<ExitCode> {
        match load(&self.config)? {
            Config::Host(config) if self.teardown => teardown::<host::Node>(&config.runtime_dir),
            Config::Host(config) => run(host::run(self.config, config)),
            other => bail!("{} configures no function host: run `portway {}`", self.config.display(), other.role()),
        }
    }
}

/// A configuration, or all its faults.
pub fn load(file: &Path) -> anyhow::Result<Config> {
    config::load(file).map_err(|faults| anyhow!("the configuration has faults:\n{faults}"))
}

fn run(task: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(task)
}

fn teardown<R: Role>(runtime_dir: &Path) -> anyhow::Result<ExitCode> {
    super::block_on(daemon::teardown::<R>(runtime_dir))
}
