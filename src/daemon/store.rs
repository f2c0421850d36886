//! What callers have asked for, on disk: one small file each in a directory of its own under `RUNTIME_DIR`, so that a
//! restarted daemon knows it. `/run` is memory: nothing is synced, and a reboot, which takes the kernel's state with it, takes
//! this too.

use serde::{Serialize, de::DeserializeOwned};
use std::ffi::OsStr;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What could be read, and what could not by path and reason.
type Loaded<T> = (Vec<T>, Vec<(PathBuf, String)>);

/// Things of one kind by name. A name is one of `model`'s: it begins with a letter or digit and holds no slash, so that
/// none leaves the directory and none clashes with an unfinished file.
#[derive(Debug)]
pub struct Store<T> {
    dir: PathBuf,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// `RUNTIME_DIR/KIND`.
    pub fn open(runtime_dir: &Path, kind: &str) -> io::Result<Self> {
        let dir = runtime_dir.join(kind);
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, of: PhantomData })
    }

    /// Forgets all of them, those that cannot be read too: how many there were.
    pub fn clear(runtime_dir: &Path, kind: &str) -> io::Result<usize> {
        let dir = runtime_dir.join(kind);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?.collect::<io::Result<Vec<_>>>()?,
        };
        fs::remove_dir_all(&dir)?;
        Ok(entries.iter().filter(|entry| !is_unfinished(&entry.file_name())).count())
    }

    pub fn save(&self, name: &str, value: &T) -> io::Result<()> {
        let unfinished = self.dir.join(format!(".new.{name}"));
        fs::write(&unfinished, serde_json::to_vec(value)?)?;
        fs::rename(unfinished, self.dir.join(name))
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// All that can be read; the rest by path and reason.
    pub fn load(&self) -> io::Result<Loaded<T>> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.file_name().is_some_and(is_unfinished) {
                continue;
            }
            match fs::read(&path).map_err(|e| e.to_string()).and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string())) {
                Ok(value) => good.push(value),
                Err(reason) => bad.push((path, reason)),
            }
        }
        Ok((good, bad))
    }
}

fn is_unfinished(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cleared_is_gone_and_nothing_beside_it() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(Store::<u8>::clear(place.path(), "attachments").unwrap(), 0, "there was never anything");
        let [store, peers] = ["attachments", "peers"].map(|kind| Store::<u8>::open(place.path(), kind).unwrap());
        store.save("a", &1).unwrap();
        store.save("b", &2).unwrap();
        peers.save("a", &3).unwrap();
        fs::write(place.path().join("attachments/broken"), "{").unwrap();
        fs::write(place.path().join("attachments/.new.c"), "{").unwrap();
        assert_eq!(Store::<u8>::clear(place.path(), "attachments").unwrap(), 3);
        assert!(!place.path().join("attachments").exists());
        assert_eq!(peers.load().unwrap().0, [3]);
    }
}
