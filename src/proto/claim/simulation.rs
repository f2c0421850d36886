//! Nodes that claim the same addresses of a simulated cloud: calls that take long, are lost, answered with refusals or not at all, or done twice and late; looks
//! that tell of what was seconds ago; shards that come and go in any order, at both nodes at once or at none.
//!
//! Each seed is one schedule: twenty seconds of disorder, then one node is left that has each shard. Asserted:
//! - nothing is claimed by a node that the shard is not at;
//! - when looks have had their turn everything leads to the node that has the shard, and to no other;
//! - from then on nobody claims anything any more, and nobody calls often.
//!
//! `PORTWAY_SIMULATION_SEED=N` runs one schedule and prints it, `PORTWAY_SIMULATION_RUNS=N` that many.

mod world;

use super::{Claim, Kind};
use crate::model::TenantShard;
use std::collections::BTreeMap;
use std::env;
use std::time::Duration;
use world::{Limit, Random, World};

const RUNS: u64 = 3_000;
const DISORDER: u64 = 20_000;
/// The latest that a call lands, the longest from one look to the next, and what a loss takes.
const SETTLED: u64 = DISORDER + world::LATEST + 75_000 + 15_000;
const END: u64 = SETTLED + 80_000;

#[test]
fn what_is_claimed_leads_to_whoever_has_the_shard_whatever_happens() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|e| panic!("{name}={text}: {e}")));
    if let Some(seed) = number("PORTWAY_SIMULATION_SEED") {
        let (result, log) = run(seed);
        println!("{}", log.join("\n"));
        return result.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
    let runs = number("PORTWAY_SIMULATION_RUNS").unwrap_or(RUNS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut failed, mut reached) = (vec![], BTreeMap::<&str, u64>::new());
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads as u64).map(|first| scope.spawn(move || part((first..runs).step_by(threads)))).collect();
        for part in parts {
            let (faults, happened) = part.join().expect("a thread that ends");
            failed.extend(faults);
            happened.into_iter().for_each(|(what, count)| *reached.entry(what).or_default() += count);
        }
    });
    assert!(failed.is_empty(), "{}\nsee one with PORTWAY_SIMULATION_SEED=N and --no-capture", failed[..failed.len().min(5)].join("\n"));
    assert!(runs < RUNS || reached.values().all(|count| *count > 0), "what no schedule reaches is not tested by any: {reached:?}");
}

fn part(seeds: impl Iterator<Item = u64>) -> (Vec<String>, BTreeMap<&'static str, u64>) {
    let (mut failed, mut reached) = (vec![], BTreeMap::new());
    for seed in seeds {
        let (result, log) = run(seed);
        failed.extend(result.err().map(|fault| format!("seed {seed}: {fault}")));
        for what in world::HAPPENS {
            *reached.entry(what).or_default() += u64::from(log.iter().any(|line| line.contains(what)));
        }
    }
    (failed, reached)
}

fn run(seed: u64) -> (Result<(), String>, Vec<String>) {
    let mut random = Random::new(seed);
    let mut world = World::new(2, 1 + random.below(3), Random::new(seed ^ 0x5eed), None);
    world.is_disorderly = true;
    for shard in 0..world.shards() {
        for _ in 0..random.below(12) {
            let (at, node, here) = (random.below(DISORDER), random.below(2), random.below(2) == 0);
            world.turn(at, node, shard, here);
        }
        let last = random.below(2);
        world.turn(DISORDER + random.below(100), 1 - last, shard, false);
        world.turn(DISORDER + random.below(100), last, shard, true);
    }
    let result = check(&mut world);
    (result, world.log)
}

fn check(world: &mut World) -> Result<(), String> {
    world.run(DISORDER + 100)?;
    world.is_disorderly = false;
    world.run(SETTLED)?;
    let (wrong, claimed, readied) = (world.wrong(), world.claimed, world.readied);
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    world.run(END)?;
    if world.claimed != claimed || !world.wrong().is_empty() {
        return Err(format!("{} claims where there was nothing to claim: {:?}", world.claimed - claimed, world.wrong()));
    }
    // Of each node four at once, every 15 s at most.
    let most = 2 * 4 * ((END - SETTLED) / 15_000 + 1);
    if world.readied - readied > most { Err(format!("{} calls for connections, {most} at most", world.readied - readied)) } else { Ok(()) }
}

/// So many tenants; 20 calls a second, of everybody together, and no more at once. Milliseconds until all is claimed, and calls that were made.
fn throttled(nodes: u64, shards_each: u64, seed: u64) -> (u64, u64) {
    let limit = Limit { per_second: 20, burst: 20 };
    let mut world = World::new(nodes, nodes * shards_each, Random::new(seed), Some(limit));
    for shard in 0..world.shards() {
        world.turn(0, shard / shards_each, shard, true);
    }
    for at in (100..120_000).step_by(100) {
        world.run(at).expect("nobody claims what he has not");
        if world.wrong().is_empty() {
            return (at, world.called);
        }
    }
    panic!("{}", world.wrong().join("\n"));
}

#[test]
fn two_hundred_tenants_are_claimed_about_as_soon_as_the_cloud_lets_them() {
    // One node, and 200 that know nothing of each other.
    for ((nodes, shards_each), seed) in [(1u64, 200u64), (200, 1)].into_iter().zip(1..) {
        let single = (0..200).flat_map(|shard| claims(0, shard).1).filter(|claim| claim.kind() != Kind::Address).count() as u64;
        // Of the platform's side up to 50 in a call; the tenants' one each.
        let needed = nodes * shards_each.div_ceil(50) + 200 + single;
        let bound = (needed - 20) * 1000 / 20;
        let (took, called) = throttled(nodes, shards_each, seed);
        println!("{nodes} nodes: {took} ms of at least {bound}; {called} calls, {needed} that are needed");
        assert!(took < bound * 12 / 10, "{nodes} nodes: {took} ms, at least {bound}");
    }
}

/// What claims are about, without who has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct What(String);

impl What {
    fn of(claim: &Claim) -> Self {
        Self(match claim {
            Claim::Address { address, .. } => format!("{address}"),
            Claim::Route { table, address, .. } => format!("{address} in {table}"),
            Claim::Public { allocation, .. } => allocation.to_string(),
        })
    }
}

/// The claims of a node for a shard.
fn claims(node: u64, shard: u64) -> (TenantShard, std::collections::BTreeSet<Claim>) {
    let eni = |side: u64| format!("eni-{:08x}", node << 16 | side).parse().expect("an id");
    let address = |side: u8| [10, side, (shard >> 8) as u8, shard as u8].into();
    // The platform's ENI is one, and each tenant has its own.
    let mut claims = std::collections::BTreeSet::from([
        Claim::Address { eni: eni(0), address: address(1) },
        Claim::Address { eni: eni(1 + shard), address: address(2) },
    ]);
    if shard % 3 == 1 {
        let table = |number: u64| format!("rtb-{:08x}", shard << 4 | number).parse().expect("an id");
        claims.extend((0..2).map(|number| Claim::Route { table: table(number), address: address(3), eni: eni(0) }));
    }
    if shard % 3 == 2 {
        let allocation = format!("eipalloc-{shard:08x}").parse().expect("an id");
        claims.insert(Claim::Public { allocation, eni: eni(1 + shard), address: address(2) });
    }
    (format!("t{shard}/0").parse().expect("a shard"), claims)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Every kind is in some schedule.
#[test]
fn all_kinds_are_claimed() {
    let kinds: std::collections::BTreeSet<Kind> = (0..3).flat_map(|shard| claims(0, shard).1).map(|claim| claim.kind()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), Kind::ALL);
}
