//! A packet generator: small UDP frames from a packet socket, as fast as one pinned thread can.
//!
//! Behind a veth the other end's receive path runs within the sender's system call, on the sender's CPU. So the time per
//! packet is that of sending and of everything that the kernel does with it up to the next queue.

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::Pid;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Frames in one system call.
const BATCH: usize = 32;
/// Bytes of payload: with all headers the 60 bytes (64 with the frame check sequence) of the smallest frame.
const PAYLOAD: usize = 18;

/// One flow.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub port: u16,
}

/// A socket and what it sends, round and round.
pub struct Sender {
    socket: OwnedFd,
    frames: Vec<Vec<u8>>,
    index: i32,
}

impl Sender {
    /// In the calling thread's namespace. `index` is the interface's, `to` the MAC address that it leads to.
    pub fn new(index: u32, to: [u8; 6], flows: &[Flow]) -> anyhow::Result<Self> {
        // A whole number of rounds through the flows, and at least a batch.
        let rounds = BATCH.div_ceil(flows.len());
        Self::of(index, (0..rounds).flat_map(|_| flows.iter().map(|flow| frame(to, flow, &[0; PAYLOAD]))).collect())
    }

    /// The same with frames that are there already.
    pub fn of(index: u32, frames: Vec<Vec<u8>>) -> anyhow::Result<Self> {
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).context("cannot open a packet socket")?;
        let bypass: libc::c_int = 1;
        // SAFETY: the pointer and length are those of `bypass`.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const bypass).cast(),
                size_of_val(&bypass) as u32,
            )
        };
        ensure!(set == 0, "PACKET_QDISC_BYPASS: {}", std::io::Error::last_os_error());
        Ok(Self { socket, frames, index: i32::try_from(index)? })
    }

    /// Sends for this long from the calling thread, held on a CPU and ahead of ordinary threads if one is given; how many left.
    pub fn send(&mut self, time: Duration, cpu: Option<usize>) -> anyhow::Result<u64> {
        if let Some(cpu) = cpu {
            take_over(cpu)?;
        }
        let begun = Instant::now();
        Ok(self.drive(|_| (begun.elapsed() < time).then_some(BATCH)))
    }

    /// Sends as many at a time as `due` says, which is told how many have left, until it says none.
    pub fn drive(&mut self, mut due: impl FnMut(u64) -> Option<usize>) -> u64 {
        // SAFETY: all zeros is a value of this plain structure.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = self.index;
        let mut vectors: Vec<libc::iovec> =
            self.frames.iter_mut().map(|frame| libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() }).collect();
        let mut messages: Vec<libc::mmsghdr> = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: all zeros is a value of this plain structure.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_name = (&raw mut address).cast();
                message.msg_hdr.msg_namelen = size_of_val(&address) as u32;
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let (mut sent, mut at) = (0, 0);
        while let Some(count) = due(sent) {
            let count = count.min(BATCH).min(messages.len() - at);
            if count == 0 {
                continue;
            }
            // SAFETY: the messages from `at` on are `count` whole ones, whose pointers lead to `address`, `vectors` and `frames`, all alive.
            let done = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages[at..].as_mut_ptr(), count as u32, 0) };
            // Refused for want of room: that frame is lost, as on a wire.
            let done = usize::try_from(done).unwrap_or(0);
            sent += done as u64;
            at = (at + done.max(1)) % messages.len();
        }
        sent
    }
}

/// Holds the calling thread on a CPU, ahead of ordinary threads.
fn take_over(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot pin the sender")?;
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread, and `first` a whole `sched_param`.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
    ensure!(done == 0, "SCHED_FIFO: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Ethernet, IPv4 and UDP headers with right checksums (UDP: none), and what is in it.
pub fn frame(to: [u8; 6], flow: &Flow, payload: &[u8]) -> Vec<u8> {
    let total = (20 + 8 + payload.len()) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    ip.extend(flow.source.octets());
    ip.extend(flow.destination.octets());
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 0xff, 8, 0]);
    frame.extend(ip);
    frame.extend(4000u16.to_be_bytes());
    frame.extend(flow.port.to_be_bytes());
    frame.extend(((8 + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}
