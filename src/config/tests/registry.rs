use super::*;

const GATEWAY: &str = "\
gateway:
  node: gw-a1
  platform: { interface: eth0, address: 10.9.0.1, mtu: 1500 }
  tunnel: wireguard
  directory:
    url: https://directory.example:9473
    token_file: /etc/portway/gw-a1.token
    ca: /etc/portway/directory-ca.pem
  idle: 10m
  tenants:
    - name: acme
      wireguard: { private_key: /etc/portway/acme.key }
      interface: eth1
      allow: [{ to: 172.16.0.0/16, tcp: all }]
      inner: 10.64.0.0/16
";

const HOST: &str = "\
host:
  node: host-1
  platform: { interface: eth0, address: 10.9.0.11 }
  tunnel: wireguard
  directory: { url: https://directory.example:9473, cidrs: [172.16.0.0/16] }
";

#[test]
fn a_gateway_asks_a_directory_beside_its_static_peers_or_alone() {
    let Config::Gateway(gateway) = parse(GATEWAY, "f").unwrap() else { panic!("not a gateway") };
    let at = gateway.directory.unwrap();
    assert_eq!((at.url.as_str(), at.token_file.to_str()), ("https://directory.example:9473/", Some("/etc/portway/gw-a1.token")));
    assert_eq!((at.ca.unwrap().to_str(), at.state_dir.to_str()), (Some("/etc/portway/directory-ca.pem"), Some("/var/lib/portway")));
    assert_eq!((gateway.idle.as_secs(), gateway.peers.len()), (600, 0));
    let beside = format!(
        "{}peers: {{ static: [{{ host: host-1, public_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=, inner: {{ acme: [10.64.0.9] }} }}] }}\n",
        with(GATEWAY, &[("  idle: 10m\n", "")])
    );
    let Config::Gateway(gateway) = parse(&beside, "f").unwrap() else { panic!("not a gateway") };
    assert_eq!((gateway.idle.as_secs(), gateway.peers.len(), gateway.directory.is_some()), (300, 1, true));
}

/// The same in a group whose nodes the directory knows.
fn group(changes: &[(&str, &str)]) -> String {
    let ha = "  ha: { nodes: directory, keys: [{ id: 1, file: /etc/portway/ha.key }] }\n";
    let shard = "shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, wireguard: { private_key: /k } }]";
    let text = with(GATEWAY, &[("  idle: 10m\n", ha), ("wireguard: { private_key: /etc/portway/acme.key }", shard)]);
    with(&text, changes)
}

#[test]
fn the_directory_may_know_who_is_in_the_group() {
    let Config::Gateway(gateway) = parse(&group(&[]), "f").unwrap() else { panic!("not a gateway") };
    let ha = gateway.ha.as_ref().unwrap();
    assert_eq!((ha.by_directory(), ha.leaving.len(), ha.nodes.len()), (true, 0, 1));
    assert_eq!(ha.nodes.values().next(), Some(&gateway.platform.address));
    assert_eq!(gateway.served().count(), 0, "nobody has said yet that it is a candidate");
    let leaving = faults(&group(&[("nodes: directory,", "nodes: directory, leaving: [gw-a1],")]));
    assert!(leaving.starts_with("f:9:") && leaving.contains("`portway drain --leave`"), "{leaving}");
    let (begins, ends) = (GATEWAY.find("  directory:").unwrap(), GATEWAY.find("  idle:").unwrap());
    let alone = faults(&group(&[(&GATEWAY[begins..ends], "")]));
    assert!(alone.starts_with("f:5:") && alone.contains("the gateway has no `directory` to ask; add `directory: { url:"), "{alone}");
    let other = faults(&group(&[("nodes: directory", "nodes: directories")]));
    assert!(other.contains("not \"directories\"") && other.contains("or `nodes: directory`"), "{other}");
}

#[test]
fn a_host_that_enrolled_needs_little_in_its_file() {
    let Config::Host(host) = parse(HOST, "f").unwrap() else { panic!("not a host") };
    assert_eq!(host.wireguard, Some(HostKey { private_key: "/var/lib/portway/host.key".into(), port: 51820 }));
    let directory = host.directory.unwrap();
    assert_eq!(directory.at.token_file.to_str(), Some("/var/lib/portway/host.token"));
    assert_eq!((directory.cidrs.len(), host.tenants.len()), (1, 0));
    // What it says itself holds: other files, and tenants with networks of their own.
    let more = with(
        HOST,
        &[
            ("cidrs: [172.16.0.0/16]", "token_file: /etc/t, state_dir: /srv/p"),
            ("  tunnel", "  tenants: [{ name: acme, cidrs: [192.168.0.0/16] }]\n  wireguard: { port: 7000 }\n  tunnel"),
        ],
    );
    let Config::Host(host) = parse(&more, "f").unwrap() else { panic!("not a host") };
    assert_eq!(host.wireguard, Some(HostKey { private_key: "/srv/p/host.key".into(), port: 7000 }));
    assert_eq!(host.tenants[0].shards, []);
    assert_eq!(host.directory.unwrap().at.token_file.to_str(), Some("/etc/t"));
}

#[test]
fn what_is_wrong_with_a_directory_that_is_asked_is_told_with_what_mends_it() {
    let gateway = [
        ("https://directory.example:9473", "http://directory.example:9473"),
        ("https://directory.example:9473", "directory.example"),
        ("https://directory.example:9473", "ftp://directory.example"),
        ("https://directory.example:9473", "https://me:secret@directory.example"),
        ("    token_file: /etc/portway/gw-a1.token\n", ""),
        ("/etc/portway/gw-a1.token", "gw-a1.token"),
        ("/etc/portway/directory-ca.pem", "ca.pem"),
        ("    ca:", "    state_dir: here\n    ca:"),
        ("idle: 10m", "idle: 10ms"),
        ("idle: 10m", "idle: soon"),
        ("    ca:", "    cidrs: [172.16.0.0/16]\n    ca:"),
    ];
    let mut all: Vec<String> = gateway.iter().map(|change| faults(&with(GATEWAY, &[*change]))).collect();
    let alone = GATEWAY.split("  directory:").next().unwrap().to_owned() + "  idle" + GATEWAY.split("  idle").nth(1).unwrap();
    all.push(faults(&alone));
    let gre = super::GATEWAY.replacen("  tenants:", "  directory: { url: https://d.example, token_file: /t }\n  tenants:", 1);
    all.push(faults(&gre));
    let host = [
        ("https://directory.example:9473", "http://10.9.0.5:9473"),
        ("cidrs: [172.16.0.0/16]", "cidrs: [10.9.0.0/16]"),
        ("cidrs: [172.16.0.0/16]", "cidrs: []"),
        ("cidrs: [172.16.0.0/16]", "cidr: [172.16.0.0/16]"),
        ("  tunnel: wireguard\n", ""),
        ("  directory: { url: https://directory.example:9473, cidrs: [172.16.0.0/16] }\n", ""),
    ];
    all.extend(host.iter().map(|change| faults(&with(HOST, &[*change]))));
    insta::assert_snapshot!(all.join("\n"), @r#"
    f:6:10: `url` "http://directory.example:9473" would take the token over the network in clear; write https://directory.example:9473
    f:6:10: `url` "directory.example" is no URL; write where the directory listens, such as https://directory.example:9473
    f:6:10: `url` "ftp://directory.example" is neither https nor, on loopback, http; write where the directory listens, such as https://directory.example:9473
    f:6:10: `url` holds more than the place of a directory; write where the directory listens, such as https://directory.example:9473
    f:5:3: `directory` lacks `token_file`; add `token_file: /etc/portway/gw-a1.token`
    f:7:17: `token_file` "gw-a1.token" is not an absolute path; write a path from the root, such as /etc/portway/gw-a1.token
    f:8:9: `ca` "ca.pem" is not an absolute path; write a path from the root, such as /etc/portway/directory-ca.pem
    f:8:16: `state_dir` "here" is not an absolute path; write a path from the root, such as /var/lib/portway
    f:9:9: `idle` is out of range; write 1s to 24h; below 30s, hosts that are there and silent are taken too
    f:9:9: `idle` "soon" is not a time; write a number and its unit (ms, s, m or h), such as 5m
    f:8:5: unknown key `cidrs` in `directory`; the keys here are `url`, `token_file`, `ca`, `state_dir`
    f:5:3: `idle` goes with `directory` only; add `directory`, or remove it: peers of the file stay
    f:7:3: `directory` goes with `tunnel: wireguard` only; write that, or remove it: GRE knows hosts by their addresses, which the file lists
    f:5:21: `url` "http://10.9.0.5:9473" would take the token over the network in clear; write https://10.9.0.5:9473
    f:5:61: the tenant's network 10.9.0.0/16 contains the platform address 10.9.0.11; write networks without it: the tunnel would run inside itself
    f:5:60: `cidrs` is an empty list; add an item: `cidrs: [172.16.0.0/16]`
    f:5:53: unknown key `cidr` in `directory`; did you mean `cidrs`?
    f:4:3: `directory` goes with `tunnel: wireguard` only; write that, or remove it: GRE knows hosts by their addresses, which the file lists
    f:1:1: `host` lacks `wireguard`, which `tunnel: wireguard` needs; add `wireguard: { private_key: /etc/portway/host.key }`
    f:1:1: `host` lacks `tenants`; add `tenants: [{ name: acme, ... }]`, or a `directory` that knows them
    "#);
    // On loopback nobody listens in.
    assert_eq!(faults(&with(HOST, &[("https://directory.example:9473", "http://127.0.0.1:9473")])), "no fault");
}
