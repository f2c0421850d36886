//! `portway check FILE`.

use crate::config::{self, Config};
use std::path::Path;
use std::process::ExitCode;

pub fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(config) => {
            println!("{}: {}", file.display(), describe(&config));
            ExitCode::SUCCESS
        }
        Err(faults) => {
            eprint!("{}", faults.render(std::io::IsTerminal::is_terminal(&std::io::stderr())));
            ExitCode::FAILURE
        }
    }
}

fn describe(config: &Config) -> String {
    match config {
        Config::Gateway(gateway) => {
            format!("a gateway, {} tenants, {} function hosts, no faults", gateway.tenants.len(), gateway.peers.len())
        }
        Config::Host(host) => format!("a function host, {} tenants, no faults", host.tenants.len()),
        Config::Directory(directory) => format!("a directory at {}, {}, no faults", directory.listen, directory.database),
    }
}
