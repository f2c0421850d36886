//! Files with keys in them.

use crate::config::KeyFile;
use crate::model::{PrivateKey, Secret};
use anyhow::{Context, ensure};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Hexadecimal digits of a key: 32 to 64 bytes, as [`Secret::LEN`] says.
const DIGITS: std::ops::RangeInclusive<usize> = 2 * *Secret::LEN.start()..=2 * *Secret::LEN.end();

/// More than any key file has, white space included.
const LONGEST: usize = 4096;

/// A WireGuard key, in a file as `wg genkey` writes it; white space may follow.
///
/// # Errors
/// What is wrong with the file and what mends it; never what stands in it.
pub fn private_key(path: &Path) -> anyhow::Result<PrivateKey> {
    let shown = path.display();
    let text = read(path).with_context(|| format!("cannot use {shown} as a private key"))?;
    let text = std::str::from_utf8(text.trim_ascii_end()).ok().and_then(|text| text.parse().ok());
    text.with_context(|| format!("{shown} does not hold a private key: 44 characters, as `wg genkey` prints them"))
}

/// The key in a file of 64 to 128 hexadecimal digits; white space may follow them.
///
/// # Errors
/// What is wrong with the file and what mends it; never what stands in it.
pub fn key(key: &KeyFile) -> anyhow::Result<Secret> {
    let path = key.file.display();
    let text = read(&key.file).with_context(|| format!("cannot use {path} as key {}", key.id))?;
    secret(&text).with_context(|| format!("{path} does not hold key {}: write one there with `openssl rand -hex 32 > {path}`", key.id))
}

/// A bearer token (RFC 6750) in a file: 32 to 64 characters that can be seen; white space may follow them.
///
/// # Errors
/// As of [`key`].
pub fn token(path: &Path) -> anyhow::Result<Secret> {
    let shown = path.display();
    let text = read(path).with_context(|| format!("cannot use {shown} as a token"))?;
    let text = text.trim_ascii_end();
    let checked = || {
        if let Some(at) = text.iter().position(|byte| !byte.is_ascii_graphic()) {
            anyhow::bail!("character {} cannot stand in a header", at + 1);
        }
        let (first, last) = (Secret::LEN.start(), Secret::LEN.end());
        ensure!(Secret::LEN.contains(&text.len()), "a token has {first} to {last} characters, and there are {}", text.len());
        Ok(Secret::new(text)?)
    };
    checked().with_context(|| format!("{shown} does not hold a token: write one there with `openssl rand -hex 32 > {shown}`"))
}

/// What a file holds that its owner alone may use.
pub fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // A pipe would have us wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    ensure!(about.is_file(), "it is not a file");
    let mode = about.permissions().mode() & 0o7777;
    ensure!(mode & 0o077 == 0, "others than its owner may use it (mode {mode:04o}): `chmod 600 {}`", path.display());
    up_to(file, LONGEST)
}

fn up_to(file: File, most: usize) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    let read = file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    ensure!(read <= most, "it is larger than {most} bytes, no key");
    Ok(bytes)
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
