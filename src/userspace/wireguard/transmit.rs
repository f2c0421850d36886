//! From the TUN devices to the UDP sockets: one thread for each queue that the devices have. The kernel keeps the packets of a flow in one queue,
//! so they stay in order however many threads there are.

use super::counters::DropReason;
use super::peer::Peer;
use super::sealer::{Sealer, split};
use super::session::Session;
use super::shared::{Interface, Shared};
use crate::userspace::raw::{BATCH, Buffers};
use crate::userspace::ready::serve;
use crate::userspace::{tun, vnet};
use nix::sys::epoll::Epoll;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Packets read from one device before the next has its turn.
const TURN: usize = 32;

/// Bytes read before they are sent.
const READ_MAX: usize = 256 << 10;

/// Runs until it is told to stop. What was read by then has been sent.
pub fn run(shared: &Shared, epoll: &Epoll, thread: usize) {
    let mut transmitter = Transmitter { thread, buffers: Buffers::default(), read: Vec::new(), bytes: 0, sealer: Sealer::new(thread) };
    serve(epoll, "packets from TUN devices", || shared.stopping(), |ready| transmitter.round(shared, epoll, ready));
}

struct Transmitter {
    thread: usize,
    buffers: Buffers,
    /// Packets with their offload headers, each in the slot of its place in the list.
    read: Vec<Read>,
    /// Bytes in `read`.
    bytes: usize,
    sealer: Sealer,
}

struct Read {
    interface: Arc<Interface>,
    len: usize,
}

/// The way to a peer; packets come in runs.
struct Way {
    peer: Arc<Peer>,
    to: Option<(Arc<Session>, SocketAddr)>,
    packets: u64,
    bytes: u64,
}

impl Transmitter {
    fn round(&mut self, shared: &Shared, epoll: &Epoll, ready: &mut dyn Iterator<Item = u64>) {
        let interfaces = {
            let all = shared.interfaces();
            ready.filter_map(|number| all.get(&number).cloned()).collect::<Vec<_>>()
        };
        for interface in interfaces {
            let Some(queue) = interface.queues.get(self.thread) else { continue };
            for _ in 0..TURN {
                match tun::read(queue, self.buffers.slot_mut(self.read.len())) {
                    Ok(Some(len)) => {
                        self.bytes += len;
                        self.read.push(Read { interface: interface.clone(), len });
                    }
                    Ok(None) => break,
                    Err(fault) => {
                        // The interface was removed: without this, epoll would report it for ever.
                        tracing::warn!(interface = %interface.config.name, %fault, "TUN device lost");
                        interface.lost.store(true, Relaxed);
                        let _ = epoll.delete(queue);
                        break;
                    }
                }
                if self.read.len() == BATCH || self.bytes >= READ_MAX {
                    self.flush(shared);
                }
            }
        }
        self.flush(shared);
    }

    /// Sends all that was read.
    fn flush(&mut self, shared: &Shared) {
        let now = shared.now();
        let read = std::mem::take(&mut self.read);
        let mut rest = read.as_slice();
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|r| Arc::ptr_eq(&r.interface, &first.interface)).count();
            self.send(shared, &first.interface, read.len() - rest.len(), &rest[..run], now);
            rest = &rest[run..];
        }
        self.sealer.flush();
        self.read = read;
        self.read.clear();
        self.bytes = 0;
    }

    /// Seals what was read from one interface, from this slot on.
    fn send(&mut self, shared: &Shared, interface: &Arc<Interface>, slot: usize, read: &[Read], now: u64) {
        if !interface.is_sending() {
            return interface.drops.count(DropReason::Silent, read.len() as u64);
        }
        let owners = {
            let table = interface.table();
            let owner = |(at, r): (usize, &Read)| {
                let (_, packet, ip) = split(&mut self.buffers.slot_mut(slot + at)[..r.len])?;
                let _ = packet;
                table.owner(ip.destination.into()).map(|peer| (peer.clone(), ip))
            };
            read.iter().enumerate().map(owner).collect::<Vec<_>>()
        };
        let mut way: Option<Way> = None;
        for (at, (r, owner)) in read.iter().zip(owners).enumerate() {
            let (peer, ip) = match owner {
                Ok(owner) => owner,
                Err(reason) => {
                    interface.dropped(reason);
                    continue;
                }
            };
            if way.as_ref().is_none_or(|way| !Arc::ptr_eq(&way.peer, &peer)) {
                self.done(shared, interface, way.take(), now);
                let to = peer.session(now).zip(peer.endpoint());
                way = Some(Way { peer, to, packets: 0, bytes: 0 });
            }
            let Some(way) = &mut way else { continue };
            let bytes = &mut self.buffers.slot_mut(slot + at)[..r.len];
            let Some((session, to)) = &way.to else {
                // A handshake cannot be begun with one who is nowhere, and what waited for it would come out of time.
                if way.peer.endpoint().is_none() {
                    interface.dropped(DropReason::NoEndpoint);
                } else if !way.peer.wait(bytes, &shared.pool) {
                    interface.dropped(DropReason::NoSession);
                }
                continue;
            };
            let sent = split(bytes).and_then(|(offload, packet, _)| self.sealer.packet(interface, session, *to, &offload, packet, &ip));
            match sent {
                Ok(packets) => {
                    way.packets += packets;
                    way.bytes += (r.len - vnet::LEN) as u64;
                }
                Err(reason) => interface.dropped(reason),
            }
        }
        self.done(shared, interface, way, now);
    }

    /// Notes what went to a peer, and that it needs a session, if it has none or an old one.
    fn done(&mut self, shared: &Shared, interface: &Arc<Interface>, way: Option<Way>, now: u64) {
        let Some(Way { peer, to, packets, bytes }) = way else { return };
        if to.as_ref().map_or_else(|| peer.endpoint().is_some(), |(session, _)| session.is_stale(now)) {
            shared.ask(interface, &peer);
        }
        if to.is_none() && peer.session(now).is_some() {
            // Agreed on since we looked, and what we gave to wait may have come too late.
            self.sealer.release(shared, interface, &peer, false);
        }
        if packets > 0 {
            interface.traffic.sent(packets, bytes);
            peer.sent_bytes.fetch_add(bytes, Relaxed);
            let by = peer.marks.sent(true, peer.keepalive.load(Relaxed), now);
            shared.look(by, interface, &peer);
        }
    }
}
