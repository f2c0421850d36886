//! Very many WireGuard hosts of another implementation (gotatun) behind one socket, each with an address of its own.

use super::Site;
use anyhow::{Context, ensure};
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt};
use portway::model::{PrivateKey, PublicKey};
use portway::wire::checksum::Sum;
use portway::wire::ipv4;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that wait in each direction.
const BUFFER: usize = 32 << 20;
/// After the last one's start; none tries again.
const PATIENCE: Duration = Duration::from_secs(4);

pub fn key(n: u32) -> PrivateKey {
    let mut bytes = [0x55; 32];
    bytes[4..8].copy_from_slice(&n.to_be_bytes());
    PrivateKey::new(bytes)
}

pub fn outer(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a80_0000 + n)
}

pub fn inner(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a40_0000 + n)
}

/// The socket of all hosts: it takes what is for any of their addresses.
pub struct Wire {
    socket: UdpSocket,
    to: SocketAddrV4,
}

impl Wire {
    pub fn open(site: &Site, port: u16) -> anyhow::Result<Self> {
        let socket = site.hosts.run(|| UdpSocket::bind(("0.0.0.0", port)))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        setsockopt(&socket, sockopt::SndBufForce, &BUFFER)?;
        Ok(Self { socket, to: site.listen })
    }

    pub fn send(&self, from: Ipv4Addr, bytes: &[u8]) -> anyhow::Result<()> {
        let address = |ip: Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
        let source = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address(from), ipi_addr: address(Ipv4Addr::UNSPECIFIED) };
        let to = SockaddrIn::from(self.to);
        let (vector, notes) = ([IoSlice::new(bytes)], [ControlMessage::Ipv4PacketInfo(&source)]);
        match sendmsg(self.socket.as_raw_fd(), &vector, &notes, MsgFlags::empty(), Some(&to)) {
            // What a peer's refusal of an earlier one would show as.
            Ok(_) | Err(Errno::ECONNREFUSED | Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error).context("sending as a host"),
        }
    }

    /// Whose it is, by its address.
    fn receive(&self, room: &mut [u8]) -> Option<(u32, usize)> {
        let mut vector = [IoSliceMut::new(room)];
        let mut notes = nix::cmsg_space!(libc::in_pktinfo);
        let message = recvmsg::<SockaddrIn>(self.socket.as_raw_fd(), &mut vector, Some(&mut notes), MsgFlags::MSG_DONTWAIT).ok()?;
        let to = message.cmsgs().ok()?.find_map(|note| match note {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(u32::from_be(info.ipi_addr.s_addr)),
            _ => None,
        })?;
        Some((to.wrapping_sub(outer(0).to_bits()), message.bytes))
    }

    fn wait(&self, most: Duration) {
        let millis = u16::try_from(most.as_millis()).unwrap_or(u16::MAX);
        let _ = poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(millis));
    }
}

/// What one host sends.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    pub per_second: u32,
    /// In each packet, behind the headers.
    pub bytes: usize,
}

struct Host {
    tunn: Tunn,
    begun: Option<Instant>,
    /// The first packet has been sent by a session.
    asked: bool,
    took: Option<Duration>,
}

/// When it arrives, its number, whose it is, whether it goes outward, its bytes.
type Underway = Reverse<(Instant, u64, u32, bool, Vec<u8>)>;

/// Hosts, and the cable between them and the gateway, which may be a long one.
pub struct Clients {
    wire: Wire,
    hosts: Vec<Host>,
    first: u32,
    /// Each way.
    delay: Duration,
    underway: BinaryHeap<Underway>,
    count: u64,
}

impl Clients {
    pub fn new(wire: Wire, gateway: &PublicKey, first: u32, count: u32, delay: Duration) -> Self {
        let host = |n: u32| {
            let (own, other) = (key(n), x25519::PublicKey::from(*gateway.bytes()));
            let limiter = Arc::new(RateLimiter::new(&x25519::PublicKey::from(*own.public().bytes()), 1000));
            let tunn = Tunn::new(x25519::StaticSecret::from(*own.expose()), other, None, None, IndexTable::from_os_rng(), limiter);
            Host { tunn, begun: None, asked: false, took: None }
        };
        let hosts = (first..first + count).map(host).collect();
        Self { wire, hosts, first, delay, underway: BinaryHeap::new(), count: 0 }
    }

    /// Has so many begin in a second, one after the other, each with its first packet: milliseconds to the answers, and how many had none.
    pub fn connect(&mut self, per_second: u32) -> anyhow::Result<(Vec<f64>, usize)> {
        let (start, mut next) = (Instant::now(), 0);
        let mut room = vec![0; 65_536];
        loop {
            let now = Instant::now();
            while next < self.hosts.len() && start + Duration::from_secs(1) / per_second * next as u32 <= now {
                let message = self.hosts[next].tunn.format_handshake_initiation(false).context("an initiation")?;
                self.hosts[next].begun = Some(Instant::now());
                self.post(next as u32, true, Packet::from(WgKind::from(message)).to_vec())?;
                next += 1;
            }
            self.pass(&mut room)?;
            let waiting = self.hosts[..next].iter().any(|host| host.took.is_none());
            if next == self.hosts.len() && (!waiting || start.elapsed() > self.last(per_second) + PATIENCE) {
                break;
            }
            self.wire.wait(Duration::from_millis(if self.underway.is_empty() { 1 } else { 0 }));
        }
        let took: Vec<f64> = self.hosts.iter().filter_map(|host| host.took).map(|took| took.as_secs_f64() * 1e3).collect();
        let lost = self.hosts.len() - took.len();
        Ok((took, lost))
    }

    fn last(&self, per_second: u32) -> Duration {
        Duration::from_secs(1) / per_second * self.hosts.len() as u32
    }

    /// One packet of one that is connected, there and back.
    pub fn ping(&mut self, n: u32) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let host = &mut self.hosts[n as usize];
        (host.took, host.begun) = (None, Some(begun));
        self.ask(n)?;
        let mut room = vec![0; 65_536];
        loop {
            self.pass(&mut room)?;
            if let Some(took) = self.hosts[n as usize].took {
                return Ok(took);
            }
            ensure!(begun.elapsed() < PATIENCE, "no answer to a host that is connected");
            if self.underway.is_empty() {
                self.wire.wait(Duration::from_millis(1));
            }
        }
    }

    /// Packets of one that is connected, for so long: those that were answered, of those that were sent.
    pub fn stream(&mut self, n: u32, stream: Stream, time: Duration) -> anyhow::Result<(usize, usize)> {
        let Stream { per_second, bytes } = stream;
        let (start, mut sent, mut answered) = (Instant::now(), 0, 0);
        let mut room = vec![0; 65_536];
        while start.elapsed() < time + Duration::from_millis(200) {
            while start.elapsed() < time && start + Duration::from_secs(1) / per_second * sent as u32 <= Instant::now() {
                self.hosts[n as usize].begun = Some(Instant::now());
                self.ask_with(n, bytes)?;
                sent += 1;
            }
            self.hosts[n as usize].took = None;
            answered += self.pass(&mut room)?;
            self.wire.wait(Duration::from_millis(1));
        }
        Ok((answered, sent))
    }

    /// What is due on the cable, and what has come: how many answers there were.
    fn pass(&mut self, room: &mut [u8]) -> anyhow::Result<usize> {
        while let Some((n, length)) = self.wire.receive(room) {
            let n = n.wrapping_sub(self.first);
            if (n as usize) < self.hosts.len() {
                self.post(n, false, room[..length].to_vec())?;
            }
        }
        let mut answers = 0;
        while self.underway.peek().is_some_and(|Reverse((at, ..))| *at <= Instant::now()) {
            let Some(Reverse((_, _, n, outward, bytes))) = self.underway.pop() else { break };
            if outward {
                self.wire.send(outer(self.first + n), &bytes)?;
            } else {
                answers += usize::from(self.take(n, &bytes)?);
            }
        }
        Ok(answers)
    }

    /// Onto the cable.
    fn post(&mut self, n: u32, outward: bool, bytes: Vec<u8>) -> anyhow::Result<()> {
        if self.delay.is_zero() && outward {
            return self.wire.send(outer(self.first + n), &bytes);
        }
        self.count += 1;
        self.underway.push(Reverse((Instant::now() + self.delay, self.count, n, outward, bytes)));
        Ok(())
    }

    /// What has come to a host; whether it was an answer.
    fn take(&mut self, n: u32, bytes: &[u8]) -> anyhow::Result<bool> {
        let Ok(message) = Packet::copy_from(bytes).try_into_wg() else { return Ok(false) };
        let answers = matches!(message, WgKind::HandshakeResp(_));
        let host = &mut self.hosts[n as usize];
        match host.tunn.handle_incoming_packet(message) {
            TunnResult::WriteToNetwork(reply) => {
                self.post(n, true, Packet::from(reply).to_vec())?;
                // Whoever has answered may not send before it has heard that it was understood.
                if answers && !self.hosts[n as usize].asked {
                    self.ask(n)?;
                }
            }
            TunnResult::WriteToTunnel(packet) if packet.is_empty() => {
                if !host.asked {
                    self.ask(n)?;
                }
            }
            TunnResult::WriteToTunnel(_) => {
                host.took = host.begun.map(|begun| begun.elapsed());
                return Ok(true);
            }
            TunnResult::Done | TunnResult::Err(_) => {}
        }
        Ok(false)
    }

    /// A ping of a host's, by its session.
    fn ask(&mut self, n: u32) -> anyhow::Result<()> {
        self.ask_with(n, 0)
    }

    fn ask_with(&mut self, n: u32, bytes: usize) -> anyhow::Result<()> {
        let echo = echo(inner(self.first + n), bytes);
        let host = &mut self.hosts[n as usize];
        host.asked = true;
        if let Ok(sealed) = host.tunn.encapsulate_with_session(Packet::copy_from(&echo[..])) {
            self.post(n, true, Packet::from(WgKind::from(sealed)).to_vec())?;
        }
        Ok(())
    }
}

/// To the gateway's own inner address, with so many bytes in it.
fn echo(from: Ipv4Addr, bytes: usize) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1];
    message.resize(8 + bytes, 0);
    let sum = Sum::default().with(&message).finish().to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let mut packet = ipv4::outer(from, super::SERVER, 0, 0, 1).to_vec();
    packet[9] = 1;
    packet.extend(message);
    let length = packet.len() as u16;
    ipv4::set_total_len(&mut packet[..20], length);
    packet
}
