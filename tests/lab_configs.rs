//! The configurations that a lab writes are ones that the daemons accept, and mean what the topology says.

use portway::config::{self, Backend, Config};
use portway::lab::topology::{MOST, Wiring};
use portway::lab::{Topology, configs};
use std::collections::BTreeSet;
use std::path::Path;

fn parse(yaml: &str) -> Config {
    config::parse(yaml, "lab.yaml").unwrap_or_else(|faults| panic!("{faults}\n{yaml}"))
}

#[test]
fn every_lab_configuration_is_accepted() {
    let names: Vec<String> = (0..MOST).map(|n| format!("tenant-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let groups = [Topology::group(&["acme"], 2, 1, &[Wiring::Veth]), Topology::group(&["acme", "blue"], 6, 10, &[Wiring::Veth; 3])];
    for lab in
        [Topology::demo(), Topology::apart(), Topology::overlap(8), Topology::of(&names, &[Wiring::Veth; 3])].into_iter().chain(groups)
    {
        for gateway in &lab.gateways {
            let Config::Gateway(parsed) = parse(&configs::gateway(&lab, gateway, Backend::Userspace, Path::new("/tmp/lab dir/x"))) else {
                panic!("not a gateway")
            };
            assert_eq!(parsed.platform.address, gateway.outer);
            assert_eq!((parsed.backend, parsed.peers.len()), (Backend::Userspace, lab.hosts.len()));
            assert_eq!(parsed.runtime_dir, Path::new("/tmp/lab dir/x"));
        }
        for host in &lab.hosts {
            let Config::Host(parsed) = parse(&configs::host(&lab, host, Backend::Kernel, Path::new("/run/x"))) else {
                panic!("not a host")
            };
            assert_eq!((parsed.tenants.len(), parsed.backend), (lab.tenants.len(), Backend::Kernel));
            let inner: BTreeSet<_> = parsed.tenants.iter().flat_map(|t| t.shards.iter().map(|s| s.inner)).collect();
            let shards: usize = lab.tenants.iter().map(|t| lab.shards_of(&t.name).len()).sum();
            assert_eq!(inner.len(), shards, "an inner address belongs to one shard of one tenant");
        }
    }
}

#[test]
fn a_pair_that_shares_an_address_says_so() {
    let lab = Topology::group(&["acme"], 2, 1, &[Wiring::Veth]);
    let yaml = configs::gateway(&lab, &lab.gateways[1], Backend::Auto, Path::new("/run/lab/gw-2"));
    insta::assert_snapshot!(yaml);
}

#[test]
fn shards_of_a_group_have_no_priority_and_their_own_inner_addresses() {
    let lab = Topology::group(&["acme"], 3, 2, &[Wiring::Veth]).with_interval(std::time::Duration::from_millis(10));
    let yaml = configs::gateway(&lab, &lab.gateways[0], Backend::Auto, Path::new("/run/lab/gw-1"));
    for expected in [
        "nodes: { gw-1: 10.9.0.1, gw-2: 10.9.0.2, gw-3: 10.9.0.3 }",
        "interval: 10ms",
        "- { shard: 1, vrid: 52, platform: 10.9.0.51, tenant: 172.16.101.11 }",
        "inner: { acme: [10.64.0.101], acme/1: [10.64.1.101] }",
    ] {
        assert!(yaml.contains(expected), "{expected:?} is missing in\n{yaml}");
    }
    let Config::Host(host) = parse(&configs::host(&lab, &lab.hosts[0], Backend::Auto, Path::new("/run/lab/host-1"))) else {
        panic!("not a host")
    };
    let gateways: Vec<String> = host.tenants[0].shards.iter().map(|s| s.gateway.to_string()).collect();
    assert_eq!(gateways, ["10.9.0.50", "10.9.0.51"]);
}
