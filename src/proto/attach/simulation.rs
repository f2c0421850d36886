//! Nodes that take interfaces of a simulated cloud at once: calls that take long, are lost, late, done twice, throttled or refused; looks that tell of what was seconds ago;
//! nodes that start anew, that go and let go, and come back.
//!
//! Each seed is one schedule: a minute of disorder, then each node either wants one or does not. Asserted:
//! - nobody has more than one, and a node says that it has one only if it was attached to it lately;
//! - a node says that nothing of its own is left only when nothing is, and no call of its process may change that;
//! - in the end everybody who wants one has one, as far as they reach, and nobody else has any;
//! - from then on nobody changes anything any more, and nobody calls often.
//!
//! `PORTWAY_SIMULATION_SEED=N` runs one schedule and prints it, `PORTWAY_SIMULATION_RUNS=N` that many.

mod cloud;

use super::{Answer, Attach, Call, Effect};
use crate::model::{EniId, Failure, InstanceId, Why};
use cloud::{History, Owner};
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::time::{Duration, Instant};

const RUNS: u64 = 4_000;
/// Milliseconds.
const DISORDER: u64 = 60_000;
/// The latest that a call lands, and what nodes wait until they look again.
const SETTLED: u64 = DISORDER + LATEST + 60_000;
const END: u64 = SETTLED + 60_000;
const LATEST: u64 = 8_000;

/// What the log of some schedule tells.
const HAPPENS: [&str; 13] = [
    "never done",
    "late",
    "twice",
    "throttled",
    "refused",
    "index",
    "in use",
    "has it",
    "lets go",
    "is on its way out",
    "is free",
    "starts anew",
    "none free",
];

#[test]
fn everybody_has_one_while_there_are_enough_and_nobody_two() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|e| panic!("{name}={text}: {e}")));
    if let Some(seed) = number("PORTWAY_SIMULATION_SEED") {
        let mut world = World::new(seed);
        let result = world.check();
        println!("{}", world.log.join("\n"));
        return result.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
    let runs = number("PORTWAY_SIMULATION_RUNS").unwrap_or(RUNS);
    let (mut failed, mut reached) = (vec![], BTreeSet::new());
    for seed in 0..runs {
        let mut world = World::new(seed);
        failed.extend(world.check().err().map(|fault| format!("seed {seed}: {fault}")));
        reached.extend(HAPPENS.into_iter().filter(|what| world.log.iter().any(|line| line.contains(what))));
    }
    assert!(failed.is_empty(), "{}\nsee one with PORTWAY_SIMULATION_SEED=N and --no-capture", failed[..failed.len().min(5)].join("\n"));
    assert!(runs < RUNS || reached.len() == HAPPENS.len(), "what no schedule reaches is not tested by any: {reached:?}");
}

/// Twenty nodes at once, each of which likes another best: nobody waits for long.
#[test]
fn nodes_that_start_together_get_in_each_others_way_for_seconds_only() {
    let mut world = World::of(7, 20, 20);
    world.random = Random(7);
    (0..20).for_each(|node| world.at(0, Event::Want { node, wanted: true }));
    world.run(15_000).unwrap();
    assert_eq!(world.wrong(), Vec::<String>::new());
}

enum Event {
    Want {
        node: usize,
        wanted: bool,
    },
    /// The process ends, and another begins.
    Anew {
        node: usize,
    },
    /// A call reaches the cloud, and is answered if somebody still waits.
    Land {
        node: usize,
        life: u32,
        number: u64,
        call: Call,
        answer: bool,
    },
    Answer {
        node: usize,
        life: u32,
        number: u64,
        outcome: Result<Answer, Failure>,
    },
    /// What was detached is free.
    Free {
        eni: EniId,
        attachment: String,
    },
    /// The kernel of a node sees what the cloud has attached to it.
    Plug {
        node: usize,
    },
}

struct Node {
    machine: Attach,
    id: InstanceId,
    life: u32,
    wanted: bool,
    dropped: BTreeSet<u64>,
    /// What its kernel has.
    links: BTreeSet<EniId>,
    /// It has said that it has none.
    free: bool,
}

struct World {
    start: Instant,
    now: u64,
    nodes: Vec<Node>,
    /// Whose each is.
    enis: BTreeMap<EniId, History>,
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    random: Random,
    disorder: bool,
    changed: u64,
    calls: u64,
    log: Vec<String>,
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (nodes, enis) = (2 + random.below(4) as usize, 1 + random.below(5));
        let mut world = Self::of(seed, nodes, enis);
        world.disorder = true;
        for node in 0..nodes {
            world.at(random.below(3_000), Event::Want { node, wanted: true });
            for _ in 0..random.below(5) {
                let wanted = random.below(2) == 0;
                world.at(random.below(DISORDER), Event::Want { node, wanted });
            }
            if random.below(3) == 0 {
                world.at(random.below(DISORDER), Event::Anew { node });
            }
            let wanted = random.below(4) > 0;
            world.at(DISORDER, Event::Want { node, wanted });
        }
        world.random = random;
        world
    }

    fn of(seed: u64, nodes: usize, enis: u64) -> Self {
        let start = Instant::now();
        let node = |number: usize| {
            let id: InstanceId = format!("i-{:08x}", seed << 8 & 0xffff_ff00 | number as u64).parse().expect("an id");
            let machine = Attach::new(start, id.clone(), false);
            Node { machine, id, life: 0, wanted: false, dropped: BTreeSet::new(), links: BTreeSet::new(), free: false }
        };
        let enis = (0..enis).map(|eni| (format!("eni-{eni:08x}").parse().expect("an id"), vec![(0, None)])).collect();
        Self {
            start,
            now: 0,
            nodes: (0..nodes).map(node).collect(),
            enis,
            events: BTreeMap::new(),
            number: 0,
            random: Random(1),
            disorder: false,
            changed: 0,
            calls: 0,
            log: vec![],
        }
    }

    fn check(&mut self) -> Result<(), String> {
        self.run(DISORDER + 1)?;
        self.disorder = false;
        self.run(SETTLED)?;
        let (wrong, changed, calls) = (self.wrong(), self.changed, self.calls);
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        self.run(END)?;
        let lacking = self.nodes.iter().filter(|node| node.wanted && !node.machine.is_here()).count() as u64;
        if self.changed != changed || !self.wrong().is_empty() {
            return Err(format!("{} changes where there was nothing to change: {:?}", self.changed - changed, self.wrong()));
        }
        // Once in 7.5 s at most, by whoever has none.
        let most = lacking * (END - SETTLED) / 7_500;
        if self.calls - calls > most { Err(format!("{} calls, {most} at most", self.calls - calls)) } else { Ok(()) }
    }

    /// What is not as it should be in the end.
    fn wrong(&self) -> Vec<String> {
        let wanting = self.nodes.iter().filter(|node| node.wanted).count();
        let mut wrong = vec![];
        let mut have = 0;
        for (number, node) in self.nodes.iter().enumerate() {
            let own = self.owned(number);
            let is_here = node.machine.is_here();
            have += usize::from(is_here);
            if own.len() != usize::from(is_here) || (is_here && !node.wanted) || (!node.wanted && !node.machine.is_gone()) {
                wrong.push(format!("{number} (wanted: {}) has {own:?} and says {:?}", node.wanted, node.machine.status()));
            }
        }
        if have != wanting.min(self.enis.len()) {
            wrong.push(format!("{have} of {wanting} nodes have one of {}", self.enis.len()));
        }
        wrong
    }

    fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.events.insert((at.max(self.now), self.number), event);
    }

    fn say(&mut self, text: String) {
        self.log.push(format!("{:>6} {text}", self.now));
    }

    fn time(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn run(&mut self, end: u64) -> Result<(), String> {
        loop {
            let due = |node: &Node| node.machine.timeout().map(|at| (at - self.start).as_micros().div_ceil(1000) as u64);
            let timer = self.nodes.iter().filter_map(due).min().map(|at| at.max(self.now + 1));
            let event = self.events.keys().next().map(|(at, _)| *at);
            let Some(at) = event.into_iter().chain(timer).min().filter(|at| *at <= end) else {
                self.now = end;
                return Ok(());
            };
            self.now = at;
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= at) {
                let event = entry.remove();
                self.happen(event);
            }
            for node in 0..self.nodes.len() {
                let (now, jitter) = (self.time(), self.random.below(1000) as f64 / 1000.0);
                if self.nodes[node].machine.timeout().is_some_and(|due| due <= now) {
                    self.nodes[node].machine.tick(now, jitter);
                }
                self.obey(node)?;
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.time();
        match event {
            Event::Want { node, wanted } => {
                self.say(format!("{node}: {}", if wanted { "wants one" } else { "lets go" }));
                self.nodes[node].wanted = wanted;
                self.nodes[node].machine.want(now, wanted);
            }
            Event::Anew { node } => {
                self.say(format!("{node}: starts anew"));
                let node = &mut self.nodes[node];
                (node.life, node.dropped) = (node.life + 1, BTreeSet::new());
                node.machine = Attach::new(now, node.id.clone(), node.wanted);
            }
            Event::Land { node, life, number, call, answer } => {
                let outcome = Ok(self.land(node, &call, (life, number)));
                if answer {
                    let way = self.now + 20 + self.random.below(30);
                    self.at(way, Event::Answer { node, life, number, outcome });
                }
            }
            Event::Answer { node, life, number, outcome } => {
                let jitter = self.random.below(1000) as f64 / 1000.0;
                let node = &mut self.nodes[node];
                if node.life == life && !node.dropped.contains(&number) {
                    node.machine.ended(now, number, outcome, jitter);
                }
            }
            Event::Free { eni, attachment } => {
                if self.owner(&eni).is_some_and(|owner| owner.attachment == attachment) {
                    self.change(&eni, None);
                }
            }
            Event::Plug { node } => {
                let stays = |eni: &EniId| self.owner(eni).is_some_and(|owner| !owner.ends);
                self.nodes[node].links = self.owned(node).into_iter().filter(stays).collect();
            }
        }
    }

    fn obey(&mut self, node: usize) -> Result<(), String> {
        let now = self.time();
        let present = self.nodes[node].machine.mac().is_some_and(|mac| self.nodes[node].links.iter().any(|eni| mac_of(eni) == mac));
        self.nodes[node].machine.stands(now, present);
        while let Some(effect) = self.nodes[node].machine.next_effect() {
            match effect {
                Effect::Call { number, call } => self.call(node, number, call),
                Effect::Drop(number) => _ = self.nodes[node].dropped.insert(number),
                Effect::Here { eni, .. } => {
                    self.say(format!("{node}: has it: {eni}"));
                    // An interface is in the kernel for a moment after its attachment's end.
                    let lately = self.now.saturating_sub(4_000);
                    let was_ours = |(_, owner): &(u64, Option<Owner>)| owner.as_ref().is_some_and(|owner| owner.node == node);
                    let since = self.enis[&eni].iter().rposition(|(at, _)| *at <= lately).unwrap_or(0);
                    if !self.enis[&eni][since..].iter().any(was_ours) {
                        return Err(format!("{node} says that it has {eni}, and it has not"));
                    }
                }
                Effect::None { .. } => self.say(format!("{node}: none free")),
                other => self.say(format!("{node}: {other:?}")),
            }
        }
        let is_free = self.nodes[node].machine.is_free();
        if is_free && !std::mem::replace(&mut self.nodes[node].free, is_free) {
            self.say(format!("{node}: is free"));
            let left = self.left(node);
            if !left.is_empty() {
                return Err(format!("{node} says that it has none, and has {left:?}"));
            }
        }
        self.nodes[node].free = is_free;
        Ok(())
    }

    fn call(&mut self, node: usize, number: u64, call: Call) {
        self.calls += 1;
        let (life, land) = (self.nodes[node].life, self.now + 20 + self.random.below(30));
        let fail = |why| Event::Answer { node, life, number, outcome: Err(Failure { why, text: String::new(), after: None }) };
        let late = self.now + self.random.below(LATEST);
        let dice = if self.disorder { self.random.below(20) } else { 20 };
        let what = ["never done", "late", "twice", "throttled", "refused"];
        if let Some(what) = what.get(dice as usize) {
            self.say(format!("{node}: {call:?} is {what}"));
        }
        match dice {
            0 => {}
            1 => self.at(late, Event::Land { node, life, number, call, answer: false }),
            2 => {
                self.at(late, Event::Land { node, life, number: 0, call: call.clone(), answer: false });
                self.at(land, Event::Land { node, life, number, call, answer: true });
            }
            3 => self.at(land, fail(Why::Throttled)),
            4 => self.at(land, fail(Why::Refused)),
            _ => self.at(land, Event::Land { node, life, number, call, answer: true }),
        }
    }
}

fn mac_of(eni: &EniId) -> [u8; 6] {
    let number = u64::from_str_radix(&eni.as_str()[4..], 16).expect("digits");
    [2, 0, 0, 0, 0, number as u8]
}
