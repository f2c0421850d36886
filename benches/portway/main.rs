//! Portway's benchmarks. `README.md` beside this directory says how each figure is obtained and how to read it.
//!
//! `cargo bench --bench portway -- [NAME...] [--backend userspace|kernel] [--rounds N]`; without names, all that this
//! machine can run. Everything happens in network namespaces that go when the process ends, however it ends.

mod attach;
mod figures;

mod host_cost;
mod http;
mod nodes;
mod peers;
mod sender;

use anyhow::{Context, bail};
use figures::Report;
use std::process::ExitCode;

/// What the command line asks for.
pub struct Options {
    /// What carries the tunnels: `userspace` or `kernel`.
    backend: String,
    /// Rounds of each comparison; none: as many as the benchmark itself thinks right.
    rounds: Option<usize>,
}

type Bench = fn(&Options, &mut Report) -> anyhow::Result<()>;

const BENCHES: [(&str, Bench); 3] = [("attach", attach::run), ("peers", peers::run), ("host-cost", host_cost::run)];

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
    let mut options = Options { backend: "userspace".into(), rounds: None };
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo says so to every benchmark.
            "--bench" => {}
            "--backend" => options.backend = arguments.next().context("--backend needs `userspace` or `kernel`")?,
            "--rounds" => options.rounds = Some(arguments.next().context("--rounds needs a number")?.parse()?),
            name if BENCHES.iter().any(|(known, _)| *known == name) => names.push(argument),
            other => bail!("{other:?} is no benchmark: there are {}", BENCHES.map(|(name, _)| name).join(", ")),
        }
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("benchmarks make network namespaces: run them as root");
    }
    let mut held = true;
    for (name, bench) in BENCHES.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| wanted == name)) {
        eprintln!("{name} ...");
        let mut report = Report::new(name);
        bench(&options, &mut report).with_context(|| format!("benchmark {name}"))?;
        report.write()?;
        print!("{report}");
        held &= report.held();
    }
    Ok(held)
}
