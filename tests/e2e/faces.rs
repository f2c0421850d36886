//! What a daemon shows of itself over HTTP, and what it does not let anybody do there.

use super::support::*;
use portway::config::TunnelKind;
use portway::lab::Lab;
use rstest::rstest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, SystemTime};

/// curl on the admin listener of a node: status code and body.
fn curl(lab: &Lab, node: &str, arguments: &str, path: &str) -> (String, String) {
    let port = if node.starts_with("gw") { 9470 } else { 9471 };
    let out = sh(lab, node, &format!("curl -s -m 5 -w '\\n%{{http_code}}' {arguments} http://127.0.0.1:{port}{path}"));
    let (body, status) = out.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn health_readiness_and_status_on_the_admin_listener(#[case] tunnel: TunnelKind) {
    let lab = simple_over(tunnel);
    for node in ["gw-acme", "host-1"] {
        assert_eq!(curl(&lab, node, "", "/healthz"), ("200".into(), "ok\n".into()));
        assert_eq!(curl(&lab, node, "", "/readyz"), ("200".into(), "ready\n".into()));
        let status: Value = serde_json::from_str(&curl(&lab, node, "", "/v1/status").1).unwrap();
        assert_eq!((&status["node"], &status["ready"], &status["tenants"][0]["name"]), (&node.into(), &true.into(), &"acme".into()));
        let shown = portway(&lab, node, &["status"]);
        assert!(shown.code == 0 && shown.out.contains(&format!("{node}: ready")) && shown.out.contains("pw-1"), "{shown:?}");
    }
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn ready_means_that_the_very_first_packet_passes(#[case] tunnel: TunnelKind) {
    // A ping is sent once, and nothing repeats it. More than once, as what could go wrong is a matter of moments.
    for _ in 0..6 {
        let lab = simple_over(tunnel);
        assert!(portway::lab::answers(lab.node("fn-1a").unwrap(), SERVER, SOON).unwrap());
    }
}

#[test]
fn nothing_can_be_changed_over_tcp() {
    let mut lab = simple();
    let body = r#"-H 'content-type: application/json' -d '{"tenant":"acme","interface":"fn1a","source":"10.88.1.9"}'"#;
    for (node, arguments, path) in [
        ("host-1", format!("-X PUT {body}"), "/v1/attachments/evil"),
        ("host-1", "-X DELETE".into(), "/v1/attachments/fn-1a"),
        ("host-1", String::new(), "/v1/attachments"),
        ("gw-acme", format!("-X PUT {body}"), "/v1/attachments/evil"),
    ] {
        assert_eq!(curl(&lab, node, &arguments, path).0, "404", "{arguments} {path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(curl(&lab, "host-1", &format!("-X {method}"), "/v1/status").0, "405", "{method}");
    }
    assert_eq!(call(&mut lab, "host-1", "GET", "/v1/attachments", None).1.as_array().unwrap().len(), 1);
    // And only loopback listens.
    let listening = sh(&lab, "host-1", "ss -Hltn");
    assert!(listening.lines().count() == 1 && listening.contains("127.0.0.1:9471"), "{listening}");
}

/// A page of somebody else, whose name that one's DNS has made to mean this machine, asks for that name.
#[test]
fn who_asks_for_somebody_elses_name_is_told_nothing() {
    let mut lab = simple();
    for node in ["gw-acme", "host-1"] {
        for path in ["/", "/v1/status", "/metrics", "/page/main.js"] {
            let (status, body) = curl(&lab, node, "-H 'Host: evil.example:9470'", path);
            assert!(status == "421" && body.contains("admin_names") && !body.contains("acme"), "{path}: {status} {body}");
        }
        for good in ["localhost:9470", "gw-acme", "[::1]:9470", "ip-10-9-0-1.eu-west-1.compute.internal:9470"] {
            assert_eq!(curl(&lab, node, &format!("-H 'Host: {good}'"), "/healthz").0, "200", "{good}");
        }
        assert_eq!(curl(&lab, node, "-0 -H 'Host:'", "/healthz").0, "200", "HTTP/1.0");
        assert_eq!(metrics(&mut lab, node)["portway_admin_refused_total"], 4.0);
    }
    let daemon = lab.daemon("gw-acme").unwrap();
    let yaml = std::fs::read_to_string(daemon.config()).unwrap().replace("gateway:\n", "gateway:\n  admin_names: [gw.example.com]\n");
    std::fs::write(daemon.config(), yaml).unwrap();
    daemon.restart().unwrap();
    assert_eq!(curl(&lab, "gw-acme", "-H 'Host: GW.example.com:9470'", "/healthz").0, "200");
}

/// It may be reached from the network: its strangers are not to cost the daemon its descriptors.
#[test]
fn who_holds_connections_to_the_admin_listener_holds_few() {
    let mut lab = simple();
    let at: std::net::SocketAddr = ([127, 0, 0, 1], 9470).into();
    let held: Vec<_> =
        lab.node("gw-acme").unwrap().run(|| (0..600).map_while(|_| std::net::TcpStream::connect_timeout(&at, SOON / 2).ok()).collect());
    let process = lab.daemon("gw-acme").unwrap().pid();
    let open = || std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    // More wait in the kernel's queue than are let in. Where that is full for a moment, a second later they are asked for again.
    wait("those that are let in", SOON, || open() >= 200);
    assert!(held.len() > 250 && open() < 300, "{} connections, {} descriptors", held.len(), open());
    assert_eq!(call(&mut lab, "gw-acme", "GET", "/v1/status", None).0, 200);
    // They have said nothing, and make room.
    assert_eq!(curl(&lab, "gw-acme", "--retry 6 --retry-all-errors", "/healthz").0, "200");
    drop(held);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_gateway_without_its_interface_is_not_ready_and_says_why(#[case] tunnel: TunnelKind) {
    let lab = simple_over(tunnel);
    sh(&lab, "gw-acme", "ip link set eni0 down; ip link set eni0 name away0");
    let mut why = String::new();
    wait("not ready", SOON, || {
        let (status, body) = curl(&lab, "gw-acme", "", "/readyz");
        why = body;
        status == "503"
    });
    assert!(why.starts_with("not ready") && why.contains("eni0"), "{why}");
    let shown = portway(&lab, "gw-acme", &["status"]);
    assert!(shown.code == 1 && shown.out.contains("gw-acme: NOT READY") && shown.out.contains("! "), "{shown:?}");
    assert_eq!(curl(&lab, "gw-acme", "", "/healthz").0, "200", "not ready is not ill");
    assert!(fetches(&lab, "fn-1a").is_err());

    sh(&lab, "gw-acme", "ip link set away0 name eni0; ip link set eni0 up");
    wait("ready", SOON, || curl(&lab, "gw-acme", "", "/readyz").0 == "200");
    wait("traffic", SOON, || fetches(&lab, "fn-1a").is_ok());
    assert_eq!(portway(&lab, "gw-acme", &["status"]).code, 0);
}

/// The rules of OpenMetrics 1.0 that people break.
fn parse(page: &str) -> BTreeMap<String, (String, usize)> {
    let mut families: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let (mut current, mut seen) = (String::new(), BTreeSet::new());
    let body = page.strip_suffix("# EOF\n").expect("a page ends with # EOF");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (keyword, name, text) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
            assert!(["HELP", "TYPE", "UNIT"].contains(&keyword), "{line}");
            if keyword == "TYPE" {
                assert!(families.insert(name.to_owned(), (text.to_owned(), 0)).is_none(), "{name} has two types");
            }
            if keyword == "HELP" {
                assert!(!text.is_empty() && !text.ends_with(".."), "{line}");
            }
            current = name.to_owned();
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        value.parse::<f64>().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(seen.insert(sample.to_owned()), "twice: {line}");
        let (name, labels) = sample.split_once('{').map_or((sample, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
        let ours = name.starts_with("portway_") || name == "process_start_time_seconds";
        assert!(ours && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
        let family = families.get_mut(&current).unwrap_or_else(|| panic!("no type before: {line}"));
        family.1 += 1;
        let expected = if family.0 == "counter" { format!("{current}_total") } else { current.clone() };
        assert_eq!(name, expected, "{line}");
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(!key.is_empty() && !value.contains('\n'), "{line}");
        }
    }
    families
}

/// What both roles tell of their machine.
const MACHINE: &[&str] = &[
    "process_start_time_seconds",
    "portway_clock_seconds",
    "portway_conntrack_entries",
    "portway_conntrack_entries_limit",
    "portway_cpu_seconds",
    "portway_interface_received_packets",
    "portway_tunnel_info",
];

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_gateway_tells_what_its_machine_counts(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    fetches(&lab, "fn-1a").unwrap();
    let (asked, first) = (Instant::now(), metrics(&mut lab, "gw-acme"));
    assert!(first["portway_conntrack_entries"] >= 1.0, "{first:#?}");
    let limit: f64 = sh(&lab, "gw-acme", "cat /proc/sys/net/netfilter/nf_conntrack_max").trim().parse().unwrap();
    assert_eq!(first["portway_conntrack_entries_limit"], limit);
    let times: BTreeMap<&String, &f64> = first.iter().filter(|(name, _)| name.starts_with("portway_cpu_seconds_total{")).collect();
    let processors = sh(&lab, "gw-acme", "grep -c '^cpu[0-9]' /proc/stat").trim().parse::<usize>().unwrap().min(128);
    assert!(times.len() == 4 * processors && times.values().all(|seconds| **seconds >= 0.0), "{times:?}");
    assert!(times.keys().any(|name| name.contains("mode=\"softirq\"")) && times.values().any(|seconds| **seconds > 0.0), "{times:?}");
    assert!(first.keys().all(|name| !name.contains("allowance")), "no cloud holds anything back here");
    assert_eq!(first["portway_tunnel_info{tunnel=\"pw-1\",tenant=\"acme\",shard=\"0\"}"], 1.0);

    fetches(&lab, "fn-1a").unwrap();
    let of_tunnel = |name: &str| name.contains("_bytes_total{tunnel=");
    let mut second = BTreeMap::new();
    // The kernel's tunnels are read once a second.
    wait("the tunnel's bytes to grow", SOON, || {
        second = metrics(&mut lab, "gw-acme");
        second.iter().filter(|(name, _)| of_tunnel(name)).all(|(name, bytes)| *bytes > first[name])
    });
    let elapsed = asked.elapsed().as_secs_f64();
    for direction in ["received", "sent"] {
        for (what, at) in [("packets", 1.0), ("bytes", 40.0)] {
            for interface in ["plat0", "eni0"] {
                let name = format!("portway_interface_{direction}_{what}_total{{interface=\"{interface}\"}}");
                assert!(second[&name] >= first[&name] + at, "{name}: {} after {}", second[&name], first[&name]);
            }
            let mut names = [("tunnel", what), ("wireguard", if what == "packets" { "messages" } else { what })].into_iter();
            let name = names.find_map(|(kind, what)| {
                let name = format!("portway_{kind}_{direction}_{what}_total{{tunnel=\"pw-1\"}}");
                second.contains_key(&name).then_some(name)
            });
            let name = name.unwrap_or_else(|| panic!("nothing of the tunnel's {what}: {second:#?}"));
            assert!(second[&name] >= first[&name] + at, "{name}");
        }
    }
    let clock = second["portway_clock_seconds"] - first["portway_clock_seconds"];
    assert!(clock > 0.0 && clock <= elapsed, "{clock} s of {elapsed} s");
    assert_eq!(second["process_start_time_seconds"], first["process_start_time_seconds"], "the same process");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 120.0..now).contains(&first["process_start_time_seconds"]), "{now}");
    let status = call(&mut lab, "gw-acme", "GET", "/v1/status", None).1;
    assert!(status["conntrack"]["entries"].as_u64() >= Some(1) && status["exceeded"] == serde_json::json!({}), "{status}");
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn metrics_are_openmetrics_and_count(#[case] tunnel: TunnelKind) {
    let lab = simple_over(tunnel);
    fetches(&lab, "fn-1a").unwrap();
    for (node, names) in [
        ("gw-acme", &["portway_peers", "portway_dropped_packets", "portway_ready", "portway_reconcile_seconds"][..]),
        ("host-1", &["portway_attachments", "portway_dropped_packets", "portway_ready", "portway_reconcile_seconds"]),
        ("gw-acme", MACHINE),
        ("host-1", MACHINE),
    ] {
        let head = sh(
            &lab,
            node,
            &format!(
                "curl -sI -X GET -H 'accept: application/openmetrics-text' http://127.0.0.1:{}/metrics",
                if node == "host-1" { 9471 } else { 9470 }
            ),
        );
        assert!(head.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
        let (status, page) = curl(&lab, node, "-H 'accept: application/openmetrics-text'", "/metrics");
        assert_eq!(status, "200");
        let families = parse(&page);
        for name in names {
            assert!(families.get(*name).is_some_and(|family| family.1 > 0), "{node}: no {name} in {families:?}");
        }
        assert!(page.contains("portway_ready 1") || page.contains("portway_ready{} 1"), "{page}");
    }
}
