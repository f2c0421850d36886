//! Frames at a steady rate from a packet socket: connections that begin one after the other, and forged packets.

use super::redundant::shell;
use anyhow::{Context, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use portway::lab::{ETHERTYPE_IPV4, Netns, gre, ipv4};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Frames are sent this often, all that are due at once.
const TICK: Duration = Duration::from_millis(1);
const TICKS_A_SECOND: u64 = 1000;
/// What new connections go to: ports of a tenant's server that gateways allow.
const PORTS: [u16; 10] = [5201, 5202, 5203, 5204, 5205, 5206, 5207, 5208, 5209, 5210];
/// Connections to one of them.
const SPAN: u64 = 60_000;
const FIRST: u16 = 2000;
const UDP: u8 = 17;
const GRE: u8 = 47;

/// An interface to send from and the neighbour to send to.
pub struct Wire {
    socket: OwnedFd,
    index: i32,
    to: [u8; 6],
}

impl Wire {
    /// From an interface of `at` to the hardware address of an interface of `neighbour`.
    pub fn open(at: &Netns, interface: &str, neighbour: &Netns, other: &str) -> anyhow::Result<Self> {
        let index = at.run(|| nix::net::if_::if_nametoindex(interface))?;
        let socket =
            at.run(|| socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)).context("cannot open a packet socket")?;
        let text = shell(neighbour, &format!("ip -o link show {other}"))?;
        let text = text.split_once("link/ether ").and_then(|(_, rest)| rest.split_whitespace().next()).context("no hardware address")?;
        let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<u8>, _>>()?;
        Ok(Self { socket, index: i32::try_from(index)?, to: bytes.try_into().ok().context("no hardware address")? })
    }

    /// An Ethernet frame around an IPv4 packet.
    pub fn frame(&self, packet: &[u8]) -> Vec<u8> {
        [&self.to[..], &[2, 0, 0, 0, 0, 0xff, 8, 0], packet].concat()
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: all zeros is a value of this plain structure.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = self.index;
        // SAFETY: both pointers and lengths are of values that are alive during the call. What is refused is lost, as on a wire.
        unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            );
        }
    }

    /// Sends `frame(0)`, `frame(1)`, ... at a rate a second, which is a multiple of a thousand, for so many; `begun(tick)` before those of a tick.
    fn pace(&self, rate: u64, count: u64, mut begun: impl FnMut(u64), frame: &mut [u8], mut shape: impl FnMut(u64, &mut [u8])) {
        let each = rate / TICKS_A_SECOND;
        let mut due = Instant::now();
        for tick in 0..count.div_ceil(each) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += TICK;
            begun(tick);
            for number in tick * each..((tick + 1) * each).min(count) {
                shape(number, frame);
                self.send(frame);
            }
        }
    }

    /// The same frame, again and again; how many a second it really were.
    pub fn repeat(&self, frame: &mut [u8], rate: u64, lasts: Duration) -> f64 {
        let (begun, count) = (Instant::now(), (rate as f64 * lasts.as_secs_f64()) as u64);
        self.pace(rate, count, |_| {}, frame, |_, _| {});
        count as f64 / begun.elapsed().as_secs_f64()
    }
}

/// UDP connections of one packet each, all different.
pub struct Beginnings {
    frame: Vec<u8>,
    /// Where the ports are in a frame.
    ports: usize,
    source: Ipv4Addr,
    rate: u64,
    /// When the ones of each tick were sent, in nanoseconds from `epoch`.
    sent: Vec<AtomicU64>,
    epoch: Instant,
    count: u64,
}

impl Beginnings {
    /// As a function host sends them through its tunnel: outer addresses and key. Without a tunnel: as to any router.
    pub fn new(
        wire: &Wire,
        tunnel: Option<(Ipv4Addr, Ipv4Addr, u32)>,
        source: Ipv4Addr,
        server: Ipv4Addr,
        rate: u64,
        count: u64,
    ) -> anyhow::Result<Self> {
        ensure!(count <= SPAN * PORTS.len() as u64 && rate.is_multiple_of(TICKS_A_SECOND), "at most 600,000, at thousands a second");
        let udp: Vec<u8> = [0, 0, 20, 0].into_iter().flat_map(u16::to_be_bytes).chain([0; 12]).collect();
        let inner = ipv4(source, server, UDP, &udp);
        let packet = match tunnel {
            Some((from, to, key)) => ipv4(from, to, GRE, &gre(key, ETHERTYPE_IPV4, &inner)),
            None => inner,
        };
        let frame = wire.frame(&packet);
        let ports = frame.len() - udp.len();
        let sent = (0..count.div_ceil(rate / TICKS_A_SECOND)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { frame, ports, source, rate, sent, epoch: Instant::now(), count })
    }

    /// Sends them all, and returns how long that took.
    pub fn send(&self, wire: &Wire) -> Duration {
        let begun = Instant::now();
        let note = |tick: u64| self.sent[tick as usize].store(self.epoch.elapsed().as_nanos() as u64, Relaxed);
        wire.pace(self.rate, self.count, note, &mut self.frame.clone(), |number, frame| {
            frame[self.ports..self.ports + 2].copy_from_slice(&(FIRST + (number % SPAN) as u16).to_be_bytes());
            frame[self.ports + 2..self.ports + 4].copy_from_slice(&PORTS[(number / SPAN) as usize].to_be_bytes());
        });
        begun.elapsed()
    }

    /// Which one that is.
    pub fn number(&self, source: std::net::IpAddr, from: u16, to: u16) -> Option<usize> {
        let place = PORTS.iter().position(|port| *port == to)? as u64;
        let number = place * SPAN + u64::from(from.checked_sub(FIRST)?);
        (source == self.source && number < self.count).then_some(number as usize)
    }

    /// How long ago it was sent.
    pub fn age(&self, number: usize) -> Duration {
        let sent = self.sent[number / (self.rate / TICKS_A_SECOND) as usize].load(Relaxed);
        self.epoch.elapsed().saturating_sub(Duration::from_nanos(sent))
    }

    pub fn count(&self) -> usize {
        self.count as usize
    }
}

/// Somewhere to send to that neither answers nor refuses.
pub fn sink(server: &Netns) -> anyhow::Result<()> {
    let rule = "udp length 20 udp dport 5201-5210 drop";
    shell(server, &format!("nft 'table ip sink {{\n chain sunk {{\n type filter hook prerouting priority -300\n {rule}\n }}\n }}'"))?;
    Ok(())
}
