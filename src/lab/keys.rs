//! WireGuard keys of a lab: made of names, so that whoever writes a configuration knows everybody's. They protect nothing.

use super::dir::secret;
use super::error::Result;
use super::topology::Topology;
use crate::model::PrivateKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

pub fn of_shard(tenant: &str, number: u8) -> PrivateKey {
    named(&shard(tenant, number))
}

pub fn of_host(node: &str) -> PrivateKey {
    named(node)
}

/// What the key of a shard is called.
pub fn shard(tenant: &str, number: u8) -> String {
    format!("{tenant}-{number}")
}

/// Where it is, beside the runtime directories.
pub fn file(runtime_dir: &Path, name: &str) -> PathBuf {
    runtime_dir.with_file_name(format!("{name}.wireguard.key"))
}

/// Writes the files of all keys of a topology.
pub fn write(lab: &Topology, runtime_dir: &Path) -> Result<()> {
    let shards = lab.tenants.iter().flat_map(|tenant| lab.shards_of(&tenant.name).into_iter().map(|s| shard(&tenant.name, s.shard)));
    for name in shards.chain(lab.hosts.iter().map(|host| host.node.clone())) {
        secret(&file(runtime_dir, &name), &STANDARD.encode(named(&name).expose()))?;
    }
    Ok(())
}

fn named(name: &str) -> PrivateKey {
    PrivateKey::new(Sha256::digest(format!("a lab's key, {name}")).into())
}
