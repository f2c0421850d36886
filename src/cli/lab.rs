//! `portway lab`

use crate::config::{Backend, TunnelKind};
use crate::lab::scenario::{Options, Scenario};
use crate::lab::{Kill, Netns, Paint, Servers, Topology, on_interrupt, picture, pinned, rights, swarm};
use anyhow::Context;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
        tunnel: TunnelArg,
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
    /// Let something befall a node
    Fail {
        node: String,
        /// What: a gateway's power, its links, its daemon
        #[arg(long, value_enum, default_value_t = Kill::Node)]
        kill: Kill,
    },
    /// Undo `fail`
    Heal { node: String },
    /// Run a scenario in a lab of its own; exit status 0 only if it passed
    Run {
        #[arg(value_enum)]
        scenario: Scenario,
        #[arg(long, value_enum, default_value_t)]
        backend: BackendArg,
        #[command(flatten)]
        options: OptionArgs,
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

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum TunnelArg {
    #[default]
    Gre,
    Wireguard,
}

impl From<TunnelArg> for TunnelKind {
    fn from(arg: TunnelArg) -> Self {
        match arg {
            TunnelArg::Gre => Self::Gre,
            TunnelArg::Wireguard => Self::Wireguard,
        }
    }
}

/// For scenarios with gateways that share addresses.
#[derive(Debug, clap::Args)]
struct OptionArgs {
    /// What the tunnels are, unless the scenario's name says it
    #[arg(long, value_enum, default_value_t)]
    tunnel: TunnelArg,
    /// What befalls the Active
    #[arg(long, value_enum, default_value_t = Kill::Daemon)]
    kill: Kill,
    /// Between two advertisements
    #[arg(long, value_parser = super::duration, default_value = "100ms")]
    interval: Duration,
    /// TCP connections held through it, a quarter of each kind; a fifth as many UDP flows beside them
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(4..=8000))]
    flows: u16,
    /// How long the idle ones among them are idle
    #[arg(long, value_parser = super::duration, default_value = "2s")]
    idle: Duration,
    /// Between two pings; longer where the machine is slow, such as an emulated one
    #[arg(long, value_parser = super::duration, default_value = "1ms")]
    ping: Duration,
    /// Of shards, scale-out and scale-in (3 at least, with the one that comes or goes): gateways
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=6))]
    nodes: u8,
    /// Of the same
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=10))]
    shards: u8,
    /// Of wireguard-failover: peers of the shard that fails over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(swarm::MOST)))]
    peers: u16,
    /// Of wireguard-failover, and with --tunnel wireguard of restart, scale-out and scale-in: let peers in because a directory knows them. Of the last two:
    /// it says who is in the group, too, and nobody's file is changed
    #[arg(long)]
    directory: bool,
    /// Of wireguard-jit: hosts that come
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=i64::from(swarm::MOST)))]
    hosts: u16,
    /// Of upgrade: another build of portway; a copy of this one, if not said
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
}

impl From<OptionArgs> for Options {
    fn from(args: OptionArgs) -> Self {
        Self {
            tunnel: args.tunnel.into(),
            kill: args.kill,
            interval: args.interval,
            flows: args.flows.into(),
            idle: args.idle,
            ping: args.ping,
            nodes: args.nodes.into(),
            shards: args.shards.into(),
            peers: args.peers,
            directory: args.directory,
            hosts: args.hosts,
            to: args.to,
        }
    }
}

pub fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LabCommand::Run { scenario, backend, options, json } => {
            return run_scenario(scenario, backend.into(), &options.into(), json);
        }
        LabCommand::Serve { tenant } => serve(&tenant)?,
        LabCommand::Up { tunnel, backend } => {
            rights::check()?;
            let topology = pinned::up(Topology::demo().with_tunnel(tunnel.into()), &portway()?, backend.into())?;
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
        LabCommand::Fail { node, kill } => pinned::fail(&node, kill)?,
        LabCommand::Heal { node } => pinned::heal(&node, &portway()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_scenario(scenario: Scenario, backend: Backend, options: &Options, json: bool) -> anyhow::Result<ExitCode> {
    on_interrupt().context("cannot watch for Ctrl-C")?;
    let portway = portway()?;
    let outcome = rights::check().and_then(|()| scenario.run(&portway, backend, options)).inspect_err(|e| {
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
