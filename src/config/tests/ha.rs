use super::*;
use crate::model::{NodeName, Priority, ShardId, TenantShard};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// One of two gateways with no fault.
pub(super) const PAIR: &str = "\
gateway:
  node: gw-a1
  platform: { interface: eth0, address: 10.9.0.1 }
  ha:
    nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }
    keys: [{ id: 1, file: /etc/portway/ha.key }]
    interval: 100ms
    version: 3
    checksum: pseudo-header
    cast: unicast
    preempt: 0s
    accept: false
    authentication: hmac
    sync_port: 3790
  tenants:
    - name: acme
      key: 7
      interface: eth1
      allow: [{ to: 172.16.0.0/16, tcp: [5432] }]
      inner: 10.64.0.0/16
      snat: { ports: 1024-65535 }
      shards:
        - { shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, priority: 200 }
        - { shard: 1, vrid: 52, platform: 10.9.0.51, tenant: 172.16.101.11 }
    - name: globex
      key: 8
      interface: eth2
      allow: [{ to: 172.16.0.0/16, tcp: all }]
      inner: 10.64.0.0/16
      shards: [{ shard: 0, vrid: 53, platform: 10.9.0.52, tenant: 172.16.101.10 }]
peers: { static: [{ host: host-1, outer: 10.9.0.101, inner: { acme: [10.64.0.101], acme/1: [10.64.1.101] } }] }
";

pub(super) fn gateway(text: &str) -> Gateway {
    match parse(text, "f") {
        Ok(Config::Gateway(gateway)) => gateway,
        other => panic!("{other:?}"),
    }
}

/// What is said about the pair with one piece replaced, for each of these.
pub(super) fn said(changes: &[(&str, &str)]) -> String {
    changes.iter().map(|change| faults(&with(PAIR, &[*change]))).collect::<Vec<_>>().join("\n")
}

#[test]
fn everything_that_is_written_is_read() {
    let gateway = gateway(PAIR);
    insta::assert_compact_debug_snapshot!(gateway.ha.as_ref().expect("ha"), @r#"Ha { nodes: {NodeName("gw-a1"): 10.9.0.1, NodeName("gw-a2"): 10.9.0.2}, leaving: {}, interval: AdvertInterval(10), version: V3, checksum: PseudoHeader, cast: Unicast, preempt: Some(0ns), accept: false, authentication: Hmac, keys: [KeyFile { id: KeyId(1), file: "/etc/portway/ha.key" }], sync_port: 3790, track: [], lifecycle: None, retained: {} }"#);
    let acme = &gateway.tenants[0].shards;
    insta::assert_compact_debug_snapshot!(acme[0], @"GatewayShard { shard: ShardId(0), local: 10.9.0.50, tunnel: Gre { key: GreKey(7) }, snat: To { address: 172.16.101.10, ports: PortRange { first: 1024, last: 65535 } }, havip: Some(HaVip { vrid: Vrid(51), priority: Some(Priority(200)) }) }");
    assert_eq!((acme.len(), acme[1].havip.expect("shared").priority), (2, None));
    assert_eq!(gateway.peers[0].inner.keys().map(ToString::to_string).collect::<Vec<_>>(), ["acme/0", "acme/1"]);
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let written = gateway(PAIR).ha.expect("ha");
    let lines = PAIR.lines().enumerate().filter(|(n, _)| !(6..14).contains(n)).map(|(_, line)| line);
    let short = lines.collect::<Vec<_>>().join("\n").replace("      snat: { ports: 1024-65535 }\n", "");
    let short = gateway(&short);
    assert_eq!(short.ha.expect("ha"), written);
    assert_eq!(short.tenants[0].shards[0].snat, gateway(PAIR).tenants[0].shards[0].snat);
}

#[test]
fn other_choices() {
    let changed = |changes: &[(&str, &str)]| gateway(&with(PAIR, changes)).ha.expect("ha");
    let two = changed(&[("    interval: 100ms\n    version: 3\n    checksum: pseudo-header\n", "    version: 2\n")]);
    assert_eq!((two.version.to_string(), two.interval.whole_seconds(), two.checksum.label()), ("2".into(), Some(1), "message"));
    assert_eq!(two.authentication, Authentication::Hmac);
    assert_eq!(changed(&[("authentication: hmac", "authentication: none")]).authentication, Authentication::None);
    assert_eq!(changed(&[("cast: unicast", "cast: multicast")]).cast, Cast::Multicast);
    assert_eq!(changed(&[("preempt: 0s", "preempt: never")]).preempt, None);
    for (text, seconds) in [("90s", 90), ("1.5m", 90), ("90000ms", 90), ("1h", 3600)] {
        assert_eq!(changed(&[("preempt: 0s", &format!("preempt: {text}"))]).preempt, Some(Duration::from_secs(seconds)), "{text}");
    }
    for (text, centiseconds) in [("10ms", 1), ("0.25s", 25), ("40.95s", 4095)] {
        assert_eq!(changed(&[("interval: 100ms", &format!("interval: {text}"))]).interval.centiseconds(), centiseconds, "{text}");
    }
    let keys = changed(&[("ha.key }]", "ha.key }, { id: 2, file: /k }]")]).keys;
    assert_eq!(keys.iter().map(|key| key.id.get()).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn the_group() {
    insta::assert_snapshot!(said(&[
        ("    nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }\n", ""),
        ("nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }", "nodes: [gw-a1, gw-a2]"),
        ("nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }", "nodes: { gw-a1: 10.9.0.1 }"),
        ("nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }", "nodes: {}"),
        ("nodes: { gw-a1: 10.9.0.1", "nodes: { gw-a3: 10.9.0.3"),
        ("nodes: { gw-a1: 10.9.0.1", "nodes: { gw-a3: 10.9.0.1, gw-a1: 10.9.0.1"),
        ("nodes: { gw-a1: 10.9.0.1", "nodes: { gw-a1: 10.9.0.11"),
        ("gw-a2: 10.9.0.2", "gw-a2: 10.9.0.1"),
        ("gw-a2: 10.9.0.2", "gw-a2: 10.9.0.2, gw-a3: 10.9.0.2"),
        ("gw-a2: 10.9.0.2", "gw-a2: 10.9.0.2, gw-a2: 10.9.0.3"),
        ("gw-a2: 10.9.0.2", "gw-a2: 10.9.0"),
        ("gw-a2: 10.9.0.2", "gw-a2:"),
        ("gw-a2: 10.9.0.2", "gw-a2: fd00::2"),
        ("gw-a2: 10.9.0.2", "gw/a2: 10.9.0.2"),
        ("gw-a2: 10.9.0.2", "gw-a2: 172.16.0.2"),
        ("platform: { interface: eth0, address: 10.9.0.1 }", "platform: { interface: eth0, address: 10.9.0.9 }"),
        ("  node: gw-a1", "  node: gw-b1"),
        ("  node: gw-a1", "  node: /"),
    ]), @r#"
    f:4:3: `ha` lacks `nodes`; add `nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }`
    f:5:12: `nodes` must be a map of names and addresses, not a list; write `nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }`
    f:5:5: `nodes` has fewer than two nodes: nobody could take over; write all gateways of the group, such as `nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }`, or remove `ha`
    f:5:5: `nodes` lacks this node, gw-a1; add `gw-a1: 10.9.0.1`, its name and platform address
    f:5:5: `nodes` has fewer than two nodes: nobody could take over; write all gateways of the group, such as `nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }`, or remove `ha`
    f:5:5: `nodes` lacks this node, gw-a1; add `gw-a1: 10.9.0.1`, its name and platform address
    f:5:21: the address 10.9.0.1 of gw-a3 is this gateway's own platform address; give every node its own
    f:5:21: gw-a1 has 10.9.0.11 here and 10.9.0.1 as its `platform.address`; write the same in both: it is where the others hear this node from
    f:5:38: the address 10.9.0.1 of gw-a2 is this gateway's own platform address; give every node its own
    f:5:55: the address 10.9.0.2 of gw-a3 is gateway gw-a2's platform address; give every node its own
    f:5:48: the node gw-a2 is already used in line 5; write every node once, with its platform address
    f:5:38: the address of gw-a2 "10.9.0" is not an address; write an IPv4 address such as 10.9.0.1
    f:5:36: the address of gw-a2 must be one value, not nothing; write `10.9.0.1`
    f:5:38: the address of gw-a2 fd00::2 is IPv6, which is not supported yet; write an IPv4 address
    f:5:31: "gw/a2" is not a node name; use 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first
    f:5:38: gateway gw-a2's platform address 172.16.0.2 lies in 172.16.0.0/16, which tenant acme routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    f:5:21: gw-a1 has 10.9.0.1 here and 10.9.0.9 as its `platform.address`; write the same in both: it is where the others hear this node from
    f:5:5: `nodes` lacks this node, gw-b1; add `gw-b1: 10.9.0.1`, its name and platform address
    f:5:21: the address 10.9.0.1 of gw-a1 is this gateway's own platform address; give every node its own
    f:2:9: "/" is not a node name; use 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first
    "#);
}

#[test]
fn how_they_speak() {
    insta::assert_snapshot!(said(&[
        ("keys: [{ id: 1, file: /etc/portway/ha.key }]", "keys: []"),
        ("keys: [{ id: 1, file: /etc/portway/ha.key }]", "keys:"),
        ("ha.key }]", "ha.key }, { id: 1, file: /k }]"),
        ("ha.key }]", "ha.key }, { id: 2, file: /k }, { id: 3, file: /l }]"),
        ("id: 1,", "id: 0,"),
        ("id: 1,", "id: 256,"),
        ("file: /etc", "file: etc"),
        ("file: /etc", "path: /etc"),
        ("interval: 100ms", "interval: 100"),
        ("interval: 100ms", "leaving: []"),
        ("interval: 100ms", "leaving: [gw-a3, gw-a2, gw-a2]"),
        ("interval: 100ms", "leaving: [gw-a1, gw-a2]"),
        ("interval: 100ms", "interval: 15ms"),
        ("interval: 100ms", "interval: 0s"),
        ("interval: 100ms", "interval: 41s"),
        ("interval: 100ms", "interval: 9999999999h"),
        ("version: 3", "version: 2"),
        ("interval: 100ms\n    version: 3\n    checksum: pseudo-header", "interval: 1.5s\n    version: 2"),
        ("interval: 100ms\n    version: 3\n    checksum: pseudo-header", "interval: 256s\n    version: 2"),
        ("interval: 100ms\n    version: 3", "interval: 1s\n    version: 2"),
        ("version: 3", "version: 4"),
        ("checksum: pseudo-header", "checksum: pseudo"),
        ("cast: unicast", "cast: broadcast"),
        ("preempt: 0s", "preempt: 0"),
        ("preempt: 0s", "preempt: 61m"),
        ("preempt: 0s", "preempt: no"),
        ("accept: false", "accept: no"),
        ("authentication: hmac", "authentication: ah"),
        ("sync_port: 3790", "sync_port: 0"),
        ("sync_port: 3790", "sync-port: 3790"),
    ]), @r#"
    f:6:11: `keys` is an empty list; add an item: `- { id: 1, file: /etc/portway/ha.key }`
    f:6:5: `keys` has no value; write `keys: [{ id: 1, file: /etc/portway/ha.key }]`
    f:6:56: key id 1 is already used in line 6; give each key its own number, the same on all nodes
    f:6:11: 3 keys are more than are taken at a time; keep two at most: the one that signs, first, and the one that comes or goes
    f:6:18: key id 0 is out of range; write 1 to 255
    f:6:18: key id 256 is out of range; write 1 to 255
    f:6:27: `file` "etc/portway/ha.key" is not an absolute path; write a path from the root, such as /etc/portway/ha.key
    f:6:12: this key lacks `file`; add `file: /etc/portway/ha.key`
    f:6:21: unknown key `path` in this key; the keys here are `id`, `file`
    f:7:15: `interval` "100" is not a time; write a number and its unit (ms, s, m or h), such as 100ms
    f:7:14: `leaving` is an empty list; add an item: `leaving: [gw-a2]`
    f:7:15: gw-a3 is none of `nodes`; write nodes of the group; one that has gone need not be named
    f:7:29: the node gw-a2 is already used in line 7; write every node once
    f:7:14: all nodes are leaving: nobody would serve; keep one at least, and two for a Backup
    f:7:15: an interval of 15ms cannot be sent in version 3; write a multiple of 10ms, from 10ms to 40.95s
    f:7:15: an interval of 0ns cannot be sent in version 3; write a multiple of 10ms, from 10ms to 40.95s
    f:7:15: an interval of 41s cannot be sent in version 3; write a multiple of 10ms, from 10ms to 40.95s
    f:7:15: `interval` "9999999999h" is not a time; write a number and its unit (ms, s, m or h), such as 100ms
    f:7:15: an interval of 100ms cannot be sent in version 2; write whole seconds, from 1s to 255s
    f:9:15: version 2 has no pseudo-header in its checksum; write `checksum: message` or remove the line
    f:7:15: an interval of 1.5s cannot be sent in version 2; write whole seconds, from 1s to 255s
    f:7:15: an interval of 256s cannot be sent in version 2; write whole seconds, from 1s to 255s
    f:9:15: version 2 has no pseudo-header in its checksum; write `checksum: message` or remove the line
    f:8:14: version 4 is out of range; write 2 to 3
    f:9:15: `checksum` cannot be "pseudo"; write pseudo-header or message or multicast-pseudo-header
    f:10:11: `cast` cannot be "broadcast"; write unicast or multicast
    f:11:14: `preempt` "0" is not a time; write a number and its unit (ms, s, m or h), such as 0s
    f:11:14: a preempt delay of 3660s is out of range; write 0s to 1h, or `never`
    f:11:14: `preempt` "no" is not a time; write a number and its unit (ms, s, m or h), such as 0s
    f:12:13: `accept` must be true or false, not "no"; write false
    f:13:21: `authentication` cannot be "ah"; write hmac or none
    f:14:16: sync_port 0 is out of range; write 1 to 65535
    f:14:5: unknown key `sync-port` in `ha`; did you mean `sync_port`?
    "#);
}

#[test]
fn shards() {
    let of_acme = "\n        - { shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, priority: 200 }\n        - { shard: 1, vrid: 52, platform: 10.9.0.51, tenant: 172.16.101.11 }";
    insta::assert_snapshot!(said(&[
        (of_acme, ""),
        (of_acme, " []"),
        (&format!("      shards:{of_acme}\n"), ""),
        ("shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, priority: 200", "shrd: 0"),
        ("shard: 1, vrid: 52", "shard: 0, vrid: 52"),
        ("shard: 1, vrid: 52", "shard: 65536, vrid: 52"),
        ("vrid: 52", "vrid: 51"),
        ("vrid: 52", "vrid: 0"),
        ("vrid: 52", "vrid: 256"),
        ("priority: 200", "priority: 0"),
        ("priority: 200", "priority: 255"),
        ("platform: 10.9.0.51", "platform: 10.9.0.50"),
        ("platform: 10.9.0.52", "platform: 10.9.0.50"),
        ("platform: 10.9.0.51", "platform: 10.9.0.1"),
        ("platform: 10.9.0.51", "platform: 10.9.0.2"),
        ("platform: 10.9.0.51", "platform: 172.16.9.9"),
        ("platform: 10.9.0.51", "platform: 10.64.9.9"),
        ("platform: 10.9.0.51", "platform: 224.0.0.18"),
        ("platform: 10.9.0.51", "platform: fd00::51"),
        ("tenant: 172.16.101.11", "tenant: 172.16.101.10"),
        ("tenant: 172.16.101.11", "tenant: 10.64.0.11"),
        ("tenant: 172.16.101.11", "tenant: 10.9.0.52"),
        ("tenant: 172.16.101.11", "tenant: 10.9.0.2"),
        ("tenant: 172.16.101.11", "tenant: 127.0.0.1"),
        ("tenant: 172.16.101.11", "tenant: fd00::11"),
        ("snat: { ports: 1024-65535 }", "snat: { address: 172.16.101.10 }"),
        ("snat: { ports: 1024-65535 }", "snat: { ports: 0 }"),
        ("acme/1: [", "acme/2: ["),
        ("outer: 10.9.0.101", "outer: 10.9.0.2"),
        ("outer: 10.9.0.101", "outer: 10.9.0.52"),
    ]), @r#"
    f:22:7: `shards` has no value; write `shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }]` or remove the line
    f:22:15: `shards` is an empty list; add an item: `shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }]`
    f:16:7: this tenant lacks `shards`, which `ha` needs; add `shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }]`
    f:23:11: this shard lacks `vrid`; add `vrid: 51`
    f:23:11: this shard lacks `platform`; add `platform: 10.9.0.50`
    f:23:11: this shard lacks `tenant`; add `tenant: 172.16.101.10`
    f:23:13: unknown key `shrd` in this shard; did you mean `shard`?
    f:24:20: shard 0 is already used in line 23; give every shard of a tenant its own number
    f:31:84: tenant acme has no shard 1 here; add it to the tenant's `shards`, or write one of those
    f:24:20: shard 65536 is out of range; write 0 to 65535
    f:24:29: VRID 51 is already used in line 23; give every shard of a tenant its own VRID, the same on all nodes
    f:24:29: VRID 0 is out of range; write 1 to 255
    f:24:29: VRID 256 is out of range; write 1 to 255
    f:23:87: priority 0 is out of range; write 1 to 254: 255 is for a router that owns the addresses and never gives way
    f:23:87: priority 255 is out of range; write 1 to 254: 255 is for a router that owns the addresses and never gives way
    f:24:43: the platform HaVip 10.9.0.50 is the platform HaVip in line 23 too; give every shard of every tenant a platform HaVip of its own: it tells their tunnels apart
    f:30:48: the platform HaVip 10.9.0.50 is the platform HaVip in line 23 too; give every shard of every tenant a platform HaVip of its own: it tells their tunnels apart
    f:24:43: the platform HaVip 10.9.0.1 is this gateway's own platform address too; give every shard of every tenant a platform HaVip of its own: it tells their tunnels apart
    f:24:43: the platform HaVip 10.9.0.2 is gateway gw-a2's platform address too; give every shard of every tenant a platform HaVip of its own: it tells their tunnels apart
    f:24:43: the platform HaVip 172.16.9.9 lies in 172.16.0.0/16, which tenant acme routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    f:24:43: the platform HaVip 10.64.9.9 lies in 10.64.0.0/16, which tenant acme routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    f:24:43: the platform HaVip 224.0.0.18 is multicast; write an address that an interface of one machine has
    f:24:43: the platform HaVip fd00::51 is IPv6, which is not supported yet; write an IPv4 address
    f:24:62: the tenant HaVip 172.16.101.10 is already used in line 23; give every shard of a tenant its own: answers would go to the wrong gateway
    f:24:62: the tenant HaVip 10.64.0.11 lies in this tenant's inner addresses 10.64.0.0/16; write an address of the tenant's subnet, or move `inner` to addresses that the tenant does not use
    f:24:62: the tenant HaVip 10.9.0.52 is the platform HaVip in line 30; write an address of the tenant's subnet: the two sides must be apart
    f:24:62: the tenant HaVip 10.9.0.2 is gateway gw-a2's platform address; write an address of the tenant's subnet: the two sides must be apart
    f:24:62: the tenant HaVip 127.0.0.1 is loopback; write an address that an interface of one machine has
    f:24:62: the tenant HaVip fd00::11 is IPv6, which is not supported yet; write an IPv4 address
    f:21:15: `snat` has an address beside those of `shards`; remove it: with `ha` every shard has its own, its `tenant` HaVip
    f:21:22: port 0 cannot be used; ports are 1 to 65535
    f:31:84: tenant acme has no shard 2 here; add it to the tenant's `shards`, or write one of those
    f:31:42: the outer address 10.9.0.2 is gateway gw-a2's platform address; write the host's platform address
    f:31:42: the outer address 10.9.0.52 is the platform HaVip in line 30; write the host's platform address
    "#);
}

#[test]
fn a_network_that_a_tenant_routes_holds_no_shared_address_of_another() {
    insta::assert_snapshot!(said(&[
        ("allow: [{ to: 172.16.0.0/16, tcp: [5432] }]", "allow: [{ to: 10.9.0.48/28, tcp: [5432] }]"),
        ("allow: [{ to: 172.16.0.0/16, tcp: all }]", "allow: [{ to: 10.9.0.2/32, tcp: all }]"),
        ("inner: 10.64.0.0/16\n      shards", "inner: 10.9.0.48/30\n      shards"),
    ]), @r#"
    f:23:43: the platform HaVip 10.9.0.50 lies in 10.9.0.48/28, which tenant acme routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    f:24:43: the platform HaVip 10.9.0.51 lies in 10.9.0.48/28, which tenant acme routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    f:30:48: the platform HaVip 10.9.0.52 lies in 10.9.0.48/28, which tenant acme routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    f:5:38: gateway gw-a2's platform address 10.9.0.2 lies in 10.9.0.2/32, which tenant globex routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    f:23:43: the platform HaVip 10.9.0.50 lies in 10.9.0.48/30, which tenant globex routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    f:24:43: the platform HaVip 10.9.0.51 lies in 10.9.0.48/30, which tenant globex routes; write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves
    "#);
}

#[test]
fn a_vrid_is_of_the_whole_file_where_every_gateway_hears_it() {
    assert_eq!(faults(&with(PAIR, &[("vrid: 53", "vrid: 51")])), "no fault");
    insta::assert_snapshot!(faults(&with(PAIR, &[("vrid: 53", "vrid: 51"), ("cast: unicast", "cast: multicast")])), @r#"f:30:34: VRID 51 is already used in line 23; give every shard of the file its own VRID, or write `cast: unicast`, where tenants may share them"#);
}

#[test]
fn shards_and_their_gateways_go_together() {
    insta::assert_snapshot!(faults(&with(GATEWAY, &[("      inner: 10.64.0.0/16\n    -", "      inner: 10.64.0.0/16\n      shards: []\n    -")])), @r#"f:16:7: `shards` goes with `ha` only; add `ha` to the gateway, or remove it: a gateway alone has its own addresses"#);
    insta::assert_snapshot!(faults(&with(GATEWAY, &[("  tenants:", "  ha:\n  tenants:")])), @r#"
    f:7:3: `ha` has no value; write `ha: { nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }, keys: [{ id: 1, file: /etc/portway/ha.key }] }` or remove the line
    f:9:7: this tenant lacks `shards`, which `ha` needs; add `shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }]`
    f:15:15: `snat` has an address beside those of `shards`; remove it: with `ha` every shard has its own, its `tenant` HaVip
    f:17:7: this tenant lacks `shards`, which `ha` needs; add `shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }]`
    "#);
}

#[test]
fn a_node_serves_as_many_shards_as_there_are_slots_of_all_that_are_listed() {
    let (head, _) = PAIR.split_once("    - name: acme").expect("a tenant");
    let mut text = head.to_owned();
    for tenant in 0..40 {
        let allow = "[{ to: 172.16.0.0/16, tcp: all }]";
        text += &format!("    - {{ name: t{tenant}, key: {tenant}, interface: eni{tenant}, inner: 10.64.0.0/16, allow: {allow}, shards: [");
        for n in 1..=200 {
            text += &format!("{{ shard: {n}, vrid: {n}, platform: 10.9.{}.{n}, tenant: 172.16.0.{n} }},", tenant + 1);
        }
        text += "] }\n";
    }
    assert_eq!(
        faults(&text),
        "f:15:3: 8000 shards, of all tenants, that fall to this node are more than it can serve; list fewer, 7391 at most for a node"
    );
    let served = gateway(&with(&text, &[("gw-a2: 10.9.0.2", "gw-a2: 10.9.0.2, gw-a3: 10.9.0.3")])).served().count();
    assert!((4500..6500).contains(&served), "{served}");
}

fn name(n: u8) -> NodeName {
    format!("gw-{n}").parse().expect("a name")
}

fn group(members: impl IntoIterator<Item = u8>) -> Ha {
    Ha { nodes: members.into_iter().map(|n| (name(n), [10, 9, 0, n].into())).collect(), ..gateway(PAIR).ha.expect("ha") }
}

#[test]
fn who_leaves_is_nobodys_candidate_and_the_others_are_as_without_him() {
    let (all, without) = (group(1..=5), group(1..=4));
    let leaving = Ha { leaving: [name(5)].into(), ..all };
    for of in (0..100).map(shard) {
        assert_eq!(leaving.candidates(&of), without.candidates(&of));
        assert_eq!(leaving.priority(&name(5), &of, Some(Priority(200))), Priority::LOWEST);
    }
    let written = gateway(&PAIR.replace("interval: 100ms", "leaving: [gw-a2]")).ha.expect("ha");
    assert_eq!(written.candidates(&shard(0)), [&"gw-a1".parse().expect("a name")]);
}

fn shard(n: u16) -> TenantShard {
    TenantShard { tenant: "acme".parse().expect("a name"), shard: ShardId(n) }
}

#[test]
fn priority_is_as_configured_or_by_rank() {
    let group = group(1..=5);
    let ranked: BTreeMap<u8, u8> = (1..=5).map(|n| (n, group.priority(&name(n), &shard(0), None).0)).collect();
    let [first, second] = group.candidates(&shard(0))[..] else { panic!("two") };
    assert_eq!((group.priority(first, &shard(0), None), group.priority(second, &shard(0), None)), (Priority(200), Priority(100)));
    assert_eq!(ranked.values().filter(|priority| **priority == 1).count(), 3);
    assert_eq!(group.priority(first, &shard(0), Some(Priority(7))), Priority(7));
    // Who only retains a shard is to be relieved of it.
    let none = group.nodes.keys().find(|node| ![first, second].contains(node)).expect("five nodes");
    assert_eq!(group.priority(none, &shard(0), Some(Priority(200))), Priority::LOWEST);
}

proptest! {
    #[test]
    fn who_comes_or_goes_changes_only_what_it_gains_or_loses(
        members in prop::collection::btree_set(1u8..=12, 2..10), newcomer in 13u8..=20, shards in prop::collection::btree_set(any::<u16>(), 1..40)
    ) {
        let (before, after) = (group(members.iter().copied()), group(members.into_iter().chain([newcomer])));
        let newcomer = name(newcomer);
        for of in shards.into_iter().map(shard) {
            let (old, new) = (before.candidates(&of), after.candidates(&of));
            for (group, candidates) in [(&before, &old), (&after, &new)] {
                prop_assert_eq!(candidates.len(), 2);
                prop_assert!(candidates[0] != candidates[1]);
                prop_assert!(candidates.iter().all(|candidate| group.nodes.contains_key(*candidate)));
            }
            if new.contains(&&newcomer) {
                // The others keep their order; the last of them makes room.
                let kept: Vec<_> = new.into_iter().filter(|candidate| **candidate != newcomer).collect();
                prop_assert_eq!(&kept[..], &old[..1]);
            } else {
                prop_assert_eq!(new, old);
            }
        }
    }
}
