//! The loop: what comes goes into the machine, and what it decides is carried out.

mod configured;
mod installing;
mod orders;

use super::board::Board;
use super::configured::Configured;
use super::ears::Ears;
use super::hands::{self, Hands, Install, Job};
use super::report::{Greeted, Report};
use super::{Knock, News, Order, Setup, WhoIs};
use crate::daemon::until;
use crate::gateway::stamps::Used;
use crate::kernel::knock_socket::Captured;
use crate::model::{IfName, PublicKey, Slot, TenantShard};
use crate::proto::jit::{Answer, Effect, Generations, Input, Machine, Peer, Reaped, Registered, Ticket};
use crate::userspace::wireguard::message::Initiation as Message;
use crate::wire::wireguard::{Claim, Initiation, Responder, Tai64n};
use ipnet::IpNet;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Peers that are being installed, beyond which no further initiations are taken: they wait where they come from, and are lost there.
const MOST: usize = 4096;
/// Messages of each kind in one turn.
const TURN: usize = 64;
/// Initiations whose circumstances are remembered until they lead to a peer or to nothing. More than the machine keeps.
const STRANGERS: usize = 65_536;
/// Questions to the directory about peers that stand, as long as so few are asked for others.
const RECHECKS: usize = 32;
/// Between two warnings of one kind.
const QUIET: Duration = Duration::from_secs(1);

pub struct Inbox {
    pub orders: mpsc::UnboundedReceiver<Order>,
    pub knocks: mpsc::Receiver<(Knock, Instant)>,
    pub done: mpsc::UnboundedReceiver<Done>,
}

/// What was done elsewhere.
pub enum Done {
    Claimed { ticket: Ticket, claim: Option<Box<Claim>>, responder: Arc<Responder> },
    Proved { ticket: Ticket, stamp: Option<Tai64n> },
    Answered { peer: Peer, answer: Answer },
    Installed { install: Box<Install>, result: anyhow::Result<hands::Greeted> },
    Updated { peer: Peer, registered: Arc<Registered>, result: anyhow::Result<()> },
    Removed { peer: Peer, result: anyhow::Result<()> },
}

/// What the first step leaves for the second.
#[derive(Debug)]
enum Opened {
    /// By the machine's own steps, with this key.
    Half(Box<Claim>, Arc<Responder>),
    /// By the device, both at once.
    Whole(Tai64n),
}

/// What is known of an initiation beside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Stranger {
    /// When it came.
    pub at: Instant,
    /// Where it was sent to, if it was captured.
    pub to: Option<SocketAddr>,
    /// The port of ours at which it came.
    port: Option<u16>,
    /// What the device has made of it.
    opened: Option<(PublicKey, Tai64n)>,
}

struct Served {
    of: TenantShard,
    /// Each of its interfaces.
    gates: Vec<Gate>,
}

struct Gate {
    interface: IfName,
    port: u16,
    responder: Arc<Responder>,
}

impl Served {
    /// Where somebody has knocked; if that one is gone, any.
    fn gate(&self, knocked: Option<u16>) -> Option<&Gate> {
        self.gates.iter().find(|gate| Some(gate.port) == knocked).or(self.gates.first())
    }
}

pub struct Actor {
    machine: Machine<Opened>,
    served: HashMap<Slot, Served>,
    /// At those that are served.
    configured: HashMap<Slot, Configured>,
    slots: HashMap<IfName, Slot>,
    ears: Ears,
    hands: Hands,
    done: mpsc::UnboundedSender<Done>,
    directory: Arc<dyn WhoIs>,
    runtime: Handle,
    patience: Duration,
    news: mpsc::UnboundedSender<News>,
    board: Arc<Board>,
    /// Where stamps outlive the process.
    used: Option<Used>,
    /// By `mac1`.
    strangers: Generations<[u8; 16], Stranger>,
    /// Whom the directory is to be asked about again.
    rechecks: VecDeque<Peer>,
    /// Whose inner addresses are whose, of those on the board.
    owners: HashMap<(Slot, IpNet), PublicKey>,
    greeted: Greeted,
    stuck: u64,
    warned: Option<Instant>,
}

impl Actor {
    pub fn new(
        setup: Setup,
        hands: Hands,
        done: mpsc::UnboundedSender<Done>,
        news: mpsc::UnboundedSender<News>,
        board: Arc<Board>,
    ) -> Self {
        Self {
            machine: Machine::new(setup.config, Instant::now()),
            served: HashMap::new(),
            configured: HashMap::new(),
            slots: HashMap::new(),
            ears: Ears::new(setup.capture),
            hands,
            done,
            directory: setup.directory,
            runtime: setup.runtime,
            patience: setup.config.give_up,
            news,
            board,
            used: setup.used,
            strangers: Generations::new(STRANGERS),
            rechecks: VecDeque::new(),
            owners: HashMap::new(),
            greeted: Greeted::default(),
            stuck: 0,
            warned: None,
        }
    }

    /// Until it is told to stop, or nobody can tell it anything any more.
    pub async fn run(mut self, mut inbox: Inbox) {
        loop {
            let due = self.machine.poll_timeout().map(|(at, _)| at);
            let takes = self.machine.sizes().installing < MOST;
            tokio::select! {
                biased;
                order = inbox.orders.recv() => match order {
                    None | Some(Order::Stop) => break,
                    Some(order) => self.order(order),
                },
                Some(done) = inbox.done.recv() => self.done(done),
                Some((knock, at)) = inbox.knocks.recv(), if takes => self.knock(knock, at),
                () = self.ears.ready(), if takes => self.hear(),
                () = until(due) => self.machine.handle_timeout(Instant::now()),
            }
            self.carry_out();
            for _ in 0..TURN {
                let Ok(done) = inbox.done.try_recv() else { break };
                self.done(done);
                self.carry_out();
            }
            for _ in 0..TURN {
                let Some((knock, at)) = inbox.knocks.try_recv().ok().filter(|_| takes) else { break };
                self.knock(knock, at);
                self.carry_out();
            }
            self.recheck();
            self.publish();
        }
    }

    /// Something that the device has opened. The machine looks at it as at any other, and what it asks for is known already.
    fn knock(&mut self, Knock { interface, source, key, stamp, bytes }: Knock, at: Instant) {
        let Some(&slot) = self.slots.get(&interface) else {
            return self.machine.counters.refuse(crate::proto::jit::Refusal::NoInterface);
        };
        let peer = Peer { slot, key };
        // The device does not know it, so it does not stand, whatever the machine believes. A recording proves nothing.
        let missing = self.machine.peer(&peer).is_some_and(|standing| !standing.installing);
        if missing && self.machine.last(&peer).is_none_or(|last| stamp > last) {
            if self.served.get(&slot).is_some_and(|served| served.gates.len() > 1) {
                return self.join(peer, interface, (source, stamp, bytes));
            }
            self.gone(peer);
        }
        if let Ok(initiation) = Initiation::try_from(*bytes) {
            let gates = self.served.get(&slot).into_iter().flat_map(|served| &served.gates);
            let port = gates.into_iter().find(|gate| gate.interface == interface).map(|gate| gate.port);
            self.strangers.insert(initiation.mac1(), Stranger { at, to: None, port, opened: Some((key, stamp)) });
        }
        self.input(Input::Datagram { slot, from: source, payload: &*bytes });
    }

    /// A peer that stands has come to an interface of its shard that does not know it yet, while it may have a session at the other.
    fn join(&mut self, peer: Peer, interface: IfName, (source, stamp, bytes): (SocketAddr, Tai64n, Box<Message>)) {
        let Some(registered) = self.machine.peer(&peer).map(|standing| standing.registered.clone()) else { return };
        self.machine.learn(peer, stamp);
        self.stamped(&peer, stamp);
        self.hands.give(Job::Join { peer, interface, registered, source, stamp, bytes });
    }

    /// What has come to our ports. What the machine refuses at once is not remembered, so that a flood makes nothing else forgotten.
    fn hear(&mut self) {
        let (machine, strangers) = (&mut self.machine, &mut self.strangers);
        self.ears.receive(|slot, Captured { from, to, payload }| {
            let (at, refused) = (Instant::now(), all_refused(machine));
            machine.handle(at, Input::Datagram { slot, from, payload });
            let initiation = <[u8; Initiation::LEN]>::try_from(payload).ok().and_then(|bytes| Initiation::try_from(bytes).ok());
            if let Some(initiation) = initiation.filter(|_| all_refused(machine) == refused) {
                strangers.insert(initiation.mac1(), Stranger { at, to: Some(to), port: Some(to.port()), opened: None });
            }
        });
    }

    /// It may stand half, or come again at once: what is left of it is taken away first.
    fn gone(&mut self, peer: Peer) {
        if self.machine.peer(&peer).is_some() {
            self.input(Input::Gone { peer });
            self.tell(News::Reaped { slot: peer.slot, key: peer.key, why: Reaped::Gone });
            self.remove(peer);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Claimed { ticket, claim, responder } => {
                let claim = claim.map(|claim| (*claim.key(), Opened::Half(claim, responder)));
                self.input(Input::Claimed { ticket, claim });
            }
            Done::Proved { ticket, stamp } => self.input(Input::Proved { ticket, stamp }),
            Done::Answered { peer, answer } => {
                let answer = self.comply(&peer, answer);
                self.input(Input::Answered { peer, answer });
            }
            Done::Installed { install, result } => self.installed(*install, result),
            Done::Updated { peer, registered, result } => match result {
                Ok(()) if self.machine.peer(&peer).is_some() => self.tell(News::Updated { slot: peer.slot, key: peer.key, registered }),
                Ok(()) => self.put_right(peer, Some(&registered.allowed)),
                Err(error) => self.warn("changed", &peer, &error),
            },
            Done::Removed { peer, result } => {
                if let Err(error) = result {
                    self.stuck += 1;
                    self.warn("removed", &peer, &error);
                }
                self.unless_it_stands(&peer);
                if self.machine.is_configured(&peer) {
                    self.put_right(peer, None);
                }
            }
        }
    }

    fn input(&mut self, input: Input<'_, Opened>) {
        self.machine.handle(Instant::now(), input);
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.machine.next_effect() {
            match effect {
                Effect::Claim { ticket, slot, initiation } => self.claim(ticket, slot, initiation),
                Effect::LookUp { peer } => self.look_up(peer),
                Effect::Prove { ticket, claim: Opened::Whole(stamp), .. } => self.input(Input::Proved { ticket, stamp: Some(stamp) }),
                Effect::Prove { ticket, claim: Opened::Half(claim, responder), .. } => {
                    self.hands.give(Job::Prove { ticket, responder, claim });
                }
                Effect::Stamp { peer, stamp } => self.stamped(&peer, stamp),
                Effect::Install { peer, endpoint, registered, initiation } => self.install(peer, endpoint, registered, initiation),
                // With the installing, where it is known whether it answered: one way less.
                Effect::Initiate { .. } => {}
                Effect::Update { peer, registered } => {
                    self.put(&peer, &registered);
                    for gate in self.served.get(&peer.slot).into_iter().flat_map(|served| &served.gates) {
                        self.hands.give(Job::Update { peer, interface: gate.interface.clone(), registered: registered.clone() });
                    }
                }
                Effect::Reap { peer, why } => {
                    // Told before: whoever sets it once more all the same can know.
                    self.tell(News::Reaped { slot: peer.slot, key: peer.key, why });
                    self.remove(peer);
                }
            }
        }
    }

    fn claim(&mut self, ticket: Ticket, slot: Slot, initiation: Arc<Initiation>) {
        let stranger = self.strangers.get(&initiation.mac1());
        let (opened, knocked) = stranger.map_or((None, None), |stranger| (stranger.opened, stranger.port));
        match (opened, self.served.get(&slot).and_then(|served| served.gate(knocked))) {
            (Some((key, stamp)), _) => self.input(Input::Claimed { ticket, claim: Some((key, Opened::Whole(stamp))) }),
            (None, Some(gate)) => self.hands.give(Job::Claim { ticket, responder: gate.responder.clone(), initiation }),
            (None, None) => self.input(Input::Claimed { ticket, claim: None }),
        }
    }

    fn look_up(&mut self, peer: Peer) {
        let Some(of) = self.served.get(&peer.slot).map(|served| served.of.clone()) else {
            return self.input(Input::Answered { peer, answer: Answer::Failed });
        };
        let (directory, done, patience) = (self.directory.clone(), self.done.clone(), self.patience);
        self.runtime.spawn(async move {
            let answer = tokio::time::timeout(patience, directory.look_up(&of, &peer.key)).await.unwrap_or(Answer::Failed);
            let _ = done.send(Done::Answered { peer, answer });
        });
    }

    /// An initiation of it was genuine, and the latest.
    fn stamped(&self, Peer { slot, key }: &Peer, stamp: Tai64n) {
        self.keep(*slot, vec![(*key, stamp)]);
        self.tell(News::Stamp { slot: *slot, key: *key, stamp });
    }

    /// For the next process.
    fn keep(&self, slot: Slot, stamps: Vec<(PublicKey, Tai64n)>) {
        if let (Some(used), Some(served)) = (&self.used, self.served.get(&slot)) {
            used.tell(&served.of, stamps);
        }
    }

    fn tell(&self, news: News) {
        // Lost when the owner has ended.
        let _ = self.news.send(news);
    }

    fn warn(&mut self, what: &str, peer: &Peer, error: &anyhow::Error) {
        if self.warned.is_none_or(|at| at.elapsed() >= QUIET) {
            self.warned = Some(Instant::now());
            tracing::warn!("peer {} at slot {} could not be {what}: {error:#}", peer.key, peer.slot.get());
        }
    }

    fn publish(&mut self) {
        self.board.publish(Report {
            counters: self.machine.counters,
            sizes: self.machine.sizes(),
            directory_is_away: self.machine.directory_is_away(),
            jobs: self.hands.waiting(),
            rechecks: self.rechecks.len(),
            captures_lost: self.ears.lost(),
            greeted: self.greeted,
            stuck: self.stuck,
            ..Report::default()
        });
    }
}

fn all_refused<C>(machine: &Machine<C>) -> u64 {
    machine.counters.refusals().map(|(_, count)| count).sum()
}
