//! The file.
//!
//! ```text
//! "portway-stamps 1" (16 bytes) | record | record | ...
//! record: shard (8 bytes) | key (32) | stamp (12) | check (4)
//! ```
//! `shard`: the first bytes of SHA-256 of its name; `check`: the same of the 52 bytes before. Records are put behind the others; of two of one key the later stamp
//! counts. When as many have come as there were, and 4096 at least, the file is written anew with one for each key; so each stamp is written some two times. One
//! that was half written, or is not what it was, is passed over.

use crate::daemon::state_file;
use crate::model::{PublicKey, TenantShard};
use crate::wire::wireguard::Tai64n;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"portway-stamps 1";
const SHARD: usize = 8;
const STAMP: usize = 12;
const OWNER: usize = SHARD + PublicKey::LEN;
/// Before the check.
const CHECKED: usize = OWNER + STAMP;
pub const RECORD: usize = CHECKED + 4;
/// A file of so few records is not written anew for its length.
const FEW: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is not a file of stamps of this version: what it says is lost with the next that is used")]
    Strange,
    #[error("it is larger than {0} bytes, which none of ours is: what it says is lost with the next that is used")]
    Large(u64),
}

/// A key at a shard. Without the key: the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner([u8; OWNER]);

impl Owner {
    /// Nobody's yet.
    pub fn at(of: &TenantShard) -> Self {
        let mut bytes = [0; OWNER];
        let digest = Sha256::digest(of.to_string());
        bytes.iter_mut().zip(digest).take(SHARD).for_each(|(to, from)| *to = from);
        Self(bytes)
    }

    #[must_use]
    pub fn with(mut self, key: &PublicKey) -> Self {
        self.0[SHARD..].copy_from_slice(key.bytes());
        self
    }

    /// Without the key.
    #[must_use]
    pub fn shard(mut self) -> Self {
        self.0[SHARD..].fill(0);
        self
    }

    pub fn key(&self) -> Option<PublicKey> {
        self.0.last_chunk::<{ PublicKey::LEN }>().and_then(|key| PublicKey::try_from(*key).ok())
    }
}

/// What was read of a file: which, and up to where.
#[derive(Debug)]
pub struct Part {
    /// Open, so that no other gets its number.
    file: File,
    end: u64,
}

/// What was read, and how far that was.
pub type Found = (Vec<(Owner, Tai64n)>, Part);

/// The latest stamp of each key, those that came last at the end, of at most so many keys. `after`: without what was read before, if it is the same file still.
/// None: there is none.
pub fn read(path: &Path, most: usize, after: Option<&Part>) -> Result<Option<Found>, Fault> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let (number, length, longest) = (file.metadata()?.ino(), file.metadata()?.len(), longest(most));
    if length > longest {
        return Err(Fault::Large(longest));
    }
    let same = |part: &&Part| part.end <= length && part.file.metadata().is_ok_and(|metadata| metadata.ino() == number);
    let begin = after.filter(same).map_or(0, |part| part.end);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    (&file).take(longest - begin).read_to_end(&mut bytes)?;
    let records = if begin == 0 { bytes.strip_prefix(MAGIC).ok_or(Fault::Strange)? } else { &bytes };
    // What is being written now ends in the midst of one.
    let whole = &records[..records.len() - records.len() % RECORD];
    let end = begin + (bytes.len() - records.len() % RECORD) as u64;
    Ok(Some((latest(whole, most), Part { file, end })))
}

/// With as many added as may be before it is written anew.
fn longest(most: usize) -> u64 {
    (MAGIC.len() + RECORD * 2 * most.max(FEW)) as u64
}

fn latest(records: &[u8], most: usize) -> Vec<(Owner, Tai64n)> {
    let mut all: HashMap<Owner, (usize, Tai64n)> = HashMap::with_capacity((records.len() / RECORD).min(most));
    for (place, record) in records.chunks_exact(RECORD).enumerate() {
        if let Some((owner, stamp)) = parsed(record) {
            let (last, known) = all.entry(owner).or_insert((place, stamp));
            (*last, *known) = (place, stamp.max(*known));
        }
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_unstable_by_key(|(_, (place, _))| *place);
    all.drain(..all.len().saturating_sub(most));
    all.into_iter().map(|(owner, (_, stamp))| (owner, stamp)).collect()
}

fn parsed(record: &[u8]) -> Option<(Owner, Tai64n)> {
    let (checked, check) = record.split_first_chunk::<CHECKED>()?;
    let (owner, stamp) = (checked.first_chunk::<OWNER>()?, checked.last_chunk::<STAMP>()?);
    (Sha256::digest(checked).starts_with(check)).then_some((Owner(*owner), Tai64n(*stamp)))
}

fn append(to: &mut Vec<u8>, (owner, stamp): &(Owner, Tai64n)) {
    let mut record = [0; CHECKED];
    record[..OWNER].copy_from_slice(&owner.0);
    record[OWNER..].copy_from_slice(&stamp.0);
    to.extend(record);
    to.extend(Sha256::digest(record).into_iter().take(RECORD - CHECKED));
}

/// Whoever writes it; nobody else may.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    most: usize,
    /// None: it is to be written anew, as it may not end with a whole record.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Records when it was written anew, and those since.
    kept: usize,
    added: usize,
}

impl Journal {
    pub fn new(path: PathBuf, most: usize) -> Self {
        Self { path, most, open: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// They are in the file when this returns; if it is to be `durable`, on the disk. If it fails, the next writes the whole file anew.
    pub fn add(&mut self, stamps: &[(Owner, Tai64n)], durable: bool) -> Result<(), Fault> {
        let open = match self.open.take() {
            Some(open) if open.added + stamps.len() <= open.kept.max(FEW) => open.with(stamps, durable)?,
            _ => self.renewed(stamps)?,
        };
        self.open = Some(open);
        Ok(())
    }

    fn renewed(&self, stamps: &[(Owner, Tai64n)]) -> Result<Open, Fault> {
        let former = match read(&self.path, self.most, None) {
            Ok(former) => former.map(|(former, _)| former).unwrap_or_default(),
            Err(Fault::Strange | Fault::Large(_)) => Vec::new(),
            Err(error @ Fault::Io(_)) => return Err(error),
        };
        let mut records = Vec::with_capacity(RECORD * (former.len() + stamps.len()));
        former.iter().chain(stamps).for_each(|one| append(&mut records, one));
        let all = latest(&records, self.most);
        let mut content = Vec::with_capacity(MAGIC.len() + RECORD * all.len());
        content.extend(MAGIC);
        all.iter().for_each(|one| append(&mut content, one));
        state_file::write(&self.path, &content)?;
        let file = OpenOptions::new().append(true).open(&self.path)?;
        Ok(Open { file, kept: all.len(), added: 0 })
    }
}

impl Open {
    fn with(mut self, stamps: &[(Owner, Tai64n)], durable: bool) -> Result<Self, Fault> {
        let mut records = Vec::with_capacity(RECORD * stamps.len());
        stamps.iter().for_each(|one| append(&mut records, one));
        self.file.write_all(&records)?;
        if durable {
            self.file.sync_data()?;
        }
        self.added += stamps.len();
        Ok(self)
    }
}
