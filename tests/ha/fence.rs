//! A node whose daemon is dead or hangs neither answers for an address that it may have lost nor uses it.

use super::support::*;
use nix::sys::signal::Signal;
use portway::config::Backend;
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Netns, Topology, poll_until};
use rstest::rstest;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

const INSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 10);

fn ip(at: &Netns, arguments: &str) -> String {
    let output = at.command("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether anybody answers ARP for the tenant's HaVip: asked anew, as long as it takes to give up.
fn answered(db: &Netns) -> bool {
    ip(db, &format!("neigh flush to {INSIDE}"));
    db.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", (INSIDE, 9)).unwrap());
    let mut found = None;
    poll_until("an answer to ARP, or none", SOON, || {
        let state = ip(db, &format!("neigh show {INSIDE}"));
        found = if state.contains("FAILED") { Some(false) } else { state.contains("lladdr").then_some(true) };
        Ok(found.is_some())
    })
    .unwrap();
    found.unwrap()
}

/// Packets that the fence of a node has dropped on their way out.
fn kept_in(lab: &Lab, node: &str) -> u64 {
    counted(lab, node, "netdev", "drop_not_active_out")
}

fn counted(lab: &Lab, node: &str, family: &str, counter: &str) -> u64 {
    let output = lab.node(node).unwrap().command("nft").args(["-j", "list", "counter", family, "portway", counter]).output();
    let json: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    json["nftables"][1]["counter"]["packets"].as_u64().unwrap()
}

#[rstest]
#[case::dead(Signal::SIGKILL)]
#[case::hanging(Signal::SIGSTOP)]
fn a_daemon_that_is(#[case] signal: Signal) {
    let mut lab = group(2, 1);
    let db = lab.node("db-acme").unwrap().clone();
    assert!(answered(&db), "while all is well");
    // The other one goes first, so that nobody takes over.
    for node in ["gw-2", "gw-1"] {
        lab.daemon(node).unwrap().process().signal(signal).unwrap();
    }
    poll_until("the end of the lease", SOON, || Ok(!answered(&db))).unwrap();

    let addresses = ip(lab.node("gw-1").unwrap(), "address show dev eni0");
    assert!(addresses.contains(&INSIDE.to_string()), "the address itself still stands: {addresses}");
    let server = db.run(|| UdpSocket::bind((SERVER, 7)).unwrap());
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let before = kept_in(&lab, "gw-1");
    let client = lab.node("gw-1").unwrap().run(|| UdpSocket::bind((INSIDE, 0)).unwrap());
    // An ARP request with that address, or the packet itself: neither leaves.
    let _ = client.send_to(b"!", (SERVER, 7));
    ip(lab.node("gw-1").unwrap(), &format!("neigh replace {SERVER} dev eni0 lladdr 02:00:00:00:00:01 nud permanent"));
    let _ = client.send_to(b"!", (SERVER, 7));
    assert!(server.recv(&mut [0; 8]).is_err(), "nothing arrives");
    assert!(kept_in(&lab, "gw-1") > before, "and the fence counted it");
    for node in ["gw-2", "gw-1"] {
        lab.daemon(node).unwrap().process().signal(Signal::SIGKILL).unwrap();
    }
}

#[test]
fn at_another_interface_a_havip_is_nothing() {
    let lab = group(2, 1);
    let (gateway, host) = (lab.node("gw-1").unwrap(), lab.node("host-1").unwrap());
    let on_host = |arguments: String| assert_eq!(ip(host, &arguments), "", "ip {arguments}");
    on_host(format!("route add {INSIDE} dev plat0"));
    assert!(!answered(host), "by who has it, at its platform's interface");

    let inside = gateway.run(|| UdpSocket::bind((INSIDE, 9)).unwrap());
    inside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let links = ip(gateway, "-br link show dev plat0");
    let lladdr = links.split_whitespace().nth(2).unwrap();
    on_host(format!("neigh replace {INSIDE} dev plat0 lladdr {lladdr} nud permanent"));
    let before = counted(&lab, "gw-1", "inet", "drop_to_node");
    host.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"!", (INSIDE, 9)).unwrap());
    assert!(inside.recv(&mut [0; 8]).is_err(), "nothing is taken there");
    assert!(counted(&lab, "gw-1", "inet", "drop_to_node") > before);

    let outside = host.run(|| UdpSocket::bind("0.0.0.0:7").unwrap());
    outside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let _ = inside.send_to(b"!", (Ipv4Addr::new(10, 9, 0, 101), 7));
    assert!(outside.recv(&mut [0; 8]).is_err(), "nothing leaves there");
    assert!(counted(&lab, "gw-1", "inet", "drop_from_elsewhere") > 0);
}

#[test]
fn leases_that_go_with_all_rules_are_back_before_the_next_advertisement() {
    let topology = Topology::group(&["acme"], 2, 1, &[Wiring::Veth]).with_interval(Duration::from_secs(3));
    let mut lab = Lab::build(topology).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(program(), Backend::Auto).unwrap();
    poll_until("an Active", SOON * 3, || Ok(shard(&lab, "gw-1")["state"] == "active")).unwrap();
    let gateway = lab.node("gw-1").unwrap();
    let live = || {
        String::from_utf8_lossy(&gateway.command("nft").args(["list", "set", "netdev", "portway", "live"]).output().unwrap().stdout)
            .into_owned()
    };
    assert!(live().contains(&INSIDE.to_string()), "{}", live());
    let sent = || lab.metric("gw-1", "portway_vrrp_sent_advertisements").unwrap();
    let before = sent();
    poll_until("an advertisement", SOON, || Ok(sent() > before)).unwrap();
    assert!(gateway.command("nft").args(["flush", "ruleset"]).status().unwrap().success());
    poll_until("leases", Duration::from_secs(2), || Ok(live().contains(&INSIDE.to_string()))).unwrap();
}
