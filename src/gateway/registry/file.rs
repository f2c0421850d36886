//! The cache as a file: `STATE_DIR/known-hosts.json`.

use super::cache::Watched;
use crate::daemon::state_file;
use crate::model::{NodeName, PublicKey, TenantShard};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

pub const NAME: &str = "known-hosts.json";
pub const VERSION: u32 = 1;
/// Bytes; 65,536 hosts with a few prefixes each take 20 MB.
const LONGEST: u64 = 256 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub struct Stored {
    pub version: u32,
    /// Whose it is: another gateway has other shards.
    pub gateway: NodeName,
    /// Whose answers these are.
    pub directory: String,
    pub watched: Option<Watched>,
    pub hosts: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    pub key: PublicKey,
    pub host: NodeName,
    pub inner: BTreeMap<TenantShard, Vec<IpNet>>,
    /// Seconds since 1970.
    pub fetched: u64,
}

/// None: there is nothing of use, which is no fault; why is told in the log.
pub fn load(path: &Path, gateway: &NodeName, directory: &str) -> Option<Stored> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let read = || -> anyhow::Result<Option<Stored>> {
        let Some(text) = state_file::read(path, LONGEST)? else { return Ok(None) };
        let Version { version } = serde_json::from_slice(&text)?;
        anyhow::ensure!(version == VERSION, "it is of version {version}, not {VERSION}");
        let stored: Stored = serde_json::from_slice(&text)?;
        anyhow::ensure!(stored.gateway == *gateway, "it is {}'s", stored.gateway);
        anyhow::ensure!(stored.directory == directory, "it is from another directory, {}", stored.directory);
        Ok(Some(stored))
    };
    read().unwrap_or_else(|error| {
        tracing::warn!("hosts known before the start are not known any more, {} is of no use: {error:#}", path.display());
        None
    })
}

pub fn save(path: &Path, stored: &Stored) -> anyhow::Result<()> {
    Ok(state_file::write(path, &serde_json::to_vec(stored)?)?)
}
