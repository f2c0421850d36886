//! What belongs to sessions of the node before goes to it, too.

use super::kernel_support::run;
use super::support::{HAVIP, Pair, ip, millis};
use portway::kernel::pass_back::PassBack;
use portway::kernel::{KernelError, Refused};
use portway::lab::{Netns, poll_until};
use portway::plan::FORMER;
use std::net::UdpSocket;
use std::time::Duration;

/// The node before is the neighbour, who also is the host here: what it sends to the HaVip comes back to it.
fn table() -> String {
    format!(
        "table ip portway {{ map {FORMER} {{ type ipv4_addr : ipv4_addr; flags timeout; }}
        chain again {{ type filter hook prerouting priority raw
        iifname {{ \"eth0\", \"eth1\" }} ip daddr . udp dport {{ {HAVIP} . 51820 }} @th,64,8 4 ip ttl > 1 dup to ip daddr map @{FORMER}
        }}
        }}"
    )
}

/// Datagrams for the HaVip that the neighbour was sent, of those with this first byte.
fn copies(kind: u8) -> u64 {
    let listing = run(&format!("nft list counter ip seen kind{kind}"));
    listing.split_whitespace().skip_while(|word| *word != "packets").nth(1).and_then(|n| n.parse().ok()).expect("a counter")
}

#[test]
fn data_goes_to_the_node_before_for_as_long_as_it_was_said() {
    let pair = Pair::new();
    pair.node.run(|| run(&format!("ip addr add {HAVIP}/32 dev eth0 && nft -f - <<'END'\n{}\nEND", table())));
    pair.neighbour.run(|| {
        run(&format!(
            "nft -f - <<'END'
table ip seen {{ counter kind1 {{ }}
counter kind4 {{ }}
chain in {{ type filter hook prerouting priority 0
ip daddr {HAVIP} udp dport 51820 @th,64,8 1 counter name kind1
ip daddr {HAVIP} udp dport 51820 @th,64,8 4 counter name kind4
}}
}}
END"
        ))
    });
    let receiver = pair.node.run(|| UdpSocket::bind((HAVIP, 51820)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sender = pair.neighbour.run(|| UdpSocket::bind("10.9.0.2:0").unwrap());
    // Each is received here in any case, so what was to be copied has been when this returns.
    let send = |kind: u8| {
        sender.send_to(&[kind, 0, 0, 0, 7, 7, 7, 7], (HAVIP, 51820)).unwrap();
        receiver.recv(&mut [0; 64]).unwrap();
    };
    let seen = || pair.neighbour.run(|| (copies(1), copies(4)));
    let mut back = pair.node.run(|| PassBack::open().unwrap());
    send(4);
    assert_eq!(seen(), (0, 0));
    for _ in 0..2 {
        back.begin(ip(HAVIP), ip("10.9.0.2"), Duration::from_secs(60)).unwrap();
    }
    send(4);
    send(1);
    poll_until("the copy", Duration::from_secs(5), || Ok(seen() == (0, 1))).unwrap();
    for _ in 0..2 {
        back.end(ip(HAVIP)).unwrap();
    }
    send(4);
    assert_eq!(seen(), (0, 1));
    back.begin(ip(HAVIP), ip("10.9.0.2"), millis(50)).unwrap();
    let stands = || pair.node.run(|| run("nft list map ip portway former")).contains("10.9.0.2");
    poll_until("the end of it", Duration::from_secs(5), || Ok(!stands())).unwrap();
    send(4);
    assert_eq!(seen(), (0, 1));
}

#[test]
fn without_its_table_it_says_so_and_an_end_is_none() {
    let pair = Pair::new();
    let mut back = pair.node.run(|| PassBack::open().unwrap());
    back.end(ip(HAVIP)).unwrap();
    let refused = back.begin(ip(HAVIP), ip("10.9.0.2"), millis(50));
    assert!(matches!(refused, Err(KernelError::Refused(Refused { errno: libc::ENOENT, .. }))), "{refused:?}");
    assert!(back.end(ip("fd00::1")).is_err());
}

/// Each takes the other for the node before, and a host sends one packet.
#[test]
fn a_circle_of_two_nodes_ends() {
    let pair = Pair::new();
    let host = Netns::create().expect("root");
    pair.node.run(|| {
        run(&format!("ip link add eth1 type veth peer name eth0 netns {}", host.path().display()));
        run("ip addr add 10.10.0.1/24 dev eth1 && ip link set eth1 up");
    });
    host.run(|| run("ip addr add 10.10.0.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.10.0.1"));
    pair.neighbour.run(|| run("ip route add 10.10.0.0/24 via 10.9.0.1"));
    for (netns, other) in [(&pair.node, "10.9.0.2"), (&pair.neighbour, "10.9.0.1")] {
        netns.run(|| {
            run(&format!("ip addr add {HAVIP}/32 dev lo && nft -f - <<'END'\n{}\nEND", table()));
            PassBack::open().unwrap().begin(ip(HAVIP), ip(other), Duration::from_secs(60)).unwrap();
        });
    }
    let receiver = pair.neighbour.run(|| UdpSocket::bind((HAVIP, 51820)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let sender = host.run(|| UdpSocket::bind("10.10.0.2:0").unwrap());
    sender.send_to(&[4, 0, 0, 0], (HAVIP, 51820)).unwrap();
    let mut count = 0;
    while receiver.recv(&mut [0; 64]).is_ok() {
        count += 1;
        assert!(count < 64, "it goes on and on");
    }
    // Linux begins with 64 hops.
    assert!((16..=32).contains(&count), "{count} at one of the two");
}
