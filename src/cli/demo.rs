//! `portway demo`

use super::lab::{BackendArg, TunnelArg};
use crate::lab::{Paint, on_interrupt, rights, run_demo};
use anyhow::Context;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds two tenants, two gateways and two function hosts in network namespaces, sends traffic, checks that everybody
/// reaches their own network only, restarts daemons under load, and leaves the machine as it was.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// What the tunnels are
    #[arg(long, value_enum, default_value_t)]
    tunnel: TunnelArg,
    /// Tunnels by the kernel or by Portway itself; `auto` takes the kernel's where it has them
    #[arg(long, value_enum, default_value_t)]
    backend: BackendArg,
    /// Where the HTML report goes
    #[arg(long, value_name = "FILE", default_value = "target/demo/report.html")]
    report: PathBuf,
}

/// Exit status 0 only if every check held.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    rights::check()?;
    on_interrupt().context("cannot watch for Ctrl-C")?;
    let portway = std::env::current_exe().context("cannot find this program's own file")?;
    let mut out = std::io::stdout();
    let paint = Paint(out.is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let demo = run_demo(&portway, (args.tunnel.into(), args.backend.into()), Some(&args.report), &mut out, paint)?;
    Ok(if demo.held() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
