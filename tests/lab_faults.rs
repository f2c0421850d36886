//! What befalls a node befalls that node, wholly, and is undone: seen by pings and by functions.

use portway::config::Backend;
use portway::lab::topology::{PLATFORM_IF, Wiring};
use portway::lab::{Counts, Flows, Kill, Lab, Topology, answers, poll_until, rights, whoami};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);

fn outer(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, n)
}

fn pair() -> Lab {
    rights::check().unwrap_or_else(|e| panic!("{e}"));
    Lab::build(Topology::group(&["acme"], 2, 1, &[Wiring::Veth])).unwrap()
}

/// One gateway and one function, which is attached.
fn attached() -> Lab {
    rights::check().unwrap_or_else(|e| panic!("{e}"));
    let mut lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth])).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(Path::new(env!("CARGO_BIN_EXE_portway")), Backend::Auto).unwrap();
    lab.attach_all().unwrap();
    lab
}

fn reaches(lab: &Lab, from: &str, to: Ipv4Addr) -> bool {
    answers(lab.node(from).unwrap(), to, SILENCE).unwrap()
}

/// Neighbours may have to be found again.
fn assert_reaches(lab: &Lab, from: &str, to: Ipv4Addr) {
    poll_until(&format!("{to} for {from}"), SOON, || answers(lab.node(from)?, to, SILENCE)).unwrap();
}

#[test]
fn a_group_shares_two_networks() {
    let lab = pair();
    assert_reaches(&lab, "host-1", outer(1));
    assert_reaches(&lab, "host-1", outer(2));
    assert_reaches(&lab, "gw-1", outer(2));
    for gateway in ["gw-1", "gw-2"] {
        assert_reaches(&lab, gateway, SERVER);
    }
    assert_reaches(&lab, "gw-2", Ipv4Addr::new(172, 16, 101, 4));
}

#[test]
fn parted_gateways_reach_all_but_each_other() {
    let lab = pair();
    for _ in 0..2 {
        lab.part("gw-1", "gw-2").unwrap();
        assert!(!reaches(&lab, "gw-1", outer(2)) && !reaches(&lab, "gw-2", outer(1)));
        assert_reaches(&lab, "host-1", outer(1));
        assert_reaches(&lab, "host-1", outer(2));
        assert_reaches(&lab, "gw-1", outer(101));
    }
    for _ in 0..2 {
        lab.unite().unwrap();
        assert_reaches(&lab, "gw-1", outer(2));
    }
    assert!(lab.part("gw-1", "db-acme").unwrap_err().to_string().contains("db-acme"));
}

#[test]
fn a_link_goes_on_one_side_alone() {
    let mut lab = pair();
    for _ in 0..2 {
        lab.fail("gw-1", Kill::Link).unwrap();
        assert!(!reaches(&lab, "host-1", outer(1)));
        assert_reaches(&lab, "gw-1", SERVER);
    }
    for _ in 0..2 {
        lab.heal("gw-1").unwrap();
        assert_reaches(&lab, "host-1", outer(1));
    }
    lab.fail("gw-1", Kill::Eni).unwrap();
    assert!(!reaches(&lab, "gw-1", SERVER) && reaches(&lab, "host-1", outer(1)));
    lab.heal("gw-1").unwrap();
    assert_reaches(&lab, "gw-1", SERVER);
}

#[test]
fn a_node_without_power_forgets_everything_but_its_cables() {
    let mut lab = pair();
    let hardware = |lab: &Lab| lab.ip("gw-1", &["-br", "link"]).unwrap().split_whitespace().filter(|w| w.contains(':')).collect::<String>();
    let before = hardware(&lab);
    lab.ip("gw-1", &["addr", "add", "10.9.0.50/32", "dev", PLATFORM_IF]).unwrap();
    assert_reaches(&lab, "host-1", outer(50));
    for _ in 0..2 {
        lab.fail("gw-1", Kill::Node).unwrap();
        assert!(!reaches(&lab, "host-1", outer(1)) && !reaches(&lab, "gw-1", SERVER) && reaches(&lab, "host-1", outer(2)));
    }
    for _ in 0..2 {
        lab.heal("gw-1").unwrap();
        assert_reaches(&lab, "host-1", outer(1));
        assert_reaches(&lab, "gw-1", SERVER);
        assert!(!reaches(&lab, "host-1", outer(50)));
        assert_eq!(before, hardware(&lab));
    }
    assert!(lab.fail("gw-1", Kill::Daemon).unwrap_err().to_string().contains("no daemon"));
    assert!(lab.fail("gw-9", Kill::Node).unwrap_err().to_string().contains("gw-1"));
}

#[test]
fn a_thousand_flows_through_a_tunnel_outlive_a_restart_and_a_hang() {
    let mut lab = attached();
    let flows = Flows::open(&[lab.node("fn-1a").unwrap()], lab.node("db-acme").unwrap(), SERVER, &Counts::default()).unwrap();
    assert_eq!(flows.sources().into_iter().collect::<Vec<_>>(), [Ipv4Addr::new(172, 16, 101, 10)]);
    lab.fail("gw-acme", Kill::Stop).unwrap();
    lab.heal("gw-acme").unwrap();
    lab.daemon("gw-acme").unwrap().restart().unwrap();
    let report = flows.verify(Duration::from_secs(20));
    assert!(report.all_survived() && report.all_tcp().opened == 1000 && report.udp.opened == 200, "{report:#?}");
}

#[test]
fn a_function_is_back_after_everything_that_can_befall_its_gateway() {
    let mut lab = attached();
    let fetch = |lab: &Lab| whoami(lab.node("fn-1a").unwrap(), SERVER, Duration::from_millis(500));
    let fetched = |lab: &Lab, after: &str| poll_until(&format!("an answer after {after}"), SOON, || Ok(fetch(lab).is_ok())).unwrap();
    fetched(&lab, "the start");
    for kill in Kill::ALL {
        for _ in 0..2 {
            lab.fail("gw-acme", kill).unwrap();
        }
        if matches!(kill, Kill::Node | Kill::Link | Kill::Eni) {
            assert!(fetch(&lab).is_err(), "{}", kill.name());
        }
        let pid = lab.daemon("gw-acme").unwrap().pid();
        for _ in 0..2 {
            lab.heal("gw-acme").unwrap();
        }
        fetched(&lab, kill.name());
        let replaced = lab.daemon("gw-acme").unwrap().pid() != pid;
        assert_eq!(replaced, matches!(kill, Kill::Daemon | Kill::Node | Kill::Sigterm), "{}", kill.name());
    }
}
