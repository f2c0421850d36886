//! Successors, thousands of tunnels and hosts, devices that vanish.

mod userspace_support;

use portway::model::GreKey;
use portway::userspace::{Dataplane, DataplaneConfig, handover};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use userspace_support::*;

/// A successor with everything that the predecessor had, both running for a moment. It knows all before it takes a packet.
fn succeed(namespace: &Namespace, predecessor: Dataplane) -> Dataplane {
    let (old, new) = UnixStream::pair().unwrap();
    let descriptors = predecessor.descriptors().unwrap();
    let received = thread::scope(|scope| {
        scope.spawn(|| handover::send(&old, &descriptors).unwrap());
        handover::receive(&new).unwrap()
    });
    let mut successor = namespace.run(|| Dataplane::prepare(&DataplaneConfig::default(), received)).unwrap();
    namespace.run(|| {
        for tunnel in predecessor.tunnels() {
            successor.add_tunnel(&tunnel).unwrap();
            for (outer, prefixes) in predecessor.peers(&tunnel.interface) {
                successor.set_peer(&tunnel.interface, outer, &prefixes).unwrap();
            }
        }
        successor.carry().unwrap();
    });
    predecessor.stop();
    successor
}

#[test]
fn a_successor_takes_over_and_no_ping_is_lost() {
    let Pair { host, gateway, mut host_path, mut gateway_path } = Pair::new();
    let pings = host
        .run(|| Command::new("ping").args(["-i", "0.001", "-c", "1500", "-W", "2", "172.16.0.10"]).stdout(Stdio::piped()).spawn().unwrap());
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(50)); // the pings go on meanwhile: that is the test
        host_path = succeed(&host, host_path);
        gateway_path = succeed(&gateway, gateway_path);
    }
    let output = pings.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let end = report.lines().skip_while(|line| !line.starts_with("---")).collect::<Vec<_>>().join("\n");
    println!("{end}");
    assert!(end.contains("1500 packets transmitted, 1500 received"), "{end}");
    assert!(host_path.counters().tunnels[&name("pw-1")].received_packets > 0);
}

/// Two thousand (tenant, shard) pairs on one function host: one thread watches all devices.
#[test]
fn two_thousand_tunnels_on_one_host() {
    let mut pair = Pair::new();
    let start = Instant::now();
    pair.host.run(|| {
        for n in 2..=2000 {
            pair.host_path.add_tunnel(&host_tunnel(n, GreKey(KEY.0 + n as u32))).unwrap();
        }
    });
    println!("1,999 devices made and added in {:?}", start.elapsed());
    let last = GreKey(KEY.0 + 2000);
    pair.gateway.run(|| pair.gateway_path.add_tunnel(&gateway_tunnel(2, last))).unwrap();
    pair.gateway_path.set_peer(&name("pw-2"), address("10.0.0.1"), &["10.64.0.1/32".parse().unwrap()]).unwrap();
    pair.host.exec("ping -c 3 -i 0.01 -W 2 172.16.0.10");
    // The last one in place of the first.
    pair.host.ip("link set pw-2000 mtu 1472 up");
    pair.host.ip("address replace 10.64.0.1/32 dev pw-2000");
    pair.host.ip("route replace 172.16.0.0/16 dev pw-2000 src 10.64.0.1");
    pair.gateway.ip("link set pw-2 mtu 1472 up");
    pair.gateway.ip("route replace 10.64.0.0/16 dev pw-2 src 172.16.0.10");
    pair.host.exec("ping -c 3 -i 0.01 -W 2 172.16.0.10");
    let start = Instant::now();
    pair.host_path = succeed(&pair.host, pair.host_path);
    println!("2,000 devices handed over in {:?}", start.elapsed());
    pair.host.exec("ping -c 3 -i 0.01 -W 2 172.16.0.10");
    assert_eq!(pair.host_path.counters().tunnels[&name("pw-2000")].received_packets, 3);
}

#[test]
fn the_ten_thousand_and_first_host_is_added_at_once_and_slows_nobody() {
    let pair = Pair::new();
    let start = Instant::now();
    let add = |n: u32| {
        let (outer, inner) = ((0x0a01_0000 + n).to_be_bytes(), (0x0a41_0000 + n).to_be_bytes());
        let prefix = ipnet::IpNet::from(std::net::IpAddr::from(inner));
        pair.gateway_path.set_peer(&name("pw-1"), outer.into(), &[prefix]).unwrap();
    };
    (0..10_000).for_each(add);
    println!("10,000 hosts in {:?}", start.elapsed());
    let quickest = (10_000..10_010).map(|n| {
        let start = Instant::now();
        add(n);
        start.elapsed()
    });
    assert!(quickest.min().unwrap() < Duration::from_millis(1));
    pair.host.exec("ping -c 3 -i 0.01 -W 2 172.16.0.10");
}

#[test]
fn a_device_that_vanishes_is_reported_and_can_be_added_again() {
    let mut pair = Pair::new();
    pair.gateway.ip("link delete pw-1");
    let start = Instant::now();
    while pair.gateway_path.lost().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "nobody noticed");
        thread::yield_now();
    }
    assert_eq!(pair.gateway_path.lost(), [name("pw-1")]);
    pair.gateway.run(|| pair.gateway_path.add_tunnel(&gateway_tunnel(1, KEY))).unwrap();
    assert_eq!(pair.gateway_path.lost(), []);
    pair.plumb();
    pair.host.exec("ping -c 3 -i 0.01 -W 2 172.16.0.10");
}

#[test]
fn a_tunnel_may_change_while_it_runs_and_stop_without_a_trace() {
    let mut pair = Pair::new();
    let other = GreKey(99);
    pair.gateway.run(|| pair.gateway_path.add_tunnel(&gateway_tunnel(1, other))).unwrap();
    pair.host.run(|| pair.host_path.add_tunnel(&host_tunnel(1, other))).unwrap();
    pair.host.exec("ping -c 3 -i 0.01 -W 2 172.16.0.10");
    assert!(pair.host_path.remove_tunnel(&name("pw-1")));
    assert!(!pair.host_path.remove_tunnel(&name("pw-1")));
    assert!(!pair.host.output("ping -c 1 -W 1 172.16.0.10").status.success());
    // The device is persistent: routes and addresses wait for the next process.
    pair.host_path.stop();
    assert!(pair.host.exec("ip route").contains("172.16.0.0/16 dev pw-1"));
    pair.host_path = start(&pair.host, Default::default());
    pair.host.run(|| pair.host_path.add_tunnel(&host_tunnel(1, other))).unwrap();
    pair.host.exec("ping -c 3 -i 0.01 -W 2 172.16.0.10");
}
