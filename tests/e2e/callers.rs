//! Callers at awkward moments: while one daemon takes over from another, gone before they are answered, and faster than the daemon's next look.

use super::attachments::replug;
use super::support::*;
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Topology, poll_every, unix};
use rstest::rstest;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Restarts that a caller meets with.
const RESTARTS: usize = 5;

/// What is listed under a path of the API, by this key.
fn listed(lab: &mut Lab, node: &str, path: &str, key: &str) -> BTreeSet<String> {
    let (_, all) = call(lab, node, "GET", path, None);
    all.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
}

fn attachments(lab: &mut Lab) -> BTreeSet<String> {
    listed(lab, "host-1", "/v1/attachments", "name")
}

/// Calls for new things until it is told to stop: those that were answered as made.
fn ask(socket: &Path, stop: &AtomicBool, path: &str, body: fn(usize, usize) -> Value) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    for number in (0..200 * 200).take_while(|_| !stop.load(Relaxed)) {
        let name = format!("n{number}");
        // A process that goes may leave a call without an answer.
        if let Ok(answer) = unix(socket, "PUT", &format!("{path}/{name}"), Some(&body(number / 200, number % 200 + 1).to_string())) {
            assert_eq!(answer.status, 201, "{name}: {}", answer.body);
            made.insert(name);
        }
    }
    made
}

fn attachment(c: usize, d: usize) -> Value {
    json!({ "tenant": "acme", "interface": "fn1a", "source": format!("10.64.{}.{d}", c + 1) })
}

fn gre_peer(c: usize, d: usize) -> Value {
    json!({ "outer": format!("10.98.{c}.{d}"), "inner": { "acme": [format!("10.64.{}.{d}", c + 1)] } })
}

#[rstest]
#[case::attachments("host-1", "/v1/attachments", "name", attachment, "nft list map inet portway attached_src")]
#[case::peers("gw-acme", "/v1/peers", "host", gre_peer, "ip route show table all")]
fn what_was_answered_while_another_daemon_took_over_stands(
    #[case] node: &str,
    #[case] path: &str,
    #[case] key: &str,
    #[case] body: fn(usize, usize) -> Value,
    #[case] show: &str,
) {
    let mut lab = stand(Topology::of(&["acme"], &[Wiring::Veth]));
    let (socket, stop) = (lab.daemon(node).unwrap().socket(), AtomicBool::new(false));
    let made = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&socket, &stop, path, body));
        let restarted = (0..RESTARTS).try_for_each(|_| lab.daemon(node).unwrap().restart());
        stop.store(true, Relaxed);
        restarted.unwrap();
        asking.join().unwrap()
    });
    assert!(made.len() > RESTARTS, "{made:?}");
    let standing = listed(&mut lab, node, path, key);
    assert_eq!(made.difference(&standing).collect::<Vec<_>>(), [""; 0]);
    let shown = sh(&lab, node, show);
    // The network that neither the configured host nor a tunnel is in.
    let in_the_kernel = shown.split_whitespace().filter(|word| word.starts_with("10.64.") && !word.starts_with("10.64.0.")).count();
    assert_eq!(in_the_kernel, standing.iter().filter(|name| name.starts_with('n')).count(), "{standing:?}");
}

/// A call whose caller hangs up as soon as it has begun to be carried out: what is kept on disk of the attachment comes or goes first.
fn hang_up(lab: &mut Lab, method: &str, name: &str, body: &str) {
    let mut stream = UnixStream::connect(lab.daemon("host-1").unwrap().socket()).unwrap();
    let length = body.len();
    write!(stream, "{method} /v1/attachments/{name} HTTP/1.1\r\nHost: lab\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let kept = lab.dir().runtime("host-1").join("attachments").join(name);
    poll_every(Duration::from_millis(1), "the call to begin", SOON, || Ok(kept.exists() == (method == "PUT"))).unwrap();
}

#[test]
fn what_a_caller_has_asked_for_is_done_to_its_end_without_it() {
    let mut lab = stand(Topology::of(&["acme"], &[Wiring::Bridge]));
    let port = lab.topology.containers[0].port.clone();
    let body = json!({ "tenant": "acme", "interface": port }).to_string();
    for _ in 0..5 {
        hang_up(&mut lab, "PUT", "a", &body);
        // Answered once whoever was asked before is done.
        assert_eq!(attachments(&mut lab).len(), 1);
        fetches(&lab, "fn-1a").unwrap();
        hang_up(&mut lab, "DELETE", "a", "");
        assert_eq!(attachments(&mut lab).len(), 0);
        assert!(!portway::lab::answers(lab.node("fn-1a").unwrap(), SERVER, SILENCE).unwrap());
    }
}

/// `host-1` has a new interface instead of the container's old one and is asked before it has looked: what it answers, and whether it forwards then
/// what comes out of the new one.
fn ask_after_replugging(lab: &mut Lab, calls: &[(&str, &str, Option<&str>)]) -> (Vec<(u16, String)>, bool) {
    const FORWARDING: &str = "/proc/sys/net/ipv4/conf/fn1a/forwarding";
    let socket = lab.daemon("host-1").unwrap().socket();
    lab.daemon("host-1").unwrap().freeze().unwrap();
    sh(lab, "host-1", "ip link del fn1a");
    replug(lab);
    sh(lab, "host-1", &format!("echo 0 > {FORWARDING}"));
    let host = lab.node("host-1").unwrap().clone();
    std::thread::scope(|scope| {
        let one = |(method, name, body): &(&str, &str, Option<&str>)| {
            let answer = unix(&socket, method, &format!("/v1/attachments/{name}"), *body).unwrap();
            (answer.status, answer.body)
        };
        let forwards = || host.run(|| std::fs::read_to_string(FORWARDING)).unwrap() == "1\n";
        let asking = scope.spawn(move || (calls.iter().map(one).collect(), forwards()));
        lab.daemon("host-1").unwrap().revive().unwrap();
        asking.join().unwrap()
    })
}

#[test]
fn a_name_is_free_as_soon_as_its_interface_has_gone() {
    let mut lab = simple();
    let spec = json!({ "tenant": "acme", "interface": "fn1a" }).to_string();
    let (answers, forwards) = ask_after_replugging(&mut lab, &[("PUT", "fn-1a", Some(&spec))]);
    assert!(answers[0].0 == 201 && forwards, "{answers:?}");
    fetches(&lab, "fn-1a").unwrap();
    assert_eq!(attachments(&mut lab).len(), 1);
}

#[test]
fn detaching_what_has_gone_takes_nothing_from_an_interface_of_the_same_name() {
    let mut lab = simple();
    let spec = json!({ "tenant": "acme", "interface": "fn1a" }).to_string();
    let (answers, forwards) = ask_after_replugging(&mut lab, &[("PUT", "other", Some(&spec)), ("DELETE", "fn-1a", None)]);
    // A look may have come first, and ended it.
    assert!(answers[0].0 == 201 && [204, 404].contains(&answers[1].0), "{answers:?}");
    assert!(forwards);
    fetches(&lab, "fn-1a").unwrap();
}
