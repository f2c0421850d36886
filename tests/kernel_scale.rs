//! Ten thousand of everything: fast enough to be applied at a start and to be looked at after every notice. The bounds are
//! for an unoptimised build on a busy machine; the figures are printed.

mod kernel_support;

use kernel_support::{World, in_namespace, name, run};
use portway::kernel::Change;
use portway::model::{GreKey, Mark};
use portway::plan::{Element, NftTable, Route, RouteKey, Ruleset, SetName, State, Step, plan};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

const MANY: u32 = 10_000;

fn address(base: [u8; 4], n: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::from(base).to_bits() + n).into()
}

fn set(name: &str) -> SetName {
    SetName { table: NftTable::Inet, name: name.into() }
}

/// A gateway with so many function hosts.
fn gateway(hosts: u32) -> State {
    let body = "map peers { type ipv4_addr : mark; }\nmap senders { typeof ip saddr . @th,0,32 . @th,32,32 . @th,160,32 : meta mark; }
map senders_net { typeof ip saddr . @th,0,32 . @th,32,32 . @th,160,32 : meta mark; flags interval; }
chain before_routing { type filter hook prerouting priority raw; policy accept; meta mark set ip saddr . @th,0,32 . @th,32,32 . @th,160,32 map @senders; }";
    let mut state = State { tables: [(NftTable::Inet, Ruleset::new(body.into()))].into(), ..State::default() };
    for n in 1..=hosts {
        let (outer, inner) = (address([198, 18, 0, 0], n), address([10, 64, 0, 0], n));
        // The kernel keeps routes with unequal next hops in a hash table by device and metric (`fib_info_hashfn`), and
        // with equal metrics walks all of them for each new one: 1.4 s instead of 0.1 s.
        let key = RouteKey { table: 0x70001, destination: inner.into(), metric: n };
        state.routes.insert(key, Route::Unicast { interface: name("pw-1"), via: Some(outer), mtu: None });
        // A veth stands in for a GRE device, which not every kernel has. Its link-layer address is 6 bytes long: the start of these.
        state.neighbours.insert((name("pw-1"), outer), Ipv6Addr::from(u128::from(n) << 80).into());
        let who = Mark(n << 16);
        state.elements.entry(set("peers")).or_default().insert(Element::Address(outer), Some(who));
        state.elements.entry(set("senders")).or_default().insert(Element::Sender { outer, key: GreKey(7), inner }, Some(who));
    }
    state
}

async fn world() -> World {
    let world = World::new().await;
    run("ip link add pw-1 mtu 1400 type veth peer name far; ip link set pw-1 up; ip link set far up");
    world
}

async fn timed<T>(what: &str, bound: Duration, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let result = work.await;
    let took = start.elapsed();
    println!("{what}: {took:?}");
    assert!(took < bound, "{what} took {took:?}");
    result
}

#[test]
fn ten_thousand_hosts_are_applied_and_observed() {
    in_namespace(async || {
        let world = world().await;
        let desired = gateway(MANY);
        let steps = plan(&desired, &State::default()).steps;
        let start = Instant::now();
        for (kind, some) in [
            ("tables", steps.iter().filter(|s| matches!(s, Step::ReplaceTable(..))).cloned().collect::<Vec<_>>()),
            ("neighbours", steps.iter().filter(|s| matches!(s, Step::SetNeighbour(..))).cloned().collect()),
            ("elements", steps.iter().filter(|s| matches!(s, Step::SetElement(..))).cloned().collect()),
            ("routes", steps.iter().filter(|s| matches!(s, Step::SetRoute(..))).cloned().collect()),
        ] {
            let start = Instant::now();
            world.apply(&some).await;
            println!("  {kind}: {} steps in {:?}", some.len(), start.elapsed());
        }
        let took = start.elapsed();
        println!("40,000 steps: {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        let seen = timed("observe", Duration::from_secs(1), world.observe()).await;
        assert_eq!((&seen.routes, &seen.elements, &seen.tables), (&desired.routes, &desired.elements, &desired.tables));
        assert_eq!(seen.neighbours.len(), desired.neighbours.len());
        timed("the same again", Duration::from_secs(2), world.apply(&steps)).await;

        let one_more = plan(&gateway(MANY + 1), &desired).steps;
        assert_eq!(one_more.len(), 4);
        timed("the 10,001st", Duration::from_millis(50), world.apply(&one_more)).await;

        let removals: Vec<_> = plan(&State { tables: desired.tables.clone(), ..State::default() }, &gateway(MANY + 1)).steps;
        timed("40,004 removals", Duration::from_secs(4), world.apply(&removals)).await;
        let left = world.observe().await;
        assert!(left.routes.is_empty() && left.neighbours.is_empty() && left.elements.is_empty());
    });
}

#[test]
fn one_element_takes_microseconds_whatever_stands() {
    in_namespace(async || {
        for standing in [10, 1_000, MANY] {
            let world = world().await;
            world.apply(&plan(&gateway(standing), &State::default()).steps).await;
            let mut times = Vec::new();
            for n in 0..2_000 {
                let element = Element::Address(address([203, 0, 113, 0], n));
                let (addition, removal) =
                    ([Step::SetElement(set("peers"), element.clone(), Some(Mark(n << 16)))], [Step::RemoveElement(set("peers"), element)]);
                let start = Instant::now();
                world.apply(&addition).await;
                times.push(start.elapsed());
                world.apply(&removal).await;
            }
            times.sort();
            let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            println!("one element with {standing} standing: p50 {p50:?}, p99 {p99:?}");
            assert!(p50 < Duration::from_millis(1), "{p50:?}");
            world.apply(&[Step::RemoveTable(NftTable::Inet), Step::RemoveLink(name("pw-1"))]).await;
        }
    });
}

#[test]
fn one_prefix_of_many() {
    in_namespace(async || {
        let world = world().await;
        let mut desired = gateway(0);
        let sender = |inner| Element::SenderPrefix { outer: address([198, 18, 0, 0], 1), key: GreKey(7), inner };
        for n in 0..MANY {
            let net = ipnet::IpNet::new(address([10, 0, 0, 0], n * 16), 28).unwrap();
            desired.elements.entry(set("senders_net")).or_default().insert(sender(net), Some(Mark(1 << 16)));
        }
        let steps = plan(&desired, &State::default()).steps;
        timed("10,000 prefixes", Duration::from_secs(10), world.apply(&steps)).await;
        assert_eq!(world.observe().await.elements, desired.elements);
        let element = sender("172.16.0.0/16".parse().unwrap());
        let addition = [Step::SetElement(set("senders_net"), element, Some(Mark(1 << 16)))];
        timed("one more prefix", Duration::from_secs(1), world.apply(&addition)).await;
    });
}

/// More notices than a socket holds, while nobody reads.
#[test]
fn lost_notices_are_told() {
    in_namespace(async || {
        let world = world().await;
        let mut watch = world.kernel.watch().await.unwrap();
        let batch: String = (0..60_000).map(|n| format!("route add {}/32 dev pw-1 table 0x70001\n", address([10, 0, 0, 0], n))).collect();
        let file = world.directory.path().join("batch");
        std::fs::write(&file, batch).unwrap();
        run(&format!("ip -batch {}", file.display()));
        let mut seen = Vec::new();
        while !seen.contains(&Change::Overflow) {
            seen.push(tokio::time::timeout(Duration::from_secs(5), watch.next()).await.expect("an overflow").unwrap());
        }
    });
}
