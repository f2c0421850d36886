//! What the attachments of containers are called: of which network one is, the name says, so that none needs to be remembered.
//!
//! ```text
//! cni-1f0c97a3b52d6e48-3f6940ab5ab43bc5...-9b1e60d2c47f8a35
//!     network's digest container's ID      digest of ID and interface
//! ```

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A container's interface, in the words of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Container {
    #[serde(rename = "containerID")]
    pub id: String,
    pub ifname: String,
}

/// How much of a container's ID is shown: all of one as containerd and Docker give them.
const SHOWN: usize = 64;

/// What the names of all attachments of a network begin with, and no others.
pub fn of_network(network: &str) -> String {
    format!("cni-{}-", digest(network))
}

/// The name of a container's attachment to a network. The ID is there for people; that no two are alike, the digests see to.
pub fn attachment(network: &str, Container { id, ifname }: &Container) -> String {
    let shown: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || "_.-".contains(*c)).take(SHOWN).collect();
    // No slash is in an interface's name.
    format!("{}{shown}-{}", of_network(network), digest(&format!("{id}/{ifname}")))
}

/// The first 64 bits of a SHA-256.
fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
