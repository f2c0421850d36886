use super::super::wireguard::Origin;
use super::super::*;
use super::{complaints, well};
use crate::config::Config;
use rstest::rstest;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const GATEWAY: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  ha: { nodes: { gw-1: 10.9.0.1, gw-2: 10.9.0.2 }, keys: [{ id: 1, file: /etc/portway/ha.key }] }
  tenants:
    - { name: acme, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16,
        shards: [
          { shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10, wireguard: { private_key: KEYS/0.key, next: { private_key: KEYS/0.next.key } } },
          { shard: 1, vrid: 52, platform: 10.9.0.51, tenant: 172.16.101.11, wireguard: { private_key: KEYS/1.key } },
        ] }
";

/// A key and the next one, at 51820 and 51819.
const ALONE: &str = "
gateway:
  node: gw-1
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  tenants:
    - { name: acme, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16,
        wireguard: { private_key: KEYS/0.key, next: { private_key: KEYS/0.next.key } } }
peers:
  static: []
";

const HOST: &str = "
host:
  node: host-1
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  wireguard: { private_key: KEYS/0.key }
  tenants:
    - { name: acme, cidrs: [172.16.0.0/16], shards: [{ shard: 3, gateway: 10.9.0.50, inner: 10.64.0.9, wireguard: { public_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= } }] }
";

const ENROLLED: &str = "
host:
  node: host-1
  platform: { interface: plat0, address: 10.9.0.1 }
  tunnel: wireguard
  directory: { url: https://d.example:9473, state_dir: KEYS, cidrs: [172.16.0.0/16] }
";

fn config(text: &str, with: &str) -> Config {
    let text = text.replace("KEYS", "/etc/portway").replace("  tunnel: wireguard\n", &format!("  tunnel: wireguard\n{with}"));
    crate::config::parse(&text, "test.yaml").expect("a configuration")
}

/// As on a machine where all is well, with this answer to whether the kernel has WireGuard.
fn facts(wireguard: Option<bool>) -> Facts {
    Facts { wireguard, ..well() }
}

#[rstest]
#[case::kernel("", Some(true), true, Severity::Ok, "")]
#[case::auto("", Some(false), true, Severity::Note, "modprobe wireguard")]
#[case::auto_without_tun("", Some(false), false, Severity::Broken, "modprobe tun")]
#[case::insists_on_the_kernel("  backend: kernel\n", Some(false), true, Severity::Broken, "modprobe wireguard")]
#[case::kernel_needs_no_tun("  backend: kernel\n", Some(true), false, Severity::Ok, "")]
#[case::userspace("  backend: userspace\n", Some(false), true, Severity::Ok, "")]
#[case::userspace_without_tun("  backend: userspace\n", Some(true), false, Severity::Broken, "modprobe tun")]
#[case::unknown("", None, true, Severity::Note, "")]
fn what_carries_the_tunnels(
    #[case] backend: &str,
    #[case] wireguard: Option<bool>,
    #[case] tun: bool,
    #[case] severity: Severity,
    #[case] remedy: &str,
) {
    for text in [GATEWAY, HOST, ENROLLED] {
        // Whether there is GRE is all the same.
        for gre in [Some(true), Some(false), None] {
            let found = examine(&Facts { tun, gre, ..facts(wireguard) }, Some(&config(text, backend)));
            assert_eq!(worst(&found), severity, "{found:#?}");
            assert_eq!(found[0].remedy.as_deref().unwrap_or(""), remedy);
            assert!(found.iter().all(|finding| !finding.what.contains("GRE") && !finding.what.contains("ip_gre")), "{found:#?}");
        }
    }
}

/// A foreign chain of this policy, with these rules before it.
fn chain(hook: &str, policy: &str, rules: &[Value]) -> Facts {
    let chain = json!({ "family": "inet", "table": "wall", "name": "c", "type": "filter", "hook": hook, "prio": 0, "policy": policy });
    let rules = rules.iter().map(|expr| json!({ "rule": { "family": "inet", "table": "wall", "chain": "c", "expr": expr } }));
    let items: Vec<Value> = [json!({ "chain": chain })].into_iter().chain(rules).collect();
    Facts { ruleset: Ok(json!({ "nftables": items })), ..facts(Some(true)) }
}

fn ports(protocol: &str, field: &str, right: impl Into<Value>) -> Value {
    let left = json!({ "payload": { "protocol": protocol, "field": field } });
    json!([{ "match": { "op": "==", "left": left, "right": right.into() } }, { "accept": null }])
}

/// What of tunnel packets is complained of.
fn blocked(text: &str, facts: &Facts) -> Option<(Severity, String)> {
    let found = complaints(facts, Some(&config(text, "")));
    found
        .into_iter()
        .find(|finding| finding.what.contains("tunnel packets"))
        .map(|finding| (finding.severity, finding.remedy.unwrap_or_default()))
}

#[rstest]
#[case::in_at_a_gateway(GATEWAY, "input", "udp dport { 51819, 51820, 51821 } accept")]
#[case::out_of_a_gateway(GATEWAY, "output", "udp sport { 51819, 51820, 51821 } accept")]
#[case::in_at_a_host(HOST, "input", "udp sport 51823 accept")]
#[case::out_of_a_host(HOST, "postrouting", "udp dport 51823 accept")]
#[case::in_where_the_directory_says(ENROLLED, "prerouting", "udp dport 44429-59210 accept")]
#[case::out_where_the_directory_says(ENROLLED, "output", "udp sport 44429-59210 accept")]
fn a_wall_is_found_with_the_ports_to_let_through(#[case] text: &str, #[case] hook: &str, #[case] pass: &str) {
    let (severity, remedy) = blocked(text, &chain(hook, "drop", &[])).expect("a finding");
    assert_eq!(severity, Severity::Broken);
    assert!(remedy.starts_with(&format!("nft insert rule inet wall c '{pass}'")), "{remedy}");
    assert!(!remedy.contains("gre"), "{remedy}");
    assert_eq!(blocked(text, &chain(hook, "accept", &[])), None);
}

#[test]
fn every_port_of_a_shard_must_pass_its_next_ones_too() {
    let with = |rule: Value| blocked(ALONE, &chain("input", "drop", &[rule])).map(|(severity, _)| severity);
    for all in [json!({ "set": [51819, 51820] }), json!({ "set": [53, { "range": [51000, 52000] }, 51819] })] {
        assert_eq!(with(ports("udp", "dport", all.clone())), None);
        assert_eq!(with(ports("th", "dport", all.clone())), None);
        assert_eq!(with(ports("udp", "sport", all.clone())), Some(Severity::Warning), "where hosts send from is not known");
        assert_eq!(with(ports("tcp", "dport", all)), Some(Severity::Broken));
    }
    assert_eq!(with(ports("udp", "dport", 51820)), Some(Severity::Broken), "without the next key's");
    assert_eq!(with(ports("ip", "protocol", 17)), None);
    assert_eq!(with(ports("ip", "protocol", "gre")), Some(Severity::Broken));
    assert_eq!(with(ports("udp", "dport", "@allowed")), Some(Severity::Warning));
}

#[test]
fn a_drop_of_all_other_ports_hits_those_of_its_protocol() {
    let unless = |protocol: &str, right: Value| {
        let left = json!({ "payload": { "protocol": protocol, "field": "dport" } });
        json!([{ "match": { "op": "!=", "left": left, "right": right } }, { "drop": null }])
    };
    let with = |rule: Value| blocked(ALONE, &chain("input", "accept", &[rule])).map(|(severity, _)| severity);
    for protocol in ["udp", "th"] {
        assert_eq!(with(unless(protocol, json!(53))), Some(Severity::Broken));
        assert_eq!(with(unless(protocol, json!(51820))), Some(Severity::Broken), "without the next key's");
        assert_eq!(with(unless(protocol, json!({ "range": [51819, 51820] }))), None);
    }
    assert_eq!(with(unless("tcp", json!(22))), None);
}

#[test]
fn a_host_may_let_in_by_its_gateways_port_or_its_own() {
    let with = |rule: Value| blocked(HOST, &chain("input", "drop", &[rule])).map(|(severity, _)| severity);
    assert_eq!(with(ports("udp", "sport", 51823)), None);
    assert_eq!(with(ports("udp", "sport", 51820)), Some(Severity::Broken));
    assert_eq!(with(ports("udp", "dport", json!({ "range": [44429, 59210] }))), None);
    assert_eq!(with(ports("udp", "dport", json!({ "range": [51820, 51900] }))), Some(Severity::Warning), "some of its tunnels");
    assert_eq!(with(ports("udp", "dport", 53)), Some(Severity::Broken));
}

#[test]
fn advice_that_was_followed_is_not_given_again() {
    let remedies = |rules: &[Value]| complaints(&chain("input", "drop", rules), Some(&config(GATEWAY, "")));
    let vrrp = json!([{ "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "protocol" } }, "right": 112 } }, { "accept": null }]);
    let rules = [ports("udp", "dport", json!({ "set": [51819, 51820, 51821] })), vrrp, ports("udp", "dport", 3790)];
    assert_eq!(remedies(&rules), []);
    assert_eq!(remedies(&rules[..2]).len(), 1);
}

#[test]
fn keys_that_cannot_be_used_are_told_with_what_mends_them() {
    let key = Unusable { whose: "the WireGuard key of acme/1".into(), why: "cannot use it".into(), remedy: "chmod 600 /k".into() };
    let told = Finding::broken("the WireGuard key of acme/1: cannot use it", "chmod 600 /k");
    let facts = |keys: &[Unusable]| Facts { tunnel_keys: keys.to_vec(), ..facts(Some(true)) };
    for text in [GATEWAY, HOST] {
        assert_eq!(complaints(&facts(std::slice::from_ref(&key)), Some(&config(text, ""))), std::slice::from_ref(&told));
    }
    assert!(examine(&facts(&[]), Some(&config(GATEWAY, ""))).contains(&Finding::ok("the WireGuard keys of all shards can be used")));
    assert!(examine(&facts(&[]), Some(&config(HOST, ""))).contains(&Finding::ok("this host's key can be used")));
}

const KEYS: [&str; 2] = ["dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "YHcHAgFwbUHFjUh7qpMPq3mBlnCxpKRnM1ptNnSTj2w="];

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    std::fs::write(folder.join(name), text).expect("a file");
    std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).expect("its mode");
}

/// `whose: remedy` of each, as far as files say; KEYS is their folder.
fn unusable(text: &str, folder: &Path) -> Vec<String> {
    let (shown, config) =
        (folder.display().to_string(), crate::config::parse(&text.replace("KEYS", &folder.display().to_string()), "test.yaml"));
    let found = super::super::wireguard::unusable(Some(&config.expect("a configuration")));
    found.into_iter().map(|key| format!("{}: {}", key.whose, key.remedy).replace(&shown, "KEYS")).collect()
}

#[test]
fn files_are_looked_at_as_the_daemon_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let of = |text| unusable(text, folder.path());
    let made = |file: &str| format!("(umask 077; set -C; wg genkey > KEYS/{file})");
    let copied = |file: &str| {
        format!("copy it from the gateway that has it (gw-2) to KEYS/{file}, of mode 0600; docs/gateway-pair.md says how it is made")
    };
    let missing = ["0.key", "0.next.key", "1.key"].map(copied);
    assert_eq!(
        of(GATEWAY),
        [
            format!("the WireGuard key of acme/0: {}", missing[0]),
            format!("the next WireGuard key of acme/0: {}", missing[1]),
            format!("the WireGuard key of acme/1: {}", missing[2])
        ]
    );
    assert_eq!(of(HOST), [format!("this host's WireGuard key: {}", made("0.key"))]);
    assert_eq!(
        of(ALONE),
        [format!("the WireGuard key of acme/0: {}", made("0.key")), format!("the next WireGuard key of acme/0: {}", made("0.next.key"))]
    );
    assert_eq!(of(ENROLLED), ["this host's WireGuard key: portway enroll --url https://d.example:9473/ --token-file FILE"]);
    write(folder.path(), "0.key", KEYS[0], 0o600);
    write(folder.path(), "0.next.key", KEYS[0], 0o600);
    write(folder.path(), "1.key", KEYS[1], 0o640);
    assert_eq!(
        of(GATEWAY),
        [
            "the next WireGuard key of acme/0: put there a key that was never used, on all gateways of the shard the same, or, if the change is over, take `next` out of the configuration",
            "the WireGuard key of acme/1: chmod 600 KEYS/1.key"
        ]
    );
    write(folder.path(), "0.next.key", KEYS[1], 0o600);
    write(folder.path(), "1.key", "no key", 0o600);
    assert_eq!(of(GATEWAY), [format!("the WireGuard key of acme/1: {}", missing[2])]);
    write(folder.path(), "0.key", "no key", 0o600);
    assert_eq!(of(HOST), ["this host's WireGuard key: put the key back; if it is lost, remove KEYS/0.key and look again"]);
    write(folder.path(), "0.key", KEYS[0], 0o600);
    write(folder.path(), "1.key", KEYS[0], 0o400);
    assert_eq!((of(GATEWAY), of(HOST)), (vec![], vec![]));
}

#[test]
fn a_key_that_this_process_may_not_read_is_not_replaced() {
    let (file, url, node) =
        (Path::new("/k/0.key"), url::Url::parse("https://d.example:9473").expect("a URL"), "gw-2".parse().expect("a name"));
    let denied = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::PermissionDenied)).context("cannot use it");
    for origin in [Origin::Own, Origin::Shared(vec![&node]), Origin::Enrolled(&url)] {
        let remedy = origin.remedy(file, &denied);
        assert_eq!(remedy, "run this as root, or as the user of the service, whom /k/0.key must belong to", "{origin:?}");
    }
}
