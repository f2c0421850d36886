//! The thread that knows where peers are.

mod taking;

use super::shard::{Calls, Look, Shard};
use super::status::Status;
use super::tunnels::Tunnels;
use super::{Order, Served};
use crate::gateway::ha::sync;
use crate::gateway::jit::{self, Door, Knock};
use crate::gateway::strangers::{Left, Way};
use crate::model::{Lane, PublicKey, Slot, TenantShard};
use crate::proto::wake::{Call, Wake};
use crate::userspace::wireguard::Event;
use crate::wire::sync::peer::{PeerRecord, PeerState};
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep_until;

/// Between looks at what nobody tells of: our own stamp, what came from whom, and of the kernel's peers everything.
const LOOK: Duration = Duration::from_secs(1);
/// The same while answers of those who are called must be looked for.
const LOOK_FOR_ANSWERS: Duration = Duration::from_millis(50);
/// By how much a node's stamps may be ahead of the last that it told: two looks, and a clock that is being adjusted. Whoever takes over begins there.
const STAMPS_AHEAD: Duration = Duration::from_secs(3);
/// Events that are told of together.
const TOGETHER: usize = 256;

#[derive(Debug)]
pub struct Keeper {
    tunnels: Tunnels,
    /// Who passes on what becomes of peers, if anybody.
    tell: Option<sync::Orders>,
    /// Where those knock that nobody has configured, if they may.
    door: Option<Door>,
    /// What becomes of them.
    news: Option<mpsc::UnboundedReceiver<jit::News>>,
    shards: BTreeMap<TenantShard, Shard>,
    /// Whose addresses are here, or about to be.
    here: BTreeSet<TenantShard>,
    /// Who is to be called when those are here that are about to be.
    coming: BTreeMap<TenantShard, Calls>,
    /// Of shards that come here.
    known: BTreeMap<TenantShard, Vec<PeerState>>,
    /// Those of whose peers nothing is known yet, and who is to be told when it is.
    awaited: BTreeMap<TenantShard, SyncSender<()>>,
    /// Whom a process before this one had let in at shards that have not been here yet.
    left: Left,
    wake: Wake<(TenantShard, PublicKey)>,
    look: Instant,
    status: Arc<Status>,
    /// A pass is wanted: what goes to a peer is to leave by another interface.
    again: Arc<Notify>,
}

/// What is to be told of the peers of some shards.
type Records = BTreeMap<TenantShard, Vec<PeerRecord>>;

impl Keeper {
    pub fn new(tunnels: Tunnels, status: Arc<Status>, way: Option<Way>, again: Arc<Notify>) -> Self {
        let now = Instant::now();
        let (door, news) = way.unzip();
        Self {
            tunnels,
            tell: None,
            door,
            news,
            shards: BTreeMap::new(),
            here: BTreeSet::new(),
            coming: BTreeMap::new(),
            known: BTreeMap::new(),
            awaited: BTreeMap::new(),
            left: Left::new(),
            wake: Wake::new(now, Wake::<(TenantShard, PublicKey)>::RATE),
            look: now + LOOK,
            status,
            again,
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, mut events: Option<mpsc::Receiver<Event>>) {
        let (mut happened, mut admitted) = (Vec::with_capacity(TOGETHER), Vec::with_capacity(TOGETHER));
        loop {
            let wake = self.wake.poll_timeout(Instant::now());
            let until = wake.unwrap_or(self.look).min(self.look);
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None | Some(Order::Stop) => return,
                    Some(order) => {
                        // What happened before it was given: a session from before is no answer to a call that it leads to, and who was taken off is not set.
                        happened.extend(std::iter::from_fn(|| events.as_mut()?.try_recv().ok()));
                        self.hear(happened.drain(..));
                        self.admit_all();
                        self.obey(order).await;
                    }
                },
                () = some(events.as_mut().map(|events| events.recv_many(&mut happened, TOGETHER))) => self.hear(happened.drain(..)),
                () = some(self.news.as_mut().map(|news| news.recv_many(&mut admitted, TOGETHER))) => self.admit(admitted.drain(..)),
                () = sleep_until(until.into()) => {}
            }
            let now = Instant::now();
            self.call(now).await;
            if now >= self.look {
                self.look(now).await;
                let wait = if self.wake.is_empty() || self.tunnels.tells() { LOOK } else { LOOK_FOR_ANSWERS };
                self.look = Instant::now() + wait;
            }
            self.status.set_asleep(self.wake.len());
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Serve { shards, left } => self.serve(shards, left).await,
            Order::Configure { of, key, prefixes } => self.configure(&of, key, prefixes).await,
            Order::Tell(orders) => self.tell = Some(orders),
            Order::Known { of, peers } => {
                self.known.insert(of.clone(), peers);
                // Addresses do not wait for long for what is known.
                if self.here.contains(&of) {
                    self.take(&of).await;
                }
                self.awaited.remove(&of).iter().for_each(tell_ready);
            }
            Order::Come(of, ready) => {
                let was_here = !self.here.insert(of.clone());
                self.coming.insert(of.clone(), Vec::new());
                let is_known = was_here || self.known.contains_key(&of) || !self.shards.contains_key(&of);
                self.take(&of).await;
                if is_known {
                    tell_ready(&ready);
                } else {
                    self.awaited.insert(of, ready);
                }
            }
            Order::Taken(of) => match self.coming.remove(&of) {
                Some(calls) => self.wake.add(calls),
                None => {
                    self.here.insert(of.clone());
                    self.take(&of).await;
                }
            },
            Order::Healed(of) => self.heal(&of).await,
            Order::Released(of) => self.release(&of).await,
            Order::Stop => {}
        }
    }

    async fn serve(&mut self, shards: Vec<Served>, mut left: Left) {
        left.retain(|of, _| !self.shards.contains_key(of));
        self.left.append(&mut left);
        let (mut old, now) = (std::mem::take(&mut self.shards), Instant::now());
        let (mut taken, mut joined, mut expelled) = (Vec::new(), Vec::new(), Vec::new());
        for served in shards {
            let of = served.of.clone();
            if !served.shared {
                self.here.insert(of.clone());
            }
            let here = self.here.contains(&of);
            let shard = match old.remove(&of) {
                Some(mut former) if former.is_of(&served) => {
                    let moves =
                        former.served.ends.iter().any(|end| served.ends.iter().any(|other| end.is(other) && end.port != other.port));
                    let other_ends = former.served.ends != served.ends;
                    // What has another key now is another interface.
                    let stays: Vec<Lane> =
                        served.ends.iter().filter(|end| former.served.ends.iter().any(|other| end.is(other))).map(|end| end.lane).collect();
                    former.stands.retain(|lane, _| stays.contains(lane));
                    let (changed, gone) = former.change(served);
                    for key in &gone {
                        self.wake.awake(&(of.clone(), *key));
                        expelled.push((of.clone(), *key));
                    }
                    if here {
                        let slot = former.served.slot;
                        self.order(jit::Order::ConfiguredNoMore { slot, keys: gone.clone() });
                        self.order(jit::Order::Configured { slot, peers: changed });
                    }
                    self.tell(&of, gone.into_iter().map(PeerRecord::Gone).collect());
                    // What was opened anew knows nobody, and who is called learns of another port.
                    let now_stands: BTreeMap<Lane, u64> = self.standing(&former);
                    let differs = |(lane, stands): (&Lane, &u64)| former.stands.get(lane).is_some_and(|former| former != stands);
                    let anew = former.stands.is_empty() && !now_stands.is_empty() || now_stands.iter().any(differs);
                    taken.extend((here && (moves || anew)).then(|| of.clone()));
                    if anew && !here {
                        // Whoever opened it may have believed that the shard is.
                        for lane in now_stands.keys() {
                            self.tunnels.set_sending(&former.interface(*lane), false).unwrap_or_else(|error| {
                                tracing::error!("{of}: the tunnel may speak, though the shard is not here: {error:#}");
                            });
                        }
                        former.stands = now_stands;
                    } else if other_ends || now_stands.keys().any(|lane| !former.stands.contains_key(lane)) {
                        joined.push(of.clone());
                    }
                    former
                }
                Some(former) => {
                    self.order(jit::Order::Release { slot: former.served.slot });
                    let shard = Shard::new(served);
                    if here {
                        // Under another key nobody has a session; who has had one is where it was, and to be called.
                        let states = former.states(now).into_iter().filter(|state| !former.is_own(&state.key));
                        self.known.entry(of.clone()).or_default().extend(states);
                        taken.push(of.clone());
                    }
                    shard
                }
                None => {
                    taken.extend(here.then(|| of.clone()));
                    let mut shard = Shard::new(served);
                    // With the sessions of the process before it speaks until it is known whether the shard is here.
                    shard.stands = self.standing(&shard);
                    shard
                }
            };
            self.shards.insert(of, shard);
        }
        for (of, key) in expelled {
            self.unless_known(&of, &key).await;
        }
        for of in joined.iter().filter(|of| !taken.contains(of)) {
            self.join(of).await;
        }
        for (of, shard) in &old {
            self.order(jit::Order::Release { slot: shard.served.slot });
            self.here.remove(of);
            self.coming.remove(of);
            self.known.remove(of);
            self.awaited.remove(of);
        }
        for of in taken {
            self.take(&of).await;
        }
    }

    /// The interfaces of a shard as they stand.
    fn standing(&self, shard: &Shard) -> BTreeMap<Lane, u64> {
        shard.served.ends.iter().filter_map(|end| Some((end.lane, self.tunnels.incarnation(&shard.interface(end.lane))?))).collect()
    }

    /// By which interface to send to whom.
    fn show_lanes(&self, of: &TenantShard) {
        if let Some(shard) = self.shards.get(of) {
            self.status.set_heard(of, shard.lanes());
            self.again.notify_one();
        }
    }

    async fn configure(&mut self, of: &TenantShard, key: PublicKey, prefixes: Option<Vec<IpNet>>) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        shard.configure(key, prefixes.clone());
        let (slot, gone) = (shard.served.slot, prefixes.is_none());
        if self.here.contains(of) {
            self.order(match prefixes {
                Some(prefixes) => jit::Order::Configured { slot, peers: vec![(key, prefixes)] },
                None => jit::Order::ConfiguredNoMore { slot, keys: vec![key] },
            });
        }
        if gone {
            self.wake.awake(&(of.clone(), key));
            self.tell(of, vec![PeerRecord::Gone(key)]);
            self.unless_known(of, &key).await;
        }
    }

    /// Handshakes with those whose turn it is.
    async fn call(&mut self, now: Instant) {
        while let Some(Call { peer: (of, key), again }) = self.wake.next(now) {
            self.admit_all();
            if again {
                self.doubt(now, &of);
            }
            let Some(shard) = self.shards.get_mut(&of) else { continue };
            let interfaces = shard.interfaces();
            let Some((remote, anew)) = shard.call(&key) else { continue };
            self.status.called(again);
            // Under which of two keys a host is, only it knows: it answers the right one.
            for interface in interfaces {
                if let Err(error) = self.tunnels.initiate(&interface, &key, remote, again || anew).await {
                    tracing::debug!("{of}: peer {key} cannot be called: {error:#}");
                }
            }
            self.unless_known(&of, &key).await;
            if !self.tunnels.tells() {
                self.look = self.look.min(now + LOOK_FOR_ANSWERS);
            }
        }
    }

    /// Whoever sets or calls a peer may do so just when another has taken it off. Of a stranger there is news before it is done, of one that was configured
    /// an order after. A pass gives its inner addresses back to whose they are by now.
    async fn unless_known(&mut self, of: &TenantShard, key: &PublicKey) {
        self.admit_all();
        let Some(shard) = self.shards.get(of).filter(|shard| !shard.knows(key)) else { return };
        // It may have been adopted just when it was refused.
        self.order(jit::Order::Gone { slot: shard.served.slot, key: *key });
        for interface in shard.interfaces() {
            if let Err(error) = self.tunnels.remove_peer(&interface, key).await {
                tracing::error!("{of}: peer {key} has no place here any more and may still be served: {error:#}");
            }
        }
        self.again.notify_one();
    }

    /// What the device tells.
    fn hear(&mut self, events: impl Iterator<Item = Event>) {
        let (now, mut records, mut moved) = (Instant::now(), Records::new(), BTreeSet::new());
        for event in events {
            let (interface, incarnation, key, endpoint, stamp) = match event {
                Event::Handshake { interface, incarnation, key, endpoint, heard } => (interface, incarnation, key, endpoint, heard),
                Event::UnknownInitiation { interface, source, key, stamp, bytes } => {
                    if let Some(door) = &self.door {
                        door.knock(Knock { interface, source, key, stamp, bytes });
                    }
                    continue;
                }
            };
            let Some(of) = self.find(|shard| shard.has(&interface)).filter(|of| self.here.contains(of)) else { continue };
            self.learn(&of, key, stamp);
            let Some(shard) = self.shards.get_mut(&of) else { continue };
            // What stood before was closed meanwhile, and with it the session.
            if shard.stood(&interface) > incarnation {
                records.entry(of).or_default().push(shard.stamped(now, key, stamp));
                continue;
            }
            if shard.heard_at(key, &interface) && shard.served.ends.len() > 1 {
                moved.insert(of.clone());
            }
            records.entry(of.clone()).or_default().push(shard.heard(now, key, endpoint, stamp));
            self.awake(&of, key);
        }
        moved.iter().for_each(|of| self.show_lanes(of));
        self.tell_all(records);
    }

    /// What there is to be known of those that nobody has configured.
    fn admit_all(&mut self) {
        let admitted: Vec<jit::News> = std::iter::from_fn(|| self.news.as_mut()?.try_recv().ok()).collect();
        if !admitted.is_empty() {
            self.admit(admitted.into_iter());
        }
    }

    /// What becomes of those that nobody has configured.
    fn admit(&mut self, news: impl Iterator<Item = jit::News>) {
        let (now, mut records) = (Instant::now(), Records::new());
        for news in news {
            let slot = match &news {
                jit::News::Stamp { slot, .. }
                | jit::News::Admitted { slot, .. }
                | jit::News::Updated { slot, .. }
                | jit::News::Reaped { slot, .. } => *slot,
            };
            let Some(of) = self.of_slot(slot).filter(|of| self.here.contains(of)) else { continue };
            let Some(shard) = self.shards.get_mut(&of) else { continue };
            let record = match news {
                jit::News::Stamp { key, stamp, .. } => shard.stamped(now, key, stamp),
                jit::News::Admitted { key, endpoint, registered, .. } => shard.admitted(now, key, Some(endpoint), &registered),
                jit::News::Updated { key, registered, .. } => shard.admitted(now, key, None, &registered),
                jit::News::Reaped { key, .. } => {
                    self.wake.awake(&(of.clone(), key));
                    shard.reaped(now, key)
                }
            };
            records.entry(of).or_default().push(record);
        }
        self.tell_all(records);
    }

    /// It has a new session.
    fn awake(&mut self, of: &TenantShard, key: PublicKey) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        if self.wake.awake(&(of.clone(), key)) {
            self.status.answered();
            shard.called.remove(&key);
        }
        self.seen(of, key);
    }

    /// It is there. Which is no answer to a call: it may be by a session that it has given up by now.
    fn seen(&self, of: &TenantShard, key: PublicKey) {
        let Some(shard) = self.shards.get(of) else { return };
        if shard.is_member(&key) {
            let (slot, at) = (shard.served.slot, Instant::now());
            self.order(jit::Order::Seen { slot, key, at });
        }
    }

    /// A stamp that the device has taken by itself: when the peer has gone again, a recording of it must be as worthless as the first one's.
    fn learn(&self, of: &TenantShard, key: PublicKey, stamp: Tai64n) {
        if let Some(shard) = self.shards.get(of).filter(|shard| stamp != Tai64n::NEVER && shard.is_member(&key)) {
            self.order(jit::Order::Learn { slot: shard.served.slot, stamps: vec![(key, stamp)] });
        }
    }

    /// What nobody tells of.
    async fn look(&mut self, now: Instant) {
        for of in self.here.clone() {
            self.admit_all();
            self.look_at(now, &of).await;
        }
    }

    async fn look_at(&mut self, now: Instant, of: &TenantShard) {
        let Some(shard) = self.shards.get_mut(of) else { return };
        let (mut records, mut heard) = (Vec::new(), Vec::new());
        // Who was heard at which interfaces, and their sessions.
        let mut grew: BTreeMap<PublicKey, Vec<(Option<SystemTime>, Lane)>> = BTreeMap::new();
        for end in shard.served.ends.clone() {
            let (interface, own) = (shard.interface(end.lane), end.key.public());
            records.extend(self.tunnels.stamp(&interface).and_then(|stamp| shard.came_to(now, own, stamp)));
            match self.tunnels.look(&interface).await {
                Ok(peers) => {
                    for (key, news) in peers {
                        let Look { agreed, grew: more, record } = shard.looked_at(now, end.lane, key, news);
                        if more {
                            grew.entry(key).or_default().push((news.agreed, end.lane));
                        }
                        if record.is_some() {
                            heard.push((key, news.heard, agreed));
                        }
                        records.extend(record);
                    }
                }
                Err(error) => tracing::debug!("{of}: peers cannot be looked at: {error:#}"),
            }
        }
        let moved = grew.into_iter().fold(false, |moved, (key, at)| shard.grew_at(key, &at) || moved);
        if moved && shard.served.ends.len() > 1 {
            self.show_lanes(of);
        }
        for (key, stamp, agreed) in heard {
            match (agreed, self.tunnels.tells()) {
                (true, false) => self.awake(of, key),
                // It told by itself.
                (true, true) => continue,
                (false, _) => self.seen(of, key),
            }
            self.learn(of, key, stamp);
        }
        self.tell(of, records);
    }

    fn of_slot(&self, slot: Slot) -> Option<TenantShard> {
        self.find(|shard| shard.served.slot == slot)
    }

    fn find(&self, is_it: impl Fn(&Shard) -> bool) -> Option<TenantShard> {
        self.shards.values().find(|shard| is_it(shard)).map(|shard| shard.served.of.clone())
    }

    fn order(&self, order: jit::Order) {
        if let Some(door) = &self.door {
            door.order(order);
        }
    }

    fn tell_all(&self, records: Records) {
        for (of, records) in records {
            self.tell(&of, records);
        }
    }

    fn tell(&self, of: &TenantShard, records: Vec<PeerRecord>) {
        if let Some(tell) = &self.tell {
            tell.peers(of, records);
        }
    }
}

/// Nobody waits any more if it took too long.
fn tell_ready(ready: &SyncSender<()>) {
    let _ = ready.try_send(());
}

/// Waits until something was taken. Where nothing can come, or no more, for ever.
async fn some(taken: Option<impl Future<Output = usize>>) {
    let count = match taken {
        Some(taken) => taken.await,
        None => 0,
    };
    if count == 0 {
        std::future::pending::<()>().await;
    }
}
