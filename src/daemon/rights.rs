//! What a daemon needs of the machine, asked before anything is changed.

use anyhow::ensure;
use caps::{CapSet, Capability};
use std::path::Path;

const NEEDED: [(Capability, &str); 2] =
    [(Capability::CAP_NET_ADMIN, "set up interfaces, routes and nftables"), (Capability::CAP_NET_RAW, "send and receive GRE packets")];

/// An error that names what is missing and how to mend it.
pub fn check() -> anyhow::Result<()> {
    for (capability, purpose) in NEEDED {
        ensure!(
            caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false),
            "{capability} is missing, which it takes to {purpose}: run as root, or as a systemd service with `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW`"
        );
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    ensure!(
        std::env::split_paths(&path).any(|dir| Path::new(&dir).join("nft").exists()),
        "the program `nft` is not in PATH ({}): install it with `apt-get install -y nftables`, or add its directory, such as /usr/sbin",
        path.display()
    );
    Ok(())
}
