//! Forged advertisements, as many as a sender on the same network can make: neither does anybody change state, nor are timers late.

use super::forge::{Message, packet, sign};
use super::support::{NODES, PLATFORM_IF, Speech, THIRD, THIRD_ADDRESS, World, address, other};
use super::witness::{Witness, packet_socket};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Packets in one system call.
const BATCH: usize = 16;
/// Packets a second.
const RATE: f64 = 100_000.0;
const ATTEMPTS: usize = 5;
/// For each kind of packet.
const LASTS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(2)];
/// So that there are enough timers to speak of a hundredth of them.
const INTERVAL: Duration = Duration::from_millis(20);
/// 99 of 100 timers are served within this time.
const LATE: Duration = Duration::from_millis(2);

/// Sends the same frame again and again from the third machine; packets a second.
fn flood(world: &World, to: &str, ip_packet: &[u8], lasts: Duration) -> f64 {
    let mac = |text: &str| text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>();
    let (far, near) = (mac(&world.mac(to, PLATFORM_IF)), mac(&world.mac(THIRD, PLATFORM_IF)));
    let mut frame = [&far[..], &near, &[8, 0], ip_packet].concat();
    world.node(THIRD).run(|| {
        let socket = packet_socket(PLATFORM_IF, 0);
        let mut vector = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: all fields are integers and pointers, for which zero is a value.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for message in &mut messages {
            message.msg_hdr.msg_iov = &raw mut vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        let (begun, mut sent) = (Instant::now(), 0u64);
        while begun.elapsed() < lasts {
            // Asleep, not spinning: a virtual processor that never rests is stopped by its host, and the other with it.
            if let Some(early) = Duration::from_secs_f64(sent as f64 / RATE).checked_sub(begun.elapsed()) {
                std::thread::sleep(early);
            }
            // SAFETY: the headers, the vector they point to and the frame it points to live until the call returns; the kernel writes
            // the lengths sent into the headers and nothing else.
            let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BATCH as u32, 0) };
            sent += u64::try_from(count).expect("the network takes them");
        }
        sent as f64 / begun.elapsed().as_secs_f64()
    })
}

/// Timers served by how late at most in microseconds, since the last reading.
fn lateness(world: &World, node: &str) -> BTreeMap<u64, u64> {
    let metrics = world.metrics(node);
    let bound = |name: &str| {
        let seconds = name.split_once("portway_vrrp_timer_lateness_seconds_bucket{le=\"")?.1.strip_suffix("\"}")?;
        Some(seconds.parse::<f64>().ok().filter(|s| s.is_finite()).map_or(u64::MAX, |s| (s * 1e6).round() as u64))
    };
    metrics.iter().filter_map(|(name, count)| Some((bound(name)?, *count as u64))).collect()
}

/// Within which 99 of 100 were served.
fn p99(before: &BTreeMap<u64, u64>, after: &BTreeMap<u64, u64>) -> Duration {
    let served = |bound: &u64| after[bound] - before.get(bound).copied().unwrap_or_default();
    let all = served(&u64::MAX);
    let bound = after.keys().find(|bound| served(bound) * 100 >= all * 99).expect("all are served in the end");
    Duration::from_micros(*bound)
}

/// Processor time of the advertising thread of a node's daemon, until now.
fn busy(world: &World, node: &str) -> Duration {
    let mut all = std::fs::read_dir(format!("/proc/{}/task", world.pid(node))).unwrap().map(|task| task.unwrap().path());
    let thread = all.find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "vrrp")).expect("a thread");
    let nanoseconds = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    Duration::from_nanos(nanoseconds.split(' ').next().unwrap().parse().unwrap())
}

/// Times between two advertisements of the Active, as a listener saw them: 99 of 100 are at most this, and the longest.
fn gaps(witness: &Witness, from: Ipv4Addr, since: usize) -> [Duration; 2] {
    let seen = witness.seen();
    let times: Vec<Duration> = seen.iter().skip(since).filter(|seen| seen.source == from).map(|seen| seen.at).collect();
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    gaps.sort_unstable();
    [gaps[gaps.len() * 99 / 100], gaps[gaps.len() - 1]]
}

/// What a flood at a node did.
struct Effect {
    /// Packets a second.
    rate: f64,
    /// Of them, those that were read and dropped for this reason.
    read: f64,
    /// How much of a processor the advertising thread of the node took.
    core: f64,
    /// Of both nodes.
    late: [Duration; 2],
    gap: Duration,
    longest: Duration,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, read, core, late, gap, longest } = self;
        write!(f, "{rate:.0}/s, {:.1} % of them read with {core:.2} of a core; timers p99 {late:?}; ", read * 100.0)?;
        write!(f, "between advertisements p99 {gap:?}, {longest:?} at most")
    }
}

fn endured(world: &World, witness: &Witness, victim: &str, reason: &str, packet: &[u8], lasts: Duration) -> Effect {
    let dropped = || world.discards(victim).get(reason).copied().unwrap_or_default();
    let before = (NODES.map(|node| lateness(world, node)), witness.seen().len(), dropped(), busy(world, victim));
    let rate = flood(world, victim, packet, lasts);
    let core = (busy(world, victim) - before.3).as_secs_f64() / lasts.as_secs_f64();
    let late = [0, 1].map(|n| p99(&before.0[n], &lateness(world, NODES[n])));
    let [gap, longest] = gaps(witness, address(NODES[0]), before.1);
    Effect { rate, read: (dropped() - before.2) as f64 / (rate * lasts.as_secs_f64()), core, late, gap, longest }
}

#[test]
fn serial_a_flood_of_forged_packets_changes_nothing() {
    let mut world = World::new();
    let [active, backup] = NODES;
    world.start(active, &Speech::signed(200).interval("20ms"));
    world.await_state(active, "active");
    world.start(backup, &Speech::signed(100).interval("20ms"));
    world.await_state(backup, "backup");
    let real = format!("ip proto 112 and ether src {}", world.mac(active, PLATFORM_IF));
    let witness = Witness::start(&world, backup, PLATFORM_IF, &real);

    for victim in NODES {
        for ((reason, source), lasts) in [("hmac", address(other(victim))), ("unlisted_source", THIRD_ADDRESS)].into_iter().zip(LASTS) {
            // Where somebody else's work keeps the kernel busy, timers are late without any flood, and a machine that stands still for three
            // intervals has states change: it may be tried again.
            let held = (0..ATTEMPTS).any(|_| {
                let transitions = NODES.map(|node| world.transitions(node));
                // Newer than all that is genuine, and fresh until the end of the flood: an HMAC must be calculated for each.
                let mut forged = sign(Message::v3(250).sealed(source, address(victim)), source, 4, 1);
                *forged.last_mut().expect("a trailer") ^= 1;
                let effect = endured(&world, &witness, victim, reason, &packet(source, address(victim), 255, &forged), lasts);
                println!("{reason} at {victim}: {effect}");
                assert!(effect.read > 0.98, "{reason} at {victim}");
                if NODES.map(|node| world.transitions(node)) != transitions {
                    println!("{reason} at {victim}: states changed");
                    world.await_state(active, "active");
                    world.await_state(backup, "backup");
                    return false;
                }
                effect.late.iter().all(|late| *late <= LATE) && effect.gap <= INTERVAL + LATE
            });
            assert!(held, "{reason} at {victim}: late, or another state, each time");
        }
    }
    assert_eq!(NODES.map(|node| world.state(node)), ["active", "backup"]);
}
