//! The nodes, what passes between them, and what is asserted of them all the time.

use super::super::super::bell::{Inbox, bell};
use super::super::super::instances::{elsewhere, virtuals};
use super::super::change::Transmit;
use super::super::*;
use crate::config::{Config, Gateway, parse};
use crate::model::{KeyId, NodeName, Secret};
use crate::plan::gateway::Carrier;
use crate::wire::vrrp::{Key, Keyring};
use proptest::prelude::*;

const STEP: Duration = Duration::from_millis(10);
const SHARDS: u8 = 6;
const SYNC: Duration = Duration::from_millis(700);
/// Who is no candidate is asked this often whether it listens.
const SELDOM: Duration = Duration::from_secs(1);
const RELIEF: Duration = Duration::from_secs(3);
/// All is as it will stay.
pub const SETTLED: Duration = Duration::from_secs(24);
/// A crash is noticed, and somebody else is Active.
const NOTICED: Duration = Duration::from_millis(450);

/// Who is in the group, as one configuration says: nodes 1 to `nodes`, of which the last may be leaving.
#[derive(Debug, Clone, Copy)]
pub struct Lists {
    pub nodes: u8,
    pub leaves: bool,
}

fn name(n: u8) -> NodeName {
    format!("gw-{n}").parse().unwrap()
}

fn config(n: u8, lists: Lists) -> Gateway {
    let nodes: Vec<String> = (1..=lists.nodes).map(|n| format!("gw-{n}: 10.9.0.{n}")).collect();
    let leaving = if lists.leaves { format!("leaving: [gw-{}], ", lists.nodes) } else { String::new() };
    let shard = |s: u8| format!("{{ shard: {s}, vrid: {}, platform: 10.9.0.{}, tenant: 172.16.101.{} }}", 51 + s, 50 + s, 10 + s);
    let shards: Vec<String> = (0..SHARDS).map(shard).collect();
    let text = format!(
        "gateway:
  node: gw-{n}
  platform: {{ interface: plat0, address: 10.9.0.{n} }}
  ha: {{ nodes: {{ {} }}, {leaving}keys: [{{ id: 1, file: /etc/portway/ha.key }}] }}
  tenants:
    - {{ name: acme, key: 7, interface: eni0, allow: [{{ to: 172.16.0.0/16, tcp: all }}], inner: 10.64.0.0/16, shards: [{}] }}
",
        nodes.join(", "),
        shards.join(", ")
    );
    match parse(&text, "group.yaml") {
        Ok(Config::Gateway(gateway)) => gateway,
        other => panic!("{other:?}"),
    }
}

fn candidates(config: &Gateway) -> BTreeMap<TenantShard, Vec<u8>> {
    let (tenant, ha) = (&config.tenants[0], config.ha.as_ref().unwrap());
    let number = |node: &NodeName| (1..10).find(|n| name(*n) == *node).unwrap();
    let of = tenant.shards.iter().map(|shard| tenant.of(shard.shard));
    of.map(|of| (of.clone(), ha.candidates(&of).into_iter().map(number).collect())).collect()
}

fn keys() -> Keyring {
    let key = Key::new(KeyId::try_from(1).unwrap(), &Secret::new(&[7; 32]).unwrap());
    Keyring { signing: key, other: None }
}

/// What a node knows of a shard's connections.
#[derive(Debug, Clone, Copy, Default)]
struct Copied {
    /// Who tells, and since when; none: nobody.
    from: Option<(u8, Instant)>,
    whole: bool,
    in_sync: bool,
    relieved: bool,
    /// It was the node's own before.
    held: bool,
}

pub struct Node {
    config: Gateway,
    /// As its configuration says, the first first.
    candidates: BTreeMap<TenantShard, Vec<u8>>,
    pub routers: Routers,
    _hands: Inbox<Deed>,
    changed: Instant,
    copies: BTreeMap<TenantShard, Copied>,
    /// Of shards that are here: since when all candidates have copies.
    covered: BTreeMap<TenantShard, Instant>,
}

struct Wire {
    clock: Duration,
    packets: Vec<(Envelope, Vec<u8>)>,
}

impl Transmit for Wire {
    fn transmit(&mut self, ip: &Envelope, bytes: &[u8]) -> bool {
        self.packets.push((*ip, bytes.to_vec()));
        true
    }

    fn clock(&self) -> Duration {
        self.clock
    }
}

impl Node {
    fn start(now: Instant, config: Gateway, wire: &mut Wire) -> Self {
        let (hands, _hands) = bell().unwrap();
        let routers = Routers::new(now, hands, Arc::default(), Elsewhere::new());
        let mut node = Self {
            config: config.clone(),
            candidates: BTreeMap::new(),
            routers,
            _hands,
            changed: now,
            copies: BTreeMap::new(),
            covered: BTreeMap::new(),
        };
        node.take_up(now, config, wire);
        node
    }

    fn take_up(&mut self, now: Instant, config: Gateway, wire: &mut Wire) {
        self.candidates = candidates(&config);
        self.config = config;
        let all = (virtuals(&self.config, Carrier::Userspace).unwrap(), elsewhere(&self.config).unwrap());
        self.copies.retain(|of, _| all.0.iter().any(|what| what.of == *of));
        all.0.iter().for_each(|what| _ = self.copies.entry(what.of.clone()).or_default());
        self.routers.replace(now, all, &keys(), BTreeMap::new(), wire);
        self.covered.clear();
        self.changed = now;
    }

    /// As a reload does.
    fn reload(&mut self, now: Instant, mut config: Gateway, wire: &mut Wire) {
        let node = config.node.clone();
        config.ha.as_mut().unwrap().retain(&node, self.copies.keys().cloned().collect::<Vec<_>>());
        self.take_up(now, config, wire);
    }

    fn entry(&self, of: &TenantShard) -> Option<&Entry> {
        self.routers.entries.iter().find(|entry| entry.what.of == *of)
    }

    fn is_active(&self, of: &TenantShard) -> bool {
        self.entry(of).is_some_and(|entry| entry.machine.state() == State::Active)
    }

    /// The addresses are here.
    fn holds(&self, of: &TenantShard) -> bool {
        self.entry(of).is_some_and(|entry| entry.machine.lease_ends().is_some())
    }

    fn is_candidate(&self, of: &TenantShard, node: u8) -> bool {
        self.candidates[of].contains(&node)
    }

    fn knows(&self, node: u8) -> bool {
        self.routers.entries.iter().any(|entry| entry.what.destinations.contains(&[10, 9, 0, node].into()))
    }
}

pub struct Group {
    pub now: Instant,
    began: Instant,
    wire: Wire,
    pub nodes: BTreeMap<u8, Node>,
    shards: Vec<TenantShard>,
    pub crashed: Option<Instant>,
    both: BTreeMap<TenantShard, Instant>,
}

impl Group {
    pub fn new(lists: Lists) -> Self {
        let now = Instant::now();
        let wire = Wire { clock: Duration::from_secs(1_795_000_000), packets: Vec::new() };
        let tenant = &config(1, lists).tenants[0];
        let shards = tenant.shards.iter().map(|shard| tenant.of(shard.shard)).collect();
        let mut group = Self { now, began: now, wire, nodes: BTreeMap::new(), shards, crashed: None, both: BTreeMap::new() };
        (1..=lists.nodes).for_each(|n| group.start(n, lists));
        // There are no connections yet: everybody has them all.
        group.nodes.values_mut().flat_map(|node| node.copies.values_mut()).for_each(|copy| copy.whole = true);
        group
    }

    pub fn start(&mut self, n: u8, lists: Lists) {
        let node = Node::start(self.now, config(n, lists), &mut self.wire);
        self.nodes.insert(n, node);
    }

    pub fn reload(&mut self, n: u8, lists: Lists) {
        if let Some(node) = self.nodes.get_mut(&n) {
            node.reload(self.now, config(n, lists), &mut self.wire);
        }
    }

    pub fn crash(&mut self, n: u8) {
        self.nodes.remove(&n);
        self.crashed = Some(self.now);
    }

    pub fn pass(&mut self, time: Duration) -> Result<(), TestCaseError> {
        let end = self.now + time;
        while self.now < end {
            (self.now, self.wire.clock) = (self.now + STEP, self.wire.clock + STEP);
            for (ip, bytes) in std::mem::take(&mut self.wire.packets) {
                let to = self.nodes.values_mut().find(|node| node.config.platform.address == ip.destination);
                to.into_iter().for_each(|node| node.routers.hear(self.now, self.wire.clock, &ip, &bytes));
            }
            for node in self.nodes.values_mut() {
                node.routers.send(&mut self.wire);
                node.routers.timeouts(self.now);
                node.routers.send(&mut self.wire);
            }
            for of in self.shards.clone() {
                self.promoted(&of)?;
                self.sync(&of);
                self.check(&of)?;
            }
        }
        Ok(())
    }

    /// Nobody takes a shard over without its connections whom somebody else has.
    fn promoted(&mut self, of: &TenantShard) -> Result<(), TestCaseError> {
        let anybody = self.nodes.values().any(|node| node.copies.get(of).is_some_and(|copy| copy.whole));
        for (n, node) in &mut self.nodes {
            let holds = node.holds(of);
            let Some(copy) = node.copies.get_mut(of) else { continue };
            if holds && !copy.held {
                prop_assert!(copy.whole || !anybody, "gw-{n} takes {of} over and does not know its connections");
                // If nobody knows any, those that begin are all.
                *copy = Copied { held: true, whole: true, ..Copied::default() };
            } else if !holds && copy.held {
                // Another node's now: they are deleted, and told again.
                *copy = Copied::default();
            }
        }
        Ok(())
    }

    fn sync(&mut self, of: &TenantShard) {
        let now = self.now;
        let active = self.nodes.iter().find(|(_, node)| node.is_active(of)).map(|(n, _)| *n);
        let told = |n: u8, node: &Node| {
            let teller = active.filter(|teller| node.knows(*teller))?;
            self.nodes[&teller].knows(n).then_some((teller, self.nodes[&teller].is_candidate(of, n)))
        };
        let told: BTreeMap<u8, (u8, bool)> = self.nodes.iter().filter_map(|(n, node)| Some((*n, told(*n, node)?))).collect();
        let relief = active.is_some_and(|n| {
            let (node, first) = (&self.nodes[&n], self.nodes[&n].candidates[of][0] == n);
            node.covered.get(of).is_some_and(|since| now - *since >= if first { RELIEF } else { RELIEF * 2 })
        });
        for (n, node) in &mut self.nodes {
            if node.holds(of) {
                continue;
            }
            let Some(copy) = node.copies.get_mut(of) else { continue };
            match told.get(n) {
                Some((teller, candidate)) => {
                    let begins = now + if *candidate { Duration::ZERO } else { SELDOM };
                    match copy.from {
                        Some((from, since)) if from == *teller => {
                            if now >= since + SYNC {
                                (copy.whole, copy.in_sync) = (true, true);
                            }
                        }
                        _ => (copy.from, copy.in_sync) = (Some((*teller, begins)), false),
                    }
                    copy.relieved = copy.in_sync && relief && !*candidate;
                }
                None => (copy.from, copy.in_sync, copy.relieved) = (None, false, false),
            }
        }
        let in_sync: BTreeMap<u8, (u8, bool)> = self
            .nodes
            .iter()
            .filter_map(|(n, node)| node.copies.get(of).map(|copy| (*n, (copy.from.map_or(0, |(from, _)| from), copy.in_sync))))
            .collect();
        let actives = self.nodes.values().filter(|node| node.is_active(of)).count();
        for (n, node) in &mut self.nodes {
            if node.entry(of).is_none() {
                continue;
            }
            // That a candidate answers no more, because it has become Active, is noticed when its advertisement has long come.
            if node.holds(of) && actives > 1 {
                continue;
            }
            let mut said = in_sync.get(n).is_some_and(|(_, in_sync)| *in_sync);
            if node.holds(of) {
                let waits = now - node.changed < Duration::from_secs(10);
                let others: Vec<u8> = node.candidates[of].iter().copied().filter(|other| other != n).collect();
                let synced = |other: &u8| in_sync.get(other).is_some_and(|(from, in_sync)| from == n && *in_sync);
                let there = |other: &&u8| in_sync.contains_key(*other);
                let all = !others.is_empty() && others.iter().all(synced);
                said = all || !waits && others.iter().any(|other| there(&other)) && others.iter().filter(there).all(synced);
                match all {
                    true => _ = node.covered.entry(of.clone()).or_insert(now),
                    false => _ = node.covered.remove(of),
                }
            } else {
                node.covered.remove(of);
            }
            if node.routers.in_sync.get(of) != Some(&said) {
                node.routers.synced(now, of, said);
                node.routers.send(&mut self.wire);
            }
            let spare = node.config.ha.as_ref().unwrap().retained.contains(of);
            if spare && node.copies.get(of).is_some_and(|copy| copy.relieved) && !node.holds(of) {
                let mut config = node.config.clone();
                config.ha.as_mut().unwrap().retained.remove(of);
                let changed = node.changed;
                node.take_up(now, config, &mut self.wire);
                node.changed = changed;
            }
        }
    }

    fn check(&mut self, of: &TenantShard) -> Result<(), TestCaseError> {
        let actives: Vec<u8> = self.nodes.iter().filter(|(_, node)| node.is_active(of)).map(|(n, _)| *n).collect();
        if actives.len() > 1 {
            let since = *self.both.entry(of.clone()).or_insert(self.now);
            prop_assert!(self.now - since <= STEP * 2, "{of}: {actives:?} are Active");
        } else {
            self.both.remove(of);
        }
        let quiet = self.now - self.began > SETTLED / 3 && self.crashed.is_none_or(|at| self.now - at > NOTICED);
        let serves = |node: &Node| node.holds(of);
        prop_assert!(!quiet || self.nodes.values().any(serves), "{of}: nobody serves it");
        if quiet && self.crashed.is_none() {
            let whole = self.nodes.values().filter(|node| node.copies.get(of).is_some_and(|copy| copy.whole)).count();
            prop_assert!(whole > 1, "{of}: one node alone knows its connections, {actives:?} is Active");
        }
        Ok(())
    }

    /// The one Active of each shard.
    pub fn owners(&self) -> Result<BTreeMap<TenantShard, u8>, TestCaseError> {
        let mut owners = BTreeMap::new();
        for of in &self.shards {
            let actives: Vec<u8> = self.nodes.iter().filter(|(_, node)| node.is_active(of)).map(|(n, _)| *n).collect();
            prop_assert_eq!(actives.len(), 1, "{}: {:?}", of, actives);
            owners.insert(of.clone(), actives[0]);
        }
        Ok(owners)
    }

    pub fn homes(lists: Lists) -> BTreeMap<TenantShard, u8> {
        candidates(&config(1, lists)).into_iter().map(|(of, nodes)| (of, nodes[0])).collect()
    }

    /// Every router's state and priority, and what its node knows.
    pub fn said(&self) -> String {
        let of_node = |(n, node): (&u8, &Node)| {
            let of_entry = |entry: &Entry| {
                let status = entry.machine.status();
                let of = &entry.what.of;
                let (last, turns) = (entry.last, entry.transitions);
                format!(
                    "\n  gw-{n} {of}: {:?} {} in sync: {}, {turns} turns, {last:?}; {:?}",
                    status.state,
                    status.priority,
                    status.in_sync,
                    node.copies.get(of)
                )
            };
            node.routers.entries.iter().map(of_entry).collect::<String>()
        };
        self.nodes.iter().map(of_node).collect()
    }

    /// Nothing is kept by who is no candidate.
    pub fn is_tidy(&self) -> bool {
        self.nodes.values().all(|node| node.config.ha.as_ref().unwrap().retained.is_empty())
    }
}
