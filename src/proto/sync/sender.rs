//! The side that has the flows.

use super::stream::{List, Sent, Stream, Synced};
use super::{Deadline, Lags, ListId, Refusals, Tuning, datagram, earliest, micros, opened};
use crate::model::{Flow, FlowChange};
use crate::wire::seal::Seal;
use crate::wire::sync::peer::{PeerRecord, PeerState};
use crate::wire::sync::{self as wire, Header, Kind, MAX, Record};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Names (tenant, shard, from this node, to that node): a hash of them, the same on both.
    pub stream: u64,
    pub seal: Seal,
    /// At random, or the time of day: another one at every start.
    pub session: u64,
    pub tuning: Tuning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderEffect {
    /// To the receiver, as one UDP datagram.
    Send(Bytes),
    /// Begin to read all flows of the shard anew, forget any older reading, and hand the flows to [`Sender::listed`].
    List(ListId),
}

/// Everything here only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderCounters {
    /// Changes that were sent.
    pub changes: u64,
    /// Changes while nobody listened: the next list holds them.
    pub unheard: u64,
    /// TCP connections that nobody had answered yet, in changes and lists: not sent ([`Flow::is_tentative`]).
    pub tentative: u64,
    /// Flows and peers sent in lists.
    pub listed: u64,
    /// Flows between addresses of two families; peers with too many prefixes.
    pub unsendable: u64,
    pub lists: u64,
    /// Lists that could not be read to the end.
    pub lists_failed: u64,
    pub datagrams: u64,
    pub resent: u64,
    /// Sessions that began: at least one for every life of the receiver.
    pub sessions: u64,
    /// Sessions that ended because the ring was full.
    pub ring_overruns: u64,
    /// Sessions that ended because nothing was heard.
    pub silences: u64,
    /// Times that the kernel lost notices.
    pub overflows: u64,
    pub refused: Refusals,
    /// Age of each datagram when it was acknowledged.
    pub lag: Lags,
}

/// A datagram is sent again after this time at the earliest, so that several complaints about one loss cost one answer.
const RESEND_AFTER: Duration = Duration::from_millis(3);
/// From a list that failed to the next.
const LIST_AGAIN: Duration = Duration::from_millis(500);
/// Datagrams sent again for one acknowledgement.
const RESEND_AT_ONCE: usize = 64;

/// ```text
///              welcome                                end acknowledged
///  Seeking ----------------> Up: a list runs ------------------------------> Up: in sync
///     ^                        ^  |                                           |  |
///     |                        |  +-- ring full, silence --+    notices lost, |  |
///     |                        +---------------------------|-- a minute -----+  |
///     +----------------------------------------------------+---------------------+
/// ```
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    epoch: Instant,
    session: u64,
    link: Link,
    relieves: bool,
    lists: u64,
    effects: VecDeque<SenderEffect>,
    pub counters: SenderCounters,
}

#[derive(Debug)]
enum Link {
    Seeking { hello: u64, next: Instant },
    Up(Box<Stream>),
}

impl Sender {
    pub fn new(config: SenderConfig, now: Instant) -> Self {
        let session = config.session;
        let link = Link::Seeking { hello: 0, next: now };
        Self { config, epoch: now, session, link, relieves: false, lists: 0, effects: VecDeque::new(), counters: SenderCounters::default() }
    }

    pub fn stream_id(&self) -> u64 {
        self.config.stream
    }

    /// Another key, the same session.
    pub fn set_seal(&mut self, seal: Seal) {
        self.config.seal = seal;
    }

    /// Whether the receiver is told that it need not keep its copies any more.
    pub fn relieve(&mut self, relieves: bool) {
        self.relieves = relieves;
    }

    /// The next thing to do; none: wait for a datagram, a change or the deadline.
    pub fn next_effect(&mut self) -> Option<SenderEffect> {
        self.effects.pop_front()
    }

    /// When to call [`Sender::handle_timeout`], and why. May change with every call of another method.
    pub fn next_timeout(&self) -> Option<Deadline> {
        match &self.link {
            Link::Seeking { next, .. } => Some((*next, "hello")),
            Link::Up(stream) => earliest([
                stream.since.map(|since| (since + self.config.tuning.flush, "flush")),
                Some((stream.heartbeat, "heartbeat")),
                Some((stream.heard + self.config.tuning.silence, "silence")),
                match stream.list {
                    List::Resting { until, .. } => Some((until, "list")),
                    List::Running { .. } => stream.tokens_at(&self.config.tuning).map(|at| (at, "list goes on")),
                },
            ]),
        }
    }

    /// Does what is due. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let tuning = self.config.tuning;
        match &mut self.link {
            Link::Seeking { hello, next } => {
                if now >= *next {
                    (*hello, *next) = (*hello + 1, now + tuning.hello);
                    let sequence = *hello;
                    self.send(now, Kind::Hello, 0, sequence);
                }
            }
            Link::Up(stream) => {
                if now >= stream.heard + tuning.silence {
                    self.counters.silences += 1;
                    return self.seek(now);
                }
                if let List::Resting { until, lossy } = stream.list
                    && now >= until
                {
                    self.list(now, lossy);
                }
                if self.stream().is_some_and(|stream| stream.since.is_some_and(|since| now >= since + tuning.flush)) {
                    self.flush(now);
                }
                if let Some(stream) = self.stream().filter(|stream| now >= stream.heartbeat) {
                    let busy = !stream.ring.is_empty();
                    stream.heartbeat = now + if busy { tuning.heartbeat_busy } else { tuning.heartbeat_idle };
                    let (nonce, sequence) = (stream.nonce, stream.sequence - 1);
                    self.send(now, if self.relieves { Kind::Relief } else { Kind::Heartbeat }, nonce, sequence);
                }
            }
        }
    }

    /// A change, in the order in which the kernel told of it.
    pub fn change(&mut self, now: Instant, change: &FlowChange) {
        if self.stream().is_none() {
            self.counters.unheard += 1;
            return;
        }
        if matches!(change, FlowChange::Upsert(flow) if flow.is_tentative()) {
            self.counters.tentative += 1;
            return;
        }
        self.counters.changes += 1;
        self.put(
            now,
            &match change {
                FlowChange::Upsert(flow) => Record::Upsert(*flow),
                FlowChange::Destroy(key) => Record::Destroy(*key),
            },
        );
    }

    /// A WireGuard peer has become something else, or is nobody's affair any more.
    pub fn peer(&mut self, now: Instant, record: PeerRecord) {
        if self.stream().is_none() {
            self.counters.unheard += 1;
            return;
        }
        self.counters.changes += 1;
        self.put(now, &Record::Peer(Box::new(record)));
    }

    /// The kernel lost notices: what it told is not all that happened.
    pub fn overflow(&mut self, now: Instant) {
        self.counters.overflows += 1;
        if let Link::Up(stream) = &mut self.link {
            stream.synced = Synced::No;
            match &mut stream.list {
                List::Running { again, .. } => *again = true,
                List::Resting { .. } => self.list(now, true),
            }
        }
    }

    /// All flows are about to be read in any case: a list that is due before long begins now, and needs no reading of its own.
    pub fn list_early(&mut self, now: Instant) {
        let soon = now + self.config.tuning.relist / 2;
        if self.stream().is_some_and(|stream| matches!(stream.list, List::Resting { until, lossy: false } if until <= soon)) {
            self.list(now, false);
        }
    }

    /// Whether this is the list that runs.
    pub fn lists(&self, list: ListId) -> bool {
        matches!(&self.link, Link::Up(stream) if matches!(stream.list, List::Running { id, .. } if id == list))
    }

    /// How many flows of the running list are welcome now. 0 while none runs.
    pub fn list_room(&mut self, now: Instant) -> usize {
        let tuning = self.config.tuning;
        let Some(stream) = self.stream().filter(|stream| matches!(stream.list, List::Running { .. })) else { return 0 };
        stream.refill(now, &tuning);
        if stream.ring.len() >= tuning.window {
            return 0;
        }
        usize::try_from(stream.tokens).unwrap_or(0)
    }

    /// A flow of a list. Of one that is not the running list it is ignored.
    pub fn listed(&mut self, now: Instant, list: ListId, flow: &Flow) {
        let Some(stream) = self.stream().filter(|stream| matches!(stream.list, List::Running { id, .. } if id == list)) else { return };
        if flow.is_tentative() {
            self.counters.tentative += 1;
            return;
        }
        stream.tokens -= 1;
        self.counters.listed += 1;
        self.put(now, &Record::Listed(*flow));
    }

    /// A peer of a list, as [`Sender::listed`].
    pub fn listed_peer(&mut self, now: Instant, list: ListId, state: PeerState) {
        let Some(stream) = self.stream().filter(|stream| matches!(stream.list, List::Running { id, .. } if id == list)) else { return };
        stream.tokens -= 1;
        self.counters.listed += 1;
        self.put(now, &Record::Peer(Box::new(PeerRecord::Listed(state))));
    }

    /// All flows have been listed, and all peers.
    pub fn list_ended(&mut self, now: Instant, list: ListId) {
        let relist = self.config.tuning.relist;
        let Some(stream) = self.stream() else { return };
        match stream.list {
            List::Running { id, again: false } if id == list => {
                stream.list = List::Resting { until: now + relist, lossy: false };
                if !self.put(now, &Record::End) {
                    return;
                }
                if let Some(stream) = self.stream().filter(|stream| stream.synced == Synced::No) {
                    stream.synced = Synced::With(stream.sequence);
                }
                self.flush(now);
            }
            List::Running { id, again: true } if id == list => self.list(now, true),
            List::Running { .. } | List::Resting { .. } => {}
        }
    }

    /// The list could not be begun, or broke off: after a pause there will be another.
    pub fn list_failed(&mut self, now: Instant, list: ListId) {
        let Some(stream) = self.stream() else { return };
        if let List::Running { id, again } = stream.list
            && id == list
        {
            // What was told is right all the same, but nothing vouches for the rest.
            stream.synced = Synced::No;
            stream.list = List::Resting { until: now + LIST_AGAIN, lossy: again };
            self.counters.lists_failed += 1;
        }
    }

    /// Sends what has been put together so far, for a caller that knows that nothing more comes at once.
    pub fn flush(&mut self, now: Instant) {
        let Self { config, link: Link::Up(stream), effects, counters, .. } = self else { return };
        let Some(since) = stream.since.take() else { return };
        if stream.ring.len() >= config.tuning.ring {
            self.counters.ring_overruns += 1;
            return self.seek(now);
        }
        let mut full = std::mem::replace(&mut stream.batch, Vec::with_capacity(MAX));
        config.seal.close(&mut full);
        let bytes = Bytes::from(full);
        stream.ring.push_back(Sent { bytes: bytes.clone(), since, again: now + RESEND_AFTER });
        stream.sequence += 1;
        stream.heartbeat = now + config.tuning.heartbeat_busy;
        counters.datagrams += 1;
        effects.push_back(SenderEffect::Send(bytes));
    }

    /// A datagram from the receiver's address.
    pub fn handle(&mut self, now: Instant, bytes: &[u8]) {
        let kinds = [Kind::Welcome, Kind::Ack];
        let Some((header, body)) = opened(&self.config.seal, self.config.stream, &kinds, bytes, &mut self.counters.refused) else { return };
        if header.session != self.session {
            self.counters.refused.stale += 1;
            return;
        }
        match (&mut self.link, header.kind) {
            (Link::Seeking { hello, .. }, Kind::Welcome) if header.sequence == *hello => self.rise(now, header.nonce),
            (Link::Up(stream), Kind::Ack) if header.nonce == stream.nonce && header.sequence < stream.sequence => {
                self.acknowledged(now, header, body);
            }
            (Link::Seeking { .. } | Link::Up(_), _) => self.counters.refused.stale += 1,
        }
    }

    /// Whether the receiver has all that has happened up to a moment ago.
    pub fn in_sync(&self, now: Instant) -> bool {
        let tuning = &self.config.tuning;
        let Link::Up(stream) = &self.link else { return false };
        let heard = now.saturating_duration_since(stream.heard) <= tuning.heartbeat_idle * 3;
        heard && stream.synced == Synced::Yes && self.lag(now) <= tuning.lag
    }

    /// The age of the oldest record that is not acknowledged; zero if there is none.
    pub fn lag(&self, now: Instant) -> Duration {
        let Link::Up(stream) = &self.link else { return Duration::ZERO };
        let oldest = stream.ring.front().map(|sent| sent.since).or(stream.since);
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Datagrams sent and not acknowledged.
    pub fn in_flight(&self) -> usize {
        if let Link::Up(stream) = &self.link { stream.ring.len() } else { 0 }
    }

    /// From a datagram to its acknowledgement and back, the last time it was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        if let Link::Up(stream) = &self.link { stream.round_trip } else { None }
    }

    /// Whether a receiver listens.
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    fn stream(&mut self) -> Option<&mut Stream> {
        if let Link::Up(stream) = &mut self.link { Some(stream) } else { None }
    }

    fn seek(&mut self, now: Instant) {
        // Another session, because its sequences begin anew.
        self.session = self.session.wrapping_add(1);
        self.link = Link::Seeking { hello: 0, next: now };
        self.handle_timeout(now);
    }

    fn rise(&mut self, now: Instant, nonce: u64) {
        let tuning = &self.config.tuning;
        let stream = Stream {
            nonce,
            sequence: 1,
            batch: Vec::with_capacity(MAX),
            since: None,
            ring: VecDeque::new(),
            heartbeat: now + tuning.heartbeat_busy,
            heard: now,
            list: List::Resting { until: now, lossy: true },
            synced: Synced::No,
            tokens: tuning.burst(),
            refilled: now,
            round_trip: None,
        };
        self.link = Link::Up(Box::new(stream));
        self.counters.sessions += 1;
        self.list(now, true);
        self.flush(now);
    }

    fn list(&mut self, now: Instant, lossy: bool) {
        self.lists += 1;
        let id = ListId(self.lists);
        if !self.put(now, &Record::Begin { lossy }) {
            return;
        }
        if let Some(stream) = self.stream() {
            stream.list = List::Running { id, again: false };
            self.counters.lists += 1;
            self.effects.push_back(SenderEffect::List(id));
        }
    }

    /// Puts a record into the batch, which goes when it is full. False: the receiver was lost over it.
    fn put(&mut self, now: Instant, record: &Record) -> bool {
        if self.stream().is_some_and(|stream| !wire::has_room(&stream.batch, record)) {
            self.flush(now);
        }
        let Self { link: Link::Up(stream), config, session, epoch, .. } = self else { return false };
        if stream.since.is_none() {
            let (nonce, sequence, time) = (stream.nonce, stream.sequence, micros(now, *epoch));
            stream.batch.clear();
            Header { kind: Kind::Data, stream: config.stream, session: *session, nonce, sequence, time }.write(&mut stream.batch);
        }
        if record.write(&mut stream.batch) {
            stream.since.get_or_insert(now);
        } else {
            self.counters.unsendable += 1;
        }
        true
    }

    fn send(&mut self, now: Instant, kind: Kind, nonce: u64, sequence: u64) {
        let time = micros(now, self.epoch);
        let mut bytes = datagram(Header { kind, stream: self.config.stream, session: self.session, nonce, sequence, time });
        self.config.seal.close(&mut bytes);
        self.effects.push_back(SenderEffect::Send(bytes.into()));
    }

    fn acknowledged(&mut self, now: Instant, header: Header, body: &[u8]) {
        let Self { link: Link::Up(stream), counters, effects, epoch, .. } = self else { return };
        let Ok(gaps) = wire::gaps(body, header.sequence) else {
            counters.refused.misfit += 1;
            return;
        };
        stream.heard = now;
        stream.round_trip = micros(now, *epoch).checked_sub(header.time).map(Duration::from_micros).or(stream.round_trip);
        let oldest = stream.sequence - stream.ring.len() as u64;
        for sent in stream.ring.drain(..(header.sequence + 1).saturating_sub(oldest) as usize) {
            counters.lag.count(now.saturating_duration_since(sent.since));
        }
        if matches!(stream.synced, Synced::With(end) if end <= header.sequence) {
            stream.synced = Synced::Yes;
        }
        let (oldest, mut again) = (stream.sequence - stream.ring.len() as u64, 0);
        for (first, last) in gaps {
            let place = |sequence: u64| sequence.saturating_sub(oldest).min(stream.ring.len() as u64) as usize;
            let range = place(first)..place(last.saturating_add(1));
            for sent in stream.ring.range_mut(range).filter(|sent| sent.again <= now) {
                if again == RESEND_AT_ONCE {
                    return;
                }
                again += 1;
                counters.resent += 1;
                sent.again = now + RESEND_AFTER;
                effects.push_back(SenderEffect::Send(sent.bytes.clone()));
            }
        }
    }
}
