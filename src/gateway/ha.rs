//! Several gateways, one pair of addresses for each shard: who has them, and that connections go on when that changes.
//!
//! ```text
//!                        +----------- Board: what each knows, for status, metrics, reconciler
//!                        |
//!  advertisements --> speaker --deeds--> hands --> leases, addresses, gratuitous ARP
//!  (realtime)            ^                 |
//!                        +--in sync-- sync <--promote, demote
//!  connections of the kernel <-----------> | <---UDP---> the other candidates
//! ```
//! Three threads, so that none waits for another: an advertisement does not wait for the kernel, an address not for a list of
//! 250,000 connections. The machines that decide are `proto::vrrp` and `proto::sync`; here is what feeds them and obeys.

pub mod board;
#[cfg(feature = "aws")]
pub mod cloud;
pub mod drain;
mod hands;
pub mod instances;
pub mod keys;
#[cfg(feature = "aws")]
mod lifecycle;
mod report;
mod routers;
mod scribe;
mod speaker;
pub mod sync;
mod track;

use crate::config::{Authentication, Cast, Gateway, Ha, TunnelKind};
use crate::daemon::bell::{self, Bell};
use crate::daemon::realtime;
#[cfg(feature = "aws")]
use crate::gateway::joining::Leave;
use crate::gateway::{sessions, stamps};
use crate::kernel::announce::Announcer;
use crate::kernel::conntrack::{Conntrack, Filter, FlowWatch};
use crate::kernel::havip::HaVips;
use crate::kernel::lease::Lease;
use crate::kernel::pass_back::PassBack;
use crate::kernel::vrrp_socket::{Family, VrrpSocket};
use crate::kernel::{Kernel, Own};
use crate::model::{IfName, Mark, NodeName, TenantShard};
use crate::plan::facts::Facts;
use crate::plan::gateway::Carrier;
use crate::plan::gateway::havips;
use crate::plan::slots::Slots;
use crate::plan::{ANSWERS, LIVE};
use crate::userspace::urgent;
use anyhow::Context;
use board::Board;
use hands::{Addresses, Aside, Deed, Hands};
use scribe::Scribe;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// SCHED_FIFO priorities: before everything that is not realtime, behind the kernel's own threads (50).
const SPEAKER: u8 = 40;
const HANDS: u8 = 39;
/// Bytes that may wait for the sync thread: as much as the window of a sender.
const SYNC_BUFFER: usize = 8 << 20;

/// That copies are complete is believed after so long.
const RELIEF: Duration = Duration::from_secs(3);

/// The shares of this node in its group.
#[derive(Debug, Default)]
pub struct Group {
    board: Arc<Board>,
    running: Option<Running>,
    tracking: track::Tracking,
    /// Of this machine's interfaces, Portway's own not among them: the index of each.
    links: watch::Sender<Links>,
}

/// Interfaces by name, and their indices.
pub type Links = BTreeMap<IfName, u32>;

/// Whether this node could take part: for whoever is about to take over from a process that does.
pub fn check(config: &Gateway) -> anyhow::Result<()> {
    let Some(ha) = &config.ha else { return Ok(()) };
    keys::read_all(&ha.keys)?;
    instances::virtuals(config, Carrier::Userspace).map(drop)
}

#[derive(Debug)]
struct Running {
    speaker: Bell<speaker::Order>,
    hands: Bell<Deed>,
    sync: sync::Orders,
    threads: [JoinHandle<()>; 3],
    /// Leases are extended many times a second: nobody need look at the rules for it.
    _own: Vec<Own>,
    platform: IfName,
    /// The index of the platform interface, as it was first seen.
    index: Option<u32>,
    #[cfg(feature = "aws")]
    lifecycle: Option<lifecycle::Watch>,
    #[cfg(feature = "aws")]
    cloud: Option<cloud::Watch>,
}

impl Group {
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// For whoever follows it from another thread.
    pub fn shared_board(&self) -> Arc<Board> {
        self.board.clone()
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Takes part from now on. The rules and tunnels stand already. HaVips whose lease still runs are this node's: a process before this
    /// one had them until now.
    ///
    /// `used`: the replay memory of an earlier process, which other candidates may not have.
    pub fn start(
        &mut self,
        config: &Gateway,
        carrier: Carrier,
        slots: &Slots,
        kernel: &Arc<Kernel>,
        sessions: &sessions::Orders,
        used: stamps::ByShard,
    ) -> anyhow::Result<()> {
        let Some(ha) = config.ha.as_ref().filter(|_| self.running.is_none()) else { return Ok(()) };
        let (platform, board) = (&config.platform, self.board.clone());
        let (keyring, seal) = keys::read_all(&ha.keys)?;
        let (mut virtuals, elsewhere) = (instances::virtuals(config, carrier)?, instances::elsewhere(config)?);
        let shards: Addresses = addresses(config);
        let mut lease = Lease::open()?;
        let resumed = live(&mut lease, &shards)?;

        let socket = VrrpSocket::open(&platform.interface, Family::of(platform.address), ha.cast == Cast::Multicast)
            .context("cannot open a socket for VRRP")?;
        let (speaker, speaker_inbox) = bell::bell()?;
        let (hands, hands_inbox) = bell::bell()?;
        let (orders, sync_inbox) = bell::bell()?;
        let sync = sync::Orders(orders);

        let mut copier = sync::Copier {
            node: config.node.clone(),
            socket: sync_socket(platform.address, ha.sync_port)?,
            port: ha.sync_port,
            watch: FlowWatch::open(Filter::default(), sync::NOTICES)?,
            conntrack: Conntrack::open()?,
            kernel: kernel.clone(),
            runtime: tokio::runtime::Handle::current(),
            speaker: speaker.clone(),
            sessions: sessions.clone(),
            board: board.clone(),
            seal: seal.clone(),
            shards: BTreeMap::new(),
            streams: HashMap::new(),
            nodes: HashSet::new(),
            shown: Instant::now(),
            walk: Default::default(),
        };
        copier.take_up(shared(config, slots), seal, |of| resumed.contains(of), used);
        let (scribe, writing) = Scribe::new();
        spawn("log", None, writing)?;
        let havips = HaVips::open()?;
        let back = (platform.tunnel == TunnelKind::Wireguard).then(PassBack::open).transpose()?;
        let own: Vec<_> =
            [lease.port(), havips.port()].into_iter().chain(back.as_ref().map(PassBack::port)).map(|port| kernel.own(port)).collect();
        let mut hand = Hands {
            lease,
            addresses: havips,
            announcer: Announcer::open()?,
            sync: sync.clone(),
            board: board.clone(),
            scribe,
            shards: BTreeMap::new(),
            back,
            sessions: sessions.clone(),
            aside: Aside::default(),
        };
        board.hold_only(&resumed);
        hand.know(shards);
        resumed.iter().for_each(|of| hand.adopt(of));
        sessions.send(sessions::Order::Tell(sync.clone()));
        resumed.iter().for_each(|of| sessions.send(sessions::Order::Taken(of.clone())));

        if let Err(error) = realtime::lock_memory() {
            tracing::warn!(
                "memory is not locked ({error}): allow CAP_IPC_LOCK or LimitMEMLOCK=infinity, or paging may delay advertisements"
            );
        }
        self.tracking.replace(config, slots, &mut virtuals, |of| resumed.contains(of));
        let threads = [
            spawn("vrrp", Some(SPEAKER), {
                let hands = hands.clone();
                move || speaker::run(socket, &speaker_inbox, hands, board, (virtuals, elsewhere), &keyring, &resumed)
            })?,
            spawn("havip", Some(HANDS), move || hand.run(&hands_inbox))?,
            spawn("sync", None, move || {
                // Behind the data path: what it does can wait for packets. Without the right it is as ordinary as all else.
                let _ = urgent::urgent(urgent::COPIES);
                copier.run(&sync_inbox);
            })?,
        ];
        self.tracking.tell(&speaker);
        self.running = Some(Running {
            speaker,
            hands,
            sync,
            threads,
            _own: own,
            platform: platform.interface.clone(),
            index: None,
            #[cfg(feature = "aws")]
            lifecycle: None,
            #[cfg(feature = "aws")]
            cloud: None,
        });
        Ok(())
    }

    /// From now on it is looked there, and nowhere else, whether the machine is taken away. `leave`: how others are told, where they are.
    #[cfg(feature = "aws")]
    pub fn watch_lifecycle(&mut self, of: Option<&crate::config::InstanceMetadata>, leave: Option<Leave>) {
        let drain = self.drain();
        let Some(running) = &mut self.running else { return };
        if running.lifecycle.as_ref().map(lifecycle::Watch::of) != of {
            running.lifecycle = of.zip(drain).map(|(of, drain)| lifecycle::Watch::start(of.clone(), leave, drain));
        }
    }

    /// From now on the cloud sends the addresses of whatever is here to this node, as this configuration says.
    #[cfg(feature = "aws")]
    pub fn follow_cloud(&mut self, config: &Gateway, kernel: &Arc<Kernel>) {
        let Some(running) = &mut self.running else { return };
        let stands = match (&running.cloud, &config.cloud) {
            (Some(watch), Some(aws)) => watch.is_of(aws, config),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !stands {
            let start = |aws| cloud::Watch::start(aws, config, self.board.clone(), kernel.clone(), self.links.subscribe());
            running.cloud = config.cloud.as_deref().map(start);
        }
    }

    /// Whether the Auto Scaling group takes this machine away; and whether nothing is here any more for it.
    #[cfg(feature = "aws")]
    pub fn end(&self) -> (bool, bool) {
        let watch = self.running.as_ref().and_then(|running| running.lifecycle.as_ref());
        watch.map_or((false, false), lifecycle::Watch::end)
    }

    /// Which interfaces there are, as a pass has last seen it.
    pub fn links(&self) -> watch::Receiver<Links> {
        self.links.subscribe()
    }

    /// The configuration has changed: shards may come and go, and keys. `used`: as for [`Group::start`], of shards that come; taken out.
    pub fn change(&mut self, config: &Gateway, carrier: Carrier, slots: &Slots, used: &mut stamps::ByShard) -> anyhow::Result<()> {
        let (Some(running), Some(ha)) = (&self.running, &config.ha) else { return Ok(()) };
        let (keyring, seal) = keys::read_all(&ha.keys)?;
        let (mut virtuals, elsewhere) = (instances::virtuals(config, carrier)?, instances::elsewhere(config)?);
        self.tracking.replace(config, slots, &mut virtuals, |_| false);
        let served: BTreeSet<TenantShard> = virtuals.iter().map(|one| one.of.clone()).collect();
        running.sync.0.send(sync::Order::Replace(shared(config, slots), Box::new(seal), std::mem::take(used)));
        // Before the speaker lets go of shards that are gone, their addresses must be known, and before it takes new ones, theirs.
        running.speaker.send(speaker::Order::Replace(virtuals, elsewhere, Box::new(keyring), addresses(config)));
        self.board.forget(|of| served.contains(of));
        self.tracking.tell(&running.speaker);
        Ok(())
    }

    /// What the interfaces are like now.
    pub fn look(&mut self, facts: &Facts) {
        self.tracking.look(facts);
        let links = facts.links.iter().filter(|(name, _)| !name.is_ours()).map(|(name, link)| (name.clone(), link.index)).collect();
        self.links.send_if_modified(|present| {
            let differs = *present != links;
            *present = links;
            differs
        });
        let Some(running) = &mut self.running else { return };
        let Some(link) = facts.link(&running.platform) else { return };
        if *running.index.get_or_insert(link.index) != link.index {
            tracing::warn!("{} is another interface than before: VRRP begins anew on it", running.platform);
            self.stop();
        }
    }

    /// The sets of the leases are empty, by somebody else's doing.
    pub fn renew(&self) {
        self.running.iter().for_each(|running| running.hands.send(Deed::Renew));
    }

    /// Ends the threads. What stands is left standing, as long as the leases run: another process goes on.
    pub fn stop(&mut self) {
        let Some(Running { speaker, hands, sync, threads: [speaking, doing, copying], _own, .. }) = self.running.take() else { return };
        self.tracking.stop();
        // Whatever takes time before the advertisements end.
        sync.0.send(sync::Order::Stop);
        join(copying);
        speaker.send(speaker::Order::Stop);
        join(speaking);
        hands.send(Deed::Stop);
        join(doing);
    }
}

fn spawn(name: &str, priority: Option<u8>, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    let work = move || {
        if let Some(Err(error)) = priority.map(realtime::realtime) {
            tracing::warn!("no realtime priority ({error}): allow CAP_SYS_NICE or LimitRTPRIO, or a busy machine may delay advertisements");
        }
        let _dies_alone = Together;
        work();
    };
    std::thread::Builder::new().name(name.into()).spawn(work).with_context(|| format!("cannot start the thread {name}"))
}

/// A group that has lost one of its threads would advertise what it cannot keep: better that another node takes over.
struct Together;

impl Drop for Together {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the group had panicked");
    }
}

/// The HaVips of each shard that is served here, and where they belong.
fn addresses(config: &Gateway) -> Addresses {
    config.shared().map(|(tenant, shard)| (tenant.of(shard.shard), havips(&config.platform, tenant, shard).collect())).collect()
}

/// The shards whose leases run.
fn live(lease: &mut Lease, shards: &Addresses) -> anyhow::Result<BTreeSet<TenantShard>> {
    let mut resumed = BTreeSet::new();
    for (of, addresses) in shards {
        let mut live = !addresses.is_empty();
        // One that has handed over forwards for a while, and answers no more.
        for at in addresses {
            live &= lease.remaining(LIVE, at)?.is_some() && lease.remaining(ANSWERS, at)?.is_some();
        }
        if live {
            resumed.insert(of.clone());
        }
    }
    Ok(resumed)
}

fn shared(config: &Gateway, slots: &Slots) -> sync::Group {
    let Some(ha) = &config.ha else { return sync::Group { shards: Vec::new(), nodes: HashSet::new() } };
    let others = |nodes: Vec<&NodeName>| -> Vec<(NodeName, IpAddr)> {
        let others = nodes.into_iter().filter(|node| **node != config.node);
        others.filter_map(|node| Some((node.clone(), *ha.nodes.get(node)?))).collect()
    };
    let shards = config
        .shared()
        .filter_map(|(tenant, shard)| {
            let of = tenant.of(shard.shard);
            let slot = slots.get(&of)?;
            let (from, to) = (others(ha.nodes.keys().collect()), others(ha.candidates(&of)));
            let strangers = ha.authentication == Authentication::None;
            let (spare, relief) = (ha.retained.contains(&of), relief(config, ha, &of));
            Some(sync::Shared { of, zone: slot.zone(), mark: Mark::new(None, Some(slot)), from, to, strangers, spare, relief })
        })
        .collect();
    sync::Group { shards, nodes: instances::others(config, ha).into_iter().collect() }
}

/// For how long the candidates must have had all connections before nobody else need keep them. Where this node is not the first of them, the first takes the
/// shard before that, and this one has to be told everything anew: until then there is a third copy.
fn relief(config: &Gateway, ha: &Ha, of: &TenantShard) -> Duration {
    let preempted = ha.preempt.filter(|_| ha.candidates(of).first().is_none_or(|first| **first != config.node));
    RELIEF + preempted.map_or(Duration::ZERO, |wait| wait + RELIEF)
}

fn sync_socket(address: IpAddr, port: u16) -> anyhow::Result<UdpSocket> {
    let open = || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((address, port))?;
        socket.set_nonblocking(true)?;
        // Beyond the limit of net.core, where that is allowed; a smaller one costs repetitions.
        let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &SYNC_BUFFER);
        let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBufForce, &SYNC_BUFFER);
        Ok(socket)
    };
    open().with_context(|| format!("cannot use UDP {address}:{port} for state sync: is it the address of this node, and `sync_port` free?"))
}

/// How long a planned handover may take: ten seconds until connections are known, a second or five intervals for a successor, another in which
/// packets are forwarded, and two to spare.
pub fn patience(config: &Gateway) -> Duration {
    let interval = config.ha.as_ref().map_or(Duration::ZERO, |ha| ha.interval.duration());
    (interval * 5).max(Duration::from_secs(1)) + crate::proto::vrrp::FORWARD_AFTER_HANDOVER + Duration::from_secs(12)
}
