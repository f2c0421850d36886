//! A gateway with one thread for public-key cryptography, a directory, a flood, and hosts that knock in the middle of it, on a fake clock.

use super::tests::{from, gateway, initiation, key, peer, registered, slot, stamp};
use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

const MICRO: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);

/// One step, on the one thread there is.
const STEP: Duration = Duration::from_micros(65);
/// From `Install` to `Installed`.
const INSTALL: Duration = Duration::from_micros(100);
const BUDGET: u32 = 10_000;

/// What a flood sends; `mac1` is always right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    /// Nothing.
    Calm,
    /// The first step fails.
    Garbage,
    /// The first step yields a key that nobody has registered, another one each time.
    Unknown,
    /// The first step yields the key of one of the hosts that are about to knock.
    Claims,
    /// The same bytes over and over.
    Repeats,
}

/// What comes back to the machine, or to it from outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Flood(u64),
    Knock(u64),
    Claimed(Ticket, Option<u64>, u64),
    Proved(Ticket, bool),
    Answered(Peer),
    Installed(Peer),
}

struct Simulation {
    machine: Machine<u64>,
    start: Instant,
    now: Instant,
    agenda: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    count: u64,
    flood: Flood,
    /// When the thread has done all that it was given.
    busy: Instant,
    look_up: Duration,
    /// When each step was given to the thread.
    steps: Vec<Instant>,
    /// From each host's knock to the handshake.
    took: Vec<Duration>,
}

/// Hosts are 0 to 999 and knock from 10.0.1.0 on; the flood is the sources before.
const HOSTS: u64 = 1000;
const FLOODERS: u64 = 64;
const FLOOD_PER_SECOND: u64 = 100_000;
/// Initiations of hosts have numbers from here.
const GENUINE: u64 = 1 << 40;

const TIME: Duration = Duration::from_secs(2);

/// One after the other, at odd times.
fn knocks_after(host: u64) -> Duration {
    50 * MS + (TIME - 100 * MS) / HOSTS as u32 * host as u32 + MICRO * (host * 7919 % 1000) as u32
}

impl Simulation {
    fn run(flood: Flood, look_up: Duration) -> Self {
        let start = Instant::now();
        let config = Config { steps: crate::proto::rate::Rate { per_second: BUDGET, burst: 64 }, ..Config::default() };
        let mut machine = Machine::new(config, start);
        machine.serve(slot(1), &[gateway()]);
        let (agenda, steps, took) = (BinaryHeap::new(), vec![], vec![]);
        let mut all = Self { machine, start, now: start, agenda, count: 0, flood, busy: start, look_up, steps, took };
        all.at(start, Event::Flood(0));
        for host in 0..HOSTS {
            all.at(start + knocks_after(host), Event::Knock(host));
        }
        while let Some(Reverse((at, _, event))) = all.agenda.pop().filter(|Reverse((at, ..))| *at <= start + TIME) {
            while let Some((due, _)) = all.machine.poll_timeout().filter(|(due, _)| *due < at) {
                all.now = due.max(all.now);
                all.machine.handle_timeout(all.now);
                all.carry_out();
            }
            all.now = at;
            all.happen(event);
            all.carry_out();
        }
        all.took.sort();
        all
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.agenda.push(Reverse((at, self.count, event)));
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Flood(n) if self.flood != Flood::Calm => {
                let payload = initiation(if self.flood == Flood::Repeats { n % 10 } else { n });
                let input = Input::Datagram { slot: slot(1), from: from((n % FLOODERS) as u16), payload: payload.bytes() };
                self.machine.handle(now, input);
                self.at(now + Duration::from_secs(1) / FLOOD_PER_SECOND as u32, Event::Flood(n + 1));
            }
            Event::Flood(_) => {}
            Event::Knock(host) => {
                let payload = initiation(GENUINE + host);
                self.machine.handle(now, Input::Datagram { slot: slot(1), from: from(256 + host as u16), payload: payload.bytes() });
            }
            Event::Claimed(ticket, of, n) => self.machine.handle(now, Input::Claimed { ticket, claim: of.map(|of| (key(of), n)) }),
            Event::Proved(ticket, genuine) => {
                self.machine.handle(now, Input::Proved { ticket, stamp: genuine.then(|| stamp(self.count)) });
            }
            Event::Answered(of) => {
                let host = (0..HOSTS).find(|host| peer(*host) == of);
                let answer = host.map_or(Answer::Unknown, |host| Answer::Found(registered(host)));
                self.machine.handle(now, Input::Answered { peer: of, answer });
            }
            Event::Installed(of) => self.machine.handle(now, Input::Installed { peer: of }),
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.machine.next_effect() {
            match effect {
                Effect::Claim { ticket, initiation, .. } => {
                    let done = self.step();
                    let n = u64::from_be_bytes(std::array::from_fn(|i| initiation.bytes()[8 + i]));
                    let of = match self.flood {
                        _ if n >= GENUINE => Some(n - GENUINE),
                        Flood::Calm | Flood::Garbage | Flood::Repeats => None,
                        Flood::Unknown => Some(HOSTS + n),
                        Flood::Claims => Some(n % HOSTS),
                    };
                    self.at(done, Event::Claimed(ticket, of, n));
                }
                Effect::Prove { ticket, claim, .. } => {
                    let done = self.step();
                    self.at(done, Event::Proved(ticket, claim >= GENUINE));
                }
                Effect::LookUp { peer } => self.at(self.now + self.look_up, Event::Answered(peer)),
                Effect::Install { peer, .. } => self.at(self.now + INSTALL, Event::Installed(peer)),
                Effect::Initiate { endpoint, .. } => {
                    let [.., high, low] = match endpoint.ip() {
                        std::net::IpAddr::V4(ip) => ip.octets(),
                        std::net::IpAddr::V6(_) => panic!("all are IPv4"),
                    };
                    let host = u64::from(u16::from_be_bytes([high, low])) - 256;
                    let knocked = self.start + knocks_after(host);
                    self.took.push(self.now - knocked);
                }
                Effect::Stamp { .. } | Effect::Update { .. } => {}
                Effect::Reap { peer, why } => panic!("{peer:?} was reaped: {why:?}"),
            }
        }
    }

    fn step(&mut self) -> Instant {
        self.steps.push(self.now);
        self.busy = self.busy.max(self.now) + STEP;
        self.busy
    }

    fn p99(&self) -> Duration {
        self.took[self.took.len() * 99 / 100]
    }

    /// The most steps that were begun within this time.
    fn most_steps_within(&self, time: Duration) -> usize {
        let mut first = 0;
        let count = |(last, at): (usize, &Instant)| {
            while *at - self.steps[first] > time {
                first += 1;
            }
            last - first + 1
        };
        self.steps.iter().enumerate().map(count).max().unwrap_or(0)
    }
}

fn flooded(flood: Flood) -> Simulation {
    let calm = Simulation::run(Flood::Calm, MS);
    let all = Simulation::run(flood, MS);
    assert_eq!((calm.took.len(), all.took.len()), (HOSTS as usize, HOSTS as usize), "everybody got in: {:?}", all.machine.counters);
    assert!(all.p99() <= 5 * calm.p99(), "{flood:?}: p99 {:?}, calm {:?}; {:?}", all.p99(), calm.p99(), all.machine.counters);
    let within = all.most_steps_within(Duration::from_secs(1));
    assert!(within <= BUDGET as usize + 64, "{within} steps in a second");
    // In the long run a source of garbage has ten first steps a second, and as many second ones.
    let late = all.steps.iter().filter(|at| **at > all.start + TIME / 2).count();
    assert!(late <= 2 * 10 * FLOODERS as usize + 2 * HOSTS as usize, "{late} steps in the last second");
    all
}

#[test]
fn hosts_get_in_through_a_flood_of_garbage() {
    let all = flooded(Flood::Garbage);
    assert!(all.machine.counters.refused(Refusal::NotForUs) >= FLOODERS * 64);
    assert!(all.machine.counters.refused(Refusal::SourceRate) > FLOOD_PER_SECOND);
}

#[test]
fn hosts_get_in_through_a_flood_of_keys_that_nobody_knows() {
    let all = flooded(Flood::Unknown);
    assert!(all.machine.counters.refused(Refusal::Unknown) >= FLOODERS * 64);
}

#[test]
fn hosts_get_in_through_a_flood_of_claims_to_be_them() {
    let all = flooded(Flood::Claims);
    assert!(all.machine.counters.refused(Refusal::Forged) >= FLOODERS * 10);
    assert!(all.machine.counters.look_ups <= HOSTS, "each key was asked for once");
}

#[test]
fn the_same_bytes_over_and_over_cost_next_to_nothing() {
    let all = flooded(Flood::Repeats);
    assert_eq!(all.machine.counters.claims, HOSTS + 10);
}

#[test]
fn a_flood_of_unknown_keys_and_a_slow_directory_together_keep_nobody_out() {
    let all = Simulation::run(Flood::Unknown, 100 * MS);
    // Whoever knocks in the last tenth of a second has its answer after the end.
    assert!(all.took.len() >= HOSTS as usize * 9 / 10, "{}", all.took.len());
    assert!(all.p99() <= 150 * MS, "{:?}", all.p99());
}
