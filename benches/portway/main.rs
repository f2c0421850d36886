//! Portway's benchmarks. `README.md` beside this directory says how each figure is obtained and how to read it.
//!
//! `cargo bench --bench portway -- [NAME...] [--backend userspace|kernel] [--rounds N] [--short]`; without names, all that this
//! machine can run. Everything happens in network namespaces that go when the process ends, however it ends.

mod attach;
mod chain;
#[cfg(feature = "aws")]
mod claim;
mod directory;
mod failover;
mod failover_peer;
mod figures;
mod group;
mod handover;
mod host_cost;
mod http;
mod jit;
mod lateness;
mod many_flows;
mod nodes;
mod observe;
mod paced;
mod peers;
mod redundant;
mod sender;
mod sync_rate;
mod throughput;
mod upgrade;
mod vm_tunnels;
mod webhook;
mod wireguard;

use anyhow::{Context, bail};
use figures::Report;
use std::process::{Command, ExitCode};

/// How long one benchmark may take in the virtual machine.
const VM_SECONDS: &str = "1200";

/// What the command line asks for.
pub struct Options {
    /// What carries the tunnels: `userspace` or `kernel`.
    backend: String,
    /// Rounds of each comparison; none: as many as the benchmark itself thinks right.
    rounds: Option<usize>,
    /// The failover benchmarks in little, to see that they work: few rounds, and connections that are idle for a moment only.
    short: bool,
    /// Within the virtual machine, where a time is an order of magnitude longer and means little by itself.
    emulated: bool,
}

struct Bench {
    name: &'static str,
    run: fn(&Options, &mut Report) -> anyhow::Result<()>,
    /// Whether it needs a kernel with ip_gre; where there is none, it runs in a virtual machine.
    gre: bool,
}

const BENCHES: &[Bench] = &[
    Bench { name: "attach", run: attach::run, gre: false },
    Bench { name: "peers", run: peers::run, gre: false },
    Bench { name: "host-cost", run: host_cost::run, gre: false },
    Bench { name: "throughput", run: throughput::run, gre: false },
    Bench { name: "wireguard", run: wireguard::run, gre: false },
    Bench { name: "failover", run: failover::run, gre: false },
    Bench { name: "wireguard-failover", run: failover::run_wireguard, gre: false },
    Bench { name: "handover", run: handover::run, gre: false },
    Bench { name: "upgrade", run: upgrade::run, gre: false },
    Bench { name: "failover-peer", run: failover_peer::run, gre: false },
    Bench { name: "sync", run: sync_rate::run, gre: false },
    Bench { name: "failover-250k", run: many_flows::run, gre: false },
    Bench { name: "lateness", run: lateness::run, gre: false },
    Bench { name: "observe", run: observe::run, gre: false },
    Bench { name: "directory", run: directory::run, gre: false },
    Bench { name: "webhook", run: webhook::run, gre: false },
    Bench { name: "jit", run: jit::run, gre: false },
    Bench { name: "jit-flood", run: jit::run_flood, gre: false },
    Bench { name: "jit-known", run: jit::run_known, gre: false },
    #[cfg(feature = "aws")]
    Bench { name: "claim", run: claim::run, gre: false },
    Bench { name: "vm-jit", run: jit::run_kernel, gre: true },
    Bench { name: "vm-peers", run: peers::run_kernel, gre: true },
    Bench { name: "vm-gre", run: vm_tunnels::gre, gre: true },
    Bench { name: "vm-wireguard", run: vm_tunnels::wireguard, gre: true },
];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every bar was held.
fn run() -> anyhow::Result<bool> {
    let mut options = Options { backend: "userspace".into(), rounds: None, short: false, emulated: false };
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo says so to every benchmark.
            "--bench" => {}
            "--backend" => options.backend = arguments.next().context("--backend needs `userspace` or `kernel`")?,
            "--short" => options.short = true,
            EMULATED => options.emulated = true,
            "--rounds" => options.rounds = Some(arguments.next().context("--rounds needs a number")?.parse()?),
            name if BENCHES.iter().any(|bench| bench.name == name) => names.push(argument),
            other => {
                bail!("{other:?} is no benchmark: there are {}", BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>().join(", "))
            }
        }
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("benchmarks make network namespaces: run them as root");
    }
    portway::lab::on_interrupt().context("cannot listen for signals")?;
    let mut held = true;
    for bench in BENCHES.iter().filter(|bench| names.is_empty() || names.iter().any(|wanted| wanted == bench.name)) {
        eprintln!("{} ...", bench.name);
        held &= if bench.gre && !has_gre()? { elsewhere(bench.name, &options) } else { here(bench, &options) }
            .with_context(|| format!("benchmark {}", bench.name))?;
    }
    Ok(held)
}

fn here(bench: &Bench, options: &Options) -> anyhow::Result<bool> {
    let mut report = Report::new(bench.name);
    let done = (bench.run)(options, &mut report);
    // What there is, even if something went wrong behind it.
    report.write()?;
    print!("{report}");
    done?;
    Ok(report.held())
}

fn has_gre() -> anyhow::Result<bool> {
    Ok(nodes::Node::new()?.sh("ip link add probe type gre local 127.0.0.1 key 1 2>&1").is_ok())
}

/// Says to this program that it runs in the virtual machine.
const EMULATED: &str = "--emulated";

/// This very program in the virtual machine.
fn elsewhere(name: &str, options: &Options) -> anyhow::Result<bool> {
    let results = figures::directory()?;
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/vm"));
    command
        .args(["--timeout", VM_SECONDS, "--memory", "4096", "--share"])
        .arg(results)
        .arg("--")
        .arg(std::env::current_exe()?)
        .args([name, EMULATED]);
    command.args(options.rounds.iter().flat_map(|rounds| ["--rounds".to_owned(), rounds.to_string()]));
    match command.status().context("cannot run scripts/vm")?.code() {
        Some(0) => Ok(true),
        Some(2) => Ok(false),
        other => bail!("in the virtual machine: exit status {other:?}"),
    }
}
