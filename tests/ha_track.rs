//! Tracking end to end: what a gateway finds broken on its own side moves its shards, and connections go on.

#[path = "e2e/support.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod support;

use portway::lab::topology::Wiring;
use portway::lab::{Counts, Flows, Lab, Topology};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use support::*;

const EVERY: Duration = Duration::from_millis(200);
const FALL: u32 = 3;
/// VRRP's part of a move (one advertisement), and for the machine.
const A_BIT: Duration = Duration::from_secs(3);

/// Two gateways that track these things for every tenant; every shard has an Active and a Backup in sync.
fn group(tenants: &[&str], shards: usize, entries: &[&str]) -> Lab {
    let list: String = entries.iter().map(|entry| format!("        - {entry}\n")).collect();
    let mut lab = stand_edited(Topology::group(tenants, 2, shards, &[Wiring::Veth]), |node, yaml| {
        if node.starts_with("gw-") { replaced(&yaml, "      shards:\n", &format!("      track:\n{list}      shards:\n")) } else { yaml }
    });
    lab.attach_all().unwrap();
    lab.await_in_sync().unwrap();
    lab
}

/// With one shard, of which the first is Active.
fn pair(tenants: &[&str], entries: &[&str]) -> Lab {
    let lab = group(tenants, 1, entries);
    lab.await_active("gw-1", "acme", 0).unwrap();
    lab.await_in_sync().unwrap();
    lab
}

/// The first shard of a tenant at a gateway; null before it takes part.
fn shard(lab: &mut Lab, node: &str, tenant: &str) -> Value {
    let status = call(lab, node, "GET", "/v1/status", None).1;
    let shards = status["ha"]["shards"].as_array().unwrap_or_else(|| panic!("{status}"));
    shards.iter().find(|shard| shard["tenant"] == tenant).cloned().unwrap_or_default()
}

fn tracked(lab: &mut Lab, node: &str, tenant: &str, what: &str) -> Value {
    let shard = shard(lab, node, tenant);
    let all = shard["tracked"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter().find(|one| one["what"].as_str().is_some_and(|known| known.starts_with(what))).cloned().unwrap_or_default()
}

fn becomes(lab: &mut Lab, node: &str, tenant: &str, what: &str, up: bool) -> Value {
    wait(&format!("{what} of {tenant} at {node}, up: {up}"), A_BIT, || tracked(lab, node, tenant, what)["up"] == up);
    tracked(lab, node, tenant, what)
}

/// What a gateway tells of the source ports and connections of acme's first shard; none where it is not.
fn nat(lab: &mut Lab, node: &str, what: &str) -> Option<f64> {
    metrics(lab, node).get(&format!("portway_nat_{what}{{tenant=\"acme\",shard=\"0\"}}")).copied()
}

/// A table in a node's namespace with one rule; again without.
fn forbid(lab: &Lab, node: &str, rule: &str) {
    sh(lab, node, &format!("nft 'table ip cut {{ chain out {{ type filter hook output priority 0; {rule} }}; }}'"));
}

fn allow(lab: &Lab, node: &str) {
    sh(lab, node, "nft delete table ip cut");
}

#[test]
fn a_port_that_the_active_alone_cannot_reach_moves_the_shard_and_it_comes_back() {
    let entry = format!("{{ tcp: {SERVER}:8080, every: 200ms, timeout: 150ms, rise: 2, fall: {FALL}, weight: 150 }}");
    let mut lab = pair(&["acme"], &[&entry]);
    becomes(&mut lab, "gw-1", "acme", "tcp", true);
    // The Backup's probes are answered, too.
    becomes(&mut lab, "gw-2", "acme", "tcp", true);
    let from = [lab.node(&lab.topology.containers[0].node).unwrap()];
    let tenant = &lab.topology.tenants[0];
    let counts = Counts { tcp: 20, udp: 5, ..Counts::default() };
    let flows = Flows::open(&from, lab.node(&tenant.node()).unwrap(), tenant.server, &counts).unwrap();
    lab.await_in_sync().unwrap();

    wait("gw-1 to know its connections", SOON, || {
        let counted = call(&mut lab, "gw-1", "GET", "/v1/flows", None).1["acme/0"].as_f64();
        counted >= Some(25.0) && nat(&mut lab, "gw-1", "connections") == counted
    });
    let [begun, most, ports] = ["new_connections_total", "ports", "ports_limit"].map(|what| nat(&mut lab, "gw-1", what));
    assert!(begun >= Some(25.0) && most >= Some(5.0) && most < ports && ports == Some(64512.0), "{begun:?} {most:?} {ports:?}");
    assert_eq!(nat(&mut lab, "gw-2", "connections"), None, "they are not its own");

    let begun = Instant::now();
    forbid(&lab, "gw-1", "tcp dport 8080 drop;");
    lab.await_active("gw-2", "acme", 0).unwrap();
    assert!(begun.elapsed() < EVERY * (FALL + 1) + A_BIT, "{:?}", begun.elapsed());
    let down = tracked(&mut lab, "gw-1", "acme", "tcp");
    assert_eq!((down["up"].as_bool(), down["last_error"].as_str()), (Some(false), Some("no answer within 150ms")));
    // It comes behind everybody until it knows the connections, which are the other's now.
    wait("what is left of its priority", SOON, || shard(&mut lab, "gw-1", "acme")["priority"] == 50);
    let labels = |what: &str| format!("portway_track_{what}{{tenant=\"acme\",what=\"tcp {SERVER}:8080\"}}");
    let page = metrics(&mut lab, "gw-1");
    assert_eq!(page.get(&labels("up")), Some(&0.0), "{page:?}");
    assert!(page[&labels("probe_seconds")] >= 0.15);

    // Shown ten times a second; it knew them as copies.
    wait("the connections to be gw-2's", SOON, || {
        nat(&mut lab, "gw-2", "connections") >= Some(25.0) && nat(&mut lab, "gw-1", "connections").is_none()
    });

    allow(&lab, "gw-1");
    lab.await_active("gw-1", "acme", 0).unwrap();
    assert_eq!(shard(&mut lab, "gw-1", "acme")["priority"], 200);
    assert_eq!(metrics(&mut lab, "gw-1")[&labels("up")], 1.0);
    let report = flows.verify(Duration::from_secs(20));
    assert!(report.all_survived(), "{report:?}");
}

#[test]
fn a_script_that_finds_a_fault_lets_go_at_once_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (script, good) = (dir.path().join("check"), dir.path().join("good"));
    // Both gateways run it; it knows where it is by the address.
    fs::write(
        &script,
        format!("#!/bin/sh\ntest -e {} || ! ip addr | grep -q 10.9.0.1/ || {{ echo disk on fire; exit 7; }}\n", good.display()),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&good, "").unwrap();
    let entry = format!("{{ script: {}, every: 200ms, rise: 2, fall: 2, fault: true }}", script.display());
    let mut lab = pair(&["acme"], &[&entry]);
    becomes(&mut lab, "gw-1", "acme", "script", true);
    fs::remove_file(&good).unwrap();
    lab.await_active("gw-2", "acme", 0).unwrap();
    let down = tracked(&mut lab, "gw-1", "acme", "script");
    assert_eq!((down["up"].as_bool(), down["last_error"].as_str()), (Some(false), Some("exit status: 7: disk on fire")));
    let there = shard(&mut lab, "gw-1", "acme");
    assert_eq!((there["state"].as_str(), there["able"].as_bool()), (Some("initialize"), Some(false)));
    fetches(&lab, "fn-1a").unwrap();
    fs::write(&good, "").unwrap();
    lab.await_active("gw-1", "acme", 0).unwrap();
    fetches(&lab, "fn-1a").unwrap();
}

/// Both VPCs have the same addresses, servers and gateways among them, and the reverse path check is strict.
#[test]
fn a_probe_reaches_its_own_tenants_server_although_another_has_the_same_address() {
    let entries = [
        format!("{{ tcp: {SERVER}:8080, every: 200ms, timeout: 150ms, rise: 1, fall: 2, weight: 10 }}"),
        format!("{{ http: \"http://{SERVER}:8080/\", every: 200ms, timeout: 150ms, rise: 1, fall: 2, weight: 20 }}"),
        format!("{{ icmp: {SERVER}, every: 200ms, timeout: 150ms, rise: 1, fall: 2, weight: 30 }}"),
    ];
    let kinds = ["tcp", "http", "icmp"];
    let mut lab = pair(&["acme", "blue"], &entries.each_ref().map(String::as_str));
    for node in ["gw-1", "gw-2"] {
        sh(&lab, node, "for i in all default plat0 eni0 eni1; do echo 1 > /proc/sys/net/ipv4/conf/$i/rp_filter; done");
    }
    let all = |lab: &mut Lab, tenant: &str, up: bool| {
        for (node, kind) in ["gw-1", "gw-2"].into_iter().flat_map(|node| kinds.map(|kind| (node, kind))) {
            becomes(lab, node, tenant, kind, up);
        }
    };
    all(&mut lab, "acme", true);
    all(&mut lab, "blue", true);
    let server = |tenant: &str| lab.topology.tenants.iter().find(|t| t.name == tenant).unwrap().node();
    let (acme, blue) = (server("acme"), server("blue"));
    // What is known of neighbours is forgotten: servers and gateways have to ask again.
    for node in ["gw-1", "gw-2", &acme, &blue] {
        sh(&lab, node, "ip neigh flush all");
    }
    let cut = "nft 'table ip cut { chain in { type filter hook input priority 0; ip saddr 172.16.101.4-172.16.101.9 drop; }; }'";
    for (cut_off, tenant, other) in [(&blue, "blue", "acme"), (&acme, "acme", "blue")] {
        sh(&lab, cut_off, cut);
        all(&mut lab, tenant, false);
        all(&mut lab, other, true);
        let [down, up] = [tenant, other].map(|of| shard(&mut lab, "gw-1", of)["priority"].as_u64().unwrap());
        assert_eq!((down, up), (140, 200));
        sh(&lab, cut_off, "nft delete table ip cut");
        all(&mut lab, tenant, true);
    }
}

#[test]
fn who_starts_with_a_broken_side_takes_nothing_from_others() {
    let entry = format!("{{ icmp: {SERVER}, every: 200ms, timeout: 150ms, rise: 2, fall: 2, fault: true }}");
    let mut lab = pair(&["acme"], &[&entry]);
    lab.daemon("gw-1").unwrap().terminate().unwrap();
    lab.await_active("gw-2", "acme", 0).unwrap();
    assert!(lab.daemon("gw-1").unwrap().left(Duration::from_secs(20)).unwrap().is_some());
    forbid(&lab, "gw-1", "icmp type echo-request drop;");
    lab.daemon("gw-1").unwrap().revive().unwrap();
    let down = becomes(&mut lab, "gw-1", "acme", "icmp", false);
    assert!(down["last_error"].as_str().is_some_and(|error| !error.is_empty()), "{down}");
    let there = shard(&mut lab, "gw-1", "acme");
    assert_eq!((there["state"].as_str(), there["transitions"].as_u64()), (Some("initialize"), Some(2)), "{there}");
    assert_eq!(lab.active("acme", 0).unwrap().as_deref(), Some("gw-2"));
    allow(&lab, "gw-1");
    lab.await_active("gw-1", "acme", 0).unwrap();
}

#[test]
fn a_reload_changes_what_is_tracked_and_moves_nothing() {
    let entry = format!("{{ tcp: {SERVER}:8080, every: 200ms, timeout: 150ms, rise: 2, fall: {FALL}, weight: 150 }}");
    let mut lab = pair(&["acme"], &[&entry]);
    becomes(&mut lab, "gw-1", "acme", "tcp", true);
    let before = shard(&mut lab, "gw-1", "acme")["transitions"].clone();
    let file = lab.dir().config("gw-1");
    let old = fs::read_to_string(&file).unwrap();
    let with = |new: &str| fs::write(&file, replaced(&old, &entry, new)).unwrap();
    // A port where nobody listens: refused, which costs 20.
    with(&format!("{{ tcp: {SERVER}:9, every: 200ms, rise: 2, fall: 2, weight: 20 }}"));
    lab.daemon("gw-1").unwrap().process().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    wait("the new check", A_BIT, || shard(&mut lab, "gw-1", "acme")["priority"] == 180);
    let down = tracked(&mut lab, "gw-1", "acme", "tcp");
    assert_eq!(down["what"], format!("tcp {SERVER}:9"));
    assert_eq!(down["last_error"], "cannot connect: Connection refused (os error 111)");
    fs::write(&file, &old).unwrap();
    lab.daemon("gw-1").unwrap().process().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    wait("the old check", A_BIT, || shard(&mut lab, "gw-1", "acme")["priority"] == 200);
    becomes(&mut lab, "gw-1", "acme", "tcp", true);
    let after = shard(&mut lab, "gw-1", "acme");
    assert_eq!((after["state"].as_str(), &after["transitions"]), (Some("active"), &before));
}

#[test]
fn an_interface_beside_its_own_weighs_as_much_as_is_written() {
    let mut lab = pair(&["acme"], &["{ interface: spare0, weight: 150 }"]);
    assert_eq!(tracked(&mut lab, "gw-1", "acme", "interface spare0")["up"], false);
    assert_eq!([50, 1].map(Value::from), ["gw-1", "gw-2"].map(|node| shard(&mut lab, node, "acme")["priority"].clone()));
    let spare = "ip link add spare0 type veth peer name spare1 && ip link set spare1 up && ip link set spare0 up";
    sh(&lab, "gw-2", spare);
    lab.await_active("gw-2", "acme", 0).unwrap();
    sh(&lab, "gw-1", spare);
    lab.await_active("gw-1", "acme", 0).unwrap();
    sh(&lab, "gw-1", "ip link set spare0 down");
    lab.await_active("gw-2", "acme", 0).unwrap();
    let all = shard(&mut lab, "gw-2", "acme")["tracked"].clone();
    let seen: Vec<_> = all.as_array().unwrap().iter().map(|one| (one["what"].as_str().unwrap(), one["up"] == true, &one["cost"])).collect();
    let (fault, weight) = (Value::from("fault"), serde_json::json!({ "weight": 150 }));
    assert_eq!(seen, [("interface eni0", true, &fault), ("interface plat0", true, &fault), ("interface spare0", true, &weight)]);
}

#[test]
fn shards_of_a_tenant_share_its_probes() {
    let tcp = format!("{{ tcp: {SERVER}:80, every: 200ms, rise: 1 }}");
    let mut lab = group(&["acme"], 3, &[&tcp, &format!("{{ icmp: {SERVER}, every: 200ms, rise: 1 }}")]);
    for node in ["gw-1", "gw-2"] {
        becomes(&mut lab, node, "acme", "tcp", true);
        becomes(&mut lab, node, "acme", "icmp", true);
        let priorities: Vec<u64> = call(&mut lab, node, "GET", "/v1/status", None).1["ha"]["shards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shard| shard["priority"].as_u64().unwrap())
            .collect();
        assert!(priorities.len() == 3 && priorities.iter().all(|priority| [100, 200].contains(priority)), "{priorities:?}");
    }
    fetches(&lab, "fn-1a").unwrap();
}

#[test]
fn a_restart_keeps_the_shard_although_nothing_is_proved_yet() {
    let entry = format!("{{ tcp: {SERVER}:80, every: 200ms, rise: 2, fault: true }}");
    let mut lab = pair(&["acme"], &[&entry]);
    let before = shard(&mut lab, "gw-2", "acme")["transitions"].clone();
    lab.daemon("gw-1").unwrap().restart().unwrap();
    becomes(&mut lab, "gw-1", "acme", "tcp", true);
    assert_eq!(shard(&mut lab, "gw-1", "acme")["state"], "active");
    assert_eq!(shard(&mut lab, "gw-2", "acme")["transitions"], before);
}

#[test]
fn a_probe_leaves_from_the_nodes_own_address_also_when_the_havip_stands_before_it() {
    let mut lab = pair(&["acme"], &[&format!("{{ http: http://{SERVER}/, every: 200ms, rise: 1, fall: 3 }}")]);
    becomes(&mut lab, "gw-1", "acme", "http", true);
    sh(&lab, "gw-1", "ip addr del 172.16.101.4/24 dev eni0 && ip addr add 172.16.101.4/24 dev eni0");
    let listed = sh(&lab, "gw-1", "ip -4 -o addr show dev eni0");
    assert!(listed.find("172.16.101.10/") < listed.find("172.16.101.4/") && listed.contains("172.16.101.10/"), "{listed}");
    becomes(&mut lab, "gw-1", "acme", "http", true);
    let capture = Capture::start(&lab, "gw-1", "eni0", &format!("tcp and dst host {SERVER}"));
    capture.wait_for_count(20);
    let sources = capture.read("", &["ip.src"]);
    assert!(sources.iter().all(|source| source == &["172.16.101.4"]), "{sources:?}");
    assert_eq!(tracked(&mut lab, "gw-1", "acme", "http")["up"], true);
    assert_eq!(shard(&mut lab, "gw-1", "acme")["state"], "active");
}

#[test]
fn where_nobody_has_proved_anything_somebody_serves() {
    let mut lab = group(&["acme"], 1, &[&format!("{{ icmp: {SERVER}, every: 1s, rise: 100, fault: true }}")]);
    for node in ["gw-1", "gw-2"] {
        let there = shard(&mut lab, node, "acme");
        assert_eq!((there["priority"].as_u64(), there["able"].as_bool()), (Some(1), Some(true)), "{there}");
        assert_eq!(tracked(&mut lab, node, "acme", "icmp")["up"], Value::Null);
    }
    fetches(&lab, "fn-1a").unwrap();
}
