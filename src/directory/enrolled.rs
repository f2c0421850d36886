//! What a host that has enrolled keeps in its state directory.
//!
//! | file | |
//! |---|---|
//! | `host.key` | its private key, as `wg genkey` writes one |
//! | `host.key.next` | while it is being changed: the key that may be the directory's already |
//! | `host.token` | by which the directory knows it |
//! | `membership.json` | what the directory last said of its gateways and inner addresses; no secrets |
//!
//! All of mode 0600.

use super::types::Membership;
use crate::config::ENROLLED_KEY;
use crate::daemon::{key_file, state_file};
use crate::model::PrivateKey;
use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const TOKEN: &str = "host.token";
const MEMBERSHIP: &str = "membership.json";
const VERSION: u32 = 1;
/// Bytes; a membership of 7,391 shards has 3 MB.
const LONGEST: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// Whose word it is.
    directory: String,
    membership: Membership,
}

pub fn key(state_dir: &Path) -> PathBuf {
    state_dir.join(ENROLLED_KEY)
}

pub fn token(state_dir: &Path) -> PathBuf {
    state_dir.join(TOKEN)
}

/// Where the key is that comes after the one in this file.
pub fn next(key: &Path) -> PathBuf {
    key.with_added_extension("next")
}

/// The key in a file; if there is no such file, a new one is made there.
pub fn key_or_new(path: &Path) -> anyhow::Result<PrivateKey> {
    if path.try_exists().with_context(|| format!("cannot look for {}", path.display()))? {
        return key_file::private_key(path);
    }
    let key = PrivateKey::new(super::random()?);
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(key.expose())));
    state_file::write(path, text.as_bytes()).with_context(|| format!("cannot write a new key to {}", path.display()))?;
    Ok(key)
}

pub fn save_token(state_dir: &Path, text: &str) -> anyhow::Result<()> {
    let path = token(state_dir);
    let line = Zeroizing::new(format!("{text}\n"));
    state_file::write(&path, line.as_bytes()).with_context(|| format!("cannot write the host's token to {}", path.display()))
}

pub fn save(state_dir: &Path, directory: &str, membership: &Membership) -> anyhow::Result<()> {
    let stored = Stored { version: VERSION, directory: directory.to_owned(), membership: membership.clone() };
    let path = state_dir.join(MEMBERSHIP);
    state_file::write(&path, &serde_json::to_vec(&stored)?).with_context(|| format!("cannot write {}", path.display()))
}

/// None if nothing was ever said.
///
/// # Errors
/// What is there cannot be used.
pub fn load(state_dir: &Path, directory: &str) -> anyhow::Result<Option<Membership>> {
    let path = state_dir.join(MEMBERSHIP);
    let read = || -> anyhow::Result<Option<Membership>> {
        let Some(text) = state_file::read(&path, LONGEST)? else { return Ok(None) };
        let stored: Stored = serde_json::from_slice(&text)?;
        ensure!(stored.version == VERSION, "it is of version {}, not {VERSION}", stored.version);
        ensure!(stored.directory == directory, "it is from another directory, {}", stored.directory);
        Ok(Some(stored.membership))
    };
    read().with_context(|| format!("{} is of no use", path.display()))
}

/// The private key that the directory knows the host by now: in this file, or in the one of the next key, which then takes its place. If neither
/// has it, the former one, as long as that is valid.
pub fn present_key(path: &Path, membership: &Membership) -> anyhow::Result<PrivateKey> {
    let coming = next(path);
    let mut former = None;
    // A third look: whoever changes the key may have put the next one in its place after the first.
    for file in [path, &coming, path] {
        let key = match key_file::private_key(file) {
            Err(_) if file == coming => continue,
            key => key?,
        };
        match membership.host.keys.iter().find(|known| known.public_key == key.public()).map(|known| known.expires) {
            Some(None) => {
                if file == coming {
                    take_place(&coming, path)?;
                }
                return Ok(key);
            }
            Some(Some(_)) => former = Some(key),
            None => {}
        }
    }
    let name = &membership.host.name;
    former.with_context(|| {
        format!(
            "the directory knows host {name} by another key than that in {}: put it back, or enrol anew with a token made by `portway directory token add --role enroll --host {name}`",
            path.display()
        )
    })
}

/// The next key becomes the present one; somebody else may have been faster.
pub fn take_place(coming: &Path, path: &Path) -> anyhow::Result<()> {
    match std::fs::rename(coming, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("cannot put {} in the place of the former key", coming.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Host, HostKey};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn membership(keys: &[(&PrivateKey, Option<i64>)]) -> Membership {
        let keys = keys.iter().map(|(key, expires)| HostKey { public_key: key.public(), expires: *expires }).collect();
        Membership { host: Host { name: "host-1".parse().unwrap(), keys, inner: [].into(), revision: 7 }, shards: vec![], egress: None }
    }

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = key(&place.path().join("state"));
        let made = key_or_new(&path).unwrap();
        assert_eq!(key_or_new(&path).unwrap(), made);
        assert_eq!(key_file::private_key(&path).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "no key").unwrap();
        assert!(key_or_new(&path).is_err(), "what is there is never written over");
    }

    #[test]
    fn what_the_directory_said_is_known_again_if_it_is_the_same_directory() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(load(place.path(), "https://d/").unwrap(), None);
        let said = membership(&[(&PrivateKey::new([1; 32]), None)]);
        save(place.path(), "https://d/", &said).unwrap();
        assert_eq!(load(place.path(), "https://d/").unwrap(), Some(said));
        assert!(format!("{:#}", load(place.path(), "https://e/").unwrap_err()).contains("from another directory, https://d/"));
        std::fs::write(place.path().join(MEMBERSHIP), "{").unwrap();
        assert!(load(place.path(), "https://d/").is_err());
    }

    #[test]
    fn the_key_that_the_directory_knows_is_taken_wherever_a_change_of_it_was_cut_off() {
        let place = tempfile::tempdir().unwrap();
        let path = key(place.path());
        let old = key_or_new(&path).unwrap();
        assert_eq!(present_key(&path, &membership(&[(&old, None)])).unwrap(), old);
        let new = key_or_new(&next(&path)).unwrap();
        // Before the directory knew it.
        assert_eq!(present_key(&path, &membership(&[(&old, None)])).unwrap(), old);
        // After, and before it was in its place.
        let both = membership(&[(&old, Some(1_000)), (&new, None)]);
        assert_eq!(present_key(&path, &both).unwrap(), new);
        assert_eq!((key_file::private_key(&path).unwrap(), next(&path).exists()), (new.clone(), false));
        assert_eq!(present_key(&path, &both).unwrap(), new);
        // Somebody put the old one back: it is good for a while.
        std::fs::remove_file(&path).unwrap();
        state_file::write(&path, STANDARD.encode(old.expose()).as_bytes()).unwrap();
        assert_eq!(present_key(&path, &both).unwrap(), old);
        let refused = present_key(&path, &membership(&[(&new, None)])).unwrap_err().to_string();
        assert!(refused.contains("knows host host-1 by another key"), "{refused}");
    }
}
