//! The command line. Exit codes: 0 done, 1 failed, 2 wrong usage (clap's) or, from `plan`, changes to be made.

mod attach;
mod autoscaler;
mod check;
mod client;
mod cni;
mod daemon;
mod demo;
mod directory;
mod doctor;
mod drain;
mod enroll;
mod lab;
mod packaging;
mod plan;
mod status;

use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Highly available function-proxy gateways at the edge of tenant VPCs.
#[derive(Debug, Parser)]
#[command(name = "portway", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to log: error, warn, info, debug, trace, or a filter such as `portway=debug`.
    #[arg(long, global = true, env = "PORTWAY_LOG", default_value = "info")]
    log: String,
    /// Log lines as JSON.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway node at a tenant VPC's edge.
    Gateway(daemon::Args),
    /// Run a function host: tunnels to gateways, attachments of containers.
    Host(daemon::Args),
    Directory(directory::Args),
    Autoscaler(autoscaler::Args),
    Enroll(enroll::Args),
    /// Check a configuration file: every fault with line and column.
    Check {
        /// The YAML file.
        file: PathBuf,
    },
    /// Show what a daemon with this configuration would change. Exit code 0: nothing, 2: changes.
    Plan(plan::Args),
    /// What on this machine would stop Portway from working, and the command that mends it.
    Doctor(doctor::Args),
    /// Show what a running daemon knows.
    Status(status::Args),
    Drain(drain::Args),
    /// Bind a container to a tenant.
    Attach(attach::Attach),
    /// End an attachment, and its connections.
    Detach(attach::Detach),
    /// List attachments.
    Attachments(attach::List),
    /// The chained CNI plugin, for container runtimes: environment and standard input say what is to be done (docs/cni.md).
    Cni,
    Lab(lab::LabArgs),
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    Packaging(packaging::Args),
}

pub fn main() -> ExitCode {
    if cni::is_called() {
        return cni::run();
    }
    let cli = Cli::parse();
    start_log(&cli);
    let done = match cli.command {
        Command::Gateway(args) => args.gateway(),
        Command::Host(args) => args.host(),
        Command::Directory(args) => args.run(),
        Command::Autoscaler(args) => args.run(),
        Command::Enroll(args) => args.run(),
        Command::Check { file } => Ok(check::run(&file)),
        Command::Plan(args) => args.run(),
        Command::Doctor(args) => args.run(),
        Command::Status(args) => args.run(),
        Command::Drain(args) => args.run(),
        Command::Attach(args) => args.run(),
        Command::Detach(args) => args.run(),
        Command::Attachments(args) => args.run(),
        Command::Cni => Ok(cni::run()),
        Command::Lab(args) => lab::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Packaging(args) => args.run(Cli::command()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("portway: {error:#}");
        ExitCode::FAILURE
    })
}

fn start_log(cli: &Cli) {
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr);
    if cli.log_json { log.json().init() } else { log.init() }
}

/// A number with its unit: 100ms, 2s, 1.5m, 1h.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::config::duration(text).ok_or_else(|| "write a number and its unit, such as 100ms, 2s or 5m".to_owned())
}

/// A runtime for one short task.
fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}
