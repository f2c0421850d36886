//! A tunnel carries what functions send, and nothing that the machine itself has to say.

use super::support::*;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Topology};
use rstest::rstest;

/// Until the kernel's own solicitations are over: multicast listener reports come at once, router solicitations a second later.
const TALKATIVE: &str = "
    for node in all default; do
        echo 0 > /proc/sys/net/ipv6/conf/$node/disable_ipv6
        echo 1 > /proc/sys/net/ipv6/conf/$node/forwarding
        echo 2 > /proc/sys/net/ipv6/conf/$node/accept_ra
    done";

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn tunnel_interfaces_have_no_ipv6_and_solicit_nobody(#[case] tunnel: TunnelKind) {
    let mut lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel)).unwrap();
    let nodes = ["host-1", "gw-acme"];
    for node in nodes {
        sh(&lab, node, TALKATIVE);
    }
    lab.serve().unwrap();
    lab.start_daemons(program(), Backend::Auto).unwrap();
    // What the kernel does to an interface that came up later than the tunnel, it has done to the tunnel before.
    for node in nodes {
        let solicited = Capture::start(&lab, node, "any", "icmp6 and ip6[40] == 133");
        sh(&lab, node, "ip link add late0 type veth peer name late1; ip link set late0 up; ip link set late1 up");
        solicited.wait_for_count(2);
    }
    for node in nodes {
        let odd: Vec<_> = metrics(&mut lab, node).into_iter().filter(|(name, count)| name.contains("dropped") && *count > 0.0).collect();
        assert_eq!(odd, [], "{node}");
        assert_eq!(sh(&lab, node, "cat /proc/sys/net/ipv6/conf/pw-1/disable_ipv6").trim(), "1", "{node}");
        let config = lab.dir().config(node);
        assert_eq!(portway(&lab, node, &["plan", "--config", config.to_str().unwrap()]).code, 0, "{node}: nothing is left to do");
    }
}
