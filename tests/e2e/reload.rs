//! SIGHUP: what is added works, what runs is not disturbed, what is faulty is refused.

use super::support::*;
use nix::sys::signal::Signal;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::{Wiring, port};
use portway::lab::{Lab, Probe, Topology, Transfer, configs};
use rstest::rstest;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A host of WireGuard that spoke before anybody knew it says so again after five seconds (whitepaper section 6.1, Rekey-Timeout).
const HEARD_AGAIN: Duration = Duration::from_secs(10);

/// The configuration of `gw` or a host by a topology of one's own.
fn yaml(lab: &Lab, topology: &Topology, node: &str) -> String {
    let runtime = lab.dir().runtime(node);
    match topology.host(node) {
        Some(host) => configs::host(topology, host, Backend::Auto, &runtime),
        None => configs::gateway(topology, &topology.gateways[0], Backend::Auto, &runtime),
    }
}

/// `shared` with only acme, and only host-1.
fn small(full: &Topology) -> Topology {
    let mut small = full.clone();
    small.tenants.truncate(1);
    small.hosts.truncate(1);
    small.gateways[0].enis.truncate(1);
    small
}

fn reload(lab: &mut Lab, node: &str, yaml: &str) {
    let daemon = lab.daemon(node).unwrap();
    std::fs::write(daemon.config(), yaml).unwrap();
    daemon.process().signal(Signal::SIGHUP).unwrap();
}

fn log(lab: &Lab, node: &str) -> String {
    std::fs::read_to_string(lab.dir().log(node)).unwrap()
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_tenant_and_a_host_are_added_under_a_running_transfer_and_taken_away_again(#[case] tunnel: TunnelKind) {
    let full = shared().with_tunnel(tunnel);
    // Written anew, as the first configurations are the small ones.
    let mut lab = Lab::build(full.clone()).unwrap();
    lab.serve().unwrap();
    let small = small(&full);
    let first = ["gw", "host-1"].map(|node| (node, yaml(&lab, &small, node)));
    lab.start_daemons_edited(program(), Backend::Auto, |node, yaml| {
        first.iter().find(|(name, _)| *name == node).map_or(yaml, |(_, small)| small.clone())
    })
    .unwrap();
    for (container, name) in [("host-1", "fn-1a"), ("host-2", "fn-2a")] {
        let spec = lab.topology.container(name).unwrap().clone();
        attach(&mut lab, container, name, &json!({"tenant": "acme", "interface": spec.port, "source": spec.address}));
    }
    fetches(&lab, "fn-1a").unwrap();
    assert!(fetches(&lab, "fn-2a").is_err(), "host-2 is no peer yet");
    let blue = json!({"tenant": "blue", "interface": "fn1b"}).to_string();
    assert_eq!(call(&mut lab, "host-1", "PUT", "/v1/attachments/fn-1b", Some(&blue)).0, 404);

    let from = lab.node("fn-1a").unwrap().clone();
    let transfer = Transfer::start(&from, SocketAddr::from((SERVER, port::ECHO)), Some(4 << 20)).unwrap();
    let probe = Probe::start(&from, SERVER, Duration::from_millis(5)).unwrap();
    wait("traffic", SOON, || probe.answered() > 50 && transfer.returned() > 100_000);
    for node in ["gw", "host-1"] {
        let yaml = yaml(&lab, &full, node);
        reload(&mut lab, node, &yaml);
    }
    wait("the new tenant", SOON, || call(&mut lab, "host-1", "PUT", "/v1/attachments/fn-1b", Some(&blue)).0 == 201);
    wait("the new tenant's traffic", SOON, || fetches(&lab, "fn-1b").is_ok());
    wait("the new host's traffic", HEARD_AGAIN, || fetches(&lab, "fn-2a").is_ok());
    fetches(&lab, "fn-1a").unwrap();
    let (answered, returned) = (probe.answered(), transfer.returned());
    wait("traffic", SOON, || probe.answered() > answered + 50 && transfer.returned() > returned + 1_000_000);

    // Away again: the attachments of a tenant that is not served any more carry nothing.
    reload(&mut lab, "gw", &first[0].1);
    reload(&mut lab, "host-1", &first[1].1);
    wait("the end of the tenant", SOON, || fetches(&lab, "fn-1b").is_err());
    let (answered, returned) = (probe.answered(), transfer.returned());
    wait("traffic", SOON, || probe.answered() > answered + 50 && transfer.returned() > returned + 1_000_000);
    let (probed, done) = (probe.stop(), transfer.stop());
    assert!(done.ok, "{done:?}");
    assert_eq!(probed.lost, 0, "{probed:?}");
    assert!(!sh(&lab, "gw", "ip link").contains("pw-2"));
}

/// What came of reading the file.
fn configuration(lab: &mut Lab, node: &str) -> serde_json::Value {
    call(lab, node, "GET", "/v1/status", None).1["configuration"].clone()
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_faulty_file_leaves_the_old_one_in_force_and_says_so(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    let number = match tunnel {
        TunnelKind::Gre => "key: 7",
        TunnelKind::Wireguard => "port: 51820",
    };
    for node in ["gw-acme", "host-1"] {
        let good = std::fs::read_to_string(lab.daemon(node).unwrap().config()).unwrap();
        let before = call(&mut lab, node, "GET", "/v1/status", None).1["tenants"].clone();
        for (faulty, says, at_start) in [
            (replaced(&good, number, &format!("{} seven", number.split(' ').next().unwrap())), "seven", false),
            (good.replace("tenants:", "tenant:"), "tenant", false),
            ("}".into(), "not YAML", false),
            (replaced(&good, "admin: 127.0.0.1:94", "admin: 127.0.0.1:95"), "`admin`", true),
            (String::new(), "empty", false),
        ] {
            let told = log(&lab, node).matches("the old one stays in force").count();
            reload(&mut lab, node, &faulty);
            wait("a word about it", SOON, || log(&lab, node).matches("the old one stays in force").count() > told);
            let log = log(&lab, node);
            let word = log.rsplit("the old one stays in force").next().unwrap();
            assert!(word.contains(says) && word.contains(".yaml:") != at_start, "{node}: {says}: {word}");
            wait("what came of it", SOON, || configuration(&mut lab, node)["times"] == told + 2);
            let refused = configuration(&mut lab, node)["refused"].clone();
            assert!(refused["why"].as_str().unwrap().contains(says), "{refused}");
            assert_eq!(refused["at_start"], at_start);
            assert_eq!(call(&mut lab, node, "GET", "/v1/status", None).1["tenants"], before);
            fetches(&lab, "fn-1a").unwrap();
        }
        let told = log(&lab, node).matches("configuration read anew").count();
        reload(&mut lab, node, &good);
        wait("a word about it", SOON, || log(&lab, node).matches("configuration read anew").count() > told);
        wait("that in force", SOON, || configuration(&mut lab, node)["refused"].is_null());
        fetches(&lab, "fn-1a").unwrap();
    }
}

/// What a configuration allows without HTTP.
fn without_http(yaml: &str) -> String {
    replaced(yaml, &format!("tcp: [{}, ", port::HTTP), "tcp: [")
}

/// An HTTP connection that has had one answer and stays open.
fn opened(lab: &Lab) -> TcpStream {
    let address = SocketAddr::from((SERVER, port::HTTP));
    let mut stream = lab.node("fn-1a").unwrap().run(|| TcpStream::connect_timeout(&address, SOON)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: first\r\n\r\n").unwrap();
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
    stream
}

/// The tracked connections of a gateway, as `conntrack` tells them, that have all of these words.
fn tracked(lab: &Lab, node: &str, words: &[&str]) -> Vec<String> {
    let all = sh(lab, node, "conntrack -L 2>/dev/null");
    all.lines().filter(|line| words.iter().all(|word| line.split_whitespace().any(|w| w == *word))).map(str::to_owned).collect()
}

/// Nothing more of a connection arrives at the server, while a transfer goes on as before.
fn only_the_allowed_goes_on(lab: &Lab, mut forbidden: TcpStream, transfer: Transfer) {
    wait("the connection's end", SOON, || tracked(lab, "gw-acme", &["dport=80"]).is_empty());
    let capture = Capture::start(lab, "db-acme", "vpc0", "tcp");
    forbidden.set_read_timeout(Some(SILENCE)).unwrap();
    forbidden.write_all(b"GET / HTTP/1.1\r\nHost: second\r\n\r\n").unwrap();
    assert!(forbidden.read(&mut [0; 64]).is_err(), "an answer on a connection that is no longer allowed");
    let returned = transfer.returned();
    wait("traffic", SOON, || transfer.returned() > returned + 1_000_000);
    assert!(!capture.has(b"Host: second"), "the server got what is no longer allowed");
    assert!(fetches(lab, "fn-1a").is_err());
    let done = transfer.stop();
    assert!(done.ok, "{done:?}");
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn what_is_no_longer_allowed_ends_and_the_rest_goes_on(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    let transfer = Transfer::start(lab.node("fn-1a").unwrap(), (SERVER, port::ECHO).into(), Some(4 << 20)).unwrap();
    let forbidden = opened(&lab);
    assert!(!tracked(&lab, "gw-acme", &["src=10.64.0.101", "dport=80", "[ASSURED]"]).is_empty());
    let wide = std::fs::read_to_string(lab.daemon("gw-acme").unwrap().config()).unwrap();
    reload(&mut lab, "gw-acme", &without_http(&wide));
    only_the_allowed_goes_on(&lab, forbidden, transfer);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn what_is_no_longer_allowed_after_a_restart_ends_too(#[case] tunnel: TunnelKind) {
    let mut lab = simple_over(tunnel);
    let forbidden = opened(&lab);
    let daemon = lab.daemon("gw-acme").unwrap();
    daemon.stop().unwrap();
    let narrow = without_http(&std::fs::read_to_string(daemon.config()).unwrap());
    std::fs::write(daemon.config(), narrow).unwrap();
    lab.daemon("gw-acme").unwrap().start_again().unwrap();
    let transfer = Transfer::start(lab.node("fn-1a").unwrap(), (SERVER, port::ECHO).into(), Some(4 << 20)).unwrap();
    only_the_allowed_goes_on(&lab, forbidden, transfer);
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_host_that_is_no_peer_any_more_leaves_no_connection_to_the_next_with_its_address(#[case] tunnel: TunnelKind) {
    let topology = Topology::of(&["acme"], &[Wiring::Veth, Wiring::Veth]).with_tunnel(tunnel);
    let without = |yaml: &str, host: &str| -> String {
        let of = format!("- {{ host: {host},");
        assert!(yaml.contains(&of), "{yaml}");
        yaml.lines().filter(|line| !line.contains(&of)).map(|line| format!("{line}\n")).collect()
    };
    let mut lab = stand_edited(topology, |node, yaml| if node == "gw-acme" { without(&yaml, "host-2") } else { yaml });
    let peer = |host: &str, outer: &str| peer(tunnel, host, outer, "10.64.0.102");
    assert_eq!(call(&mut lab, "gw-acme", "PUT", "/v1/peers/host-2", Some(&peer("host-2", "10.9.0.102"))).0, 201);
    lab.attach_all().unwrap();
    wait("the new host's traffic", HEARD_AGAIN, || fetches(&lab, "fn-2a").is_ok());
    let echo = SocketAddr::from((SERVER, port::ECHO));
    let start = |lab: &Lab, container: &str| Transfer::start(lab.node(container).unwrap(), echo, Some(1 << 20)).unwrap();
    let (stays, goes) = (start(&lab, "fn-1a"), start(&lab, "fn-2a"));
    wait("traffic", SOON, || stays.returned() > 100_000 && goes.returned() > 100_000);
    let (first, second) = (["src=10.64.0.101", "dport=5202"], ["src=10.64.0.102"]);
    assert!(!tracked(&lab, "gw-acme", &second).is_empty());

    assert_eq!(call(&mut lab, "gw-acme", "DELETE", "/v1/peers/host-2", None).0, 204);
    assert_eq!(tracked(&lab, "gw-acme", &second), [""; 0]);
    assert_eq!(call(&mut lab, "gw-acme", "PUT", "/v1/peers/host-3", Some(&peer("host-3", "10.9.0.150"))).0, 201);
    assert_eq!(tracked(&lab, "gw-acme", &second), [""; 0]);
    let returned = stays.returned();
    wait("the other's traffic", SOON, || stays.returned() > returned + 100_000);
    assert_eq!(tracked(&lab, "gw-acme", &first).len(), 1);

    // One of the configuration file, with the same address for another host.
    let yaml = std::fs::read_to_string(lab.daemon("gw-acme").unwrap().config()).unwrap();
    let moved = replaced(
        &without(&yaml, "host-1"),
        "  static:\n",
        &format!("  static:\n    - {{ host: host-4, {}, inner: {{ acme: [10.64.0.101] }} }}\n", end(tunnel, "host-4", "10.9.0.151")),
    );
    reload(&mut lab, "gw-acme", &moved);
    wait("the end of its connections", SOON, || tracked(&lab, "gw-acme", &first).is_empty());
}
