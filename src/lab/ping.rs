//! ICMP echo from inside a namespace: round trips one after the other, and a probe at a fixed rate whose every
//! packet is numbered.

use super::error::{During, Result};
use super::measure::Spread;
use super::netns::Netns;
use super::packet::{ECHO_REPLY, icmp_echo, read_icmp};
use crate::daemon::realtime::realtime;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Replies may come this long after the last request and still count.
const LINGER: Duration = Duration::from_secs(1);
/// Of the thread that asks, among the realtime ones: below a daemon's timers.
const PRIORITY: u8 = 1;
/// Bytes of answers that wait for a busy reader: some seconds of them.
const BUFFER: usize = 8 << 20;

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
    /// The longest time without an answer, in milliseconds, from the first answer (or [`Probe::mark`]) to the last request.
    /// Answers are stamped by the kernel on arrival, and while nothing was asked for more than the interval, nothing was
    /// missing: neither a late reader nor a late asker lengthens a gap.
    pub gap_ms: f64,
    /// The same before the mark, when nothing had happened yet, and after [`Probe::calm`]: what the machine makes of a 1 ms ping by itself.
    pub quiet_ms: f64,
    /// The longest time between two requests, in milliseconds. Much above the interval, the machine was busy, and what
    /// went through it was late with it.
    pub asked_ms: f64,
}

/// Requests at a fixed interval until [`Probe::stop`].
#[derive(Debug)]
pub struct Probe {
    interval: Duration,
    shared: Arc<Shared>,
    sender: JoinHandle<(u64, Duration)>,
    receiver: JoinHandle<Heard>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    over: AtomicBool,
    answered: AtomicU64,
    /// Nanoseconds, since the mark, and before it.
    gap: AtomicU64,
    quiet: AtomicU64,
    /// What the gap was when all was over.
    judged: Mutex<Option<Duration>>,
    /// Those of more than an interval, and when each was over, by the clock that stamps answers.
    gaps: Mutex<Vec<(Duration, Duration)>>,
    /// When each request was sent, by the clock that stamps answers.
    sent: Mutex<Vec<Duration>>,
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged(&self) -> MutexGuard<'_, Option<Duration>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gaps(&self) -> MutexGuard<'_, Vec<(Duration, Duration)>> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, gap: Duration) {
        self.gap.fetch_max(u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What came in.
#[derive(Debug, Default)]
struct Heard {
    answered: u64,
    /// When the last answer did.
    last: Option<Duration>,
    /// The number after the highest that was answered.
    next: usize,
}

impl Probe {
    pub fn start(from: &Netns, to: Ipv4Addr, interval: Duration) -> Result<Self> {
        let echo = Echo::open(from, to).during("open an ICMP socket")?;
        let receiving = echo.try_clone().during("share an ICMP socket")?;
        receiving.prepare().during("prepare an ICMP socket")?;
        let shared = Arc::new(Shared::default());
        let (sending, listening) = (shared.clone(), shared.clone());
        let sender = std::thread::spawn(move || {
            // Best effort: without the right to it, `asked_ms` shows the consequences.
            let _ = realtime(PRIORITY);
            let mut due = Instant::now();
            let (mut number, mut asked, mut longest) = (0u64, due, Duration::ZERO);
            while !sending.stop.load(Ordering::Relaxed) {
                let now = Instant::now();
                longest = longest.max(now - std::mem::replace(&mut asked, now));
                sending.sent().push(clock());
                // What could not be sent (no route, full buffer) counts as lost: to a user it is.
                let _ = echo.send(number);
                number += 1;
                // What a busy machine missed is not made up for: that would be a flood, and its losses nobody's fault.
                due = (due + interval).max(Instant::now());
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            (number, longest)
        });
        let receiver = std::thread::spawn(move || listen(&receiving, &listening, interval));
        Ok(Self { interval, shared, sender, receiver })
    }

    /// Between two requests.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Something is about to happen: the gap is counted from here.
    pub fn mark(&self) {
        self.shared.quiet.fetch_max(self.shared.gap.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What was about to happen is over, and answers come again: the gap stays what it is, and longer ones are the machine's.
    pub fn calm(&self) {
        let gap = Duration::from_nanos(self.shared.gap.swap(0, Ordering::Relaxed));
        self.shared.judged().get_or_insert(gap);
    }

    /// The longest time between two answers so far, since the mark if there was one. What goes on now is not in it before the next answer.
    pub fn gap(&self) -> Duration {
        Duration::from_nanos(self.shared.gap.load(Ordering::Relaxed))
    }

    /// The longest time without an answer of which a part was between these two times of [`clock`]; an interval, if there was no longer one.
    /// What goes on now is not in it before the next answer.
    pub fn gap_within(&self, from: Duration, to: Duration) -> Duration {
        let overlaps = |(over, gap): &&(Duration, Duration)| *over >= from && over.saturating_sub(*gap) <= to;
        self.shared.gaps().iter().filter(overlaps).map(|(_, gap)| *gap).max().unwrap_or(self.interval)
    }

    pub fn stop(self) -> Probed {
        self.shared.stop.store(true, Ordering::Relaxed);
        let (sent, asked) = self.sender.join().expect("the sender does not panic");
        let deadline = Instant::now() + LINGER;
        while self.shared.answered.load(Ordering::Relaxed) < sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.over.store(true, Ordering::Relaxed);
        let shared = self.shared.clone();
        let heard = self.receiver.join().expect("the receiver does not panic");
        if let (Some(last), Some(unanswered)) = (heard.last, shared.sent().get(heard.next..).and_then(<[_]>::last)) {
            shared.note(unanswered.saturating_sub(last));
        }
        let read = |nanoseconds: &AtomicU64| Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        let (gap, quiet) = (read(&shared.gap), read(&shared.quiet));
        let (gap, quiet) = shared.judged().map_or((gap, quiet), |judged| (judged, quiet.max(gap)));
        Probed {
            sent,
            lost: sent - heard.answered,
            gap_ms: gap.as_secs_f64() * 1e3,
            quiet_ms: quiet.as_secs_f64() * 1e3,
            asked_ms: asked.as_secs_f64() * 1e3,
        }
    }
}

/// Counts distinct answers and notes the longest time between two of them.
fn listen(echo: &Echo, shared: &Shared, interval: Duration) -> Heard {
    let mut seen = Vec::<bool>::new();
    let mut heard = Heard::default();
    while !shared.over.load(Ordering::Relaxed) {
        let Ok(Some((number, now))) = echo.receive_stamped() else { continue };
        // Ours alone carry our identifier, and ours count from 0 at most once a microsecond.
        let Some(index) = usize::try_from(number).ok().filter(|n| *n < 1 << 28) else { continue };
        if seen.len() <= index {
            seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut seen[index], true) {
            continue;
        }
        if let Some(last) = heard.last {
            // The first request after the last one answered: from then on something was missing.
            let asked = shared.sent().get(heard.next).copied().unwrap_or(now);
            let gap = gap(last, asked, now, interval);
            shared.note(gap);
            if gap > interval {
                shared.gaps().push((now, gap));
            }
        }
        heard.last = Some(now);
        heard.next = heard.next.max(index + 1);
        heard.answered += 1;
        shared.answered.store(heard.answered, Ordering::Relaxed);
    }
    heard
}

/// Between answers at `last` and `now`, when the first question after `last`'s was asked at `asked` and should have been
/// an interval after the one before.
fn gap(last: Duration, asked: Duration, now: Duration, interval: Duration) -> Duration {
    let missing = now.saturating_sub(asked.max(last));
    now.saturating_sub(last).min(missing + interval)
}

/// The kernel's, of its time stamps: since 1970.
pub fn clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A raw ICMP socket of a namespace with an identifier of its own.
#[derive(Debug)]
pub struct Echo {
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

    /// Of a packet that leaves by this interface.
    pub fn open_at(from: &Netns, to: Ipv4Addr, interface: &str) -> io::Result<Self> {
        let echo = Self::open(from, to)?;
        echo.socket.bind_device(Some(interface.as_bytes()))?;
        echo.socket.set_nonblocking(true)?;
        Ok(echo)
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The number of an answer that is there; `None` for other people's packets, or nothing.
    pub fn take(&self) -> super::Result<Option<u64>> {
        let mut packet = [0; 2048];
        match (&self.socket).read(&mut packet) {
            Ok(length) => Ok(self.number(&packet[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).during("read an answer"),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, to: self.to, id: self.id })
    }

    pub fn send(&self, number: u64) -> io::Result<()> {
        let mut data = [0; 56];
        data[..8].copy_from_slice(&number.to_be_bytes());
        self.socket.send_to(&icmp_echo(self.id, number as u16, &data), &self.to.into()).map(drop)
    }

    /// The number of an answer; `None` for other people's packets.
    fn receive(&mut self) -> io::Result<Option<u64>> {
        let mut packet = [0; 2048];
        let length = (&self.socket).read(&mut packet)?;
        Ok(self.number(&packet[..length]))
    }

    fn number(&self, packet: &[u8]) -> Option<u64> {
        let Some((ECHO_REPLY, id, data)) = read_icmp(packet) else { return None };
        let number = data.get(..8).map(|b| u64::from_be_bytes(b.try_into().expect("eight bytes")));
        number.filter(|_| id == self.id)
    }

    /// For [`Echo::receive_stamped`].
    fn prepare(&self) -> io::Result<()> {
        self.socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        // Without the right to a larger buffer, the one of `open` stays.
        let _ = setsockopt(&self.socket, sockopt::RcvBufForce, &BUFFER);
        Ok(setsockopt(&self.socket, sockopt::ReceiveTimestampns, &true)?)
    }

    /// The number of an answer and when the kernel received it, on a clock of its own.
    fn receive_stamped(&self) -> io::Result<Option<(u64, Duration)>> {
        let mut packet = [0; 2048];
        let mut space = nix::cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(&mut packet)];
        let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
        let stamp = received.cmsgs()?.find_map(|c| if let ControlMessageOwned::ScmTimestampns(t) = c { Some(t) } else { None });
        let length = received.bytes;
        let stamp = stamp.ok_or_else(|| io::Error::other("a packet without a time stamp"))?;
        Ok(self.number(&packet[..length]).map(|n| (n, Duration::from(stamp))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_the_paths_and_not_the_askers() {
        let ms = Duration::from_millis;
        let gap = |last, asked, now| gap(ms(last), ms(asked), ms(now), ms(1));
        assert_eq!(gap(100, 101, 461), ms(361), "asked all the time, and answered late");
        assert_eq!(gap(100, 150, 151), ms(2), "not asked for long, and answered at once");
        assert_eq!(gap(100, 130, 200), ms(71), "asked late, and answered late");
        assert_eq!(gap(100, 99, 101), ms(1), "more than one question on its way");
        assert_eq!(gap(100, 101, 90), ms(0), "stamped out of order");
    }
}
