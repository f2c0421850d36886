//! A lab's own directory: configuration, logs, and the daemons' runtime directories.

use super::cleanup;
use super::configs;
use super::error::{During, Result};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "portway-lab-";

#[derive(Debug)]
pub struct LabDir {
    path: PathBuf,
    ephemeral: bool,
}

impl LabDir {
    /// A fresh directory below the system's temporary one, removed with the lab. Directories of labs that were
    /// killed are removed on the way.
    pub fn ephemeral() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let base = std::env::temp_dir();
        sweep(&base);
        let path = loop {
            let path = base.join(format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                // Of a lab that was killed and whose process had our number.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => break made.during(format!("create {}", path.display())).map(|()| path)?,
            }
        };
        cleanup::dir(&path);
        Ok(Self { path, ephemeral: true })
    }

    /// A directory that stays.
    pub fn kept(path: &Path) -> Result<Self> {
        fs::DirBuilder::new().mode(0o700).create(path).during(format!("create {}", path.display()))?;
        Ok(Self { path: path.to_owned(), ephemeral: false })
    }

    /// One that [`LabDir::kept`] made.
    pub fn existing(path: &Path) -> Self {
        Self { path: path.to_owned(), ephemeral: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a node's daemon keeps its socket.
    pub fn runtime(&self, node: &str) -> PathBuf {
        self.path.join(node)
    }

    pub fn config(&self, node: &str) -> PathBuf {
        self.path.join(format!("{node}.yaml"))
    }

    /// Writes a key of 256 random bits for a group's gateways, readable by the owner alone.
    pub(super) fn make_key(&self) -> Result<()> {
        let path = configs::key_file(&self.path.join("node"));
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(io::Error::other).during("get random bytes")?;
        let text: String = random.iter().map(|b| format!("{b:02x}")).collect();
        secret(&path, &text)
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }
}

impl Drop for LabDir {
    fn drop(&mut self) {
        if self.ephemeral {
            let _ = fs::remove_dir_all(&self.path);
            cleanup::forget_dir(&self.path);
        }
    }
}

/// Writes a file that its owner alone may read.
pub fn secret(path: &Path, text: &str) -> Result<()> {
    let opened = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).during(format!("write {}", path.display()))
}

/// Removes what labs of processes that are gone have left, and nothing that could be anything else.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((pid, number)) = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.split_once('-')) else { continue };
        let numbers = [pid, number].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if numbers && !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
