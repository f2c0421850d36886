//! A gateway with tunnels at several addresses, which come to it and go while it runs.

mod userspace_support;

use portway::userspace::DropReason;
use std::collections::BTreeMap;
use userspace_support::*;

/// The gateway's second address, which it does not have yet.
const SECOND: &str = "10.0.0.12";
/// 172.16.0.10 is reached through the tunnel at the first address, 172.16.0.11 through the one at the second.
const PING_FIRST: &str = "ping -c 3 -i 0.01 -W 2 172.16.0.10";
const PING_SECOND: &str = "ping -c 3 -i 0.01 -W 2 172.16.0.11";

/// A tenant's second shard at [`SECOND`]: the same key, host and inner address as the first.
fn two_shards() -> Pair {
    let mut pair = Pair::new();
    pair.host.run(|| pair.host_path.add_tunnel(&host_tunnel_to(2, SECOND, KEY))).unwrap();
    pair.gateway.run(|| pair.gateway_path.add_tunnel(&gateway_tunnel_at(2, SECOND, KEY))).unwrap();
    pair.gateway_path.set_peer(&name("pw-2"), address("10.0.0.1"), &["10.64.0.1/32".parse().unwrap()]).unwrap();
    for namespace in [&pair.host, &pair.gateway] {
        namespace.ip("link set pw-2 mtu 1472 up");
        for tunnel in ["pw-1", "pw-2"] {
            namespace.exec(&format!("sysctl -qw net.ipv6.conf.{tunnel}.disable_ipv6=1")); // its solicitations would be counted
        }
    }
    pair.host.ip("route add 172.16.0.11/32 dev pw-2 src 10.64.0.1");
    pair.gateway.ip("address add 172.16.0.11/32 dev lo");
    pair.gateway.ip("route add 10.64.0.0/16 dev pw-2 src 172.16.0.11 table 12");
    pair.gateway.ip("rule add from 172.16.0.11 lookup 12");
    pair
}

fn give(pair: &Pair) {
    pair.gateway.ip(&format!("address add {SECOND}/32 dev eth0"));
}

fn received(pair: &Pair, tunnel: &str) -> u64 {
    pair.gateway_path.counters().tunnels[&name(tunnel)].received_packets
}

/// What the gateway dropped, IPv6 router solicitations of its own devices apart.
fn refused(pair: &Pair) -> Vec<(DropReason, u64)> {
    drops(pair).into_iter().filter(|(why, count)| *count > 0 && *why != DropReason::UnsupportedProtocol).collect()
}

#[test]
fn one_key_at_two_addresses_and_one_host_in_both() {
    let mut pair = two_shards();
    pair.host.exec(PING_FIRST);
    assert!(!pair.host.output("ping -c 1 -W 0.2 172.16.0.11").status.success(), "the address is not there yet");
    give(&pair);
    pair.host.exec(PING_SECOND);
    pair.host.exec(PING_FIRST);
    assert_eq!(received(&pair, "pw-1"), 6);
    assert!(received(&pair, "pw-2") >= 3, "the ping of before may have waited for the address");
    assert_eq!(refused(&pair), vec![]);

    assert!(pair.gateway_path.remove_tunnel(&name("pw-1")));
    let before = drops(&pair);
    assert!(!pair.host.output("ping -c 1 -W 0.2 172.16.0.10").status.success());
    assert_eq!(dropped_since(&pair, &before, 1), BTreeMap::from([(DropReason::WrongLocal, 1)]));
    pair.host.exec(PING_SECOND);
}

#[test]
fn what_is_for_an_address_of_no_tunnel_is_counted() {
    let pair = two_shards();
    give(&pair);
    pair.host.ip("address add 10.0.0.3/24 dev eth0");
    pair.gateway.ip("address add 10.0.0.13/32 dev eth0");
    let good = with_key(KEY.0, &echo());
    for (to, from, why) in [
        ("10.0.0.13", "10.0.0.1", DropReason::WrongLocal),
        ("10.0.0.13", "10.0.0.3", DropReason::WrongLocal),
        (SECOND, "10.0.0.3", DropReason::UnlistedSource),
    ] {
        let before = drops(&pair);
        pair.inject_to(to, from, std::slice::from_ref(&good));
        assert_eq!(dropped_since(&pair, &before, 1), BTreeMap::from([(why, 1)]), "{from} to {to}");
    }
    assert_eq!([received(&pair, "pw-1"), received(&pair, "pw-2")], [0, 0]);
}

/// The kernel sends from whatever source we write (raw.rs): an address that is gone fences nothing, and hurts nobody.
#[test]
fn an_address_that_goes_takes_nothing_else_with_it() {
    let pair = two_shards();
    give(&pair);
    pair.host.exec(PING_SECOND);
    pair.gateway.ip(&format!("address del {SECOND}/32 dev eth0"));
    pair.host.exec("nft add table ip seen");
    pair.host.exec("nft add chain ip seen in { type filter hook prerouting priority -300 ; }");
    pair.host.exec(&format!("nft add rule ip seen in ip protocol 47 ip saddr {SECOND} counter"));
    assert!(!pair.gateway.output("ping -c 5 -i 0.01 -W 0.2 -I 172.16.0.11 10.64.0.1").status.success(), "nothing comes back to it");
    pair.host.exec(PING_FIRST);
    let rules = pair.host.exec("nft list chain ip seen in");
    assert!(rules.contains("counter packets 5"), "{rules}");
    assert_eq!(refused(&pair), vec![]);
    give(&pair);
    pair.host.exec(PING_SECOND);
}

/// As on a cloud's machine with an interface for each address.
#[test]
fn routing_by_source_goes_by_the_tunnels_own_address() {
    let pair = two_shards();
    give(&pair);
    pair.gateway.ip(&format!("rule add from {SECOND} unreachable"));
    let before = drops(&pair);
    assert!(!pair.host.output("ping -c 2 -i 0.01 -W 0.2 172.16.0.11").status.success());
    assert_eq!(dropped_since(&pair, &before, 2), BTreeMap::from([(DropReason::Unroutable, 2)]));
    pair.host.exec(PING_FIRST);
    pair.gateway.ip(&format!("rule del from {SECOND} unreachable"));
    pair.host.exec(PING_SECOND);
}

#[test]
fn a_tunnel_that_moves_to_another_address_keeps_its_hosts() {
    let mut pair = Pair::new();
    give(&pair);
    let hosts = pair.gateway_path.peers(&name("pw-1"));
    let moved = gateway_tunnel_at(1, SECOND, KEY);
    assert!(!pair.gateway.run(|| pair.gateway_path.add_tunnel(&moved)).unwrap(), "its device is the same");
    assert_eq!(pair.gateway_path.tunnels(), [moved]);
    assert_eq!(pair.gateway_path.peers(&name("pw-1")), hosts);
    let before = drops(&pair);
    assert!(!pair.host.output("ping -c 1 -W 0.2 172.16.0.10").status.success());
    assert_eq!(dropped_since(&pair, &before, 1)[&DropReason::WrongLocal], 1);
    pair.host.run(|| pair.host_path.add_tunnel(&host_tunnel_to(1, SECOND, KEY))).unwrap();
    pair.host.exec(PING_FIRST);
}

#[test]
fn an_ipv6_address_is_refused() {
    let mut pair = Pair::new();
    let fault = pair.gateway.run(|| pair.gateway_path.add_tunnel(&gateway_tunnel_at(1, "fd00::2", KEY))).unwrap_err();
    assert_eq!(fault.to_string(), "the address fd00::2 of pw-1 is IPv6, which tunnels do not use yet");
    pair.host.exec(PING_FIRST);
}
