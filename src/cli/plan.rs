//! `portway plan`: the difference, without applying it.

use crate::config::Config;
use crate::daemon::reconcile::Role;
use crate::kernel::Kernel;
use crate::plan::{Plan, plan};
use crate::{gateway, host};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, short)]
    config: PathBuf,
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let plan = match super::daemon::load(&self.config)? {
            Config::Gateway(config) => {
                let dir = config.runtime_dir.clone();
                super::block_on(difference(gateway::Node::new(self.config.clone(), config)?, dir))?
            }
            Config::Host(config) => {
                let dir = config.runtime_dir.clone();
                super::block_on(difference(host::Node::new(self.config.clone(), config)?, dir))?
            }
            Config::Directory(_) | Config::Autoscaler(_) => {
                anyhow::bail!("a directory or an autoscaler changes nothing in the kernel: there is nothing to plan")
            }
        };
        if self.json {
            let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
            println!("{}", json!({ "steps": steps }));
        } else if plan.is_empty() {
            println!("nothing to do");
        } else {
            print!("{plan}");
        }
        Ok(ExitCode::from(if plan.is_empty() { 0 } else { 2 }))
    }
}

async fn difference(mut role: impl Role, runtime_dir: PathBuf) -> anyhow::Result<Plan> {
    crate::daemon::rights::check()?;
    std::fs::create_dir_all(&runtime_dir)?;
    let kernel = Kernel::open(&runtime_dir).await?;
    role.take_up_stored()?;
    role.choose_carrier(&kernel).await?;
    let facts = kernel.facts().await?;
    let observed = kernel.observe(&role.interest()).await?;
    Ok(plan(&role.desired(&facts, &observed)?, &observed))
}
