//! Tables and their elements: done by us, seen by `nft` and by packets.

mod kernel_support;

use kernel_support::{World, explain, in_namespace, name, run};
use portway::kernel::KernelError;
use portway::lab::{gre, ipv4};
use portway::model::{GreKey, Mark};
use portway::plan::{Element, NftTable, Ruleset, SetName, State, Step, plan};
use std::collections::BTreeMap;
use std::net::IpAddr;

const SETS: &str = "counter drops { }
map peers { type ipv4_addr : mark; }
map senders { typeof ip saddr . @th,0,32 . @th,32,32 . @th,160,32 : meta mark; }
map senders_net { typeof ip saddr . @th,0,32 . @th,32,32 . @th,160,32 : meta mark; flags interval; }
map attached { type iface_index : mark; }
map attached_src { type iface_index . ipv4_addr : mark; }
map attached_net { type iface_index . ipv4_addr : mark; flags interval; }
";
const CHAIN: &str = "chain before_routing { type filter hook prerouting priority raw; policy accept;
meta mark set ip saddr map @peers
counter name drops
}
";

fn inet(body: &str) -> Ruleset {
    Ruleset::new(body.to_owned())
}

fn set(name: &str) -> SetName {
    SetName { table: NftTable::Inet, name: name.into() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An element of every kind; interface 77 does not exist and 1 is `lo`.
fn elements() -> BTreeMap<SetName, BTreeMap<Element, Option<Mark>>> {
    let net = "10.64.8.0/22".parse().unwrap();
    let mark = Some(Mark(0x0007_2001));
    let (outer, key) = (ip("198.51.100.7"), GreKey(7));
    let wide = "10.128.0.0/9".parse().unwrap();
    BTreeMap::from([
        (
            set("peers"),
            [(Element::Address(ip("198.51.100.7")), mark), (Element::Address(ip("198.51.100.8")), Some(Mark(0x0008_0000)))].into(),
        ),
        (set("senders"), [(Element::Sender { outer, key, inner: ip("10.64.0.9") }, mark)].into()),
        (set("senders_net"), [net, wide].into_iter().map(|inner| (Element::SenderPrefix { outer, key, inner }, mark)).collect()),
        (set("attached"), [(Element::Interface(1), mark), (Element::Interface(77), mark)].into()),
        (set("attached_src"), [(Element::InterfaceAddress(77, ip("10.88.0.7")), mark)].into()),
        (set("attached_net"), [(Element::InterfacePrefix(77, net), mark), (Element::InterfacePrefix(1, net), mark)].into()),
    ])
}

fn sample() -> State {
    State { tables: [(NftTable::Inet, inet(&format!("{SETS}{CHAIN}")))].into(), elements: elements(), ..State::default() }
}

fn with_body(body: &str) -> State {
    State { tables: [(NftTable::Inet, inet(body))].into(), ..sample() }
}

#[test]
fn tables_and_elements_are_observed_as_applied() {
    in_namespace(async || {
        let world = World::new().await;
        assert_eq!(world.observe().await, State::default());
        let steps = plan(&sample(), &State::default()).steps;
        world.apply(&steps).await;
        assert_eq!(world.observe().await, sample());
        world.apply(&steps).await;
        assert_eq!(world.observe().await, sample(), "applied twice");
        let seen = run("nft list table inet portway").split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "elements = { 198.51.100.7 : 0x00072001, 198.51.100.8 : 0x00080000 }",
            "elements = { 198.51.100.7 . 0x20000800 . 0x7 . 0xa400009 : 0x00072001 }",
            "198.51.100.7 . 0x20000800 . 0x7 . 0xa400800-0xa400bff : 0x00072001",
            "\"lo\" : 0x00072001",
            "elements = { 77 . 10.88.0.7 : 0x00072001 }",
            "77 . 10.64.8.0/22 : 0x00072001",
        ] {
            assert!(seen.contains(part), "{part:?} is missing in\n{seen}");
        }
        let world = world.restarted().await;
        assert_eq!(world.observe().await, sample(), "after a restart");
        world.apply(&plan(&State::default(), &sample()).steps).await;
        world.apply(&[Step::RemoveTable(NftTable::Inet)]).await;
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn a_prefix_within_another_is_refused_and_its_removal_leaves_the_other() {
    in_namespace(async || {
        let world = World::new().await;
        world.apply(&plan(&sample(), &State::default()).steps).await;
        let narrower = Element::InterfacePrefix(77, "10.64.8.0/24".parse().unwrap());
        let error = world.attempt(Step::SetElement(set("attached_net"), narrower.clone(), Some(Mark(1)))).await.unwrap_err();
        assert!(matches!(&error, KernelError::Refused(refused) if [libc::EEXIST, libc::ENOTEMPTY].contains(&refused.errno)), "{error:?}");
        world.apply(&[Step::RemoveElement(set("attached_net"), narrower)]).await;
        assert_eq!(world.observe().await, sample());
    });
}

/// nft writes these keys in another byte order in interval sets: what it added must read the same as what we add.
#[test]
fn what_nft_added_reads_as_if_we_had() {
    in_namespace(async || {
        let world = World::new().await;
        world.apply(&[Step::ReplaceTable(NftTable::Inet, sample().tables[&NftTable::Inet].clone())]).await;
        run("nft -f - <<'END'
add element inet portway peers { 198.51.100.7 : 0x72001, 198.51.100.8 : 0x80000 }
add element inet portway senders { 198.51.100.7 . 0x20000800 . 7 . 0xa400009 : 0x72001 }
add element inet portway senders_net { 198.51.100.7 . 0x20000800 . 7 . 0xa400800-0xa400bff : 0x72001, 198.51.100.7 . 0x20000800 . 7 . 0xa800000-0xaffffff : 0x72001 }
add element inet portway attached { lo : 0x72001, 77 : 0x72001 }
add element inet portway attached_src { 77 . 10.88.0.7 : 0x72001 }
add element inet portway attached_net { 77 . 10.64.8.0/22 : 0x72001, lo . 10.64.8.0/22 : 0x72001 }
END");
        assert_eq!(world.observe().await, sample());
    });
}

#[test]
fn packets_match_what_we_add() {
    in_namespace(async || {
        let world = World::new().await;
        let body = format!(
            "{SETS}chain before_routing {{ type filter hook prerouting priority raw; policy accept;
             ip saddr != 127.0.0.0/8 return
             meta mark set ip saddr . @th,0,32 . @th,32,32 . @th,160,32 map @senders
             meta mark 5 counter comment \"senders\"
             meta mark set ip saddr . @th,0,32 . @th,32,32 . @th,160,32 map @senders_net
             meta mark 6 counter comment \"senders_net\"
             meta mark set iif map @attached
             meta mark 1 counter comment \"attached\"
             meta mark set iif . ip saddr map @attached_net
             meta mark 2 counter comment \"attached_net\"
             meta mark set iif . ip saddr map @attached_src
             meta mark 3 counter comment \"attached_src\"
             meta mark set ip saddr map @peers
             meta mark 4 counter comment \"peers\"
             }}"
        );
        world.apply(&[Step::ReplaceTable(NftTable::Inet, inet(&body))]).await;
        let (net, lo) = ("127.0.0.0/30".parse().unwrap(), ip("127.0.0.1"));
        let (key, inner) = (GreKey(7), ip("10.64.0.9"));
        let all = [
            ("senders", Element::Sender { outer: lo, key, inner }, Some(Mark(5))),
            ("senders_net", Element::SenderPrefix { outer: lo, key, inner: "10.64.0.0/24".parse().unwrap() }, Some(Mark(6))),
            ("attached", Element::Interface(1), Some(Mark(1))),
            ("attached_net", Element::InterfacePrefix(1, net), Some(Mark(2))),
            ("attached_src", Element::InterfaceAddress(1, lo), Some(Mark(3))),
            ("peers", Element::Address(lo), Some(Mark(4))),
        ];
        let packet = gre(7, 0x0800, &ipv4([10, 64, 0, 9].into(), [172, 16, 0, 1].into(), 17, &[0; 8]));
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(47.into())).unwrap();
        let counted = |name: &str| {
            for _ in 0..2 {
                socket.send_to(&packet, &std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            }
            let rules = run("nft list table inet portway");
            let rule = rules.lines().find(|line| line.ends_with(&format!("comment \"{name}\""))).unwrap();
            rule.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse::<u32>().unwrap()
        };
        for (name, element, value) in &all {
            assert_eq!(counted(name), 0, "{name}");
            world.apply(&[Step::SetElement(set(name), element.clone(), *value)]).await;
            assert_eq!(counted(name), 2, "{name}");
        }
        for (name, element, _) in &all {
            let removal = [Step::RemoveElement(set(name), element.clone())];
            world.apply(&removal).await;
            world.apply(&removal).await;
        }
        assert!(world.observe().await.elements.is_empty());
    });
}

#[test]
fn a_value_is_replaced_and_a_refusal_is_told() {
    in_namespace(async || {
        let world = World::new().await;
        world.apply(&plan(&sample(), &State::default()).steps).await;
        let mut desired = sample();
        for value in desired.elements.values_mut().flat_map(|entries| entries.values_mut()).flatten() {
            *value = Mark(0x0099_2002);
        }
        world.apply(&plan(&desired, &sample()).steps).await;
        assert_eq!(world.observe().await, desired);
        let steps = [
            Step::SetElement(set("peers"), Element::Address(ip("198.51.100.9")), Some(Mark(1))),
            Step::SetElement(set("peers"), Element::Interface(1).clone(), None),
            Step::SetElement(set("missing"), Element::Interface(1), None),
            Step::RemoveElement(set("missing"), Element::Interface(1)),
        ];
        let failures = world.kernel.apply(&steps).await;
        let failed: Vec<_> = failures.iter().map(|failure| &failure.step).collect();
        assert_eq!(failed, [&steps[1], &steps[2]], "{}", explain(&failures));
        assert_eq!(world.observe().await.elements[&set("peers")].len(), 3);
    });
}

#[test]
fn new_rules_keep_elements_and_counters_and_drop_all_else() {
    in_namespace(async || {
        let world = World::new().await;
        let old = format!(
            "{SETS}{CHAIN}counter gone {{ }}\nset own {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/8, 1.2.3.4 }}\n}}\nchain helper {{ ip saddr @own accept; }}"
        );
        world.apply(&plan(&with_body(&old), &State::default()).steps).await;
        run("ping -c1 -W1 127.0.0.1");
        let count =
            || run("nft list counter inet portway drops").split_whitespace().skip_while(|w| *w != "packets").nth(1).map(str::to_owned);
        let counted = count();
        assert_eq!(counted.as_deref(), Some("2"));
        let new = format!(
            "{SETS}{CHAIN}set own {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/9 }}\n}}\nchain other {{ ip saddr @own drop; }}"
        );
        let desired = with_body(&new);
        let steps = plan(&desired, &world.observe().await).steps;
        assert_eq!(steps.len(), 1);
        world.apply(&steps).await;
        assert_eq!(world.observe().await, desired);
        assert_eq!(count(), counted);
        let seen = run("nft list table inet portway");
        assert!(seen.contains("elements = { 10.0.0.0/9 }") && !seen.contains("helper") && !seen.contains("counter gone"), "{seen}");
        assert_eq!(seen.matches("revision_").count(), 1);
    });
}

/// `base` in another hook or with another priority, a set with another type or flag: what the kernel cannot change in place.
#[test]
fn a_changed_definition_keeps_the_elements_that_fit() {
    in_namespace(async || {
        let world = World::new().await;
        world.apply(&plan(&sample(), &State::default()).steps).await;
        let moved = with_body(&format!("{SETS}{}", CHAIN.replace("priority raw", "priority mangle")));
        world.apply(&plan(&moved, &world.observe().await).steps).await;
        assert_eq!(world.observe().await, moved, "another priority");
        let sized = with_body(&format!("{}{CHAIN}", SETS.replace("type ipv4_addr : mark;", "type ipv4_addr : mark; size 4096;")));
        world.apply(&plan(&sized, &world.observe().await).steps).await;
        assert_eq!(world.observe().await, sized, "another size");
        assert!(run("nft list map inet portway peers").contains("size 4096"));
        let plain =
            with_body(&format!("{}{CHAIN}", SETS.replace("map senders { typeof ip saddr . @th,0,32 .", "map senders { typeof ip saddr .")));
        world.apply(&[Step::ReplaceTable(NftTable::Inet, plain.tables[&NftTable::Inet].clone())]).await;
        let seen = world.observe().await;
        assert_eq!(seen.tables, plain.tables);
        assert!(run("nft list map inet portway senders").contains("typeof ip saddr . @th,32,32 . @th,160,32 : meta mark\n"));
        // Without our memory the old definitions are unknown, and the table is made anew.
        std::fs::remove_file(world.directory.path().join("nft.json")).unwrap();
        let world = world.restarted().await;
        assert_ne!(world.observe().await.tables, plain.tables);
        world.apply(&plan(&sample(), &world.observe().await).steps).await;
        assert_eq!(world.observe().await, sample());
    });
}

#[test]
fn tampering_is_seen_and_undone() {
    in_namespace(async || {
        let world = World::new().await;
        let body = format!("{SETS}{CHAIN}set own {{ type ipv4_addr; elements = {{ 1.2.3.4 }}\n}}");
        let desired = with_body(&body);
        world.apply(&plan(&desired, &State::default()).steps).await;
        for tamper in [
            "nft add rule inet portway before_routing accept",
            "nft flush chain inet portway before_routing",
            "nft add chain inet portway another",
            "nft add element inet portway own '{ 5.6.7.8 }'",
            "nft delete chain inet portway before_routing",
            "nft add map inet portway stray '{ type ipv4_addr : mark; }'",
            "nft delete table inet portway",
            "nft flush map inet portway peers",
            "nft add element inet portway peers '{ 9.9.9.9 : 1 }'",
        ] {
            run(tamper);
            let seen = world.observe().await;
            assert_ne!(seen, desired, "{tamper}");
            world.apply(&plan(&desired, &seen).steps).await;
            assert_eq!(world.observe().await, desired, "{tamper}");
        }
    });
}

#[test]
fn other_tables_are_not_touched_and_a_refused_ruleset_changes_nothing() {
    in_namespace(async || {
        let world = World::new().await;
        run("nft add table inet other; nft add chain inet other c; nft add table ip6 portway");
        world.apply(&plan(&sample(), &State::default()).steps).await;
        let failures = world.kernel.apply(&[Step::ReplaceTable(NftTable::Inet, inet("chain c { nonsense; }"))]).await;
        assert!(failures[0].error.to_string().contains("nonsense"), "{}", explain(&failures));
        assert_eq!(world.observe().await, sample());
        world.apply(&plan(&State::default(), &sample()).steps).await;
        assert_eq!(run("nft list tables"), "table inet other\ntable ip6 portway\n");
    });
}

#[test]
fn the_ingress_of_a_port_has_its_own_table() {
    in_namespace(async || {
        let world = World::new().await;
        run("ip link add port1 type veth peer name port2; ip link set port1 up; ip link set port2 up");
        let body = "map port { type iface_index : mark; }
map port_src { type iface_index . ipv4_addr : mark; }
map port_net { type iface_index . ipv4_addr : mark; flags interval; }
chain whose { meta mark set iif . ip saddr map @port_src; }
chain port_5 { type filter hook ingress device \"port1\" priority -300; policy accept; goto whose; }";
        let port = |name: &str| SetName { table: NftTable::Netdev, name: name.into() };
        let facts = world.kernel.facts().await.unwrap();
        let index = facts.link(&name("port1")).unwrap().index;
        let mark = Some(Mark(0x0001_2001));
        let desired = State {
            tables: [(NftTable::Netdev, Ruleset::new(body.into())), (NftTable::Inet, sample().tables[&NftTable::Inet].clone())].into(),
            elements: [
                (port("port"), [(Element::Interface(index), mark)].into()),
                (port("port_src"), [(Element::InterfaceAddress(index, ip("10.0.0.1")), mark)].into()),
                (port("port_net"), [(Element::InterfacePrefix(index, "10.0.0.0/24".parse().unwrap()), mark)].into()),
            ]
            .into(),
            ..State::default()
        };
        world.apply(&plan(&desired, &State::default()).steps).await;
        assert_eq!(world.observe().await, desired);
        // Depending on the kernel's version the chain goes with its port or stays; the next plan is right either way.
        run("ip link del port1");
        let without = State {
            tables: [(NftTable::Netdev, Ruleset::new(body.lines().take(4).collect::<Vec<_>>().join("\n")))].into(),
            ..State::default()
        };
        world.apply(&plan(&without, &world.observe().await).steps).await;
        assert_eq!(world.observe().await, without);
    });
}
