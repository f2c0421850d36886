//! Keys of the group, from their files.

use crate::config::HaKey;
use crate::daemon::key_file;
use crate::model::{KeyId, Secret};
use crate::wire::seal::Seal;
use crate::wire::vrrp::{Key, Keyring};
use anyhow::{Context, ensure};

/// Hexadecimal digits of a key: 32 to 64 bytes, as [`Secret::LEN`] says.
const DIGITS: std::ops::RangeInclusive<usize> = 2 * *Secret::LEN.start()..=2 * *Secret::LEN.end();

/// The key in a file of 64 to 128 hexadecimal digits; white space may follow them.
///
/// # Errors
/// What is wrong with the file and what mends it; never what stands in it.
pub fn read_key(key: &HaKey) -> anyhow::Result<Secret> {
    let path = key.file.display();
    let text = key_file::read(&key.file).with_context(|| format!("cannot use {path} as key {}", key.id))?;
    secret(&text).with_context(|| format!("{path} does not hold key {}: write one there with `openssl rand -hex 32 > {path}`", key.id))
}

/// What state sync makes its own key of.
const SYNC: &str = "portway state sync 1";

/// The keys of advertisements and of state sync, from the files of a configuration: one, or two while they are changed.
pub fn read_all(keys: &[HaKey]) -> anyhow::Result<(Keyring, Seal)> {
    let read: Vec<(KeyId, Secret)> = keys.iter().map(|key| Ok((key.id, read_key(key)?))).collect::<anyhow::Result<_>>()?;
    let vrrp = |(id, secret): &(KeyId, Secret)| Key::new(*id, secret);
    let sync = |(_, secret): &(KeyId, Secret)| Seal::derived(secret.expose(), SYNC);
    let first = read.first().context("`ha.keys` is empty")?;
    let other = read.get(1);
    let seal = sync(first);
    let seal = other.map_or(seal.clone(), |other| seal.or(sync(other)));
    Ok((Keyring { signing: vrrp(first), other: other.map(vrrp) }, seal))
}

fn secret(text: &[u8]) -> anyhow::Result<Secret> {
    let text = text.trim_ascii_end();
    let (first, last) = (DIGITS.start(), DIGITS.end());
    let wrong = text.iter().position(|byte| !byte.is_ascii_hexdigit());
    if let Some(at) = wrong {
        anyhow::bail!("character {} is no hexadecimal digit", at + 1);
    }
    let len = text.len();
    ensure!(DIGITS.contains(&len), "a key has {first} to {last} hexadecimal digits, and there are {len}");
    ensure!(len.is_multiple_of(2), "{len} hexadecimal digits are no whole bytes");
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    let bytes: Vec<u8> = text.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
    Ok(Secret::new(&bytes)?)
}

#[cfg(test)]
mod tests;
