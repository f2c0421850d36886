//! Hosts come, and one that is there sends: while nothing else happens, while the generator is busy with somebody else, and while it is busy with us.

use super::clients::{Clients, Stream, Wire, outer};
use super::{Site, gateway_key};
use crate::figures::{Bar, Report, percentile};
use crate::sender::{Flow, Sender, frame};
use anyhow::{Context, ensure};
use portway::daemon::realtime::realtime;
use portway::userspace::urgent::{PACKETS, urgent};
use portway::wire::wireguard::{Initiation, Mac1};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Garbage, each second.
const RATE: f64 = 100_000.0;
/// What has to leave the generator for an arm to mean what it says.
const OFFERED: f64 = 0.95 * RATE;
/// Where it comes from, unless every piece has a source of its own. None is a host's.
const SOURCES: u32 = 64;
/// Pieces that differ; then the first comes again. A gateway remembers fewer.
const DIFFERENT: u32 = 1 << 17;
/// Nobody reads what comes there.
const ELSEWHERE: u16 = 9;
/// Between two looks of the generator at what is due.
const TICK: Duration = Duration::from_micros(200);
/// For so long before the first host comes: every source has had its allowance by then.
const BEGUN: Duration = Duration::from_secs(1);
const ROUNDS: u32 = 5;
/// New hosts each second.
const COMING: u32 = 100;
/// Of the host that is there: 100 Mbit/s each way, which with the hosts' own end is much of what two processors have left beside the generator.
const STREAM: Stream = Stream { per_second: 10_000, bytes: 1_250 };
/// A machine that keeps a calm gateway's hosts waiting for longer, in milliseconds, proves nothing about a busy one.
const CALM: f64 = 25.0;
/// What the bars allow.
const SLOWER: f64 = 5.0;
const SHARE: f64 = 0.95;

struct Arm {
    name: &'static str,
    garbage: Option<Garbage>,
    /// Whether it is held against the bars.
    held: bool,
    took: Vec<f64>,
    lost: Vec<f64>,
    answered: Vec<f64>,
    offered: Vec<f64>,
}

/// What the generator sends.
#[derive(Clone, Copy)]
struct Garbage {
    port: u16,
    source: fn(u32) -> Ipv4Addr,
}

/// As many sources as there are.
fn few(n: u32) -> Ipv4Addr {
    outer(0x20_0000 + n % SOURCES)
}

/// Each once, all over the Internet: between 11.0.0.0 and 126.255.255.255.
fn all(n: u32) -> Ipv4Addr {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b1);
    Ipv4Addr::from_bits(0x0b00_0000 + mixed % 0x7400_0000)
}

impl Arm {
    fn new(name: &'static str, garbage: Option<Garbage>, held: bool) -> Self {
        Self { name, garbage, held, took: vec![], lost: vec![], answered: vec![], offered: vec![] }
    }
}

pub fn run(site: &Site, hosts: u32, report: &mut Report) -> anyhow::Result<()> {
    let port = site.listen.port();
    let mut arms = [
        Arm::new("calm", None, false),
        Arm::new("flood of others", Some(Garbage { port: ELSEWHERE, source: few }), false),
        Arm::new("flood", Some(Garbage { port, source: few }), true),
        Arm::new("flood, sources forged", Some(Garbage { port, source: all }), false),
    ];
    let _sink = site.gateway.run(|| UdpSocket::bind(("10.9.0.1", ELSEWHERE)))?;
    let mut senders = arms.iter().map(|arm| arm.garbage.map(|garbage| sender(site, garbage)).transpose()).collect::<Result<Vec<_>, _>>()?;
    for round in 0..ROUNDS {
        let mut shares = [0.0; 4];
        for turn in 0..arms.len() {
            let at = (turn + round as usize) % arms.len();
            shares[at] = slice(site, hosts / ROUNDS, &mut arms[at], senders[at].as_mut())?;
        }
        // Those of each round against its own calm.
        arms.iter_mut().zip(shares).for_each(|(arm, share)| arm.answered.push(share / shares[0]));
    }
    let calm = percentile(&arms[0].took, 0.99);
    for Arm { name, garbage, held, took, lost, answered, offered } in arms {
        let bar = |bar| held.then_some(bar);
        if garbage.is_some() {
            report.add(name, "garbage sent", "1/s", offered, bar(Bar::AtLeast(OFFERED)));
        }
        report.add(name, format!("hosts lost of {}", hosts / ROUNDS), "1", lost, bar(Bar::EachAtMost(0.0)));
        let at_most = if garbage.is_some() { bar(Bar::P99AtMost(SLOWER * calm)) } else { Some(Bar::P99AtMost(CALM)) };
        report.latency(name, "first packet to its answer", took, at_most);
        report.add(name, "live traffic, of that when calm", "1", answered, bar(Bar::AtLeast(SHARE)));
    }
    Ok(())
}

/// A turn of an arm, at a gateway that has seen nothing yet: the share of the stream that was answered.
fn slice(site: &Site, hosts: u32, arm: &mut Arm, sender: Option<&mut Sender>) -> anyhow::Result<f64> {
    let gate = site.open(hosts + 1, Duration::ZERO, |_| {})?;
    let key = gateway_key().public();
    let mut live = Clients::new(Wire::open(site, 51_821)?, &key, hosts, 1, Duration::ZERO);
    let (_, lost) = live.connect(COMING)?;
    ensure!(lost == 0, "the host that is to be there first is not");
    let mut clients = Clients::new(Wire::open(site, 51_820)?, &key, 0, hosts, Duration::ZERO);
    let time = Duration::from_secs(1) / COMING * hosts;
    let stop = AtomicBool::new(false);
    let (connected, streamed, offered) = std::thread::scope(|scope| {
        let flooding = sender.map(|sender| scope.spawn(|| flood(sender, &stop)));
        std::thread::sleep(BEGUN);
        // They are other machines: what the gateway does must not keep them from their processor.
        let coming = scope.spawn(|| urgent(PACKETS).map(|()| clients.connect(COMING)));
        let streaming = scope.spawn(|| urgent(PACKETS).map(|()| live.stream(0, STREAM, time)));
        let (connected, streamed) = (coming.join(), streaming.join());
        stop.store(true, Relaxed);
        (connected, streamed, flooding.map(std::thread::ScopedJoinHandle::join))
    });
    let panicked = |_| anyhow::anyhow!("a thread of the benchmark panicked");
    let ((took, lost), (answered, asked)) = (connected.map_err(panicked)???, streamed.map_err(panicked)???);
    arm.took.extend(took);
    arm.lost.push(lost as f64);
    arm.offered.extend(offered.transpose().map_err(panicked)?.transpose()?);
    drop(gate);
    Ok(answered as f64 / asked as f64)
}

/// What is due, until it is told to stop: how many a second it were. It is no thread of this machine's either, and waits for none.
fn flood(sender: &mut Sender, stop: &AtomicBool) -> anyhow::Result<f64> {
    realtime(1)?;
    let begun = Instant::now();
    let sent = sender.drive(|sent| {
        let due = (RATE * begun.elapsed().as_secs_f64()) as u64;
        if due <= sent {
            std::thread::sleep(TICK);
        }
        (!stop.load(Relaxed)).then_some(usize::try_from(due.saturating_sub(sent)).unwrap_or(usize::MAX))
    });
    Ok(sent as f64 / begun.elapsed().as_secs_f64())
}

/// Initiations that name nobody, and whose `mac1` is right.
fn sender(site: &Site, garbage: Garbage) -> anyhow::Result<Sender> {
    let text = site.gateway.sh("ip -o link show eth0")?;
    let text = text.split_once("link/ether ").and_then(|(_, rest)| rest.split_whitespace().next()).context("no hardware address")?;
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<u8>, _>>()?;
    let to: [u8; 6] = bytes.try_into().ok().context("no hardware address")?;
    let (mac1, mut bytes) = (Mac1::new(&gateway_key().public()), [7; Initiation::LEN]);
    bytes[..4].copy_from_slice(&[1, 0, 0, 0]);
    let frames = (0..DIFFERENT).map(|n| {
        bytes[8..12].copy_from_slice(&n.to_be_bytes());
        let initiation = mac1.sign(Initiation::try_from(bytes)?);
        let flow = Flow { source: (garbage.source)(n), destination: *site.listen.ip(), port: garbage.port };
        Ok(frame(to, &flow, initiation.bytes()))
    });
    let frames = frames.collect::<anyhow::Result<_>>()?;
    site.hosts.run(|| Sender::of(nix::net::if_::if_nametoindex("eth0")?, frames))
}
