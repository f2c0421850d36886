//! Files that hold what a daemon must know after a restart or a reboot: its owner's alone, whole or as they were before.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes a file anew (mode 0600), in a directory that is made if it is not there (0700), and syncs it to the disk. Whoever reads meanwhile, or
/// after a power cut, finds the old content or the new one. Two must not write the same file at once.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_added_extension("new");
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&unfinished)?;
    // One that was left unfinished may have another mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// None if there is no such file.
///
/// # Errors
/// It cannot be read, or is larger than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_alone_and_never_half_written() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new/dir/what.json");
        assert_eq!(read(&path, 9).unwrap(), None);
        write(&path, b"first").unwrap();
        // A former attempt that ended in the middle, readable by all.
        let unfinished = place.path().join("new/dir/what.json.new");
        std::fs::write(&unfinished, "first and much mo").unwrap();
        std::fs::set_permissions(&unfinished, Permissions::from_mode(0o644)).unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read(&path, 6).unwrap().as_deref(), Some(&b"second"[..]));
        assert!(read(&path, 5).is_err());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap()), unfinished.exists()), (0o600, 0o700, false));
    }
}
