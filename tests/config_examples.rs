//! Every file in examples/ is a configuration that Portway accepts.

use portway::config::{self, Config, Snat};
use std::path::PathBuf;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples")
}

#[test]
fn every_example_is_accepted() {
    let mut files = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "yaml") {
            config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
            files += 1;
        }
    }
    assert!(files >= 4, "only {files} examples");
}

#[test]
fn the_gateway_example_means_what_it_says() {
    let Config::Gateway(gateway) = config::load(examples().join("gateway.yaml")).unwrap() else { panic!("not a gateway") };
    let acme = &gateway.tenants[0];
    assert_eq!((gateway.node.as_str(), gateway.platform.mtu, acme.key.0), ("gw-a1", Some(1500), 7));
    let ports: Vec<String> = acme.allow[0].tcp.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["5432", "8000-8099"]);
    assert_eq!(acme.allow[1].tcp[0].to_string(), "1-65535");
    assert!(matches!(acme.shards[0].snat, Snat::To { address, ports } if address.to_string() == "172.16.101.10" && ports.first == 1024));
    let inner = gateway.peers[0].inner.values().next().unwrap();
    assert_eq!(inner.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.64.0.9/32", "10.64.1.0/28"]);
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let Config::Host(host) = config::load(examples().join("host-many-tenants.yaml")).unwrap() else { panic!("not a host") };
    assert_eq!(host.runtime_dir.to_str(), Some("/run/portway"));
    assert_eq!(host.admin.to_string(), "127.0.0.1:9471");
    assert_eq!(host.backend, config::Backend::Auto);
    let Config::Gateway(gateway) = config::load(examples().join("gateway-many-tenants.yaml")).unwrap() else { panic!("not a gateway") };
    assert_eq!(gateway.admin.to_string(), "127.0.0.1:9470");
    assert_eq!(gateway.platform.mtu, None);
}
