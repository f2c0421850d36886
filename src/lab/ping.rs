//! ICMP echo from inside a namespace: round trips one after the other, and a probe at a fixed rate whose every
//! packet is numbered.

use super::error::{During, Result};
use super::measure::Spread;
use super::netns::Netns;
use super::packet::{ECHO_REPLY, icmp_echo, read_icmp};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Replies may come this long after the last request and still count.
const LINGER: Duration = Duration::from_secs(1);

/// Round-trip times of up to `count` echo requests, each sent when the one before is answered; unanswered ones (1 s) are an error.
pub fn round_trips(from: &Netns, to: Ipv4Addr, count: u64) -> Result<Spread> {
    let mut echo = Echo::open(from, to).during("open an ICMP socket")?;
    let mut micros = Vec::new();
    for number in 0..count {
        let sent = Instant::now();
        echo.send(number).during(format!("ping {to}"))?;
        while echo.receive().during(format!("wait for {to} to answer a ping"))? != Some(number) {}
        micros.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Spread::of(micros))
}

/// Whether one echo request is answered within `timeout`.
pub fn answers(from: &Netns, to: Ipv4Addr, timeout: Duration) -> Result<bool> {
    let mut echo = Echo::open(from, to).during("open an ICMP socket")?;
    echo.socket.set_read_timeout(Some(timeout)).during("set a timeout")?;
    let deadline = Instant::now() + timeout;
    if echo.send(0).is_err() {
        return Ok(false);
    }
    while Instant::now() < deadline {
        if matches!(echo.receive(), Ok(Some(0))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a probe saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probed {
    pub sent: u64,
    /// Requests without an answer, [`LINGER`] after the last one.
    pub lost: u64,
    /// The longest time without an answer, in milliseconds, from the first answer to the last.
    pub gap_ms: f64,
}

/// Requests at a fixed interval until [`Probe::stop`].
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<(u64, Duration)>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    quiet: AtomicBool,
    answered: AtomicU64,
}

impl Probe {
    pub fn start(from: &Netns, to: Ipv4Addr, interval: Duration) -> Result<Self> {
        let echo = Echo::open(from, to).during("open an ICMP socket")?;
        let mut receiving = echo.try_clone().during("share an ICMP socket")?;
        let shared = Arc::new(Shared::default());
        let (sending, listening) = (shared.clone(), shared.clone());
        let sender = std::thread::spawn(move || {
            let mut due = Instant::now();
            let mut number = 0u64;
            while !sending.stop.load(Ordering::Relaxed) {
                // What could not be sent (no route, full buffer) counts as lost: to a user it is.
                let _ = echo.send(number);
                number += 1;
                // What a busy machine missed is not made up for: that would be a flood, and its losses nobody's fault.
                due = (due + interval).max(Instant::now());
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            number
        });
        let receiver = std::thread::spawn(move || listen(&mut receiving, &listening));
        Ok(Self { shared, sender, receiver })
    }

    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    pub fn stop(self) -> Probed {
        self.shared.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender does not panic");
        let deadline = Instant::now() + LINGER;
        while self.shared.answered.load(Ordering::Relaxed) < sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.quiet.store(true, Ordering::Relaxed);
        let (answered, gap) = self.receiver.join().expect("the receiver does not panic");
        Probed { sent, lost: sent - answered, gap_ms: gap.as_secs_f64() * 1e3 }
    }
}

/// Counts distinct answers and the longest time between two of them.
fn listen(echo: &mut Echo, shared: &Shared) -> (u64, Duration) {
    let mut seen = Vec::<bool>::new();
    let (mut answered, mut longest, mut last) = (0, Duration::ZERO, None::<Instant>);
    let _ = echo.socket.set_read_timeout(Some(Duration::from_millis(20)));
    while !shared.quiet.load(Ordering::Relaxed) {
        let Ok(Some(number)) = echo.receive() else { continue };
        // Ours alone carry our identifier, and ours count from 0 at most once a microsecond.
        let Some(index) = usize::try_from(number).ok().filter(|n| *n < 1 << 28) else { continue };
        if seen.len() <= index {
            seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut seen[index], true) {
            continue;
        }
        let now = Instant::now();
        longest = longest.max(last.map_or(Duration::ZERO, |l| now - l));
        last = Some(now);
        answered += 1;
        shared.answered.store(answered, Ordering::Relaxed);
    }
    (answered, longest)
}

/// A raw ICMP socket of a namespace with an identifier of its own.
#[derive(Debug)]
struct Echo {
    socket: Socket,
    to: SocketAddr,
    id: u16,
}

impl Echo {
    fn open(from: &Netns, to: Ipv4Addr) -> io::Result<Self> {
        static IDS: AtomicU16 = AtomicU16::new(0x5057);
        let socket = from.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.set_recv_buffer_size(1 << 20)?;
        Ok(Self { socket, to: SocketAddrV4::new(to, 0).into(), id: IDS.fetch_add(1, Ordering::Relaxed) })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, to: self.to, id: self.id })
    }

    fn send(&self, number: u64) -> io::Result<()> {
        let mut data = [0; 56];
        data[..8].copy_from_slice(&number.to_be_bytes());
        self.socket.send_to(&icmp_echo(self.id, number as u16, &data), &self.to.into()).map(drop)
    }

    /// The number of an answer; `None` for other people's packets.
    fn receive(&mut self) -> io::Result<Option<u64>> {
        let mut packet = [0; 2048];
        let length = (&self.socket).read(&mut packet)?;
        let Some((ECHO_REPLY, id, data)) = read_icmp(&packet[..length]) else { return Ok(None) };
        let number = data.get(..8).map(|b| u64::from_be_bytes(b.try_into().expect("eight bytes")));
        Ok(number.filter(|_| id == self.id))
    }
}
