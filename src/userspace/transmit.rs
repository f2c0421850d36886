//! From the TUN devices to the raw socket: one thread.

use super::counters::DropReason;
use super::raw::{self, BATCH, Buffers, Outgoing};
use super::ready::serve;
use super::segment::{HEADER_MAX, HeaderBuffer, Segments};
use super::shared::{Device, Shared};
use super::table::{Outer, TunnelId};
use super::tun;
use super::vnet::{self, VnetHeader};
use crate::model::GreKey;
use crate::wire::{ecn, gre, ipv4};
use nix::errno::Errno;
use nix::sys::epoll::Epoll;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Packets read from one device before the next has its turn.
const TURN: usize = 32;

/// Bytes read before they are sent: more would only push each other out of the processor's cache.
const READ_MAX: usize = 256 << 10;

/// Outer IP, GRE, inner IP and transport headers.
const FRONT: usize = ipv4::HEADER_LEN + gre::HEADER_LEN;

/// Runs until it is told to stop. What was read by then has been sent.
pub fn run(shared: &Shared, epoll: &Epoll) {
    let mut transmitter = Transmitter::default();
    serve(epoll, "packets from TUN devices", || shared.stopping(), |ready| transmitter.round(shared, epoll, ready));
}

#[derive(Default)]
struct Transmitter {
    buffers: Buffers,
    read: Vec<Read>,
    /// Bytes in `read`.
    bytes: usize,
    messages: Vec<Message>,
    /// The outer IP ID.
    id: u16,
}

/// A packet with its offload header in the slot of its place in the list.
struct Read {
    tunnel: TunnelId,
    device: Arc<Device>,
    len: usize,
}

/// Outer addresses and key of what is sent.
#[derive(Clone, Copy)]
struct Way {
    from: Ipv4Addr,
    to: Ipv4Addr,
    key: GreKey,
}

/// A packet to send, headers ready.
struct Message {
    from: Ipv4Addr,
    to: Ipv4Addr,
    header: [u8; FRONT + HEADER_MAX],
    header_len: usize,
    slot: usize,
    payload: Range<usize>,
}

impl Transmitter {
    fn round(&mut self, shared: &Shared, epoll: &Epoll, ready: &mut dyn Iterator<Item = u64>) {
        let devices = {
            let table = shared.table();
            ready.filter_map(|number| table.device(number).map(|device| (number, device.clone()))).collect::<Vec<_>>()
        };
        for (tunnel, device) in devices {
            for _ in 0..TURN {
                match tun::read(&device.queue, self.buffers.slot_mut(self.read.len())) {
                    Ok(Some(len)) => {
                        self.bytes += len;
                        self.read.push(Read { tunnel, device: device.clone(), len });
                    }
                    Ok(None) => break,
                    Err(fault) => {
                        // The interface was removed: without this, epoll would report it for ever.
                        tracing::warn!(interface = %device.interface, %fault, "TUN device lost");
                        device.lost.store(true, Relaxed);
                        let _ = epoll.delete(&device.queue);
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
        if self.read.is_empty() {
            return;
        }
        let read = std::mem::take(&mut self.read);
        let judged = {
            let table = shared.table();
            let judge = |(slot, r): (usize, &Read)| {
                let packet = self.buffers.slot(slot).get(vnet::LEN..r.len).ok_or(DropReason::Truncated)?;
                let ip = ipv4::Header::parse(packet)?;
                match table.encapsulate(r.tunnel, ip.destination.into())? {
                    Outer { source: IpAddr::V4(from), destination: IpAddr::V4(to), key } => Ok((ip, Way { from, to, key })),
                    Outer { .. } => Err(DropReason::Unroutable),
                }
            };
            read.iter().enumerate().map(judge).collect::<Vec<_>>()
        };
        for (slot, (r, judged)) in read.iter().zip(judged).enumerate() {
            let sent = judged.and_then(|(ip, way)| self.segment(slot, &ip, way));
            match sent {
                Ok(segments) => r.device.traffic.sent(segments, (r.len - vnet::LEN) as u64),
                Err(reason) => shared.drop(reason),
            }
        }
        self.send(shared);
        self.read = read;
        self.read.clear();
        self.bytes = 0;
    }

    /// Turns one packet into messages: how many.
    fn segment(&mut self, slot: usize, ip: &ipv4::Header, Way { from, to, key }: Way) -> Result<u64, DropReason> {
        let (offload, packet) = self.buffers.slot_mut(slot).split_first_chunk_mut().ok_or(DropReason::Truncated)?;
        let offload = VnetHeader::decode(offload);
        let mut segments = Segments::new(&mut packet[..ip.total_len], ip, &offload).map_err(|_| DropReason::Malformed)?;
        let (class, gre) = (ecn::encapsulate(ip.traffic_class), gre::header(key, gre::Protocol::Ipv4));
        let mut count = 0;
        let mut inner: HeaderBuffer = [0; HEADER_MAX];
        while let Some((inner_len, payload)) = segments.next(&mut inner) {
            let total = FRONT + inner_len + payload.len();
            let Ok(total) = u16::try_from(total) else { return Err(DropReason::TooBig) };
            // 0 would make the kernel choose one.
            self.id = self.id.checked_add(1).unwrap_or(1);
            let mut header = [0; FRONT + HEADER_MAX];
            header[..ipv4::HEADER_LEN].copy_from_slice(&ipv4::outer(from, to, class, total, self.id));
            header[ipv4::HEADER_LEN..FRONT].copy_from_slice(&gre);
            header[FRONT..FRONT + inner_len].copy_from_slice(&inner[..inner_len]);
            let payload = payload.start + vnet::LEN..payload.end + vnet::LEN;
            self.messages.push(Message { from, to, header, header_len: FRONT + inner_len, slot, payload });
            count += 1;
        }
        Ok(count)
    }

    fn send(&mut self, shared: &Shared) {
        let packets = self
            .messages
            .iter()
            .map(|m| Outgoing {
                from: m.from,
                to: m.to,
                header: &m.header[..m.header_len],
                payload: &self.buffers.slot(m.slot)[m.payload.clone()],
            })
            .collect::<Vec<_>>();
        let mut rest = packets.as_slice();
        while !rest.is_empty() {
            match raw::send(shared.socket.as_fd(), rest) {
                Ok(sent) => rest = &rest[sent.max(1)..],
                Err(Errno::EINTR) => {}
                Err(fault) => {
                    shared.drop(match fault {
                        Errno::EMSGSIZE => DropReason::TooBig,
                        Errno::ENETUNREACH | Errno::EHOSTUNREACH => DropReason::Unroutable,
                        _ => DropReason::SendFailed,
                    });
                    rest = &rest[1..];
                }
            }
        }
        self.messages.clear();
    }
}
