use super::*;
use crate::config::{Backend, HostKey, Platform, TunnelKind};
use crate::model::{GreKey, PrivateKey, ShardId};
use crate::plan::facts::LinkFacts;

fn host(tenants: u16, shards: u16) -> Host {
    let shard = |tenant: u16| {
        move |n: u16| HostShard {
            shard: ShardId(n),
            gateway: [10, 9, (tenant >> 8) as u8, tenant as u8].into(),
            tunnel: HostTunnel::Gre { key: GreKey(tenant.into()) },
            inner: [10, 64, (tenant >> 8) as u8, n as u8].into(),
        }
    };
    let tenant = |n: u16| HostTenant {
        name: format!("t{n}").parse().unwrap(),
        cidrs: vec!["172.16.0.0/16".parse().unwrap()],
        shards: (0..shards).map(shard(n)).collect(),
        egress: None,
        left_out: Default::default(),
    };
    Host {
        node: "host-1".parse().unwrap(),
        platform: Platform {
            interface: "plat0".parse().unwrap(),
            address: [10, 9, 0, 11].into(),
            mtu: Some(1500),
            tunnel: TunnelKind::Gre,
        },
        backend: Backend::Auto,
        runtime_dir: "/run/portway".into(),
        admin: "127.0.0.1:9471".parse().unwrap(),
        admin_names: Default::default(),
        wireguard: None,
        directory: None,
        tenants: (1..=tenants).map(tenant).collect(),
        flow_log: None,
    }
}

fn attached(n: u16, source: Option<&str>, port: bool) -> Attached {
    Attached {
        who: n.try_into().unwrap(),
        to: "t1/0".parse().unwrap(),
        interface: format!("veth{n}").parse().unwrap(),
        index: u32::from(n) + 100,
        source: source.map(|net| net.parse().unwrap()),
        port,
    }
}

fn state(config: &Host, attachments: &[Attached]) -> State {
    state_with(config, Carrier::Userspace, &Facts::default(), attachments)
}

fn state_with(config: &Host, carrier: Carrier, facts: &Facts, attachments: &[Attached]) -> State {
    let mut slots = Slots::default();
    slots.assign(&shards(config)).unwrap();
    desired(&Inputs { config, carrier, facts, slots: &slots, generations: &Generations::default(), attachments })
}

/// The `throw` routes for these attachments where the first tenant has these CIDRs. `veth1` has the address 10.88.1.1/24,
/// `veth2` its own only; `veth3` is a port of a bridge with 10.88.3.1/24 and 10.99.3.1/24.
fn thrown(cidrs: &[&str], attachments: &[Attached]) -> Vec<String> {
    let mut config = host(2, 1);
    config.tenants[0].cidrs = cidrs.iter().map(|net| net.parse().unwrap()).collect();
    let link = |index, master, addresses: &[&str]| LinkFacts {
        index,
        master,
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        ..LinkFacts::default()
    };
    let links = [
        ("veth1", link(101, None, &["10.88.1.1/24"])),
        ("veth2", link(102, None, &["10.88.2.1/32"])),
        ("veth3", link(103, Some(99), &[])),
        ("cni0", link(99, None, &["10.88.3.1/24", "10.99.3.1/24"])),
    ];
    let facts = Facts { links: links.map(|(name, link)| (name.parse().unwrap(), link)).into(), ..Facts::default() };
    let state = state_with(&config, Carrier::Kernel, &facts, attachments);
    let cidrs = &config.tenants[0].cidrs;
    assert!(cidrs.iter().all(|cidr| {
        let key = RouteKey { table: 0x70001, destination: *cidr, metric: 0 };
        matches!(state.routes[&key], Route::Unicast { .. })
    }));
    let thrown = state.routes.iter().filter(|(_, route)| **route == Route::Throw);
    thrown.map(|(key, _)| key.to_string()).collect()
}

#[test]
fn what_is_local_and_lies_in_the_tenants_network_is_thrown() {
    let in_slot_1 = |nets: &[&str]| nets.iter().map(|net| format!("{net} table 0x70001 metric 0")).collect::<Vec<_>>();
    let sourced = |net| attached(2, Some(net), false);
    for (cidrs, attachment, routes) in [
        (&["172.16.0.0/16"][..], attached(1, None, false), &[][..]),
        (&["10.0.0.0/8"], attached(1, None, false), &["10.88.1.0/24"]),
        (&["172.16.0.0/16", "10.0.0.0/8"], attached(1, Some("10.88.1.7/32"), false), &["10.88.1.0/24", "10.88.1.7/32"]),
        (&["10.0.0.0/8"], attached(2, None, false), &[]),
        (&["10.0.0.0/8"], sourced("10.88.2.7/32"), &["10.88.2.7/32"]),
        (&["10.0.0.0/8"], attached(3, None, true), &["10.88.3.0/24", "10.99.3.0/24"]),
        (&["10.88.0.0/16"], attached(3, None, true), &["10.88.3.0/24"]),
        // As wide as a CIDR, or wider: the source only.
        (&["10.88.1.0/24"], attached(1, None, false), &[]),
        (&["10.0.0.0/8", "10.88.1.0/24"], attached(1, None, false), &[]),
        (&["10.88.1.0/25"], attached(1, Some("10.88.1.7/32"), false), &["10.88.1.7/32"]),
        (&["10.88.2.7/32"], sourced("10.88.2.7/32"), &[]),
    ] {
        assert_eq!(thrown(cidrs, std::slice::from_ref(&attachment)), in_slot_1(routes), "{cidrs:?} {attachment:?}");
    }
}

#[test]
fn every_cidr_of_a_tenant_is_unreachable_without_its_tunnel() {
    let state = state(&host(2, 2), &[]);
    let without_tunnels = state.routes.iter().filter(|(_, route)| **route == Route::Unreachable).map(|(key, _)| key.table);
    assert_eq!(without_tunnels.collect::<Vec<_>>(), [0x70001, 0x70002, 0x70003, 0x70004]);
}

#[test]
fn an_attachment_is_one_element_and_nothing_else_changes() {
    let config = host(2, 1);
    let (before, after) = (state(&config, &[]), state(&config, &[attached(1, Some("10.88.0.7/32"), false)]));
    let steps: Vec<String> = crate::plan::plan(&after, &before).steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        ["~ sysctl net.ipv4.conf.veth1.forwarding = 1", "+ element inet portway @attached_src interface 101 . 10.88.0.7 : 0x00012001"]
    );
}

#[test]
fn only_what_has_an_interface_to_itself_takes_the_short_way() {
    let config = host(2, 1);
    let facts = Facts { flow_tables: true, ..Facts::default() };
    let devices = |attachments: &[Attached]| {
        let state = state_with(&config, Carrier::Kernel, &facts, attachments);
        state.flow_devices.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let three = [attached(1, None, false), attached(2, Some("10.88.0.7/32"), false), attached(3, None, true)];
    assert_eq!(devices(&three), ["pw-1", "pw-2", "veth1"]);
    let many: Vec<Attached> = (1..=127).map(|n| attached(n, None, false)).collect();
    assert_eq!(devices(&many[..126]).len(), 128);
    assert!(devices(&many).is_empty(), "more than the kernel can tell of");
}

/// The kernel's WireGuard seals packets in threads of its own: what went past IP's input would hold its sender up until then.
#[test]
fn what_goes_into_the_kernels_wireguard_takes_the_long_way() {
    let (mut config, facts) = (wireguard_host(1), Facts { flow_tables: true, ..Facts::default() });
    let mut devices = |carrier, tunnel| {
        config.platform.tunnel = tunnel;
        state_with(&config, carrier, &facts, &[attached(1, None, false)]).flow_devices.contains(&"veth1".parse().unwrap())
    };
    assert!(!devices(Carrier::Kernel, TunnelKind::Wireguard));
    assert!(devices(Carrier::Userspace, TunnelKind::Wireguard) && devices(Carrier::Kernel, TunnelKind::Gre));
}

#[test]
fn a_bridge_port_is_matched_before_the_bridge() {
    let state = state(&host(1, 1), &[attached(1, None, true)]);
    assert!(state.tables[&NftTable::Netdev].body.contains("device \"veth1\""));
    let set = SetName { table: NftTable::Netdev, name: "port".into() };
    assert_eq!(state.elements[&set].len(), 1);
}

#[test]
fn without_bridge_ports_there_is_no_netdev_table() {
    assert!(!state(&host(1, 1), &[attached(1, None, false)]).has_table(NftTable::Netdev));
}

#[test]
fn tenants_never_share_a_mark_a_table_or_a_tunnel() {
    let state = state(&host(50, 4), &[]);
    assert_eq!(state.links.len(), 200);
    assert_eq!(state.ruled_tables().len(), 200);
}

/// A host of so many tenants, whose gateways have one key.
pub(super) fn wireguard_host(tenants: u16) -> Host {
    let mut config = host(tenants, 1);
    config.platform.tunnel = TunnelKind::Wireguard;
    config.wireguard = Some(HostKey { private_key: "/etc/portway/host.key".into(), port: 40000 });
    let public_key = PrivateKey::new([9; 32]).public();
    config.tenants.iter_mut().for_each(|tenant| tenant.shards[0].tunnel = HostTunnel::Wireguard { public_key, port: 51820 });
    config
}

pub(super) fn of_wireguard(config: &Host, slots: &Slots, generations: &Generations) -> State {
    desired(&Inputs { config, carrier: Carrier::Kernel, facts: &Facts::default(), slots, generations, attachments: &[] })
}

#[test]
fn a_wireguard_tunnel_has_one_peer_and_a_port_of_its_own() {
    let (config, mut slots) = (wireguard_host(2), Slots::default());
    slots.assign(&shards(&config)).unwrap();
    let (own, facts, mut generations) = (PrivateKey::new([1; 32]), Facts::default(), Generations::default());
    generations.want(&own, config.served().map(|(tenant, shard)| (tenant.of(shard.shard), shard)));
    let state = of_wireguard(&config, &slots, &generations);
    let kinds: Vec<_> = state.links.values().map(|link| link.kind.clone()).collect();
    assert_eq!(kinds, [40000, 40001].map(|port| LinkKind::Wireguard { key: own.clone(), port }));
    let peer = &state.wireguard[&("pw-2".parse().unwrap(), PrivateKey::new([9; 32]).public())];
    assert_eq!(peer.to_string(), "allowed 172.16.0.0/16 endpoint 10.9.0.2:51820 keepalive 25 s");
    let body = &state.tables[&NftTable::Inet].body;
    assert!(
        body.contains("ip saddr . udp sport . udp dport { 10.9.0.1 . 51820 . 40000, 10.9.0.2 . 51820 . 40001 } notrack accept"),
        "{body}"
    );
    let inputs =
        Inputs { config: &config, carrier: Carrier::Userspace, facts: &facts, slots: &slots, generations: &generations, attachments: &[] };
    assert!(desired(&inputs).wireguard.is_empty());
}
