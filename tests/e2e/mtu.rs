//! Full-size TCP fits the tunnel both ways, and who sends too much is told.

use super::support::*;
use portway::config::TunnelKind;
use portway::lab::topology::{Wiring, port};
use portway::lab::{Lab, Topology, Transfer};
use rstest::rstest;
use std::net::SocketAddr;

/// The MSS that the server is offered in the SYN, and the container in the SYN-ACK.
fn offered(lab: &Lab) -> (String, String) {
    let at_server = Capture::start(lab, "db-acme", "vpc0", "tcp port 80 and tcp[13] == 2");
    let at_container = Capture::start(lab, "fn-1a", "eth0", "tcp port 80 and tcp[13] == 18");
    fetches(lab, "fn-1a").unwrap();
    let [syn, syn_ack] = [at_server, at_container].map(|capture| {
        capture.wait_for_count(1);
        capture.read("tcp", &["tcp.options.mss_val"])[0][0].clone()
    });
    (syn, syn_ack)
}

/// 1500 outside. GRE takes 28 (IPv4 20, header with a key 8), WireGuard 60 (IPv4 20, UDP 8, header 16, tag 16); IPv4 and TCP inside take 40.
#[rstest]
#[case::gre(TunnelKind::Gre, "1432")]
#[case::wireguard(TunnelKind::Wireguard, "1400")]
fn the_segment_size_is_clamped_both_ways(#[case] tunnel: TunnelKind, #[case] size: &str) {
    assert_eq!(offered(&simple_over(tunnel)), (size.into(), size.into()));
}

#[rstest]
#[case::gre(TunnelKind::Gre, 1372)]
#[case::wireguard(TunnelKind::Wireguard, 1340)]
fn a_platform_of_1400_bytes_carries_full_size_tcp_and_says_so(#[case] tunnel: TunnelKind, #[case] inside: u32) {
    let edit = |_: &str, yaml: String| {
        let platform = yaml.lines().find(|line| line.contains("platform:")).unwrap().to_owned();
        yaml.replace(&platform, &platform.replace(" }", ", mtu: 1400 }"))
    };
    let mut lab = stand_edited(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel), edit);
    lab.attach_all().unwrap();
    // Anything longer is lost from here on. The interfaces of the daemons' nodes say 1500 as before.
    sh(&lab, "platform", "for i in $(ls /sys/class/net | grep ^p); do ip link set $i mtu 1400; done; ip link set br0 mtu 1400");
    sh(&lab, "host-1", "ethtool -K plat0 tso off gso off gro off");
    sh(&lab, "gw-acme", "ethtool -K plat0 tso off gso off gro off");
    let size = (inside - 40).to_string();
    assert_eq!(offered(&lab), (size.clone(), size));
    let transfer = Transfer::start(lab.node("fn-1a").unwrap(), SocketAddr::from((SERVER, port::ECHO)), None).unwrap();
    wait("two megabytes", SOON, || transfer.returned() > 2 << 20);
    let done = transfer.stop();
    assert!(done.ok, "{done:?}");
    assert!(sh(&lab, "host-1", "ip link show pw-1").contains(&format!("mtu {inside}")));

    // The largest that fits is answered; one byte more is refused with the right size.
    let ping = |bytes: u32| try_sh(&lab, "fn-1a", &format!("ping -c 1 -W 1 -M do -s {bytes} {SERVER}"));
    assert_eq!(ping(inside - 28).code, 0);
    let refused = ping(inside - 27);
    assert!(refused.code != 0 && refused.out.contains(&format!("mtu = {inside}")), "{refused:?}");
    // Too large for one packet without the don't-fragment bit: in fragments, and put together again.
    assert_eq!(try_sh(&lab, "fn-1a", &format!("ping -c 1 -W 2 -M dont -s 4000 {SERVER}")).code, 0);
}
