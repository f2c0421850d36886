//! Each test writes a configuration with faults and compares what is said about them.

mod actuator;
mod autoscaler;
mod cloud;
mod directory;
mod flow_log;
mod gateway;
mod ha;
mod host;
mod inputs;
mod lifecycle;
mod registry;
mod track;
mod tunnel;
mod yaml;

use super::*;

/// A gateway with no fault. Tests replace a piece of it.
const GATEWAY: &str = "\
gateway:
  node: gw-a1
  platform: { interface: eth0, address: 10.9.0.1, mtu: 1500 }
  backend: auto
  runtime_dir: /run/portway
  admin: 127.0.0.1:9470
  tenants:
    - name: acme
      key: 7
      interface: eth1
      router: 172.16.101.1
      allow:
        - { to: 172.16.0.0/16, tcp: [5432, \"8000-8099\"], udp: [53], icmp: true }
      snat: { address: 172.16.101.10, ports: 1024-65535 }
      inner: 10.64.0.0/16
    - { name: globex, key: 8, interface: eth2, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16 }
peers:
  static:
    - { host: host-1, outer: 10.9.0.11, inner: { acme: [10.64.0.9, 10.64.1.0/28] } }
    - { host: host-2, outer: 10.9.0.12, inner: { acme: [10.64.0.10], globex: [10.64.0.9] } }
";

/// A function host with no fault.
const HOST: &str = "\
host:
  node: host-1
  platform: { interface: eth0, address: 10.9.0.11 }
  backend: auto
  runtime_dir: /run/portway
  admin: 127.0.0.1:9471
  tenants:
    - name: acme
      key: 7
      cidrs: [172.16.0.0/16]
      shards:
        - { shard: 0, gateway: 10.9.0.1, inner: 10.64.0.9 }
        - { shard: 1, gateway: 10.9.0.2, inner: 10.65.0.9 }
    - { name: globex, key: 8, cidrs: [172.16.0.0/16], shards: [{ shard: 0, gateway: 10.9.0.1, inner: 10.64.0.9 }] }
";

/// `base` with pieces replaced; each must be there.
fn with(base: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(base.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old:?} is not in\n{text}");
        text.replacen(old, new, 1)
    })
}

/// The faults of a text as lines.
fn faults(text: &str) -> String {
    parse(text, "f").map_or_else(|faults| faults.to_string(), |_| "no fault".into())
}

/// That the only fault of `base` with one piece replaced is this one.
fn one(base: &str, old: &str, new: &str, expected: &str) {
    assert_eq!(faults(&with(base, &[(old, new)])), expected, "{old:?} -> {new:?}");
}

#[test]
fn the_texts_that_the_tests_change_have_no_fault() {
    assert_eq!((faults(GATEWAY), faults(HOST)), ("no fault".into(), "no fault".into()));
}
