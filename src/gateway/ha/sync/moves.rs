//! A shard comes, goes, or is configured anew: what this node is for it from then on, and what it knows already.

use super::super::speaker;
use super::active::{Active, Telling};
use super::backup::{Backup, Keeping};
use super::role::{Clearing, Role};
use super::{Copier, Entry, Group, Shared};
use crate::gateway::{sessions, stamps};
use crate::model::{NodeName, TenantShard};
use crate::proto::sync::{Ledger, Peers, Receiver, ReceiverConfig, Sender, SenderConfig, Tuning};
use crate::wire::seal::Seal;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Connections deleted before somebody may say that they are needed again.
const DELETED_AT_ONCE: usize = 1024;

/// How often nodes that are no candidates are asked whether they listen: who has been one until now does.
const SELDOM: Duration = Duration::from_secs(1);

impl Copier {
    /// Takes up these shards. `active`: those whose HaVips are here already. `used`: what an earlier process knew to be used up of peers' stamps; who has
    /// a shard tells the others, who may have been started after it.
    pub fn take_up(&mut self, group: Group, seal: Seal, active: impl Fn(&TenantShard) -> bool, mut used: stamps::ByShard) {
        let now = Instant::now();
        let Group { shards, nodes } = group;
        (self.seal, self.nodes) = (seal, nodes);
        let mut old = std::mem::take(&mut self.shards);
        for what in shards {
            let of = what.of.clone();
            let entry = match old.remove(&of) {
                Some(entry) if (entry.what.zone, entry.what.mark) == (what.zone, what.mark) => self.go_on(entry, what, now),
                former => {
                    let told_in_sync = former.as_ref().is_some_and(|entry| entry.told_in_sync);
                    let role = match former.map(|entry| entry.role) {
                        Some(Role::Active(Active { peers, .. })) => self.telling(&what, now, Ledger::default(), peers),
                        Some(role @ Role::Clearing(_)) => role,
                        Some(Role::Backup(backup)) => self.keeping(&what, now, None, &backup.peers()),
                        None => {
                            let peers = Peers::of_stamps(now, used.remove(&of).unwrap_or_default());
                            if active(&of) {
                                self.telling(&what, now, Ledger::default(), peers)
                            } else {
                                self.keeping(&what, now, None, &peers)
                            }
                        }
                    };
                    Entry::new(what, role, now, told_in_sync)
                }
            };
            self.shards.insert(of, entry);
        }
        self.streams.clear();
        for entry in self.shards.values() {
            let (what, own) = (&entry.what, &self.node);
            let from = what.from.iter().map(|(node, address)| (stream(&what.of, node, own), (what.of.clone(), *address)));
            let to = what.from.iter().map(|(node, address)| (stream(&what.of, own, node), (what.of.clone(), *address)));
            self.streams.extend(from.chain(to));
        }
    }

    /// The same connections, and perhaps other nodes: who tells, or is told, goes on where it is.
    fn go_on(&self, mut entry: Entry, what: Shared, now: Instant) -> Entry {
        entry.role.set_seal(&self.seal);
        if entry.what == what {
            return entry;
        }
        match &mut entry.role {
            Role::Active(active) => active.tell_these(what.from.iter().map(|node| self.teller(&what, node, now)).collect()),
            Role::Clearing(_) => {}
            Role::Backup(backup) => backup.hear_these(now, what.from.iter().map(|node| self.keeper(&what, node, now)).collect()),
        }
        (entry.what, entry.changed, entry.covered) = (what, now, None);
        entry
    }

    fn teller(&self, what: &Shared, node: &(NodeName, IpAddr), now: Instant) -> Telling {
        let (stream, seal) = (stream(&what.of, &self.node, &node.0), self.seal.clone());
        let candidate = what.to.contains(node);
        let ordinary = Tuning::default();
        let tuning = if candidate { ordinary } else { Tuning { hello: SELDOM, ..ordinary } };
        Telling::new(node.1, candidate, Sender::new(SenderConfig { stream, seal, session: number(), tuning }, now))
    }

    fn keeper(&self, what: &Shared, (node, from): &(NodeName, IpAddr), now: Instant) -> Keeping {
        let (stream, seal) = (stream(&what.of, node, &self.node), self.seal.clone());
        let (zone, mark, tuning) = (what.zone, what.mark, Tuning::default());
        let mut receiver = Receiver::new(ReceiverConfig { stream, seal, nonce: number(), zone, mark, tuning }, now);
        receiver.hold();
        Keeping { from: *from, receiver, fed: None }
    }

    /// `known`: what stands in the kernel, as far as that is known.
    fn telling(&self, what: &Shared, now: Instant, known: Ledger, peers: Peers) -> Role {
        let all = what.from.iter().map(|node| self.teller(what, node, now)).collect();
        Role::Active(Active { all, known, peers, begun: 0 })
    }

    /// `known`: what stands in the kernel, if all of it is known.
    fn keeping(&self, what: &Shared, now: Instant, known: Option<&Ledger>, peers: &Peers) -> Role {
        let keeping = what.from.iter().map(|node| self.keeper(what, node, now));
        Role::Backup(Backup::new(keeping.collect(), known, peers))
    }

    pub fn promote(&mut self, of: &TenantShard, by: Instant) {
        // What waits in the socket is the tail of what the former Active has told. Others may say more than can be read.
        while self.exchange(false).heard && Instant::now() < by {}
        if self.is_active(of) {
            return;
        }
        let (now, Some(Entry { what, role, .. })) = (Instant::now(), self.shards.remove(of)) else { return };
        let (known, peers) = match role {
            Role::Active(active) => (active.known, active.peers),
            Role::Clearing(Clearing { stop, peers, .. }) => {
                stop.store(true, Relaxed);
                (Ledger::default(), peers)
            }
            Role::Backup(backup) => backup.into_known(),
        };
        self.sessions.send(sessions::Order::Known { of: of.clone(), peers: peers.states(now).collect() });
        let role = self.telling(&what, now, known, peers);
        self.turn_to(of, what, role, now);
    }

    fn is_active(&self, of: &TenantShard) -> bool {
        self.shards.get(of).is_some_and(|entry| matches!(entry.role, Role::Active(_)))
    }

    fn turn_to(&mut self, of: &TenantShard, what: Shared, role: Role, now: Instant) {
        self.shards.insert(of.clone(), Entry::new(what, role, now, false));
        self.speaker.send(speaker::Order::InSync(of.clone(), false));
    }

    pub fn demote(&mut self, of: &TenantShard, taken: bool) {
        // What the kernel has told until now is known when this role ends. Either way, nobody is told of what ends from now on.
        let now = Instant::now();
        while self.notice(now) {}
        if !self.is_active(of) {
            return;
        }
        let Some(Entry { what, role: Role::Active(Active { known, peers, .. }), .. }) = self.shards.remove(of) else { return };
        let known = Some(known).filter(Ledger::is_complete);
        let role = if taken { self.clearing(&what, known, peers) } else { self.keeping(&what, now, known.as_ref(), &peers) };
        self.turn_to(of, what, role, now);
    }

    /// Hundreds of thousands take seconds, and other shards go on meanwhile.
    fn clearing(&self, what: &Shared, known: Option<Ledger>, peers: Peers) -> Role {
        let (of, zone, kernel, runtime) = (what.of.clone(), what.zone, self.kernel.clone(), self.runtime.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = self.runtime.spawn_blocking(move || {
            let ended = runtime.block_on(async {
                let Some(known) = known else { return kernel.end_flows(&[zone].into(), |_, _| true).await };
                let mut ended = 0;
                for keys in known.keys().collect::<Vec<_>>().chunks(DELETED_AT_ONCE) {
                    if stopped.load(Relaxed) {
                        break;
                    }
                    ended += kernel.end_these(keys).await?;
                }
                Ok(ended)
            });
            match &ended {
                Ok(ended) => tracing::info!("{of}: {ended} connections are another node's now"),
                Err(error) => tracing::error!("{of}: cannot clear the connections that are another node's now: {error}"),
            }
            ended.is_ok()
        });
        Role::Clearing(Clearing { task, stop, peers })
    }

    /// Shards that are cleared are Backups.
    pub fn cleared(&mut self, now: Instant) {
        let done = |entry: &&Entry| matches!(&entry.role, Role::Clearing(clearing) if clearing.task.is_finished());
        let done: Vec<TenantShard> = self.shards.values().filter(done).map(|entry| entry.what.of.clone()).collect();
        // The kernel's notices of what was deleted are not about the copies that come next.
        while !done.is_empty() && self.notice(now) {}
        for of in done {
            let Some(Entry { what, role: Role::Clearing(clearing), told_in_sync, .. }) = self.shards.remove(&of) else { continue };
            let nothing = Ledger::default();
            let known = self.runtime.block_on(clearing.task).unwrap_or(false).then_some(&nothing);
            let role = self.keeping(&what, now, known, &clearing.peers);
            self.shards.insert(of, Entry::new(what, role, now, told_in_sync));
        }
    }
}

/// The same on both nodes.
fn stream(of: &TenantShard, from: &NodeName, to: &NodeName) -> u64 {
    let digest = Sha256::digest(format!("{of} {from} {to}"));
    digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// At random.
fn number() -> u64 {
    // Without random numbers from the kernel nothing on this machine is safe.
    getrandom::u64().expect("the kernel has random numbers")
}
