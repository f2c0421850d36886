//! A node's whole desired state in a real kernel: applied, adopted, repaired, removed.

mod kernel_support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kernel_support::{World, in_namespace, name, run};
use portway::config::{
    self, Allow, Backend, Config, Gateway, GatewayShard, GatewayTenant, GatewayTunnel, Host, HostKey, HostShard, HostTenant, HostTunnel,
    PeerEnd, Platform, Snat, StaticPeer, TunnelKind,
};
use portway::daemon::reconcile::{Role, pass};
use portway::host::attachments::Spec;
use portway::lab::secret;
use portway::model::{GreKey, PortRange, PrivateKey, PublicKey, ShardId};
use portway::plan::{LinkKind, NftTable, SetName, State, plan};
use portway::{gateway, host};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

const FOREIGN: &str = "
    ip link add foreign0 type veth peer name foreign1 && ip link set foreign0 up && ip addr add 192.0.2.1/24 dev foreign0
    ip route add 198.51.100.0/24 dev foreign0 table 100
    ip route add 198.51.100.0/24 dev foreign0 table 0x70001 proto static
    ip rule add fwmark 1 lookup 100 priority 500
    ip rule add from 192.0.2.0/24 lookup 100 priority 8000
    nft add table inet foreign && nft add chain inet foreign c '{ type filter hook forward priority 10; }' && nft add rule inet foreign c counter
    nft add table ip6 portway && nft add set ip6 portway s '{ type ipv6_addr; }'";

/// Set where there must be kernel GRE and WireGuard: nothing of them may be left out then.
const MUST_HAVE_TUNNELS: &str = "PORTWAY_TEST_KERNEL_TUNNELS";

/// What a node's tunnels are, and what carries them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Way {
    tunnel: TunnelKind,
    backend: Backend,
}

const USERSPACE: Way = Way { tunnel: TunnelKind::Gre, backend: Backend::Userspace };
const KERNEL_GRE: Way = Way { tunnel: TunnelKind::Gre, backend: Backend::Kernel };
const KERNEL_WIREGUARD: Way = Way { tunnel: TunnelKind::Wireguard, backend: Backend::Kernel };

/// Every way that this kernel has, those of its own tunnels only where there are any. It is asked before anything else is done,
/// for that loads modules, which put devices of their own into every namespace.
fn ways() -> &'static [Way] {
    static WAYS: OnceLock<Vec<Way>> = OnceLock::new();
    WAYS.get_or_init(|| {
        let (answer, asked) = std::sync::mpsc::channel();
        in_namespace(async move || {
            let kernel = World::new().await.kernel;
            answer.send((kernel.has_gre().await, kernel.has_wireguard())).unwrap();
        });
        let (gre, wireguard) = asked.recv().unwrap();
        assert!(gre && wireguard || std::env::var_os(MUST_HAVE_TUNNELS).is_none(), "GRE: {gre}, WireGuard: {wireguard}");
        let kernel = [(gre, KERNEL_GRE), (wireguard, KERNEL_WIREGUARD)].into_iter().filter_map(|(there, way)| there.then_some(way));
        [USERSPACE].into_iter().chain(kernel).collect()
    })
}

/// Runs a test for each way, in a namespace each.
fn for_each_way<F: Future<Output = ()>>(test: impl Fn(Way) -> F + Copy + Send + 'static) {
    for way in ways() {
        eprintln!("{way:?}");
        in_namespace(move || test(*way));
    }
}

/// A private key of a node, in a file.
fn key_file(world: &World, fill: u8) -> PathBuf {
    let file = world.directory.path().join(format!("{fill}.key"));
    secret(&file, &STANDARD.encode([fill; 32])).unwrap();
    file
}

fn public_key(fill: u8) -> PublicKey {
    PrivateKey::new([fill; 32]).public()
}

/// What somebody planted, but for what the kernel changes by itself meanwhile (link states, a bridge's clocks, IPv6's addresses).
fn everything() -> String {
    run("ip -br link | awk '{print $1, $3}'; ip -br -4 addr | awk '{$2 = \"\"; print}'; ip -4 route show table all; ip rule; nft list ruleset
         cat /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv4/conf/*/src_valid_mark")
}

fn platform(address: [u8; 4], tunnel: TunnelKind) -> Platform {
    Platform { interface: name("plat0"), address: address.into(), mtu: None, tunnel }
}

fn interfaces(address: &str) {
    run(&format!(
        "ip link add plat0 type veth peer name plat1 && ip addr add {address} dev plat0 && ip link set plat0 up && ip link set plat1 up
         ip link add eni0 type veth peer name eni0p && ip addr add 172.16.101.4/24 dev eni0 && ip link set eni0 up && ip link set eni0p up
         ip link add eni1 type veth peer name eni1p && ip addr add 172.16.101.5/24 dev eni1 && ip link set eni1 up && ip link set eni1p up"
    ));
}

async fn gateway(world: &World, way: Way) -> gateway::Node {
    let dir = world.directory.path();
    let ports = PortRange::new(1024, 65535).unwrap();
    let tenant = |n: u8, snat| GatewayTenant {
        name: name(&format!("t{n}")),
        interface: name(&format!("eni{n}")),
        router: (n == 1).then_some(IpAddr::from([172, 16, 101, 1])),
        allow: vec![
            Allow { to: "172.16.0.0/16".parse().unwrap(), tcp: vec![ports], udp: vec![PortRange::new(53, 53).unwrap()], icmp: true },
            Allow { to: "10.200.0.0/24".parse().unwrap(), tcp: vec![PortRange::new(80, 80).unwrap(), ports], udp: vec![], icmp: false },
        ],
        shards: vec![GatewayShard {
            shard: ShardId(0),
            local: [10, 9, 0, 1].into(),
            tunnel: match way.tunnel {
                TunnelKind::Gre => GatewayTunnel::Gre { key: GreKey(n.into()) },
                TunnelKind::Wireguard => {
                    GatewayTunnel::Wireguard { private_key: key_file(world, n), port: 51820 + u16::from(n), next: None }
                }
            },
            snat,
            havip: None,
        }],
        inner: "10.64.0.0/16".parse().unwrap(),
        track: vec![],
    };
    let inner = |n: u8| [(name("t0"), vec![IpAddr::from([10, 64, 0, n]).into()]), (name("t1"), vec!["10.64.7.0/28".parse().unwrap()])];
    let end = match way.tunnel {
        TunnelKind::Gre => PeerEnd::Gre { outer: [10, 9, 0, 11].into() },
        TunnelKind::Wireguard => PeerEnd::Wireguard { public_key: public_key(9) },
    };
    let mut node = gateway::Node::new(
        dir.join("gateway.yaml"),
        Gateway {
            node: name("gw"),
            platform: platform([10, 9, 0, 1], way.tunnel),
            backend: way.backend,
            runtime_dir: dir.into(),
            admin: "127.0.0.1:0".parse().unwrap(),
            admin_names: Default::default(),
            ha: None,
            flow_log: None,
            cloud: None,
            tenants: vec![tenant(0, Snat::To { address: [172, 16, 101, 10].into(), ports }), tenant(1, Snat::Masquerade { ports })],
            directory: None,
            idle: std::time::Duration::from_secs(300),
            peers: vec![StaticPeer { host: name("h"), end, inner: inner(9).into() }],
        },
    )
    .unwrap();
    node.take_up_stored().unwrap();
    node.choose_carrier(&world.kernel).await.unwrap();
    node
}

async fn host(world: &World, way: Way) -> host::Node {
    let dir = world.directory.path();
    let tenant = |n: u8| HostTenant {
        name: name(&format!("t{n}")),
        cidrs: vec!["172.16.0.0/16".parse().unwrap()],
        shards: vec![HostShard {
            shard: ShardId(0),
            gateway: [10, 9, 0, n].into(),
            tunnel: match way.tunnel {
                TunnelKind::Gre => HostTunnel::Gre { key: GreKey(n.into()) },
                TunnelKind::Wireguard => HostTunnel::Wireguard { public_key: public_key(n), port: 51820 },
            },
            inner: [10, 64, n, 9].into(),
        }],
        egress: None,
        left_out: Default::default(),
    };
    let mut node = host::Node::new(
        dir.join("host.yaml"),
        Host {
            node: name("h"),
            platform: platform([10, 9, 0, 11], way.tunnel),
            backend: way.backend,
            runtime_dir: dir.into(),
            admin: "127.0.0.1:0".parse().unwrap(),
            admin_names: Default::default(),
            wireguard: (way.tunnel == TunnelKind::Wireguard).then(|| HostKey { private_key: key_file(world, 9), port: 51820 }),
            directory: None,
            flow_log: None,
            tenants: vec![tenant(1), tenant(2)],
        },
    )
    .unwrap();
    node.take_up_stored().unwrap();
    node.choose_carrier(&world.kernel).await.unwrap();
    node
}

/// What stands is the backend's: with the kernel's tunnels, one for each tenant, to the gateway or to whoever is a neighbour.
fn is_carried_by(way: Way, state: &State, is_host: bool) {
    let kinds: Vec<_> = state.links.values().map(|link| &link.kind).collect();
    let short_way = ["pw-1", "pw-2"].map(|tunnel| state.flow_devices.contains(&name(tunnel)));
    if way == USERSPACE {
        assert!(kinds.iter().all(|kind| **kind == LinkKind::Tun) && state.neighbours.is_empty(), "{state:#?}");
        return;
    }
    if way == KERNEL_WIREGUARD {
        let wireguard = |kind: &&LinkKind| matches!(kind, LinkKind::Wireguard { .. });
        assert!(kinds.len() == 2 && kinds.iter().all(wireguard) && state.wireguard.len() == 2, "{state:#?}");
        assert_eq!(short_way, [true; 2], "{:?}", state.flow_devices);
        return;
    }
    let gre = |kind: &LinkKind| matches!(kind, LinkKind::Gre { remote, .. } if remote.is_some() == is_host);
    assert!(kinds.len() == 2 && kinds.into_iter().all(gre), "{:#?}", state.links);
    assert_eq!(short_way, [true; 2], "{:?}", state.flow_devices);
    if is_host {
        assert!(state.flow_devices.contains(&name("fn1")), "{:?}", state.flow_devices);
    } else {
        let outer = IpAddr::from([10, 9, 0, 11]);
        let neighbours = ["pw-1", "pw-2"].map(|tunnel| ((name(tunnel), outer), outer));
        assert_eq!(state.neighbours, neighbours.into());
        let count = |set: &str| state.elements[&SetName { table: NftTable::Inet, name: set.into() }].len();
        assert_eq!((count("senders"), count("senders_net"), count("peers")), (1, 1, 1), "{:#?}", state.elements);
        assert!(state.flow_devices.contains(&name("eni0")) && state.flow_devices.contains(&name("eni1")));
    }
}

async fn settle(role: &mut impl Role, world: &World) -> usize {
    let report = pass(role, &world.kernel).await;
    assert!(report.settled(), "{:#?}", report.failures);
    report.steps.len()
}

async fn teardown(world: &World) {
    let observed = world.kernel.observe(&BTreeSet::new()).await.unwrap();
    world.apply(&plan(&State::default(), &observed).steps).await;
}

#[test]
fn a_gateway_applied_twice_changes_nothing_and_torn_down_leaves_nothing() {
    for_each_way(async |way| {
        let world = World::new().await;
        interfaces("10.9.0.1/24");
        run(FOREIGN);
        let before = everything();
        let mut node = gateway(&world, way).await;
        assert!(settle(&mut node, &world).await > 20);
        assert_eq!(settle(&mut node, &world).await, 0);
        assert!(run("ip addr show dev eni0").contains("172.16.101.10/32"));
        let stands = world.kernel.observe(&node.interest()).await.unwrap();
        is_carried_by(way, &stands, false);
        // A new process finds everything as it should be.
        let world = world.restarted().await;
        assert_eq!(settle(&mut gateway(&world, way).await, &world).await, 0);
        teardown(&world).await;
        assert_eq!(everything(), before);
    });
}

#[test]
fn a_host_applied_twice_changes_nothing_and_torn_down_leaves_nothing() {
    for_each_way(async |way| {
        let world = World::new().await;
        interfaces("10.9.0.11/24");
        run(FOREIGN);
        run(
            "ip link add fn1 type veth peer name fn1p; ip link add br0 type bridge; ip link add fn2 type veth peer name fn2p; ip link set fn2 master br0",
        );
        let before = everything();
        let mut node = host(&world, way).await;
        settle(&mut node, &world).await;
        let spec = |interface: &str, source: Option<&str>| Spec {
            tenant: name("t1"),
            interface: Some(name(interface)),
            netns: None,
            source: source.map(|net| net.parse().unwrap()),
            shard: None,
            egress: None,
        };
        for (attachment, interface, source) in [
            ("a", "fn1", None),
            ("b", "fn1", Some("10.88.0.7/32")),
            ("c", "fn1", Some("10.88.1.0/28")),
            ("d", "fn2", None),
            ("e", "fn2", Some("10.88.2.2/32")),
        ] {
            let made = node.attach(&world.kernel, name(attachment), spec(interface, source)).await.unwrap();
            assert!(made.0);
        }
        assert_eq!(settle(&mut node, &world).await, 0);
        let world = world.restarted().await;
        let mut node = host(&world, way).await;
        assert_eq!(settle(&mut node, &world).await, 0);
        assert_eq!(node.attachments().len(), 5);
        is_carried_by(way, &world.kernel.observe(&node.interest()).await.unwrap(), true);
        for attachment in ["a", "b", "c", "d", "e"] {
            node.detach(&world.kernel, &name(attachment)).await.unwrap();
        }
        assert_eq!(settle(&mut node, &world).await, 0);
        teardown(&world).await;
        assert_eq!(everything(), before);
    });
}

#[test]
fn whatever_is_broken_from_outside_is_mended() {
    for_each_way(async |way| {
        let world = World::new().await;
        interfaces("10.9.0.1/24");
        let mut node = gateway(&world, way).await;
        settle(&mut node, &world).await;
        let whole = world.kernel.observe(&node.interest()).await.unwrap();
        is_carried_by(way, &whole, false);
        let with_gre = [
            "ip neigh del 10.9.0.11 dev pw-1",
            "ip neigh replace 10.9.0.11 lladdr 10.9.0.12 dev pw-1 nud permanent",
            "ip neigh add 10.9.0.13 lladdr 10.9.0.13 dev pw-1 nud permanent",
            "nft flush map inet portway senders",
            "nft flush map inet portway senders_net",
            "nft delete element inet portway peers '{ 10.9.0.11 }'",
            "nft delete flowtable inet portway fast '{ hook ingress priority 0; devices = { eni0 }; }'",
            "nft delete flowtable inet portway fast '{ hook ingress priority 0; devices = { pw-1 }; }'",
            "ip link del pw-2 && ip link add pw-2 type gre local 10.9.0.1 key 99 && ip link set pw-2 up",
        ];
        let with_wireguard = [
            "ip link del pw-2 && ip link add pw-2 type wireguard && ip link set pw-2 up",
            "wg set pw-1 listen-port 50000",
            "wg genkey > /tmp/portway-other.key && wg set pw-1 private-key /tmp/portway-other.key && rm /tmp/portway-other.key",
            "wg set pw-1 peer $(wg show pw-1 peers) remove",
            "wg set pw-1 peer $(wg show pw-1 peers) allowed-ips 10.64.0.0/24",
            "wg set pw-1 peer $(wg genkey | wg pubkey) allowed-ips 10.64.0.9/32",
        ];
        for damage in [
            "ip link del pw-1",
            "ip link set pw-1 down",
            "ip link set pw-1 mtu 1300",
            "ip link set pw-1 group 0",
            "ip route flush table 0x70001",
            "ip route del 10.64.0.9 table 0x70001",
            "ip route replace 10.64.0.9 dev eni0 table 0x70001 proto 0x70",
            "ip rule del priority 7001",
            "ip addr del 172.16.101.10/32 dev eni0",
            "nft delete table inet portway",
            "nft flush chain inet portway forward",
            "nft insert rule inet portway forward accept",
            "echo 0 > /proc/sys/net/ipv4/conf/eni0/forwarding",
        ]
        .into_iter()
        .chain(with_gre.into_iter().filter(|_| way == KERNEL_GRE))
        .chain(with_wireguard.into_iter().filter(|_| way == KERNEL_WIREGUARD))
        {
            run(damage);
            assert!(settle(&mut node, &world).await > 0, "{damage}: not noticed");
            assert_eq!(world.kernel.observe(&node.interest()).await.unwrap(), whole, "{damage}");
        }
    });
}

const SHARED: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  runtime_dir: DIRECTORY
  ha: { nodes: { gw-1: 10.9.0.1, gw-2: 10.9.0.2 }, keys: [{ id: 1, file: /nowhere/ha.key }], cast: unicast, sync_port: 3790 }
  tenants:
    - { name: acme, key: 7, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16,
        shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }] }
";

#[test]
fn what_is_taken_up_at_a_start_only_is_refused_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    let shared = SHARED.replace("DIRECTORY", directory.path().to_str().unwrap());
    std::fs::write(&file, &shared).unwrap();
    let Ok(Config::Gateway(config)) = config::load(&file) else { panic!("a gateway") };
    let mut node = gateway::Node::new(file.clone(), config).unwrap();
    for (old, new, named) in [
        ("cast: unicast", "cast: multicast", "`ha.cast` is"),
        ("3790", "3791", "`ha.sync_port` is"),
        ("runtime_dir", "backend: kernel\n  runtime_dir", "`backend` is"),
        ("cast: unicast, sync_port: 3790", "cast: multicast, sync_port: 3791", "`ha.cast`, `ha.sync_port` is"),
    ] {
        std::fs::write(&file, shared.replace(old, new)).unwrap();
        let refusal = node.reload().unwrap_err();
        assert!(refusal.at_start && refusal.why.starts_with(named) && refusal.why.contains("start the daemon again"), "{refusal:?}");
    }
    std::fs::write(&file, shared.replace("tcp: all", "udp: all")).unwrap();
    node.reload().unwrap();
}
