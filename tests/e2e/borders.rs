//! Ways around the tunnels: closed, and counted by their reasons.

use super::support::*;
use portway::lab::topology::PLATFORM;
use portway::lab::{Lab, icmp_echo, ipv4};
use std::net::Ipv4Addr;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 101);
const INNER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 101);
const KEY: u32 = 7;
const COPIES: usize = 3;
const MARKER: &[u8] = b"around-the-tunnels";

/// Sends some packets and waits until the node has counted all of them as dropped for this reason.
fn dropped(lab: &mut Lab, from: &str, packet: &[u8], node: &str, reason: &str) {
    let name = |name: &str| name.contains("dropped_packets_total{") && name.contains(&format!("reason=\"{reason}\""));
    let count = |lab: &mut Lab| metrics(lab, node).iter().filter(|(n, _)| name(n)).map(|(_, value)| *value as usize).sum::<usize>();
    let before = count(lab);
    let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    for _ in 0..COPIES {
        send(lab.node(from).unwrap(), to, RAW, packet);
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

#[test]
fn a_tenants_network_reaches_neither_the_platform_nor_a_tunnel_by_itself() {
    let mut lab = simple();
    sh(&lab, "db-acme", "ip route add 10.9.0.0/24 via 172.16.101.4");
    let (platform, vpc) = (Capture::start(&lab, PLATFORM, "br0", "ip"), Capture::start(&lab, "db-acme", "vpc0", "icmp"));
    dropped(&mut lab, "db-acme", &packet(SERVER, HOST, 253, MARKER), "gw-acme", "unsolicited");
    let forged = tunnelled(KEY, &ipv4(INNER, SERVER, ICMP, &icmp_echo(1, 1, MARKER)));
    dropped(&mut lab, "db-acme", &packet(HOST, GATEWAY, 47, &forged), "gw-acme", "wrong_interface");
    fetches(&lab, "fn-1a").unwrap();
    send(lab.node("gw-acme").unwrap(), HOST, 253, b"control-control.");
    platform.wait_for(b"control-control.");
    assert!(!platform.has(MARKER) && !vpc.has(MARKER));
}

#[test]
fn a_container_can_make_no_tunnel_packets() {
    let mut lab = simple();
    let own: Ipv4Addr = sh(&lab, "fn-1a", "hostname -I").trim().parse().unwrap();
    let platform = Capture::start(&lab, PLATFORM, "br0", "ip");
    let answer = tunnelled(KEY, &ipv4(SERVER, INNER, ICMP, &icmp_echo(1, 1, MARKER)));
    dropped(&mut lab, "fn-1a", &packet(GATEWAY, HOST, 47, &answer), "host-1", "wrong_interface");
    let request = tunnelled(KEY, &ipv4(INNER, SERVER, ICMP, &icmp_echo(1, 1, MARKER)));
    for source in [own, HOST] {
        dropped(&mut lab, "fn-1a", &packet(source, GATEWAY, 47, &request), "host-1", "nested");
    }
    send(lab.node("host-1").unwrap(), GATEWAY, 253, b"control-control.");
    platform.wait_for(b"control-control.");
    assert!(!platform.has(MARKER));
}

#[test]
fn what_belongs_to_no_connection_does_not_leave_under_an_inner_address() {
    let mut lab = simple();
    let own: Ipv4Addr = sh(&lab, "fn-1a", "hostname -I").trim().parse().unwrap();
    let vpc = Capture::start(&lab, "db-acme", "vpc0", "tcp");
    dropped(&mut lab, "fn-1a", &packet(own, SERVER, 6, &nonsense()), "host-1", "invalid");
    let inner = ipv4(INNER, SERVER, 6, &nonsense());
    dropped(&mut lab, "host-1", &packet(HOST, GATEWAY, 47, &tunnelled(KEY, &inner)), "gw-acme", "invalid");
    fetches(&lab, "fn-1a").unwrap();
    assert!(!vpc.has(MARKER));
}
