//! The thread that copies connections: those of shards that are Active here to the other candidates, and theirs to this kernel.
//!
//! ```text
//!  notices of the kernel --> Ledger, Sender --UDP--> the other candidates      a shard that is Active here
//!  the Active            --UDP--> Receiver --> Conntrack::apply --> kernel     a shard that is not
//! ```
//! What stands in the kernel is known in either role, so that a shard changes hands without a look at the kernel's table ([`walk`]).

mod active;
mod backup;
mod moves;
mod role;
mod walk;

use super::board::Board;
use super::speaker;
use crate::daemon::bell::{Bell, Inbox};
use crate::gateway::{sessions, stamps};
use crate::kernel::conntrack::{Conntrack, FlowWatch, Notices};
use crate::kernel::{Kernel, Refused};
use crate::model::{FlowChange, FlowKey, FlowStep, Mark, NodeName, TenantShard};
use crate::wire::seal::Seal;
use crate::wire::sync::peer::PeerRecord;
use crate::wire::sync::{Header, Kind, MAX};
use backup::Backup;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use role::Role;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};
use walk::Walk;

/// Datagrams read before the rest has its turn.
const DATAGRAMS: usize = 256;
/// How often the board shows new figures.
const SHOW: Duration = Duration::from_millis(100);
/// A router that is not authenticated and has not opened state sync for so long is of another make: nothing will ever come from it.
const STRANGER: Duration = Duration::from_secs(3);
/// A candidate that does not listen so long after it has become one is not waited for.
const COME: Duration = Duration::from_secs(10);
/// Bytes of notices that may wait: at 20,000 new connections a second, more than a second of them.
pub const NOTICES: usize = 64 << 20;

/// The shards that are served here, and the other nodes.
#[derive(Debug)]
pub struct Group {
    pub shards: Vec<Shared>,
    pub nodes: HashSet<IpAddr>,
}

#[derive(Debug)]
pub enum Order {
    /// The HaVips of a shard come here; answered when all that had arrived is in the kernel, or at this time, whatever else comes in.
    Promote(TenantShard, Instant, SyncSender<()>),
    /// They have gone. Whether somebody is known to have taken them: if so, what is known of its connections is stale.
    Demote(TenantShard, bool),
    /// What has become of WireGuard peers of a shard.
    Peers(TenantShard, Vec<PeerRecord>),
    /// Exactly these shards from now on, with this key. Of those that come, what an earlier process knew to be used up of peers' stamps.
    Replace(Group, Box<Seal>, stamps::ByShard),
    /// End, and leave everything as it stands.
    Stop,
}

/// The way to this thread.
#[derive(Debug, Clone)]
pub struct Orders(pub Bell<Order>);

impl Orders {
    /// Returns when the copies of all of these are complete, as far as they can be, or after this time.
    pub fn promote(&self, shards: &[&TenantShard], within: Duration) {
        if shards.is_empty() {
            return;
        }
        let deadline = Instant::now() + within;
        let (done, wait) = sync_channel(shards.len());
        shards.iter().for_each(|of| self.0.send(Order::Promote((*of).clone(), deadline, done.clone())));
        for _ in shards {
            let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// What has become of WireGuard peers of a shard that is here.
    pub fn peers(&self, of: &TenantShard, records: Vec<PeerRecord>) {
        if !records.is_empty() {
            self.0.send(Order::Peers(of.clone(), records));
        }
    }

    /// `taken`: another node is known to have the shard now. If not, what stands is kept until an Active lists what it has.
    pub fn demote(&self, of: &TenantShard, taken: bool) {
        self.0.send(Order::Demote(of.clone(), taken));
    }
}

/// A shard as its connections are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    pub of: TenantShard,
    /// Here.
    pub zone: u16,
    /// Here.
    pub mark: Mark,
    /// The other nodes of the group: who may have them, and who is told if it listens.
    pub from: Vec<(NodeName, IpAddr)>,
    /// Who is to have them: the other candidates.
    pub to: Vec<(NodeName, IpAddr)>,
    /// Routers of other makes may be Active, which have no connections to copy.
    pub strangers: bool,
    /// This node is no candidate, and keeps its copies until the candidates have theirs.
    pub spare: bool,
    /// For how long those must have had them.
    pub relief: Duration,
}

/// What the thread works with, opened before it starts.
pub struct Copier {
    pub node: NodeName,
    /// Bound to the node's own address; the others have the same port.
    pub socket: UdpSocket,
    pub port: u16,
    pub watch: FlowWatch,
    pub conntrack: Conntrack,
    pub kernel: Arc<Kernel>,
    pub runtime: tokio::runtime::Handle,
    pub speaker: Bell<speaker::Order>,
    /// Who is told of the peers of shards that come here.
    pub sessions: sessions::Orders,
    pub board: Arc<Board>,
    pub seal: Seal,
    pub shards: BTreeMap<TenantShard, Entry>,
    /// Which shard, and which of its machines, a stream belongs to.
    pub streams: HashMap<u64, (TenantShard, IpAddr)>,
    /// The other nodes of the group.
    pub nodes: HashSet<IpAddr>,
    pub shown: Instant,
    pub walk: Walk,
}

pub struct Entry {
    what: Shared,
    role: Role,
    /// When the role began.
    since: Instant,
    /// When the nodes were last others.
    changed: Instant,
    told_in_sync: bool,
    /// Of an Active: since when all candidates have all.
    covered: Option<Instant>,
    /// Of a spare: its copies are one too many.
    told_relieved: bool,
}

impl Entry {
    fn new(what: Shared, role: Role, now: Instant, told_in_sync: bool) -> Self {
        Self { what, role, since: now, changed: now, told_in_sync, covered: None, told_relieved: false }
    }

    /// Nothing will ever be told here: whoever is Active is of another make.
    fn is_among_strangers(&self, now: Instant, backup: &Backup) -> bool {
        let strange = self.what.strangers && now.saturating_duration_since(self.since) >= STRANGER;
        strange && backup.all.iter().all(|keeping| keeping.receiver.heard().is_none())
    }

    fn is_in_sync(&self, now: Instant) -> bool {
        match &self.role {
            Role::Active(active) => active.in_sync(now, now.saturating_duration_since(self.changed) < COME),
            Role::Clearing(_) => false,
            Role::Backup(backup) => self.is_among_strangers(now, backup) || backup.all.iter().any(|keeping| keeping.receiver.in_sync(now)),
        }
    }

    /// Those who keep copies for the candidates are told when there is no need any more.
    fn relieve(&mut self, now: Instant) {
        let Role::Active(active) = &mut self.role else { return self.covered = None };
        self.covered = active.in_sync(now, true).then(|| self.covered.unwrap_or(now));
        let relieved = self.covered.is_some_and(|since| now.saturating_duration_since(since) >= self.what.relief);
        active.relieve(relieved);
    }

    fn is_relieved(&self, now: Instant) -> bool {
        let Role::Backup(backup) = &self.role else { return false };
        let told = || backup.all.iter().any(|keeping| keeping.receiver.is_relieved(now));
        self.what.spare && (told() || self.is_among_strangers(now, backup))
    }
}

/// Whether there is more to read.
struct Turn {
    /// From the other nodes.
    heard: bool,
    /// From the kernel.
    read: bool,
}

impl Copier {
    /// Runs until it is told to stop.
    pub fn run(mut self, inbox: &Inbox<Order>) {
        // Copies are written by this thread alone: what it hears of them is of somebody else's doing.
        self.watch.pass_over(self.conntrack.port());
        let mut busy = false;
        loop {
            let wait = if busy { Duration::ZERO } else { self.wait(Instant::now()) };
            let timeout = PollTimeout::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
            let [socket, watch] = [self.socket.as_fd(), self.watch.as_fd()];
            let mut ready = [socket, watch, inbox.as_fd()].map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
            match poll(&mut ready, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => tracing::error!(%error, "waiting for connections to copy failed"),
            }
            let mut of_peers = BTreeSet::new();
            for order in inbox.take() {
                match order {
                    Order::Stop => return,
                    Order::Promote(of, by, done) => {
                        self.promote(&of, by);
                        let _ = done.try_send(());
                    }
                    Order::Demote(of, taken) => self.demote(&of, taken),
                    Order::Peers(of, records) => {
                        if let Some(entry) = self.shards.get_mut(&of) {
                            entry.role.peers(Instant::now(), &records);
                            of_peers.insert(of);
                        }
                    }
                    Order::Replace(group, seal, used) => self.take_up(group, *seal, |_| false, used),
                }
            }
            // A host with a session that nobody else knows of would be out, should this node die now, until it notices by itself.
            of_peers.iter().for_each(|of| self.tell_at_once(of));
            let turn = self.turn();
            busy = turn.heard || turn.read;
        }
    }

    fn tell_at_once(&mut self, of: &TenantShard) {
        if let Some(Role::Active(active)) = self.shards.get_mut(of).map(|entry| &mut entry.role) {
            let now = Instant::now();
            active.flush(now);
            active.turn(now, &self.socket, self.port, &self.board);
        }
    }

    fn wait(&self, now: Instant) -> Duration {
        let deadlines = self.shards.values().flat_map(|entry| entry.role.deadlines()).chain([self.shown + SHOW]);
        deadlines.min().map_or(SHOW, |at| at.saturating_duration_since(now))
    }

    /// Reads, thinks, writes.
    fn turn(&mut self) -> Turn {
        let walk = self.walk.is_due(&self.shards);
        let mut turn = self.exchange(walk);
        let now = Instant::now();
        if walk {
            self.board.counters.sync_walks.fetch_add(1, Relaxed);
            self.walk.begin(now, &mut self.shards);
        }
        turn.read |= self.walk.turn(now, &mut self.shards) || self.walk.is_due(&self.shards);
        self.tell_in_sync(now);
        if now >= self.shown + SHOW {
            self.shown = now;
            self.show(now);
        }
        turn
    }

    /// With the kernel, as far as it tells by itself, and the other nodes. `walk`: a reading of the kernel is about to begin, and who will want
    /// one before long may as well have it now.
    fn exchange(&mut self, walk: bool) -> Turn {
        let now = Instant::now();
        self.cleared(now);
        // Before new steps are thought of, for it is of old ones that the kernel tells.
        let read = self.notice(now);
        let heard = self.hear();
        let now = Instant::now();
        let mut steps = Vec::new();
        for Entry { role, .. } in self.shards.values_mut() {
            match role {
                Role::Active(active) => {
                    if walk {
                        active.all.iter_mut().for_each(|telling| telling.sender.list_early(now));
                    }
                    active.turn(now, &self.socket, self.port, &self.board);
                }
                Role::Clearing(_) => {}
                Role::Backup(backup) => backup.turn(now, &mut steps, &self.socket, self.port, &self.board),
            }
        }
        if !steps.is_empty() {
            self.write(&steps);
        }
        Turn { heard, read }
    }

    fn hear(&mut self) -> bool {
        let mut buffer = [0; MAX + 1];
        for _ in 0..DATAGRAMS {
            let (length, from) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                // An ICMP error about something that was sent.
                Err(_) => continue,
            };
            let datagram = &buffer[..length];
            let known = Header::parse(datagram).ok().and_then(|(header, _)| Some((header.stream, self.streams.get(&header.stream)?)));
            let Some((stream, (of, _))) = known.filter(|(_, (_, address))| *address == from.ip()) else {
                // All nodes of a group are asked whether they listen.
                let asked = Header::parse(datagram).is_ok_and(|(header, _)| header.kind == Kind::Hello) && self.nodes.contains(&from.ip());
                self.board.counters.sync_strangers.fetch_add(u64::from(!asked), Relaxed);
                continue;
            };
            if let Some(entry) = self.shards.get_mut(of) {
                // Not when this turn began: a datagram that seems to have come before it did makes all that follow seem late for as long
                // as the least transit time is remembered.
                entry.role.hear(Instant::now(), stream, datagram);
            }
        }
        true
    }

    fn notice(&mut self, now: Instant) -> bool {
        let shards = &mut self.shards;
        let mut roles: HashMap<u16, &mut Role> = shards.values_mut().map(|entry| (entry.what.zone, &mut entry.role)).collect();
        let take = |change: FlowChange| {
            if let Some(role) = roles.get_mut(&change.key().zone) {
                role.notice(now, &change);
            }
        };
        match self.watch.read(take) {
            Ok(Notices::Drained) => false,
            Ok(Notices::More) => true,
            Ok(Notices::Overflow) => {
                roles.into_values().for_each(|role| role.overflow(now));
                true
            }
            Err(error) => {
                tracing::error!("notices of connections cannot be read: {error}");
                roles.into_values().for_each(|role| role.overflow(now));
                false
            }
        }
    }

    fn write(&mut self, steps: &[FlowStep]) {
        // Without room all that cannot be written is missed; of what is odd in another way it is one, and always will be.
        let full = |why: &Refused| [libc::ENOMEM, libc::ENOBUFS, libc::ENFILE].contains(&why.errno);
        let refused: Vec<(FlowKey, bool)> = match self.conntrack.apply(steps) {
            Ok(written) => {
                if let Some((key, why)) = written.refused.first() {
                    tracing::debug!(?key, %why, "the kernel refuses a copy");
                }
                written.refused.iter().map(|(key, why)| (*key, full(why))).collect()
            }
            Err(error) => {
                tracing::error!("connections cannot be written: {error}");
                steps.iter().map(|step| (*step.key(), true)).collect()
            }
        };
        if refused.is_empty() {
            return;
        }
        self.board.counters.sync_unwritten.fetch_add(refused.len() as u64, Relaxed);
        let mut roles: HashMap<u16, &mut Role> = self.shards.values_mut().map(|entry| (entry.what.zone, &mut entry.role)).collect();
        for (key, missed) in refused {
            if let Some(Role::Backup(backup)) = roles.get_mut(&key.zone) {
                backup.unwritten(key, missed);
            }
        }
    }

    fn tell_in_sync(&mut self, now: Instant) {
        for (of, entry) in &mut self.shards {
            entry.relieve(now);
            let (in_sync, relieved) = (entry.is_in_sync(now), entry.is_relieved(now));
            if std::mem::replace(&mut entry.told_relieved, relieved) != relieved {
                self.board.relieve(of, relieved);
            }
            if std::mem::replace(&mut entry.told_in_sync, in_sync) != in_sync {
                self.speaker.send(speaker::Order::InSync(of.clone(), in_sync));
            }
        }
    }

    fn show(&self, now: Instant) {
        for (of, entry) in &self.shards {
            self.board.set_flows(of, entry.role.show(now));
            self.board.set_connections(of, entry.role.connections());
        }
    }
}

/// A datagram that does not go is as one that is lost: it is asked for again.
fn send(socket: &UdpSocket, to: IpAddr, port: u16, datagram: &[u8], board: &Board) {
    if socket.send_to(datagram, SocketAddr::new(to, port)).is_err() {
        board.counters.sync_send_failures.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
