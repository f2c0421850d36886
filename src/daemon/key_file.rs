//! Files with keys in them.

use crate::model::PrivateKey;
use anyhow::{Context, ensure};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    fn of(text: &str, mode: u32) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wg.key");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let shown = |error: anyhow::Error| format!("{error:#}").replace(&file.display().to_string(), "PATH");
        private_key(&file).map(|key| key.public().to_string()).map_err(shown)
    }

    #[test]
    fn a_key_is_read_as_wg_writes_it() {
        let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        for behind in ["", "\n", " \r\n"] {
            assert_eq!(of(&format!("{key}{behind}"), 0o600).as_deref(), Ok("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="));
        }
        let refused = of(key, 0o644).unwrap_err();
        assert!(refused.contains("chmod 600 PATH"), "{refused}");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for text in ["", "secret", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo", "\u{fffd}"] {
            let refused = of(text, 0o600).unwrap_err();
            assert!(refused.contains("PATH does not hold a private key") && (text.is_empty() || !refused.contains(text)), "{refused}");
        }
    }
}
