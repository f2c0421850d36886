//! From the raw socket to the TUN devices: one thread.

use super::coalesce::{Candidate, Coalescer, lead};
use super::counters::DropReason;
use super::raw::{self, BATCH, Buffers};
use super::shared::{Device, Shared};
use super::table::{Outer, Table};
use crate::wire::{ecn, gre, icmp, ipv4, nested};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Runs until it is told to stop. What was read by then has been delivered; what was not is left in the socket, for a
/// successor that holds it too.
pub fn run(shared: &Shared, wake: &EventFd) {
    let mut receiver = Receiver::default();
    let mut ready = [PollFd::new(shared.socket.as_fd(), PollFlags::POLLIN), PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
    while !shared.stopping() {
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(fault) => {
                tracing::error!(%fault, "waiting for tunnel packets failed: no more are received");
                return;
            }
        }
        while !shared.stopping() && receiver.batch(shared) == BATCH {}
    }
}

#[derive(Default)]
struct Receiver {
    buffers: Buffers,
    coalescer: Coalescer,
    accepted: Vec<Accepted>,
    /// The devices of this batch.
    devices: Vec<(u64, Arc<Device>)>,
}

/// An inner packet that may pass.
struct Accepted {
    slot: usize,
    /// Of the inner packet in its slot.
    range: Range<usize>,
    ip: ipv4::Header,
    /// In `devices`.
    device: usize,
}

impl Receiver {
    /// Receives and delivers one batch: how many packets it had.
    fn batch(&mut self, shared: &Shared) -> usize {
        let mut lengths = [0; BATCH];
        let got = match raw::receive(shared.socket.as_fd(), &mut self.buffers, &mut lengths) {
            Ok(got) => got,
            Err(_) => return 0, // EAGAIN, or an ICMP error about something sent: poll tells when there is more.
        };
        self.devices.clear();
        self.accepted.clear();
        let table = shared.table();
        for (slot, length) in lengths[..got].iter().enumerate() {
            let bytes = &mut self.buffers.slot_mut(slot)[..*length];
            match accept(bytes, &table, &mut self.devices) {
                Ok((range, ip, device)) => self.accepted.push(Accepted { slot, range, ip, device }),
                Err(reason) => shared.drop(reason),
            }
        }
        drop(table);
        self.deliver(shared);
        got
    }

    fn deliver(&mut self, shared: &Shared) {
        self.coalescer.clear();
        for a in &self.accepted {
            let device = &self.devices[a.device].1;
            if a.range.len() > device.mtu.load(Relaxed) {
                shared.refresh_mtu(device);
            }
            let new = Candidate {
                tunnel: a.device,
                index: a.slot,
                packet: &self.buffers.slot(a.slot)[a.range.clone()],
                offset: a.range.start,
                ip: &a.ip,
                mtu: device.mtu.load(Relaxed),
            };
            self.coalescer.push(&new, |slot, at| &self.buffers.slot(slot)[at..]);
        }
        for group in self.coalescer.groups() {
            let (first, range) = &group.parts[0];
            lead(group, &mut self.buffers.slot_mut(*first)[range.clone()]);
            let offload = group.offload.encode();
            let mut vectors = Vec::with_capacity(1 + group.parts.len());
            vectors.push(IoSlice::new(&offload));
            vectors.extend(group.parts.iter().map(|(slot, range)| IoSlice::new(&self.buffers.slot(*slot)[range.clone()])));
            let device = &self.devices[group.tunnel].1;
            let packets = group.parts.len() as u64;
            match nix::sys::uio::writev(&device.queue, &vectors) {
                Ok(_) => device.traffic.received(packets, group.len as u64),
                Err(_) => shared.drops.count(DropReason::DeliverFailed, packets),
            }
        }
    }
}

/// Judges one packet as the raw socket gives it, outer IP header first.
fn accept(
    bytes: &mut [u8],
    table: &Table<Arc<Device>>,
    devices: &mut Vec<(u64, Arc<Device>)>,
) -> Result<(Range<usize>, ipv4::Header, usize), DropReason> {
    let outer = ipv4::Header::parse(bytes)?;
    let packet = gre::Packet::parse(&bytes[outer.header_len..outer.total_len])?;
    if packet.protocol != gre::Protocol::Ipv4 {
        return Err(DropReason::UnsupportedProtocol);
    }
    let ip = ipv4::Header::parse(packet.inner)?;
    if nested::is_nested(packet.inner, &ip) {
        return Err(DropReason::Nested);
    }
    let received = Outer { source: outer.source.into(), destination: outer.destination.into(), key: packet.key };
    let from = |source: Ipv4Addr| table.decapsulate(&received, source.into(), ip.destination.into());
    let (source, (id, device)) = match from(ip.source) {
        Ok(found) => (ip.source, found),
        Err(DropReason::SpoofedInner) => {
            let source = reporting(packet.inner, &ip).ok_or(DropReason::SpoofedInner)?;
            (source, from(source)?)
        }
        Err(reason) => return Err(reason),
    };
    let start = outer.header_len + gre::HEADER_LEN;
    let range = start..start + ip.total_len;
    let class = ecn::decapsulate(outer.traffic_class, ip.traffic_class).ok_or(DropReason::Congestion)?;
    if source != ip.source {
        ipv4::set_source(&mut bytes[start..start + ip.header_len], source);
    }
    let ip = ipv4::Header { source, ..ip };
    let ip = if class == ip.traffic_class {
        ip
    } else {
        let header = &mut bytes[start..start + ip.header_len];
        header[1] = class;
        ipv4::set_total_len(header, ip.total_len as u16);
        ipv4::Header { traffic_class: class, ..ip }
    };
    // Packets come in runs.
    let known = devices.iter().rposition(|(known, _)| *known == id);
    let at = known.unwrap_or_else(|| {
        devices.push((id, device.clone()));
        devices.len() - 1
    });
    Ok((range, ip, at))
}

/// As whose an ICMP error counts that comes from a router on the way: as that of the host which the packet that it
/// quotes was for. It goes on with this source, as the true one may be any, which no check could tell from a forgery and for
/// which the reverse path filter finds no route. Who gets the error does not look at it (RFC 1191); which connection it
/// belongs to, if any, conntrack finds by what is quoted.
pub(super) fn reporting(packet: &[u8], ip: &ipv4::Header) -> Option<Ipv4Addr> {
    icmp::quoted(packet, ip).filter(|quoted| quoted.source == ip.destination).map(|quoted| quoted.destination)
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
