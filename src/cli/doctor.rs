//! `portway doctor`.

use crate::config::Config;
use crate::doctor::{self, Finding, Severity, gather};
use crate::lab::Paint;
use serde_json::json;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is to run here; without it, only the machine itself is looked at.
    #[arg(long, short)]
    config: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Exit code 1 if something is broken, else 0.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.config.as_deref().map(super::daemon::load).transpose()?;
        if let Some(Config::Directory(_) | Config::Autoscaler(_)) = config {
            anyhow::bail!("a directory or an autoscaler needs nothing of the kernel: `portway check` is all that there is to ask");
        }
        let facts = super::block_on(gather::gather(config.as_ref()))?;
        let findings = doctor::examine(&facts, config.as_ref());
        let worst = doctor::worst(&findings);
        if self.json {
            println!("{}", json!({ "findings": findings, "worst": worst }));
        } else {
            let paint = Paint(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
            print!("{}", table(&findings, paint));
        }
        Ok(if worst == Severity::Broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn table(findings: &[Finding], paint: Paint) -> String {
    let mut out = String::new();
    for finding in findings {
        let mark = match finding.severity {
            Severity::Ok => paint.green("✓"),
            Severity::Note => paint.dim("·"),
            Severity::Warning => paint.bold("!"),
            Severity::Broken => paint.red("✗"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{mark} {}", finding.what);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(out, "    {}", paint.bold(remedy));
        }
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let summary = match (count(Severity::Broken), count(Severity::Warning)) {
        (0, 0) => "nothing stands in the way".to_owned(),
        (0, warnings) => format!("warnings: {warnings}"),
        (broken, warnings) => format!("broken: {broken}, warnings: {warnings}"),
    };
    out + &summary + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_stands_below_what_it_mends() {
        let findings = [
            Finding { severity: Severity::Broken, what: "eth0 is down".into(), remedy: Some("ip link set dev eth0 up".into()) },
            Finding { severity: Severity::Ok, what: "Linux 6.1".into(), remedy: None },
        ];
        let plain = "✗ eth0 is down\n    ip link set dev eth0 up\n✓ Linux 6.1\nbroken: 1, warnings: 0\n";
        assert_eq!(table(&findings, Paint(false)), plain);
        assert_eq!(table(&findings[1..], Paint(false)), "✓ Linux 6.1\nnothing stands in the way\n");
    }
}
