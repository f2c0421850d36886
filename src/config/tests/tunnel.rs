use super::*;

const KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

const GATEWAY: &str = "\
gateway:
  node: gw-a1
  platform: { interface: eth0, address: 10.9.0.1, mtu: 1500 }
  tunnel: wireguard
  tenants:
    - name: acme
      wireguard: { private_key: /etc/portway/acme.key }
      interface: eth1
      allow: [{ to: 172.16.0.0/16, tcp: all }]
      inner: 10.64.0.0/16
    - name: globex
      wireguard: { private_key: /etc/portway/globex.key, port: 51900 }
      interface: eth2
      allow: [{ to: 172.16.0.0/16, tcp: all }]
      inner: 10.64.0.0/16
peers:
  static:
    - { host: host-1, public_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=, inner: { acme: [10.64.0.9] } }
    - { host: host-2, public_key: 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=, inner: { globex: [10.64.0.9] } }
";

const HOST: &str = "\
host:
  node: host-1
  platform: { interface: eth0, address: 10.9.0.11 }
  tunnel: wireguard
  wireguard: { private_key: /etc/portway/host.key }
  tenants:
    - name: acme
      cidrs: [172.16.0.0/16]
      shards:
        - { shard: 0, gateway: 10.9.0.50, inner: 10.64.0.9, wireguard: { public_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= } }
        - { shard: 1, gateway: 10.9.0.51, inner: 10.64.0.10, wireguard: { public_key: 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=, port: 7000 } }
";

#[test]
fn a_gateway_has_a_key_and_a_port_for_each_shard_and_knows_hosts_by_their_keys() {
    let Config::Gateway(gateway) = parse(GATEWAY, "f").unwrap() else { panic!("not a gateway") };
    let ends: Vec<_> = gateway.tenants.iter().map(|tenant| tenant.shards[0].tunnel.clone()).collect();
    let end = |file: &str, port| GatewayTunnel::Wireguard { private_key: file.into(), port, next: None };
    assert_eq!(ends, [end("/etc/portway/acme.key", 51820), end("/etc/portway/globex.key", 51900)]);
    assert_eq!(gateway.peers[0].end, PeerEnd::Wireguard { public_key: KEY.parse().unwrap() });
}

#[test]
fn a_next_key_has_a_port_below_those_of_all_shards_and_the_next_time_the_other_one() {
    let next = |wireguard: &str| {
        let text = with(GATEWAY, &[("{ private_key: /etc/portway/acme.key }", wireguard)]);
        let Config::Gateway(gateway) = parse(&text, "f").unwrap() else { panic!("not a gateway") };
        let GatewayTunnel::Wireguard { next, .. } = gateway.tenants[0].shards[0].tunnel.clone() else { panic!("no WireGuard") };
        next.map(|next| next.port)
    };
    assert_eq!(next("{ private_key: /k }"), None);
    assert_eq!(next("{ private_key: /k, next: { private_key: /n } }"), Some(51819));
    assert_eq!(next("{ private_key: /k, port: 51819, next: { private_key: /n } }"), Some(51820));
    assert_eq!(next("{ private_key: /k, next: { private_key: /n, port: 7000 } }"), Some(7000));
    let taken = faults(&with(
        GATEWAY,
        &[("{ private_key: /etc/portway/acme.key }", "{ private_key: /k, next: { private_key: /n, port: 51820 } }")],
    ));
    assert!(taken.contains("write another `port` here"), "{taken}");
}

#[test]
fn a_host_has_one_key_and_knows_each_shard_by_its_own() {
    let Config::Host(host) = parse(HOST, "f").unwrap() else { panic!("not a host") };
    assert_eq!(host.wireguard, Some(HostKey { private_key: "/etc/portway/host.key".into(), port: 51820 }));
    let ports: Vec<_> =
        host.tenants[0].shards.iter().map(|shard| if let HostTunnel::Wireguard { port, .. } = shard.tunnel { port } else { 0 }).collect();
    assert_eq!(ports, [51820, 7000]);
}

/// The faults of a text with one piece replaced, for each of these.
fn each(base: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().map(|change| faults(&with(base, &[*change]))).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_wrong_with_wireguard_is_told_with_what_mends_it() {
    let no_ha = "wireguard: { private_key: /etc/portway/acme.key }";
    let gateway = each(
        GATEWAY,
        &[
            ("port: 51900", "port: 51820"),
            ("port: 51900", "port: 0"),
            (", port: 51900", ", prot: 51900"),
            ("private_key: /etc/portway/acme.key", "private_key: acme.key"),
            (no_ha, "key: 7"),
            ("tunnel: wireguard", "tunnel: gre"),
            ("mtu: 1500", "mtu: 1330"),
            (KEY, "hSDwCYkwp1R0i33c"),
            ("public_key: hSDw", "outer: 10.9.0.11, public_key: hSDw"),
            (KEY, "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08="),
        ],
    );
    insta::assert_snapshot!(gateway, @r#"
    f:12:58: port 51820 is already used in line 7; write another `port` here: WireGuard takes one at all addresses of the node
    f:12:64: port 0 is out of range; write 1 to 65535
    f:12:58: unknown key `prot` in `wireguard`; did you mean `port`?
    f:7:33: `private_key` "acme.key" is not an absolute path; write a path from the root, such as /etc/portway/acme.key
    f:6:7: this tenant lacks `wireguard`, which `tunnel: wireguard` needs; add `wireguard: { private_key: /etc/portway/acme.key }`
    f:7:7: `key` goes with `tunnel: gre` only; remove it: WireGuard knows who sends by public keys
    f:6:7: this tenant lacks `key`; add `key: 7`
    f:7:7: `wireguard` goes with `tunnel: wireguard` only; write that, or remove it
    f:11:7: this tenant lacks `key`; add `key: 7`
    f:12:7: `wireguard` goes with `tunnel: wireguard` only; write that, or remove it
    f:18:7: this peer lacks `outer`; add `outer: 10.9.0.11`
    f:18:23: `public_key` does not go with this kind of tunnel; write `outer: 10.9.0.11` instead
    f:19:7: this peer lacks `outer`; add `outer: 10.9.0.11`
    f:19:23: `public_key` does not go with this kind of tunnel; write `outer: 10.9.0.11` instead
    f:3:56: MTU 1330 is out of range; write 1340 to 65535 bytes: the tunnel takes 60 and must leave 1280
    f:18:35: "hSDwCYkwp1R0i33c" is not a public key; 44 characters such as `wg pubkey` prints
    f:18:23: `outer` does not go with this kind of tunnel; write `public_key: KEY` instead
    f:19:35: the public key 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08= is already used in line 18; give every host its own: it is how a host is recognised
    "#);
    let host = each(
        HOST,
        &[
            ("  wireguard: { private_key: /etc/portway/host.key }\n", ""),
            ("private_key: /etc/portway/host.key", "private_key: /etc/portway/host.key, port: 60000"),
            (", wireguard: { public_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= }", ""),
            ("      cidrs", "      key: 7\n      cidrs"),
        ],
    );
    insta::assert_snapshot!(host, @r#"
    f:1:1: `host` lacks `wireguard`, which `tunnel: wireguard` needs; add `wireguard: { private_key: /etc/portway/host.key }`
    f:5:58: port 60000 is out of range; write 1 to 58145: tunnels' ports follow it
    f:10:11: this shard lacks `wireguard`, which `tunnel: wireguard` needs; add `wireguard: { public_key: KEY }`
    f:8:7: `key` goes with `tunnel: gre` only; remove it: WireGuard knows who sends by public keys
    "#);
}
