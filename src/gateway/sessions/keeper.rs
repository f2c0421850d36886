//! The thread that knows where peers are.

use super::status::Status;
use super::tunnels::{News, Remote, Tunnels};
use super::{Order, Served};
use crate::gateway::ha::sync;
use crate::model::{IfName, PublicKey, TenantShard};
use crate::proto::wake::{Call, Wake};
use crate::userspace::wireguard::Event;
use crate::wire::sync::peer::{PeerRecord, PeerState};
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

/// Between looks at what nobody tells of: our own stamp, and all of the kernel's peers.
const LOOK: Duration = Duration::from_secs(1);
/// The same while answers of those who are called must be looked for.
const LOOK_FOR_ANSWERS: Duration = Duration::from_millis(50);
/// Between two words about a peer that is merely active: whoever is called first after a failover should be in the midst of something.
const ACTIVE: Duration = Duration::from_secs(5);
/// By how much our own stamps may be ahead of the last that was told: of two looks, and clocks of a node that are adjusted.
const STAMPS_AHEAD: Duration = Duration::from_secs(3);
/// Events that are told of together.
const TOGETHER: usize = 256;

#[derive(Debug)]
pub struct Keeper {
    tunnels: Tunnels,
    /// Who passes on what becomes of peers, if anybody.
    tell: Option<sync::Orders>,
    shards: BTreeMap<TenantShard, Shard>,
    /// Whose addresses are here.
    here: BTreeSet<TenantShard>,
    /// Of shards that come here.
    known: BTreeMap<TenantShard, Vec<PeerState>>,
    wake: Wake<Peer>,
    look: Instant,
    status: Arc<Status>,
}

type Peer = (TenantShard, PublicKey);

#[derive(Debug)]
struct Shard {
    served: Served,
    /// What those who are called are to be set to.
    called: HashMap<PublicKey, Remote>,
    /// Of those who have a session what was last told, and when.
    heard: HashMap<PublicKey, (News, Instant)>,
    /// The last of our own stamps that was told.
    told: Tai64n,
}

impl Keeper {
    pub fn new(tunnels: Tunnels, status: Arc<Status>) -> Self {
        let now = Instant::now();
        Self {
            tunnels,
            tell: None,
            shards: BTreeMap::new(),
            here: BTreeSet::new(),
            known: BTreeMap::new(),
            wake: Wake::new(now, Wake::<Peer>::RATE),
            look: now + LOOK,
            status,
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, mut events: Option<mpsc::Receiver<Event>>) {
        let mut happened = Vec::with_capacity(TOGETHER);
        loop {
            let wake = self.wake.poll_timeout(Instant::now());
            let until = wake.unwrap_or(self.look).min(self.look);
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None | Some(Order::Stop) => return,
                    Some(order) => self.obey(order).await,
                },
                () = next(events.as_mut(), &mut happened) => self.hear(happened.drain(..)),
                () = sleep_until(until.into()) => {}
            }
            let now = Instant::now();
            self.call(now).await;
            if now >= self.look {
                self.look().await;
                let wait = if self.wake.is_empty() || self.tunnels.tells() { LOOK } else { LOOK_FOR_ANSWERS };
                self.look = Instant::now() + wait;
            }
            self.status.set_asleep(self.wake.len());
        }
    }

    async fn obey(&mut self, order: Order) {
        tracing::debug!(?order, "sessions");
        match order {
            Order::Serve { shards, here } => self.serve(shards, &here).await,
            Order::Tell(orders) => self.tell = Some(orders),
            Order::Known { of, peers } => drop(self.known.insert(of, peers)),
            Order::Taken(of) => {
                self.here.insert(of.clone());
                self.take(&of).await;
            }
            Order::Released(of) => {
                self.here.remove(&of);
                self.wake.retain(|(shard, _)| *shard != of);
                if let Some(shard) = self.shards.get_mut(&of) {
                    (shard.called, shard.heard) = Default::default();
                    if let Err(error) = self.tunnels.set_sending(&shard.served.interface, false) {
                        tracing::error!("{of}: the tunnel may still speak: {error:#}");
                    }
                }
            }
            Order::Stop => {}
        }
    }

    async fn serve(&mut self, shards: Vec<Served>, here: &BTreeSet<TenantShard>) {
        let mut old = std::mem::take(&mut self.shards);
        for served in shards {
            let of = served.of.clone();
            let former = old.remove(&of);
            let same = former.as_ref().is_some_and(|shard| shard.served.interface == served.interface && shard.served.key == served.key);
            let shard = match former.filter(|_| same) {
                Some(former) => {
                    let gone = former.served.peers.keys().filter(|key| !served.peers.contains_key(key));
                    self.tell(&of, gone.map(|key| PeerRecord::Gone(*key)).collect());
                    Shard { served, ..former }
                }
                None => Shard { served, called: HashMap::new(), heard: HashMap::new(), told: Tai64n::NEVER },
            };
            if !same && (here.contains(&of) || !shard.served.shared) {
                self.here.insert(of.clone());
            }
            self.shards.insert(of.clone(), shard);
            if !same && self.here.contains(&of) {
                self.take(&of).await;
            }
        }
        let Self { here, known, shards, .. } = self;
        here.retain(|of| shards.contains_key(of));
        known.retain(|of, _| shards.contains_key(of));
    }

    /// A shard is here: it speaks, its peers are where they were heard last, and are called.
    async fn take(&mut self, of: &TenantShard) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        let (states, interface) = (self.known.remove(of).unwrap_or_default(), shard.served.interface.clone());
        if let Some(own) = states.iter().find(|state| state.key == shard.served.key) {
            self.tunnels.stamps_after(&interface, own.stamp.plus(own.idle + STAMPS_AHEAD));
        }
        if let Err(error) = self.tunnels.set_sending(&interface, true) {
            tracing::error!("{of}: the tunnel is not there yet: {error:#}");
        }
        let remote = |state: &PeerState| {
            let allowed = shard.served.allowed(state)?;
            Some((state.key, Remote { allowed, endpoint: state.endpoint, heard: state.stamp }))
        };
        let mut remotes: BTreeMap<PublicKey, Remote> = states.iter().filter_map(remote).collect();
        for (key, allowed) in &shard.served.peers {
            remotes.entry(*key).or_insert_with(|| Remote { allowed: allowed.clone(), ..Remote::default() });
        }
        let remotes: Vec<(PublicKey, Remote)> = remotes.into_iter().collect();
        if let Err(error) = self.tunnels.set_peers(&interface, &remotes).await {
            tracing::error!("{of}: not all peers could be set: {error:#}");
        }
        shard.called = remotes.into_iter().filter(|(_, remote)| remote.endpoint.is_some()).collect();
        let called = states.iter().filter(|state| shard.called.contains_key(&state.key));
        self.wake.add(called.map(|state| ((of.clone(), state.key), state.idle)));
        let count = shard.called.len();
        if count > 0 {
            tracing::info!("{of}: calling {count} peers");
        }
    }

    /// Handshakes with those whose turn it is.
    async fn call(&mut self, now: Instant) {
        while let Some(Call { peer: (of, key), again }) = self.wake.next(now) {
            let Some(shard) = self.shards.get_mut(&of) else { continue };
            let Some(remote) = shard.called.get(&key) else { continue };
            self.status.called(again);
            if let Err(error) = self.tunnels.initiate(&shard.served.interface, &key, remote, again).await {
                tracing::debug!("{of}: peer {key} cannot be called: {error:#}");
            }
            if !self.tunnels.tells() {
                self.look = self.look.min(now + LOOK_FOR_ANSWERS);
            }
        }
    }

    /// What the device tells.
    fn hear(&mut self, events: impl Iterator<Item = Event>) {
        let mut records: BTreeMap<TenantShard, Vec<PeerRecord>> = BTreeMap::new();
        for event in events {
            let (interface, key, endpoint, stamp) = match event {
                Event::Handshake { interface, key, endpoint, heard } => (interface, key, endpoint, heard),
                Event::Roamed { interface, key, endpoint } => (interface, key, endpoint, Tai64n::NEVER),
                Event::UnknownInitiation { .. } => continue,
            };
            let Some(of) = self.shard_of(&interface) else { continue };
            self.awake(&of, key);
            records.entry(of).or_default().push(PeerRecord::Told(state(key, Some(endpoint), stamp)));
        }
        for (of, records) in records {
            self.tell(&of, records);
        }
    }

    fn tell(&self, of: &TenantShard, records: Vec<PeerRecord>) {
        if let Some(tell) = &self.tell {
            tell.peers(of, records);
        }
    }

    fn shard_of(&self, interface: &IfName) -> Option<TenantShard> {
        self.shards.values().find(|shard| shard.served.interface == *interface).map(|shard| shard.served.of.clone())
    }

    fn awake(&mut self, of: &TenantShard, key: PublicKey) {
        if self.wake.awake(&(of.clone(), key)) {
            self.status.answered();
            if let Some(shard) = self.shards.get_mut(of) {
                shard.called.remove(&key);
            }
        }
    }

    /// What nobody tells of.
    async fn look(&mut self) {
        let now = Instant::now();
        for of in self.here.clone() {
            let Some(shard) = self.shards.get_mut(&of) else { continue };
            let mut records = Vec::new();
            let stamp = self.tunnels.stamp(&shard.served.interface).filter(|stamp| *stamp > shard.told);
            if let Some(stamp) = stamp {
                shard.told = stamp;
                records.push(PeerRecord::Told(state(shard.served.key, None, stamp)));
            }
            let mut heard = Vec::new();
            match self.tunnels.look(&shard.served.interface).await {
                Ok(peers) => {
                    for (key, news) in peers {
                        let told = shard.heard.get(&key);
                        let agreed = told.is_none_or(|(told, _)| (told.endpoint, told.agreed) != (news.endpoint, news.agreed));
                        let active = told.is_some_and(|(told, at)| told.received != news.received && now >= *at + ACTIVE);
                        if agreed || active {
                            records.extend(news.endpoint.map(|at| PeerRecord::Told(state(key, Some(at), Tai64n::NEVER))));
                            shard.heard.insert(key, (news, now));
                        }
                        if agreed && !self.tunnels.tells() {
                            heard.push(key);
                        }
                    }
                }
                Err(error) => tracing::debug!("{of}: peers cannot be looked at: {error:#}"),
            }
            heard.into_iter().for_each(|key| self.awake(&of, key));
            self.tell(&of, records);
        }
    }
}

impl Served {
    /// The inner prefixes of a peer; none: nobody knows it here.
    fn allowed(&self, state: &PeerState) -> Option<Vec<IpNet>> {
        let member = || state.member.as_ref().map(|member| member.allowed.clone());
        self.peers.get(&state.key).cloned().or_else(member)
    }
}

fn state(key: PublicKey, endpoint: Option<SocketAddr>, stamp: Tai64n) -> PeerState {
    PeerState { key, stamp, endpoint, idle: Duration::ZERO, member: None }
}

/// Waits for events, and takes those that are there.
async fn next(events: Option<&mut mpsc::Receiver<Event>>, happened: &mut Vec<Event>) {
    let came = match events {
        Some(events) => events.recv_many(happened, TOGETHER).await,
        None => 0,
    };
    if came == 0 {
        // There are none, or the device has ended.
        std::future::pending::<()>().await;
    }
}
