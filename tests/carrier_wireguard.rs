//! What a daemon tells the WireGuard data path from one pass to the next.

mod kernel_support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use kernel_support::{in_namespace, name, run};
use portway::config::{self, Config};
use portway::daemon::carrier::wireguard::{Carried, Carrying, Path};
use portway::daemon::reconcile::{Role, pass};
use portway::host::Node;
use portway::kernel::Kernel;
use portway::lab::secret;
use portway::metrics::{Format, Page};
use portway::model::{PrivateKey, PublicKey};
use portway::userspace::wireguard::{InterfaceConfig, PeerConfig};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

/// `pw-1` with these peers.
fn carried(peers: &[(PublicKey, &[&str])]) -> [Carried; 1] {
    [tunnel("pw-1", 51_820, peers)]
}

fn tunnel(of: &str, port: u16, peers: &[(PublicKey, &[&str])]) -> Carried {
    let interface = InterfaceConfig {
        name: name(of),
        key: PrivateKey::new([1; 32]),
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        mark: None,
        roaming: true,
    };
    let peer =
        |nets: &[&str]| PeerConfig { allowed: nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect(), ..PeerConfig::default() };
    Carried { interface, speaks: true, peers: peers.iter().map(|(key, nets)| (*key, peer(nets))).collect() }
}

#[test]
fn addresses_may_pass_from_one_peer_to_another() {
    in_namespace(async || {
        let [a, b] = [2, 3].map(|fill| PrivateKey::new([fill; 32]).public());
        let place = tempfile::tempdir().unwrap();
        let mut path = Path::start(&mut BTreeMap::new(), &[], place.path()).unwrap();
        let mut carry = |tunnels: &[Carried]| {
            let Carrying { opened, failure } = path.carry(tunnels);
            assert!(failure.is_none(), "{failure:?}");
            opened
        };
        assert_eq!(carry(&carried(&[(a, &["10.64.0.9/32", "10.64.1.0/28"]), (b, &["10.64.0.10/32"])])), [name("pw-1")]);
        // Each way, whatever the order of the keys.
        for (of_a, of_b) in
            [(&["10.64.0.9/32"], &["10.64.1.0/28"]), (&["10.64.1.0/28"], &["10.64.0.9/32"]), (&["10.64.0.9/32"], &["10.64.1.0/28"])]
        {
            assert!(carry(&carried(&[(a, of_a), (b, of_b)])).is_empty(), "nothing is opened anew");
        }
        assert!(carry(&carried(&[(b, &["10.64.0.9/32"])])).is_empty());
    });
}

/// A port that somebody else has, or prefixes of one interface that two peers would have.
#[test]
fn a_tunnel_that_cannot_be_carried_keeps_no_other_from_it() {
    in_namespace(async || {
        let [a, b] = [2, 3].map(|fill| PrivateKey::new([fill; 32]).public());
        let (place, foreign) = (tempfile::tempdir().unwrap(), UdpSocket::bind("127.0.0.1:51821").unwrap());
        let mut path = Path::start(&mut BTreeMap::new(), &[], place.path()).unwrap();
        let net: &[&str] = &["10.64.0.9/32"];
        let tunnels =
            [tunnel("pw-1", 51_821, &[(a, net)]), tunnel("pw-2", 51_822, &[(a, net), (b, net)]), tunnel("pw-3", 51_823, &[(a, net)])];
        let Carrying { opened, failure } = path.carry(&tunnels);
        assert_eq!(opened, [name("pw-2"), name("pw-3")]);
        let said = format!("{:#}", failure.unwrap());
        assert!(said.contains("pw-1") && said.contains("no other program using the port") && said.contains("allowed to peer"), "{said}");
        let mut carrier = portway::daemon::carrier::Path::Wireguard(Box::new(path));
        let mut page = Page::default();
        carrier.metrics(&mut page);
        let text = page.encode(Format::OpenMetrics).unwrap();
        assert!(
            text.contains("portway_tunnel_failures_total{tunnel=\"pw-1\"} 1") && !text.contains("failures_total{tunnel=\"pw-3\"}"),
            "{text}"
        );
        assert_eq!(carrier.status()["failing"].as_object().unwrap().keys().collect::<Vec<_>>(), ["pw-1", "pw-2"]);

        // Its place is free, and only one peer has the address: all are carried.
        drop(foreign);
        let portway::daemon::carrier::Path::Wireguard(path) = &mut carrier else { unreachable!() };
        let [first, _, third] = tunnels;
        let Carrying { opened, failure } = path.carry(&[first, tunnel("pw-2", 51_822, &[(a, net)]), third]);
        assert_eq!((opened, failure.map(|error| error.to_string())), (vec![name("pw-1")], None));
        assert_eq!(carrier.status()["failing"], serde_json::json!({}));
    });
}

/// A function host in this place with two tunnels; the gateway of the second has this key.
fn host(place: &std::path::Path, gateway: u8) -> std::path::PathBuf {
    let (file, key) = (place.join("host.yaml"), place.join("host.key"));
    secret(&key, &STANDARD.encode([9; 32])).unwrap();
    let shard = |n: u8, gateway: u8| {
        let public = PrivateKey::new([gateway; 32]).public();
        format!(
            "{{name: t{n}, cidrs: [172.16.0.0/16], shards: [{{shard: 0, gateway: 10.9.0.{n}, inner: 10.64.{n}.9, \
             wireguard: {{public_key: {public}, port: 51820}}}}]}}"
        )
    };
    let (of_platform, of_key) = ("{interface: plat0, address: 10.9.0.11}", format!("{{private_key: {}, port: 51820}}", key.display()));
    let text = format!(
        "host: {{node: h, platform: {of_platform}, tunnel: wireguard, backend: userspace, runtime_dir: {}, \
         wireguard: {of_key}, tenants: [{}, {}]}}",
        place.display(),
        shard(1, 1),
        shard(2, gateway)
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Whatever is wrong with one tunnel, another goes on with its keys, and it is known when.
#[test]
fn a_tunnel_that_cannot_be_carried_keeps_no_other_from_changing_its_keys() {
    in_namespace(async || {
        run(
            "ip link add plat0 type veth peer name plat1 && ip addr add 10.9.0.11/24 dev plat0 && ip link set plat0 up && ip link set plat1 up",
        );
        let place = tempfile::tempdir().unwrap();
        let file = host(place.path(), 2);
        let config = match config::load(&file) {
            Ok(Config::Host(config)) => config,
            other => panic!("a host's configuration: {other:?}"),
        };
        let (mut node, kernel) = (Node::new(file, config).unwrap(), Arc::new(Kernel::open(place.path()).await.unwrap()));
        let _foreign = UdpSocket::bind("10.9.0.11:51820").unwrap();
        node.start(&kernel, &mut BTreeMap::new()).await.unwrap();
        node.carry().unwrap();
        let failing = async |node: &mut Node| {
            let report = pass(node, &kernel).await;
            assert!(report.failures.iter().any(|failure| failure.contains("cannot carry pw-1")), "{:?}", report.failures);
        };
        failing(&mut node).await;
        assert_eq!(node.due(), None, "{}", node.status());
        host(place.path(), 3);
        node.reload().unwrap();
        let begun = Instant::now();
        for _ in 0..10 {
            failing(&mut node).await;
            if node.due().is_some() {
                break;
            }
        }
        assert_eq!((&node.status()["tenants"][1]["coming"], node.due() > Some(begun)), (&"pw-2-b".into(), true), "{}", node.status());
        // Nobody answers: it is looked for again, pass or none.
        for _ in 0..2 {
            let due = node.due().unwrap();
            tokio::time::sleep_until(due.into()).await;
            assert!(!node.advance(&kernel), "no pass is wanted");
            assert!(node.due() > Some(due), "{}", node.status());
        }
        let begun = Instant::now();
        failing(&mut node).await;
        assert!(node.due() > Some(begun), "{}", node.status());
    });
}
