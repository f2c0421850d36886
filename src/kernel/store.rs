//! A small value in a JSON file of the state directory: replaced whole, never synced. The directory lives as long as what
//! it describes, the kernel's memory.

use super::KernelError;
use serde::{Serialize, de::DeserializeOwned};
use std::fs;
use std::io::{self, ErrorKind::NotFound};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Store<T> {
    path: PathBuf,
    value: T,
}

impl<T: Default + PartialEq + Clone + Serialize + DeserializeOwned> Store<T> {
    /// Reads the file; none stands for the default. One that cannot be understood is an error: what it remembers is not to be
    /// overwritten unread.
    pub fn open(directory: &Path, name: &str) -> Result<Self, KernelError> {
        let path = directory.join(name);
        let value = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| KernelError::File { path: path.clone(), source: error.into() })?,
            Err(error) if error.kind() == NotFound => T::default(),
            Err(source) => return Err(KernelError::File { path, source }),
        };
        Ok(Self { path, value })
    }

    pub fn get(&self) -> &T {
        &self.value
    }

    /// Changes the value and the file with it; on failure neither.
    pub fn change(&mut self, with: impl FnOnce(&mut T)) -> Result<(), KernelError> {
        let mut value = self.value.clone();
        with(&mut value);
        if value != self.value {
            self.write(&value).map_err(|source| KernelError::File { path: self.path.clone(), source })?;
            self.value = value;
        }
        Ok(())
    }

    fn write(&self, value: &T) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec_pretty(value)?)?;
        fs::rename(&fresh, &self.path)
    }
}
