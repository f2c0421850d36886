use super::*;
use crate::model::{NodeName, Priority, ShardId, TenantShard};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// One of two gateways with no fault.
const PAIR: &str = "\
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

fn gateway(text: &str) -> Gateway {
    match parse(text, "f") {
        Ok(Config::Gateway(gateway)) => gateway,
        other => panic!("{other:?}"),
    }
}

/// What is said about the pair with one piece replaced, for each of these.
fn said(changes: &[(&str, &str)]) -> String {
    changes.iter().map(|change| faults(&with(PAIR, &[*change]))).collect::<Vec<_>>().join("\n")
}

#[test]
fn everything_that_is_written_is_read() {
    let gateway = gateway(PAIR);
    insta::assert_debug_snapshot!(gateway.ha.as_ref().expect("ha"), @"");
    let acme = &gateway.tenants[0].shards;
    insta::assert_debug_snapshot!(acme[0], @"");
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
    ]), @"");
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
        ("interval: 100ms", "interval: 15ms"),
        ("interval: 100ms", "interval: 0s"),
        ("interval: 100ms", "interval: 41s"),
        ("interval: 100ms", "interval: 9999999999h"),
        ("version: 3", "version: 2\n    checksum: message"),
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
    ]), @"");
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
    ]), @"");
}

#[test]
fn a_network_that_a_tenant_routes_holds_no_shared_address_of_another() {
    insta::assert_snapshot!(said(&[
        ("allow: [{ to: 172.16.0.0/16, tcp: [5432] }]", "allow: [{ to: 10.9.0.48/28, tcp: [5432] }]"),
        ("allow: [{ to: 172.16.0.0/16, tcp: all }]", "allow: [{ to: 10.9.0.2/32, tcp: all }]"),
        ("inner: 10.64.0.0/16\n      shards", "inner: 10.9.0.48/30\n      shards"),
    ]), @"");
}

#[test]
fn a_vrid_is_of_the_whole_file_where_every_gateway_hears_it() {
    assert_eq!(faults(&with(PAIR, &[("vrid: 53", "vrid: 51")])), "no fault");
    insta::assert_snapshot!(faults(&with(PAIR, &[("vrid: 53", "vrid: 51"), ("cast: unicast", "cast: multicast")])), @"");
}

#[test]
fn shards_and_their_gateways_go_together() {
    insta::assert_snapshot!(faults(&with(GATEWAY, &[("      inner: 10.64.0.0/16\n    -", "      inner: 10.64.0.0/16\n      shards: []\n    -")])), @"");
    insta::assert_snapshot!(faults(&with(GATEWAY, &[("  tenants:", "  ha:\n  tenants:")])), @"");
}

fn name(n: u8) -> NodeName {
    format!("gw-{n}").parse().expect("a name")
}

fn group(members: impl IntoIterator<Item = u8>) -> Ha {
    Ha { nodes: members.into_iter().map(|n| (name(n), [10, 9, 0, n].into())).collect(), ..gateway(PAIR).ha.expect("ha") }
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
