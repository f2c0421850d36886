use super::*;

#[test]
fn tunnels_do_not_run_inside_themselves_and_shards_are_told_apart() {
    insta::assert_snapshot!([
        ("cidrs: [172.16.0.0/16]", "cidrs: [172.16.0.0/16, 10.9.0.0/24]"),
        ("cidrs: [172.16.0.0/16]", "cidrs: [172.16.0.0/16, 10.64.0.0/16]"),
        ("cidrs: [172.16.0.0/16]", "cidrs: [0.0.0.0/0]"),
        ("cidrs: [172.16.0.0/16]", "cidrs: [172.16.4.0/16]"),
        ("cidrs: [172.16.0.0/16]", "cidrs: []"),
        ("cidrs: [172.16.0.0/16]", "cidrs: 172.16.0.0/16"),
        ("shard: 1", "shard: 0"),
        ("shard: 1", "shard: 65536"),
        ("gateway: 10.9.0.2", "gateway: 10.9.0.1"),
        ("gateway: 10.9.0.2", "gateway: 10.9.0.11"),
        ("inner: 10.65.0.9", "inner: 10.64.0.9"),
        ("inner: 10.65.0.9", "inner: 10.65.0.9/32"),
        ("inner: 10.65.0.9", "inner: 10.9.0.11"),
        ("name: globex", "name: acme"),
        ("key: 8", "key: 7"),
        ("interface: eth0", "interface: pw-1"),
        ("host:\n", "peers: { static: [] }\nhost:\n"),
    ].map(|change| faults(&with(HOST, &[change]))).join("\n"), @r#"
    f:10:30: the tenant's network 10.9.0.0/24 contains the platform address 10.9.0.11; write networks without it: the tunnel would run inside itself
    f:12:49: the inner address 10.64.0.9 lies in the tenant's network 10.64.0.0/16; take inner addresses that the tenant does not use
    f:10:15: the tenant's network 0.0.0.0/0 covers 169.254.0.0/16 (link-local and instance metadata), 127.0.0.0/8 (loopback), 224.0.0.0/4 (multicast), 100.100.100.200/32 (Alibaba Cloud's instance metadata), 0.0.0.0/8 (this network (RFC 1122)), 240.0.0.0/4 (reserved and broadcast); write the tenant's own networks only; no gateway forwards to this
    f:10:15: the tenant's network 172.16.4.0/16 is not a network: it has bits behind its prefix; write 172.16.0.0/16, or 172.16.4.0/32 for the address alone
    f:10:14: `cidrs` is an empty list; add an item: `cidrs: [172.16.0.0/16]`
    f:10:14: `cidrs` must be a list, not "172.16.0.0/16"; write `cidrs: [172.16.0.0/16]`
    f:13:20: acme's shard 0 is already used in line 12; give every shard of a tenant its own number
    f:13:20: shard 65536 is out of range; write 0 to 65535
    f:13:32: acme's gateway 10.9.0.1 is already used in line 12; give every shard its own gateway address: the tunnels would be the same
    f:13:32: the gateway 10.9.0.11 is this host's own platform address; write the gateway's platform address
    f:13:49: acme's inner address 10.64.0.9 is already used in line 12; give every shard of a tenant its own inner address
    f:13:49: the inner address "10.65.0.9/32" is not an address; write one address without the prefix length: 10.65.0.9
    f:13:49: the inner address 10.9.0.11 is the platform address; write the address that the gateway has for this host under `peers`
    f:14:15: the tenant name acme is already used in line 8; write all shards of a tenant in one entry
    f:14:28: key 7 is already used in line 9; give every tenant of this node its own key, the same as on its gateways
    f:3:26: pw-1 is a name that Portway gives its own interfaces; name an interface of the machine; none that begins with `pw-`
    f:1:1: `peers` goes with `gateway` only; remove it: a host's gateways stand under `shards`
    "#);
}

#[test]
fn two_tenants_may_have_the_same_networks_gateway_and_inner_address() {
    let Ok(Config::Host(host)) = parse(HOST, "f") else { panic!("not a host") };
    assert_eq!(host.tenants[0].cidrs, host.tenants[1].cidrs);
    let same = |n: usize| (host.tenants[n].shards[0].gateway, host.tenants[n].shards[0].inner);
    assert_eq!(same(0), same(1));
}

#[test]
fn pools_are_of_shards_that_there_are() {
    let with_pools = |pools: &str| with(HOST, &[("cidrs: [172.16.0.0/16]", &format!("cidrs: [172.16.0.0/16]\n      egress: {pools}"))]);
    let Ok(Config::Host(host)) = parse(&with_pools("{ partners: [1], default: [0] }"), "f") else { panic!("not a host") };
    let egress: Vec<_> = host.tenants.iter().map(|tenant| tenant.egress.as_ref().map(ToString::to_string)).collect();
    assert_eq!(egress, [Some("default, partners".into()), None]);
    insta::assert_snapshot!(
        ["{ partners: [2] }", "{ partners: [] }", "{ partners: 1 }", "{ 'all partners': [1] }", "{ a: [0], a: [1] }", "[partners]", "{ a: [1, 1] }", "{ a: [0, 1], default: [1] }"]
            .map(|pools| faults(&with_pools(pools))).join("\n"), @r#"
    f:11:28: the tenant has no shard 2; write shards of `shards`
    f:11:27: a pool is an empty list; add an item: `partners: [1]`
    f:11:27: a pool must be a list, not "1"; write `partners: [1]`
    f:11:17: "all partners" is not a name of a pool; use 1 to 63 letters, digits, '-', '_' or '.', a letter or digit first
    f:11:25: the key a is already used in line 11; write each once
    f:11:15: `egress` must be a map, not a list; write `egress: { partners: [1] }`
    f:11:24: shard 1 is already used in line 11; write each shard of a pool once
    f:11:15: shard 1 is in the pools a and default; take it out of one: whoever names no pool would be seen from the address of a
    "#);
}
