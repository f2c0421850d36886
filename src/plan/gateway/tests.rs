use super::*;
use crate::config::{Allow, Authentication, Backend, Cast, Ha, HaVip, Platform, TunnelKind};
use crate::model::PrivateKey;
use crate::model::{AdvertInterval, ChecksumForm, GreKey, PortRange, ShardId, Vrid, VrrpVersion};
use crate::plan::facts::LinkFacts;
use crate::plan::plan;
use ends::Keys;
use std::time::{Duration, Instant};

fn port(n: u16) -> PortRange {
    PortRange::new(n, n).unwrap()
}

fn to(address: [u8; 4]) -> Snat {
    Snat::To { address: address.into(), ports: PortRange::new(1024, 65535).unwrap() }
}

pub fn gateway(tenants: &[&str], peers: u8) -> Gateway {
    let tenant = |(n, name): (usize, &&str)| GatewayTenant {
        name: name.parse().unwrap(),
        interface: format!("eni{n}").parse().unwrap(),
        router: None,
        allow: vec![Allow { to: "172.16.0.0/16".parse().unwrap(), tcp: vec![port(5432)], udp: vec![], icmp: true }],
        shards: vec![GatewayShard {
            shard: ShardId(0),
            local: [10, 9, 0, 1].into(),
            tunnel: GatewayTunnel::Gre { key: GreKey(7 + u32::try_from(n).unwrap()) },
            snat: to([172, 16, 101, 10]),
            havip: None,
        }],
        inner: "10.64.0.0/16".parse().unwrap(),
        track: vec![],
    };
    let peer = |n: u8| StaticPeer {
        host: format!("host-{n}").parse().unwrap(),
        end: PeerEnd::Gre { outer: [10, 9, 0, n].into() },
        inner: tenants.iter().map(|name| (name.parse().unwrap(), vec![IpAddr::from([10, 64, 0, n]).into()])).collect(),
    };
    Gateway {
        node: "gw-1".parse().unwrap(),
        platform: Platform { interface: "plat0".parse().unwrap(), address: [10, 9, 0, 1].into(), mtu: None, tunnel: TunnelKind::Gre },
        backend: Backend::Auto,
        runtime_dir: "/run/portway".into(),
        admin: "127.0.0.1:9470".parse().unwrap(),
        admin_names: Default::default(),
        ha: None,
        tenants: tenants.iter().enumerate().map(tenant).collect(),
        peers: (11..11 + peers).map(peer).collect(),
        directory: None,
        idle: std::time::Duration::from_secs(300),
        flow_log: None,
        cloud: None,
    }
}

fn facts() -> Facts {
    let link = |mtu, address: &str| LinkFacts { mtu, up: true, addresses: vec![address.parse().unwrap()], ..LinkFacts::default() };
    Facts {
        links: [
            ("plat0".parse().unwrap(), link(1500, "10.9.0.1/24")),
            ("eni0".parse().unwrap(), link(1500, "172.16.101.4/24")),
            ("eni1".parse().unwrap(), link(1500, "172.16.101.4/24")),
        ]
        .into(),
        flow_tables: true,
    }
}

/// Each shard's key is the same, and the next one another.
fn ends(config: &Gateway) -> Ends {
    let mut ends = Ends::default();
    let keys = config.served().filter_map(|(tenant, shard)| match &shard.tunnel {
        GatewayTunnel::Gre { .. } => None,
        GatewayTunnel::Wireguard { port, next, .. } => {
            let next = next.as_ref().map(|next| (PrivateKey::new([8; 32]), next.port));
            Some((tenant.of(shard.shard), Keys { present: (PrivateKey::new([7; 32]), *port), next }))
        }
    });
    ends.want(keys, Instant::now());
    ends
}

fn state(config: &Gateway, carrier: Carrier) -> State {
    state_with(config, carrier, &facts())
}

fn state_with(config: &Gateway, carrier: Carrier, facts: &Facts) -> State {
    let (mut slots, mut peers) = (Slots::default(), Numbers::new(u16::MAX));
    slots.assign(&shards(config)).unwrap();
    peers.assign(&config.peers.iter().filter_map(StaticPeer::outer).collect::<Vec<_>>()).unwrap();
    let hosts: Vec<_> = config.peers.iter().collect();
    let ends = ends(config);
    desired(&Inputs {
        config,
        carrier,
        facts,
        copies: true,
        hosts: &hosts,
        slots: &slots,
        peers: &peers,
        ends: &ends,
        heard: &Heard::new(),
        holds: &BTreeSet::new(),
        admitted: &BTreeMap::new(),
    })
}

#[test]
fn a_kernel_tunnel_is_one_device_however_many_hosts_there_are() {
    let state = state(&gateway(&["acme"], 200), Carrier::Kernel);
    assert_eq!(state.links.len(), 1);
    assert_eq!(state.neighbours.len(), 200);
}

#[test]
fn an_inner_address_leads_to_its_host() {
    let state = state(&gateway(&["acme"], 1), Carrier::Kernel);
    let key = RouteKey { table: 0x70001, destination: "10.64.0.11/32".parse().unwrap(), metric: 1 };
    let route = Route::Unicast { interface: "pw-1".parse().unwrap(), via: Some([10, 9, 0, 11].into()), mtu: None };
    assert_eq!(state.routes.get(&key), Some(&route));
}

#[test]
fn every_table_ends_in_unreachable() {
    let state = state(&gateway(&["acme", "blue"], 1), Carrier::Userspace);
    let last =
        |table| state.routes.iter().filter(|(key, _)| key.table == table).max_by_key(|(key, _)| key.metric).map(|(_, route)| route.clone());
    assert_eq!(state.ruled_tables().into_iter().map(last).collect::<Vec<_>>(), [Some(Route::Unreachable), Some(Route::Unreachable)]);
}

#[test]
fn tenants_with_equal_addresses_have_tables_and_zones_of_their_own() {
    let state = state(&gateway(&["acme", "blue"], 1), Carrier::Userspace);
    let inner: Vec<u32> = state.routes.keys().filter(|key| key.destination.prefix_len() == 32).map(|key| key.table).collect();
    assert_eq!(inner, [0x70001, 0x70002]);
    let body = &state.tables[&NftTable::Inet].body;
    assert!(body.contains("ct zone set 8193") && body.contains("ct zone set 8194"));
}

#[test]
fn who_asks_for_an_address_is_looked_up_in_its_own_tenants_table() {
    let state = state(&gateway(&["acme", "blue"], 1), Carrier::Userspace);
    let body = &state.tables[&NftTable::Netdev].body;
    assert!(body.contains("device \"eni1\" priority -300; policy accept;\nmeta protocol arp meta mark set 0x2002"), "{body}");
}

#[test]
fn established_connections_take_the_short_way_where_the_kernel_has_one() {
    let config = gateway(&["acme"], 1);
    let with = state(&config, Carrier::Kernel);
    assert_eq!(with.flow_devices.iter().map(IfName::as_str).collect::<Vec<_>>(), ["eni0", "pw-1"]);
    let body = &with.tables[&NftTable::Inet].body;
    assert_eq!(body.matches("flow add @fast").count(), 2, "{body}");
    let names: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let many = state(&gateway(&names.iter().map(String::as_str).collect::<Vec<_>>(), 1), Carrier::Kernel);
    assert!(many.flow_devices.is_empty(), "more than the kernel can tell of");
    let without = state_with(&config, Carrier::Kernel, &Facts { flow_tables: false, ..facts() });
    assert!(without.flow_devices.is_empty() && !without.tables[&NftTable::Inet].body.contains("fast"));
}

#[test]
fn one_tenant_alone_has_its_zone_too_as_a_second_one_may_come_under_its_connections() {
    let (one, two) = (state(&gateway(&["acme"], 1), Carrier::Userspace), state(&gateway(&["acme", "blue"], 1), Carrier::Userspace));
    let zones = |state: &State, zone| state.tables[&NftTable::Inet].body.matches(&format!("ct zone set {zone}\n")).count();
    assert_eq!((zones(&one, 8193), zones(&two, 8193), zones(&two, 8194)), (2, 2, 2));
    assert!(!one.tables.contains_key(&NftTable::Netdev));
}

#[test]
fn one_host_more_is_a_handful_of_steps() {
    let (before, after) = (state(&gateway(&["acme"], 100), Carrier::Kernel), state(&gateway(&["acme"], 101), Carrier::Kernel));
    let steps: Vec<String> = plan(&after, &before).steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "+ neighbour 10.9.0.111 on pw-1 at 10.9.0.111",
            "+ element inet portway @peers 10.9.0.111 : 0x00650000",
            "+ element inet portway @senders 10.9.0.111 . key 7 . 10.64.0.111 : 0x00652001",
            "+ route 10.64.0.111/32 table 0x70001 metric 101 dev pw-1 via 10.9.0.111 onlink",
        ]
    );
}

#[test]
fn a_restarted_gateway_gives_every_host_the_number_it_had() {
    let config = gateway(&["acme"], 50);
    let before = state(&config, Carrier::Kernel);
    let mut recovered = recover_peers(&before);
    recovered.assign(&config.peers.iter().rev().filter_map(StaticPeer::outer).collect::<Vec<_>>()).unwrap();
    assert_eq!(recovered, recover_peers(&before));
}

#[test]
fn the_translated_address_is_added_unless_it_is_there() {
    let mut config = gateway(&["acme"], 0);
    assert!(state(&config, Carrier::Userspace).addresses.contains(&("eni0".parse().unwrap(), "172.16.101.10/32".parse().unwrap())));
    config.tenants[0].shards[0].snat = to([172, 16, 101, 4]);
    assert!(state(&config, Carrier::Userspace).addresses.is_empty());
}

/// As `gateway`, every shard shared with another node.
fn pair(tenants: &[&str]) -> Gateway {
    use crate::config::{Authentication, Cast, HaVip};
    let mut config = gateway(tenants, 1);
    config.ha = Some(crate::config::Ha {
        nodes: [("gw-1".parse().unwrap(), [10, 9, 0, 1].into()), ("gw-2".parse().unwrap(), [10, 9, 0, 2].into())].into(),
        interval: Default::default(),
        version: Default::default(),
        checksum: Default::default(),
        cast: Cast::Unicast,
        preempt: None,
        accept: false,
        authentication: Authentication::Hmac,
        keys: vec![],
        sync_port: 3790,
        track: vec![],
        lifecycle: None,
        eligible: None,
        retained: BTreeSet::new(),
        leaving: BTreeSet::new(),
    });
    for (tenant, n) in config.tenants.iter_mut().zip(50..) {
        tenant.shards[0].local = [10, 9, 0, n].into();
        tenant.shards[0].havip = Some(HaVip { vrid: n.try_into().unwrap(), priority: None });
    }
    config
}

/// The rules of a chain.
fn chain<'a>(body: &'a str, name: &str) -> Vec<&'a str> {
    let lines = body.lines().skip_while(|line| !line.starts_with(&format!("chain {name} {{"))).skip(1);
    lines.take_while(|line| *line != "}").collect()
}

#[test]
fn what_routers_say_of_our_tunnels_is_heard_though_a_havip_accepts_nothing() {
    let config = pair(&["acme"]);
    let state = state(&config, Carrier::Kernel);
    let input = chain(&state.tables[&NftTable::Inet].body, "input");
    let at = |begins: &str| input.iter().position(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("{begins}: {input:#?}"));
    assert!(at("ip daddr 10.9.0.50 icmp type { destination-unreachable") < at("ip daddr 10.9.0.50 ip protocol != gre"));
}

#[test]
fn a_havip_is_nothing_at_an_interface_that_is_not_its_own() {
    let mut config = pair(&["acme", "blue"]);
    let fenced = |config: &Gateway, facts: &Facts, chain_name: &str| {
        let fence = &state_with(config, Carrier::Kernel, facts).tables[&NftTable::Netdev].body.clone();
        let rules = chain(fence, chain_name).into_iter().filter(|line| line.starts_with("arp")).map(str::to_owned);
        rules.collect::<Vec<_>>()
    };
    // Both tenants have 172.16.101.10: at neither interface is it a stranger.
    assert_eq!(fenced(&config, &facts(), "out_0"), ["arp saddr ip { 172.16.101.10 } drop"]);
    assert_eq!(fenced(&config, &facts(), "out_1"), ["arp saddr ip { 10.9.0.50, 10.9.0.51 } drop"]);
    assert_eq!(
        fenced(&config, &facts(), "in_0"),
        ["arp daddr ip { 172.16.101.10 } arp operation request arp saddr ip . arp daddr ip != { 172.16.101.10 . 172.16.101.10 } drop"]
    );
    config.tenants[1].shards[0].snat = to([172, 16, 101, 11]);
    assert_eq!(fenced(&config, &facts(), "out_1"), ["arp saddr ip { 10.9.0.50, 10.9.0.51, 172.16.101.11 } drop"]);
    assert_eq!(fenced(&config, &facts(), "out_2"), ["arp saddr ip { 10.9.0.50, 10.9.0.51, 172.16.101.10 } drop"]);
    // Nor where the node has the same address for its own.
    let mut own = facts();
    own.links.get_mut(&"eni0".parse::<IfName>().unwrap()).unwrap().addresses.push("172.16.101.11/24".parse().unwrap());
    assert_eq!(fenced(&config, &own, "out_1"), ["arp saddr ip { 10.9.0.50, 10.9.0.51 } drop"]);
    let body = &state_with(&config, Carrier::Kernel, &own).tables[&NftTable::Inet].body.clone();
    let rules = chain(body, "output");
    for rule in [
        "ip saddr { 10.9.0.50, 10.9.0.51 } oifname != { \"lo\", \"plat0\" } counter name drop_from_elsewhere drop",
        "ip saddr { 172.16.101.10 } oifname != { \"eni0\", \"lo\" } counter name drop_from_elsewhere drop",
        "ip saddr { 172.16.101.11 } oifname != { \"eni0\", \"eni1\", \"lo\" } counter name drop_from_elsewhere drop",
    ] {
        assert!(rules.contains(&rule), "{rule}: {rules:#?}");
    }
    assert!(chain(body, "input").contains(&"ip daddr { 172.16.101.10 } iifname != { \"eni0\", \"lo\" } counter name drop_to_node drop"));
}

#[test]
fn probes_have_a_zone_of_their_own_and_are_not_translated() {
    use crate::config::{HaVip, HttpCheck, Probe, Target, Tracked, Watched};
    use crate::model::Cost;
    use std::time::Duration;
    let body = |config: &Gateway| state(config, Carrier::Kernel).tables[&NftTable::Inet].body.clone();
    let mut config = gateway(&["acme", "blue"], 1);
    for tenant in &mut config.tenants {
        tenant.shards[0].havip = Some(HaVip { vrid: 51.try_into().unwrap(), priority: None });
    }
    assert!(!body(&config).contains("answers"));
    let tracked = |target| {
        let second = Duration::from_secs(1);
        let watched = Watched::Probe(Probe { target, every: second, timeout: second, rise: 2, fall: 3 });
        Tracked { watched, cost: Cost::DEFAULT }
    };
    let server: IpAddr = [172, 16, 101, 20].into();
    let check = HttpCheck { at: (server, 80).into(), path: "/".into(), expect: Default::default() };
    config.tenants[1].track =
        vec![tracked(Target::Tcp((server, 5432).into())), tracked(Target::Http(check)), tracked(Target::Icmp(server))];
    let probing = body(&config);
    let lines = probing.lines().map(str::trim).filter(|line| line.contains("24578") || line.contains("answers"));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "chain answers_2 {",
            "ip saddr . tcp sport { 172.16.101.20 . 5432, 172.16.101.20 . 80 } meta mark set 0x2002 ct zone set 24578",
            "ip saddr { 172.16.101.20 } icmp type echo-reply meta mark set 0x2002 ct zone set 24578",
            "ip daddr != 172.16.101.10 goto answers_2",
            "meta mark 0x2002 oifname \"eni1\" ip daddr . tcp dport { 172.16.101.20 . 5432, 172.16.101.20 . 80 } ct zone set 24578",
            "meta mark 0x2002 oifname \"eni1\" ip daddr { 172.16.101.20 } icmp type echo-request ct zone set 24578",
            "oifname \"eni1\" ct zone 24578 accept",
        ]
    );
}

/// The same gateway with WireGuard tunnels.
fn wireguard(tenants: &[&str], peers: u8) -> Gateway {
    let mut config = gateway(tenants, peers);
    config.platform.tunnel = TunnelKind::Wireguard;
    for (port, tenant) in (51820..).zip(&mut config.tenants) {
        tenant.shards[0].tunnel = GatewayTunnel::Wireguard { private_key: "/etc/portway/wg.key".into(), port, next: None };
    }
    for (n, peer) in (1..).zip(&mut config.peers) {
        peer.end = PeerEnd::Wireguard { public_key: PrivateKey::new([n; 32]).public() };
    }
    config
}

#[test]
fn a_wireguard_tunnel_is_one_device_with_a_peer_for_each_host() {
    let config = wireguard(&["acme", "umbrella"], 3);
    let state = state(&config, Carrier::Kernel);
    assert_eq!(state.links.len(), 2);
    for (name, link) in &state.links {
        assert!(matches!(link.kind, LinkKind::Wireguard { .. }), "{name}: {link}");
        assert_eq!(link.mtu, 1440);
    }
    assert_eq!(state.wireguard.len(), 6);
    assert!(state.neighbours.is_empty() && state.elements.is_empty(), "{state:?}");
    let route = RouteKey { table: 0x70001, destination: "10.64.0.11/32".parse().unwrap(), metric: 0 };
    assert_eq!(state.routes[&route], Route::Unicast { interface: "pw-1".parse().unwrap(), via: None, mtu: None });
}

#[test]
fn while_its_key_is_changed_a_shard_has_two_interfaces_and_each_host_the_one_where_it_was_heard() {
    let mut config = wireguard(&["acme"], 2);
    let GatewayTunnel::Wireguard { next, .. } = &mut config.tenants[0].shards[0].tunnel else { panic!("no WireGuard") };
    *next = Some(crate::config::NextKey { private_key: "/etc/portway/next.key".into(), port: 51819 });
    let mut slots = Slots::default();
    slots.assign(&shards(&config)).unwrap();
    let (ends, facts, numbers) = (ends(&config), facts(), Numbers::new(u16::MAX));
    let hosts: Vec<_> = config.peers.iter().collect();
    let (of, stranger) = (TenantShard { tenant: "acme".parse().unwrap(), shard: ShardId(0) }, PrivateKey::new([99; 32]).public());
    let heard = |keys: &[PublicKey]| Heard::from([(of.clone(), keys.iter().map(|key| (*key, Lane::Second)).collect())]);
    let heard = heard(&[hosts[1].end.public_key().unwrap(), stranger]);
    let admitted = [(of.clone(), Arc::new(Admitted::from([(stranger, vec!["10.64.7.7/32".parse().unwrap()])])))].into();
    let inputs = Inputs {
        config: &config,
        carrier: Carrier::Kernel,
        facts: &facts,
        copies: true,
        hosts: &hosts,
        slots: &slots,
        peers: &numbers,
        ends: &ends,
        heard: &heard,
        holds: &BTreeSet::new(),
        admitted: &admitted,
    };
    let state = desired(&inputs);
    let ports: Vec<_> = state.links.iter().map(|(name, link)| (name.as_str(), link.kind.clone())).collect();
    let kind = |n, port| LinkKind::Wireguard { key: PrivateKey::new([n; 32]), port };
    assert_eq!(ports, [("pw-1", kind(7, 51820)), ("pw-1-b", kind(8, 51819))]);
    assert_eq!(state.wireguard.len(), 6, "everybody at both");
    let way = |to: &str| match &state.routes[&RouteKey { table: 0x70001, destination: to.parse().unwrap(), metric: 0 }] {
        Route::Unicast { interface, .. } => interface.as_str(),
        other => panic!("{other:?}"),
    };
    assert_eq!(["10.64.0.11/32", "10.64.0.12/32", "10.64.7.7/32"].map(way), ["pw-1", "pw-1-b", "pw-1-b"]);
    assert_eq!(state.sysctls[&Sysctl { interface: "pw-1".parse().unwrap(), key: SysctlKey::RpFilter }], "2");
    assert!(["pw-1", "pw-1-b"].iter().all(|tunnel| state.addresses.contains(&(tunnel.parse().unwrap(), "192.0.0.8/32".parse().unwrap()))));
    let body = &state.tables[&NftTable::Inet].body;
    assert!(body.contains("udp dport { 51819, 51820 } fib daddr type local counter name drop_wrong_interface drop"), "{body}");
    assert!(body.contains("\"pw-1-b\" : goto from_tunnel_1"), "{body}");
}

#[test]
fn what_wireguard_sends_comes_from_the_address_that_hosts_know() {
    let body = state(&wireguard(&["acme", "umbrella"], 1), Carrier::Kernel).tables[&NftTable::Inet].body.clone();
    for line in [
        "udp sport 51821 ip saddr != 10.9.0.1 ip saddr set 10.9.0.1 notrack accept",
        "udp dport { 51820, 51821 } fib daddr type local counter name drop_wrong_interface drop",
        "ip daddr . udp dport { 10.9.0.1 . 51820, 10.9.0.1 . 51821 } counter name drop_wrong_interface drop",
        "ip protocol { 4, 41, 47, 97 } counter name drop_nested drop",
        // What is brought before the interface once more.
        "iif \"lo\" ip daddr . udp dport { 10.9.0.1 . 51820, 10.9.0.1 . 51821 } fib saddr type != local notrack accept",
        "oif \"lo\" ip daddr . udp dport { 10.9.0.1 . 51820, 10.9.0.1 . 51821 } notrack accept",
        "iif \"lo\" ip daddr . udp dport { 10.9.0.1 . 51820, 10.9.0.1 . 51821 } accept",
    ] {
        assert!(body.contains(line), "{line} is missing in\n{body}");
    }
}

#[test]
fn only_the_node_that_has_a_shard_has_its_peers() {
    let mut config = wireguard(&["acme"], 2);
    config.ha = Some(Ha {
        nodes: [("gw-1", 1), ("gw-2", 2)].map(|(node, n)| (node.parse().unwrap(), IpAddr::from([10, 9, 0, n]))).into(),
        interval: AdvertInterval::try_from(Duration::from_millis(100)).unwrap(),
        version: VrrpVersion::default(),
        checksum: ChecksumForm::PseudoHeader,
        cast: Cast::default(),
        preempt: None,
        accept: false,
        authentication: Authentication::default(),
        keys: vec![],
        sync_port: 3790,
        track: vec![],
        lifecycle: None,
        eligible: None,
        retained: BTreeSet::new(),
        leaving: BTreeSet::new(),
    });
    config.tenants[0].shards[0].havip = Some(HaVip { vrid: Vrid::try_from(51).unwrap(), priority: None });
    let peers = |holds: BTreeSet<TenantShard>| {
        let mut slots = Slots::default();
        slots.assign(&shards(&config)).unwrap();
        let ends = ends(&config);
        let hosts: Vec<_> = config.peers.iter().collect();
        let (facts, numbers, carrier) = (facts(), Numbers::new(u16::MAX), Carrier::Kernel);
        let inputs = Inputs {
            config: &config,
            carrier,
            facts: &facts,
            copies: true,
            hosts: &hosts,
            slots: &slots,
            peers: &numbers,
            ends: &ends,
            heard: &Heard::new(),
            holds: &holds,
            admitted: &BTreeMap::new(),
        };
        let state = desired(&inputs);
        assert!(state.routes.keys().any(|key| key.destination == "10.64.0.11/32".parse().unwrap()), "the way in stands on both");
        let passed_back = "iifname \"plat0\" ip daddr . udp dport { 10.9.0.1 . 51820 } @th,64,8 4 ip ttl > 1 dup to ip daddr map @former";
        assert!(state.tables[&NftTable::Ip].body.contains(passed_back), "{}", state.tables[&NftTable::Ip].body);
        state.wireguard.len()
    };
    assert_eq!((peers(BTreeSet::new()), peers(["acme/0".parse().unwrap()].into())), (0, 2));
}
