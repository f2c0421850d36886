//! What a daemon tells the WireGuard data path from one pass to the next.

mod kernel_support;

use ipnet::IpNet;
use kernel_support::{in_namespace, name};
use portway::daemon::carrier::wireguard::{Carried, Carrying, Path};
use portway::metrics::Page;
use portway::model::{PrivateKey, PublicKey};
use portway::userspace::wireguard::{InterfaceConfig, PeerConfig};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

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
        let text = page.encode().unwrap();
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
