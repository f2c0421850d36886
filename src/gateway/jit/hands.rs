//! The threads that open initiations, install peers, greet them, and remove them.

use super::actor::{Done, Stranger};
use super::{Greeting, Setup};
use crate::gateway::sessions::tunnels::{Remote, Tunnels};
use crate::kernel::knock_socket::Again;
use crate::model::{IfName, PublicKey};
use crate::proto::jit::{Generations, Peer, Registered, Ticket};
use crate::userspace::urgent;
use crate::userspace::wireguard::message::Initiation as Message;
use crate::wire::wireguard::{Claim, Initiation, Responder, SharedSecret, Tai64n};
use anyhow::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Behind all that carries packets (-15) and what that waits for (-10), before ordinary threads.
const NICE: libc::c_int = -5;
/// Secrets that are remembered, of all hands together: what the second step of an initiation costs otherwise. About 150 bytes each.
const SECRETS: usize = 16_384;

pub enum Job {
    /// The first step.
    Claim {
        ticket: Ticket,
        responder: Arc<Responder>,
        initiation: Arc<Initiation>,
    },
    /// The second step.
    Prove {
        ticket: Ticket,
        responder: Arc<Responder>,
        claim: Box<Claim>,
    },
    /// Sets the peer and begins its session.
    Install(Box<Install>),
    Update {
        peer: Peer,
        interface: IfName,
        registered: Arc<Registered>,
    },
    /// Sets a peer of the shard's other interface, and answers it.
    Join {
        peer: Peer,
        interface: IfName,
        registered: Arc<Registered>,
        source: SocketAddr,
        stamp: Tai64n,
        bytes: Box<Message>,
    },
    Remove {
        peer: Peer,
        interface: IfName,
    },
}

pub struct Install {
    pub peer: Peer,
    /// Where it has knocked.
    pub interface: IfName,
    /// Where it may knock next.
    pub others: Vec<IfName>,
    pub endpoint: SocketAddr,
    pub registered: Arc<Registered>,
    /// Former keys of its host: their inner addresses are this one's now.
    pub replaces: Vec<PublicKey>,
    pub initiation: Arc<Initiation>,
    pub stranger: Stranger,
    /// The latest stamp of this key: that of this initiation, or of one that came behind it.
    pub stamp: Tai64n,
    /// Who knocks is kept out by the interface itself unless it shows where it is: nothing that we let in there would be answered.
    pub loaded: bool,
}

/// How the session of a peer was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeted {
    Answered,
    Initiated,
    Failed,
}

/// All hands. Dropping it ends them, when they have done what they were given.
pub struct Hands {
    hands: Vec<mpsc::UnboundedSender<Job>>,
    threads: Vec<JoinHandle<()>>,
    waiting: Arc<AtomicUsize>,
    next: usize,
}

impl Hands {
    /// What concerns one key is done in the order in which it is given.
    pub fn give(&mut self, job: Job) {
        let place = match &job {
            Job::Claim { .. } => {
                self.next = self.next.wrapping_add(1);
                self.next
            }
            Job::Prove { claim, .. } => place(claim.key()),
            Job::Install(install) => place(&install.peer.key),
            Job::Update { peer, .. } | Job::Join { peer, .. } | Job::Remove { peer, .. } => place(&peer.key),
        };
        // Bounded by the machine: steps by their tickets, peers by those that are being installed (`actor::MOST`).
        if self.hands[place % self.hands.len()].send(job).is_ok() {
            self.waiting.fetch_add(1, Relaxed);
        }
    }

    /// Jobs that wait or are being done.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.hands.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of `jit` had panicked");
            }
        }
    }
}

/// Keys are as good as random.
fn place(key: &PublicKey) -> usize {
    usize::from(key.bytes()[0]) | usize::from(key.bytes()[1]) << 8
}

pub fn start(setup: &Setup, done: &mpsc::UnboundedSender<Done>) -> anyhow::Result<Hands> {
    let mut all = Hands { hands: Vec::new(), threads: Vec::new(), waiting: Arc::default(), next: 0 };
    let again = setup.capture.as_ref().map(|_| Again::open().map(Arc::new)).transpose()?;
    for n in 0..setup.hands.get() {
        let (sender, mut jobs) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start the runtime of a hand of `jit`")?;
        let mut hand = Hand {
            tunnels: setup.tunnels.clone(),
            greeting: setup.greeting,
            again: again.clone(),
            secrets: Generations::new(SECRETS / setup.hands.get()),
            done: done.clone(),
        };
        let waiting = all.waiting.clone();
        let work = move || {
            // Without the right it is as ordinary as all else; the actor has said so.
            let _ = urgent::urgent(NICE);
            runtime.block_on(async {
                while let Some(job) = jobs.recv().await {
                    let done = hand.work(job).await;
                    waiting.fetch_sub(1, Relaxed);
                    // Lost when the actor has ended.
                    let _ = hand.done.send(done);
                }
            });
        };
        let thread = std::thread::Builder::new().name(format!("jit-hand-{n}")).spawn(work).context("cannot start a hand of `jit`")?;
        all.hands.push(sender);
        all.threads.push(thread);
    }
    Ok(all)
}

struct Hand {
    tunnels: Tunnels,
    greeting: Greeting,
    /// With the kernel's WireGuard.
    again: Option<Arc<Again>>,
    /// By our key and theirs.
    secrets: Generations<(PublicKey, PublicKey), SharedSecret>,
    done: mpsc::UnboundedSender<Done>,
}

impl Hand {
    async fn work(&mut self, job: Job) -> Done {
        match job {
            Job::Claim { ticket, responder, initiation } => {
                Done::Claimed { ticket, claim: responder.claim(&initiation).map(Box::new), responder }
            }
            Job::Prove { ticket, responder, claim } => Done::Proved { ticket, stamp: self.prove(&responder, &claim) },
            Job::Install(install) => {
                let result = self.install(&install).await;
                Done::Installed { install, result }
            }
            Job::Update { peer, interface, registered } => {
                let remote = Remote { allowed: registered.allowed.clone(), ..Remote::default() };
                Done::Updated { peer, registered, result: self.tunnels.set_peer(&interface, &peer.key, &remote).await }
            }
            Job::Join { peer, interface, registered, source, stamp, bytes } => {
                let remote = Remote { allowed: registered.allowed.clone(), endpoint: Some(source), heard: stamp.before() };
                let result = self.tunnels.set_peer(&interface, &peer.key, &remote).await;
                if result.is_ok()
                    && let Err(error) = self.tunnels.answer(&interface, source, &bytes).await
                {
                    // It knocks again, and is no stranger then.
                    tracing::debug!("{} is not answered at {interface}: {error:#}", peer.key);
                }
                Done::Updated { peer, registered, result }
            }
            Job::Remove { peer, interface } => Done::Removed { peer, result: self.tunnels.remove_peer(&interface, &peer.key).await },
        }
    }

    fn prove(&mut self, responder: &Responder, claim: &Claim) -> Option<Tai64n> {
        let both = (*responder.public(), *claim.key());
        if let Some(known) = self.secrets.renew(&both) {
            return claim.open(known);
        }
        let shared = responder.shared_with(claim.key())?;
        let stamp = claim.open(&shared)?;
        // Of those that were proved: a flood of claims pushes none out.
        self.secrets.insert(both, shared);
        Some(stamp)
    }

    async fn install(&self, install: &Install) -> anyhow::Result<Greeted> {
        let Install { peer, interface, registered, endpoint, stamp, .. } = install;
        let answer = self.greeting == Greeting::Answer && !install.loaded;
        // The interface is to take this very initiation yet, and none before it.
        let heard = if answer { stamp.before() } else { *stamp };
        let remote = Remote { allowed: registered.allowed.clone(), endpoint: Some(*endpoint), heard };
        self.tunnels.succeed_peers(interface, &install.replaces, &peer.key, &remote).await?;
        for other in &install.others {
            let remote = Remote { allowed: registered.allowed.clone(), ..Remote::default() };
            if let Err(error) = self.tunnels.succeed_peers(other, &install.replaces, &peer.key, &remote).await {
                tracing::warn!("{} is not known at {other}, the interface of its shard's other key: {error:#}", peer.key);
            }
        }
        if answer {
            match self.answer(install).await {
                Ok(true) => return Ok(Greeted::Answered),
                Ok(false) => {}
                Err(error) => tracing::debug!("{} is not answered, so we begin: {error:#}", peer.key),
            }
        }
        match self.tunnels.initiate(interface, &peer.key, &remote, false).await {
            Ok(()) => Ok(Greeted::Initiated),
            // It stands, and is answered when it knocks again.
            Err(error) => {
                tracing::debug!("no handshake was begun with {}: {error:#}", peer.key);
                Ok(Greeted::Failed)
            }
        }
    }

    async fn answer(&self, Install { interface, endpoint, initiation, stranger, .. }: &Install) -> anyhow::Result<bool> {
        let Some(again) = &self.again else { return self.tunnels.answer(interface, *endpoint, initiation.bytes()).await };
        let Some(to) = stranger.to else { return Ok(false) };
        again.send(*endpoint, to, initiation)?;
        Ok(true)
    }
}
