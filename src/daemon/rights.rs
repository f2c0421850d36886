//! What a daemon needs of the machine, asked before anything is changed.

use anyhow::{bail, ensure};
use caps::{CapSet, Capability};
use std::path::Path;

const NEEDED: [(Capability, &str); 2] =
    [(Capability::CAP_NET_ADMIN, "set up interfaces, routes and nftables"), (Capability::CAP_NET_RAW, "send and receive GRE packets")];

/// How a process gets them.
pub const CAPABILITIES: &str = "run as root, or as a systemd service with `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW`";

/// How a machine gets nft.
pub const NFT: &str = "apt-get install -y nftables";

/// The needed capabilities that this process lacks, and what each is for.
pub fn missing() -> impl Iterator<Item = (Capability, &'static str)> {
    NEEDED.into_iter().filter(|(capability, _)| !caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false))
}

/// An error that names what is missing and how to mend it.
pub fn check() -> anyhow::Result<()> {
    if let Some((capability, purpose)) = missing().next() {
        bail!("{capability} is missing, which it takes to {purpose}: {CAPABILITIES}");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    ensure!(
        std::env::split_paths(&path).any(|dir| Path::new(&dir).join("nft").exists()),
        "the program `nft` is not in PATH ({}): install it with `{NFT}`, or add its directory, such as /usr/sbin",
        path.display()
    );
    Ok(())
}

/// For threads whose timers must not be late (see `realtime.rs`).
const WANTED: [Capability; 2] = [Capability::CAP_SYS_NICE, Capability::CAP_IPC_LOCK];

/// How to get them.
pub const REALTIME: &str = "run as root, or add CAP_SYS_NICE and CAP_IPC_LOCK to the service's `AmbientCapabilities`";

pub fn missing_for_realtime() -> impl Iterator<Item = Capability> {
    WANTED.into_iter().filter(|capability| !caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false))
}
