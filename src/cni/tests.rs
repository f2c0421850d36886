use super::*;
use crate::model::{AttachmentName, IfName};
use proptest::prelude::*;
use std::collections::HashMap;

fn call(variables: &[(&str, &str)]) -> Result<Call, Error> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Call::read(|name| variables.get(name).map(|value| (*value).to_owned()))
}

const ALL: [(&str, &str); 4] =
    [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "3f6940ab"), ("CNI_NETNS", "/run/netns/a"), ("CNI_IFNAME", "eth0")];

fn add() -> Call {
    call(&ALL).unwrap()
}

fn config(more: Value) -> Result<Config, Error> {
    let mut whole = json!({ "cniVersion": "1.1.0", "name": "functions", "type": "portway-cni", "tenant": "acme" });
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::read(whole.to_string().as_bytes(), &add())
}

fn ok(more: Value) -> Config {
    config(more).unwrap()
}

fn code<T: fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    let error = result.expect_err("a fault");
    (error.code as u16, error.message)
}

#[test]
fn a_call_names_every_variable_that_is_missing_or_wrong() {
    let Call::Add(member) = add() else { panic!("no ADD") };
    assert_eq!((member.container.id.as_str(), member.container.ifname.as_str()), ("3f6940ab", "eth0"));
    assert_eq!((member.netns.to_str(), member.args), (Some("/run/netns/a"), Args::default()));

    let wrong = "not set, or not as the specification wants it";
    let without = |command, gone: &[&str]| {
        let left: Vec<_> = ALL.into_iter().skip(1).filter(|(name, _)| !gone.contains(name)).chain([("CNI_COMMAND", command)]).collect();
        call(&left)
    };
    for command in ["ADD", "CHECK"] {
        let all = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"];
        assert_eq!(code(without(command, &all)), (4, format!("CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS: {wrong}")));
    }
    assert!(matches!(without("DEL", &["CNI_NETNS"]), Ok(Call::Del(_))), "one that has stopped");
    for (command, wanted) in [("STATUS", Call::Status), ("GC", Call::Gc), ("VERSION", Call::Version)] {
        assert_eq!(call(&[("CNI_COMMAND", command)]), Ok(wanted));
    }
    for (name, value) in [("CNI_CONTAINERID", "-a"), ("CNI_CONTAINERID", "a/b"), ("CNI_IFNAME", "longer-than-15-b"), ("CNI_IFNAME", "a b")]
    {
        let mut changed = ALL.to_vec();
        changed.push((name, value));
        assert_eq!(code(call(&changed)), (4, format!("{name}: {wrong}")));
    }
    for none in [&[][..], &[("CNI_COMMAND", "add")], &[("CNI_COMMAND", "UPDATE")]] {
        let (code, message) = code(call(none));
        assert!(code == 4 && message.contains("CNI_COMMAND"), "{message}");
    }
}

#[test]
fn arguments_of_others_pass_when_they_are_said_to() {
    let args = |text: &str| text.parse::<Args>();
    let acme = Args { tenant: Some("acme".parse().unwrap()), egress: None };
    assert_eq!(args(""), Ok(Args::default()));
    assert_eq!(args("PORTWAY_TENANT=acme"), Ok(acme.clone()));
    assert_eq!(args("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a=b;PORTWAY_TENANT=acme;"), Ok(acme.clone()));
    assert_eq!(args("K8S_POD_NAME=web-0;PORTWAY_TENANT=acme;IgnoreUnknown=True"), Ok(acme.clone()), "in any order");
    assert_eq!(args("PORTWAY_TENANT=acme;PORTWAY_EGRESS=partners"), Ok(Args { egress: Some("partners".parse().unwrap()), ..acme }));
    for (text, says) in [
        ("A=1;PORTWAY_TENANT=acme;B=2", "CNI_ARGS: A, B: not known here"),
        ("A=1;IgnoreUnknown=0", "CNI_ARGS: A: not known here"),
        ("IgnoreUnknown=yes", "write 1 or 0"),
        ("PORTWAY_TENANT", "\"PORTWAY_TENANT\" is not KEY=VALUE"),
        ("PORTWAY_TENANT=a b", "is not a tenant name"),
        ("PORTWAY_TENANT=", "is not a tenant name"),
        ("PORTWAY_TENANT=acme;PORTWAY_TENANT=blue", "PORTWAY_TENANT is there twice"),
    ] {
        let (code, message) = code(args(text));
        assert!(code == 4 && message.contains(says), "{text}: {message}");
    }
}

#[test]
fn a_configuration_that_is_none_says_what_it_should_be() {
    for (given, expected, says) in [
        ("", 6, "is no JSON"),
        ("{", 6, "is no JSON"),
        ("[]", 7, "the configuration: invalid"),
        (r#"{"name":"a"}"#, 1, "write one of 0.3.1, 0.4.0, 1.0.0, 1.1.0"),
        (r#"{"cniVersion":"0.2.0","name":"a"}"#, 1, "cniVersion \"0.2.0\" is not known here"),
        (r#"{"cniVersion":"1.1.0"}"#, 7, "missing field `name`"),
        (r#"{"cniVersion":"1.1.0","name":"a/b"}"#, 7, "is no name of a network"),
        (r#"{"cniVersion":"1.1.0","name":"a","tenant":"a b"}"#, 7, "is not a tenant name"),
        (r#"{"cniVersion":"1.1.0","name":"a","shard":65536}"#, 7, "expected u16"),
        (r#"{"cniVersion":"1.1.0","name":"a","tenants":["a"]}"#, 2, "`tenants` ([\"a\"]) is not known here: use `tenant`"),
    ] {
        let (code, message) = code(Config::read(given.as_bytes(), &add()));
        assert!(code == expected && message.contains(says), "{given}: {code} {message}");
    }
}

#[test]
fn what_any_plugin_may_be_given_is_taken_and_passed_over() {
    let config = ok(json!({
        "type": "portway-cni", "args": { "cni": {} }, "capabilities": { "portMappings": true }, "runtimeConfig": {}, "dns": {}, "ipam": {}, "ipMasq": true,
        "cni.dev/valid-attachments": [], "cni.dev/attachments": [], "prevResult": {},
    }));
    assert_eq!(config.runtime_dir.to_str(), Some("/run/portway"));
    assert_eq!(ok(json!({ "runtimeDir": "/run/other" })).runtime_dir.to_str(), Some("/run/other"));
}

#[test]
fn the_documented_network_is_one() {
    let document = include_str!("../../docs/cni.md");
    let network: Value = serde_json::from_str(document.split("```json").nth(1).unwrap().split("```").next().unwrap()).unwrap();
    let ours = network["plugins"].as_array().unwrap().iter().find(|plugin| plugin["type"] == "portway-cni").unwrap();
    // As the runtime puts it together.
    let mut given = ours.clone();
    ["cniVersion", "name"].iter().for_each(|key| given[key] = network[key].clone());
    let config = Config::read(given.to_string().as_bytes(), &add()).unwrap();
    assert_eq!(config.wanted(&Args::default()).unwrap().tenant.as_str(), "acme");
}

/// Of a file that somebody has changed while containers ran: a typing error would keep them from going.
#[test]
fn what_is_wrong_in_a_file_keeps_no_container_from_going() {
    let Call::Add(member) = add() else { panic!("no ADD") };
    for (key, value, expected) in [
        ("tenannt", json!("acme"), 2),
        ("tenant", json!("a b"), 7),
        ("tenant", json!(["acme"]), 7),
        ("egress", json!(1), 7),
        ("shard", json!("3"), 7),
        ("shard", json!(65536), 7),
    ] {
        let mut given = json!({ "cniVersion": "1.1.0", "name": "functions", "cni.dev/valid-attachments": [], "runtimeDir": "/run/other" });
        given[key] = value;
        let read = |call: &Call| Config::read(given.to_string().as_bytes(), call);
        for call in [Call::Del(member.container.clone()), Call::Gc] {
            let config = read(&call).unwrap_or_else(|error| panic!("{call:?} {given}: {error}"));
            assert_eq!(config.runtime_dir.to_str(), Some("/run/other"));
            assert_eq!(config.attachment(&member.container), ok(json!({})).attachment(&member.container));
        }
        for call in [add(), Call::Check(member.clone()), Call::Status] {
            assert_eq!(code(read(&call)).0, expected, "{call:?} {given}");
        }
    }
    let gc = json!({ "cniVersion": "1.1.0", "name": "functions", "cni.dev/valid-attachments": 7, "prevResult": 7 }).to_string();
    assert!(Config::read(gc.as_bytes(), &Call::Del(member.container)).is_ok());
    assert_eq!(code(Config::read(gc.as_bytes(), &Call::Gc)).0, 7, "what is known decides what ends");
}

#[test]
fn a_version_has_its_calls() {
    let Call::Add(member) = add() else { panic!("no ADD") };
    let (del, check) = (Call::Del(member.container.clone()), Call::Check(member));
    let refused = |version: &str| {
        let given = json!({ "cniVersion": version, "name": "a" }).to_string();
        let fails = |call: &Call| Config::read(given.as_bytes(), call).is_err_and(|error| error.code == Code::IncompatibleVersion);
        [&add(), &del, &check, &Call::Status, &Call::Gc].map(fails)
    };
    assert_eq!(refused("0.3.1"), [false, false, true, true, true]);
    assert_eq!(refused("0.4.0"), [false, false, false, true, true]);
    assert_eq!(refused("1.0.0"), [false, false, false, true, true]);
    assert_eq!(refused("1.1.0"), [false; 5]);
    assert_eq!(versions("0.4.0"), json!({ "cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] }));
    for (given, version) in [("", "1.1.0"), ("{", "1.1.0"), ("{}", "1.1.0"), (r#"{"cniVersion":"0.4.0"}"#, "0.4.0")] {
        assert_eq!(version_of(given.as_bytes()), version);
    }
}

#[test]
fn a_network_of_one_tenant_stays_that_tenants() {
    let wanted = |here: Value, there: &str| {
        let mut whole = json!({ "cniVersion": "1.0.0", "name": "a" });
        whole.as_object_mut().unwrap().extend(here.as_object().unwrap().clone());
        Config::read(whole.to_string().as_bytes(), &add()).unwrap().wanted(&there.parse().unwrap())
    };
    let body = |wanted: Result<Wanted, Error>| wanted.unwrap().body(&"veth7".parse().unwrap());
    assert_eq!(body(wanted(json!({ "tenant": "acme" }), "")), json!({ "tenant": "acme", "interface": "veth7" }));
    let all = json!({ "tenant": "acme", "interface": "veth7", "egress": "partners", "shard": 3 });
    let both = "PORTWAY_TENANT=acme;PORTWAY_EGRESS=partners";
    assert_eq!(body(wanted(json!({ "tenant": "acme", "egress": "partners", "shard": 3 }), both)), all);
    assert_eq!(body(wanted(json!({ "shard": 3 }), both)), all);
    assert_eq!(body(wanted(json!({ "egress": "partners", "shard": 3 }), "PORTWAY_TENANT=acme")), all);
    for (here, there, says) in [
        (json!({}), "", "PORTWAY_TENANT=NAME in CNI_ARGS"),
        (json!({ "tenant": "acme" }), "PORTWAY_TENANT=blue", "leave out `tenant`"),
        (json!({ "tenant": "acme", "egress": "a" }), "PORTWAY_EGRESS=b", "leave out `tenant` and `egress` if"),
        (
            json!({ "egress": "a" }),
            "PORTWAY_TENANT=acme;PORTWAY_EGRESS=b",
            "`egress` of the configuration is a, and PORTWAY_EGRESS in CNI_ARGS is b: leave out `egress` if",
        ),
        (json!({ "tenant": "acme" }), "PORTWAY_EGRESS=a", "write `egress`, or leave out `tenant`"),
        (json!({ "tenant": "acme" }), "PORTWAY_TENANT=acme;PORTWAY_EGRESS=a", "write `egress`, or leave out `tenant`"),
    ] {
        let (code, message) = code(wanted(here, there));
        assert!(code == 7 && message.contains(says), "{message}");
    }
}

#[test]
fn what_stands_is_held_against_what_is_wanted() {
    let (pinned, free) = (ok(json!({ "shard": 3 })), ok(json!({ "egress": "partners" })));
    let interface: IfName = "veth7".parse().unwrap();
    let stands = json!({ "name": "x", "tenant": "acme", "shard": 3, "interface": "veth7", "bridge_port": false, "source": null, "netns": null, "egress": null });
    let differences = |config: &Config, changed: &[(&str, Value)]| {
        let mut stands = stands.clone();
        changed.iter().for_each(|(key, value)| stands[*key] = value.clone());
        config.wanted(&Args::default()).unwrap().differences(&interface, &stands)
    };
    assert_eq!(differences(&pinned, &[]), [""; 0]);
    assert_eq!(differences(&pinned, &[("shard", json!(4))]), ["shard is 4, not 3"]);
    assert_eq!(differences(&free, &[("egress", json!("partners")), ("shard", json!(4))]), [""; 0], "the name decides on the shard");
    assert_eq!(
        differences(&free, &[("tenant", json!("blue")), ("interface", json!("veth8")), ("source", json!("10.88.0.2/32"))]),
        [
            "tenant is \"blue\", not \"acme\"",
            "interface is \"veth8\", not \"veth7\"",
            "egress is null, not \"partners\"",
            "source is \"10.88.0.2/32\", not null"
        ]
    );
}

#[test]
fn the_result_before_says_which_interfaces_are_the_hosts() {
    let on_host = |result: Value| ok(json!({ "prevResult": result })).before().and_then(Before::on_host);
    let ptp = json!({
        "cniVersion": "0.4.0", "interfaces": [{ "name": "veth7", "mac": "02:00:00:00:00:01" }, { "name": "eth0", "sandbox": "/run/netns/a" }],
        "ips": [{ "version": "4", "interface": 1, "address": "10.88.0.2/24", "gateway": "10.88.0.1" }], "dns": {},
    });
    assert_eq!(on_host(ptp).unwrap().iter().map(IfName::as_str).collect::<Vec<_>>(), ["veth7"]);
    let bridge =
        json!({ "interfaces": [{ "name": "cni0" }, { "name": "veth7", "sandbox": "" }, { "name": "eth0", "sandbox": "/run/netns/a" }] });
    assert_eq!(on_host(bridge).unwrap().len(), 2, "an address may come later, by DHCP");
    let both = json!({ "interfaces": [{ "name": "veth7" }], "ips": [{ "address": "fd00::2/64" }, { "address": "10.88.0.2/24" }] });
    assert_eq!(on_host(both).unwrap().len(), 1);

    assert!(code(ok(json!({})).before()).1.contains("in `plugins` put it behind the one that does"));
    for (result, says) in [
        (json!("made"), "is no result of a plugin"),
        (json!({ "ips": [{ "address": "10.88.0.2" }] }), "is no result of a plugin"),
        (json!({}), "names no interface on the host"),
        (json!({ "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/a" }] }), "macvlan, ipvlan and host-device do not"),
        (json!({ "interfaces": [{ "name": "veth7" }], "ips": [{ "address": "fd00::2/64" }] }), "IPv6 addresses only"),
    ] {
        let (code, message) = code(on_host(result));
        assert!(code == 7 && message.contains(says), "{message}");
    }
}

#[test]
fn only_what_this_network_has_left_behind_is_stale() {
    let container = |id: &str| Container { id: id.into(), ifname: "eth0".into() };
    let given =
        json!({ "cni.dev/valid-attachments": [{ "containerID": "a", "ifname": "eth0" }, { "containerID": "b", "ifname": "net1" }] });
    let config = ok(given);
    let [kept, gone] = ["a", "b"].map(|id| config.attachment(&container(id)));
    let others = [attachment("functions.b", &container("c")), attachment("function", &container("c")), "by-hand".into()];
    let standing: Vec<&str> = [&kept, &gone].into_iter().chain(&others).map(String::as_str).collect();
    assert_eq!(config.stale(standing.iter().copied()).unwrap(), [gone.as_str()]);
    let (code, message) = code(ok(json!({})).stale(standing));
    assert!(code == 7 && message.contains("cni.dev/valid-attachments"), "{message}");
}

#[test]
fn a_runtime_may_write_in_three_ways_which_containers_it_knows() {
    let container = Container { id: "a".into(), ifname: "eth0".into() };
    let name = ok(json!({})).attachment(&container);
    let stale = |given: Value| {
        let mut whole = json!({ "cniVersion": "1.1.0", "name": "functions" });
        whole.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        Config::read(whole.to_string().as_bytes(), &Call::Gc).unwrap().stale([name.as_str()]).map(|stale| !stale.is_empty())
    };
    let known = json!([{ "containerID": "a", "ifname": "eth0" }]);
    for (given, ends) in [
        (json!({ "cni.dev/valid-attachments": known }), false),
        (json!({ "cni.dev/valid-attachments": [] }), true),
        (json!({ "cni.dev/valid-attachments": null }), true),
        (json!({ "cni.dev/attachments": known }), false),
        (json!({ "cni.dev/attachments": null }), true),
        (json!({ "cni.dev/valid-attachments": known, "cni.dev/attachments": [] }), false),
        (json!({ "cni.dev/valid-attachments": null, "cni.dev/attachments": known }), true),
    ] {
        assert_eq!(stale(given.clone()), Ok(ends), "{given}");
    }
    assert_eq!(code(stale(json!({}))).0, 7);
}

#[test]
fn an_error_is_told_as_the_specification_has_it() {
    let error = Error::new(Code::TryAgainLater, "later");
    assert_eq!(error.to_json("0.4.0"), json!({ "cniVersion": "0.4.0", "code": 11, "msg": "later" }));
}

/// Whatever a runtime may use for an ID.
fn id() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}"
}

/// What is no attachment's of ours, in the places of what is.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop_oneof!["\\PC{0,9}", "acme|veth7|eth0|10.88.0.2/24|fd00::2/64|a b|/run/portway"];
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), word.prop_map(Value::from)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = "interfaces|ips|name|sandbox|address|containerID|ifname|dns";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(key, inner, 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// A configuration whose version and name are good, and nothing else need be.
fn half_good() -> impl Strategy<Value = Value> {
    let key = "tenant|egress|shard|prevResult|cni.dev/valid-attachments|cni.dev/attachments|ipam|type|[a-z]{1,4}";
    proptest::collection::hash_map(key, anything(), 0..5).prop_map(|pairs| {
        let mut whole: serde_json::Map<String, Value> = pairs.into_iter().filter(|(key, _)| key != "name").collect();
        whole.extend([("cniVersion".into(), json!("1.1.0")), ("name".into(), json!("functions"))]);
        Value::Object(whole)
    })
}

proptest! {
    #[test]
    fn attachments_have_good_names_and_each_its_own(networks in [id(), id()], ids in [id(), id()], ifnames in ["[a-z0-9@.]{1,15}", "[a-z0-9@.]{1,15}"]) {
        let of = |n: usize, i: usize, f: usize| attachment(&networks[n], &Container { id: ids[i].clone(), ifname: ifnames[f].clone() });
        let mut wanted = std::collections::BTreeSet::new();
        let mut names = std::collections::BTreeSet::new();
        for (n, i, f) in (0..8).map(|bits| (bits & 1, (bits >> 1) & 1, bits >> 2)) {
            let name = of(n, i, f);
            prop_assert!(name.parse::<AttachmentName>().is_ok(), "{name}");
            prop_assert!(name.starts_with(&of_network(&networks[n])));
            prop_assert!(networks[0] == networks[1] || !name.starts_with(&of_network(&networks[1 - n])));
            wanted.insert((networks[n].clone(), ids[i].clone(), ifnames[f].clone()));
            names.insert(name);
        }
        prop_assert_eq!(names.len(), wanted.len());
    }

    #[test]
    fn arguments_are_found_among_any_others(others in proptest::collection::vec("[A-Z0-9_]{1,9}=[^;]{0,9}", 0..4), at in 0usize..4, text in "\\PC{0,60}") {
        let mut pairs = others.clone();
        pairs.insert(at.min(others.len()), "PORTWAY_TENANT=acme".into());
        pairs.push("IgnoreUnknown=true".into());
        let args: Args = pairs.join(";").parse().unwrap();
        prop_assert_eq!(args.tenant, Some("acme".parse().unwrap()));
        let _ = text.parse::<Args>();
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_refused(bytes in proptest::collection::vec(any::<u8>(), 0..99), text in r#"[\[\]{}":,a-z0-9 .]{0,60}"#) {
        for given in [bytes.as_slice(), text.as_bytes()] {
            prop_assert!(Config::read(given, &Call::Gc).is_err(), "none of these has a version");
            version_of(given);
        }
    }

    #[test]
    fn whatever_a_configuration_holds_containers_go_and_faults_are_said(given in half_good()) {
        let read = |call: &Call| Config::read(given.to_string().as_bytes(), call);
        let Call::Add(member) = add() else { panic!("no ADD") };
        prop_assert!(read(&Call::Del(member.container.clone())).is_ok(), "{given}");
        let faults = match read(&add()) {
            Ok(config) => vec![config.wanted(&member.args).err(), config.before().and_then(Before::on_host).err()],
            Err(error) => vec![Some(error)],
        };
        for error in faults.into_iter().flatten() {
            prop_assert!(matches!(error.code, Code::UnsupportedField | Code::InvalidConfig), "{given}: {error:?}");
        }
        let name = ok(json!({})).attachment(&member.container);
        if let Ok(stale) = read(&Call::Gc).and_then(|config| config.stale([name.as_str(), "by-hand"]).map(|stale| stale.len())) {
            prop_assert!(stale <= 1 && ["cni.dev/valid-attachments", "cni.dev/attachments"].iter().any(|key| given.get(key).is_some()), "{}", given);
        }
    }
}
