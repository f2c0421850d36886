//! Foreign chains, written as `nft -j list ruleset` prints them.

use super::*;
use proptest::prelude::*;

/// A ruleset of one base chain `c` and one ordinary chain `sub` in `table FAMILY t`.
fn ruleset(family: &str, hook: &str, policy: &str, rules: &[Value], sub: &[Value]) -> Value {
    let rule =
        |chain: &'static str| move |expr: &Value| json!({ "rule": { "family": family, "table": "t", "chain": chain, "expr": expr } });
    let mut items = vec![
        json!({ "metainfo": { "version": "1.0.6" } }),
        json!({ "table": { "family": family, "name": "t" } }),
        json!({ "chain": { "family": family, "table": "t", "name": "c", "type": "filter", "hook": hook, "prio": 0, "policy": policy } }),
        json!({ "chain": { "family": family, "table": "t", "name": "sub" } }),
    ];
    items.extend(rules.iter().map(rule("c")));
    items.extend(sub.iter().map(rule("sub")));
    json!({ "nftables": items })
}

fn found(hook: &str, policy: &str, rules: &[Value], sub: &[Value]) -> Option<Finding> {
    let facts = Facts { ruleset: Ok(ruleset("inet", hook, policy, rules, sub)), ..well() };
    let mut found = complaints(&facts, Some(&config("")));
    assert!(found.len() <= 1, "{found:#?}");
    found.pop()
}

fn severity(hook: &str, policy: &str, rules: &[Value], sub: &[Value]) -> Severity {
    found(hook, policy, rules, sub).map_or(Severity::Ok, |finding| finding.severity)
}

fn on(left: Value, right: Value, verdict: &str) -> Value {
    json!([{ "match": { "op": "==", "left": left, "right": right } }, { "counter": { "packets": 0, "bytes": 0 } }, { verdict: null }])
}

fn meta(key: &str, right: impl Into<Value>, verdict: &str) -> Value {
    on(json!({ "meta": { "key": key } }), right.into(), verdict)
}

fn state(states: Value, verdict: &str) -> Value {
    json!([{ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": states } }, { verdict: null }])
}

fn address(field: &str, right: Value, verdict: &str) -> Value {
    on(json!({ "payload": { "protocol": "ip", "field": field } }), right, verdict)
}

#[test]
fn a_chain_that_drops_is_named_with_the_rules_that_let_portway_through() {
    let finding = found("forward", "drop", &[], &[]).expect("a finding");
    assert_eq!(finding.severity, Broken);
    assert_eq!(
        finding.what,
        "table inet t, chain c (hook forward) drops what comes out of tunnels (pw-*), and what goes into tunnels (pw-*) by its policy"
    );
    assert_eq!(
        finding.remedy.as_deref(),
        Some(r#"nft insert rule inet t c 'iifname "pw-*" accept' && nft insert rule inet t c 'oifname "pw-*" accept'"#)
    );
    let finding = found("input", "accept", &[json!([{ "reject": null }])], &[]).expect("a finding");
    assert_eq!(finding.what, "table inet t, chain c (hook input) drops tunnel packets that come in (GRE) by a rule");
    assert_eq!(finding.remedy.as_deref(), Some("nft insert rule inet t c 'ip protocol gre accept'"));
}

#[test]
fn what_tenants_have_in_common_is_said_once() {
    let second = ",\n      { name: blue, key: 8, interface: eni1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.65.0.0/16 }";
    let text = GATEWAY.replace("    - { name", "    [{ name").replace("10.64.0.0/16 }", &format!("10.64.0.0/16 }}{second}]"));
    let two = crate::config::parse(&text, "gateway.yaml").expect("a configuration");
    let facts = Facts { ruleset: Ok(ruleset("inet", "forward", "drop", &[], &[])), ..well() };
    let of =
        |config: &Config| complaints(&facts, Some(config)).into_iter().filter(|is| is.what.contains("hook forward")).collect::<Vec<_>>();
    assert_eq!(of(&two), of(&config("")));
    assert_eq!(of(&two).len(), 1);
}

#[rstest]
#[case::prerouting("prerouting", "iifname \"eni0\" accept")]
#[case::input("input", "ip protocol gre accept")]
#[case::forward("forward", "oifname \"pw-*\" accept")]
#[case::output("output", "ip protocol gre accept")]
#[case::postrouting("postrouting", "oifname \"eni0\" accept")]
fn every_hook_is_looked_at(#[case] hook: &str, #[case] remedy: &str) {
    let finding = found(hook, "drop", &[], &[]).expect("a finding");
    assert!(finding.severity == Broken && finding.remedy.as_ref().is_some_and(|is| is.contains(remedy)), "{finding:?}");
    assert_eq!(severity(hook, "accept", &[], &[]), Severity::Ok);
}

#[test]
fn our_own_table_and_families_without_ipv4_are_not_judged() {
    for (family, table) in [("inet", "portway"), ("ip", "portway"), ("ip6", "t"), ("bridge", "t"), ("arp", "t")] {
        let text = ruleset(family, "forward", "drop", &[], &[]).to_string().replace("\"t\"", &format!("{table:?}"));
        let facts = Facts { ruleset: Ok(serde_json::from_str(&text).expect("JSON")), ..well() };
        assert_eq!(complaints(&facts, Some(&config(""))), [], "{family} {table}");
    }
}

#[test]
fn a_rule_before_the_drop_that_accepts_for_certain_mends_it() {
    let both = [meta("iifname", "pw-*", "accept"), meta("oifname", "pw-*", "accept")];
    assert_eq!(severity("forward", "drop", &both, &[]), Severity::Ok);
    assert_eq!(severity("forward", "drop", &both[..1], &[]), Broken);
    assert_eq!(severity("forward", "drop", &[meta("iifname", "p*", "accept"), meta("oifname", "*", "accept")], &[]), Severity::Ok);
    assert_eq!(severity("forward", "drop", &[meta("iifname", json!({ "set": ["eni0", "pw-*"] }), "accept")], &[]), Severity::Ok);
    for protocol in [meta("l4proto", "gre", "accept"), address("protocol", json!(47), "accept"), state(json!("untracked"), "accept")] {
        assert_eq!(severity("input", "drop", &[protocol], &[]), Severity::Ok);
    }
    for source in [
        json!("10.9.0.11"),
        json!({ "prefix": { "addr": "10.9.0.0", "len": 24 } }),
        json!({ "set": [{ "range": ["10.9.0.2", "10.9.0.20"] }] }),
        json!({ "set": [{ "elem": { "val": "10.9.0.11" } }] }),
    ] {
        assert_eq!(severity("input", "drop", &[address("saddr", source, "accept")], &[]), Severity::Ok);
    }
}

#[test]
fn a_rule_that_may_accept_makes_it_a_warning() {
    for rule in [
        meta("mark", 7, "accept"),
        meta("iifname", "pw-3", "accept"),
        on(json!({ "payload": { "protocol": "tcp", "field": "dport" } }), json!(22), "accept"),
        json!([{ "match": { "op": "in", "left": { "meta": { "key": "iif" } }, "right": "@allowed" } }, { "return": null }]),
        json!([{ "limit": { "rate": 9 } }, { "accept": null }]),
        json!([{ "vmap": { "key": { "meta": { "key": "iifname" } }, "data": "@interfaces" } }]),
    ] {
        let finding = found("forward", "drop", std::slice::from_ref(&rule), &[]).expect("a finding");
        // In one direction for certain, unless the rule may spare both.
        assert!(finding.severity >= Warning, "{rule}: {finding:?}");
    }
    assert_eq!(severity("input", "drop", &[address("saddr", json!("@hosts"), "accept")], &[]), Warning);
}

#[test]
fn a_rule_for_others_does_not_help() {
    let rules = [
        meta("iifname", "docker0", "accept"),
        state(json!(["established", "related"]), "accept"),
        on(json!({ "payload": { "protocol": "ip6", "field": "saddr" } }), json!("::1"), "accept"),
        meta("nfproto", "ipv6", "accept"),
        on(json!({ "payload": { "protocol": "udp", "field": "dport" } }), json!(53), "accept"),
        address("saddr", json!("10.9.0.12"), "accept"),
    ];
    assert_eq!(severity("input", "drop", &rules, &[]), Broken);
}

#[test]
fn a_drop_that_hits_others_or_some_only_is_no_finding() {
    let rules = [
        state(json!("invalid"), "drop"),
        meta("mark", 9, "drop"),
        on(json!({ "payload": { "protocol": "tcp", "field": "dport" } }), json!(22), "drop"),
        json!([{ "match": { "op": "!=", "left": { "meta": { "key": "iifname" } }, "right": "docker0" } }, { "limit": { "rate": 9 } }, { "drop": null }]),
        json!([{ "log": null }, { "counter": { "packets": 3, "bytes": 9 } }]),
    ];
    for hook in ["forward", "input", "output", "prerouting", "postrouting"] {
        assert_eq!(severity(hook, "accept", &rules, &[]), Severity::Ok, "{hook}");
    }
    let not = json!([{ "match": { "op": "!=", "left": { "meta": { "key": "iifname" } }, "right": "eni0" } }, { "drop": null }]);
    assert_eq!(severity("forward", "accept", &[not], &[]), Broken);
}

/// As nft has it: `tcp dport != 22` is a match of TCP first.
#[test]
fn what_differs_in_a_protocol_that_ours_is_not_is_no_drop() {
    let unless = |protocol: &str, field: &str, right: Value| {
        let left = json!({ "payload": { "protocol": protocol, "field": field } });
        json!([{ "match": { "op": "!=", "left": left, "right": right } }, { "drop": null }])
    };
    for rule in [
        unless("tcp", "dport", json!(22)),
        unless("tcp", "dport", json!({ "set": [22, 443] })),
        unless("udp", "sport", json!(53)),
        unless("icmp", "type", json!("echo-request")),
        unless("ip6", "saddr", json!("::1")),
        unless("ip6", "nexthdr", json!("tcp")),
        json!([{ "match": { "op": ">", "left": { "payload": { "protocol": "tcp", "field": "dport" } }, "right": 1023 } }, { "drop": null }]),
        // The key of another tunnel's, perhaps.
        unless("gre", "flags", json!(0)),
    ] {
        for hook in ["input", "output", "prerouting", "postrouting", "forward"] {
            assert_eq!(severity(hook, "accept", std::slice::from_ref(&rule), &[]), Severity::Ok, "{hook}: {rule}");
        }
        // Nor is a packet that is not TCP kept from the drop by it.
        let accept = json!([rule[0], { "accept": null }]);
        let spares = rule[0]["match"]["left"]["payload"]["protocol"] == "gre";
        assert_eq!(severity("input", "drop", &[accept], &[]), if spares { Warning } else { Broken }, "{rule}");
    }
    assert_eq!(severity("input", "accept", &[unless("ip", "saddr", json!("10.9.0.12"))], &[]), Broken);
    assert_eq!(severity("input", "accept", &[unless("ip", "protocol", json!("tcp"))], &[]), Broken);
    assert_eq!(severity("input", "accept", &[unless("ip", "protocol", json!(47))], &[]), Severity::Ok);
}

#[test]
fn verdicts_are_followed_through_jumps_and_maps() {
    let (jump, goto) = (json!([{ "jump": { "target": "sub" } }]), json!([{ "goto": { "target": "sub" } }]));
    let accept = json!([{ "accept": null }]);
    let (drop, back) = (json!([{ "drop": null }]), json!([{ "return": null }]));
    assert_eq!(severity("input", "accept", std::slice::from_ref(&jump), std::slice::from_ref(&drop)), Broken);
    assert_eq!(severity("input", "drop", std::slice::from_ref(&jump), std::slice::from_ref(&accept)), Severity::Ok);
    assert_eq!(severity("input", "drop", &[jump, accept.clone()], &[back.clone(), drop.clone()]), Severity::Ok);
    assert_eq!(severity("input", "drop", &[goto.clone(), accept], &[back]), Broken);
    assert_eq!(severity("input", "accept", &[goto], &[json!([{ "jump": { "target": "sub" } }])]), Severity::Ok);
    let map = |key: &str, verdict: Value| json!([{ "vmap": { "key": { "ct": { "key": "state" } }, "data": { "set": [["invalid", { "drop": null }], [key, verdict]] } } }]);
    assert_eq!(severity("input", "drop", &[map("untracked", json!({ "accept": null }))], &[]), Severity::Ok);
    assert_eq!(severity("input", "drop", &[map("established", json!({ "accept": null }))], &[]), Broken);
    assert_eq!(severity("input", "accept", &[map("untracked", json!({ "jump": { "target": "sub" } }))], &[drop]), Broken);
}

/// A foreign `nat` chain at this priority with these rules, on a gateway.
fn translation(prio: i64, rules: &[Value]) -> Option<Finding> {
    let text = ruleset("ip", "postrouting", "accept", rules, &[]).to_string();
    let text = text.replace("\"type\":\"filter\"", "\"type\":\"nat\"").replace("\"prio\":0", &format!("\"prio\":{prio}"));
    let facts = Facts { ruleset: Ok(serde_json::from_str(&text).expect("JSON")), ..well() };
    let mut found = complaints(&facts, Some(&config("")));
    assert!(found.len() <= 1, "{found:#?}");
    found.pop()
}

#[test]
fn a_translation_that_spares_nothing_of_ours_is_a_warning_with_its_exception() {
    let masquerade = json!([{ "counter": { "packets": 0, "bytes": 0 } }, { "masquerade": null }]);
    let finding = translation(100, std::slice::from_ref(&masquerade)).expect("a finding");
    assert_eq!(
        finding,
        Finding::warning(
            "table ip t, chain c (hook postrouting) may translate what goes out to eni0 in Portway's place",
            r#"nft insert rule ip t c 'oifname "eni0" accept'"#
        )
    );
    let to = json!([{ "snat": { "addr": "192.0.2.7" } }]);
    let legacy = json!([{ "xt": { "type": "target", "name": "MASQUERADE" } }]);
    let ours = meta("oifname", "eni0", "masquerade");
    for rule in [&to, &legacy, &ours] {
        assert!(translation(-5, std::slice::from_ref(rule)).is_some(), "{rule}");
        assert!(translation(101, std::slice::from_ref(rule)).is_none(), "{rule}: Portway comes first");
    }
    let pass = meta("oifname", "eni0", "accept");
    assert!(translation(100, &[pass, masquerade]).is_none());
}

#[test]
fn a_translation_of_others_is_no_finding() {
    for rule in [
        meta("oifname", "wan0", "masquerade"),
        address("saddr", json!({ "prefix": { "addr": "172.17.0.0", "len": 16 } }), "masquerade"),
        meta("mark", 0x4000, "masquerade"),
        meta("l4proto", "gre", "masquerade"),
        json!([{ "snat": { "addr": { "map": { "key": 1, "data": "@m" } } } }]),
        json!([{ "limit": { "rate": 9 } }, { "masquerade": null }]),
    ] {
        // What is not said about the protocol of a packet may be anything.
        assert!(translation(100, std::slice::from_ref(&rule)).is_none(), "{rule}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(
        [
            "nftables",
            "rule",
            "chain",
            "expr",
            "family",
            "table",
            "name",
            "type",
            "hook",
            "prio",
            "policy",
            "nat",
            "inet",
            "ip",
            "t",
            "c",
            "match",
            "op",
            "left",
            "right",
            "meta",
            "key",
            "set",
            "elem",
            "val",
            "prefix",
            "range",
            "vmap",
            "data",
            "jump",
            "goto",
            "target",
            "drop",
            "forward",
            "postrouting",
            "masquerade",
            "snat",
            "xt",
            "iifname",
            "ct",
            "state",
            "payload",
            "protocol",
            "field",
            "pw-*",
            "",
        ]
        .as_slice(),
    );
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let object = prop::collection::vec((word.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            object.prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()),
        ]
    })
}

proptest! {
    /// Another version of nft may print what this one does not.
    #[test]
    fn any_json_is_judged_without_a_panic(whole in any_json(), statements in prop::collection::vec(any_json(), 0..4), chain in any_json()) {
        let mut framed = ruleset("inet", "forward", "drop", &[Value::from(statements.clone())], &statements);
        framed["nftables"].as_array_mut().expect("as made").push(json!({ "chain": chain }));
        for ruleset in [whole.clone(), json!({ "nftables": whole }), framed] {
            let _ = examine(&Facts { ruleset: Ok(ruleset), ..well() }, Some(&config("")));
        }
    }
}

#[test]
fn without_a_configuration_tunnels_are_looked_at_all_the_same() {
    let facts = Facts { ruleset: Ok(ruleset("ip", "forward", "drop", &[meta("iifname", "docker0", "accept")], &[])), ..well() };
    let found = complaints(&facts, None);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, Broken);
}
