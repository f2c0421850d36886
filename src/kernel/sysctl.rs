//! Per-interface settings, and what they were before us.

use super::KernelError;
use super::store::Store;
use crate::plan::Sysctl;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind::NotFound;
use std::path::PathBuf;
use std::{fs, io};

/// What a setting of somebody else's interface was before we changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    pub sysctl: Sysctl,
    /// Of the interface, when it was changed; 0 for `all` and `default`. An interface that was made anew has no former value.
    pub index: u32,
    pub value: String,
}

/// Former values, in the order in which they were changed.
pub type FormerValues = Store<Vec<Former>>;

/// The value that a setting has; none if there is no such interface.
pub fn read(sysctl: &Sysctl) -> Result<Option<String>, KernelError> {
    let path = path(sysctl);
    match fs::read_to_string(&path) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == NotFound => Ok(None),
        Err(source) => Err(KernelError::File { path, source }),
    }
}

/// Changes a setting; `index` is that of its interface now.
pub fn set(former: &mut FormerValues, sysctl: &Sysctl, index: u32, value: &str) -> Result<(), KernelError> {
    if !sysctl.interface.is_ours() {
        let missing = || KernelError::File { path: path(sysctl), source: io::Error::from(NotFound) };
        let present = read(sysctl)?.ok_or_else(missing)?;
        former.change(|all| {
            all.retain(|f| f.sysctl != *sysctl || f.index == index);
            if present != value && !all.iter().any(|f| f.sysctl == *sysctl) {
                all.push(Former { sysctl: sysctl.clone(), index, value: present });
            }
        })?;
    }
    write(sysctl, value)
}

/// Gives a setting its former value back, if the interface is still the same one, and forgets it.
pub fn restore(former: &mut FormerValues, sysctl: &Sysctl, index: u32) -> Result<(), KernelError> {
    if let Some(saved) = former.get().iter().find(|f| f.sysctl == *sysctl && f.index == index) {
        match write(sysctl, &saved.value) {
            Err(KernelError::File { source, .. }) if source.kind() == NotFound => {}
            other => other?,
        }
    }
    former.change(|all| all.retain(|f| f.sysctl != *sysctl))
}

fn write(sysctl: &Sysctl, value: &str) -> Result<(), KernelError> {
    let path = path(sysctl);
    fs::write(&path, value).map_err(|source| KernelError::File { path, source })
}

fn path(sysctl: &Sysctl) -> PathBuf {
    ["/proc/sys/net/ipv4/conf", sysctl.interface.as_str(), sysctl.key.as_str()].iter().collect()
}
