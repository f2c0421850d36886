//! Which initiations of hosts are used up, across restarts: the replay memory of `proto::jit` on disk, `STATE_DIR/used-stamps`.
//!
//! ```text
//!  jit: a stamp is used --> Used: those that wait --(2 s, together)--> thread `stamps` --> file
//!                                                                                           |
//!  a process that starts <------------------------------------------------------------------+
//! ```
//! What ends in a planned way leaves all of them. What is killed loses the last two seconds: recordings of these count as new again. Nobody who carries
//! packets, or lets peers in, waits for the disk.

mod journal;

use crate::model::{PublicKey, TenantShard};
use crate::wire::wireguard::Tai64n;
use anyhow::Context;
use journal::{Journal, Owner, Part};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// In `state_dir`.
pub const NAME: &str = "used-stamps";
/// Keys whose stamps are kept, as many as the machine remembers.
const MOST: usize = 1 << 20;
/// What is used within this time is written together.
const GATHER: Duration = Duration::from_secs(2);
/// What could not be written is tried again after this long.
const RETRY: Duration = Duration::from_secs(30);
/// A disk that takes longer keeps nobody from going on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of shards, the latest stamp of each key.
pub type ByShard = BTreeMap<TenantShard, Vec<(PublicKey, Tai64n)>>;

/// The thread that writes, and what it found when it was started. Dropping it writes down what waits.
#[derive(Debug)]
pub struct Stamps {
    path: PathBuf,
    used: Used,
    /// What was read, until somebody has taken it; and how far that was.
    found: Vec<(Owner, Tai64n)>,
    read: Option<Part>,
    complained: bool,
    thread: Option<JoinHandle<()>>,
}

/// The way in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Used(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something waits, or somebody for it.
    bell: Condvar,
    /// It is on the disk.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    stamps: HashMap<Owner, Tai64n>,
    /// Those that are being written.
    under_way: usize,
    /// Calls of [`Stamps::write_down`], and those that were answered.
    asked: u64,
    answered: u64,
    /// The thread is to end; it writes no more.
    end: bool,
    ended: bool,
}

impl Waiting {
    fn is_urgent(&self) -> bool {
        self.end || self.asked != self.answered
    }

    fn add(&mut self, owner: Owner, stamp: Tai64n) {
        if self.stamps.len() < MOST || self.stamps.contains_key(&owner) {
            let last = self.stamps.entry(owner).or_insert(stamp);
            *last = stamp.max(*last);
        }
    }
}

impl Used {
    /// These are used up, and are to be so for the next process too. Never waits for the disk.
    pub fn tell(&self, of: &TenantShard, stamps: impl IntoIterator<Item = (PublicKey, Tai64n)>) {
        let (owner, mut waiting) = (Owner::at(of), lock(&self.0.waiting));
        let first = waiting.stamps.is_empty();
        stamps.into_iter().for_each(|(key, stamp)| waiting.add(owner.with(&key), stamp));
        if first {
            self.0.bell.notify_one();
        }
    }

    /// How many are not on the disk yet.
    pub fn waiting(&self) -> usize {
        let waiting = lock(&self.0.waiting);
        waiting.stamps.len() + waiting.under_way
    }
}

impl Stamps {
    /// Reads what there is in this directory. Nothing is written before something is told, so a process before this one may still write.
    ///
    /// # Errors
    /// The thread cannot be started. A file that is of no use is no fault: why is told in the log.
    pub fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(NAME);
        let shared = Arc::<Shared>::default();
        let work = {
            let (shared, journal) = (shared.clone(), Journal::new(path.clone(), MOST));
            move || write(&shared, journal)
        };
        let thread = std::thread::Builder::new().name("stamps".into()).spawn(work).context("cannot start the thread stamps")?;
        let mut stamps = Self { path, used: Used(shared), found: Vec::new(), read: None, complained: false, thread: Some(thread) };
        stamps.read_on();
        Ok(stamps)
    }

    pub fn used(&self) -> &Used {
        &self.used
    }

    /// What processes before this one have left of these shards. The last of them has ended: what it has written since the start is among it.
    pub fn found<'a>(&mut self, shards: impl IntoIterator<Item = &'a TenantShard>) -> ByShard {
        if self.used.waiting() > 0 {
            self.write_down();
        }
        self.read_on();
        let mut all: HashMap<Owner, (&TenantShard, Vec<_>)> = shards.into_iter().map(|of| (Owner::at(of), (of, Vec::new()))).collect();
        for (owner, stamp) in std::mem::take(&mut self.found) {
            if let (Some((_, stamps)), Some(key)) = (all.get_mut(&owner.shard()), owner.key()) {
                stamps.push((key, stamp));
            }
        }
        // What was given away is read anew by whoever asks again.
        self.read = None;
        all.into_values().map(|(of, stamps)| (of.clone(), stamps)).collect()
    }

    /// Returns when all that was told is on the disk, or could not be put there; after 10 s in any case.
    pub fn write_down(&self) {
        let shared = &self.used.0;
        let mut waiting = lock(&shared.waiting);
        waiting.asked += 1;
        let asked = waiting.asked;
        shared.bell.notify_one();
        let written = shared.written.wait_timeout_while(waiting, PATIENCE, |waiting| waiting.answered < asked);
        drop(written.unwrap_or_else(PoisonError::into_inner));
    }

    fn read_on(&mut self) {
        match journal::read(&self.path, MOST, self.read.as_ref()) {
            Ok(Some((mut more, part))) => {
                self.found.append(&mut more);
                self.read = Some(part);
            }
            Ok(None) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    let (path, error) = (self.path.display(), anyhow::Error::from(error));
                    tracing::warn!("recordings of initiations from before the start count as new again, {path} is of no use: {error:#}");
                }
            }
        }
    }
}

impl Drop for Stamps {
    fn drop(&mut self) {
        lock(&self.used.0.waiting).end = true;
        self.used.0.bell.notify_one();
        let Some(thread) = self.thread.take() else { return };
        let shared = &self.used.0;
        let at_work = |waiting: &mut Waiting| !waiting.ended && !thread.is_finished();
        let waited = shared.written.wait_timeout_while(lock(&shared.waiting), PATIENCE, at_work);
        let (waiting, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(waiting);
        if waited.timed_out() {
            let path = self.path.display();
            tracing::error!(
                "{path} could not be written in {PATIENCE:?}, recordings of initiations count as new after the start: is the disk stuck?"
            );
        } else if thread.join().is_err() {
            tracing::error!("the thread stamps had panicked");
        }
    }
}

/// Until the end, and then what waits.
fn write(shared: &Shared, mut journal: Journal) {
    let mut failed = false;
    loop {
        let idle = |waiting: &mut Waiting| waiting.stamps.is_empty() && !waiting.is_urgent();
        let waiting = shared.bell.wait_while(lock(&shared.waiting), idle).unwrap_or_else(PoisonError::into_inner);
        let pause = if failed { RETRY } else { GATHER };
        let gathered = shared.bell.wait_timeout_while(waiting, pause, |waiting| !waiting.is_urgent());
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let (stamps, asked, end) = (std::mem::take(&mut waiting.stamps), waiting.asked, waiting.end);
        waiting.under_way = stamps.len();
        drop(waiting);
        let stamps: Vec<(Owner, Tai64n)> = stamps.into_iter().collect();
        let result = if stamps.is_empty() { Ok(()) } else { journal.add(&stamps, !end) };
        let mut waiting = lock(&shared.waiting);
        waiting.under_way = 0;
        if let Err(error) = &result {
            stamps.into_iter().for_each(|(owner, stamp)| waiting.add(owner, stamp));
            if !failed {
                let path = journal.path().display();
                tracing::error!(
                    "cannot write {path}, recordings of initiations count as new after a restart: {error:#}: may this user write there, and is there room?"
                );
            }
        }
        failed = result.is_err();
        (waiting.answered, waiting.ended) = (asked, end);
        shared.written.notify_all();
        if end {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves what is in it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
