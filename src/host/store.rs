//! Attachments on disk, one small file each under `RUNTIME_DIR/attachments`, so that a restarted daemon knows their
//! names. `/run` is memory: nothing is synced, and a reboot, which takes the interfaces with it, takes these too.

use super::attachments::Attachment;
use crate::model::AttachmentName;
use std::path::{Path, PathBuf};
use std::{fs, io};

type Loaded = (Vec<Attachment>, Vec<(PathBuf, String)>);

#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    pub fn open(runtime_dir: &Path) -> io::Result<Self> {
        let dir = runtime_dir.join("attachments");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Names begin with a letter or digit and hold no slash: `.new` cannot clash, and no name leaves the directory.
    fn path(&self, name: &AttachmentName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    pub fn save(&self, attachment: &Attachment) -> io::Result<()> {
        let unfinished = self.dir.join(format!(".new.{}", attachment.name));
        fs::write(&unfinished, serde_json::to_vec(attachment)?)?;
        fs::rename(unfinished, self.path(&attachment.name))
    }

    pub fn remove(&self, name: &AttachmentName) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// All that can be read; the rest by path and reason.
    pub fn load(&self) -> io::Result<Loaded> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            match fs::read(&path).map_err(|e| e.to_string()).and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string())) {
                Ok(attachment) => good.push(attachment),
                Err(reason) => bad.push((path, reason)),
            }
        }
        Ok((good, bad))
    }
}
