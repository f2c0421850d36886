//! From inner packets, big ones as the TUN device gives them, to sealed datagrams on their way: each thread that sends has one.
//!
//! Segments of one big packet are sealed one behind the other, so that they go to the kernel as they lie, in one message.

use super::counters::DropReason;
use super::message::{DATA_HEADER_LEN, DATA_OVERHEAD, TAG_LEN};
use super::peer::Peer;
use super::session::Session;
use super::shared::{Interface, Shared};
use super::socket::{self, BYTES_MAX, Outgoing, SEGMENTS_MAX};
use crate::userspace::segment::{HEADER_MAX, HeaderBuffer, Segments};
use crate::userspace::vnet::{self, VnetHeader};
use crate::wire::{ecn, ipv4};
use nix::errno::Errno;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that are sealed before they are sent: more would only push each other out of the processor's cache.
const ROOM: usize = 384 << 10;

/// Bytes of one packet with everything around it.
const PACKET_MAX: usize = 65_536 + DATA_OVERHEAD;

#[derive(Debug)]
pub struct Sealer {
    /// Which of an interface's sockets to send from.
    thread: usize,
    bytes: Vec<u8>,
    used: usize,
    ready: Vec<Ready>,
}

/// What goes to the kernel in one message.
#[derive(Debug)]
struct Ready {
    interface: Arc<Interface>,
    to: SocketAddr,
    class: u8,
    range: Range<usize>,
    segment: usize,
    count: usize,
    /// The last one was shorter: nothing may follow.
    full: bool,
}

impl Sealer {
    pub fn new(thread: usize) -> Self {
        Self { thread, bytes: vec![0; ROOM + PACKET_MAX], used: 0, ready: Vec::new() }
    }

    /// Seals one packet, cut into segments if it is a big one, and sends it with the next [`Sealer::flush`], if not before: into how
    /// many datagrams. `packet` begins with the IP header that was read as `ip`, and may have more behind.
    pub fn packet(
        &mut self,
        interface: &Arc<Interface>,
        session: &Session,
        to: SocketAddr,
        offload: &VnetHeader,
        packet: &mut [u8],
        ip: &ipv4::Header,
    ) -> Result<u64, DropReason> {
        let class = ecn::encapsulate(ip.traffic_class);
        let mtu = interface.mtu.load(Relaxed);
        let mut segments = Segments::new(&mut packet[..ip.total_len], ip, offload).map_err(|_| DropReason::Malformed)?;
        let mut header: HeaderBuffer = [0; HEADER_MAX];
        let mut count = 0;
        while let Some((header_len, payload)) = segments.next(&mut header) {
            let len = header_len + payload.len();
            // To a multiple of 16, but not beyond what the device takes (whitepaper section 5.4.6).
            let padded = len.next_multiple_of(16).min(mtu).max(len);
            let total = padded + DATA_OVERHEAD;
            if self.used + total > self.bytes.len() {
                self.flush();
            }
            let message = &mut self.bytes[self.used..self.used + total];
            let (front, rest) = message[DATA_HEADER_LEN..].split_at_mut(header_len);
            front.copy_from_slice(&header[..header_len]);
            rest[..payload.len()].copy_from_slice(&segments.packet()[payload]);
            rest[len - header_len..padded - header_len + TAG_LEN].fill(0);
            session.seal(message)?;
            self.append(interface, to, class, total);
            count += 1;
        }
        if self.used >= ROOM {
            self.flush();
        }
        Ok(count)
    }

    /// Takes the next `len` bytes, which are a datagram.
    fn append(&mut self, interface: &Arc<Interface>, to: SocketAddr, class: u8, len: usize) {
        let range = self.used..self.used + len;
        self.used = range.end;
        if let Some(last) = self.ready.last_mut()
            && !last.full
            && len <= last.segment
            && last.count < SEGMENTS_MAX
            && last.range.len() + len <= BYTES_MAX
            && (last.to, last.class) == (to, class)
            && Arc::ptr_eq(&last.interface, interface)
            && interface.segmenting.load(Relaxed)
        {
            last.range.end = range.end;
            last.count += 1;
            last.full = len < last.segment;
            return;
        }
        self.ready.push(Ready { interface: interface.clone(), to, class, range, segment: len, count: 1, full: false });
    }

    /// Sends what is sealed.
    pub fn flush(&mut self) {
        let mut rest = self.ready.as_slice();
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|ready| Arc::ptr_eq(&ready.interface, &first.interface)).count();
            let outgoing = rest[..run]
                .iter()
                .map(|ready| Outgoing { to: ready.to, bytes: &self.bytes[ready.range.clone()], segment: ready.segment, class: ready.class })
                .collect::<Vec<_>>();
            send_all(&first.interface, self.thread, &outgoing);
            rest = &rest[run..];
        }
        self.ready.clear();
        self.used = 0;
    }

    /// Sends the packets that have waited for a session of this peer; something, in any case, so that the peer knows that we have it.
    pub fn release(&mut self, shared: &Shared, interface: &Arc<Interface>, peer: &Arc<Peer>, greet: bool) {
        let now = shared.now();
        let Some((session, to)) = peer.session(now).zip(peer.endpoint()) else { return };
        let mut sent = 0;
        for mut packet in peer.waited() {
            let bytes = packet.len().saturating_sub(vnet::LEN) as u64;
            let done = split(&mut packet).and_then(|(offload, packet, ip)| self.packet(interface, &session, to, &offload, packet, &ip));
            match done {
                Ok(packets) => {
                    interface.traffic.sent(packets, bytes);
                    peer.sent_bytes.fetch_add(bytes, Relaxed);
                    sent += packets;
                }
                Err(reason) => interface.dropped(reason),
            }
        }
        if sent == 0 && !greet {
            return;
        }
        if sent == 0 {
            match session.keepalive() {
                Ok(message) => send_one(interface, to, &message),
                Err(reason) => return interface.dropped(reason),
            }
        }
        self.flush();
        let by = peer.marks.sent(sent > 0, peer.keepalive.load(Relaxed), now);
        shared.look(by, interface, peer);
    }
}

/// A packet as a TUN device gives it: how it is to be cut, itself, and its header.
pub fn split(bytes: &mut [u8]) -> Result<(VnetHeader, &mut [u8], ipv4::Header), DropReason> {
    let (offload, packet) = bytes.split_first_chunk_mut().ok_or(DropReason::Truncated)?;
    let ip = ipv4::Header::parse(packet)?;
    Ok((VnetHeader::decode(offload), packet, ip))
}

/// Sends one datagram that is no data.
pub fn send_one(interface: &Interface, to: SocketAddr, message: &[u8]) {
    send_all(interface, 0, &[Outgoing { to, bytes: message, segment: message.len(), class: 0 }]);
}

/// Sends them all, unless the interface is to be silent; whoever silences it waits until nothing is on its way.
fn send_all(interface: &Interface, thread: usize, outgoing: &[Outgoing<'_>]) {
    let Some(socket) = interface.sockets.get(thread % interface.sockets.len().max(1)) else { return };
    let _open = interface.gate();
    send_through(interface, socket.as_fd(), outgoing);
}

fn send_through(interface: &Interface, socket: BorrowedFd<'_>, outgoing: &[Outgoing<'_>]) {
    let mut rest = outgoing;
    while let Some(first) = rest.first() {
        if !interface.is_sending() {
            return interface.drops.count(DropReason::Silent, datagrams(rest));
        }
        match socket::send(socket, rest) {
            Ok(sent) => rest = &rest[sent.max(1)..],
            Err(Errno::EINTR) => {}
            // A device that cannot sum up datagrams, or segments longer than its MTU: each by itself is summed up, and fragmented.
            Err(fault @ (Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE)) if first.bytes.len() > first.segment => {
                if fault == Errno::EIO {
                    interface.segmenting.store(false, Relaxed);
                }
                let single = first.bytes.chunks(first.segment).map(|bytes| Outgoing { bytes, segment: bytes.len(), ..*first });
                send_through(interface, socket, &single.collect::<Vec<_>>());
                rest = &rest[1..];
            }
            Err(fault) => {
                let reason = match fault {
                    Errno::EMSGSIZE => DropReason::TooBig,
                    _ => DropReason::SendFailed,
                };
                interface.drops.count(reason, datagrams(&rest[..1]));
                rest = &rest[1..];
            }
        }
    }
}

fn datagrams(outgoing: &[Outgoing<'_>]) -> u64 {
    outgoing.iter().map(|o| o.bytes.len().div_ceil(o.segment.max(1)) as u64).sum()
}
