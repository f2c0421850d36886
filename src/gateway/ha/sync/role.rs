//! What this node is for a shard.

use super::super::board::{Connections, Flows};
use super::active::Active;
use super::backup::Backup;
use crate::model::{Flow, FlowChange};
use crate::proto::sync::Peers;
use crate::wire::seal::Seal;
use crate::wire::sync::peer::PeerRecord;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tokio::task::JoinHandle;

pub enum Role {
    Active(Active),
    /// What another node has taken is being deleted; after that, Backup.
    Clearing(Clearing),
    Backup(Backup),
}

pub struct Clearing {
    /// Whether all of it is gone.
    pub task: JoinHandle<bool>,
    pub stop: Arc<AtomicBool>,
    /// Kept meanwhile.
    pub peers: Peers,
}

impl Role {
    pub fn set_seal(&mut self, seal: &Seal) {
        match self {
            Role::Active(Active { all, .. }) => all.iter_mut().for_each(|telling| telling.sender.set_seal(seal.clone())),
            Role::Clearing(_) => {}
            Role::Backup(Backup { all, .. }) => all.iter_mut().for_each(|keeping| keeping.receiver.set_seal(seal.clone())),
        }
    }

    /// A datagram from the other end of this stream.
    pub fn hear(&mut self, now: Instant, stream: u64, datagram: &[u8]) {
        match self {
            Role::Active(Active { all, .. }) => {
                all.iter_mut().filter(|one| one.sender.stream_id() == stream).for_each(|one| one.sender.handle(now, datagram));
            }
            Role::Clearing(_) => {}
            Role::Backup(Backup { all, .. }) => {
                all.iter_mut().filter(|one| one.receiver.stream_id() == stream).for_each(|one| one.receiver.handle(now, datagram));
            }
        }
    }

    /// The kernel has told of this.
    pub fn notice(&mut self, now: Instant, change: &FlowChange) {
        match (self, change) {
            (Role::Active(active), _) => active.change(now, change),
            (Role::Clearing(_), _) => {}
            (Role::Backup(backup), FlowChange::Destroy(key)) => backup.vanished(now, *key),
            (Role::Backup(backup), FlowChange::Upsert(flow)) => backup.stands(now, *flow),
        }
    }

    /// What has become of this node's WireGuard peers. Only the Active's are everybody's affair.
    pub fn peers(&mut self, now: Instant, records: &[PeerRecord]) {
        if let Role::Active(active) = self {
            records.iter().for_each(|record| active.peer(now, record));
        }
    }

    /// The kernel lost notices.
    pub fn overflow(&mut self, now: Instant) {
        match self {
            Role::Active(active) => active.overflow(now),
            Role::Clearing(_) => {}
            Role::Backup(backup) => backup.overflow(now),
        }
    }

    /// Whether somebody waits for the kernel to be read.
    pub fn waits(&self) -> bool {
        match self {
            Role::Active(active) => active.waits(),
            Role::Clearing(_) => false,
            Role::Backup(backup) => backup.waits(),
        }
    }

    /// The kernel is read from here on, for those who wait for it.
    pub fn begin(&mut self) {
        match self {
            Role::Active(active) => active.begin(),
            Role::Clearing(_) => {}
            Role::Backup(backup) => backup.begin(),
        }
    }

    pub fn has_room(&mut self, now: Instant) -> bool {
        if let Role::Active(active) = self { active.has_room(now) } else { true }
    }

    /// Lists that could not go on for too long.
    pub fn give_up(&mut self, now: Instant) {
        if let Role::Active(active) = self {
            active.give_up(now);
        }
    }

    pub fn read(&mut self, now: Instant, flow: Flow) {
        match self {
            Role::Active(active) => active.read(now, &flow),
            Role::Clearing(_) => {}
            Role::Backup(backup) => backup.read(now, flow),
        }
    }

    /// The reading is over; `whole`: it came to its end.
    pub fn end(&mut self, now: Instant, whole: bool) {
        match self {
            Role::Active(active) => active.end(now, whole),
            Role::Clearing(_) => {}
            Role::Backup(backup) => backup.end(whole),
        }
    }

    pub fn deadlines(&self) -> Vec<Instant> {
        match self {
            Role::Active(Active { all, .. }) => all.iter().filter_map(|telling| telling.sender.next_timeout()).map(|(at, _)| at).collect(),
            Role::Clearing(_) => Vec::new(),
            Role::Backup(Backup { all, .. }) => {
                all.iter().filter_map(|keeping| keeping.receiver.next_timeout()).map(|(at, _)| at).collect()
            }
        }
    }

    /// None: they are not this node's.
    pub fn connections(&self) -> Option<Connections> {
        if let Role::Active(active) = self { Some(active.connections()) } else { None }
    }

    pub fn show(&self, now: Instant) -> Flows {
        match self {
            Role::Active(active) => active.show(now),
            Role::Clearing(_) => Flows::Kept(Vec::new()),
            Role::Backup(backup) => backup.show(now),
        }
    }
}
