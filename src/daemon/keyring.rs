//! The keys of interfaces that this process carries, for the next one: an interface may have a key that is in no file any more
//! (`plan::host::generations`, `plan::gateway::ends`), and the sessions under it are of use to whoever has the key alone. In memory, in a file without a name (memfd_create(2)), passed on as a descriptor.
//!
//! A line for each interface: its name, its private key, the gateway's public key, and where that is; then `end`.

use crate::model::{IfName, PrivateKey, PublicKey};
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use zeroize::Zeroizing;

/// Of each interface: our key, the gateway's, and where that is; on a gateway, these are its own.
pub type Keys = BTreeMap<IfName, (PrivateKey, PublicKey, SocketAddr)>;

/// Under this name among a process's descriptors.
const NAME: &str = "wg-keys";
const END: &str = "end";
/// Bytes; two interfaces for each of 7,391 slots have 2 MB.
const LONGEST: u64 = 8 << 20;

#[derive(Debug)]
pub struct Keyring {
    file: File,
    written: Written,
}

/// Never printed.
struct Written(Zeroizing<String>);

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Written(..)")
    }
}

impl Keyring {
    pub fn new() -> anyhow::Result<Self> {
        let file = memfd_create(c"wg-keys", MFdFlags::MFD_CLOEXEC).context("cannot make a file in memory for tunnels' keys")?;
        Ok(Self { file: file.into(), written: Written(Zeroizing::default()) })
    }

    /// Writes down what has changed.
    pub fn keep<'k>(&mut self, keys: impl Iterator<Item = (IfName, &'k PrivateKey, PublicKey, SocketAddr)>) -> anyhow::Result<()> {
        let text = encode(keys);
        if *self.written.0 != *text {
            self.write(&text).context("cannot write tunnels' keys to memory")?;
            self.written = Written(text);
        }
        Ok(())
    }

    /// In this order: half of it has no end.
    fn write(&self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)
    }

    pub fn descriptor(&self) -> io::Result<(String, OwnedFd)> {
        Ok((NAME.into(), self.file.as_fd().try_clone_to_owned()?))
    }

    /// What a predecessor has written down; what is none of it, or not all, is nothing: then what it carried under keys that are in no file is over.
    pub fn inherit(inherited: &mut BTreeMap<String, OwnedFd>) -> Keys {
        let read = |descriptor| -> io::Result<Option<Keys>> {
            let file = File::from(descriptor);
            let size = file.metadata()?.len().min(LONGEST);
            let mut bytes = Zeroizing::new(vec![0; usize::try_from(size).unwrap_or(0)]);
            file.read_exact_at(&mut bytes, 0)?;
            Ok(std::str::from_utf8(&bytes).ok().and_then(decode))
        };
        let Some(descriptor) = inherited.remove(NAME) else { return Keys::new() };
        match read(descriptor) {
            Ok(Some(keys)) => keys,
            Ok(None) => Keys::new(),
            Err(error) => {
                tracing::warn!("a predecessor's keys cannot be read ({error}): what still comes under a former key is lost");
                Keys::new()
            }
        }
    }
}

fn encode<'k>(keys: impl Iterator<Item = (IfName, &'k PrivateKey, PublicKey, SocketAddr)>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for (name, own, gateway, endpoint) in keys {
        let own = Zeroizing::new(STANDARD.encode(own.expose()));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} {} {gateway} {endpoint}", *own);
    }
    text.push_str(END);
    text
}

fn decode(text: &str) -> Option<Keys> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (name, own, gateway, endpoint) = (words.next()?, words.next()?, words.next()?, words.next()?);
        Some((name.parse().ok()?, (own.parse().ok()?, gateway.parse().ok()?, endpoint.parse().ok()?)))
    };
    text.strip_suffix(END)?.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_to_its_end_is_read() {
        let key = |n| PrivateKey::new([n; 32]);
        let keys: Keys = [("pw-1", 1, 51820), ("pw-1-b", 2, 52320)]
            .map(|(name, n, port)| (name.parse().unwrap(), (key(n), key(9).public(), SocketAddr::from(([10, 9, 0, 1], port)))))
            .into();
        let lines = || keys.iter().map(|(name, (own, gateway, endpoint))| (name.clone(), own, *gateway, *endpoint));
        let text = encode(lines());
        assert_eq!(decode(&text), Some(keys.clone()));
        assert!((0..text.len()).all(|half| decode(&text[..half]).is_none()));
        let ring = Keyring::new().unwrap();
        ring.write(&text).unwrap();
        assert_eq!(Keyring::inherit(&mut [ring.descriptor().unwrap()].into()), keys);
        ring.write(&encode(lines().take(1))).unwrap();
        assert_eq!(Keyring::inherit(&mut [ring.descriptor().unwrap()].into()).len(), 1);
        assert!(!format!("{ring:?}").contains("pw-"));
        assert_eq!(Keyring::inherit(&mut BTreeMap::new()), Keys::new());
    }
}
