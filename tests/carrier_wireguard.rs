//! What a daemon tells the WireGuard data path from one pass to the next.

mod kernel_support;

use ipnet::IpNet;
use kernel_support::{in_namespace, name};
use portway::daemon::carrier::wireguard::{Carried, Path};
use portway::model::{PrivateKey, PublicKey};
use portway::userspace::wireguard::{InterfaceConfig, PeerConfig};
use std::collections::BTreeMap;

/// `pw-1` with these peers.
fn carried(peers: &[(PublicKey, &[&str])]) -> [Carried; 1] {
    let interface = InterfaceConfig {
        name: name("pw-1"),
        key: PrivateKey::new([1; 32]),
        listen: "127.0.0.1:51820".parse().unwrap(),
        mark: None,
        roaming: true,
    };
    let peer =
        |nets: &[&str]| PeerConfig { allowed: nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect(), ..PeerConfig::default() };
    [Carried { interface, speaks: true, peers: peers.iter().map(|(key, nets)| (*key, peer(nets))).collect() }]
}

#[test]
fn addresses_may_pass_from_one_peer_to_another() {
    in_namespace(async || {
        let [a, b] = [2, 3].map(|fill| PrivateKey::new([fill; 32]).public());
        let place = tempfile::tempdir().unwrap();
        let mut path = Path::start(&mut BTreeMap::new(), &[], place.path()).unwrap();
        assert_eq!(path.carry(&carried(&[(a, &["10.64.0.9/32", "10.64.1.0/28"]), (b, &["10.64.0.10/32"])])).unwrap(), [name("pw-1")]);
        // Each way, whatever the order of the keys.
        for (of_a, of_b) in
            [(&["10.64.0.9/32"], &["10.64.1.0/28"]), (&["10.64.1.0/28"], &["10.64.0.9/32"]), (&["10.64.0.9/32"], &["10.64.1.0/28"])]
        {
            assert!(path.carry(&carried(&[(a, of_a), (b, of_b)])).unwrap().is_empty(), "nothing is opened anew");
        }
        assert!(path.carry(&carried(&[(b, &["10.64.0.9/32"])])).unwrap().is_empty());
    });
}
