//! What an operator installs: the package with its services, manual pages, completions, and the list of what is linked into the program.

mod bom;
mod deb;
mod described;
mod units;
mod watchdog;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PORTWAY: &str = env!("CARGO_BIN_EXE_portway");
const ROLES: [&str; 4] = ["gateway", "host", "directory", "autoscaler"];

/// Of one gateway.
const MACHINE: &str = "
ip link set lo up
ip link add plat0 type veth peer name plat1; ip addr add 10.9.0.1/24 dev plat0; ip link set plat0 up; ip link set plat1 up
ip link add eni0 type veth peer name eni1; ip addr add 172.16.101.4/24 dev eni0; ip link set eni0 up; ip link set eni1 up";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: run scripts/install-deps test"))
}

/// What it printed; it must succeed.
fn text(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// As a shell, in a directory.
fn sh(at: &Path, script: &str) -> String {
    text(Command::new("sh").args(["-ec", script]).current_dir(at))
}

/// `packaging/systemd/portway-ROLE.service`
fn unit(role: &str) -> PathBuf {
    root().join(format!("packaging/systemd/portway-{role}.service"))
}
