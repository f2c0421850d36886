//! `track:`.

use super::ha::{PAIR, gateway, said};
use super::*;
use crate::model::Cost;
use std::time::Duration;

/// The pair with this in tenant acme's `track`.
fn tracking(entry: &str) -> String {
    with(PAIR, &[("      shards:\n", &format!("      track:\n        - {entry}\n      shards:\n"))])
}

fn only(entry: &str) -> Tracked {
    let gateway = gateway(&tracking(entry));
    let [tracked] = &gateway.tenants[0].track[..] else { panic!("{:?}", gateway.tenants[0].track) };
    tracked.clone()
}

#[test]
fn everything_that_is_written_is_read() {
    let shown = |entry| {
        let Tracked { watched, cost } = only(entry);
        let limits = match &watched {
            Watched::Interface(_) => String::new(),
            Watched::Probe(probe) => {
                format!(" every {:?} timeout {:?} rise {} fall {}", probe.every, probe.timeout, probe.rise, probe.fall)
            }
        };
        format!("{watched}{limits} {cost:?}")
    };
    insta::assert_snapshot!([
        "{ interface: eth9, weight: 50 }",
        "{ tcp: 172.16.101.20:5432, every: 200ms, timeout: 100ms, rise: 1, fall: 100, weight: 253 }",
        "{ tcp: 172.16.101.20:5432 }",
        "{ http: http://172.16.101.20, fault: true }",
        "{ http: \"http://172.16.101.20:8080/health?deep=1\", fault: false }",
        "{ icmp: 172.16.101.20, fault: true }",
        "{ script: /usr/local/bin/check, args: [one, 2], weight: 20 }",
    ].map(shown).join("\n"), @"
    interface eth9 Weight(50)
    tcp 172.16.101.20:5432 every 200ms timeout 100ms rise 1 fall 100 Weight(253)
    tcp 172.16.101.20:5432 every 1s timeout 500ms rise 2 fall 3 Weight(150)
    http://172.16.101.20:80/ every 1s timeout 500ms rise 2 fall 3 Fault
    http://172.16.101.20:8080/health?deep=1 every 1s timeout 500ms rise 2 fall 3 Weight(150)
    icmp 172.16.101.20 every 1s timeout 500ms rise 2 fall 3 Fault
    script /usr/local/bin/check one 2 every 1s timeout 2s rise 2 fall 3 Weight(20)
    ");
}

#[test]
fn the_statuses_that_are_good() {
    let expect = |text: &str| {
        let tracked = only(&format!("{{ http: http://172.16.101.20/{text} }}"));
        let Watched::Probe(Probe { target: Target::Http(check), .. }) = tracked.watched else { panic!("{tracked:?}") };
        [199, 200, 299, 300, 404].map(|status| check.expect.contains(status))
    };
    assert_eq!(expect(""), [false, true, true, false, false]);
    assert_eq!(expect(", expect: 404"), [false, false, false, false, true]);
    assert_eq!(expect(", expect: 200-399"), [false, true, true, true, false]);
}

#[test]
fn what_concerns_all_tenants() {
    let changed = with(
        PAIR,
        &[(
            "    sync_port: 3790\n",
            "    sync_port: 3790\n    track: [{ interface: eth9, fault: true }, { script: /bin/check, timeout: 10ms, every: 1h }]\n",
        )],
    );
    let track = gateway(&changed).ha.expect("ha").track;
    assert_eq!(track.iter().map(|tracked| tracked.cost).collect::<Vec<_>>(), [Cost::Fault, Cost::DEFAULT]);
    let Watched::Probe(probe) = &track[1].watched else { panic!("{track:?}") };
    assert_eq!((probe.every, probe.timeout), (Duration::from_secs(3600), Duration::from_millis(10)));
    insta::assert_snapshot!(said(&[
        ("    sync_port: 3790\n", "    track: [{ tcp: 172.16.101.20:5432 }]\n"),
        ("    sync_port: 3790\n", "    track: [{ icmp: 172.16.101.20 }]\n"),
        ("    sync_port: 3790\n", "    track: [{ interface: eth0 }]\n"),
        ("    sync_port: 3790\n", "    track: []\n"),
    ]), @"
    f:14:15: `tcp` is no check for all tenants; write it in the `track` of a tenant: a probe goes into that tenant's VPC
    f:14:15: `icmp` is no check for all tenants; write it in the `track` of a tenant: a probe goes into that tenant's VPC
    f:14:26: eth0 is tracked anyway: without it a shard cannot be served; remove this entry
    f:14:12: `track` is an empty list; add an item: `track: [{ tcp: 172.16.101.20:5432 }]`
    ");
}

#[test]
fn faults() {
    let long = format!("{{ http: http://172.16.101.20/{} }}", "x".repeat(200));
    let many = format!("{{ script: /c, args: [{}] }}", "x, ".repeat(17));
    let all: Vec<String> = [
        "{ weight: 5 }",
        "{ tcp: 172.16.101.20:1, icmp: 172.16.101.20 }",
        "{ tcp: 172.16.101.20:1, weight: 5, fault: true }",
        "{ tcp: 172.16.101.20:1, weight: 0 }",
        "{ tcp: 172.16.101.20:1, weight: 254 }",
        "{ tcp: 172.16.101.20:1, fault: yes }",
        "{ tcp: 172.16.101.20 }",
        "{ tcp: 172.16.101.20:0 }",
        "{ tcp: db.example:5432 }",
        "{ tcp: \"[fd00::1]:1\" }",
        "{ tcp: 172.16.101.20:1, every: 50ms }",
        "{ tcp: 172.16.101.20:1, every: 2h }",
        "{ tcp: 172.16.101.20:1, timeout: 9ms }",
        "{ tcp: 172.16.101.20:1, timeout: 61s }",
        "{ tcp: 172.16.101.20:1, rise: 0 }",
        "{ tcp: 172.16.101.20:1, fall: 101 }",
        "{ tcp: 172.16.101.20:1, expect: 200 }",
        "{ tcp: 172.16.101.20:1, args: [a] }",
        "{ interface: eth9, every: 1s, rise: 2 }",
        "{ interface: eth1 }",
        "{ interface: pw-1 }",
        "{ http: https://172.16.101.20/ }",
        "{ http: 172.16.101.20/health }",
        "{ http: http://example.com/ }",
        "{ http: \"http://172.16.101.20/a b\" }",
        &long,
        "{ http: http://172.16.101.20/, expect: 99 }",
        "{ http: http://172.16.101.20/, expect: 300-200 }",
        "{ http: http://172.16.101.20/, expect: 2xx }",
        "{ icmp: 224.0.0.1 }",
        "{ script: check }",
        &many,
        "{ script: /c, args: [\"a\\nb\"] }",
        "{ script: /c, arguments: [a] }",
        "{ icmp: 172.16.101.20 }\n        - { icmp: 172.16.101.20, fault: true }",
    ]
    .iter()
    .map(|entry| super::faults(&tracking(entry)))
    .collect();
    insta::assert_snapshot!(all.join("\n"), @r##"
    f:23:11: this `track` entry says nothing to check; add one of `interface`, `tcp`, `http`, `icmp` and `script`
    f:23:35: this `track` entry has `icmp` beside `tcp`; make an entry of each
    f:23:35: this `track` entry has `weight` beside `fault`; keep one: `weight` lowers the priority, with `fault` the node lets go of the shard
    f:23:43: weight 0 is out of range; write 1 to 253, which is subtracted from the priority; or `fault: true`
    f:23:43: weight 254 is out of range; write 1 to 253, which is subtracted from the priority; or `fault: true`
    f:23:42: `fault` must be true or false, not "yes"; write true
    f:23:18: `tcp` "172.16.101.20" is not an IPv4 address and a port; write both, such as 172.16.101.20:5432; names are not looked up
    f:23:18: `tcp` "172.16.101.20:0" is not an IPv4 address and a port; write both, such as 172.16.101.20:5432; names are not looked up
    f:23:18: `tcp` "db.example:5432" is not an IPv4 address and a port; write both, such as 172.16.101.20:5432; names are not looked up
    f:23:18: `tcp` "[fd00::1]:1" is not an IPv4 address and a port; write both, such as 172.16.101.20:5432; names are not looked up
    f:23:42: `every` 50ms is out of range; write 100ms to 3600s
    f:23:42: `every` 7200s is out of range; write 100ms to 3600s
    f:23:44: `timeout` 9ms is out of range; write 10ms to 60s
    f:23:44: `timeout` 61s is out of range; write 10ms to 60s
    f:23:41: `rise` 0 is out of range; write 1 to 100 results in a row
    f:23:41: `fall` 101 is out of range; write 1 to 100 results in a row
    f:23:35: `expect` does not go with `tcp`; remove it
    f:23:35: `args` does not go with `tcp`; remove it
    f:23:30: `every` does not go with `interface`; an interface is not asked, the kernel tells; remove it
    f:23:41: `rise` does not go with `interface`; an interface is not asked, the kernel tells; remove it
    f:23:24: eth1 is tracked anyway: without it a shard cannot be served; remove this entry
    f:23:24: pw-1 is a name that Portway gives its own interfaces; name an interface of the machine; none that begins with `pw-`
    f:23:19: https is not supported here; write an http:// address, `tcp` for the port alone, or a `script`
    f:23:19: `http` "172.16.101.20/health" cannot be asked; write an IPv4 address, 200 characters at most, such as http://172.16.101.20:8080/health; names are not looked up
    f:23:19: `http` "http://example.com/" cannot be asked; write an IPv4 address, 200 characters at most, such as http://172.16.101.20:8080/health; names are not looked up
    f:23:19: `http` "http://172.16.101.20/a b" cannot be asked; write an IPv4 address, 200 characters at most, such as http://172.16.101.20:8080/health; names are not looked up
    f:23:19: `http` "http://172.16.101.20/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" cannot be asked; write an IPv4 address, 200 characters at most, such as http://172.16.101.20:8080/health; names are not looked up
    f:23:50: `expect` "99" is not a status of HTTP; write one such as 200, or a range such as 200-399, of 100 to 599
    f:23:50: `expect` "300-200" is not a status of HTTP; write one such as 200, or a range such as 200-399, of 100 to 599
    f:23:50: `expect` "2xx" is not a status of HTTP; write one such as 200, or a range such as 200-399, of 100 to 599
    f:23:19: `icmp` 224.0.0.1 is multicast; write an address that an interface of one machine has
    f:23:21: `script` "check" is not an absolute path; write a path from the root, such as /usr/local/bin/check
    f:23:31: these `args` are too many, too long or not text; write 16 at most, of 200 bytes each, without control characters
    f:23:31: these `args` are too many, too long or not text; write 16 at most, of 200 bytes each, without control characters
    f:23:25: unknown key `arguments` in this `track` entry; the keys here are `interface`, `tcp`, `http`, `icmp`, `script`, `args`, `expect`, `every`, `timeout`, `rise`, `fall`, `weight`, `fault`
    f:24:13: the check icmp 172.16.101.20 is already used in line 23; check everything once
    "##);
}

#[test]
fn not_without_a_group() {
    one(
        GATEWAY,
        "      key: 7\n",
        "      key: 7\n      track: [{ icmp: 172.16.101.20 }]\n",
        "f:10:7: `track` goes with `ha` only; add `ha` to the gateway, or remove it: without another gateway nothing can be left to it",
    );
}

#[test]
fn sixteen_are_enough() {
    let list = |n| (1..=n).map(|n| format!("{{ icmp: 172.16.101.{n} }}")).collect::<Vec<_>>().join("\n        - ");
    assert_eq!(gateway(&tracking(&list(16))).tenants[0].track.len(), 16);
    assert_eq!(super::faults(&tracking(&list(17))), "f:23:9: `track` has 17 entries; write 16 at most; a script can check several");
}
