//! From the UDP sockets to the TUN devices: one thread for each socket that the interfaces have. All that a peer sends comes to one socket,
//! so it stays in order however many threads there are.

use super::super::coalesce::{Candidate, Coalescer, lead};
use super::counters::DropReason;
use super::inbox::{Rank, Received};
use super::limit::Buckets;
use super::mac::{self, Marker};
use super::message::{Message, parse, word};
use super::peer::Peer;
use super::sealer::{Sealer, send_one};
use super::session::{REKEY_LATE, Session};
use super::shared::{Held, Interface, Shared};
use super::socket::{self, BATCH, Incoming};
use super::table::Table;
use crate::userspace::raw::Buffers;
use crate::userspace::ready::serve;
use crate::userspace::receive::reporting;
use crate::wire::{ecn, ipv4, nested};
use nix::sys::epoll::Epoll;
use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

/// Batches from one interface before the next has its turn.
const TURN: usize = 4;

/// Runs until it is told to stop. What was read by then has been delivered.
pub fn run(shared: &Shared, epoll: &Epoll, thread: usize) {
    let mut receiver = Receiver::new(thread);
    serve(
        epoll,
        "datagrams",
        || shared.stopping(),
        |ready| {
            for number in ready {
                let interface = shared.interfaces().get(&number).cloned();
                let Some(interface) = interface else { continue };
                for _ in 0..TURN {
                    if receiver.batch(shared, &interface) < BATCH {
                        break;
                    }
                }
            }
        },
    );
}

struct Receiver {
    thread: usize,
    buffers: Buffers,
    incoming: Vec<Incoming>,
    runs: Vec<Run>,
    opened: Vec<Opened>,
    accepted: Vec<Accepted>,
    coalescer: Coalescer,
    sealer: Sealer,
}

/// Data messages of one session from one endpoint, one after the other.
struct Run {
    peer: Arc<Peer>,
    session: Arc<Session>,
    source: SocketAddr,
    bytes: u64,
    /// Some of them had something inside.
    data: bool,
}

/// What was inside a data message.
struct Opened {
    slot: usize,
    range: Range<usize>,
    run: usize,
    class: u8,
}

/// An inner packet that may pass.
struct Accepted {
    slot: usize,
    range: Range<usize>,
    ip: ipv4::Header,
}

impl Receiver {
    fn new(thread: usize) -> Self {
        Self {
            thread,
            buffers: Buffers::default(),
            incoming: Vec::with_capacity(BATCH),
            runs: Vec::new(),
            opened: Vec::new(),
            accepted: Vec::new(),
            coalescer: Coalescer::default(),
            sealer: Sealer::new(thread),
        }
    }

    /// Receives and delivers one batch: how many datagrams the kernel made of those that came.
    fn batch(&mut self, shared: &Shared, interface: &Arc<Interface>) -> usize {
        let Some(socket) = interface.sockets.get(self.thread) else { return 0 };
        if socket::receive(socket.as_fd(), &mut self.buffers, &mut self.incoming).is_err() {
            return 0; // EAGAIN, or an error about something sent: epoll tells when there is more.
        }
        let now = shared.now();
        self.runs.clear();
        self.opened.clear();
        self.accepted.clear();
        let incoming = std::mem::take(&mut self.incoming);
        for (slot, datagrams) in incoming.iter().enumerate() {
            self.open(shared, interface, slot, datagrams, now);
        }
        let got = incoming.len();
        self.incoming = incoming;
        self.judge(interface);
        for run in &self.runs {
            heard(shared, interface, run, &mut self.sealer, now);
        }
        self.deliver(interface);
        // Not to keep the keys of a session that has ended.
        self.runs.clear();
        got
    }

    /// Opens what came in one slot.
    fn open(&mut self, shared: &Shared, interface: &Arc<Interface>, slot: usize, datagrams: &Incoming, now: u64) {
        let count = datagrams.len.div_ceil(datagrams.segment.max(1)).max(1) as u64;
        if !interface.is_sending() {
            return interface.drops.count(DropReason::Silent, count);
        }
        let mut start = 0;
        loop {
            let end = datagrams.len.min(start + datagrams.segment.max(1));
            // The last is the one that was cut.
            let result = if datagrams.cut && end == datagrams.len {
                Err(DropReason::Oversize)
            } else {
                self.open_one(shared, interface, slot, start..end, datagrams, now)
            };
            if let Err(reason) = result {
                interface.dropped(reason);
            }
            start = end;
            if start >= datagrams.len {
                return;
            }
        }
    }

    fn open_one(
        &mut self,
        shared: &Shared,
        interface: &Arc<Interface>,
        slot: usize,
        range: Range<usize>,
        Incoming { source, class, .. }: &Incoming,
        now: u64,
    ) -> Result<(), DropReason> {
        let bytes = &mut self.buffers.slot_mut(slot)[range.clone()];
        let (receiver, counter) = match parse(bytes)? {
            Message::Data { receiver, counter } => (receiver, counter),
            message => return admit(shared, interface, *source, &message, bytes, now),
        };
        let same = self.runs.last().is_some_and(|run| run.session.local == receiver && run.source == *source);
        if !same {
            let Some(Held { peer, session: Some(session) }) = interface.held(receiver) else { return Err(DropReason::UnknownSession) };
            if !session.is_alive(now) {
                return Err(DropReason::Expired);
            }
            let inner = session.open(bytes, counter)?;
            self.runs.push(Run { peer, session, source: *source, bytes: 0, data: false });
            self.take(slot, range.start, inner, *class);
            return Ok(());
        }
        let Some(run) = self.runs.last() else { return Err(DropReason::UnknownSession) };
        let inner = run.session.open(bytes, counter)?;
        self.take(slot, range.start, inner, *class);
        Ok(())
    }

    /// Notes what was inside; nothing, if only a sign of life.
    fn take(&mut self, slot: usize, start: usize, inner: Range<usize>, class: u8) {
        let run = self.runs.len() - 1;
        if !inner.is_empty() {
            self.runs[run].data = true;
            self.opened.push(Opened { slot, range: start + inner.start..start + inner.end, run, class });
        }
    }

    /// Which of the inner packets may pass.
    fn judge(&mut self, interface: &Interface) {
        let table = interface.table();
        for opened in &self.opened {
            let run = &mut self.runs[opened.run];
            let bytes = &mut self.buffers.slot_mut(opened.slot)[opened.range.clone()];
            match accept(bytes, &table, &run.peer, opened.class) {
                Ok(ip) => {
                    run.bytes += ip.total_len as u64;
                    let range = opened.range.start..opened.range.start + ip.total_len;
                    self.accepted.push(Accepted { slot: opened.slot, range, ip });
                }
                Err(reason) => interface.dropped(reason),
            }
        }
    }

    fn deliver(&mut self, interface: &Interface) {
        self.coalescer.clear();
        for a in &self.accepted {
            if a.range.len() > interface.mtu.load(Relaxed) {
                interface.refresh_mtu();
            }
            let new = Candidate {
                tunnel: 0,
                index: a.slot,
                packet: &self.buffers.slot(a.slot)[a.range.clone()],
                offset: a.range.start,
                ip: &a.ip,
                mtu: interface.mtu.load(Relaxed),
            };
            self.coalescer.push(&new, |slot, at| &self.buffers.slot(slot)[at..]);
        }
        let Some(queue) = interface.queues.get(self.thread % interface.queues.len().max(1)) else { return };
        for group in self.coalescer.groups() {
            let (first, range) = &group.parts[0];
            lead(group, &mut self.buffers.slot_mut(*first)[range.clone()]);
            let offload = group.offload.encode();
            let mut vectors = Vec::with_capacity(1 + group.parts.len());
            vectors.push(IoSlice::new(&offload));
            vectors.extend(group.parts.iter().map(|(slot, range)| IoSlice::new(&self.buffers.slot(*slot)[range.clone()])));
            let packets = group.parts.len() as u64;
            match nix::sys::uio::writev(queue, &vectors) {
                Ok(_) => interface.traffic.received(packets, group.len as u64),
                Err(_) => interface.drops.count(DropReason::DeliverFailed, packets),
            }
        }
    }
}

/// Lets a handshake message through to the thread that does them, if it is for us and not one of too many.
fn admit(
    shared: &Shared,
    interface: &Arc<Interface>,
    source: SocketAddr,
    message: &Message<'_>,
    bytes: &[u8],
    now: u64,
) -> Result<(), DropReason> {
    let awaited = |local| interface.held(local).ok_or(DropReason::UnknownSession);
    let mut rank = Rank::First;
    match message {
        Message::Initiation(_) => {
            if !interface.marker.is_sealed(bytes) {
                return Err(DropReason::BadMac);
            }
            rank = knock(shared, interface, source, bytes, now)?;
        }
        // Whoever does not know one of our numbers, which are at random, has no business with that thread.
        Message::Response(response) => {
            if !interface.marker.is_sealed(bytes) {
                return Err(DropReason::BadMac);
            }
            if awaited(word(*response, 8))?.session.is_some() {
                return Err(DropReason::UnknownSession);
            }
        }
        Message::Cookie(reply) => drop(awaited(mac::receiver(reply))?),
        Message::Data { .. } => {}
    }
    let received = Received { interface: interface.clone(), source, bytes: bytes.into() };
    if shared.inbox.message(received, rank) { Ok(()) } else { Err(DropReason::Overload) }
}

/// Whether an initiation may be looked into, which is dear. If it may: before or behind whom.
///
/// Anybody can send in another's name. So what an address may send unproven is counted by itself: when that is used up, and under load, its sender has to show by a
/// cookie that it is where it says, and then counts as one of those who have.
fn knock(shared: &Shared, interface: &Interface, source: SocketAddr, bytes: &[u8], now: u64) -> Result<Rank, DropReason> {
    let address = source.ip();
    let rank = |buckets: &Buckets| if buckets.is_clean(address, now) { Rank::First } else { Rank::Later };
    let refused = {
        let mut claimed = shared.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let rank = rank(&claimed);
        match shared.inbox.is_loaded(rank) {
            true => DropReason::Overload,
            false if claimed.take(address, now) => return Ok(rank),
            false => DropReason::RateLimited,
        }
    };
    let random = |room: &mut [u8]| getrandom::fill(room).is_ok();
    let cookie = interface.baker.lock().unwrap_or_else(PoisonError::into_inner).cookie(source, now, random);
    let cookie = cookie.ok_or(DropReason::Overload)?;
    if Marker::proves(bytes, &cookie) {
        let mut proven = shared.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let rank = rank(&proven);
        return if proven.take(address, now) { Ok(rank) } else { Err(DropReason::RateLimited) };
    }
    if !shared.cookies.lock().unwrap_or_else(PoisonError::into_inner).take(Ipv6Addr::UNSPECIFIED.into(), now) {
        return Err(DropReason::RateLimited);
    }
    let mut nonce = [0; 24];
    if random(&mut nonce) {
        send_one(interface, source, &interface.marker.cookie_reply(bytes, &cookie, nonce));
    }
    Err(refused)
}

/// Notes that something authentic came from a peer.
fn heard(shared: &Shared, interface: &Arc<Interface>, run: &Run, sealer: &mut Sealer, now: u64) {
    let Run { peer, session, source, bytes, data } = run;
    peer.received_bytes.fetch_add(*bytes, Relaxed);
    peer.heard_at(*source, interface.config.roaming);
    if !session.confirmed.load(Relaxed) {
        session.confirmed.store(true, Relaxed);
        if let Some(gone) = peer.confirm(session) {
            interface.release_sessions(&gone);
            peer.asked.store(false, Relaxed);
            sealer.release(shared, interface, peer, false);
        }
    }
    if session.initiator && session.age(now) >= REKEY_LATE {
        shared.ask(interface, peer);
    }
    let by = peer.marks.received(*data, peer.keepalive.load(Relaxed), now);
    shared.look(by, interface, peer);
}

/// Judges what was inside a data message of this peer; there may be padding behind the packet.
fn accept(bytes: &mut [u8], table: &Table, peer: &Arc<Peer>, class: u8) -> Result<ipv4::Header, DropReason> {
    let ip = ipv4::Header::parse(bytes)?;
    if nested::is_nested(bytes, &ip) {
        return Err(DropReason::Nested);
    }
    let owns = |source: std::net::Ipv4Addr| table.owner(source.into()).is_ok_and(|owner| Arc::ptr_eq(owner, peer));
    let source = if owns(ip.source) {
        ip.source
    } else {
        // An error from a router on the way: as that of the host which it is about.
        reporting(bytes, &ip).filter(|source| owns(*source)).ok_or(DropReason::SpoofedInner)?
    };
    let class = ecn::decapsulate(class, ip.traffic_class).ok_or(DropReason::Congestion)?;
    if source != ip.source {
        ipv4::set_source(&mut bytes[..ip.header_len], source);
    }
    if class != ip.traffic_class {
        let header = &mut bytes[..ip.header_len];
        header[1] = class;
        // Fits: it did.
        ipv4::set_total_len(header, ip.total_len as u16);
    }
    Ok(ipv4::Header { source, traffic_class: class, ..ip })
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
