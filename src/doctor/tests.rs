//! One fact changed at a time, on a machine where all is well.

use super::*;
use crate::plan::facts::LinkFacts;
use rstest::rstest;
use serde_json::json;

mod chains;
mod directory;
mod wireguard;

const GATEWAY: &str = "
gateway:
  node: gw
  platform: { interface: plat0, address: 10.9.0.1 }
  tenants:
    - { name: acme, key: 7, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16 }
peers:
  static: [{ host: host-1, outer: 10.9.0.11, inner: { acme: [10.64.0.9] } }]
";

fn config(with: &str) -> Config {
    crate::config::parse(&GATEWAY.replace("gw\n", &format!("gw\n{with}")), "gateway.yaml").expect("a configuration")
}

fn link(index: u32, address: &str) -> LinkFacts {
    let addresses = vec![address.parse().expect("an address")];
    LinkFacts { index, mtu: 1500, up: true, running: true, addresses, ..LinkFacts::default() }
}

pub(super) fn well() -> Facts {
    let links = [("plat0", link(2, "10.9.0.1/24")), ("eni0", link(3, "172.16.101.4/24"))];
    let settings = [
        ("ipv4/ip_forward", "1"),
        ("netfilter/nf_conntrack_max", "262144"),
        ("netfilter/nf_conntrack_count", "9"),
        ("ipv4/conf/all/rp_filter", "0"),
    ];
    Facts {
        missing_capabilities: vec![],
        kernel: "6.1.0-13-amd64".into(),
        gre: Some(true),
        wireguard: None,
        tun: true,
        nft: Some("nftables v1.0.6 (Lester Gooch #5)".into()),
        ruleset: Ok(json!({ "nftables": [] })),
        legacy_iptables: false,
        network: crate::plan::facts::Facts {
            links: links.map(|(name, link)| (name.parse().expect("a name"), link)).into(),
            flow_tables: true,
        },
        sysctls: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        read_only: None,
        running: vec![],
        keys: vec![],
        directory: None,
        tunnel_keys: vec![],
        missing_for_realtime: vec![],
        clock: Some(Keeping::Kept),
        clocks: Clocks { ahead_ms: [("gw-2".to_owned(), -9.9)].into(), signed: true },
        #[cfg(feature = "aws")]
        cloud: None,
    }
}

impl Facts {
    fn link(&mut self, name: &str) -> &mut LinkFacts {
        self.network.links.get_mut(&name.parse::<IfName>().expect("a name")).expect("a link")
    }

    fn set(&mut self, key: &str, value: &str) {
        self.sysctls.insert(key.into(), value.into());
    }
}

/// All that is not well.
fn complaints(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    examine(facts, config).into_iter().filter(|finding| finding.severity != Severity::Ok).collect()
}

#[test]
fn all_is_well_on_a_good_machine() {
    for config in [None, Some(&config(""))] {
        assert_eq!(complaints(&well(), config), []);
        assert_eq!(worst(&examine(&well(), config)), Severity::Ok);
    }
    assert_eq!(worst(&[]), Severity::Ok);
}

use Severity::{Broken, Note, Warning};

#[rstest]
#[case::kernel(|f: &mut Facts| f.kernel = "5.10.0-28".into(), Warning, "5.10.0-28 is older than 5.18", "install a kernel")]
#[case::capability(|f: &mut Facts| f.missing_capabilities = vec![("CAP_NET_RAW".into(), "send")], Broken, "CAP_NET_RAW is missing", "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW")]
#[case::gre(|f: &mut Facts| f.gre = Some(false), Note, "no ip_gre", "modprobe ip_gre")]
#[case::no_nft(|f: &mut Facts| { f.nft = None; f.ruleset = Err("no nft".into()) }, Broken, "`nft` is not in PATH", "apt-get install -y nftables")]
#[case::old_nft(|f: &mut Facts| f.nft = Some("nftables v0.9.8 (E.D.S.)".into()), Broken, "v0.9.8 (E.D.S.) is older", "apt-get install -y nftables")]
#[case::rules_hidden(|f: &mut Facts| f.ruleset = Err("Operation not permitted".into()), Warning, "not permitted", "root")]
#[case::legacy(|f: &mut Facts| f.legacy_iptables = true, Note, "old iptables", "iptables-legacy-save")]
#[case::forwarding(|f: &mut Facts| f.set("ipv4/ip_forward", "0"), Note, "ip_forward is 0", "")]
#[case::read_only(|f: &mut Facts| f.read_only = Some("Read-only file system".into()), Broken, "cannot be written (Read-only file system)", "--privileged")]
#[case::no_conntrack(|f: &mut Facts| drop(f.sysctls.remove("netfilter/nf_conntrack_max")), Warning, "not loaded", "modprobe nf_conntrack")]
#[case::conntrack_low(|f: &mut Facts| f.set("netfilter/nf_conntrack_max", "8192"), Warning, "room for 8192", "nf_conntrack_max=262144")]
#[case::conntrack_full(|f: &mut Facts| f.set("netfilter/nf_conntrack_count", "183501"), Warning, "183501 of 262144", "nf_conntrack_max=1048576")]
#[case::running(|f: &mut Facts| f.running = vec!["gateway".into()], Note, "takes over", "")]
#[case::other_running(|f: &mut Facts| f.running = vec!["host".into()], Note, "`portway host` is running", "")]
#[case::no_platform(|f: &mut Facts| drop(f.network.links.remove(&"plat0".parse().unwrap())), Broken, "no interface plat0", "there are: eni0")]
#[case::no_tenant(|f: &mut Facts| drop(f.network.links.remove(&"eni0".parse().unwrap())), Broken, "no interface eni0", "there are: plat0")]
#[case::down(|f: &mut Facts| f.link("eni0").up = false, Broken, "eni0 is down", "ip link set dev eni0 up")]
#[case::no_carrier(|f: &mut Facts| f.link("eni0").running = false, Warning, "eni0 has no carrier", "eni0")]
#[case::small_mtu(|f: &mut Facts| f.link("plat0").mtu = 1307, Broken, "1308 at least", "ip link set dev plat0 mtu 1500")]
#[case::no_address(|f: &mut Facts| f.link("plat0").addresses.clear(), Broken, "does not have the platform address 10.9.0.1", "ip address add 10.9.0.1/32 dev plat0")]
#[case::address_elsewhere(|f: &mut Facts| { let net = f.link("plat0").addresses.pop(); f.link("eni0").addresses.extend(net) }, Broken, "10.9.0.1 is on eni0", "interface: eni0")]
#[case::router(|f: &mut Facts| f.link("eni0").addresses = vec!["172.16.9.4/24".parse().unwrap()], Note, "172.16.101.1 is in no subnet of eni0", "arping -I eni0 172.16.101.1")]
#[case::strict_tenant(|f: &mut Facts| f.set("ipv4/conf/eni0/rp_filter", "1"), Note, "strict on eni0: Portway sets src_valid_mark", "")]
#[case::strict_platform(|f: &mut Facts| f.set("ipv4/conf/plat0/rp_filter", "1"), Note, "strict on plat0", "")]
#[case::strict_and_two_ways(
    |f: &mut Facts| { f.set("ipv4/conf/plat0/rp_filter", "1"); f.link("eni0").addresses.push("10.9.0.8/24".parse().unwrap()) },
    Warning, "host-1 (10.9.0.11) is on eni0's subnet too", "net.ipv4.conf.plat0.rp_filter=2"
)]
fn each_finding(#[case] spoil: impl FnOnce(&mut Facts), #[case] severity: Severity, #[case] what: &str, #[case] remedy: &str) {
    let mut facts = well();
    spoil(&mut facts);
    let found = complaints(&facts, Some(&config("")));
    let [finding] = found.as_slice() else { panic!("one finding, not {found:#?}") };
    assert_eq!(finding.severity, severity);
    assert!(finding.what.contains(what), "{}", finding.what);
    assert_eq!(finding.remedy.is_some(), !remedy.is_empty());
    assert!(finding.remedy.iter().all(|is| is.contains(remedy)), "{finding:?}");
}

#[rstest]
#[case::insists_on_the_kernel("  backend: kernel\n", Some(false), true, Broken, "modprobe ip_gre")]
#[case::falls_back_without_tun("", Some(false), false, Broken, "modprobe tun")]
#[case::userspace_without_tun("  backend: userspace\n", Some(true), false, Broken, "modprobe tun")]
#[case::kernel_needs_no_tun("  backend: kernel\n", Some(true), false, Severity::Ok, "")]
#[case::userspace_needs_no_gre("  backend: userspace\n", Some(false), true, Severity::Ok, "")]
#[case::unknown("", None, true, Note, "")]
fn what_carries_the_tunnels(
    #[case] backend: &str,
    #[case] gre: Option<bool>,
    #[case] tun: bool,
    #[case] severity: Severity,
    #[case] remedy: &str,
) {
    let found = examine(&Facts { gre, tun, ..well() }, Some(&config(backend)));
    assert_eq!(worst(&found), severity, "{found:#?}");
    assert_eq!(found[0].remedy.as_deref().unwrap_or(""), remedy);
}

#[rstest]
#[case(1600, Broken, "`platform.mtu` is 1600, but plat0 has 1500")]
#[case(1400, Severity::Ok, "1372 inside tunnels")]
fn a_configured_mtu_must_fit_the_interface(#[case] mtu: u32, #[case] severity: Severity, #[case] what: &str) {
    let config = config("").with_mtu(mtu);
    let found = examine(&well(), Some(&config));
    assert_eq!(worst(&found), severity);
    assert!(found.iter().any(|finding| finding.severity == severity && finding.what.contains(what)), "{found:#?}");
}

impl Config {
    fn with_mtu(mut self, mtu: u32) -> Self {
        if let Config::Gateway(gateway) = &mut self {
            gateway.platform.mtu = Some(mtu);
        }
        self
    }
}

#[test]
fn an_interface_beside_a_havips_may_be_kept_from_answering() {
    let config = crate::config::parse(PAIR, "pair.yaml").expect("a configuration");
    for setting in ["all", "mgmt0"] {
        let mut facts = well();
        facts.network.links.insert("mgmt0".parse().expect("a name"), link(4, "10.9.0.9/24"));
        assert_eq!(complaints(&facts, Some(&config)).len(), 1);
        facts.set(&format!("ipv4/conf/{setting}/arp_ignore"), "1");
        assert_eq!(complaints(&facts, Some(&config)), []);
    }
}

#[test]
fn everyones_rp_filter_counts_and_loose_is_larger_than_strict() {
    let mut facts = well();
    facts.set("ipv4/conf/all/rp_filter", "1");
    assert_eq!(complaints(&facts, Some(&config(""))).len(), 2);
    assert_eq!(complaints(&facts, None).len(), 1);
    facts.set("ipv4/conf/plat0/rp_filter", "2");
    facts.set("ipv4/conf/eni0/rp_filter", "2");
    assert_eq!(complaints(&facts, Some(&config(""))), []);
}

#[test]
fn the_worst_comes_first() {
    let mut facts = well();
    facts.gre = Some(false);
    facts.kernel = "5.4".into();
    facts.nft = None;
    let found = examine(&facts, None);
    assert!(found.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
    assert_eq!(worst(&found), Broken);
    assert_eq!(found[0].severity, Broken);
    assert_eq!(serde_json::to_value(&found[0]).unwrap()["severity"], "broken");
}

const PAIR: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  ha: { nodes: { gw-1: 10.9.0.1, gw-2: 10.9.0.2 }, keys: [{ id: 1, file: /etc/portway/ha.key }] }
  tenants:
    - { name: acme, key: 7, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16,
        shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }] }
";

#[rstest]
#[case::key(|f: &mut Facts| f.keys.push((1, "cannot use /etc/portway/ha.key".into())), Severity::Broken, "cannot use /etc/portway/ha.key", "ha.keys")]
#[case::foreign(
    |f: &mut Facts| f.link("eni0").addresses.push("172.16.101.10/24".parse().unwrap()),
    Severity::Broken,
    "the HaVip 172.16.101.10 is on eni0 for good",
    "ip address del 172.16.101.10/24 dev eni0"
)]
#[case::beside(
    |f: &mut Facts| drop(f.network.links.insert("mgmt0".parse().expect("a name"), link(4, "172.16.0.9/16"))),
    Severity::Warning,
    "mgmt0 is in 172.16.0.0/16 too",
    "net.ipv4.conf.all.arp_ignore=1"
)]
#[case::realtime(|f: &mut Facts| f.missing_for_realtime.push("CAP_SYS_NICE".into()), Severity::Warning, "without CAP_SYS_NICE", "AmbientCapabilities")]
#[case::clock(|f: &mut Facts| f.clock = Some(Keeping::Unkept), Severity::Warning, "nothing keeps this machine's clock right", "`rtcsync`")]
#[case::unmarked_clock(|f: &mut Facts| f.clock = Some(Keeping::Unmarked), Severity::Note, "a daemon keeps this machine's clock, though the kernel counts it as unsynchronised", "`rtcsync`")]
#[case::behind(
    |f: &mut Facts| _ = f.clocks.ahead_ms.insert("gw-2".into(), -31.2),
    Severity::Warning,
    "this clock is 31 ms behind that of gw-2",
    "chronyc tracking"
)]
#[case::ahead(|f: &mut Facts| _ = f.clocks.ahead_ms.insert("gw-2".into(), 10.6), Severity::Warning, "this clock is 11 ms ahead of that of gw-2", "chronyc tracking")]
#[case::unsigned(
    |f: &mut Facts| f.clocks = Clocks { ahead_ms: [("gw-2".into(), -1001.0), ("gw-3".into(), 31.2)].into(), signed: false },
    Severity::Warning,
    "this clock is 1001 ms behind that of gw-2",
    "chronyc tracking"
)]
#[case::firewall(
    |f: &mut Facts| {
        let chain = json!({ "family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "drop" });
        f.ruleset = Ok(json!({ "nftables": [{ "chain": chain }] }));
    },
    Severity::Broken,
    "advertisements that come in (VRRP), and copies of connections that come in (UDP)",
    "ip protocol 112 accept"
)]
fn a_gateway_of_a_group_is_told_what_it_lacks(
    #[case] change: fn(&mut Facts),
    #[case] severity: Severity,
    #[case] what: &str,
    #[case] remedy: &str,
) {
    let config = crate::config::parse(PAIR, "pair.yaml").expect("a configuration");
    let mut facts = well();
    assert!(worst(&examine(&facts, Some(&config))) < Severity::Warning, "{:?}", examine(&facts, Some(&config)));
    change(&mut facts);
    let findings = examine(&facts, Some(&config));
    let found = findings.iter().find(|finding| finding.what.contains(what)).unwrap_or_else(|| panic!("{findings:#?}"));
    assert_eq!(found.severity, severity);
    assert!(found.remedy.as_ref().is_some_and(|text| text.contains(remedy)), "{found:?}");
}

#[test]
fn clocks_that_nobody_signs_with_may_differ_by_a_second() {
    let config = crate::config::parse(PAIR, "pair.yaml").expect("a configuration");
    let apart = |ahead: f64, signed| {
        let facts = Facts { clocks: Clocks { ahead_ms: [("gw-2".into(), ahead)].into(), signed }, ..well() };
        !complaints(&facts, Some(&config)).is_empty()
    };
    assert_eq!(
        [-10.1, -999.0, 1001.0].map(|ahead| (apart(ahead, true), apart(ahead, false))),
        [(true, false), (true, false), (true, true)]
    );
}
