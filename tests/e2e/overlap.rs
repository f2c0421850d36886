//! Containers whose own addresses lie within their tenant's network get their answers all the same.

use super::support::*;
use portway::config::TunnelKind;
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Topology};
use rstest::rstest;
use serde_json::json;

/// A lab whose tenants have another network too, in which the containers' 10.88.0.0/16 lies.
fn covering(tenants: &[&str], wiring: Wiring, tunnel: TunnelKind) -> Lab {
    stand_edited(Topology::of(tenants, &[wiring]).with_tunnel(tunnel), |node, yaml| {
        if node.starts_with("host") { replaced(&yaml, "cidrs: [172.16", "cidrs: [10.80.0.0/12, 172.16") } else { yaml }
    })
}

/// The `throw` routes of the first tenant's table.
fn thrown(lab: &Lab) -> Vec<String> {
    let routes = sh(lab, "host-1", "ip route show table 0x70001 type throw");
    routes.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
}

fn nothing_left_to_do(lab: &Lab) {
    let config = lab.dir().config("host-1");
    let plan = portway(lab, "host-1", &["plan", "--config", config.to_str().unwrap()]);
    assert_eq!(plan.code, 0, "{}", plan.out);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_container_on_a_bridge(#[case] tunnel: TunnelKind) {
    let mut lab = covering(&["acme", "blue"], Wiring::Bridge, tunnel);
    let [acme, blue] = [0, 1].map(|n: usize| lab.topology.containers[n].clone());
    assert_eq!(thrown(&lab), [""; 0]);
    attach(&mut lab, "host-1", "acme", &json!({"tenant": "acme", "interface": acme.port}));
    attach(&mut lab, "host-1", "blue", &json!({"tenant": "blue", "interface": blue.port, "source": blue.address}));
    assert_eq!(thrown(&lab), ["10.88.1.0/24"]);
    fetches(&lab, &acme.node).unwrap();
    fetches(&lab, &blue.node).unwrap();
    nothing_left_to_do(&lab);
    detach(&mut lab, "host-1", "acme");
    assert_eq!(thrown(&lab), [""; 0]);
    fetches(&lab, &blue.node).unwrap();
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_container_with_a_link_to_itself(#[case] tunnel: TunnelKind) {
    let mut lab = covering(&["acme"], Wiring::Veth, tunnel);
    let own = lab.topology.containers[0].address;
    // The host's end has an address by itself: only a source tells what is behind it.
    attach(&mut lab, "host-1", "a", &json!({"tenant": "acme", "interface": "fn1a", "source": own}));
    assert_eq!(thrown(&lab), [own.to_string()]);
    fetches(&lab, "fn-1a").unwrap();
    nothing_left_to_do(&lab);
    detach(&mut lab, "host-1", "a");
    // With a network on the link, it is known, also if it came just now.
    sh(&lab, "host-1", "ip addr add 10.88.1.1/24 dev fn1a");
    attach(&mut lab, "host-1", "a", &json!({"tenant": "acme", "interface": "fn1a"}));
    assert_eq!(thrown(&lab), ["10.88.1.0/24"]);
    fetches(&lab, "fn-1a").unwrap();
    nothing_left_to_do(&lab);
}
