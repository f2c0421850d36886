//! What the tenant's servers see, and that equal addresses of two tenants on one gateway never meet.

use super::support::*;
use portway::config::TunnelKind;
use portway::lab::topology::{Wiring, port};
use portway::lab::{Lab, Topology, Transfer, answers, ipv4, tcp, whoami};
use rstest::rstest;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

const SNAT: &str = "snat: { address: 172.16.101.10, ports: 1024-65535 }";

/// One tenant, its gateway's `snat` as given, everything attached.
fn with_snat(snat: &str, tunnel: TunnelKind) -> Lab {
    let edit = |node: &str, yaml: String| if node == "gw-acme" { replaced(&yaml, SNAT, snat) } else { yaml };
    let mut lab = stand_edited(Forger::into(Topology::of(&["acme"], &[Wiring::Veth]), tunnel), edit);
    lab.attach_all().unwrap();
    lab
}

/// (address, port) that the server sees, connection after connection, by a capture at the server.
fn sources(lab: &Lab, connections: usize) -> Vec<(String, u16)> {
    let capture = Capture::start(lab, "db-acme", "vpc0", "tcp dst port 80 and tcp[13] == 2");
    let from = lab.node("fn-1a").unwrap();
    let told: Vec<u16> = (0..connections).map(|_| whoami(from, SERVER, SOON).unwrap().seen.port()).collect();
    capture.wait_for_count(connections);
    let seen = capture.read("tcp", &["ip.src", "tcp.srcport"]);
    let seen: Vec<(String, u16)> = seen.iter().map(|fields| (fields[0].clone(), fields[1].parse().unwrap())).collect();
    assert_eq!(seen.iter().map(|s| s.1).collect::<Vec<_>>(), told, "the capture and the server disagree");
    seen
}

/// Enough of them, all within the range, and in no order that one could guess.
fn within_and_random(seen: &[(String, u16)], address: &str, range: std::ops::RangeInclusive<u16>) {
    assert!(seen.iter().all(|(a, port)| a == address && range.contains(port)), "{seen:?}");
    let ports: Vec<u16> = seen.iter().map(|s| s.1).collect();
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "a port was used twice at once: {ports:?}");
    let next = ports.windows(2).filter(|pair| pair[1] == pair[0].wrapping_add(1)).count();
    let rising = ports.windows(2).filter(|pair| pair[1] > pair[0]).count();
    // 40 connections: a random order has about 20 rises, and hardly any neighbour follows its neighbour.
    assert!(next <= 5 && (6..=33).contains(&rising), "not random: {ports:?}");
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn source_ports_come_at_random_from_the_configured_range(#[case] tunnel: TunnelKind) {
    let lab = with_snat("snat: { address: 172.16.101.10, ports: 40000-40100 }", tunnel);
    within_and_random(&sources(&lab, 40), "172.16.101.10", 40000..=40100);
    // ICMP and UDP are translated as well.
    let capture = Capture::start(&lab, "db-acme", "vpc0", "icmp or udp");
    assert!(answers(lab.node("fn-1a").unwrap(), SERVER, SOON).unwrap());
    assert_eq!(udp_echo(&lab, "fn-1a"), b"over udp");
    capture.wait_for(b"over udp");
    let seen = capture.read("icmp.type == 8 || udp.dstport == 5202", &["ip.src", "udp.srcport"]);
    assert!(seen.len() == 2 && seen.iter().all(|fields| fields[0] == "172.16.101.10"), "{seen:?}");
    let port: u16 = seen.iter().find(|fields| !fields[1].is_empty()).unwrap()[1].parse().unwrap();
    assert!((40000..=40100).contains(&port), "{port}");
}

fn udp_echo(lab: &Lab, container: &str) -> Vec<u8> {
    let answer = lab.node(container).unwrap().run(|| {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(SOON))?;
        socket.send_to(b"over udp", (SERVER, port::ECHO))?;
        let mut answer = [0; 64];
        socket.recv(&mut answer).map(|length| answer[..length].to_vec())
    });
    answer.unwrap()
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn without_an_address_the_interfaces_own_is_used(#[case] tunnel: TunnelKind) {
    let lab = with_snat("snat: { ports: 41000-41100 }", tunnel);
    within_and_random(&sources(&lab, 40), "172.16.101.4", 41000..=41100);
    assert!(answers(lab.node("fn-1a").unwrap(), SERVER, SOON).unwrap());
    assert!(!sh(&lab, "gw-acme", "ip addr").contains("172.16.101.10"));

    let lab = with_snat("# snat: by default", tunnel);
    let seen = whoami(lab.node("fn-1a").unwrap(), SERVER, SOON).unwrap().seen;
    assert!(seen.ip() == Ipv4Addr::new(172, 16, 101, 4) && seen.port() >= 1024, "{seen}");
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn two_tenants_with_the_same_addresses_on_one_gateway_are_kept_apart(#[case] tunnel: TunnelKind) {
    // A single source port: both tenants' connections have the very same addresses and ports, inside and outside.
    let one_port = |node: &str, yaml: String| match node {
        "gw" => replaced(&yaml, "ports: 1024-65535", "ports: 40000-40000"),
        _ => yaml,
    };
    let mut lab = stand_edited(shared().with_tunnel(tunnel), one_port);
    lab.attach_all().unwrap();
    let containers = lab.topology.containers.clone();
    let echo = SocketAddr::from((SERVER, port::ECHO));
    let transfers: Vec<Transfer> =
        containers[..2].iter().map(|c| Transfer::start(lab.node(&c.node).unwrap(), echo, Some(1 << 20)).unwrap()).collect();
    wait("both transfers", SOON, || transfers.iter().all(|t| t.returned() > 500_000));
    let entries = sh(&lab, "gw", "conntrack -L 2>/dev/null");
    let flow = "src=10.64.0.101 dst=172.16.101.20";
    let zones: BTreeSet<&str> = entries
        .lines()
        .filter(|line| line.contains(flow) && line.contains("dport=40000"))
        .map(|line| line.split("zone=").nth(1).unwrap().split_whitespace().next().unwrap())
        .collect();
    assert_eq!(zones, BTreeSet::from(["8193", "8194"]), "{entries}");
    for transfer in transfers {
        let done = transfer.stop();
        assert!(done.ok, "{done:?}");
    }
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn on_a_shared_gateway_everybody_reaches_their_own_and_is_found_by_it(#[case] tunnel: TunnelKind) {
    let mut lab = stand(shared().with_tunnel(tunnel));
    lab.attach_all().unwrap();
    for container in &lab.topology.containers.clone() {
        for check in portway::lab::checks::unreachable(&lab, container).unwrap() {
            assert!(check.held, "{check:?}");
        }
        for _ in 0..3 {
            fetches(&lab, &container.node).unwrap();
        }
    }
    // A server that has forgotten where the translated address is asks, and is answered on either interface.
    for tenant in ["db-acme", "db-blue"] {
        sh(&lab, tenant, "ip neigh flush all");
        try_sh(&lab, tenant, "ping -c 1 -W 1 172.16.101.10");
        let found = sh(&lab, tenant, "ip neigh show 172.16.101.10");
        assert!(found.contains("lladdr"), "{tenant}: nobody says where 172.16.101.10 is: {found}");
    }
    // Answers that come after such a question arrive.
    for container in &lab.topology.containers.clone() {
        sh(&lab, &format!("db-{}", container.tenant), "ip neigh flush all");
        fetches(&lab, &container.node).unwrap_or_else(|error| panic!("{}: {error}", container.node));
    }
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn every_mode_of_the_reverse_path_check_lets_traffic_through(#[case] tunnel: TunnelKind) {
    for mode in [0, 1, 2] {
        let mut topology = Topology::of(&["acme"], &[Wiring::Veth, Wiring::Bridge]).with_tunnel(tunnel);
        topology.rp_filter = mode;
        let lab = {
            let mut lab = stand(topology);
            lab.attach_all().unwrap();
            lab
        };
        for node in ["host-1", "host-2", "gw-acme"] {
            // Those that have been made since as well.
            sh(&lab, node, &format!("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {mode} > $f; done"));
        }
        for container in ["fn-1a", "fn-2a"] {
            fetches(&lab, container).unwrap_or_else(|error| panic!("rp_filter {mode}: {error}"));
            assert!(answers(lab.node(container).unwrap(), SERVER, SOON).unwrap(), "rp_filter {mode}");
        }
    }
}

/// A packet of a tunnel that belongs to no connection and opens none has no translation either.
#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn what_cannot_be_translated_never_reaches_the_tenants_network(#[case] tunnel: TunnelKind) {
    let lab = with_snat(SNAT, tunnel);
    let forger = Forger::of(&lab);
    let inner = forger.inner;
    let capture = Capture::start(&lab, "db-acme", "vpc0", "ip");
    // RFC 9293: the flags of an answer, and of the end of something that never was.
    for flags in [0x12, 0x04, 0x14, 0x11] {
        let segment = tcp((inner, 40000), (SERVER, port::HTTP), flags, b"");
        forger.send(&lab, &ipv4(inner, SERVER, 6, &segment));
    }
    assert_eq!(udp_echo(&lab, "fn-1a"), b"over udp");
    capture.wait_for(b"over udp");
    std::thread::sleep(SILENCE);
    let seen = capture.read("ip.dst == 172.16.101.20 && ip.src != 172.16.101.10", &["ip.src", "tcp.flags"]);
    assert!(seen.is_empty(), "untranslated: {seen:?}");
}
