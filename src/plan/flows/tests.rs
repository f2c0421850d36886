use super::*;
use crate::config::{self, Config, Gateway};

fn gateway(allow: &str, snat: &str, peers: &str) -> Gateway {
    let text = format!(
        "gateway: {{ node: gw, platform: {{ interface: plat0, address: 10.9.0.1 }}, tenants: [{{ name: acme, key: 7, interface: eth1,
           allow: {allow}, {snat}, inner: 10.64.0.0/16 }}] }}\npeers: {{ static: {peers} }}"
    );
    match config::parse(&text, "gateway.yaml") {
        Ok(Config::Gateway(gateway)) => gateway,
        other => panic!("{other:?}"),
    }
}

const ALLOW: &str = "[{ to: 172.16.0.0/16, tcp: [80, \"8000-8099\"] }, { to: 172.16.5.0/24, udp: [53], icmp: true }]";
const FIXED: &str = "snat: { address: 172.16.101.10, ports: 1024-65535 }";
const MASQUERADE: &str = "snat: { ports: 1024-65535 }";
const PEERS: &str = "[{ host: a, outer: 10.9.0.11, inner: { acme: [10.64.0.11, 10.64.1.0/28] } }, { host: b, outer: 10.9.0.12, inner: { acme: [10.64.0.12] } }]";

fn key(source: &str, destination: &str, protocol: FlowProtocol) -> FlowKey {
    FlowKey { zone: 0x2001, source: source.parse().unwrap(), destination: destination.parse().unwrap(), protocol }
}

fn tcp(destination: u16) -> FlowProtocol {
    FlowProtocol::Tcp { source: 40000, destination }
}

fn udp(destination: u16) -> FlowProtocol {
    FlowProtocol::Udp { source: 40000, destination }
}

fn icmp(kind: u8) -> FlowProtocol {
    FlowProtocol::Icmp { id: 80, kind, code: 0 }
}

fn nat(address: &str) -> Option<NatSource> {
    Some(NatSource { address: address.parse().unwrap(), port: 2000 })
}

fn first(config: &Gateway) -> Ruled<'_> {
    (&config.tenants[0], &config.tenants[0].shards[0])
}

fn changed(old: &Gateway, new: &Gateway) -> Option<Terms> {
    let owners = |config: &Gateway| Owners::of(&config.peers).into_values().next().unwrap_or_default();
    Terms::changed(first(old), owners(old), first(new), owners(new))
}

/// Whether a connection of a source to port 80 ends.
fn ends(terms: &Terms, source: &str) -> bool {
    terms.end(&key(source, "172.16.0.1", tcp(80)), nat("172.16.101.10"))
}

#[test]
fn what_is_permitted_is_what_some_entry_names() {
    let allow = &gateway(ALLOW, FIXED, PEERS).tenants[0].allow;
    let permitted = |to: &str, protocol| permits(allow, &key("10.64.0.11", to, protocol));
    for (to, protocol, expected) in [
        ("172.16.0.1", tcp(80), true),
        ("172.16.255.255", tcp(8000), true),
        ("172.16.5.1", tcp(8099), true),
        ("172.16.5.1", udp(53), true),
        ("172.16.5.255", icmp(8), true),
        ("172.17.0.1", tcp(80), false),
        ("172.16.0.1", tcp(79), false),
        ("172.16.0.1", tcp(8100), false),
        ("172.16.5.1", tcp(53), false),
        ("172.16.5.1", udp(80), false),
        ("172.16.4.1", udp(53), false),
        ("172.16.4.1", icmp(8), false),
        // A timestamp request.
        ("172.16.5.1", icmp(13), false),
    ] {
        assert_eq!(permitted(to, protocol), expected, "{to} {protocol:?}");
    }
    assert!(!permits(&[], &key("10.64.0.11", "172.16.0.1", tcp(80))));
    let six = Allow { to: "fd00::/8".parse().unwrap(), tcp: vec![], udp: vec![], icmp: true };
    assert!(permits(std::slice::from_ref(&six), &key("fd01::1", "fd02::1", icmp(128))));
    assert!(!permits(&[six], &key("10.64.0.11", "172.16.0.1", icmp(8))));
}

#[test]
fn a_shorter_list_ends_what_it_leaves_out_and_of_functions_only() {
    let old = gateway(ALLOW, FIXED, PEERS);
    assert_eq!(changed(&old, &old), None);
    let terms = changed(&old, &gateway("[{ to: 172.16.0.0/16, tcp: [80] }]", FIXED, PEERS)).unwrap();
    let end = |source: &str, protocol| terms.end(&key(source, "172.16.0.1", protocol), nat("172.16.101.10"));
    assert!(end("10.64.0.11", tcp(8000)));
    assert!(!end("10.64.0.11", tcp(80)));
    assert!(!end("172.16.101.4", tcp(8000)), "the machine's own");
}

#[test]
fn another_address_ends_what_is_translated_to_the_old_one() {
    let fixed = gateway(ALLOW, FIXED, PEERS);
    let flow = key("10.64.0.11", "172.16.0.1", tcp(80));
    let end = |old: &Gateway, new: &Gateway, to: &str| changed(old, new).unwrap().end(&flow, nat(to));
    let moved = gateway(ALLOW, "snat: { address: 172.16.101.11 }", PEERS);
    assert!(end(&fixed, &moved, "172.16.101.10") && !end(&fixed, &moved, "172.16.101.11"));
    let own = gateway(ALLOW, MASQUERADE, PEERS);
    assert!(end(&fixed, &own, "172.16.101.10") && !end(&fixed, &own, "172.16.101.4"));
    assert!(end(&own, &fixed, "172.16.101.4") && !end(&own, &fixed, "172.16.101.10"));
    // Answers to a port outside of the new range still come.
    let narrow = gateway(ALLOW, "snat: { address: 172.16.101.10, ports: 40000-40100 }", PEERS);
    assert!(!end(&fixed, &narrow, "172.16.101.10"));
    assert!(!changed(&fixed, &moved).unwrap().end(&flow, None));
}

#[test]
fn a_prefix_that_a_host_loses_loses_its_connections() {
    let old = gateway(ALLOW, FIXED, PEERS);
    let with = |peers: &str| changed(&old, &gateway(ALLOW, FIXED, peers)).unwrap();
    let gone = with("[{ host: a, outer: 10.9.0.11, inner: { acme: [10.64.0.11, 10.64.1.4] } }]");
    assert!(ends(&gone, "10.64.0.12") && ends(&gone, "10.64.1.5") && !ends(&gone, "10.64.0.11") && !ends(&gone, "10.64.1.4"));
    let handed_on = with("[{ host: b, outer: 10.9.0.12, inner: { acme: [10.64.0.0/24] } }]");
    assert!(ends(&handed_on, "10.64.0.11") && !ends(&handed_on, "10.64.0.12"));
}

#[test]
fn a_host_that_goes_takes_its_connections_along_and_no_others() {
    let config = gateway(ALLOW, FIXED, PEERS);
    let gone = Owners::of(&config.peers[..1]).into_values().next().unwrap();
    let terms = Terms::without(first(&config), gone);
    assert!(ends(&terms, "10.64.0.11") && ends(&terms, "10.64.1.15") && !ends(&terms, "10.64.0.12") && !ends(&terms, "10.64.1.16"));
}

#[test]
fn what_an_earlier_process_left_goes_on_if_it_has_a_host_and_is_permitted() {
    let config = gateway(ALLOW, FIXED, PEERS);
    let terms = Terms::found(first(&config), Owners::of(&config.peers).into_values().next().unwrap(), true);
    assert!(!ends(&terms, "10.64.0.11") && ends(&terms, "10.64.0.13") && !ends(&terms, "172.16.101.4"));
    assert!(terms.end(&key("10.64.0.11", "172.16.0.1", tcp(443)), nat("172.16.101.10")));
}
