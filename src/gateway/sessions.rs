//! Sessions with the WireGuard peers of this node's shards: where each is, that the other candidates know it, and that each is called as soon as
//! a shard comes here.
//!
//! ```text
//!  device: events ----+            +--> sync --UDP--> the other candidates: endpoints, stamps
//!  kernel: read ------+--> Keeper -+
//!  sync: known -------+            +--> Tunnels: peers set, handshakes begun
//!  hands: taken ------+
//! ```
//! Sessions die with the node that had them; what is left of them is an endpoint and a stamp for each peer. A host would find out by itself after
//! some 15 s (WireGuard's paper, section 6.2: Keepalive-Timeout and Rekey-Timeout, to whoever still sends); it is called instead, and back after a round trip.

mod keeper;
mod shard;
mod status;
pub mod tunnels;

use crate::gateway::ha::sync;
use crate::gateway::strangers::{Left, Way};
use crate::model::{PublicKey, Slot, TenantShard};
use crate::plan::gateway::ends::{End, Heard};
use crate::userspace::urgent;
use crate::userspace::wireguard::Event;
use crate::wire::sync::peer::PeerState;
use anyhow::Context;
use ipnet::IpNet;
use keeper::Keeper;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tunnels::Tunnels;

pub use status::Status;

/// A shard whose tunnels this node may end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub of: TenantShard,
    pub slot: Slot,
    /// The interfaces with the shard's own keys, that of the present one first.
    pub ends: Vec<End>,
    /// Whether other nodes may have its addresses; if not, they are always here.
    pub shared: bool,
    /// Peers that stand without anybody's asking, and their inner prefixes.
    pub peers: BTreeMap<PublicKey, Vec<IpNet>>,
}

#[derive(Debug)]
pub enum Order {
    /// Exactly these shards, and after each pass again: their interfaces stand now, if they could be had. Whom a process before this one had let in at
    /// those that are not known yet.
    Serve {
        shards: Vec<Served>,
        left: Left,
    },
    /// The configuration names this peer at a shard with these prefixes; none: no more.
    Configure {
        of: TenantShard,
        key: PublicKey,
        prefixes: Option<Vec<IpNet>>,
    },
    /// Who is to be told of what becomes of peers.
    Tell(sync::Orders),
    /// What another node has told of a shard that is about to come here, or has just come.
    Known {
        of: TenantShard,
        peers: Vec<PeerState>,
    },
    /// The HaVips of a shard are about to be here: its tunnel speaks and knows its peers, of whom none is called yet. The sender is told when that is so, which
    /// is not before [`Order::Known`].
    Come(TenantShard, SyncSender<()>),
    /// They are here, and the neighbours know.
    Taken(TenantShard),
    /// They were another node's too until now, which has called its peers: hosts have sessions with that node, and would miss this one after 15 s.
    Healed(TenantShard),
    /// They have gone.
    Released(TenantShard),
    Stop,
}

/// The way to the thread. Without one, orders come to nothing: the tunnels are others.
#[derive(Debug, Clone, Default)]
pub struct Orders(Option<mpsc::UnboundedSender<Order>>);

impl Orders {
    /// Never waits. What is sent to a thread that has ended is lost, as it should be.
    pub fn send(&self, order: Order) {
        if let Some(queue) = &self.0 {
            let _ = queue.send(order);
        }
    }

    /// It is about to come here ([`Order::Come`]).
    pub fn come(&self, of: TenantShard) -> Coming {
        let (done, ready) = sync_channel(1);
        self.send(Order::Come(of, done));
        Coming::of(ready)
    }
}

/// A shard that is about to come, whose tunnel says when it is ready.
#[derive(Debug)]
pub struct Coming(Receiver<()>);

impl Coming {
    /// Of whoever holds the sender to this.
    pub fn of(ready: Receiver<()>) -> Self {
        Self(ready)
    }

    /// Whether it is ready, or nobody has it any more, after so long at most.
    pub fn wait(&self, within: Duration) -> bool {
        self.0.recv_timeout(within) != Err(RecvTimeoutError::Timeout)
    }
}

/// The thread.
#[derive(Debug, Default)]
pub struct Sessions {
    orders: Orders,
    status: Arc<Status>,
    thread: Option<JoinHandle<()>>,
}

impl Sessions {
    /// `events`: of the device, where this process carries the tunnels. `way`: where peers are let in that nobody has configured.
    /// `again`: rung when what goes to a peer is to leave by another interface.
    pub fn start(tunnels: Tunnels, events: Option<mpsc::Receiver<Event>>, way: Option<Way>, again: Arc<Notify>) -> anyhow::Result<Self> {
        let (queue, inbox) = mpsc::unbounded_channel();
        let status = Arc::<Status>::default();
        let keeper = Keeper::new(tunnels, status.clone(), way, again);
        // A runtime to itself: what it does at a promotion does not wait for callers of the API.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot make a runtime")?;
        let work = move || {
            let _ = urgent::urgent(urgent::PACKETS);
            runtime.block_on(keeper.run(inbox, events));
        };
        let thread = std::thread::Builder::new().name("wg-sessions".into()).spawn(work).context("cannot start the thread wg-sessions")?;
        Ok(Self { orders: Orders(Some(queue)), status, thread: Some(thread) })
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    /// By which interface each peer of a shard with two of them was heard last.
    pub fn heard(&self) -> Heard {
        self.status.heard()
    }

    pub fn stop(&mut self) {
        self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread wg-sessions had panicked");
        }
    }
}
