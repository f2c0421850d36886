//! The contract of the host's API and of the commands that use it.

use super::support::*;
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Topology, unix};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

fn put(lab: &mut Lab, name: &str, body: &str) -> (u16, Value) {
    call(lab, "host-1", "PUT", &format!("/v1/attachments/{name}"), Some(body))
}

/// The status, and what an error says; every refusal must say something.
fn refused(lab: &mut Lab, name: &str, body: &str) -> (u16, String) {
    let (status, answer) = put(lab, name, body);
    let error = answer["error"].as_str().unwrap_or_else(|| panic!("{body} -> {status} without an error: {answer}"));
    (status, error.to_owned())
}

#[test]
fn every_refusal_has_its_status_and_says_why() {
    let mut lab = stand(Topology::of(&["acme"], &[Wiring::Bridge]));
    sh(&lab, "host-1", "ip link add fnx type veth peer name fnxp && ip link set fnx up");
    for (name, body, status, says) in [
        ("a", "{", 400, "not an attachment"),
        ("a", "", 400, "not an attachment"),
        ("a", r#"{"interface":"fnx"}"#, 400, "tenant"),
        ("a", r#"{"tenant":"acme","interface":"fnx","colour":"red"}"#, 400, "colour"),
        ("a", r#"{"tenant":"acme"}"#, 400, "`interface` or `netns`"),
        ("a", r#"{"tenant":"acme","interface":"fnx","netns":"/proc/self/ns/net"}"#, 400, "not both"),
        ("a", r#"{"tenant":"acme","interface":"fnx","source":"10.88.1.7/24"}"#, 400, "10.88.1.0/24"),
        ("a", r#"{"tenant":"acme","interface":"fnx","source":"fd00::1"}"#, 400, "IPv6"),
        ("a", r#"{"tenant":"acme","interface":"pw-1"}"#, 400, "Portway's own"),
        ("a", r#"{"tenant":"acme","interface":"cni0"}"#, 400, "bridge link"),
        ("a%2f..", r#"{"tenant":"acme","interface":"fnx"}"#, 400, ""),
        ("a", r#"{"tenant":"nobody","interface":"fnx"}"#, 404, "tenant nobody is not served"),
        ("a", r#"{"tenant":"acme","interface":"fnx","shard":9}"#, 404, "shard"),
        ("a", r#"{"tenant":"acme","interface":"eth77"}"#, 404, "eth77"),
        ("a", r#"{"tenant":"acme","netns":"/run/netns/none"}"#, 404, "/run/netns/none"),
    ] {
        let (found, error) = refused(&mut lab, name, body);
        assert_eq!(found, status, "{body}: {error}");
        assert!(error.contains(says), "{body}: {error:?} does not say {says:?}");
    }
    assert_eq!(call(&mut lab, "host-1", "GET", "/v1/attachments", None), (200, json!([])));
    for method in ["GET", "DELETE"] {
        let (status, answer) = call(&mut lab, "host-1", method, "/v1/attachments/ghost", None);
        assert_eq!((status, answer["error"].as_str()), (404, Some("there is no attachment ghost")), "{method}");
    }
}

#[test]
fn attaching_again_is_fine_only_with_the_same_values_and_packets_have_one_owner() {
    let mut lab = stand(Topology::of(&["acme", "blue"], &[Wiring::Veth]));
    sh(&lab, "host-1", "ip link add fnx type veth peer name fnxp && ip link set fnx up");
    let spec = |tenant: &str, source: &str| format!(r#"{{"tenant":"{tenant}","interface":"fnx","source":"{source}"}}"#);
    let (status, made) = put(&mut lab, "a", &spec("acme", "10.88.1.7"));
    assert_eq!(status, 201);
    let expected = json!({"name": "a", "tenant": "acme", "shard": 0, "interface": "fnx", "bridge_port": false, "source": "10.88.1.7/32", "netns": null, "egress": null});
    assert_eq!(made, expected);
    assert_eq!(put(&mut lab, "a", &spec("acme", "10.88.1.7/32")), (200, expected.clone()));
    assert_eq!(call(&mut lab, "host-1", "GET", "/v1/attachments/a", None), (200, expected.clone()));

    for other in [spec("blue", "10.88.1.7"), spec("acme", "10.88.1.8"), r#"{"tenant":"acme","interface":"fnx"}"#.into()] {
        let (status, error) = refused(&mut lab, "a", &other);
        assert_eq!(status, 409, "{other}");
        assert!(error.contains("tenant acme shard 0 interface fnx source 10.88.1.7/32") && error.contains("detach"), "{error}");
    }
    let (status, error) = refused(&mut lab, "b", &spec("blue", "10.88.1.7"));
    assert_eq!(status, 409);
    assert!(error.contains("attachment a"), "{error}");

    assert_eq!(put(&mut lab, "net", &spec("acme", "10.88.2.0/24")).0, 201);
    for overlapping in ["10.88.2.0/24", "10.88.2.128/25", "10.88.0.0/16"] {
        let (status, error) = refused(&mut lab, "c", &spec("blue", overlapping));
        assert_eq!(status, 409, "{overlapping}");
        assert!(error.contains("attachment net"), "{error}");
    }
    // A narrower claim inside a wider one is no conflict for single addresses and for the whole interface: the narrowest counts.
    assert_eq!(put(&mut lab, "inside", &spec("blue", "10.88.2.9")).0, 201);
    assert_eq!(put(&mut lab, "whole", r#"{"tenant":"blue","interface":"fnx"}"#).0, 201);
    assert_eq!(call(&mut lab, "host-1", "GET", "/v1/attachments", None).1.as_array().unwrap().len(), 4);

    // Read back from the kernel by nft: one element each.
    let listing = sh(&lab, "host-1", "nft list table inet portway");
    let index = sh(&lab, "host-1", "cat /sys/class/net/fnx/ifindex");
    for element in ["10.88.1.7", "10.88.2.0/24", "10.88.2.9"] {
        assert!(
            listing.contains(&format!("\"fnx\" . {element} : ")) || listing.contains(&format!("{} . {element} : ", index.trim())),
            "{element}:\n{listing}"
        );
    }
    for name in ["a", "net", "inside", "whole"] {
        detach(&mut lab, "host-1", name);
    }
    assert_eq!(call(&mut lab, "host-1", "DELETE", "/v1/attachments/a", None).0, 404);
    assert!(!sh(&lab, "host-1", "nft list table inet portway").contains("10.88."));
}

#[test]
fn sockets_are_for_the_owner_and_the_group_and_the_gateway_takes_no_attachments() {
    let mut lab = stand(Topology::of(&["acme"], &[Wiring::Veth]));
    for (node, role) in [("host-1", "host"), ("gw-acme", "gateway")] {
        let mode = |name: String| lab.dir().runtime(node).join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(format!("{role}.sock")), 0o660);
        assert_eq!(mode(format!("{role}.takeover")), 0o600);
    }
    let gateway = lab.daemon("gw-acme").unwrap().socket();
    assert_eq!(unix(&gateway, "GET", "/v1/attachments", None).unwrap().status, 404);
    // curl sees the same.
    let socket = lab.daemon("host-1").unwrap().socket();
    let code = sh(
        &lab,
        "host-1",
        &format!(
            "curl -s -o /dev/null -w '%{{http_code}}' --unix-socket {} -X PUT -d nonsense http://x/v1/attachments/a",
            socket.display()
        ),
    );
    assert_eq!(code, "400");
}

#[test]
fn the_commands_say_what_a_person_expects() {
    let lab = stand(Topology::of(&["acme"], &[Wiring::Veth]));
    let run = |arguments: &[&str]| portway(&lab, "host-1", arguments);
    let said = |arguments: &[&str], code: i32, out: &str| {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (code, out), "{arguments:?}: {}", ran.err);
        ran.err
    };
    said(&["attachments"], 0, "nothing is attached\n");
    let line = "fn-1a: tenant acme shard 0, interface fn1a, source 10.88.1.2/32\n";
    let attach = ["attach", "fn-1a", "--tenant", "acme", "--interface", "fn1a", "--source", "10.88.1.2"];
    said(&attach, 0, &format!("attached {line}"));
    said(&attach, 0, &format!("attached already {line}"));
    said(&["attachments"], 0, line);
    fetches(&lab, "fn-1a").unwrap();
    let json: Value = serde_json::from_str(&run(&["attachments", "--json"]).out).unwrap();
    assert_eq!(json[0]["name"], "fn-1a");

    let error = said(&["attach", "fn-1b", "--tenant", "acme", "--interface", "fn1a", "--source", "10.88.1.2"], 1, "");
    assert_eq!(error, "portway: these packets belong to attachment fn-1a already: detach that one first, or give a narrower `source`\n");
    said(&["detach", "fn-1a"], 0, "detached fn-1a\n");
    assert!(fetches(&lab, "fn-1a").is_err());
    assert_eq!(said(&["detach", "fn-1a"], 1, ""), "portway: there is no attachment fn-1a\n");
    said(&["attachments", "--json"], 0, "[]\n");

    // Wrong usage is clap's 2, and a daemon that is not there is named.
    assert_eq!(run(&["attach", "x", "--tenant", "acme"]).code, 2);
    assert_eq!(run(&["attach", "x", "--tenant", "acme", "--interface", "a", "--netns", "/b"]).code, 2);
    assert_eq!(run(&["attach", "x", "--tenant", "acme", "--interface", "a", "--source", "10.0.0.1/8"]).code, 2);
    let ran = run(&["attachments", "--runtime-dir", "/nonexistent"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no `portway host` answers on /nonexistent/host.sock: is it running"), "{}", ran.err);
}
