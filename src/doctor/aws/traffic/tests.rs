use super::*;
use proptest::prelude::*;
use rstest::rstest;
use std::net::{IpAddr, Ipv4Addr};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn rule(protocol: &str, from: i32, to: i32, networks: &[&str]) -> Permission {
    let networks = networks.iter().map(|text| net(text)).collect();
    Permission { protocol: protocol.into(), from: Some(from), to: Some(to), networks, groups: vec![], prefix_lists: vec![] }
}

fn of_groups(groups: &[&str], prefix_lists: &[&str]) -> Permission {
    let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Permission { groups: all(groups), prefix_lists: all(prefix_lists), ..rule("112", -1, -1, &[]) }
}

fn judged(protocol: u8, ports: RangeInclusive<u16>, to: &str, rules: &[Permission]) -> Verdict {
    Traffic { protocol, ports, far: Far::Network { net: net(to), groups: None } }.judge(rules.iter())
}

#[rstest]
#[case::any(rule("-1", -1, -1, &["0.0.0.0/0"]), true)]
#[case::of_the_other_family(rule("-1", -1, -1, &["::/0"]), false)]
#[case::by_name(rule("tcp", 0, 65535, &["10.0.0.0/8"]), true)]
#[case::by_number(rule("6", 5432, 5433, &["10.9.0.0/16"]), true)]
#[case::of_another_protocol(rule("udp", 0, 65535, &["0.0.0.0/0"]), false)]
#[case::one_port_of_two(rule("tcp", 5432, 5432, &["0.0.0.0/0"]), false)]
#[case::half_of_the_network(rule("tcp", 5432, 5433, &["10.9.0.0/17"]), false)]
fn a_rule_lets_through_what_it_covers(#[case] rule: Permission, #[case] passes: bool) {
    assert_eq!(judged(TCP, 5432..=5433, "10.9.0.0/16", &[rule]) == Verdict::Passes, passes);
}

#[test]
fn rules_that_have_a_part_each_have_the_whole_together() {
    let halves = ["10.9.0.0/17", "10.9.128.0/17"];
    let ports = [(1024, 2000), (2001, 65535)];
    let all: Vec<Permission> = halves.iter().flat_map(|half| ports.map(|(from, to)| rule("tcp", from, to, &[half]))).collect();
    assert_eq!(judged(TCP, 1024..=65535, "10.9.0.0/16", &all), Verdict::Passes);
    for without in 0..all.len() {
        let rest = [&all[..without], &all[without + 1..]].concat();
        assert_eq!(judged(TCP, 1024..=65535, "10.9.0.0/16", &rest), Verdict::Blocked);
    }
    assert_eq!(judged(TCP, 0..=65535, "fd00::/9", &[rule("tcp", 0, 65535, &["fd00::/8"])]), Verdict::Passes);
}

#[test]
fn icmp_has_types_and_codes_where_others_have_ports() {
    let too_long = icmp(3, Some(4));
    for (from, to, passes) in [(-1, -1, true), (3, -1, true), (3, 4, true), (3, 3, false), (4, 3, false), (8, -1, false)] {
        let verdict = judged(ICMP, too_long.clone(), "10.9.0.1/32", &[rule("icmp", from, to, &["10.0.0.0/8"])]);
        assert_eq!(verdict == Verdict::Passes, passes, "{from} {to}");
    }
    assert_eq!(judged(ICMP, icmp(3, None), "10.9.0.1/32", &[rule("icmp", 3, 4, &["10.0.0.0/8"])]), Verdict::Blocked);
}

#[test]
fn members_of_a_group_are_let_through_and_who_is_not_known_may_be() {
    let own: BTreeSet<SecurityGroupId> = ["sg-0000000a".parse().unwrap()].into();
    let of = |groups, rules: &[Permission]| {
        Traffic { protocol: VRRP, ports: ALL, far: Far::Network { net: net("10.9.0.2/32"), groups } }.judge(rules.iter())
    };
    let [own_group, other, list] = [of_groups(&["sg-0000000a"], &[]), of_groups(&["sg-0000000b"], &[]), of_groups(&[], &["pl-1"])];
    assert_eq!(of(Some(&own), std::slice::from_ref(&own_group)), Verdict::Passes);
    assert_eq!(of(Some(&own), std::slice::from_ref(&other)), Verdict::Blocked);
    assert_eq!(of(None, &[own_group]), Verdict::Open(["sg-0000000a".to_owned()].into()));
    assert_eq!(of(Some(&own), &[other, list.clone()]), Verdict::Open(["pl-1".to_owned()].into()));
    let somebody = Traffic { protocol: VRRP, ports: ALL, far: Far::Somebody };
    assert_eq!(somebody.judge([&list].into_iter()), Verdict::Passes);
    assert_eq!(somebody.judge([&rule("112", -1, -1, &[])].into_iter()), Verdict::Blocked);
}

/// Eight addresses and ports up to 20.
fn any_rule() -> impl Strategy<Value = Permission> {
    let protocol = prop::sample::select(vec!["-1", "tcp", "udp", "112", "icmp"]);
    let networks = prop::collection::vec((0..8u8, 29..=32u8), 0..3);
    let groups = prop::collection::vec(prop::sample::select(vec!["sg-0000000a", "sg-0000000b"]), 0..2);
    (protocol, 0..20i32, 0..20i32, networks, groups, prop::collection::vec(Just("pl-1"), 0..2)).prop_map(
        |(protocol, from, more, networks, groups, lists)| {
            let net = |(address, length)| IpNet::new(Ipv4Addr::new(10, 0, 0, address).into(), length).unwrap().trunc();
            let texts = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect();
            let (networks, groups, prefix_lists) = (networks.into_iter().map(net).collect(), texts(groups), texts(lists));
            Permission { protocol: protocol.into(), from: Some(from), to: Some(from + more), networks, groups, prefix_lists }
        },
    )
}

fn any_traffic() -> impl Strategy<Value = (u8, RangeInclusive<u16>, IpNet)> {
    (prop::sample::select(vec![TCP, UDP]), 0..20u16, 0..20u16, 0..8u8, 29..=32u8).prop_map(|(protocol, from, more, address, length)| {
        (protocol, from..=from + more, IpNet::new(Ipv4Addr::new(10, 0, 0, address).into(), length).unwrap().trunc())
    })
}

proptest! {
    #[test]
    fn another_rule_never_closes_anything(
        (protocol, ports, net) in any_traffic(), rules in prop::collection::vec(any_rule(), 0..6), more in any_rule(), known: bool,
    ) {
        let own: BTreeSet<SecurityGroupId> = ["sg-0000000a".parse().unwrap()].into();
        for far in [Far::Somebody, Far::Network { net, groups: known.then_some(&own) }] {
            let traffic = Traffic { protocol, ports: ports.clone(), far };
            let rank = |verdict: Verdict| match verdict { Verdict::Blocked => 0, Verdict::Open(_) => 1, Verdict::Passes => 2 };
            let before = rank(traffic.judge(rules.iter()));
            prop_assert!(rank(traffic.judge(rules.iter().chain([&more]))) >= before);
        }
    }

    #[test]
    fn everything_passes_where_anything_may((protocol, ports, net) in any_traffic(), rules in prop::collection::vec(any_rule(), 0..6)) {
        let any = rule("-1", -1, -1, &["0.0.0.0/0"]);
        let traffic = Traffic { protocol, ports, far: Far::Network { net, groups: None } };
        prop_assert_eq!(traffic.judge(rules.iter().chain([&any])), Verdict::Passes);
    }

    /// Address by address and port by port.
    #[test]
    fn it_passes_if_every_packet_of_it_does((protocol, ports, net) in any_traffic(), mut rules in prop::collection::vec(any_rule(), 0..9)) {
        for rule in &mut rules {
            rule.groups.clear();
            rule.prefix_lists.clear();
        }
        let name = if protocol == TCP { "tcp" } else { "udp" };
        let lets = |rule: &Permission, port: u16, address: IpAddr| {
            let within = rule.protocol == "-1" || rule.from.unwrap() <= i32::from(port) && i32::from(port) <= rule.to.unwrap();
            ["-1", name].contains(&rule.protocol.as_str()) && within && rule.networks.iter().any(|net| net.contains(&address))
        };
        let addresses: Vec<IpAddr> = (0..8).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).filter(|address| net.contains(address)).collect();
        let every = ports.clone().all(|port| addresses.iter().all(|address| rules.iter().any(|rule| lets(rule, port, *address))));
        let verdict = Traffic { protocol, ports, far: Far::Network { net, groups: None } }.judge(rules.iter());
        prop_assert_eq!(verdict, if every { Verdict::Passes } else { Verdict::Blocked });
    }
}
