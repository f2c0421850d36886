//! Keys of the group, from their files.

use crate::config::KeyFile;
use crate::daemon::key_file;
use crate::model::{KeyId, Secret};
use crate::wire::seal::Seal;
use crate::wire::vrrp::{Key, Keyring};
use anyhow::Context;

/// What state sync makes its own key of.
const SYNC: &str = "portway state sync 1";

/// The keys of advertisements and of state sync, from the files of a configuration: one, or two while they are changed.
pub fn read_all(keys: &[KeyFile]) -> anyhow::Result<(Keyring, Seal)> {
    let read: Vec<(KeyId, Secret)> = keys.iter().map(|key| Ok((key.id, key_file::key(key)?))).collect::<anyhow::Result<_>>()?;
    let vrrp = |(id, secret): &(KeyId, Secret)| Key::new(*id, secret);
    let sync = |(_, secret): &(KeyId, Secret)| Seal::derived(secret.expose(), SYNC);
    let first = read.first().context("`ha.keys` is empty")?;
    let other = read.get(1);
    let seal = sync(first);
    let seal = other.map_or(seal.clone(), |other| seal.or(sync(other)));
    Ok((Keyring { signing: vrrp(first), other: other.map(vrrp) }, seal))
}
