//! Ways around the tunnels: closed, and counted by their reasons.

use super::support::*;
use portway::config::TunnelKind;
use portway::lab::topology::{PLATFORM, Wiring};
use portway::lab::{Lab, Topology, icmp_echo, ipv4, udp};
use rstest::rstest;
use std::net::Ipv4Addr;

/// Of WireGuard, at both ends.
const PORT: u16 = 51820;
const COPIES: usize = 3;
const MARKER: &[u8] = b"around-the-tunnels";

/// Sends some packets and waits until the node has counted all of them as dropped for this reason.
fn dropped(lab: &mut Lab, from: &str, packet: &[u8], node: &str, reason: &str) {
    let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    counted(lab, node, reason, |lab| send(lab.node(from).unwrap(), to, RAW, packet));
}

/// The same of whatever sends one.
fn counted(lab: &mut Lab, node: &str, reason: &str, send: impl Fn(&Lab)) {
    let name = |name: &str| name.contains("dropped_packets_total{") && name.contains(&format!("reason=\"{reason}\""));
    let count = |lab: &mut Lab| metrics(lab, node).iter().filter(|(n, _)| name(n)).map(|(_, value)| *value as usize).sum::<usize>();
    let before = count(lab);
    for _ in 0..COPIES {
        send(lab);
    }
    wait(&format!("{COPIES} packets dropped by {node} for {reason}"), SOON, || count(lab) >= before + COPIES);
    assert_eq!(count(lab), before + COPIES);
}

/// A packet with its own header, whose checksum the kernel fills in.
fn packet(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(source, destination, protocol, payload);
    packet[10..12].fill(0);
    packet
}

/// A TCP segment with every flag at once, which belongs to no connection.
fn nonsense() -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x3f, 0xff, 0xff, 0, 0, 0, 0];
    segment.extend(MARKER);
    segment
}

/// What is in a tunnel, to somebody who does not see what is inside. It says which packet it is.
fn forged(tunnel: TunnelKind, source: Ipv4Addr, destination: Ipv4Addr, inner: &[u8]) -> Vec<u8> {
    match tunnel {
        TunnelKind::Gre => packet(source, destination, 47, &tunnelled(KEY, inner)),
        TunnelKind::Wireguard => packet(source, destination, 17, &udp(PORT, PORT, &[&[4, 0, 0, 0][..], &[0; 12], inner].concat())),
    }
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_tenants_network_reaches_neither_the_platform_nor_a_tunnel_by_itself(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    sh(&lab, "db-acme", "ip route add 10.9.0.0/24 via 172.16.101.4");
    let (platform, vpc) = (Capture::start(&lab, PLATFORM, "br0", "ip"), Capture::start(&lab, "db-acme", "vpc0", "icmp"));
    dropped(&mut lab, "db-acme", &packet(SERVER, HOST, 253, MARKER), "gw-acme", "unsolicited");
    let inner = ipv4(INNER, SERVER, ICMP, &icmp_echo(1, 1, MARKER));
    dropped(&mut lab, "db-acme", &forged(tunnel, HOST, GATEWAY, &inner), "gw-acme", "wrong_interface");
    fetches(&lab, "fn-1a").unwrap();
    send(lab.node("gw-acme").unwrap(), HOST, 253, b"control-control.");
    platform.wait_for(b"control-control.");
    assert!(!platform.has(MARKER) && !vpc.has(MARKER));
}

/// What a container seals, it seals with no key of anybody's: with WireGuard only the answers of its own host's gateway need a look.
#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_container_can_make_no_tunnel_packets(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    let own: Ipv4Addr = sh(&lab, "fn-1a", "hostname -I").trim().parse().unwrap();
    let platform = Capture::start(&lab, PLATFORM, "br0", "ip");
    let answer = ipv4(SERVER, INNER, ICMP, &icmp_echo(1, 1, MARKER));
    dropped(&mut lab, "fn-1a", &forged(tunnel, GATEWAY, HOST, &answer), "host-1", "wrong_interface");
    let request = ipv4(INNER, SERVER, ICMP, &icmp_echo(1, 1, MARKER));
    match tunnel {
        TunnelKind::Gre => {
            for source in [own, HOST] {
                dropped(&mut lab, "fn-1a", &forged(tunnel, source, GATEWAY, &request), "host-1", "nested");
            }
        }
        TunnelKind::Wireguard => dropped(&mut lab, "fn-1a", &forged(tunnel, own, HOST, &answer), "host-1", "unlisted_source"),
    }
    send(lab.node("host-1").unwrap(), GATEWAY, 253, b"control-control.");
    platform.wait_for(b"control-control.");
    assert!(!platform.has(MARKER));
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn what_belongs_to_no_connection_does_not_leave_under_an_inner_address(#[case] tunnel: TunnelKind) {
    let mut lab = stand(Forger::into(Topology::of(&["acme"], &[Wiring::Veth]), tunnel));
    lab.attach_all().unwrap();
    let forger = Forger::of(&lab);
    let own: Ipv4Addr = sh(&lab, "fn-1a", "hostname -I").trim().parse().unwrap();
    let vpc = Capture::start(&lab, "db-acme", "vpc0", "tcp");
    dropped(&mut lab, "fn-1a", &packet(own, SERVER, 6, &nonsense()), "host-1", "invalid");
    let inner = ipv4(forger.inner, SERVER, 6, &nonsense());
    counted(&mut lab, "gw-acme", "invalid", |lab| forger.send(lab, &inner));
    fetches(&lab, "fn-1a").unwrap();
    assert!(!vpc.has(MARKER));
}
