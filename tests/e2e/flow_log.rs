//! Each connection through a tunnel has a line at each end of its life, and what is left out is accounted for.

use super::support::*;
use nix::sys::signal::Signal;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::{Wiring, port};
use portway::lab::{Lab, Topology};
use rstest::rstest;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

const SNAT: &str = "172.16.101.10";

/// Where a node's log is.
fn file(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().path().join("flows").join(format!("{node}.jsonl"))
}

/// Of these nodes with a flow log, with these further keys.
fn logged(tunnel: TunnelKind, nodes: &[&str], keys: &str) -> Lab {
    let mut lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel)).unwrap();
    lab.serve().unwrap();
    for node in ["gw-acme", "host-1"] {
        sh(&lab, node, "cd /proc/sys/net/netfilter; echo 1 > nf_conntrack_tcp_timeout_time_wait; echo 1 > nf_conntrack_tcp_timeout_close");
    }
    let folder = lab.dir().path().join("flows");
    let edit = |node: &str, yaml: String| {
        let log = format!("  flow_log: {{ file: {}/{node}.jsonl{keys} }}\n  tenants:\n", folder.display());
        if nodes.contains(&node) { replaced(&yaml, "  tenants:\n", &log) } else { yaml }
    };
    lab.start_daemons_edited(program(), Backend::Auto, edit).unwrap();
    lab.attach_all().unwrap();
    lab
}

/// All lines of a file. Each is whole.
fn read(file: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of<'l>(lines: &'l [Value], event: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// The lines of this event, once there are so many. Whoever reads the kernel's table finds what is over.
fn await_lines(lab: &Lab, node: &str, event: &str, count: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    wait(&format!("{count} lines of {event} of {node}"), Duration::from_secs(10), || {
        sh(lab, node, "conntrack -L >/dev/null 2>&1");
        lines = read(&file(lab, node));
        of(&lines, event).len() >= count
    });
    lines
}

/// A connection that carries so many bytes there, and so many back, and is closed by both. Its port at the container, and its peer as the server saw it.
fn carry(lab: &Lab, there: usize, back: usize) -> (u16, SocketAddr) {
    let at = (SERVER, port::IPERF + 6);
    let listener = lab.node("db-acme").unwrap().run(|| TcpListener::bind(at)).unwrap();
    let mut client = lab.node("fn-1a").unwrap().run(|| TcpStream::connect(at)).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(SOON)).unwrap();
    }
    let serving = std::thread::spawn(move || {
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        server.write_all(&vec![2; back]).unwrap();
        heard.len()
    });
    client.write_all(&vec![1; there]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!((serving.join().unwrap(), heard.len()), (there, back));
    (client.local_addr().unwrap().port(), peer)
}

fn text<'l>(line: &'l Value, field: &str) -> &'l str {
    line[field].as_str().unwrap_or_else(|| panic!("{field}: {line}"))
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_connection_has_a_line_at_each_end_of_its_life_on_both_nodes(#[case] tunnel: TunnelKind) {
    const SENT: usize = 100_000;
    const RECEIVED: usize = 300_000;
    let mut lab = logged(tunnel, &["gw-acme", "host-1"], "");
    let (own_port, peer) = carry(&lab, SENT, RECEIVED);
    let container = lab.topology.container("fn-1a").unwrap().address;
    let translated = peer.port();
    assert_eq!(peer.ip().to_string(), SNAT);
    let mut between = Vec::new();
    for node in ["gw-acme", "host-1"] {
        let lines = await_lines(&lab, node, "end", 1);
        let (starts, ends) = (of(&lines, "start"), of(&lines, "end"));
        assert_eq!((lines.len(), starts.len(), ends.len()), (3, 1, 1), "{lines:#?}");
        assert_eq!((text(&lines[0], "event"), &lines[0]["gapless"]), ("opened", &false.into()));
        for line in [starts[0], ends[0]] {
            assert_eq!(
                (text(line, "node"), text(line, "tenant"), &line["shard"], text(line, "protocol")),
                (node, "acme", &0.into(), "tcp")
            );
            for field in ["destination", "nat_destination"] {
                assert_eq!(text(line, field), SERVER.to_string(), "{line}");
                assert_eq!(line[format!("{field}_port")], port::IPERF + 6, "{line}");
            }
            let whose = if node == "host-1" { text(line, "attachment") } else { text(line, "host") };
            assert_eq!(whose, if node == "host-1" { "fn-1a" } else { "host-1" });
            let [source, nat] = if node == "host-1" { [container, INNER] } else { [INNER, SNAT.parse::<Ipv4Addr>().unwrap()] };
            assert_eq!((text(line, "source"), text(line, "nat_source")), (source.to_string().as_str(), nat.to_string().as_str()), "{line}");
            assert_eq!(line["flow"], starts[0]["flow"]);
        }
        let (ports, line) = (["source_port", "nat_source_port"].map(|field| ends[0][field].as_u64().unwrap()), ends[0]);
        between.push(if node == "host-1" { ports[1] } else { ports[0] });
        assert_eq!(if node == "host-1" { ports[0] } else { ports[1] }, u64::from(if node == "host-1" { own_port } else { translated }));
        for (field, least) in [("bytes_sent", SENT), ("bytes_received", RECEIVED)] {
            let counted = line[field].as_u64().unwrap_or_else(|| panic!("{line}"));
            assert!((least as u64..2 * least as u64).contains(&counted), "{line}");
        }
        assert!(line["packets_sent"].as_u64() >= Some(4) && line["packets_received"].as_u64() >= Some(4), "{line}");
        assert_eq!((text(line, "reason"), &line["taken_over"]), ("closed", &false.into()));
        assert!(
            line["duration_ms"].as_u64().unwrap() < 10_000
                && text(line, "start") <= text(line, "end")
                && text(line, "end") <= text(line, "time"),
            "{line}"
        );
        let metrics = metrics(&mut lab, node);
        assert_eq!(metrics["portway_flow_log_written_lines_total"], 3.0);
        let others = metrics.iter().filter(|(name, _)| name.starts_with("portway_flow_log_") && !name.contains("written"));
        assert!(others.clone().count() == 5 && others.clone().all(|(_, value)| *value == 0.0), "{metrics:#?}");
    }
    assert_eq!(between[0], between[1], "both tell of the same connection");
    let status = call(&mut lab, "gw-acme", "GET", "/v1/status", None).1;
    assert_eq!((&status["flow_log"]["written"], &status["flow_log"]["warnings"]), (&3.into(), &serde_json::json!([])));
}

#[test]
fn what_was_never_answered_and_what_was_refused_is_told_as_such() {
    let lab = logged(TunnelKind::Gre, &["gw-acme"], "");
    let refused = lab.node("fn-1a").unwrap().run(|| TcpStream::connect((SERVER, port::IPERF + 2)));
    assert!(refused.is_err());
    sh(&lab, "fn-1a", &format!("ping -q -c 3 -i 0.01 -W 5 {SERVER}"));
    sh(&lab, "gw-acme", "echo 1 > /proc/sys/net/netfilter/nf_conntrack_icmp_timeout");
    sh(&lab, "fn-1a", &format!("ping -q -c 2 -i 0.01 -W 5 {SERVER}"));
    let lines = await_lines(&lab, "gw-acme", "end", 2);
    let reset = of(&lines, "end").into_iter().find(|line| line["protocol"] == "tcp").unwrap();
    assert_eq!((text(reset, "reason"), reset["packets_sent"].as_u64(), reset["packets_received"].as_u64()), ("reset", Some(1), Some(1)));
    let ping = of(&lines, "end").into_iter().find(|line| line["protocol"] == "icmp").unwrap();
    assert_eq!((text(ping, "reason"), ping["packets_sent"].as_u64(), ping["icmp_type"].as_u64()), ("expired", Some(2), Some(8)));
    assert_eq!((text(ping, "nat_source"), ping.get("source_port")), (SNAT, None));
}

/// Its name is gone by then, and stands in the line.
#[test]
fn the_connections_of_an_attachment_end_with_it() {
    let mut lab = logged(TunnelKind::Gre, &["host-1"], "");
    let stream = lab.node("fn-1a").unwrap().run(|| TcpStream::connect((SERVER, port::HTTP))).unwrap();
    detach(&mut lab, "host-1", "fn-1a");
    let lines = await_lines(&lab, "host-1", "end", 1);
    let end = of(&lines, "end")[0];
    let told = (text(end, "attachment"), text(end, "reason"), end["source_port"].as_u64());
    assert_eq!(told, ("fn-1a", "removed", Some(u64::from(stream.local_addr().unwrap().port()))));
}

/// The rules of a node, without what counts.
fn rules(lab: &Lab, node: &str) -> String {
    sh(lab, node, "nft -s list ruleset")
}

fn reload(lab: &mut Lab, node: &str, from: &str, to: &str) {
    let daemon = lab.daemon(node).unwrap();
    let yaml = replaced(&std::fs::read_to_string(daemon.config()).unwrap(), from, to);
    std::fs::write(daemon.config(), yaml).unwrap();
    daemon.process().signal(Signal::SIGHUP).unwrap();
}

fn settings(lab: &Lab) -> String {
    sh(lab, "gw-acme", "cd /proc/sys/net/netfilter; cat nf_conntrack_acct nf_conntrack_timestamp | tr '\\n' ' '")
}

#[test]
fn it_is_switched_on_and_off_by_a_reload_and_no_rule_is_another() {
    let mut lab = logged(TunnelKind::Gre, &[], "");
    let (before, path) = (rules(&lab, "gw-acme"), file(&lab, "gw-acme"));
    assert_eq!((settings(&lab).trim(), before.contains("sender")), ("0 0", true));
    carry(&lab, 10, 10);
    let log = format!("  flow_log: {{ file: {} }}\n  tenants:\n", path.display());
    reload(&mut lab, "gw-acme", "  tenants:\n", &log);
    wait("counters", SOON, || settings(&lab).trim() == "1 1");
    wait("the log", SOON, || call(&mut lab, "gw-acme", "GET", "/v1/status", None).1["flow_log"].is_object());
    // It listens once its thread runs, after the settings.
    wait("a line", SOON, || {
        carry(&lab, 10, 10);
        !of(&read(&path), "start").is_empty()
    });
    assert_eq!(rules(&lab, "gw-acme"), before);
    reload(&mut lab, "gw-acme", &log, "  tenants:\n");
    wait("the former settings", SOON, || settings(&lab).trim() == "0 0");
    wait("no log", SOON, || call(&mut lab, "gw-acme", "GET", "/v1/status", None).1["flow_log"].is_null());
    assert_eq!(rules(&lab, "gw-acme"), before);
    let lines = read(&path).len();
    assert_eq!(text(&read(&path)[lines - 1], "event"), "closed");
    carry(&lab, 10, 10);
    assert!(metrics(&mut lab, "gw-acme").keys().all(|name| !name.contains("flow_log")));
    assert_eq!(read(&path).len(), lines, "it is off");
}

#[test]
fn in_a_flood_lines_are_few_and_the_rest_is_counted() {
    const MANY: u64 = 400;
    let mut lab = logged(TunnelKind::Gre, &["gw-acme"], ", rate: 5, burst: 20");
    let begun = std::time::Instant::now();
    let from = lab.node("fn-1a").unwrap();
    let refused = from.run(|| (0..MANY).filter(|_| TcpStream::connect((SERVER, port::IPERF + 3)).is_err()).count());
    assert_eq!(refused as u64, MANY);
    let count = |lines: &[Value], field: &str| of(lines, "suppressed").iter().map(|line| line[field].as_u64().unwrap()).sum::<u64>();
    let (path, mut lines) = (file(&lab, "gw-acme"), Vec::new());
    wait("all to be accounted for", Duration::from_secs(20), || {
        sh(&lab, "gw-acme", "conntrack -L >/dev/null 2>&1");
        lines = read(&path);
        let told = |event: &str, field: &str| of(&lines, event).len() as u64 + count(&lines, field);
        (told("start", "starts"), told("end", "ends")) == (MANY, MANY)
    });
    let written = (of(&lines, "start").len() + of(&lines, "end").len()) as u64;
    let allowed = 20 + 5 * (begun.elapsed().as_secs() + 1);
    assert!((20..=allowed).contains(&written), "{written} of {allowed}");
    assert!(of(&lines, "suppressed").iter().all(|line| text(line, "tenant") == "acme"), "{lines:#?}");
    assert_eq!(of(&lines, "missed").len() + of(&lines, "lost").len(), 0);
    let metrics = metrics(&mut lab, "gw-acme");
    let told = ["written", "suppressed"].map(|what| metrics[&format!("portway_flow_log_{what}_lines_total")]);
    assert_eq!(told, [lines.len() as f64, (2 * MANY - written) as f64]);
}

#[test]
fn files_stay_small_and_one_that_was_put_aside_is_begun_anew() {
    let lab = &mut logged(TunnelKind::Gre, &["gw-acme"], ", max_size: 4KiB, keep: 40");
    for _ in 0..20 {
        carry(lab, 1, 1);
    }
    let path = file(lab, "gw-acme");
    let all = || -> Vec<PathBuf> { std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let (mut lines, mut files) = (0, 0);
    wait("40 lines, and one of the beginning", Duration::from_secs(10), || {
        sh(lab, "gw-acme", "conntrack -L >/dev/null 2>&1");
        // While one is put in the place of another some may be missed, or read twice.
        (lines, files) = (all().iter().map(|path| read(path).len()).sum(), all().len());
        lines == 41
    });
    assert!(files >= 4 && all().iter().all(|path| std::fs::metadata(path).unwrap().len() <= 4096), "{:?}", all());

    let aside = path.with_extension("old");
    std::fs::rename(&path, &aside).unwrap();
    lab.daemon("gw-acme").unwrap().process().signal(Signal::SIGHUP).unwrap();
    wait("a new file", SOON, || {
        carry(lab, 1, 1);
        path.exists()
    });
}

/// The socket goes from process to process.
#[test]
fn a_restart_loses_no_line_and_writes_none_twice() {
    const MANY: usize = 300;
    let mut lab = logged(TunnelKind::Gre, &["gw-acme"], "");
    let at = (SERVER, port::HTTP);
    let from = lab.node("fn-1a").unwrap().clone();
    let calls = std::thread::spawn(move || {
        let connect = || {
            let stream = TcpStream::connect(at).unwrap();
            std::thread::sleep(Duration::from_millis(5));
            stream.local_addr().unwrap().port()
        };
        from.run(|| (0..MANY).map(|_| connect()).collect::<BTreeSet<u16>>())
    });
    lab.daemon("gw-acme").unwrap().restart().unwrap();
    assert!(!calls.is_finished(), "the restart was over after them");
    assert_eq!(calls.join().unwrap().len(), MANY);
    let lines = await_lines(&lab, "gw-acme", "end", MANY);
    for event in ["start", "end"] {
        let ports: BTreeSet<u64> = of(&lines, event).iter().map(|line| line["source_port"].as_u64().unwrap()).collect();
        assert_eq!((of(&lines, event).len(), ports.len()), (MANY, MANY), "{event}");
    }
    let marks: Vec<_> =
        lines.iter().filter(|line| line["source_port"].is_null()).map(|line| (text(line, "event"), line["gapless"].as_bool())).collect();
    assert_eq!(marks, [("opened", Some(false)), ("closed", None), ("opened", Some(true))]);
    assert_eq!(lines.len(), 2 * MANY + marks.len());

    // One that was killed has said nothing at its end, and who comes after it does not know what it missed.
    let daemon = lab.daemon("gw-acme").unwrap();
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    let lines = await_lines(&lab, "gw-acme", "opened", 3);
    let last = of(&lines, "opened")[2];
    assert_eq!((&last["gapless"], of(&lines, "closed").len()), (&false.into(), 1));
}

#[test]
fn a_log_that_cannot_be_written_is_an_alarm_and_nothing_else() {
    let mut lab = logged(TunnelKind::Gre, &[], "");
    // A folder where the file should be.
    let path = file(&lab, "gw-acme");
    std::fs::create_dir_all(&path).unwrap();
    let log = format!("  flow_log: {{ file: {} }}\n  tenants:\n", path.display());
    reload(&mut lab, "gw-acme", "  tenants:\n", &log);
    wait("lost lines", SOON, || {
        carry(&lab, 10, 10);
        metrics(&mut lab, "gw-acme").get("portway_flow_log_lost_lines_total{place=\"disk\"}").is_some_and(|lost| *lost >= 1.0)
    });
    let shown = portway(&lab, "gw-acme", &["status"]);
    assert!(shown.code == 0 && shown.out.contains("  ! flow log: ") && shown.out.contains("cannot be opened"), "{shown:?}");
    std::fs::remove_dir(&path).unwrap();
    wait("lines again", SOON, || of(&read(&path), "lost").len() == 1);
    let shown = portway(&lab, "gw-acme", &["status"]);
    assert!(!shown.out.contains("  ! flow log: "), "{shown:?}");
}
