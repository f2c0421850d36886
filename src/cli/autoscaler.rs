//! `portway autoscaler`.

use crate::config::Config;
use anyhow::bail;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run what decides how many gateways there should be.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The YAML file; `examples/autoscaler.yaml` is a documented one.
    #[arg(long, short)]
    config: PathBuf,
    /// Decide and tell, but order nothing, whatever the file says.
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match super::daemon::load(&self.config)? {
            Config::Autoscaler(config) => super::block_on(crate::autoscaler::run(&self.config, *config, self.dry_run)),
            other => bail!("{} configures no autoscaler: run `portway {}`", self.config.display(), other.role()),
        }
    }
}
