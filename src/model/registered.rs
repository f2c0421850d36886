//! What a directory says of a function host.

use super::NodeName;
use ipnet::IpNet;

/// A function host as the directory knows it, at one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub host: NodeName,
    /// Inner prefixes that it may send from, at most [`Registered::PREFIXES`].
    pub allowed: Vec<IpNet>,
}

impl Registered {
    /// So many fit a record of state sync; a directory gives a host no more at a shard.
    pub const PREFIXES: usize = 16;
}
