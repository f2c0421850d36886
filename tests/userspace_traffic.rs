//! Real traffic through a function host's and a gateway's userspace data path.

mod userspace_support;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use portway::wire::checksum::Sum;
use rstest::rstest;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;
use userspace_support::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that do not compress and do not repeat at the length of a segment.
fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Sends `data` one way and gets back what the other end saw of it, and as much the other way.
fn transfer(pair: &Pair, data: &[u8]) {
    let listener = pair.gateway.run(|| TcpListener::bind("172.16.0.10:5432")).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&Sha256::digest(&all)).unwrap();
        stream.write_all(&all).unwrap();
        from.ip()
    });
    let mut stream = pair.host.run(|| TcpStream::connect_timeout(&"172.16.0.10:5432".parse().unwrap(), PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(data).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[..32], Sha256::digest(data)[..], "what arrived at the server");
    assert!(answer[32..] == *data, "what came back");
    assert_eq!(served.join().unwrap(), Ipv4Addr::new(10, 64, 0, 1));
}

#[rstest]
#[case::offloads_on(false, false)]
#[case::cables_without_offloads(true, false)]
#[case::nothing_with_offloads(true, true)]
fn ping_and_tcp_arrive_whole(#[case] cables_off: bool, #[case] tuns_off: bool) {
    let pair = Pair::new();
    for namespace in [&pair.host, &pair.gateway] {
        if cables_off {
            namespace.offloads_off("eth0");
        }
        if tuns_off {
            namespace.offloads_off("pw-1");
        }
    }
    pair.host.exec("ping -c 3 -i 0.01 -W 2 172.16.0.10");
    pair.host.exec("ping -c 3 -i 0.01 -W 2 -s 1444 -M do 172.16.0.10");
    transfer(&pair, &noise(20 << 20, 7));
    for path in [&pair.host_path, &pair.gateway_path] {
        let counters = path.counters();
        let traffic = counters.tunnels[&name("pw-1")];
        assert!(traffic.received_bytes > 20 << 20 && traffic.sent_bytes > 20 << 20, "{traffic:?}");
        let drops = counters.drops.into_iter().filter(|(why, n)| *n > 0 && why.as_str() != "unsupported_protocol").collect::<Vec<_>>();
        assert_eq!(drops, [], "IPv6 router solicitations apart, nothing is dropped");
    }
}

/// A raw socket shows packets as a kernel on the same machine made them (and as the receiving interface joined them):
/// with checksums that were left to hardware. Nothing but the checksum itself tells.
#[test]
fn checksums_that_a_kernel_left_to_hardware_are_finished() {
    let pair = Pair::new();
    let partial = |protocol: u8, body: &[u8], at: usize| {
        let mut body = body.to_vec();
        let sum = Sum::pseudo([10, 64, 0, 1].into(), [172, 16, 0, 10].into(), protocol, body.len() as u16).folded();
        body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        with_key(KEY.0, &inner("10.64.0.1", "172.16.0.10", protocol, &body))
    };
    let server = pair.gateway.run(|| UdpSocket::bind("172.16.0.10:53")).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let _listener = pair.gateway.run(|| TcpListener::bind("172.16.0.10:5432")).unwrap();
    pair.host.exec("nft add table ip seen");
    pair.host.exec("nft add chain ip seen in { type filter hook input priority 0 ; }");
    pair.host.exec("nft add rule ip seen in iifname pw-1 tcp sport 5432 tcp flags syn,ack counter");

    let syn = [0x9c, 0x40, 0x15, 0x38, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
    pair.inject("10.0.0.1", &[partial(6, &syn, 16), partial(17, b"\x9c\x40\x00\x35\x00\x0d\0\0hello", 6)]);
    let mut buffer = [0; 64];
    let (got, _) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..got], b"hello");
    pair.host.exec("ping -c 1 -W 2 172.16.0.10"); // whatever was answered before has come back before
    let rules = pair.host.exec("nft list chain ip seen in");
    assert!(rules.contains("counter packets 1"), "the connection was not accepted: {rules}");
}

#[test]
fn datagrams_arrive_whole_also_fragmented_and_also_segmented_late() {
    let pair = Pair::new();
    let server = pair.gateway.run(|| UdpSocket::bind("172.16.0.10:53")).unwrap();
    let client = pair.host.run(|| UdpSocket::bind("10.64.0.1:0")).unwrap();
    client.connect("172.16.0.10:53").unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut buffer = vec![0; 65_536];
    for len in [0, 1, 1444, 1445, 9000, 65_000] {
        let data = noise(len, len as u64);
        client.send(&data).unwrap();
        let (got, from) = server.recv_from(&mut buffer).unwrap();
        assert!(buffer[..got] == data, "{len} bytes there");
        server.send_to(&data, from).unwrap();
        let got = client.recv(&mut buffer).unwrap();
        assert!(buffer[..got] == data, "{len} bytes back");
    }
    // One system call, twelve and a half datagrams (udp(7), UDP_SEGMENT).
    setsockopt(&client, UdpGsoSegment, &1000).unwrap();
    let data = noise(12_500, 5);
    client.send(&data).unwrap();
    for part in data.chunks(1000) {
        let (got, _) = server.recv_from(&mut buffer).unwrap();
        assert!(buffer[..got] == *part);
    }
}

#[rstest]
#[case::offloads_on(false)]
#[case::offloads_off(true)]
fn iperf3_runs_through(#[case] off: bool) {
    let pair = Pair::new();
    if off {
        for namespace in [&pair.host, &pair.gateway] {
            namespace.offloads_off("eth0");
        }
    }
    let mut server = pair
        .gateway
        .run(|| std::process::Command::new("iperf3").args(["-s", "-1", "-B", "172.16.0.10"]).stdout(std::process::Stdio::null()).spawn());
    let server = server.as_mut().expect("iperf3 is not installed: apt-get install iperf3");
    let listening = || pair.gateway.exec("ss -Hltn src 172.16.0.10:5201").contains("5201");
    let start = std::time::Instant::now();
    while !listening() {
        assert!(start.elapsed() < PATIENCE, "iperf3 does not listen");
        thread::yield_now();
    }
    let report = pair.host.exec("iperf3 -J -t 2 -c 172.16.0.10 -B 10.64.0.1");
    server.wait().unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
    println!("{:.2} Gbit/s, {} retransmits", rate / 1e9, report["end"]["sum_sent"]["retransmits"]);
    assert!(rate > 50e6, "{rate} bit/s");
}

#[test]
fn a_mark_of_congestion_passes_through_the_tunnel() {
    let pair = Pair::new();
    // An ECN-capable inner packet makes an ECN-capable outer one; the way marks it; the inner one arrives marked.
    pair.gateway.exec("nft add table ip way");
    pair.gateway.exec("nft add chain ip way pre { type filter hook prerouting priority -300 ; }");
    pair.gateway.exec("nft add rule ip way pre ip protocol 47 ip ecn ect0 ip ecn set ce");
    pair.gateway.exec("nft add chain ip way in { type filter hook input priority 0 ; }");
    pair.gateway.exec("nft add rule ip way in iifname pw-1 ip ecn ce counter");
    pair.host.exec("ping -c 3 -i 0.01 -W 2 -Q 2 172.16.0.10");
    let rules = pair.gateway.exec("nft list chain ip way in");
    assert!(rules.contains("counter packets 3"), "{rules}");
}
