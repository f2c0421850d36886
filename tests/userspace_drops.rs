//! Bad packets, made by hand on the platform side: dropped and counted by reason, and nothing of them gets in.

mod userspace_support;

use portway::userspace::DropReason;
use std::collections::BTreeMap;
use userspace_support::*;

#[test]
fn bad_packets_are_counted_by_reason_and_never_delivered() {
    let pair = Pair::new();
    for namespace in [&pair.host, &pair.gateway] {
        namespace.exec("sysctl -qw net.ipv6.conf.pw-1.disable_ipv6=1"); // its solicitations would be counted too
    }
    pair.host.ip("address add 10.0.0.3/24 dev eth0");
    pair.gateway.exec("nft add table ip seen");
    pair.gateway.exec("nft add chain ip seen in { type filter hook prerouting priority -300 ; }");
    pair.gateway.exec("nft add rule ip seen in iifname pw-1 counter");

    let good = with_key(KEY.0, &echo());
    let udp = |port: u16| [&[0, 9][..], &port.to_be_bytes(), &[0, 8, 0, 0]].concat();
    let cases: Vec<(DropReason, &str, Vec<Vec<u8>>)> = vec![
        (DropReason::Truncated, "10.0.0.1", vec![vec![], good[..3].to_vec(), good[..7].to_vec(), good[..27].to_vec(), good[..35].to_vec()]),
        (
            DropReason::Malformed,
            "10.0.0.1",
            vec![{
                let mut bad = good.clone();
                bad[8] = 0x42;
                bad
            }],
        ),
        (DropReason::NoKey, "10.0.0.1", vec![[&[0, 0, 8, 0][..], &echo()].concat()]),
        (
            DropReason::UnsupportedFlags,
            "10.0.0.1",
            vec![[&[0x30, 0, 8, 0][..], &good[4..]].concat(), [&[0xa0, 0, 8, 0][..], &good[4..]].concat()],
        ),
        (DropReason::UnsupportedVersion, "10.0.0.1", vec![[&[0x20, 1, 0x88, 0x0b][..], &good[4..]].concat()]),
        (
            DropReason::UnsupportedProtocol,
            "10.0.0.1",
            vec![[&[0x20, 0, 0x65, 0x58][..], &good[4..]].concat(), [&[0x20, 0, 0x86, 0xdd][..], &good[4..]].concat()],
        ),
        (DropReason::UnlistedSource, "10.0.0.3", vec![good.clone()]),
        (DropReason::WrongKey, "10.0.0.1", vec![with_key(KEY.0 + 1, &echo())]),
        (DropReason::SpoofedInner, "10.0.0.1", vec![with_key(KEY.0, &inner("10.64.0.2", "172.16.0.10", 1, &[8, 0, 0, 0, 0, 0, 0, 0]))]),
        (
            DropReason::Nested,
            "10.0.0.1",
            [4, 41, 47]
                .map(|protocol| inner("10.64.0.1", "172.16.0.10", protocol, &echo()))
                .into_iter()
                .chain([4789, 4790, 6081, 8472].map(|port| inner("10.64.0.1", "172.16.0.10", 17, &udp(port))))
                .map(|packet| with_key(KEY.0, &packet))
                .collect(),
        ),
    ];
    for (why, source, packets) in cases {
        let before = drops(&pair);
        pair.inject(source, &packets);
        let count = packets.len() as u64;
        assert_eq!(dropped_since(&pair, &before, count), BTreeMap::from([(why, count)]));
    }
    let rules = pair.gateway.exec("nft list chain ip seen in");
    assert!(rules.contains("counter packets 0"), "something got in: {rules}");

    pair.inject("10.0.0.1", &[good]);
    pair.host.exec("ping -c 1 -W 2 172.16.0.10");
    let rules = pair.gateway.exec("nft list chain ip seen in");
    assert!(rules.contains("counter packets 2"), "what is right gets in: {rules}");
}

#[test]
fn what_has_nowhere_to_go_or_does_not_fit_is_counted() {
    let pair = Pair::new();
    let before = drops(&pair);
    assert!(!pair.gateway.output("ping -c 2 -i 0.01 -W 0.1 -I 172.16.0.10 10.64.0.77").status.success());
    assert_eq!(dropped_since(&pair, &before, 2)[&DropReason::Unroutable], 2, "an inner address of no host");

    let before = drops(&pair);
    pair.gateway.ip("link set pw-1 mtu 1500");
    let output = pair.gateway.output("ping -c 1 -W 1 -s 1472 -M do -I 172.16.0.10 10.64.0.1");
    assert!(!output.status.success());
    assert_eq!(dropped_since(&pair, &before, 1)[&DropReason::TooBig], 1, "1,528 bytes outside");
}
