//! Peers just in time: what feeds `proto::jit` and carries out what it decides.
//!
//! ```text
//!  the owner: serve, release, learn, adopt, seen, changed          knocks that the userspace device has authenticated
//!        | orders                                                        | bounded: beyond, lost and counted
//!        v                                                               v
//!  +- jit (one thread, before ordinary ones) ----------------------------------+      packet socket (kernel backend)
//!  |  the machine: who may, who is known, who waits                            | <--- initiations to our ports
//!  +---------------------------------------------------------------------------+
//!     | jobs, by key        ^ done           | look-up        ^ answer   | news            | board
//!     v                     |                v                |          v                 v
//!  hands (threads, behind packets)        tasks of the daemon's runtime   the owner:       the reconciler, status
//!  open, install, greet, remove                                           state sync
//! ```
//!
//! **A thread of its own, with a runtime of its own.** What happens between a knock and its answer is a dozen short steps; on the daemon's runtime
//! each might wait for a pass of the reconciler or a page of metrics. It goes before ordinary threads and behind those that carry packets. Its
//! work for a knock is microseconds; cryptography and system calls are the hands'. What concerns one key goes to one hand, so it
//! is done in its order.
//!
//! **Who opens an initiation first.** With the userspace backend the device does: it cannot tell a stranger's from a peer's before, so whatever opened it
//! earlier would only open it twice. It checks `mac1` and a bucket of the source on the thread that receives, and what it tells has been proved; the
//! machine's first and second step are then answered from what the device said. With the kernel's the machine has to, in the hands.
//!
//! **A stranger's own initiation is answered** as soon as it is a peer, where that can be done: userspace, by the device; kernel, by sending it
//! to the interface once more ([`crate::kernel::knock_socket`]). The stranger has its answer after the look-up and two round trips; were we to
//! begin, after three, as its first packet would wait until ours had confirmed the session. And its stamp is in the interface's own replay memory then.

mod actor;
mod board;
mod configured;
mod ears;
mod hands;
mod report;

pub use board::{Board, Expected};
pub use report::Report;

use crate::gateway::registry::Registry;
use crate::gateway::sessions::tunnels::Tunnels;
use crate::gateway::stamps::Used;
use crate::kernel::vrrp_socket::Family;
use crate::model::{IfName, PublicKey, Slot, TenantShard};
use crate::plan::gateway::ends::End;
use crate::proto::jit::{Answer, Config, Reaped, Registered};
use crate::proto::rate::Rate;
use crate::userspace::urgent;
use crate::userspace::wireguard::message::Initiation;
use crate::wire::wireguard::Tai64n;
use anyhow::Context;
use ipnet::IpNet;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Knocks that wait for the machine; more than a burst of the device's.
const KNOCKS: usize = 16_384;

/// Who knows keys: the directory, or what stands for it.
pub trait WhoIs: Send + Sync {
    /// Who owns this key, and what it may at this shard. Errors are [`Answer::Failed`]; one that takes longer than
    /// [`Config::give_up`] is dropped.
    fn look_up<'a>(&'a self, of: &'a TenantShard, key: &'a PublicKey) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;
}

impl WhoIs for Registry {
    fn look_up<'a>(&'a self, of: &'a TenantShard, key: &'a PublicKey) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(Registry::look_up(self, of, key))
    }
}

/// Where initiations are seen, with the kernel's WireGuard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The platform's.
    pub interface: IfName,
    /// That of the HaVips there.
    pub family: Family,
}

/// How a peer that has just been installed gets its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Its own initiation is answered; where that cannot be done, we begin.
    Answer,
    /// We begin.
    Initiate,
}

pub struct Setup {
    pub tunnels: Tunnels,
    /// With the kernel's WireGuard; a device in this process tells of its own accord ([`Door::knock`]).
    pub capture: Option<Capture>,
    pub directory: Arc<dyn WhoIs>,
    /// Where the replay memory goes that is to outlive the process.
    pub used: Option<Used>,
    /// Where look-ups run.
    pub runtime: Handle,
    pub config: Config,
    /// Threads for cryptography and installing.
    pub hands: NonZeroUsize,
    pub greeting: Greeting,
}

impl Setup {
    /// A hand for every two processors, at most four.
    pub fn new(tunnels: Tunnels, capture: Option<Capture>, directory: Arc<dyn WhoIs>, runtime: Handle) -> Self {
        let hands = std::thread::available_parallelism().map_or(1, |n| n.get() / 2).clamp(1, 4);
        let config = match &tunnels {
            // Steps are but looked up: what they cost was paid on the way here, and the device has limited each source.
            Tunnels::Userspace(_) => Config {
                steps: Rate { per_second: 1_000_000, burst: 1_000_000 },
                per_source: Rate { per_second: 100, burst: 1024 },
                ..Config::default()
            },
            Tunnels::Kernel(_) => Config::default(),
        };
        let hands = NonZeroUsize::new(hands).unwrap_or(NonZeroUsize::MIN);
        Self { tunnels, capture, directory, used: None, runtime, config, hands, greeting: Greeting::Answer }
    }
}

/// What the owner tells.
#[derive(Debug)]
pub enum Order {
    /// This node has the shard now: whoever knocks at its interfaces is served, and then is a peer at each of them. Again with others: they count
    /// from now on.
    Serve {
        of: TenantShard,
        slot: Slot,
        ends: Vec<End>,
    },
    /// Another node has it. Its peers leave the board at once; they are the owner's to remove.
    Release {
        slot: Slot,
    },
    /// What another candidate has learnt, or the interface: initiations of these keys are later than that, or recordings.
    Learn {
        slot: Slot,
        stamps: Vec<(PublicKey, Tai64n)>,
    },
    /// The same of a process before this one, by the file that it has left.
    Recall {
        slot: Slot,
        stamps: Vec<(PublicKey, Tai64n)>,
    },
    /// Peers that stand at the interface already, or are about to by the owner's doing. The directory is asked for each, in time.
    Adopt {
        slot: Slot,
        peers: Vec<(PublicKey, Adopted)>,
    },
    /// It is done.
    Adopted(Expected),
    /// The configuration names these keys, with these inner prefixes: they are nobody's to let in or to remove, and stand or will by the owner's doing.
    Configured {
        slot: Slot,
        peers: Vec<(PublicKey, Vec<IpNet>)>,
    },
    /// No more: they do not stand any more, and may knock.
    ConfiguredNoMore {
        slot: Slot,
        keys: Vec<PublicKey>,
    },
    /// A peer was heard then.
    Seen {
        slot: Slot,
        key: PublicKey,
        at: Instant,
    },
    /// A peer is not at its interface any more, and not by our doing.
    Gone {
        slot: Slot,
        key: PublicKey,
    },
    /// The directory says that something about these keys has changed.
    Changed(Vec<PublicKey>),
    /// The directory may have said something that was missed.
    AllChanged,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    pub endpoint: SocketAddr,
    pub registered: Arc<Registered>,
    pub heard: Instant,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An initiation of this key was genuine: what is not later is a recording, at other candidates as well.
    Stamp { slot: Slot, key: PublicKey, stamp: Tai64n },
    /// A peer is about to stand at its interface. Told before anybody answers it: whoever takes the shard over knows of each session that there is.
    Admitted { slot: Slot, key: PublicKey, endpoint: SocketAddr, registered: Arc<Registered> },
    /// The directory says something else of a peer than before.
    Updated { slot: Slot, key: PublicKey, registered: Arc<Registered> },
    /// A peer is taken from its interface, or did not come to stand there.
    Reaped { slot: Slot, key: PublicKey, why: Reaped },
}

/// An initiation that the userspace device could open, of nobody whom it knows (`Event::UnknownInitiation`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    pub interface: IfName,
    pub source: SocketAddr,
    pub key: PublicKey,
    pub stamp: Tai64n,
    pub bytes: Box<Initiation>,
}

/// The way in. Cheap to clone; what is sent after the end is lost.
#[derive(Debug, Clone)]
pub struct Door {
    orders: mpsc::UnboundedSender<Order>,
    knocks: mpsc::Sender<(Knock, Instant)>,
    lost: Arc<AtomicU64>,
    board: Arc<Board>,
}

impl Door {
    /// Never waits. Orders are the owner's own, and no more than that sends.
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// As [`Order::Adopt`]; they are on the board when this returns, so whoever sets them at once need not fear the reconciler.
    pub fn adopt(&self, of: &TenantShard, slot: Slot, peers: Vec<(PublicKey, Adopted)>) {
        let allowed = peers.iter().map(|(key, adopted)| (*key, adopted.registered.allowed.clone()));
        let expected = Board::expect(&self.board, of, allowed.collect());
        self.order(Order::Adopt { slot, peers });
        self.order(Order::Adopted(expected));
    }

    /// Never waits: what there is no room for is lost, and counted. Its sender tries again after 5 s.
    pub fn knock(&self, knock: Knock) {
        if self.knocks.try_send((knock, Instant::now())).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub fn report(&self) -> Report {
        Report { knocks_lost: self.lost.load(Relaxed), ..self.board.report() }
    }
}

/// The running thread. Dropping it ends it; peers stay.
#[derive(Debug)]
pub struct Jit {
    door: Door,
    tunnels: Tunnels,
    used: Option<Used>,
    thread: Option<JoinHandle<()>>,
}

impl Jit {
    /// In the calling thread's network namespace. News should be taken in time: they wait without a limit.
    pub fn start(setup: Setup) -> anyhow::Result<(Jit, mpsc::UnboundedReceiver<News>)> {
        let (orders, orders_in) = mpsc::unbounded_channel();
        let (knocks, knocks_in) = mpsc::channel(KNOCKS);
        let (news, news_out) = mpsc::unbounded_channel();
        let board = Arc::new(Board::default());
        let door = Door { orders, knocks, lost: Arc::default(), board: board.clone() };
        let (tunnels, used) = (setup.tunnels.clone(), setup.used.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime of `jit`")?;
        let (done, done_in) = mpsc::unbounded_channel();
        let hands = hands::start(&setup, &done)?;
        let inbox = actor::Inbox { orders: orders_in, knocks: knocks_in, done: done_in };
        let actor = actor::Actor::new(setup, hands, done, news, board);
        let work = move || {
            if let Err(error) = urgent::urgent(urgent::COPIES) {
                tracing::warn!(
                    "no high priority for `jit` ({error}): allow CAP_SYS_NICE or LimitNICE, or a busy machine may delay new peers"
                );
            }
            runtime.block_on(actor.run(inbox));
        };
        let thread = std::thread::Builder::new().name("jit".into()).spawn(work).context("cannot start the thread jit")?;
        Ok((Jit { door, tunnels, used, thread: Some(thread) }, news_out))
    }

    pub fn door(&self) -> &Door {
        &self.door
    }

    /// As [`Door::report`], with what the device has lost on the way to us, and what waits for the disk.
    pub fn report(&self) -> Report {
        let unwritten = self.used.as_ref().map_or(0, Used::waiting);
        Report { events_lost: self.tunnels.events_lost(), unwritten, ..self.door.report() }
    }

    /// What was begun is done before this returns.
    pub fn stop(self) {}
}

impl Drop for Jit {
    fn drop(&mut self) {
        self.door.order(Order::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread jit had panicked");
        }
    }
}
