//! `portway check FILE`.

use crate::config::{self, Config, DirectoryAt};
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
            let asked = of_directory(gateway.directory.as_ref());
            format!("a gateway, {} tenants, {} function hosts{asked}, no faults", gateway.tenants.len(), gateway.peers.len())
        }
        Config::Host(host) => {
            let asked = of_directory(host.directory.as_ref().map(|directory| &directory.at));
            format!("a function host, {} tenants{asked}, no faults", host.tenants.len())
        }
        Config::Directory(directory) => format!("a directory at {}, {}, no faults", directory.listen, directory.database),
        Config::Autoscaler(autoscaler) => {
            let config::Nodes { min, max, .. } = autoscaler.nodes;
            format!("an autoscaler of {}, {min} to {max}, no faults", autoscaler.gateways)
        }
    }
}

fn of_directory(at: Option<&DirectoryAt>) -> String {
    at.map_or_else(String::new, |at| format!(" and those of the directory at {}", at.url))
}
