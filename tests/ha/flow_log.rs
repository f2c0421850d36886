//! Who of a group tells of a connection that moves.

use super::support::*;
use portway::config::Backend;
use portway::lab::topology::{Wiring, port};
use portway::lab::{Kill, Lab, Topology, poll_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// The lines of a node, once it has read what is over in its kernel.
fn lines(lab: &Lab, node: &str) -> Vec<Value> {
    let _ = lab.node(node).unwrap().command("conntrack").arg("-L").output().unwrap();
    let text = std::fs::read_to_string(lab.dir().path().join(format!("{node}.jsonl"))).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

fn say(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) {
    from.write_all(&vec![7; bytes]).unwrap();
    to.read_exact(&mut vec![0; bytes]).unwrap();
}

#[test]
fn serial_a_connection_that_moves_is_told_of_by_whoever_has_it() {
    let topology = Topology::group(&["acme"], 2, 1, &[Wiring::Veth]);
    let mut lab = Lab::build(topology).unwrap();
    lab.serve().unwrap();
    for node in ["gw-1", "gw-2"] {
        let settings = "cd /proc/sys/net/netfilter; echo 1 > nf_conntrack_tcp_timeout_time_wait";
        assert!(lab.node(node).unwrap().command("sh").args(["-ec", settings]).status().unwrap().success());
    }
    let folder = lab.dir().path().to_owned();
    let log = |node: &str, yaml: String| {
        let log = format!("  flow_log: {{ file: {}/{node}.jsonl }}\n  tenants:\n", folder.display());
        if node.starts_with("gw") { yaml.replace("  tenants:\n", &log) } else { yaml }
    };
    lab.start_daemons_edited(program(), Backend::Auto, log).unwrap();
    lab.attach_all().unwrap();
    lab.await_active("gw-1", "acme", 0).unwrap();
    lab.await_in_sync().unwrap();

    let at = (SERVER, port::IPERF + 6);
    let listener = lab.node("db-acme").unwrap().run(|| TcpListener::bind(at)).unwrap();
    let mut client = lab.node(&lab.topology.containers[0].node).unwrap().run(|| TcpStream::connect(at)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    [&client, &server].iter().for_each(|end| end.set_read_timeout(Some(SOON)).unwrap());
    say(&mut client, &mut server, 50_000);
    poll_until("its copy", SOON, || Ok(shard(&lab, "gw-2")["sync"][0]["flows"].as_u64() >= Some(1))).unwrap();

    lab.fail("gw-1", Kill::Sigterm).unwrap();
    lab.await_active("gw-2", "acme", 0).unwrap();
    say(&mut client, &mut server, 1000);
    say(&mut server, &mut client, 2000);
    client.shutdown(Shutdown::Both).unwrap();
    drop((client, server));
    poll_until("its end", SOON, || Ok(events(&lines(&lab, "gw-2")).contains(&"end"))).unwrap();
    poll_until("the end of a log", SOON, || Ok(events(&lines(&lab, "gw-1")).last() == Some(&"closed"))).unwrap();

    let [before, after] = ["gw-1", "gw-2"].map(|node| lines(&lab, node));
    assert!(["start", "let_go"].iter().all(|event| events(&before).contains(event)), "{before:#?}");
    assert!(!events(&before).contains(&"end"), "it did not end there: {before:#?}");
    assert_eq!(events(&after), ["opened", "taken_over", "end"], "{after:#?}");
    let (start, end) = (before.iter().find(|line| line["event"] == "start").unwrap(), &after[2]);
    for field in
        ["tenant", "shard", "host", "source", "source_port", "destination", "nat_source", "nat_source_port", "nat_destination_port"]
    {
        assert!(end[field] == start[field] && !end[field].is_null(), "{field}: {start}\n{end}");
    }
    assert_eq!((&end["taken_over"], &end["reason"]), (&true.into(), &"closed".into()));
    let [sent, received] = ["bytes_sent", "bytes_received"].map(|field| end[field].as_u64().unwrap());
    assert!((1000..20_000).contains(&sent) && (2000..20_000).contains(&received), "those since the move: {end}");
}
