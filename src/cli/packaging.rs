//! `portway packaging`: what a package holds beside the program, made by the program itself, so that it is of the same version.

use anyhow::Context;
use clap_complete::Shell;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the manual pages and the shells' completions.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where `man/` and `completions/` are made.
    directory: PathBuf,
}

impl Args {
    /// `command`: all that there is to describe.
    pub fn run(self, mut command: clap::Command) -> anyhow::Result<ExitCode> {
        let make = |name: &str| -> anyhow::Result<PathBuf> {
            let folder = self.directory.join(name);
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            Ok(folder)
        };
        let (pages, completions) = (make("man")?, make("completions")?);
        // Before completions add `help` and all that is below it.
        clap_mangen::generate_to(command.clone(), &pages).with_context(|| format!("cannot write manual pages into {}", pages.display()))?;
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let written = clap_complete::generate_to(shell, &mut command, "portway", &completions);
            written.with_context(|| format!("cannot write completions for {shell} into {}", completions.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
