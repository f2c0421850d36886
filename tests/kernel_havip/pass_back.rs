//! What belongs to sessions of the node before goes to it, too.

use super::kernel_support::run;
use super::support::{HAVIP, Pair, ip, millis};
use portway::kernel::pass_back::PassBack;
use portway::kernel::{KernelError, Refused};
use portway::lab::poll_until;
use portway::plan::FORMER;
use std::net::UdpSocket;
use std::time::Duration;

/// The node before is the neighbour, who also is the host here: what it sends to the HaVip comes back to it.
fn table() -> String {
    format!(
        "table ip portway {{ map {FORMER} {{ type ipv4_addr : ipv4_addr; flags timeout; }}
        chain again {{ type filter hook prerouting priority raw
        iifname \"eth0\" ip daddr . udp dport {{ {HAVIP} . 51820 }} @th,64,8 4 dup to ip daddr map @{FORMER}
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
        back.set(ip(HAVIP), Some(ip("10.9.0.2")), Duration::from_secs(60)).unwrap();
    }
    send(4);
    send(1);
    poll_until("the copy", Duration::from_secs(5), || Ok(seen() == (0, 1))).unwrap();
    for _ in 0..2 {
        back.set(ip(HAVIP), None, Duration::ZERO).unwrap();
    }
    send(4);
    assert_eq!(seen(), (0, 1));
    back.set(ip(HAVIP), Some(ip("10.9.0.2")), millis(50)).unwrap();
    let stands = || pair.node.run(|| run("nft list map ip portway former")).contains("10.9.0.2");
    poll_until("the end of it", Duration::from_secs(5), || Ok(!stands())).unwrap();
    send(4);
    assert_eq!(seen(), (0, 1));
}

#[test]
fn without_its_table_it_says_so_and_an_end_is_none() {
    let pair = Pair::new();
    let mut back = pair.node.run(|| PassBack::open().unwrap());
    back.set(ip(HAVIP), None, Duration::ZERO).unwrap();
    let refused = back.set(ip(HAVIP), Some(ip("10.9.0.2")), millis(50));
    assert!(matches!(refused, Err(KernelError::Refused(Refused { errno: libc::ENOENT, .. }))), "{refused:?}");
    assert!(back.set(ip("fd00::1"), None, Duration::ZERO).is_err());
}
