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
    for lab in [Topology::demo(), Topology::overlap(8), Topology::of(&names, &[Wiring::Veth; 3])] {
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
            assert_eq!(inner.len(), lab.tenants.len(), "an inner address belongs to one tenant");
        }
    }
}
