//! systemd's file descriptor store: what a stopped daemon held waits there for the next one, so that packets queue
//! instead of getting lost while there is none (sd_notify(3), `FDSTORE=1`; the unit needs `FileDescriptorStoreMax=`).

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::fstat;
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// What systemd keeps for us: which file under which name.
#[derive(Debug, Default)]
pub struct FdStore {
    held: BTreeMap<String, File>,
}

/// Device and inode. Queues of TUN devices are all the same file.
type File = Option<(u64, u64)>;

impl FdStore {
    /// Takes what an earlier process left. Call it once, before anything else opens descriptors.
    pub fn open() -> (Self, BTreeMap<String, OwnedFd>) {
        let Ok(passed) = sd_notify::listen_fds_with_names() else { return (Self::default(), BTreeMap::new()) };
        let passed: BTreeMap<String, OwnedFd> = passed
            .filter(|(descriptor, _)| *descriptor > 2)
            .map(|(descriptor, name)| {
                // SAFETY: systemd opened these descriptors for this very process (LISTEN_PID was compared) and nothing
                // else in it knows their numbers; each number occurs once.
                (name, unsafe { OwnedFd::from_raw_fd(descriptor) })
            })
            .collect();
        for descriptor in passed.values() {
            // They must not leak into the `nft` that we start.
            let _ = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        }
        (Self { held: passed.iter().map(|(name, descriptor)| (name.clone(), file(descriptor))).collect() }, passed)
    }

    /// Makes the store hold exactly these.
    pub fn keep(&mut self, descriptors: &BTreeMap<String, OwnedFd>) {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        let other = |name: &String, held: &mut File| descriptors.get(name).is_none_or(|descriptor| file(descriptor) != *held);
        for gone in self.held.extract_if(.., other).map(|(name, _)| name) {
            remove(&gone);
        }
        for (name, descriptor) in descriptors.iter().filter(|(name, _)| !self.held.contains_key(*name)).collect::<Vec<_>>() {
            // A process before this one, which was not started by systemd from its store, may have put another there.
            remove(name);
            tell(sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[descriptor.as_fd()]));
            self.held.insert(name.clone(), file(descriptor));
        }
    }
}

fn remove(name: &str) {
    tell(sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]));
}

fn file(descriptor: &OwnedFd) -> File {
    fstat(descriptor).ok().map(|status| (status.st_dev, status.st_ino))
}

fn tell(sent: std::io::Result<()>) {
    if let Err(error) = sent {
        tracing::warn!("systemd does not keep our descriptors ({error}): a restart will lose what is on its way");
    }
}
