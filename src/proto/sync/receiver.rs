//! The side that keeps the copies.

use super::ledger::Ledger;
use super::peers::Peers;
use super::{Deadline, Lags, Refusals, Tuning, datagram, earliest, micros, opened};
use crate::model::{Flow, FlowKey, FlowStep, Mark};
use crate::wire::seal::Seal;
use crate::wire::sync::peer::PeerRecord;
use crate::wire::sync::{self as wire, Gap, Header, Kind, Record};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// As the sender's.
    pub stream: u64,
    pub seal: Seal,
    /// At random, 64 bits: another one at every start. It must not be guessed.
    pub nonce: u64,
    /// The zone and the mark that the shard's flows have on this node.
    pub zone: u16,
    pub mark: Mark,
    pub tuning: Tuning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverEffect {
    /// To the sender, as one UDP datagram.
    Send(Bytes),
    /// To the kernel, in this order.
    Apply(FlowStep),
}

/// Everything here only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    pub changes: u64,
    pub listed: u64,
    /// Lists that were complete.
    pub lists: u64,
    /// Copies that a complete list did not know any more.
    pub swept: u64,
    pub datagrams: u64,
    /// Acknowledgements that named gaps.
    pub complaints: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Datagrams with a record that cannot be read; what follows it in the datagram is lost until the next list.
    pub unreadable: u64,
    pub refused: Refusals,
    /// From a datagram's first record to its arrival, less the least such time of the last five to ten seconds: the clocks of two nodes
    /// need not agree.
    pub lag: Lags,
}

/// Datagrams after which an acknowledgement goes at once, and the time after which it goes anyhow.
const ACK_EVERY: u32 = 16;
const ACK_WITHIN: Duration = Duration::from_millis(2);
/// Between complaints about the same gap.
const COMPLAIN_EVERY: Duration = Duration::from_millis(5);
/// Datagrams kept that came before their turn.
const EARLY: u64 = 1024;
/// The least transit time is remembered for this long, and for as long again: enough to be met again, among fifty heartbeats at least, and
/// short enough that a clock that stood still (a machine that was paused) is soon made up for.
const LEAST_TRANSIT: Duration = Duration::from_secs(5);

/// ```text
///  no session --data with the nonce on offer--> following --begin--> a list runs --end--> complete
///                                                  ^ |                    ^ |                |
///                                                  | +- the same, a new session (nonce) -----+
///                                                  +-- begin, lossy: complete no more -------+
/// ```
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    epoch: Instant,
    /// For the next session.
    offered: u64,
    session: Option<Session>,
    /// Hellos are answered when told to.
    held: bool,
    /// The last hello that is not answered.
    asked: Option<Header>,
    copies: Ledger,
    peers: Peers,
    effects: VecDeque<ReceiverEffect>,
    pub counters: ReceiverCounters,
}

#[derive(Debug)]
struct Session {
    number: u64,
    nonce: u64,
    /// Everything up to this sequence has been applied.
    received: u64,
    /// The last that is known to have been sent.
    highest: u64,
    early: BTreeMap<u64, Vec<u8>>,
    heard: Instant,
    /// The newest time that the sender wrote.
    time: u64,
    unacknowledged: u32,
    ack: Option<Instant>,
    complained: Option<Instant>,
    transit: Transit,
    /// As the last heartbeat says.
    relieved: bool,
}

/// The least of a measure, of the current and the previous period.
#[derive(Debug)]
struct Transit {
    began: Instant,
    least: [i64; 2],
    lag: Duration,
}

impl Receiver {
    pub fn new(config: ReceiverConfig, now: Instant) -> Self {
        Self {
            epoch: now,
            offered: config.nonce,
            config,
            session: None,
            held: false,
            asked: None,
            copies: Ledger::default(),
            peers: Peers::default(),
            effects: VecDeque::new(),
            counters: ReceiverCounters::default(),
        }
    }

    pub fn stream_id(&self) -> u64 {
        self.config.stream
    }

    /// Another key, the same session.
    pub fn set_seal(&mut self, seal: Seal) {
        self.config.seal = seal;
    }

    /// From now on hellos are answered by [`Receiver::answer`] only, so that before a list begins all that stands can be adopted.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Whether a sender waits for [`Receiver::answer`].
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    pub fn answer(&mut self) {
        if let Some(hello) = self.asked.take() {
            // The offer stands until it is taken, so an old hello played again changes nothing.
            self.send(Header { kind: Kind::Welcome, nonce: self.offered, time: 0, ..hello }, &[]);
        }
    }

    /// A flow that stands in the kernel already, at a start: the first list will keep it or sweep it.
    pub fn adopt(&mut self, now: Instant, flow: Flow) {
        self.copies.adopt(now, flow);
    }

    /// What another sender has told of the same shard stands, too: the next list will keep it or sweep it.
    pub fn adopt_from(&mut self, other: &Self) {
        self.copies.adopt_from(&other.copies);
    }

    /// The same of a node that was the Active itself until now.
    pub fn adopt_all(&mut self, known: &Ledger) {
        self.copies.adopt_from(known);
    }

    /// The same of peers.
    pub fn adopt_peers(&mut self, known: &Peers) {
        self.peers.adopt_from(known);
    }

    /// What has been told of peers.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// For a node that becomes the Active itself.
    pub fn into_known(self) -> (Ledger, Peers) {
        (self.copies, self.peers)
    }

    /// The other's sender is silent and this one's list is complete: what only the other knows is gone, and it begins anew.
    pub fn supersede(&mut self, other: &mut Self) {
        let effects = &mut self.effects;
        self.counters.swept += self.copies.supersede(&mut other.copies, &mut |step| effects.push_back(ReceiverEffect::Apply(step)));
        self.peers.adopt_stamps(&std::mem::take(&mut other.peers));
        other.session = None;
    }

    /// Whether there is anything to supersede.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.peers.is_empty()
    }

    /// The kernel has refused a flow. It is given to it again with the next list; if it is `missed`, and not merely odd, nothing is
    /// complete until then.
    /// Whether it was known here.
    pub fn unwritten(&mut self, key: FlowKey, missed: bool) -> bool {
        self.copies.unwritten(key, missed)
    }

    /// A flow may stand in the kernel that nobody has told of: the next list deletes it, if it does not hold it.
    pub fn doubt(&mut self, key: FlowKey) {
        self.copies.doubt(key, false);
    }

    /// The kernel lost notices: copies may be gone. The session ends, and with the next one all of them are written again.
    pub fn overflow(&mut self, now: Instant) {
        self.copies.doubt_all(now);
        self.session = None;
    }

    /// A flow has left the kernel, and no effect of ours was the cause.
    pub fn vanished(&mut self, now: Instant, key: FlowKey) {
        self.copies.vanished(now, key);
    }

    /// The next thing to do; none: wait for a datagram or the deadline.
    pub fn next_effect(&mut self) -> Option<ReceiverEffect> {
        self.effects.pop_front()
    }

    /// When to call [`Receiver::handle_timeout`], and why. May change with every call of another method.
    pub fn next_timeout(&self) -> Option<Deadline> {
        earliest([self.session.as_ref().and_then(|session| session.ack).map(|at| (at, "acknowledge"))])
    }

    /// Does what is due. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let silence = self.config.tuning.silence;
        if let Some(session) = self.session.as_mut().filter(|session| session.ack.is_some_and(|at| now >= at)) {
            if now.saturating_duration_since(session.heard) > silence {
                // Nobody is there to complain to.
                session.ack = None;
            } else {
                self.acknowledge(now);
            }
        }
    }

    /// A datagram from the sender's address.
    pub fn handle(&mut self, now: Instant, bytes: &[u8]) {
        let kinds = [Kind::Hello, Kind::Data, Kind::Heartbeat, Kind::Relief];
        let Some((header, body)) = opened(&self.config.seal, self.config.stream, &kinds, bytes, &mut self.counters.refused) else { return };
        if header.kind == Kind::Hello {
            self.asked = Some(header);
            if !self.held {
                self.answer();
            }
            return;
        }
        if header.nonce == self.offered {
            self.begin(now, header);
        }
        let Some(session) = self.session.as_mut().filter(|s| s.nonce == header.nonce && s.number == header.session) else {
            self.counters.refused.stale += 1;
            return;
        };
        session.heard = now;
        if matches!(header.kind, Kind::Heartbeat | Kind::Relief) {
            session.relieved = header.kind == Kind::Relief;
            session.transit.measure(now, micros(now, self.epoch), header.time);
            session.time = session.time.max(header.time);
            session.highest = session.highest.max(header.sequence);
            return self.acknowledge(now);
        }
        self.counters.datagrams += 1;
        if header.sequence <= session.received || session.early.contains_key(&header.sequence) {
            self.counters.refused.duplicate += 1;
            session.ack.get_or_insert(now + ACK_WITHIN);
            return;
        }
        session.time = session.time.max(header.time);
        session.highest = session.highest.max(header.sequence);
        session.unacknowledged += 1;
        session.transit.measure(now, micros(now, self.epoch), header.time);
        self.counters.lag.count(session.transit.lag);
        if header.sequence - session.received > EARLY {
            self.counters.refused.early += 1;
        } else if header.sequence > session.received + 1 {
            session.early.insert(header.sequence, body.to_vec());
        } else {
            session.received += 1;
            self.records(now, body);
            while let Some(body) = self.session.as_mut().and_then(Session::next_early) {
                self.records(now, &body);
            }
        }
        let Some(session) = &mut self.session else { return };
        let gap = session.received < session.highest;
        if session.unacknowledged >= ACK_EVERY || gap && session.complained.is_none_or(|at| now >= at + COMPLAIN_EVERY) {
            self.acknowledge(now);
        } else {
            session.ack.get_or_insert(now + ACK_WITHIN);
        }
    }

    /// Whether this node has all that the sender had a moment ago. While the sender is dead this is false, for nobody can know:
    /// see [`Receiver::is_complete`].
    pub fn in_sync(&self, now: Instant) -> bool {
        let tuning = &self.config.tuning;
        let current = |s: &Session| s.received == s.highest && s.transit.lag <= tuning.lag;
        self.is_complete() && self.is_live(now) && self.session.as_ref().is_some_and(current)
    }

    /// Whether the sender was heard of a moment ago.
    pub fn is_live(&self, now: Instant) -> bool {
        self.heard().is_some_and(|heard| now.saturating_duration_since(heard) <= self.config.tuning.heartbeat_idle * 3)
    }

    /// Whether the sender says, and said so a moment ago, that all who are to have copies have them without this one.
    pub fn is_relieved(&self, now: Instant) -> bool {
        self.is_live(now) && self.session.as_ref().is_some_and(|session| session.relieved)
    }

    /// Whether a whole list has been received since changes were last missed, and the kernel has taken it.
    pub fn is_complete(&self) -> bool {
        self.copies.is_complete()
    }

    /// How late the last datagram was; see [`ReceiverCounters::lag`].
    pub fn lag(&self) -> Duration {
        self.session.as_ref().map_or(Duration::ZERO, |session| session.transit.lag)
    }

    /// Since when nothing has been heard of the sender. None: never heard of.
    pub fn heard(&self) -> Option<Instant> {
        self.session.as_ref().map(|session| session.heard)
    }

    /// Copies held.
    pub fn flows(&self) -> usize {
        self.copies.len()
    }

    pub fn flow(&self, key: &FlowKey) -> Option<&Flow> {
        self.copies.get(key)
    }

    fn begin(&mut self, now: Instant, header: Header) {
        self.counters.sessions += 1;
        self.offered = self.offered.wrapping_add(1);
        self.copies.interrupt();
        self.peers.break_off();
        self.session = Some(Session {
            number: header.session,
            nonce: header.nonce,
            received: 0,
            highest: 0,
            early: BTreeMap::new(),
            heard: now,
            time: header.time,
            unacknowledged: 0,
            ack: None,
            complained: None,
            transit: Transit { began: now, least: [i64::MAX; 2], lag: Duration::ZERO },
            relieved: false,
        });
    }

    fn records(&mut self, now: Instant, body: &[u8]) {
        let Self { config, copies, peers, effects, counters, .. } = self;
        let own_key = |key| FlowKey { zone: config.zone, ..key };
        let own = |flow: Flow| Flow { key: own_key(flow.key), mark: config.mark, ..flow };
        let mut apply = |step| effects.push_back(ReceiverEffect::Apply(step));
        for record in wire::records(body) {
            match record {
                Ok(Record::Upsert(flow)) => {
                    counters.changes += 1;
                    copies.told(now, own(flow), &mut apply);
                }
                Ok(Record::Listed(flow)) => {
                    counters.listed += 1;
                    copies.listed(now, own(flow), &mut apply);
                }
                Ok(Record::Destroy(key)) => {
                    counters.changes += 1;
                    copies.destroyed(own_key(key), &mut apply);
                }
                Ok(Record::Begin { lossy }) => {
                    copies.begin(lossy);
                    peers.begin();
                }
                Ok(Record::End) => {
                    peers.end();
                    if let Some(swept) = copies.end(&mut apply) {
                        counters.lists += 1;
                        counters.swept += swept;
                    }
                }
                Ok(Record::Peer(record)) => match *record {
                    PeerRecord::Told(state) => {
                        counters.changes += 1;
                        peers.told(now, state);
                    }
                    PeerRecord::Listed(state) => {
                        counters.listed += 1;
                        peers.told(now, state);
                    }
                    PeerRecord::Gone(key) => {
                        counters.changes += 1;
                        peers.gone(now, &key);
                    }
                },
                Err(_) => {
                    counters.unreadable += 1;
                    copies.complete = false;
                    peers.break_off();
                }
            }
        }
    }

    fn acknowledge(&mut self, now: Instant) {
        let Some(session) = &mut self.session else { return };
        let gaps = session.gaps();
        session.unacknowledged = 0;
        session.complained = (!gaps.is_empty()).then_some(now);
        session.ack = session.complained.map(|at| at + COMPLAIN_EVERY);
        self.counters.complaints += u64::from(!gaps.is_empty());
        let header = Header {
            kind: Kind::Ack,
            stream: self.config.stream,
            session: session.number,
            nonce: session.nonce,
            sequence: session.received,
            time: session.time,
        };
        self.send(header, &gaps);
    }

    fn send(&mut self, header: Header, gaps: &[Gap]) {
        let mut bytes = datagram(header);
        wire::write_gaps(&mut bytes, gaps.iter().copied());
        self.config.seal.close(&mut bytes);
        self.effects.push_back(ReceiverEffect::Send(bytes.into()));
    }
}

impl Session {
    /// The next datagram in turn, if it came early.
    fn next_early(&mut self) -> Option<Vec<u8>> {
        let body = self.early.remove(&(self.received + 1))?;
        self.received += 1;
        Some(body)
    }

    /// What is missing, the oldest first.
    fn gaps(&self) -> Vec<Gap> {
        let (mut gaps, mut next) = (Vec::new(), self.received + 1);
        for sequence in self.early.keys() {
            if gaps.len() == wire::GAPS {
                return gaps;
            }
            if next < *sequence {
                gaps.push((next, sequence - 1));
            }
            next = sequence + 1;
        }
        if next <= self.highest && gaps.len() < wire::GAPS {
            gaps.push((next, self.highest));
        }
        gaps
    }
}

impl Transit {
    fn measure(&mut self, now: Instant, arrived: u64, sent: u64) {
        if now.saturating_duration_since(self.began) > LEAST_TRANSIT {
            (self.began, self.least) = (now, [i64::MAX, self.least[0]]);
        }
        let transit = arrived.wrapping_sub(sent).cast_signed();
        self.least[0] = self.least[0].min(transit);
        self.lag = Duration::from_micros(transit.saturating_sub(self.least[0].min(self.least[1])).cast_unsigned());
    }
}
