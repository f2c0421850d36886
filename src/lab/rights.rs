//! What a lab needs of the machine, asked before anything is built.

use super::error::{Error, Result};
use caps::{CapSet, Capability};
use std::path::Path;

/// Programs and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 3] = [("ip", "iproute2"), ("nft", "nftables"), ("iperf3", "iperf3")];

/// An error that names what is missing and the command that mends it.
pub fn check() -> Result<()> {
    for capability in [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW] {
        if !caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false) {
            let again: Vec<String> = std::env::args().collect();
            return Err(Error::Missing(format!(
                "a lab makes network namespaces, which needs {capability}; run it as root: sudo {}",
                again.join(" ")
            )));
        }
    }
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !installed(program)).collect();
    if !missing.is_empty() {
        let (programs, packages): (Vec<&str>, Vec<&str>) = missing.into_iter().copied().unzip();
        return Err(Error::Missing(format!("not installed: {}; run: apt-get install -y {}", programs.join(", "), packages.join(" "))));
    }
    Ok(())
}

fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    // A user's PATH often lacks sbin; root's child processes find it there all the same.
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(program).exists())
}
