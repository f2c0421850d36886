use super::*;
use std::time::Instant;

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn net(s: &str) -> IpNet {
    s.parse().unwrap()
}

fn name(s: &str) -> IfName {
    s.parse().unwrap()
}

fn gateway() -> Table<&'static str> {
    let mut table = Table::default();
    for (interface, key, device) in [("pw-1", 7, "blue"), ("pw-2", 8, "red")] {
        table.add(Tunnel { interface: name(interface), key: GreKey(key), end: End::Gateway }, device).unwrap();
    }
    table.set_peer(&name("pw-1"), ip("10.0.0.1"), &[net("10.64.0.1/32"), net("10.64.1.0/24")]).unwrap();
    table.set_peer(&name("pw-1"), ip("10.0.0.2"), &[net("10.64.0.2/32")]).unwrap();
    table.set_peer(&name("pw-2"), ip("10.0.0.1"), &[net("10.64.0.2/32")]).unwrap();
    table
}

/// The tunnel's device, or the reason.
fn from(table: &Table<&'static str>, outer: &str, key: u32, source: &str) -> Result<&'static str, DropReason> {
    table.decapsulate(ip(outer), GreKey(key), ip(source), ip("172.16.0.10")).map(|(_, device)| *device)
}

#[test]
fn a_gateway_takes_packets_from_the_owner_of_the_inner_source_only() {
    let table = gateway();
    assert_eq!(from(&table, "10.0.0.1", 7, "10.64.0.1"), Ok("blue"));
    assert_eq!(from(&table, "10.0.0.1", 7, "10.64.1.200"), Ok("blue"));
    assert_eq!(from(&table, "10.0.0.1", 8, "10.64.0.2"), Ok("red"), "tenants may use the same inner addresses");
    assert_eq!(from(&table, "10.0.0.1", 7, "10.64.0.2"), Err(DropReason::SpoofedInner), "its neighbour's");
    assert_eq!(from(&table, "10.0.0.1", 7, "10.64.9.9"), Err(DropReason::SpoofedInner), "nobody's");
    assert_eq!(from(&table, "10.0.0.3", 7, "10.64.0.1"), Err(DropReason::UnlistedSource));
    assert_eq!(from(&table, "10.0.0.2", 8, "10.64.0.2"), Err(DropReason::WrongKey), "a host of another tenant");
    assert_eq!(from(&table, "10.0.0.1", 9, "10.64.0.1"), Err(DropReason::WrongKey));
}

#[test]
fn a_gateway_sends_to_the_owner_of_the_inner_destination() {
    let table = gateway();
    let to = |interface: &str, destination| table.encapsulate(table.find(&name(interface)).unwrap().0, ip(destination));
    assert_eq!(to("pw-1", "10.64.0.2"), Ok((ip("10.0.0.2"), GreKey(7))));
    assert_eq!(to("pw-2", "10.64.0.2"), Ok((ip("10.0.0.1"), GreKey(8))));
    assert_eq!(to("pw-1", "10.64.1.77"), Ok((ip("10.0.0.1"), GreKey(7))));
    assert_eq!(to("pw-1", "10.65.0.1"), Err(DropReason::Unroutable));
}

#[test]
fn what_is_changed_or_removed_leaves_nothing_behind() {
    let mut table = gateway();
    let pw1 = name("pw-1");
    table.set_peer(&pw1, ip("10.0.0.1"), &[net("10.64.0.5/32")]).unwrap();
    assert_eq!(from(&table, "10.0.0.1", 7, "10.64.0.1"), Err(DropReason::SpoofedInner));
    assert_eq!(from(&table, "10.0.0.1", 7, "10.64.0.5"), Ok("blue"));
    assert_eq!(table.remove_peer(&pw1, ip("10.0.0.1")), Ok(true));
    assert_eq!(table.remove_peer(&pw1, ip("10.0.0.1")), Ok(false));
    assert_eq!(from(&table, "10.0.0.1", 7, "10.64.0.5"), Err(DropReason::WrongKey), "it is still a host of red");
    assert_eq!(table.remove(&name("pw-2")), Some("red"));
    assert_eq!(from(&table, "10.0.0.1", 8, "10.64.0.2"), Err(DropReason::UnlistedSource));
    assert_eq!(table.remove(&pw1), Some("blue"));
    assert!(table.points.is_empty() && table.outers.is_empty() && table.gateway_keys.is_empty() && table.tunnels.is_empty());
}

#[test]
fn a_function_host_takes_its_own_tenants_packets_to_its_own_address() {
    let mut table = Table::default();
    let end = |gateway: &str, cidr| End::Host { gateway: ip(gateway), inner: ip("10.64.0.1"), cidrs: vec![net(cidr)] };
    let add = |table: &mut Table<_>, interface, key, gateway, device| {
        table.add(Tunnel { interface: name(interface), key: GreKey(key), end: end(gateway, "172.16.0.0/16") }, device)
    };
    let id = add(&mut table, "pw-1", 7, "10.0.1.1", "blue").unwrap();
    add(&mut table, "pw-2", 7, "10.0.1.2", "blue, second shard").unwrap();
    add(&mut table, "pw-3", 8, "10.0.1.1", "red").unwrap();
    assert!(add(&mut table, "pw-4", 8, "10.0.1.1", "red again").unwrap_err().0.contains("key 8 of pw-4"));
    let from = |outer, key, source, destination| table.decapsulate(ip(outer), GreKey(key), ip(source), ip(destination)).map(|(_, d)| *d);
    assert_eq!(from("10.0.1.1", 7, "172.16.5.5", "10.64.0.1"), Ok("blue"));
    assert_eq!(from("10.0.1.2", 7, "172.16.5.5", "10.64.0.1"), Ok("blue, second shard"));
    assert_eq!(from("10.0.1.1", 8, "172.16.5.5", "10.64.0.1"), Ok("red"));
    assert_eq!(from("10.0.1.1", 7, "10.1.1.1", "10.64.0.1"), Err(DropReason::SpoofedInner));
    assert_eq!(from("10.0.1.1", 7, "172.16.5.5", "10.64.0.2"), Err(DropReason::Unroutable));
    assert_eq!(from("10.0.1.3", 7, "172.16.5.5", "10.64.0.1"), Err(DropReason::UnlistedSource));
    assert_eq!(table.encapsulate(id, ip("172.16.5.5")), Ok((ip("10.0.1.1"), GreKey(7))));
}

#[test]
fn an_inner_prefix_has_one_owner() {
    let mut table = gateway();
    let fault = table.set_peer(&name("pw-1"), ip("10.0.0.9"), &[net("10.64.0.1/32")]).unwrap_err();
    assert_eq!(fault.0, "inner prefix 10.64.0.1/32 on pw-1 is 10.0.0.1's already: it cannot be 10.0.0.9's too");
    assert_eq!(from(&table, "10.0.0.9", 7, "10.64.0.1"), Err(DropReason::UnlistedSource), "nothing of it was applied");
}

#[test]
fn the_ten_thousand_and_first_host_costs_no_more_than_a_millisecond() {
    let mut table = gateway();
    let peer = |n: u32| (IpAddr::from((0x0a01_0000 + n).to_be_bytes()), IpNet::from(IpAddr::from((0x0a80_0000 + n).to_be_bytes())));
    for (outer, inner) in (0..10_000).map(peer) {
        table.set_peer(&name("pw-1"), outer, &[inner]).unwrap();
    }
    // The tables grow by doubling, and 10,001 is no power of two: the best of a few stands for all.
    let best = (10_000..10_010).map(peer).map(|(outer, inner)| {
        let start = Instant::now();
        table.set_peer(&name("pw-1"), outer, &[inner]).unwrap();
        start.elapsed()
    });
    assert!(best.min().unwrap().as_micros() < 1000);
}
