//! SIGHUP: what is added works, what runs is not disturbed, what is faulty is refused.

use super::support::*;
use nix::sys::signal::Signal;
use portway::config::Backend;
use portway::lab::topology::port;
use portway::lab::{Lab, Probe, Topology, Transfer, configs};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

/// The configuration of `gw` or a host by a topology of one's own.
fn yaml(lab: &Lab, topology: &Topology, node: &str) -> String {
    let runtime = lab.dir().runtime(node);
    match topology.host(node) {
        Some(host) => configs::host(topology, host, Backend::Auto, &runtime),
        None => configs::gateway(topology, &topology.gateways[0], Backend::Auto, &runtime),
    }
}

/// `shared` with only acme, and only host-1.
fn small(full: &Topology) -> Topology {
    let mut small = full.clone();
    small.tenants.truncate(1);
    small.hosts.truncate(1);
    small.gateways[0].enis.truncate(1);
    small
}

fn reload(lab: &mut Lab, node: &str, yaml: &str) {
    let daemon = lab.daemon(node).unwrap();
    std::fs::write(daemon.config(), yaml).unwrap();
    daemon.process().signal(Signal::SIGHUP).unwrap();
}

fn log(lab: &Lab, node: &str) -> String {
    std::fs::read_to_string(lab.dir().log(node)).unwrap()
}

#[test]
fn a_tenant_and_a_host_are_added_under_a_running_transfer_and_taken_away_again() {
    let full = shared();
    // Written anew, as the first configurations are the small ones.
    let mut lab = Lab::build(full.clone()).unwrap();
    lab.serve().unwrap();
    let small = small(&full);
    let first = ["gw", "host-1"].map(|node| (node, yaml(&lab, &small, node)));
    lab.start_daemons_edited(program(), Backend::Auto, |node, yaml| {
        first.iter().find(|(name, _)| *name == node).map_or(yaml, |(_, small)| small.clone())
    })
    .unwrap();
    for (container, name) in [("host-1", "fn-1a"), ("host-2", "fn-2a")] {
        let spec = lab.topology.container(name).unwrap().clone();
        attach(&mut lab, container, name, &json!({"tenant": "acme", "interface": spec.port, "source": spec.address}));
    }
    fetches(&lab, "fn-1a").unwrap();
    assert!(fetches(&lab, "fn-2a").is_err(), "host-2 is no peer yet");
    let blue = json!({"tenant": "blue", "interface": "fn1b"}).to_string();
    assert_eq!(call(&mut lab, "host-1", "PUT", "/v1/attachments/fn-1b", Some(&blue)).0, 404);

    let from = lab.node("fn-1a").unwrap().clone();
    let transfer = Transfer::start(&from, SocketAddr::from((SERVER, port::ECHO)), Some(4 << 20)).unwrap();
    let probe = Probe::start(&from, SERVER, Duration::from_millis(5)).unwrap();
    wait("traffic", SOON, || probe.answered() > 50 && transfer.returned() > 100_000);
    for node in ["gw", "host-1"] {
        let yaml = yaml(&lab, &full, node);
        reload(&mut lab, node, &yaml);
    }
    wait("the new tenant", SOON, || call(&mut lab, "host-1", "PUT", "/v1/attachments/fn-1b", Some(&blue)).0 == 201);
    wait("the new tenant's traffic", SOON, || fetches(&lab, "fn-1b").is_ok());
    wait("the new host's traffic", SOON, || fetches(&lab, "fn-2a").is_ok());
    fetches(&lab, "fn-1a").unwrap();
    let (answered, returned) = (probe.answered(), transfer.returned());
    wait("traffic", SOON, || probe.answered() > answered + 50 && transfer.returned() > returned + 1_000_000);

    // Away again: the attachments of a tenant that is not served any more carry nothing.
    reload(&mut lab, "gw", &first[0].1);
    reload(&mut lab, "host-1", &first[1].1);
    wait("the end of the tenant", SOON, || fetches(&lab, "fn-1b").is_err());
    let (answered, returned) = (probe.answered(), transfer.returned());
    wait("traffic", SOON, || probe.answered() > answered + 50 && transfer.returned() > returned + 1_000_000);
    let (probed, done) = (probe.stop(), transfer.stop());
    assert!(done.ok, "{done:?}");
    assert_eq!(probed.lost, 0, "{probed:?}");
    assert!(!sh(&lab, "gw", "ip link").contains("pw-2"));
}

#[test]
fn a_faulty_file_leaves_the_old_one_in_force_and_says_so() {
    let mut lab = simple();
    for node in ["gw-acme", "host-1"] {
        let good = std::fs::read_to_string(lab.daemon(node).unwrap().config()).unwrap();
        let before = call(&mut lab, node, "GET", "/v1/status", None).1["tenants"].clone();
        for (faulty, says) in [
            (good.replace("key: 7", "key: seven"), "seven"),
            (good.replace("tenants:", "tenant:"), "tenant"),
            ("}".into(), "not YAML"),
            (String::new(), "empty"),
        ] {
            let told = log(&lab, node).matches("the old one stays in force").count();
            reload(&mut lab, node, &faulty);
            wait("a word about it", SOON, || log(&lab, node).matches("the old one stays in force").count() > told);
            let log = log(&lab, node);
            let word = log.rsplit("the old one stays in force").next().unwrap();
            assert!(word.contains(says) && word.contains(".yaml:"), "{node}: {says}: {word}");
            assert_eq!(call(&mut lab, node, "GET", "/v1/status", None).1["tenants"], before);
            fetches(&lab, "fn-1a").unwrap();
        }
        let told = log(&lab, node).matches("configuration read anew").count();
        reload(&mut lab, node, &good);
        wait("a word about it", SOON, || log(&lab, node).matches("configuration read anew").count() > told);
        fetches(&lab, "fn-1a").unwrap();
    }
}
