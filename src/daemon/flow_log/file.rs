//! A file of lines that is never too large, with its predecessors beside it.

use crate::config;
use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// As far back as the end of the last whole line is looked for; lines are shorter.
const LONGEST_LINE: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{path} cannot be opened ({source}): it must be a file, no symbolic link, that this process may write")]
    Open { path: PathBuf, source: io::Error },
    #[error("{path} cannot be written ({source}): is there room?")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} cannot be put aside ({source}): may this process write to its folder?")]
    Rotate { path: PathBuf, source: io::Error },
}

#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    max_size: u64,
    keep: u32,
    /// With its size.
    open: Option<(File, u64)>,
}

impl LogFile {
    pub fn new(config: &config::FlowLog) -> Self {
        Self { path: config.file.clone(), max_size: config.max_size, keep: config.keep, open: None }
    }

    /// Writes whole lines, each with its newline: how many are in the file now. Opens it, and puts it aside, as needed.
    pub fn append(&mut self, text: &str) -> (u64, Result<(), FileError>) {
        let (mut rest, mut written) = (text, 0);
        while !rest.is_empty() {
            let size = match self.ready(line(rest).len() as u64) {
                Ok(size) => size,
                Err(error) => return (written, Err(error)),
            };
            let (piece, later) = rest.split_at(fitting(rest, self.max_size.saturating_sub(size)));
            let (whole, result) = self.write(piece);
            written += lines(&piece[..whole]);
            if let Err(source) = result {
                self.close();
                return (written, Err(FileError::Write { path: self.path.clone(), source }));
            }
            rest = later;
        }
        (written, Ok(()))
    }

    /// The next line goes to whatever has this name then.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// The size of the open file, in which there is room for so many bytes.
    fn ready(&mut self, bytes: u64) -> Result<u64, FileError> {
        if self.open.as_ref().is_some_and(|(_, size)| *size > 0 && size + bytes > self.max_size) {
            self.rotate().map_err(|source| FileError::Rotate { path: self.path.clone(), source })?;
        }
        loop {
            match &self.open {
                Some((_, size)) => return Ok(*size),
                None => {
                    let (file, size) = open(&self.path).map_err(|source| FileError::Open { path: self.path.clone(), source })?;
                    self.open = Some((file, size));
                    if size > 0 && size + bytes > self.max_size {
                        self.rotate().map_err(|source| FileError::Rotate { path: self.path.clone(), source })?;
                    }
                }
            }
        }
    }

    /// How many bytes of it are in the file, in whole lines.
    fn write(&mut self, piece: &str) -> (usize, io::Result<()>) {
        let Some((file, size)) = &mut self.open else { return (0, Err(ErrorKind::NotConnected.into())) };
        let mut done = 0;
        let result = loop {
            match file.write(&piece.as_bytes()[done..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(bytes) if done + bytes == piece.len() => {
                    done = piece.len();
                    break Ok(());
                }
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let whole = piece.as_bytes()[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < done {
            // To make a file shorter takes no room.
            let _ = file.metadata().and_then(|now| file.set_len(now.len() - (done - whole) as u64));
        }
        *size += whole as u64;
        (whole, result)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.close();
        if self.keep == 0 {
            return gone_is_well(fs::remove_file(&self.path));
        }
        for number in (1..self.keep).rev() {
            gone_is_well(fs::rename(aside(&self.path, number), aside(&self.path, number + 1)))?;
        }
        gone_is_well(fs::rename(&self.path, aside(&self.path, 1)))
    }
}

/// Half a line at its end, as a power cut leaves it, is cut off.
fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    // A pipe without a reader must not hold us up, nor be taken for a file.
    let flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o640).custom_flags(flags).open(path)?;
    let status = file.metadata()?;
    if !status.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let size = status.len();
    let back = size.min(LONGEST_LINE);
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(size - back))?;
    (&file).take(back).read_to_end(&mut end)?;
    let torn = &end[end.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)..];
    let whole = size - torn.len() as u64;
    if !torn.is_empty() {
        if !is_ours(torn) {
            return Err(io::Error::other("its last line is none of a flow log"));
        }
        file.set_len(whole)?;
    }
    Ok((file, whole))
}

/// Whether this may be the beginning of a line. Of what was never written to the disk, file systems make zeros.
fn is_ours(torn: &[u8]) -> bool {
    const BEGINNING: &[u8] = br#"{"time":""#;
    let written = torn.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let known = written.min(BEGINNING.len());
    torn[..known] == BEGINNING[..known]
}

fn aside(path: &Path, number: u32) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn gone_is_well(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// The first line, with its newline.
fn line(text: &str) -> &str {
    text.split_inclusive('\n').next().unwrap_or_default()
}

/// Bytes of the lines that fit; the first one's at least.
fn fitting(text: &str, room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(text.len());
    let fit = text.as_bytes()[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    fit.max(line(text).len())
}

fn lines(text: &str) -> u64 {
    text.matches('\n').count() as u64
}

#[cfg(test)]
mod tests;
