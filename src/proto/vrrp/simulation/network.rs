//! The run: a queue of what is to happen, and what is asserted.

use super::node::{Message, Node};
use super::schedule::{END, Event, Random, Schedule, Time};
use crate::model::Priority;
use crate::proto::vrrp::{Input, Preempt, State};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Scheduled(usize),
    Start(usize),
    Wake(usize),
    /// Index of the message in `in_flight`, and whom it goes to.
    Arrive(usize, usize),
}

struct Network<'a> {
    schedule: &'a Schedule,
    random: Random,
    nodes: Vec<Node<'a>>,
    queue: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    order: u64,
    in_flight: Vec<Message>,
    /// The wake-up that is in the queue for each node.
    woken: Vec<Time>,
    loss: u64,
    partition: u8,
    /// When each pair was last kept from hearing each other, or had reason to change its mind.
    disturbed: Vec<Vec<Time>>,
    active_since: Vec<Option<Time>>,
    log: Option<Vec<String>>,
}

/// What a run showed.
pub struct Outcome {
    pub result: Result<(), String>,
    /// Every reason for which a state changed.
    pub whys: BTreeSet<&'static str>,
    /// What happened, if wanted.
    pub log: Vec<String>,
}

pub fn run(schedule: &Schedule, log: bool) -> Outcome {
    let (count, epoch) = (schedule.nodes.len(), Instant::now());
    let mut network = Network {
        schedule,
        random: Random(!schedule.seed),
        nodes: schedule.nodes.iter().map(|machine| Node::new(machine, epoch)).collect(),
        queue: BinaryHeap::new(),
        order: 0,
        in_flight: vec![],
        woken: vec![Time::MAX; count],
        loss: 0,
        partition: 0,
        disturbed: vec![vec![0; count]; count],
        active_since: vec![None; count],
        log: log.then(Vec::new),
    };
    for (n, machine) in schedule.nodes.iter().enumerate() {
        network.push(machine.starts, Happening::Start(n));
    }
    for (n, (at, _)) in schedule.events.iter().enumerate() {
        network.push(*at, Happening::Scheduled(n));
    }
    let result = network.run();
    let whys = network.nodes.iter().flat_map(|node| node.whys.iter().copied()).collect();
    Outcome { result, whys, log: network.log.unwrap_or_default() }
}

impl Network<'_> {
    fn push(&mut self, at: Time, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order, what)));
    }

    fn run(&mut self) -> Result<(), String> {
        let interval = self.schedule.interval;
        while let Some(Reverse((now, _, what))) = self.queue.pop() {
            if now > END * interval {
                break;
            }
            self.happen(now, what)?;
            let together = self.queue.peek().is_some_and(|Reverse((next, _, _))| *next == now);
            if !together {
                self.check(now)?;
            }
        }
        let active: Vec<usize> = (0..self.nodes.len()).filter(|n| self.nodes[*n].serves()).collect();
        let [one] = active[..] else { return Err(format!("at the end nodes {active:?} are Active")) };
        let highest = self.nodes.iter().map(|node| node.priority).max();
        let preempting = self.schedule.nodes[one].config.preempt != Preempt::Never;
        if preempting && highest != Some(self.nodes[one].priority) {
            return Err(format!("at the end node {one} is Active, with priority {}", self.nodes[one].priority));
        }
        Ok(())
    }

    fn happen(&mut self, now: Time, what: Happening) -> Result<(), String> {
        if let Some(log) = &mut self.log {
            let what = match what {
                Happening::Scheduled(n) => format!("{:?}", self.schedule.events[n].1),
                Happening::Arrive(n, to) => format!("{:?} to {to}", self.in_flight[n]),
                Happening::Start(_) | Happening::Wake(_) => format!("{what:?}"),
            };
            let states: Vec<State> =
                self.nodes.iter().map(|node| node.instance.as_ref().map_or(State::Initialize, |i| i.state())).collect();
            log.push(format!("{:8.3} {states:?} {what}", now as f64 / self.schedule.interval as f64));
        }
        match what {
            Happening::Start(n) => self.event(now, Event::Boot(n)),
            Happening::Scheduled(n) => self.event(now, self.schedule.events[n].1),
            Happening::Wake(n) => {
                if self.woken[n] == now {
                    self.woken[n] = Time::MAX;
                }
                match self.nodes[n].wakes() {
                    Some(at) if at <= now && !self.nodes[n].frozen => self.give(now, n, Input::Timeout),
                    Some(_) | None => {
                        self.wake(n);
                        Ok(())
                    }
                }
            }
            Happening::Arrive(message, to) => {
                let message = self.in_flight[message];
                if self.parted(message.from, to) || self.schedule.deaf {
                    return Ok(());
                }
                if self.nodes[to].frozen {
                    self.nodes[to].queue.push(message);
                    return Ok(());
                }
                self.arrive(now, message, to)
            }
        }
    }

    fn arrive(&mut self, now: Time, message: Message, to: usize) -> Result<(), String> {
        if self.schedule.authenticated && !self.nodes[to].is_in_order(message) {
            return Ok(());
        }
        let (interval, mut sent) = (self.schedule.nodes[message.from].config.interval, vec![]);
        self.nodes[to].hear(now, message, interval, &mut sent)?;
        self.after(now, to, &sent)
    }

    fn give(&mut self, now: Time, n: usize, input: Input<'_>) -> Result<(), String> {
        let mut sent = vec![];
        self.nodes[n].handle(now, input, &mut sent)?;
        self.after(now, n, &sent)
    }

    /// Sends what is to be sent, and looks when the node wants to be woken.
    fn after(&mut self, now: Time, n: usize, sent: &[Priority]) -> Result<(), String> {
        for priority in sent {
            self.in_flight.push(Message { from: n, priority: *priority, sequence: self.in_flight.len() + 1 });
            for to in (0..self.nodes.len()).filter(|to| *to != n) {
                if self.parted(n, to) || self.random.below(100) < self.loss {
                    self.disturb(now, n, to);
                    continue;
                }
                let arrives = now + 1 + self.random.below(self.schedule.delay.max(1));
                self.push(arrives, Happening::Arrive(self.in_flight.len() - 1, to));
            }
        }
        let node = &mut self.nodes[n];
        if node.leaving && node.instance.as_ref().is_some_and(|instance| instance.state() == State::Initialize) {
            node.crash();
        }
        let active = node.is_active();
        self.active_since[n] = if active { self.active_since[n].or(Some(now)) } else { None };
        self.wake(n);
        Ok(())
    }

    fn wake(&mut self, n: usize) {
        if let Some(at) = self.nodes[n].wakes().filter(|at| *at < self.woken[n] && !self.nodes[n].frozen) {
            self.woken[n] = at;
            self.push(at, Happening::Wake(n));
        }
    }

    fn event(&mut self, now: Time, event: Event) -> Result<(), String> {
        match event {
            Event::Loss(percent) => self.loss = percent,
            Event::Partition(sides) => {
                self.partition = sides;
                self.disturb_all(now);
            }
            Event::Crash(n) => {
                self.nodes[n].crash();
                self.active_since[n] = None;
            }
            Event::Boot(n) => {
                if self.nodes[n].leaving {
                    // The supervisor has lost its patience.
                    self.nodes[n].crash();
                }
                if self.nodes[n].instance.is_none() {
                    self.nodes[n].boot(now);
                    let (priority, in_sync) = (self.nodes[n].priority, self.nodes[n].in_sync);
                    self.give(now, n, Input::Priority(priority))?;
                    self.give(now, n, Input::InSync(in_sync))?;
                    self.give(now, n, Input::Start)?;
                }
            }
            Event::Freeze(n) => {
                self.nodes[n].frozen = true;
                self.active_since[n] = None;
            }
            Event::Thaw(n) => {
                if std::mem::take(&mut self.nodes[n].frozen) {
                    // As the contract says: first what waits in the socket, then the timer.
                    for message in std::mem::take(&mut self.nodes[n].queue) {
                        self.arrive(now, message, n)?;
                    }
                    self.give(now, n, Input::Timeout)?;
                }
            }
            Event::Shutdown(n) => {
                self.nodes[n].leaving = self.nodes[n].instance.is_some();
                self.give(now, n, Input::Shutdown)?;
            }
            Event::Drain(n) => self.give(now, n, Input::Drain)?,
            Event::Undrain(n) => {
                self.disturb_all(now);
                self.give(now, n, Input::Undrain)?;
            }
            Event::Fault(n) => self.give(now, n, Input::Fault)?,
            Event::Mend(n) => self.give(now, n, Input::Mended)?,
            Event::Priority(n, priority) => {
                self.disturb_all(now);
                self.nodes[n].priority = Priority(priority);
                self.give(now, n, Input::Priority(Priority(priority)))?;
            }
            Event::InSync(n, in_sync) => {
                self.nodes[n].in_sync = in_sync;
                self.give(now, n, Input::InSync(in_sync))?;
            }
        }
        Ok(())
    }

    fn parted(&self, a: usize, b: usize) -> bool {
        (self.partition >> a) & 1 != (self.partition >> b) & 1
    }

    fn disturb(&mut self, now: Time, a: usize, b: usize) {
        self.disturbed[a.min(b)][a.max(b)] = now;
    }

    fn disturb_all(&mut self, now: Time) {
        self.disturbed.iter_mut().flatten().for_each(|time| *time = now);
    }

    fn check(&self, now: Time) -> Result<(), String> {
        let interval = self.schedule.interval;
        // A clock that is slow by one in a hundred, and a packet's way there; another one back for whom the first did not convince.
        let longest = interval + interval / 50 + self.schedule.delay * 2;
        for a in 0..self.nodes.len() {
            let Some(a_since) = self.active_since[a] else { continue };
            for b in a + 1..self.nodes.len() {
                let Some(b_since) = self.active_since[b].filter(|_| !self.parted(a, b)) else { continue };
                let since = a_since.max(b_since).max(self.disturbed[a][b]);
                if now > since + longest {
                    return Err(format!("nodes {a} and {b} are both Active for {} of an interval", (now - since) as f64 / interval as f64));
                }
            }
        }
        if now >= self.schedule.served_from && !self.nodes.iter().any(Node::serves) {
            return Err(format!("nobody is Active after {} intervals", now as f64 / interval as f64));
        }
        Ok(())
    }
}
