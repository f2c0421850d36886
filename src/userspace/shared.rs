//! What the two threads of the data path and its owner share.

use super::counters::{DropReason, Drops, Traffic};
use super::table::Table;
use super::tun;
use crate::model::IfName;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// One TUN device.
#[derive(Debug)]
pub struct Device {
    pub interface: IfName,
    pub queue: OwnedFd,
    pub traffic: Traffic,
    /// Bytes.
    pub mtu: AtomicUsize,
    /// The interface was removed: this queue is dead.
    pub lost: AtomicBool,
}

#[derive(Debug)]
pub struct Shared {
    pub socket: OwnedFd,
    pub drops: Drops,
    pub stop: AtomicBool,
    table: RwLock<Table<Arc<Device>>>,
}

impl Shared {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, drops: Drops::default(), stop: AtomicBool::new(false), table: RwLock::default() }
    }

    /// Taken once for a batch, never held over a system call.
    pub fn table(&self) -> RwLockReadGuard<'_, Table<Arc<Device>>> {
        // A panic elsewhere leaves the table whole: its methods check first and change afterwards.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn table_mut(&self) -> RwLockWriteGuard<'_, Table<Arc<Device>>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn drop(&self, reason: DropReason) {
        self.drops.count(reason, 1);
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Reads the device's MTU again. One that cannot be read stays as it was: the device is gone, and that shows elsewhere.
    pub fn refresh_mtu(&self, device: &Device) {
        if let Ok(mtu) = tun::mtu(&self.socket, &device.interface) {
            device.mtu.store(mtu, Relaxed);
        }
    }
}
