//! What happens in one run, drawn from a seed.

use crate::model::{AddressList, AdvertInterval, Priority, Vrid, VrrpVersion};
use crate::proto::vrrp::{Announcements, Config, Handover, Preempt, Preferred};
use std::net::IpAddr;
use std::time::Duration;

/// All times are in nanoseconds since the beginning of the run.
pub type Time = u64;

/// Intervals of disorder, of quiet before everything is asserted, and in all.
pub const DISORDER: u64 = 40;
pub const SETTLE: u64 = 6;
pub const END: u64 = 80;

#[derive(Debug)]
pub struct Schedule {
    pub seed: u64,
    pub interval: Time,
    pub nodes: Vec<Machine>,
    /// The longest way of a packet.
    pub delay: Time,
    pub events: Vec<(Time, Event)>,
    /// Whether packets have sequence numbers, so that those that were overtaken are dropped.
    pub authenticated: bool,
    /// From when on there must always be somebody who answers.
    pub served_from: Time,
    /// No packet ever arrives, and nobody says so: for the test of the test.
    pub deaf: bool,
}

#[derive(Debug)]
pub struct Machine {
    pub config: Config,
    /// How many parts in a million its clock is too fast.
    pub drift: i64,
    pub in_sync: bool,
    pub starts: Time,
}

#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// In per cent.
    Loss(u64),
    /// Nodes whose bits differ do not hear each other.
    Partition(u8),
    /// kill -9; the lease takes the addresses.
    Crash(usize),
    /// From nothing, if it is not running.
    Boot(usize),
    /// SIGSTOP and SIGCONT.
    Freeze(usize),
    Thaw(usize),
    Shutdown(usize),
    Drain(usize),
    Undrain(usize),
    Fault(usize),
    Mend(usize),
    Priority(usize, u8),
    InSync(usize, bool),
}

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to n - 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

impl Schedule {
    pub fn new(seed: u64) -> Schedule {
        let mut random = Random(seed);
        let centiseconds = [1, 10, 100][random.below(3) as usize];
        let interval = Time::from(centiseconds) * 10_000_000;
        let delay = interval / [4, 20, 1000][random.below(3) as usize];
        let preempt = [Some(0), Some(random.below(10)), None][random.below(3) as usize];
        let preempt = preempt.map_or(Preempt::Never, |n| Preempt::After(Duration::from_nanos(n * interval)));
        let count = 2 + random.below(4);
        let first = Preferred { address: IpAddr::from([10, 0, 0, 1]), above: Priority(100) };
        let first = (random.below(3) == 0).then_some(first);
        // Two are a mistake, and happen.
        let owners = random.below(6).saturating_sub(3);
        let machine = |n: u64, random: &mut Random| {
            let priority = if n < owners { 255 } else { [1 + random.below(254) as u8, 100, 101][random.below(3) as usize] };
            let config = Config {
                vrid: Vrid::try_from(7).expect("a VRID"),
                version: VrrpVersion::V3,
                priority: Priority(priority),
                address: [10, 0, 0, n as u8 + 1].into(),
                addresses: AddressList::V4(vec![[10, 0, 0, 100]]),
                interval: AdvertInterval::try_from(centiseconds).expect("in range"),
                preempt,
                preferred: first,
                accept: false,
                announcements: Announcements { burst: 5, repeat_after: Duration::from_nanos(interval * 3), refresh: None },
                handover: match random.below(4) {
                    0 => Handover::AtOnce,
                    _ => Handover::MakeBeforeBreak {
                        successor_within: Duration::from_nanos(interval * 5),
                        forward_for: Duration::from_nanos(interval * 4),
                    },
                },
            };
            let drift = random.below(20_001) as i64 - 10_000;
            Machine { config, drift, in_sync: random.below(2) == 0, starts: random.below(3) * random.below(interval * 4) }
        };
        let nodes: Vec<Machine> = (0..count).map(|n| machine(n, &mut random)).collect();
        let mut events = vec![];
        for _ in 0..random.below(10) {
            let (at, lasts) = (random.below(DISORDER * interval), random.below(interval * 12));
            let node = random.below(count) as usize;
            let until = (at + lasts).min(DISORDER * interval);
            let pair = match random.below(10) {
                0 => [Event::Loss(random.below(60)), Event::Loss(0)],
                1 | 2 => [Event::Partition(random.below(32) as u8), Event::Partition(0)],
                3 => [Event::Crash(node), Event::Boot(node)],
                4 => [Event::Freeze(node), Event::Thaw(node)],
                5 => [Event::Shutdown(node), Event::Boot(node)],
                6 => [Event::Drain(node), Event::Undrain(node)],
                7 => [Event::Fault(node), Event::Mend(node)],
                8 if nodes[node].config.priority.is_owner() => [Event::InSync(node, false), Event::InSync(node, true)],
                8 => [Event::Priority(node, 1 + random.below(254) as u8), Event::Priority(node, 1 + random.below(254) as u8)],
                _ => [Event::InSync(node, random.below(2) == 0), Event::InSync(node, random.below(2) == 0)],
            };
            events.extend([(at, pair[0]), (until, pair[1])]);
        }
        let mended = DISORDER * interval;
        events.extend([(mended, Event::Loss(0)), (mended, Event::Partition(0))]);
        for n in 0..count as usize {
            events.extend([Event::Thaw(n), Event::Mend(n), Event::Undrain(n), Event::Boot(n), Event::InSync(n, true)].map(|e| (mended, e)));
        }
        let served_from = (DISORDER + SETTLE) * interval;
        Schedule { seed, interval, nodes, delay, events, authenticated: random.below(2) == 0, served_from, deaf: false }
    }

    /// Nothing but planned handovers, one after the other: there must always be somebody who answers.
    pub fn planned(seed: u64) -> Schedule {
        let mut schedule = Schedule::new(seed);
        let (mut random, interval) = (Random(seed ^ 0x5ca1_ab1e), schedule.interval);
        for machine in &mut schedule.nodes {
            (machine.starts, machine.in_sync) = (0, true);
            let (successor_within, forward_for) = (Duration::from_nanos(interval * 5), Duration::from_nanos(interval * 4));
            machine.config.handover = Handover::MakeBeforeBreak { successor_within, forward_for };
        }
        schedule.events.clear();
        for k in 0..3 {
            let (at, node) = ((10 + 18 * k) * interval + random.below(interval), random.below(schedule.nodes.len() as u64) as usize);
            let pair = match random.below(2) {
                0 => [Event::Drain(node), Event::Undrain(node)],
                _ => [Event::Shutdown(node), Event::Boot(node)],
            };
            schedule.events.extend([(at, pair[0]), (at + interval * 12, pair[1])]);
        }
        // Without, an advertisement that arrives behind the priority 0 that was sent after it calls a successor back.
        schedule.authenticated = true;
        schedule.served_from = SETTLE * interval;
        schedule
    }
}
