//! What routers say about a function's packets reaches the function: too big (RFC 1191), unreachable, expired.

use super::support::*;
use portway::config::TunnelKind;
use portway::lab::topology::{Wiring, port};
use portway::lab::{Lab, Netns, Topology};
use rstest::rstest;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

/// A server behind a router of the tenant's, the last hop to which has an MTU of 1300.
const FAR: Ipv4Addr = Ipv4Addr::new(172, 16, 150, 10);
const FAR_MTU: usize = 1300;
/// An address of that router, in no network of the tenant's.
const ELSEWHERE: &str = "192.0.2.1";

/// One tenant, and a server `FAR` in a namespace of its own behind the VPC's first hop.
fn with_router(tunnel: TunnelKind) -> (Lab, Netns) {
    let mut lab = stand(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel));
    lab.attach_all().unwrap();
    let far = Netns::create().unwrap();
    let at = far.path();
    sh(
        &lab,
        "db-acme",
        &format!(
            "ip link add far0 mtu {FAR_MTU} type veth peer name eth0 mtu 1500 netns {}
             ip addr add 172.16.150.1/24 dev far0
             ip link set far0 up
             echo 1 > /proc/sys/net/ipv4/ip_forward
             echo 1 > /proc/sys/net/ipv4/conf/vpc0/proxy_arp",
            at.display()
        ),
    );
    let up = "ip addr add 172.16.150.10/24 dev eth0; ip link set eth0 up; ip link set lo up; ip route add default via 172.16.150.1";
    assert!(far.command("sh").args(["-ec", up]).status().unwrap().success());
    (lab, far)
}

fn refused_as_spoofed(lab: &mut Lab, node: &str) -> f64 {
    metrics(lab, node).iter().filter(|(name, _)| name.contains("spoofed_inner")).map(|(_, count)| count).sum()
}

/// A datagram of 1,400 bytes, one of which is too many; and TCP, whose segments are.
fn learns_the_path_mtu(lab: &Lab, far: &Netns) {
    let function = lab.node("fn-1a").unwrap();
    let server = far.run(|| UdpSocket::bind((FAR, port::IPERF))).unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let socket = function.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.connect((FAR, port::IPERF)).unwrap();
    // Linux sets "don't fragment" on it, as the first hop would take it whole.
    socket.send(&[7; 1400]).unwrap();
    let told = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(told.raw_os_error(), Some(nix::libc::EMSGSIZE), "{told}");
    socket.send(&[7; 1400]).unwrap();
    assert_eq!(server.recv(&mut [0; 2000]).unwrap(), 1400, "in fragments now");
    let route = sh(lab, "fn-1a", &format!("ip route get {FAR}"));
    assert!(route.contains(&format!("mtu {FAR_MTU}")), "{route}");
}

fn bulk(lab: &Lab, far: &Netns) {
    const SIZE: usize = 1 << 20;
    let listener = far.run(|| TcpListener::bind((FAR, port::ECHO))).unwrap();
    let mut sender = lab.node("fn-1a").unwrap().run(|| TcpStream::connect((FAR, port::ECHO))).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(SOON)).unwrap();
    sender.set_write_timeout(Some(SOON)).unwrap();
    let writer = std::thread::spawn(move || sender.write_all(&[7; SIZE]).unwrap());
    let mut got = Vec::new();
    receiver.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert_eq!(got.len(), SIZE);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_function_learns_what_fits_the_last_hop_of_the_tenants_network(#[case] tunnel: TunnelKind) {
    let (mut lab, far) = with_router(tunnel);
    bulk(&lab, &far);
    sh(&lab, "fn-1a", "ip route flush cache");
    learns_the_path_mtu(&lab, &far);
    assert_eq!(refused_as_spoofed(&mut lab, "host-1"), 0.0);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_router_that_is_not_in_the_tenants_networks_is_heard(#[case] tunnel: TunnelKind) {
    let (mut lab, far) = with_router(tunnel);
    sh(&lab, "db-acme", &format!("ip addr add {ELSEWHERE}/32 dev lo; ip route replace 172.16.101.0/24 dev vpc0 src {ELSEWHERE}"));
    let heard = Capture::start(&lab, "gw-acme", "eni0", &format!("icmp and src {ELSEWHERE}"));
    bulk(&lab, &far);
    sh(&lab, "fn-1a", "ip route flush cache");
    learns_the_path_mtu(&lab, &far);
    heard.wait_for_count(2);
    let expired = try_sh(&lab, "fn-1a", &format!("ping -c 1 -W 2 -t 3 {FAR}"));
    assert!(expired.out.contains("Time to live exceeded"), "{expired:?}");
    assert_eq!(refused_as_spoofed(&mut lab, "host-1"), 0.0);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_closed_port_is_reported_at_once(#[case] tunnel: TunnelKind) {
    let (lab, _far) = with_router(tunnel);
    let socket = lab.node("fn-1a").unwrap().run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.connect((FAR, port::IPERF)).unwrap();
    socket.send(b"anybody?").unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn the_gateways_own_errors_are_heard(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    sh(&lab, "gw-acme", "ip link set eni0 mtu 1300");
    let ping = |arguments: &str| try_sh(&lab, "fn-1a", &format!("ping -c 1 -W 2 {arguments}"));
    let refused = ping(&format!("-M do -s 1400 {SERVER}"));
    assert!(refused.out.contains("mtu = 1300"), "{refused:?}");
    let expired = ping(&format!("-t 2 {SERVER}"));
    assert!(expired.out.contains("Time to live exceeded"), "{expired:?}");
    assert_eq!(refused_as_spoofed(&mut lab, "host-1"), 0.0);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn what_the_tenants_table_rejects_is_counted(#[case] tunnel: TunnelKind) {
    let mut lab = stand_edited(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel), |node, yaml| {
        if node.starts_with("gw") { replaced(&yaml, "to: 172.16.0.0/16", "to: 172.16.101.0/24") } else { yaml }
    });
    lab.attach_all().unwrap();
    let refused = try_sh(&lab, "fn-1a", "ping -c 1 -W 2 172.16.150.10");
    println!("{refused:?}");
    assert!(refused.out.contains("Unreachable"), "{refused:?}");
    let drops: Vec<_> = metrics(&mut lab, "gw-acme").into_iter().filter(|(n, c)| n.contains("dropped") && *c > 0.0).collect();
    println!("{drops:?}");
    assert_eq!(drops.len(), 1, "{drops:?}");
    fetches(&lab, "fn-1a").unwrap();
}
