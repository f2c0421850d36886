//! What settings of somebody else's interfaces were before us: a small file each under `RUNTIME_DIR/sysctl`, never synced, so
//! that remembering one takes the same time however many there are. The directory lives as long as what it describes.

use super::KernelError;
use crate::plan::Sysctl;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind::NotFound};
use std::path::{Path, PathBuf};

/// What a setting was before we changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    pub sysctl: Sysctl,
    /// Of the interface, when it was changed; 0 for `all` and `default`. An interface that was made anew has no former value.
    pub index: u32,
    pub value: String,
}

#[derive(Debug)]
pub struct FormerValues {
    directory: PathBuf,
    values: BTreeMap<Sysctl, Former>,
}

impl FormerValues {
    /// One that cannot be understood is an error: what it remembers is not to be overwritten unread.
    pub fn open(state_dir: &Path) -> Result<Self, KernelError> {
        let directory = state_dir.join("sysctl");
        let failed = |source| KernelError::File { path: directory.clone(), source };
        fs::create_dir_all(&directory).map_err(failed)?;
        let mut values = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let former: Former = fs::read(&path)
                .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
                .map_err(|source| KernelError::File { path: path.clone(), source })?;
            values.insert(former.sysctl.clone(), former);
        }
        Ok(Self { directory, values })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Former> {
        self.values.values()
    }

    pub fn get(&self, sysctl: &Sysctl) -> Option<&Former> {
        self.values.get(sysctl)
    }

    pub fn remember(&mut self, former: Former) -> Result<(), KernelError> {
        let path = self.path(&former.sysctl);
        let unfinished = self.directory.join(".new");
        let write = || -> io::Result<()> {
            fs::write(&unfinished, serde_json::to_vec(&former)?)?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(|source| KernelError::File { path, source })?;
        self.values.insert(former.sysctl.clone(), former);
        Ok(())
    }

    pub fn forget(&mut self, sysctl: &Sysctl) -> Result<(), KernelError> {
        if self.values.remove(sysctl).is_none() {
            return Ok(());
        }
        let path = self.path(sysctl);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != NotFound => Err(KernelError::File { path, source }),
            _ => Ok(()),
        }
    }

    fn path(&self, sysctl: &Sysctl) -> PathBuf {
        let name: String = [sysctl.key.as_str(), "@", sysctl.interface.as_str()].concat();
        self.directory.join(name)
    }
}
