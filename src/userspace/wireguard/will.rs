//! The file in which a device leaves its sessions: in memory, without a name, passed on as a descriptor between two processes or by way of systemd's
//! store (memfd_create(2)). It is written once and taken once, whatever becomes of the processes that have it:
//!
//! ```text
//!  empty --- written --> F_SEAL_GROW --- taken: F_SEAL_SEAL added --> read, wiped, empty for good
//!    |                                          ^
//!    +------- F_SEAL_SEAL: never written -------+   the kernel lets one add it, and nobody afterwards
//! ```
//! A session that two devices go on with would seal different packets by the same counter, which gives away both. So it is written when its device
//! has stopped, and whoever takes it is the only one, also after a crash: what was taken and lost is lost. Keys are in it for as long as it waits; like
//! those in a process's memory they may be swapped out, and are on no other disk.

use super::left::{Fault, Left};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;
use zeroize::Zeroizing;

/// Bytes at most: 100,000 peers with three sessions each.
const SIZE_MAX: u64 = 512 << 20;
/// In front: when it was written, nanoseconds since the machine was started.
const WRITTEN: u64 = 8;

#[derive(Debug)]
pub struct Will(File);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} the file that passes WireGuard sessions on to a successor, which begins anew without")]
    File {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("leaving WireGuard sessions to a successor: a thread that uses them could not be stopped, so they begin anew")]
    Running,
    #[error(transparent)]
    Read(#[from] Fault),
}

impl Will {
    /// Under this name among a process's descriptors.
    pub const NAME: &str = "wg-sessions";

    /// An empty one.
    pub fn new() -> Result<Will, Error> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        memfd_create(c"wg-sessions", flags).map(Will::from).map_err(failed("making"))
    }

    /// For whoever is to take it.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    /// Writes it, once; only what is written to its end can be taken.
    pub(super) fn write(&self, left: &Left) -> Result<(), Error> {
        let written = self.try_write(left);
        if written.is_err() {
            self.wipe();
        }
        written.map_err(failed("writing"))
    }

    fn try_write(&self, left: &Left) -> Result<(), Errno> {
        let io = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let bytes = left.encode();
        self.0.write_all_at(&bytes, WRITTEN).map_err(io)?;
        self.0.write_all_at(&(since_start()?.as_nanos() as u64).to_le_bytes(), 0).map_err(io)?;
        seal(self.0.as_fd(), SealFlag::F_SEAL_GROW)
    }

    /// What was left, and how long ago; none if nothing was, or another has taken it. It cannot be written any more. To be called when whoever should
    /// have written it has ended.
    pub(super) fn take(self) -> Result<Option<(Left, Duration)>, Error> {
        match seal(self.0.as_fd(), SealFlag::F_SEAL_SEAL) {
            Ok(()) => {}
            Err(Errno::EPERM) => return Ok(None),
            Err(error) => return Err(failed("taking")(error)),
        }
        let seals = fcntl(self.0.as_fd(), FcntlArg::F_GET_SEALS).map_err(failed("looking at"))?;
        let taken = if SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_GROW) { self.read() } else { Ok(None) };
        self.wipe();
        taken
    }

    fn read(&self) -> Result<Option<(Left, Duration)>, Error> {
        let read = |source| Error::File { doing: "reading", source };
        let size = self.0.metadata().map_err(read)?.len();
        if !(WRITTEN..=SIZE_MAX).contains(&size) {
            return Err(read(io::Error::new(io::ErrorKind::InvalidData, format!("it has {size} bytes"))));
        }
        let mut bytes = Zeroizing::new(vec![0; size as usize]);
        self.0.read_exact_at(&mut bytes, 0).map_err(read)?;
        let (written, rest) = bytes.split_first_chunk().ok_or(Fault::Short)?;
        let written = Duration::from_nanos(u64::from_le_bytes(*written));
        // Of the future it can only be by a fault, and then its sessions are of no known age.
        let ago = since_start().map_err(failed("dating"))?.checked_sub(written).ok_or(Fault::Invalid("a time that is to come"))?;
        Ok(Some((Left::decode(rest)?, ago)))
    }

    fn wipe(&self) {
        let zeros = [0; 64 << 10];
        let size = self.0.metadata().map_or(0, |metadata| metadata.len());
        let wiped = (0..size).step_by(zeros.len()).try_for_each(|at| {
            let len = zeros.len().min((size - at) as usize);
            self.0.write_all_at(&zeros[..len], at)
        });
        if let Err(error) = wiped.and_then(|()| self.0.set_len(0)) {
            tracing::warn!(
                "the file that passed WireGuard sessions on was not wiped ({error}); its memory is freed when all have closed it"
            );
        }
    }
}

impl From<OwnedFd> for Will {
    fn from(descriptor: OwnedFd) -> Will {
        Will(descriptor.into())
    }
}

fn seal(file: BorrowedFd<'_>, seals: SealFlag) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).map(drop)
}

/// Time since the machine was started, sleep included: the same for all its processes.
fn since_start() -> Result<Duration, Errno> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from)
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::File { doing, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;
    use crate::userspace::wireguard::left::LeftInterface;
    use crate::wire::wireguard::Tai64n;

    fn left() -> Left {
        let key = PrivateKey::new([1; 32]).public();
        Left { interfaces: vec![LeftInterface { name: "pw-1".parse().unwrap(), key, speaks: true, stamp: Tai64n([7; 12]), peers: vec![] }] }
    }

    fn another(will: &Will) -> Will {
        will.descriptor().unwrap().into()
    }

    #[test]
    fn it_is_taken_once_whoever_has_it_and_nothing_stays() {
        let will = Will::new().unwrap();
        let (first, second, third) = (another(&will), another(&will), another(&will));
        will.write(&left()).unwrap();
        let (taken, ago) = first.take().unwrap().unwrap();
        assert_eq!(taken, left());
        assert!(ago < Duration::from_secs(60), "{ago:?}");
        assert!(second.take().unwrap().is_none());
        assert_eq!(third.0.metadata().unwrap().len(), 0, "keys would be in it");
        assert!(third.write(&left()).is_err(), "no second time");
        assert!(will.take().unwrap().is_none());
    }

    #[test]
    fn one_that_was_not_finished_is_none_and_stays_so() {
        let will = Will::new().unwrap();
        will.0.write_all_at(&left().encode(), WRITTEN).unwrap();
        let copy = another(&will);
        assert!(copy.take().unwrap().is_none());
        assert!(will.write(&left()).is_err(), "whoever should have written it comes too late");
        assert_eq!(will.0.metadata().unwrap().len(), 0);
    }

    /// By another program, or a machine that lies about its time.
    #[test]
    fn nonsense_is_refused_and_wiped() {
        for (nonsense, time) in [(&b"nonsense"[..], 0u64), (&left().encode(), u64::MAX), (b"", 0)] {
            let will = Will::new().unwrap();
            will.0.write_all_at(&time.to_le_bytes(), 0).unwrap();
            will.0.write_all_at(nonsense, WRITTEN).unwrap();
            seal(will.0.as_fd(), SealFlag::F_SEAL_GROW).unwrap();
            let copy = another(&will);
            assert!(copy.take().is_err());
            assert_eq!(will.0.metadata().unwrap().len(), 0);
        }
        let will = Will::new().unwrap();
        seal(will.0.as_fd(), SealFlag::F_SEAL_GROW).unwrap();
        assert!(will.take().is_err(), "no room even for its time");
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert!(Will::from(OwnedFd::from(null)).take().is_err(), "no such file at all");
    }
}
