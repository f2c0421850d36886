//! A lab without daemons: its namespaces and addresses read back with `ip`, its servers, and measurements whose
//! truth is known.

use portway::config::Backend;
use portway::lab::topology::{PLATFORM, port};
use portway::lab::{Error, Lab, Probe, Topology, Transfer, figures, pattern, rights, whoami};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);

fn lab() -> Lab {
    rights::check().unwrap_or_else(|e| panic!("{e}"));
    Lab::build(Topology::apart()).unwrap()
}

fn addresses(lab: &Lab, node: &str) -> Vec<String> {
    let text = lab.ip(node, &["-4", "-o", "addr", "show", "scope", "global"]).unwrap();
    let mut found: Vec<String> = text.lines().map(|l| l.split_whitespace().nth(3).unwrap().to_owned()).collect();
    found.sort();
    found
}

#[test]
fn every_node_has_its_addresses() {
    let lab = lab();
    assert_eq!(addresses(&lab, "host-1"), ["10.88.1.1/32", "10.88.1.1/32", "10.9.0.101/24"]);
    assert_eq!(addresses(&lab, "host-2"), ["10.88.2.1/24", "10.9.0.102/24"]);
    assert_eq!(addresses(&lab, "fn-1a"), ["10.88.1.2/24"]);
    assert_eq!(addresses(&lab, "fn-2b"), ["10.88.2.3/24"]);
    for gateway in ["gw-acme", "gw-blue"] {
        assert!(addresses(&lab, gateway).contains(&"172.16.101.4/24".to_owned()));
    }
    for server in ["db-acme", "db-blue"] {
        assert!(addresses(&lab, server).contains(&"172.16.101.20/24".to_owned()));
    }
}

#[test]
fn no_node_has_a_way_out_and_this_namespace_sees_nothing() {
    let links = || Command::new("ip").args(["-j", "link"]).output().expect("ip is installed (apt-get install -y iproute2)").stdout;
    let before = links();
    let lab = lab();
    assert_eq!(before, links());
    for node in lab.topology.nodes() {
        let default = lab.ip(&node, &["route", "show", "default"]).unwrap();
        match lab.topology.container(&node) {
            Some(container) => assert_eq!(default.trim(), format!("default via {} dev eth0", container.first_hop())),
            None => assert_eq!(default, "", "{node} has a default route"),
        }
    }
    drop(lab);
    assert_eq!(before, links());
}

#[test]
fn one_address_is_two_servers_in_two_vpcs() {
    let mut lab = lab();
    lab.serve().unwrap();
    for tenant in ["acme", "blue"] {
        let seen = whoami(lab.node(&format!("gw-{tenant}")).unwrap(), SERVER, Duration::from_secs(2)).unwrap();
        assert_eq!(seen.tenant, tenant);
        assert_eq!(seen.seen.ip(), Ipv4Addr::new(172, 16, 101, 4));
    }
    let bytes = lab.node("gw-acme").unwrap().command("curl").args(["-s", &format!("http://{SERVER}/bytes/100000")]).output();
    let mut expected = vec![0; 100_000];
    pattern::fill(0, &mut expected);
    assert!(bytes.expect("curl is installed (apt-get install -y curl)").stdout == expected);
    assert!(whoami(lab.node(PLATFORM).unwrap(), SERVER, Duration::from_millis(200)).is_err(), "the platform has no way into a VPC");
}

#[test]
fn figures_of_a_direct_path_are_those_of_a_direct_path() {
    let mut lab = lab();
    lab.serve().unwrap();
    let figures = figures(lab.node("gw-acme").unwrap(), &lab.topology.tenants[0], 1).unwrap();
    assert_eq!((figures.tenant_seen.as_str(), figures.source_seen), ("acme", Ipv4Addr::new(172, 16, 101, 4)));
    assert!(figures.connect_ms > 0.0 && figures.connect_ms < 100.0, "{figures:?}");
    assert!(figures.rtt_us > 0.0 && figures.rtt_us <= figures.rtt_p99_us, "{figures:?}");
    assert!(figures.gbit_per_s > 0.1, "{figures:?}");
}

#[test]
fn a_probe_counts_what_an_outage_costs() {
    let mut lab = lab();
    lab.serve().unwrap();
    let from = lab.node("gw-acme").unwrap();
    let probe = Probe::start(from, SERVER, Duration::from_millis(1)).unwrap();
    let answered = |more: u64| {
        let from = probe.answered();
        portway::lab::poll_until("answers", Duration::from_secs(5), || Ok(probe.answered() >= from + more)).unwrap();
    };
    answered(100);
    // The other end, so that the gateway's own routes stay.
    lab.ip("db-acme", &["link", "set", "vpc0", "down"]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    lab.ip("db-acme", &["link", "set", "vpc0", "up"]).unwrap();
    answered(100);
    let probed = probe.stop();
    assert!(probed.lost >= 30 && probed.lost < probed.sent, "{probed:?}");
    assert!(probed.gap_ms >= 45.0, "{probed:?}");
}

#[test]
fn an_undisturbed_transfer_and_probe_lose_nothing() {
    let mut lab = lab();
    lab.serve().unwrap();
    let from = lab.node("gw-acme").unwrap();
    let transfer = Transfer::start(from, SocketAddr::from((SERVER, port::ECHO)), None).unwrap();
    let probe = Probe::start(from, SERVER, Duration::from_millis(1)).unwrap();
    portway::lab::poll_until("traffic", Duration::from_secs(10), || Ok(probe.answered() > 200 && transfer.returned() > 1 << 20)).unwrap();
    let (probed, transferred) = (probe.stop(), transfer.stop());
    assert_eq!(probed.lost, 0, "{probed:?}");
    assert!(transferred.ok && transferred.resets == 0 && transferred.bytes > 1 << 20, "{transferred:?}");
}

#[test]
fn a_reset_and_a_changed_byte_are_found() {
    let lab = lab();
    let at = SocketAddr::from((SERVER, 7000));
    let listener = lab.node("db-acme").unwrap().run(|| TcpListener::bind(at)).unwrap();
    let from = lab.node("gw-acme").unwrap();

    let transfer = Transfer::start(from, at, None).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 4096]).unwrap();
    // Closing with unread data resets.
    drop(stream);
    let transferred = transfer.stop();
    assert!(transferred.resets == 1 && !transferred.ok, "{transferred:?}");

    let transfer = Transfer::start(from, at, None).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut stream, &[0; 4096]).unwrap();
    let transferred = transfer.stop();
    assert!(!transferred.ok && transferred.fault.as_ref().unwrap().contains("changed"), "{transferred:?}");
}

#[test]
fn a_daemon_that_cannot_start_is_reported_with_its_log() {
    let mut lab = lab();
    let error = lab.start_daemons("/bin/false".as_ref(), Backend::Auto).unwrap_err();
    assert!(matches!(error, Error::Died { .. }), "{error}");
}

#[test]
fn an_unknown_node_is_answered_with_the_known_ones() {
    let error = lab().node("gw-nobody").unwrap_err().to_string();
    assert!(error.contains("gw-nobody") && error.contains("gw-acme"), "{error}");
}
