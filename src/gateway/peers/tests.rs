use super::*;
use crate::config::{Allow, Backend, GatewayShard, GatewayTenant, GatewayTunnel, Platform, Snat};
use crate::model::{GreKey, PortRange, ShardId};

fn config() -> Gateway {
    let ports = PortRange::new(1024, 65535).unwrap();
    let tenant = |n: u8| GatewayTenant {
        name: format!("t{n}").parse().unwrap(),
        interface: format!("eni{n}").parse().unwrap(),
        router: None,
        allow: vec![Allow { to: "172.16.0.0/16".parse().unwrap(), tcp: vec![ports], udp: vec![], icmp: false }],
        shards: vec![GatewayShard {
            shard: ShardId(0),
            local: [10, 9, 0, 1].into(),
            tunnel: GatewayTunnel::Gre { key: GreKey(n.into()) },
            snat: Snat::Masquerade { ports },
            havip: None,
        }],
        inner: "10.64.0.0/16".parse().unwrap(),
        track: vec![],
    };
    Gateway {
        node: "gw".parse().unwrap(),
        platform: Platform { interface: "plat0".parse().unwrap(), address: [10, 9, 0, 1].into(), mtu: None, tunnel: TunnelKind::Gre },
        backend: Backend::Auto,
        runtime_dir: "/run/portway".into(),
        admin: "127.0.0.1:9470".parse().unwrap(),
        admin_names: Default::default(),
        ha: None,
        tenants: vec![tenant(1), tenant(2)],
        peers: vec![peer("file", "10.9.0.11", "t1", &["10.64.0.0/28"])],
        directory: None,
        idle: std::time::Duration::from_secs(300),
        flow_log: None,
        cloud: None,
    }
}

fn peer(host: &str, outer: &str, tenant: &str, prefixes: &[&str]) -> StaticPeer {
    StaticPeer {
        host: host.parse().unwrap(),
        end: PeerEnd::Gre { outer: outer.parse().unwrap() },
        inner: [(tenant.parse().unwrap(), prefixes.iter().map(|net| net.parse().unwrap()).collect())].into(),
    }
}

fn peers() -> Peers {
    let mut peers = Peers::configured(config().peers);
    peers.add(peer("api", "10.9.0.12", "t1", &["10.64.1.0/24", "10.64.3.7/32"]));
    peers
}

fn check(candidate: &StaticPeer) -> Result<bool, Refusal> {
    peers().check(&config(), candidate)
}

fn invalid(candidate: &StaticPeer) -> String {
    match check(candidate) {
        Err(Refusal::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_peer_again_is_no_change_wherever_it_came_from() {
    assert_eq!(check(&peer("api", "10.9.0.12", "t1", &["10.64.1.0/24", "10.64.3.7/32"])), Ok(false));
    assert_eq!(check(&peer("file", "10.9.0.11", "t1", &["10.64.0.0/28"])), Ok(false));
    assert_eq!(check(&peer("new", "10.9.0.13", "t1", &["10.64.4.0/24"])), Ok(true));
}

#[test]
fn another_value_is_refused_and_the_file_is_not_overruled() {
    assert_eq!(check(&peer("api", "10.9.0.13", "t1", &["10.64.1.0/24"])), Err(Refusal::Different("api".parse().unwrap())));
    let file: NodeName = "file".parse().unwrap();
    assert_eq!(check(&peer("file", "10.9.0.13", "t1", &["10.64.4.0/24"])), Err(Refusal::Configured(file.clone())));
    assert_eq!(peers().remove(&file), Err(Refusal::Configured(file)));
}

#[test]
fn no_two_peers_share_an_address_inside_or_outside() {
    let refusal = check(&peer("new", "10.9.0.11", "t1", &["10.64.4.0/24"]));
    assert!(matches!(refusal, Err(Refusal::Taken { .. })), "{refusal:?}");
    for prefix in ["10.64.1.0/24", "10.64.1.9/32", "10.64.0.0/23", "10.64.3.0/24", "10.64.3.7/32"] {
        let refusal = check(&peer("new", "10.9.0.13", "t1", &[prefix]));
        assert!(matches!(refusal, Err(Refusal::InnerTaken { .. })), "{prefix}: {refusal:?}");
    }
    // Another tenant's addresses are another matter.
    assert_eq!(check(&peer("new", "10.9.0.13", "t2", &["10.64.1.0/24"])), Ok(true));
    for prefix in ["10.64.2.0/24", "10.64.3.6/32", "10.64.3.8/32", "10.64.0.16/28"] {
        assert_eq!(check(&peer("new", "10.9.0.13", "t1", &[prefix])), Ok(true), "{prefix}");
    }
}

#[test]
fn a_fault_is_named_with_its_remedy() {
    let stranger = check(&peer("new", "10.9.0.13", "t3", &["10.64.4.0/24"]));
    assert_eq!(stranger, Err(Refusal::UnknownTenant("t3".parse().unwrap())));
    assert!(invalid(&peer("new", "10.9.0.13", "t1", &["10.65.0.0/24"])).contains("10.64.0.0/16"));
    assert!(invalid(&peer("new", "10.9.0.13", "t1", &["10.64.4.1/24"])).contains("10.64.4.0/24 or 10.64.4.1/32"));
    assert!(invalid(&peer("new", "10.9.0.13", "t1", &["10.64.4.0/24", "10.64.4.1/32"])).contains("overlaps"));
    assert!(invalid(&peer("new", "10.9.0.13", "t1", &[])).contains("no tenant"));
    for (outer, why) in [("10.9.0.1", "own"), ("127.0.0.1", "loopback"), ("fd00::1", "IPv6"), ("172.16.3.4", "t1"), ("10.64.4.4", "t1")] {
        assert!(invalid(&peer("new", outer, "t1", &["10.64.4.0/24"])).contains(why), "{outer}");
    }
}

#[test]
fn what_a_removed_peer_had_is_free_again() {
    let mut peers = peers();
    let gone = peers.remove(&"api".parse().unwrap()).unwrap();
    assert_eq!(peers.check(&config(), &StaticPeer { host: "heir".parse().unwrap(), ..gone.clone() }), Ok(true));
    assert_eq!(peers.remove(&gone.host), Err(Refusal::Unknown(gone.host)));
    assert_eq!(peers.len(), 1);
}

#[test]
fn stored_peers_that_the_file_contradicts_are_left_out_and_named() {
    let mut peers = Peers::configured(config().peers);
    let stored = [
        peer("good", "10.9.0.12", "t1", &["10.64.1.0/24"]),
        peer("file", "10.9.0.11", "t1", &["10.64.0.0/28"]),
        peer("bad", "10.9.0.13", "t1", &["10.64.0.4/32"]),
    ];
    let refused = peers.adopt(&config(), stored);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0.as_str(), "bad");
    assert_eq!(
        peers.iter().map(|(peer, configured)| (peer.host.as_str(), configured)).collect::<Vec<_>>(),
        [("file", true), ("good", false)]
    );
}

#[test]
fn a_spec_takes_bare_addresses_and_no_unknown_fields() {
    let spec: Spec = serde_json::from_str(r#"{"outer":"10.9.0.12","inner":{"t1":["10.64.1.9","10.64.2.0/24"]}}"#).unwrap();
    assert_eq!(spec.inner[&"t1".parse().unwrap()], ["10.64.1.9/32".parse().unwrap(), "10.64.2.0/24".parse::<IpNet>().unwrap()]);
    assert!(serde_json::from_str::<Spec>(r#"{"outer":"10.9.0.12","inner":{},"port":1}"#).is_err());
    assert!(
        serde_json::from_str::<Spec>(r#"{"outer":"10.9.0.12","inner":{"t1":["x"]}}"#).unwrap_err().to_string().contains("inner prefix")
    );
}

const KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

/// What a body with these members makes a peer by.
fn end(members: &str) -> Result<PeerEnd, Refusal> {
    let spec: Spec = serde_json::from_str(&format!(r#"{{{members}, "inner": {{"t1": ["10.64.1.9"]}}}}"#)).unwrap();
    spec.peer("new".parse().unwrap()).map(|peer| peer.end)
}

#[test]
fn a_peer_is_known_by_an_address_or_by_a_key() {
    assert_eq!(end(r#""outer": "10.9.0.12""#), Ok(PeerEnd::Gre { outer: [10, 9, 0, 12].into() }));
    let wireguard = end(&format!(r#""public_key": "{KEY}""#)).unwrap();
    assert_eq!(wireguard.identity(), Identity::Key(KEY.parse().unwrap()));
    let both = format!(r#""outer": "10.9.0.12", "public_key": "{KEY}""#);
    assert!(matches!(end(&both), Err(Refusal::Invalid(_))));
    assert!(matches!(end(r#""outer": null"#), Err(Refusal::Invalid(_))));
    assert!(serde_json::from_str::<Spec>(r#"{"public_key": "hSDw", "inner": {"t1": ["10.64.1.9"]}}"#).is_err());
}

#[test]
fn a_peer_is_of_the_kind_of_the_gateways_tunnels() {
    let of_a_key =
        StaticPeer { end: PeerEnd::Wireguard { public_key: KEY.parse().unwrap() }, ..peer("new", "10.9.0.13", "t1", &["10.64.4.0/24"]) };
    assert!(invalid(&of_a_key).contains("WireGuard"));
    let mut config = config();
    config.platform.tunnel = TunnelKind::Wireguard;
    let mut peers = Peers::default();
    assert_eq!(peers.check(&config, &of_a_key), Ok(true));
    peers.add(of_a_key.clone());
    let other = StaticPeer { host: "other".parse().unwrap(), ..of_a_key.clone() };
    assert!(matches!(peers.check(&config, &other), Err(Refusal::Taken { .. })));
}
