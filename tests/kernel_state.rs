//! Interfaces, addresses, neighbours, routes, rules, settings, connections: done by us, seen by `ip` and `conntrack`.

mod kernel_support;

use kernel_support::{World, explain, in_namespace, name, run};
use portway::kernel::{Change, tun};
use portway::lab::poll_until;
use portway::model::{GreKey, IfName, Mark};
use portway::plan::{Link, LinkKind, Route, RouteKey, Rule, RuleAction, State, Step, Sysctl, SysctlKey, plan};
use std::collections::BTreeSet;
use std::time::Duration;

fn tun_link() -> Link {
    Link { kind: LinkKind::Tun, mtu: 1400, alias: "portway blue/0".into(), group: IfName::GROUP, up: true }
}

fn add_tun(interface: &str) -> Step {
    Step::AddLink(name(interface), tun_link())
}

fn route(table: u32, destination: &str, metric: u32) -> RouteKey {
    RouteKey { table, destination: destination.parse().unwrap(), metric }
}

fn through(interface: &str, via: Option<&str>, mtu: Option<u32>) -> Route {
    Route::Unicast { interface: name(interface), via: via.map(|via| via.parse().unwrap()), mtu }
}

fn rule(priority: u32, mark: u32, mask: u32, action: RuleAction) -> Rule {
    Rule { priority, mark, mask, action }
}

/// Until an interface is up: the kernel finds its carrier when it comes round to it, and then changes what `ip` tells of its routes.
fn carrier(interface: &str) {
    let up = || run(&format!("ip link show {interface}")).contains("state UP") && !run("ip -4 route show table all").contains("linkdown");
    poll_until(&format!("{interface}, up"), Duration::from_secs(20), || Ok(up())).unwrap();
}

/// One of everything that this kernel can have, without tables.
fn sample() -> State {
    let mut state = State::default();
    state.links.insert(name("pw-1"), tun_link());
    state
        .links
        .insert(name("pw-2"), Link { kind: LinkKind::Tun, mtu: 1300, alias: "portway red/1".into(), group: IfName::GROUP, up: true });
    state.addresses.insert((name("pw-1"), "10.64.0.9/32".parse().unwrap()));
    state.addresses.insert((name("pw-2"), "10.64.1.9/24".parse().unwrap()));
    state.routes.insert(route(0x70001, "172.16.0.0/16", 0), through("pw-1", None, None));
    state.routes.insert(route(0x70001, "172.16.0.0/16", 4278198272), Route::Unreachable);
    state.routes.insert(route(0x70001, "172.16.88.0/24", 0), Route::Throw);
    state.routes.insert(route(0x70002, "10.70.0.0/24", 0), through("pw-2", Some("192.0.2.7"), None));
    state.routes.insert(route(0x70002, "0.0.0.0/0", 5), through("pw-2", None, Some(1280)));
    for interface in ["pw-1", "pw-2"] {
        state.sysctls.extend(SysctlKey::OF_INTERFACE.map(|key| (Sysctl { interface: name(interface), key }, "1".to_owned())));
    }
    state.rules.insert(rule(7000, 0, 0x3fff, RuleAction::Goto(7999)));
    state.rules.insert(rule(7100, 0, 0x3000, RuleAction::Goto(7200)));
    state.rules.insert(rule(7100, 0x1000, 0x3000, RuleAction::Goto(7200)));
    state.rules.insert(rule(7200, 1, 0x3fff, RuleAction::Table(0x70001)));
    state.rules.insert(rule(7200, 2, 0x3fff, RuleAction::Table(0x70002)));
    state.rules.insert(rule(7999, 0, 0, RuleAction::Nop));
    state
}

#[test]
fn what_was_applied_is_observed_and_the_next_plan_is_empty() {
    in_namespace(async || {
        let world = World::new().await;
        let desired = sample();
        let steps = plan(&desired, &world.observe().await).steps;
        world.apply(&steps).await;
        assert_eq!(world.observe().await, desired);
        assert!(plan(&desired, &world.observe().await).is_empty());
        world.apply(&steps).await;
        assert_eq!(world.observe().await, desired, "applied twice");

        let seen = run("ip -d link show pw-1; ip -4 addr show; ip route show table 0x70001; ip route show table 0x70002; ip rule");
        // The kernel marks routes through a device without carrier when it comes round to it.
        let seen = seen.replace(" linkdown", "");
        for line in [
            "mtu 1400",
            "tun type tun pi off vnet_hdr on multi_queue",
            "persist on",
            "alias portway blue/0",
            "inet 10.64.0.9/32 scope global pw-1",
            "inet 10.64.1.9/24 scope global pw-2",
            "172.16.0.0/16 dev pw-1 proto 112 scope link",
            "unreachable 172.16.0.0/16 proto 112 metric 4278198272",
            "throw 172.16.88.0/24 proto 112",
            "10.70.0.0/24 via 192.0.2.7 dev pw-2 proto 112 onlink",
            "default dev pw-2 proto 112 scope link metric 5 mtu 1280",
            "7000:\tfrom all fwmark 0/0x3fff goto 7999",
            "7200:\tfrom all fwmark 0x2/0x3fff lookup 458754",
            "7999:\tfrom all nop",
        ] {
            assert!(seen.contains(line), "{line:?} is missing in\n{seen}");
        }
        assert!(!run("ip -6 addr show").contains("fe80"), "no link-local address");

        world.apply(&plan(&State::default(), &world.observe().await).steps).await;
        assert_eq!(world.observe().await, State::default());
        assert!(!run("ip link; ip rule").contains("pw-"));
    });
}

#[test]
fn changes_replace_what_stands() {
    in_namespace(async || {
        let world = World::new().await;
        let mut desired = sample();
        world.apply(&plan(&desired, &State::default()).steps).await;
        desired.links.get_mut(&name("pw-1")).unwrap().mtu = 1380;
        desired.links.get_mut(&name("pw-1")).unwrap().alias = "portway green/3".into();
        desired.routes.insert(route(0x70001, "172.16.0.0/16", 0), Route::Unreachable);
        desired.routes.insert(route(0x70001, "172.16.88.0/24", 0), through("pw-1", None, None));
        desired.routes.insert(route(0x70002, "10.70.0.0/24", 0), through("pw-2", Some("192.0.2.8"), Some(1200)));
        world.apply(&plan(&desired, &world.observe().await).steps).await;
        assert_eq!(world.observe().await, desired);
    });
}

#[test]
fn what_is_not_ours_stays_and_is_not_seen() {
    in_namespace(async || {
        let world = World::new().await;
        run("ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up; ip addr add 192.0.2.1/24 dev eth0
             ip route add 10.9.0.0/16 dev eth0 table 0x70001; ip route add 10.8.0.0/16 dev eth0 proto 112
             ip rule add pref 6999 fwmark 1 lookup 100; ip rule add pref 8000 fwmark 1 lookup 100");
        assert_eq!(world.observe().await, State::default());
        carrier("eth0");
        let before = run("ip rule; ip -4 route show table all; ip -4 addr show eth0");
        world.apply(&plan(&sample(), &State::default()).steps).await;
        world.apply(&plan(&State::default(), &world.observe().await).steps).await;
        assert_eq!(run("ip rule; ip -4 route show table all; ip -4 addr show eth0"), before);
    });
}

/// The kernel reads metric 0 and mark 0 in a removal as "any".
#[test]
fn removing_what_is_gone_takes_nothing_else() {
    in_namespace(async || {
        let world = World::new().await;
        let desired = sample();
        world.apply(&plan(&desired, &State::default()).steps).await;
        run("ip route del 172.16.0.0/16 table 0x70001 proto 112 metric 0 dev pw-1");
        run("ip rule del pref 7100 fwmark 0/0x3000 goto 7200 protocol 113");
        world
            .apply(&[
                Step::RemoveRoute(route(0x70001, "172.16.0.0/16", 0)),
                Step::RemoveRule(rule(7100, 0, 0x3000, RuleAction::Goto(7200))),
                Step::RemoveAddress(name("pw-1"), "10.1.1.1/32".parse().unwrap()),
                Step::RemoveAddress(name("pw-77"), "10.1.1.1/32".parse().unwrap()),
                Step::RemoveNeighbour(name("pw-1"), "10.1.1.1".parse().unwrap()),
                Step::RemoveNeighbour(name("pw-77"), "10.1.1.1".parse().unwrap()),
                Step::RemoveLink(name("pw-77")),
            ])
            .await;
        let seen = world.observe().await;
        assert_eq!(seen.routes.get(&route(0x70001, "172.16.0.0/16", 4278198272)), Some(&Route::Unreachable));
        assert!(seen.rules.contains(&rule(7100, 0x1000, 0x3000, RuleAction::Goto(7200))));
        assert_eq!((seen.routes.len(), seen.rules.len()), (desired.routes.len() - 1, desired.rules.len() - 1));
    });
}

#[test]
fn strange_things_under_our_names_are_seen_and_removed() {
    in_namespace(async || {
        let world = World::new().await;
        run("ip link add pw-5 type veth peer name peer5; ip tuntap add pw-6 mode tap; ip link set pw-5 up
             ip rule add pref 7200 from 10.0.0.1 fwmark 1/0x3fff lookup 0x70001
             ip rule add pref 7300 not fwmark 1/0x3fff lookup 0x70001
             ip neigh add 10.0.0.7 lladdr 02:00:00:00:00:01 dev pw-5 nud permanent");
        let seen = world.observe().await;
        assert_eq!(seen.links[&name("pw-5")].kind, LinkKind::Other("veth".into()));
        assert_eq!(seen.links[&name("pw-6")].kind, LinkKind::Other("tun".into()));
        assert_eq!(seen.neighbours.len(), 1);
        assert_eq!(seen.rules.len(), 2);
        let desired = State { rules: [rule(7200, 1, 0x3fff, RuleAction::Table(0x70001))].into(), ..State::default() };
        world.apply(&plan(&desired, &seen).steps).await;
        assert_eq!(world.observe().await, desired);
        assert!(!run("ip rule").contains("10.0.0.1"));
    });
}

#[test]
fn a_failure_names_its_step_and_the_rest_is_done() {
    in_namespace(async || {
        let world = World::new().await;
        let steps = [
            add_tun("pw-1"),
            Step::AddLink(name("pw-2"), Link { mtu: 70_000, ..tun_link() }),
            Step::AddAddress(name("pw-9"), "10.0.0.1/32".parse().unwrap()),
            Step::AddAddress(name("pw-1"), "10.0.0.2/32".parse().unwrap()),
            Step::SetRoute(route(0x70001, "10.1.0.0/16", 0), through("pw-9", None, None)),
            Step::SetRoute(route(0x70001, "10.2.0.0/16", 0), through("pw-1", None, None)),
        ];
        let failures = world.kernel.apply(&steps).await;
        let failed: Vec<_> = failures.iter().map(|failure| &failure.step).collect();
        assert_eq!(failed, [&steps[1], &steps[2], &steps[4]], "{}", explain(&failures));
        assert_eq!(failures[1].error.to_string(), "there is no interface pw-9");
        let seen = world.observe().await;
        assert_eq!((seen.addresses.len(), seen.routes.len()), (1, 1));
    });
}

#[test]
fn a_standing_tun_is_adopted_and_opened_once_more() {
    in_namespace(async || {
        let world = World::new().await;
        world.apply(&[add_tun("pw-1")]).await;
        let first = tun::open_tun(&name("pw-1")).unwrap();
        let second = tun::open_tun(&name("pw-1")).unwrap();
        drop((first, second));
        world.apply(&[add_tun("pw-1")]).await;
        assert_eq!(world.observe().await.links[&name("pw-1")], tun_link());
    });
}

/// Whether `ip` can make one says whether we should think so.
#[test]
fn gre_is_there_or_not_and_asking_makes_no_interface() {
    in_namespace(async || {
        let world = World::new().await;
        let has = world.kernel.has_gre().await;
        assert!(!run("ip link").contains("pw-"));
        let ip = std::process::Command::new("ip").args("link add test type gre local 192.0.2.1 key 1".split(' ')).output().unwrap();
        assert_eq!(has, ip.status.success());
        let gre = LinkKind::Gre { local: "192.0.2.1".parse().unwrap(), remote: None, key: GreKey(7) };
        let link = Link { kind: gre, mtu: 1400, alias: "portway blue/0".into(), group: IfName::GROUP, up: true };
        let failures = world.kernel.apply(&[Step::AddLink(name("pw-1"), link.clone())]).await;
        assert_eq!(failures.is_empty(), has, "{}", explain(&failures));
        if has {
            assert_eq!(world.observe().await.links[&name("pw-1")], link);
        }
    });
}

#[test]
fn facts_are_about_the_others() {
    in_namespace(async || {
        let world = World::new().await;
        run("ip link add br0 type bridge; ip netns list >/dev/null
             ip link add eth0 mtu 1450 type veth peer name eth1; ip link set eth1 master br0; ip link set eth0 up
             ip addr add 192.0.2.1/24 dev eth0; ip addr add 192.0.2.9/32 dev eth0");
        world.apply(&[add_tun("pw-1")]).await;
        let facts = world.kernel.facts().await.unwrap();
        // A kernel with ip_gre puts three devices of its own into every namespace.
        let fallback = ["erspan0", "gre0", "gretap0"];
        let names: Vec<_> = facts.links.keys().map(|name| name.as_str()).filter(|name| !fallback.contains(name)).collect();
        assert_eq!(names, ["br0", "eth0", "eth1", "lo"]);
        let eth0 = facts.link(&name("eth0")).unwrap();
        assert_eq!((eth0.kind.as_deref(), eth0.mtu, eth0.up, eth0.master), (Some("veth"), 1450, true, None));
        assert!(run("ip -o link show eth0").starts_with(&format!("{}: eth0", eth0.index)));
        assert_eq!(eth0.addresses, ["192.0.2.1/24".parse().unwrap(), "192.0.2.9/32".parse().unwrap()]);
        let bridge = facts.links[&name("eth1")].master.unwrap();
        assert_eq!(facts.by_index(bridge).unwrap().0.as_str(), "br0");
    });
}

#[test]
fn what_interfaces_and_their_drivers_have_counted_is_told() {
    in_namespace(async || {
        let world = World::new().await;
        run("ip link add out0 type veth peer name out1");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            socket.send_to(&[0; 100], "127.0.0.1:9").unwrap();
        }
        let links =
            |names: &str| serde_json::from_str::<serde_json::Value>(&run(&format!("ip -s -j link show {names}"))).unwrap()[0].clone();
        let (seen, ip) = (world.kernel.traffic(&name("lo")).unwrap().unwrap(), links("lo"));
        let of = |way: &str| ["packets", "bytes"].map(|what| ip["stats64"][way][what].as_u64().unwrap());
        assert_eq!([seen.traffic.received_packets, seen.traffic.received_bytes], of("rx"));
        assert_eq!([seen.traffic.sent_packets, seen.traffic.sent_bytes], of("tx"));
        assert!(seen.traffic.received_packets >= 3 && seen.traffic.received_bytes >= 3 * 128, "{seen:?}");
        assert_eq!((u64::from(seen.index), seen.lower), (ip["ifindex"].as_u64().unwrap(), None));
        assert_eq!(world.kernel.traffic(&name("nowhere0")).unwrap(), None);
        assert_eq!(world.kernel.traffic(&name("out0")).unwrap().unwrap().lower, None, "the other end is no lower one");

        let counters = |interface, wanted: fn(&str) -> bool| world.kernel.driver_counters(&name(interface), wanted).unwrap();
        let peer = links("out1")["ifindex"].as_u64().unwrap();
        assert_eq!(counters("out0", |name| name == "peer_ifindex"), [("peer_ifindex".to_owned(), peer)]);
        let all = counters("out0", |_| true);
        assert!(all.len() > 1 && all.iter().all(|(name, _)| name.is_ascii() && !name.is_empty()), "{all:?}");
        assert_eq!(counters("out0", |name| name == "pps_allowance_exceeded"), []);
        assert_eq!(counters("lo", |_| true), [], "its driver counts nothing");
        assert_eq!(counters("nowhere0", |_| true), []);

        let setting = |name: &str| run(&format!("cat /proc/sys/net/netfilter/nf_conntrack_{name}")).trim().parse::<u64>().unwrap();
        let conntrack = world.kernel.conntrack_use().unwrap();
        assert_eq!((conntrack.entries, conntrack.limit), (setting("count"), Some(setting("max"))));
    });
}

#[test]
fn settings_are_given_back_also_after_a_restart() {
    in_namespace(async || {
        let world = World::new().await;
        run(
            "ip link add eth0 type veth peer name eth1; ip link add eth.5 type veth peer name eth6; echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding",
        );
        let forwarding = |interface| Sysctl { interface: name(interface), key: SysctlKey::Forwarding };
        let mark = Sysctl { interface: name("eth.5"), key: SysctlKey::SrcValidMark };
        let interest = BTreeSet::from([forwarding("eth0"), forwarding("lo")]);
        let before = world.kernel.observe(&interest).await.unwrap().sysctls;
        assert_eq!((before.len(), before[&forwarding("eth0")].as_str()), (2, "0"));
        let set = [Step::SetSysctl(forwarding("eth0"), "1".into()), Step::SetSysctl(mark.clone(), "1".into())];
        world.apply(&set).await;
        world.apply(&set).await;
        assert_eq!(run("cat /proc/sys/net/ipv4/conf/eth0/forwarding /proc/sys/net/ipv4/conf/eth.5/src_valid_mark"), "1\n1\n");

        let world = world.restarted().await;
        let seen = world.observe().await.sysctls;
        assert_eq!(seen, [(forwarding("eth0"), "1".to_owned()), (mark.clone(), "1".to_owned())].into(), "what we changed is ours");
        run("ip link del eth.5");
        let failures = world.kernel.apply(&[Step::SetSysctl(mark.clone(), "1".into())]).await;
        assert_eq!(failures.len(), 1, "an interface that is gone cannot be set");
        run("ip link add eth.5 type veth peer name eth6; echo 1 > /proc/sys/net/ipv4/conf/eth.5/src_valid_mark");
        world.apply(&[Step::RestoreSysctl(forwarding("eth0")), Step::RestoreSysctl(mark.clone())]).await;
        assert_eq!(
            run("cat /proc/sys/net/ipv4/conf/eth0/forwarding /proc/sys/net/ipv4/conf/eth.5/src_valid_mark"),
            "0\n1\n",
            "the new one keeps its own"
        );
        assert!(world.observe().await.sysctls.is_empty());
    });
}

#[test]
fn connections_of_one_who_are_deleted_in_every_zone() {
    in_namespace(async || {
        let world = World::new().await;
        for (port, mark, zone) in [(1, 0x0001_0001, 1), (2, 0x0001_0002, 2), (3, 0x0002_0001, 1), (4, 0, 0)] {
            run(&format!(
                "conntrack -I -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 80 --state ESTABLISHED -t 100 --mark {mark} -w {zone}"
            ));
        }
        world.kernel.delete_conntrack_by_mark(Mark(0x0001_0000), 0xffff_0000).await.unwrap();
        let left = run("conntrack -L -o extended 2>/dev/null");
        let ports: Vec<_> = left.lines().filter_map(|line| line.split_whitespace().find_map(|word| word.strip_prefix("sport="))).collect();
        assert_eq!(BTreeSet::from_iter(ports.iter().filter(|port| **port != "80")), BTreeSet::from([&"3", &"4"]), "{left}");
        world.kernel.delete_conntrack_by_mark(Mark(0x0009_0000), 0xffff_0000).await.unwrap();
    });
}

#[test]
fn what_others_change_is_told_and_what_we_change_is_not() {
    in_namespace(async || {
        let world = World::new().await;
        let mut watch = world.kernel.watch().await.unwrap();
        let mut desired = sample();
        desired.tables = Default::default();
        world.apply(&plan(&desired, &State::default()).steps).await;
        let mut told = async |command: &str, change: &dyn Fn(&Change) -> bool| {
            run(command);
            loop {
                let next = tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
                let next = next.unwrap_or_else(|_| panic!("{command}: nothing was told")).unwrap();
                if change(&next) {
                    break;
                }
                assert_ne!(next, Change::Overflow);
            }
        };
        told("ip rule del pref 7999", &|c| *c == Change::Rule).await;
        told("ip route del 10.70.0.0/24 table 0x70002", &|c| *c == Change::Route).await;
        told("ip addr del 10.64.0.9/32 dev pw-1", &|c| *c == Change::Address).await;
        run(
            "ip link add pw-5 type veth peer name peer5; ip link set pw-5 up; ip neigh add 10.0.0.7 lladdr 02:00:00:00:00:01 dev pw-5 nud permanent",
        );
        told("ip neigh del 10.0.0.7 dev pw-5", &|c| *c == Change::Neighbour).await;
        run("echo 1 > /proc/sys/net/ipv4/conf/pw-5/forwarding");
        told("echo 0 > /proc/sys/net/ipv4/conf/pw-5/forwarding", &|c| *c == Change::Forwarding).await;
        told("nft add table inet other", &|c| *c == Change::Nft).await;
        told("ip link del pw-1", &|c| matches!(c, Change::Link { name: Some(n), gone: true, .. } if n.as_str() == "pw-1")).await;
        run("ip neigh add 10.0.0.7 lladdr 02:00:00:00:00:01 dev pw-5 nud permanent");
        // Only what we do ourselves from here on: nothing of it is told before the last command's notice.
        while tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_ok() {}
        world.apply(&[Step::SetRoute(route(0x70002, "10.71.0.0/24", 0), through("pw-2", None, None))]).await;
        world.apply(&[Step::AddRule(rule(7999, 0, 0, RuleAction::Nop))]).await;
        world.apply(&[Step::RemoveNeighbour(name("pw-5"), "10.0.0.7".parse().unwrap())]).await;
        assert!(!run("ip neigh show dev pw-5").contains("10.0.0.7"));
        run("nft add table inet another");
        // The kernel itself tells of a new link's carrier up to a second late (linkwatch): no change of ours or another's.
        let next = loop {
            match watch.next().await.unwrap() {
                Change::Link { gone: false, .. } => {}
                other => break other,
            }
        };
        assert_eq!(next, Change::Nft);
    });
}
