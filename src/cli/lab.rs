//! `portway lab`

use crate::config::Backend;
use crate::lab::scenario::Scenario;
use crate::lab::{Netns, Paint, Servers, Topology, on_interrupt, picture, pinned, rights};
use anyhow::Context;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A small cloud in network namespaces of this machine, to try things in.
#[derive(Debug, clap::Args)]
pub struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, clap::Subcommand)]
enum LabCommand {
    /// Build the demo's lab with daemons running and containers attached, and leave it standing
    Up {
        #[arg(long, value_enum, default_value_t)]
        backend: BackendArg,
    },
    /// Take it down again
    Down,
    /// Run a command in a node, such as `portway lab exec fn-1a curl -s http://172.16.101.20/`
    Exec {
        node: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Cut a node off: all its interfaces down
    Fail { node: String },
    /// Undo `fail`
    Heal { node: String },
    /// Run a scenario in a lab of its own; exit status 0 only if it passed
    Run {
        #[arg(value_enum)]
        scenario: ScenarioArg,
        #[arg(long, value_enum, default_value_t)]
        backend: BackendArg,
        /// One JSON object on the last line of the output
        #[arg(long)]
        json: bool,
    },
    /// The server of a VPC, in the foreground, in the namespace it is started in
    #[command(hide = true)]
    Serve { tenant: String },
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum BackendArg {
    #[default]
    Auto,
    Kernel,
    Userspace,
}

impl From<BackendArg> for Backend {
    fn from(arg: BackendArg) -> Self {
        match arg {
            BackendArg::Auto => Self::Auto,
            BackendArg::Kernel => Self::Kernel,
            BackendArg::Userspace => Self::Userspace,
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ScenarioArg {
    /// Figures of one function through one GRE tunnel
    Gre,
    /// Eight tenants with the same addresses on one host: nobody reaches another's network
    Overlap,
    /// Daemons restarted under a transfer and a 1 ms ping
    Restart,
}

impl From<ScenarioArg> for Scenario {
    fn from(arg: ScenarioArg) -> Self {
        match arg {
            ScenarioArg::Gre => Self::Gre,
            ScenarioArg::Overlap => Self::Overlap,
            ScenarioArg::Restart => Self::Restart,
        }
    }
}

pub fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LabCommand::Run { scenario, backend, json } => return run_scenario(scenario.into(), backend.into(), json),
        LabCommand::Serve { tenant } => serve(&tenant)?,
        LabCommand::Up { backend } => {
            rights::check()?;
            let topology = pinned::up(Topology::demo(), &portway()?, backend.into())?;
            println!("{}", picture::draw(&topology));
            println!("The lab is up. Try: portway lab exec fn-1a curl -s http://{}/", topology.tenants[0].server);
            println!("Nodes: {}", topology.nodes().join(", "));
            println!("Take it down: portway lab down");
        }
        LabCommand::Down => {
            rights::check()?;
            println!("{}", if pinned::down()? { "The lab is down." } else { "No lab was up." });
        }
        LabCommand::Exec { node, command } => match pinned::exec(&node, &command)? {},
        LabCommand::Fail { node } => pinned::fail(&node)?,
        LabCommand::Heal { node } => pinned::heal(&node)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_scenario(scenario: Scenario, backend: Backend, json: bool) -> anyhow::Result<ExitCode> {
    on_interrupt().context("cannot watch for Ctrl-C")?;
    let portway = portway()?;
    let outcome = rights::check().and_then(|()| scenario.run(&portway, backend)).inspect_err(|e| {
        if json {
            println!("{}", json!({ "scenario": scenario.name(), "pass": false, "error": e.to_string() }));
        }
    })?;
    let paint = Paint(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    if json {
        println!("{}", outcome.json());
    } else {
        print!("{}", outcome.text(paint));
    }
    Ok(if outcome.pass() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Until a signal ends it.
fn serve(tenant: &str) -> anyhow::Result<()> {
    let servers = Servers::new()?;
    servers.start(&Netns::open(Path::new("/proc/self/ns/net"))?, tenant)?;
    loop {
        std::thread::park();
    }
}

fn portway() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}
