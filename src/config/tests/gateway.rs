use super::*;
use std::time::Duration;

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_file() {
    let text = with(
        GATEWAY,
        &[
            ("node: gw-a1", "nod: gw-a1"),
            ("mtu: 1500", "mtu: 150"),
            ("backend: auto", "backend: kernal"),
            ("key: 7", "key: -7"),
            ("172.16.0.0/16, tcp: [5432", "172.16.0.1/16, tcp: [70000"),
            ("icmp: true", "icmp: yes"),
            ("key: 8, ", ""),
            ("host: host-2", "host: host-1"),
        ],
    );
    insta::assert_snapshot!(faults(&text), @r#"
    f:2:3: unknown key `nod` in `gateway`; did you mean `node`?
    f:3:56: MTU 150 is out of range; write 1308 to 65535 bytes: the tunnel takes 28 and must leave 1280
    f:4:12: `backend` cannot be "kernal"; did you mean `kernel`?
    f:9:12: key "-7" is not a number; write 0 to 4294967295, in decimal
    f:13:17: `to` 172.16.0.1/16 is not a network: it has bits behind its prefix; write 172.16.0.0/16, or 172.16.0.1/32 for the address alone
    f:13:38: "70000" is not a port or a range of ports; write 5432 or 8000-8099, each 1 to 65535
    f:13:76: `icmp` must be true or false, not "yes"; write true
    f:16:7: this tenant lacks `key`; add `key: 7`
    f:20:15: the host name host-1 is already used in line 19; give every host its own name
    "#);
}

#[test]
fn a_terminal_shows_the_line_the_place_and_the_remedy() {
    let faults = parse(&with(GATEWAY, &[("key: 7", "key: seven")]), "gw.yaml").unwrap_err();
    insta::assert_snapshot!(faults.render(false), @r#"
      × key "seven" is not a number
        ╭─[gw.yaml:9:12]
      8 │     - name: acme
      9 │       key: seven
        ·            ──┬──
        ·              ╰── here
     10 │       interface: eth1
        ╰────
      help: write 0 to 4294967295, in decimal
    gw.yaml: 1 fault
    "#);
    assert!(faults.render(true).contains("\u{1b}["));
}

#[test]
fn scalars() {
    insta::assert_snapshot!([
        ("address: 10.9.0.1", "address: 10.9.0.0/24"),
        ("address: 10.9.0.1", "address: 10.9.0.256"),
        ("address: 10.9.0.1", "address: 224.0.0.5"),
        ("address: 10.9.0.1", "address: 127.0.0.1"),
        ("address: 10.9.0.1", "address: 0.0.0.0"),
        ("address: 10.9.0.1", "address: 2001:db8::1"),
        ("address: 10.9.0.1", "address: [10.9.0.1]"),
        ("interface: eth0", "interface: pw-3"),
        ("interface: eth0", "interface: an-interface-name-too-long"),
        ("interface: eth0, ", ""),
        ("mtu: 1500", "mtu: 1300"),
        ("mtu: 1500", "mtu: 70000"),
        ("mtu: 1500", "mtu:"),
        ("backend: auto", "tunnel: vxlan"),
        ("backend: auto", "backend: xdp"),
        ("runtime_dir: /run/portway", "runtime_dir: run"),
        ("admin: 127.0.0.1:9470", "admin: 9470"),
        ("admin: 127.0.0.1:9470", "admin: 127.0.0.1:0"),
        ("key: 7", "key: 4294967296"),
        ("key: 7", "key: 007"),
        ("node: gw-a1", "node: -gw"),
        ("node: gw-a1", "node: gw-a1\n  node: gw-a2"),
        ("172.16.101.1\n", "172.16.101.1/24\n"),
        ("snat: { address: 172.16.101.10", "snat: { address: 169.254.1.1"),
        ("ports: 1024-65535", "ports: 65535-1024"),
        ("ports: 1024-65535", "ports: 0-5"),
        ("snat: { address: 172.16.101.10", "snat: { adress: 172.16.101.10"),
    ].map(|change| faults(&with(GATEWAY, &[change]))).join("\n"), @r#"
    f:3:41: the platform address "10.9.0.0/24" is not an address; write one address without the prefix length: 10.9.0.0
    f:3:41: the platform address "10.9.0.256" is not an address; write an IPv4 address such as 10.9.0.1
    f:3:41: the platform address 224.0.0.5 is multicast; write an address that an interface of one machine has
    f:3:41: the platform address 127.0.0.1 is loopback; write an address that an interface of one machine has
    f:3:41: the platform address 0.0.0.0 is unspecified; write an address that an interface of one machine has
    f:3:41: the platform address 2001:db8::1 is IPv6, which is not supported yet; write an IPv4 address
    f:3:41: the platform address must be one value, not a list; write `10.9.0.1`
    f:3:26: pw-3 is a name that Portway gives its own interfaces; name an interface of the machine; none that begins with `pw-`
    f:3:26: "an-interface-name-too-long" is not an interface name; use 1 to 15 characters without '/', ':', quotes or white space
    f:3:3: `platform` lacks `interface`; add `interface: eth0`
    f:3:56: MTU 1300 is out of range; write 1308 to 65535 bytes: the tunnel takes 28 and must leave 1280
    f:3:56: MTU 70000 is out of range; write 1308 to 65535 bytes: the tunnel takes 28 and must leave 1280
    f:3:51: `mtu` has no value; write `mtu: 1500` or remove the line
    f:4:11: `tunnel` cannot be "vxlan"; write gre or wireguard
    f:4:12: `backend` cannot be "xdp"; write auto or kernel or userspace
    f:5:16: `runtime_dir` "run" is not an absolute path; write a path from the root, such as /run/portway
    f:6:10: `admin` "9470" is not an address and port; write both, such as 127.0.0.1:9470 or [::1]:9470
    f:6:10: `admin` has port 0; write a port from 1 to 65535, such as 127.0.0.1:9470
    f:9:12: key 4294967296 is out of range; write 0 to 4294967295
    f:9:12: key "007" is not a number; write 0 to 4294967295, in decimal
    f:2:9: "-gw" is not a node name; use 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first
    f:3:3: `node` is given twice; keep this or line 2
    f:11:15: the router "172.16.101.1/24" is not an address; write one address without the prefix length: 172.16.101.1
    f:14:24: the snat address 169.254.1.1 is link-local; write an address that an interface of one machine has
    f:14:46: 65535-1024 runs backwards; write 1024-65535
    f:14:46: port 0 cannot be used; ports are 1 to 65535
    f:14:15: unknown key `adress` in `snat`; did you mean `address`?
    "#);
}

#[test]
fn destinations() {
    insta::assert_snapshot!([
        ("to: 172.16.0.0/16, tcp", "to: 172.16.0.1/16, tcp"),
        ("to: 172.16.0.0/16, tcp", "to: 172.16.0.1, tcp"),
        ("to: 172.16.0.0/16, tcp", "to: 172.16.0.0/33, tcp"),
        ("to: 172.16.0.0/16, tcp", "to: fd00::/8, tcp"),
        ("to: 172.16.0.0/16, tcp", "to: 169.254.169.254/32, tcp"),
        ("to: 172.16.0.0/16, tcp", "to: 100.64.0.0/10, tcp"),
        ("to: 172.16.0.0/16, tcp", "to: 10.64.3.0/24, tcp"),
        ("to: 172.16.0.0/16, tcp", "to: 10.9.0.0/24, tcp"),
        ("to: 172.16.0.0/16, tcp", "to: 0.0.0.0/0, tcp"),
        (", tcp: [5432, \"8000-8099\"], udp: [53], icmp: true", ""),
        (", tcp: [5432, \"8000-8099\"], udp: [53], icmp: true", ", tcp: [], icmp: false"),
        ("tcp: [5432, \"8000-8099\"]", "tcp: { ports: 80 }"),
        ("tcp: [5432, \"8000-8099\"]", "tcp: [0, 8099-8000, http]"),
    ].map(|change| faults(&with(GATEWAY, &[change]))).join("\n"), @r#"
    f:13:17: `to` 172.16.0.1/16 is not a network: it has bits behind its prefix; write 172.16.0.0/16, or 172.16.0.1/32 for the address alone
    f:13:17: `to` "172.16.0.1" has no prefix length; write 172.16.0.1/32 for this address alone
    f:13:17: `to` "172.16.0.0/33" is not a network; a prefix length is 0 to 32
    f:13:17: `to` fd00::/8 is IPv6, which is not supported yet; write an IPv4 network
    f:13:17: `to` 169.254.169.254/32 covers 169.254.0.0/16 (link-local and instance metadata); write the tenant's own networks only; this is never forwarded
    f:13:17: `to` 100.64.0.0/10 covers 100.100.100.200/32 (Alibaba Cloud's instance metadata); write the tenant's own networks only; this is never forwarded
    f:13:17: `to` 10.64.3.0/24 overlaps this tenant's inner addresses 10.64.0.0/16; move `inner` to addresses that the tenant does not use
    f:13:17: `to` 10.9.0.0/24 contains the platform address 10.9.0.1; write networks without it: tunnels would run into themselves
    f:13:17: `to` 0.0.0.0/0 covers 169.254.0.0/16 (link-local and instance metadata), 127.0.0.0/8 (loopback), 224.0.0.0/4 (multicast), 100.100.100.200/32 (Alibaba Cloud's instance metadata), 0.0.0.0/8 (this network (RFC 1122)), 240.0.0.0/4 (reserved and broadcast); write the tenant's own networks only; this is never forwarded
    f:13:13: this `allow` entry has neither tcp, udp nor icmp; add `tcp: [5432]`, `tcp: all`, `udp: [53]`, `udp: all` or `icmp: true`
    f:13:13: this `allow` entry allows nothing; add `tcp: [5432]`, `tcp: all`, `udp: [53]`, `udp: all` or `icmp: true`
    f:13:37: `tcp` must be a list of ports, not a map; write `tcp: [5432, "8000-8099"]` or `tcp: all`
    f:13:38: port 0 cannot be used; ports are 1 to 65535
    f:13:41: 8099-8000 runs backwards; write 8000-8099
    f:13:52: "http" is not a port or a range of ports; write 5432 or 8000-8099, each 1 to 65535
    "#);
}

#[test]
fn tenants_are_told_apart() {
    insta::assert_snapshot!([
        ("name: globex", "name: acme"),
        ("key: 8", "key: 7"),
        ("interface: eth2", "interface: eth1"),
        ("interface: eth2", "interface: eth0"),
        ("address: 172.16.101.10", "address: 10.9.0.1"),
        ("inner: 10.64.0.0/16\n", "inner: 10.0.0.0/8\n"),
        ("inner: 10.64.0.0/16\n", "inner: 0.0.0.0/1\n"),
    ].map(|change| faults(&with(GATEWAY, &[change]))).join("\n"), @r#"
    f:16:15: the tenant name acme is already used in line 8; give every tenant of this node its own name
    f:20:70: "globex" is no tenant of this gateway; the tenants here are acme
    f:16:28: key 7 is already used in line 9; give every tenant of this node its own key, the same as on its function hosts
    f:16:42: the interface eth1 is already used in line 10; give every tenant its own interface: what comes in on it is the tenant's
    f:16:42: eth0 is the platform's interface too; name the interface in the tenant's subnet: the two sides must be apart
    f:14:24: the snat address 10.9.0.1 is the platform address; write an address on the tenant's interface, or none to take that interface's own
    f:15:14: `inner` 10.0.0.0/8 contains the platform address 10.9.0.1; choose inner addresses that nothing outside the tunnels has
    f:15:14: `inner` 0.0.0.0/1 covers 127.0.0.0/8 (loopback), 100.100.100.200/32 (Alibaba Cloud's instance metadata), 0.0.0.0/8 (this network (RFC 1122)); choose from private address space, such as 10.64.0.0/16 or 100.64.0.0/16
    "#);
}

#[test]
fn peers() {
    insta::assert_snapshot!([
        ("host: host-2", "host: host-1"),
        ("outer: 10.9.0.12", "outer: 10.9.0.11"),
        ("outer: 10.9.0.12", "outer: 10.9.0.1"),
        ("outer: 10.9.0.12", "outer: 10.64.7.7"),
        ("globex: [10.64.0.9]", "globbex: [10.64.0.9]"),
        ("globex: [10.64.0.9]", "initech: [10.64.0.9]"),
        ("acme: [10.64.0.10]", "acme: [10.64.1.3]"),
        ("acme: [10.64.0.10]", "acme: [10.65.0.10]"),
        ("acme: [10.64.0.10]", "acme: [10.64.0.1/24]"),
        ("acme: [10.64.0.10]", "acme: []"),
        ("acme: [10.64.0.10]", "acme: 10.64.0.10"),
        ("{ acme: [10.64.0.10], globex: [10.64.0.9] }", "{}"),
        ("{ acme: [10.64.0.10], globex: [10.64.0.9] }", "[10.64.0.10]"),
    ].map(|change| faults(&with(GATEWAY, &[change]))).join("\n"), @r#"
    f:20:15: the host name host-1 is already used in line 19; give every host its own name
    f:20:30: the outer address 10.9.0.11 is already used in line 19; give every host its own: it is how a host is recognised
    f:20:30: the outer address 10.9.0.1 is this gateway's own platform address; write the host's platform address
    f:20:30: the outer address 10.64.7.7 lies in 10.64.0.0/16, which tenant acme routes; write the host's platform address, or narrow the tenant's `allow` and `inner`
    f:20:70: "globbex" is no tenant of this gateway; did you mean `globex`?
    f:20:70: "initech" is no tenant of this gateway; the tenants here are acme, globex
    f:20:57: the inner prefix 10.64.1.3/32 overlaps 10.64.1.0/28 of host-1 in line 19, tenant acme; give every host its own inner prefixes: answers would go to the wrong one
    f:20:57: the inner prefix 10.65.0.10/32 lies outside of acme's inner range 10.64.0.0/16; take one from 10.64.0.0/16, or widen the tenant's `inner`
    f:20:57: the inner prefix 10.64.0.1/24 is not a network: it has bits behind its prefix; write 10.64.0.0/24, or 10.64.0.1/32 for the address alone
    f:20:56: `inner` of acme is an empty list; add an item: `acme: [10.64.0.9]`
    f:20:56: `inner` of acme must be a list, not "10.64.0.10"; write `acme: [10.64.0.9]`
    f:20:41: this peer serves no tenant; write `inner: { acme: [10.64.0.9, 10.64.1.0/28] }`, or remove the peer
    f:20:48: `inner` must be a map by tenant, not a list; write `inner: { acme: [10.64.0.9, 10.64.1.0/28] }`
    "#);
}

#[test]
fn a_tenant_whose_name_is_faulty_does_not_make_its_peers_faulty() {
    one(
        GATEWAY,
        "name: globex",
        "name: glob/ex",
        "f:16:15: \"glob/ex\" is not a tenant name; use 1 to 48 letters, digits, '-', '_' or '.', a letter or digit first",
    );
}

#[test]
fn ports_come_out_sorted_and_disjoint_whatever_their_order() {
    let Ok(Config::Gateway(gateway)) = parse(&with(GATEWAY, &[("[5432, \"8000-8099\"]", "[8050-9000, 443, 8000-8099, 444, 9001]")]), "f")
    else {
        panic!("not a gateway")
    };
    let ports: Vec<String> = gateway.tenants[0].allow[0].tcp.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["443-444", "8000-9001"]);
}

#[test]
fn no_peers_yet_is_a_gateway_still() {
    let lines: Vec<&str> = GATEWAY.lines().take(16).collect();
    for peers in ["", "peers: { static: [] }\n"] {
        assert_eq!(faults(&format!("{}\n{peers}", lines.join("\n"))), "no fault");
    }
}

#[test]
fn ten_thousand_peers_are_checked_in_a_second() {
    let mut text = with(GATEWAY, &[("10.64.0.0/16\n", "10.64.0.0/14\n")]).lines().take(18).collect::<Vec<_>>().join("\n");
    for n in 0..10_000 {
        let (a, b) = (n / 250, n % 250 + 1);
        text += &format!("\n    - {{ host: host-{n}, outer: 10.20.{a}.{b}, inner: {{ acme: [10.65.{a}.{b}, 10.66.{a}.{b}] }} }}");
    }
    // Of this thread alone: others may have the machine meanwhile.
    let spent = || Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let begin = spent();
    let Ok(Config::Gateway(gateway)) = parse(&text, "f") else { panic!("{}", faults(&text)) };
    let took = spent() - begin;
    assert_eq!(gateway.peers.len(), 10_000);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn names_of_the_admin_address_are_names_and_the_same_in_any_case() {
    for (base, admin) in [(GATEWAY, "admin: 127.0.0.1:9470"), (HOST, "admin: 127.0.0.1:9471")] {
        let named = format!("{admin}\n  admin_names: [GW-1.example.com, gw-1.example.com, b]");
        let names = match parse(&with(base, &[(admin, &named)]), "f") {
            Ok(Config::Gateway(gateway)) => gateway.admin_names,
            Ok(Config::Host(host)) => host.admin_names,
            other => panic!("{other:?}"),
        };
        assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b", "gw-1.example.com"]);
    }
    let at = |names: &str| faults(&with(GATEWAY, &[("admin: 127.0.0.1:9470", &format!("admin: 127.0.0.1:9470\n  admin_names: {names}"))]));
    insta::assert_snapshot!(["[\"gw-1:9470\"]", "[http://gw-1]", "gw-1"].map(at).join("\n"), @r#"
    f:7:17: "gw-1:9470" is no name of a machine; write one as DNS has it, without a port, such as gw-1.example.com
    f:7:17: "http://gw-1" is no name of a machine; write one as DNS has it, without a port, such as gw-1.example.com
    f:7:16: `admin_names` must be a list, not "gw-1"; write `admin_names: [gw-1.example.com]`
    "#);
}
