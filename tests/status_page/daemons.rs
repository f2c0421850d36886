//! The pages of real daemons: what they show is what `/v1/status` says, and what changes is seen without loading anything anew.

use super::browser::{Look, PHONE, Page, WIDE};
use nix::sys::signal::Signal;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::{PLATFORM, PLATFORM_ADDRESS, Wiring};
use portway::lab::{Counts, Flows, Kill, Lab, Life, Process, Topology, poll_until, unix};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 101, 20);
const SHOWN: &str = "!document.getElementById('tables').hidden";

fn portway() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portway"))
}

/// Two gateways of two shards, a directory, and a host with a container for each.
fn fleet() -> Lab {
    let topology = Topology::group(&["acme"], 2, 2, &[Wiring::Veth]).with_containers(2).with_tunnel(TunnelKind::Wireguard);
    let mut lab = Lab::build(topology.with_directory().with_interval(Duration::from_millis(100))).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(portway(), Backend::Auto).unwrap();
    lab.attach_all().unwrap();
    lab.await_in_sync().unwrap();
    lab.await_settled(Duration::from_secs(3)).unwrap();
    lab
}

fn status(lab: &Lab, node: &str) -> Value {
    serde_json::from_str(&unix(&lab.socket(node).unwrap(), "GET", "/v1/status", None).unwrap().body).unwrap()
}

fn shell(lab: &Lab, node: &str) -> Command {
    lab.node(node).unwrap().command("sh")
}

fn open(lab: &Lab, node: &str, port: u16) -> Page {
    let mut page = Page::open(shell(lab, node), &format!("http://127.0.0.1:{port}/"), WIDE);
    page.until("shown", SHOWN);
    page
}

/// Shard, state and owner, as the page has them and as the gateway says.
fn states(page: &mut Page) -> Vec<(String, String)> {
    page.rows("shards").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

fn said(lab: &Lab, node: &str) -> Vec<(String, String)> {
    let status = status(lab, node);
    let shards = status["ha"]["shards"].as_array().unwrap().iter();
    shards.map(|one| (format!("{}/{}", one["tenant"].as_str().unwrap(), one["shard"]), one["state"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_failover_is_seen_by_whoever_looks_at_the_gateway_or_the_fleet() {
    let mut lab = fleet();
    let containers: Vec<_> = lab.topology.containers.iter().map(|one| lab.node(&one.node).unwrap()).collect();
    let counts = Counts { tcp: 60, udp: 20, idle: Duration::from_millis(500), pace: Duration::from_millis(5) };
    let _flows = Flows::open(&containers, lab.node("db-acme").unwrap(), SERVER, &counts).unwrap();

    // Who is told of the fleet shows a token; without one there is a form and nothing else.
    let origin = format!("https://{PLATFORM_ADDRESS}:9473");
    let mut overview = Page::open(shell(&lab, PLATFORM), &format!("{origin}/"), WIDE);
    overview.until("asked for a token", "document.activeElement.id === 'token' && document.getElementById('tables').hidden");
    overview.enter("no such token");
    overview.until("refused", "document.getElementById('token-error').innerText !== '' && document.activeElement.id === 'token'");
    let socket = lab.dir().runtime("directory").join("directory.sock");
    let minted = unix(&socket, "POST", "/v1/tokens", Some(&json!({ "role": "operator" }).to_string())).unwrap();
    overview.enter(serde_json::from_str::<Value>(&minted.body).unwrap()["token"].as_str().unwrap());
    overview.until("the fleet", &format!("{SHOWN} && document.getElementById('name').innerText === 'Fleet'"));
    let owners = |page: &mut Page| -> Vec<String> { page.rows("shards").into_iter().map(|row| row[1].clone()).collect() };
    overview.until("an owner of each", "[...document.querySelectorAll('#shards tbody tr')].every((row) => row.cells[1].innerText.startsWith('gw-') && row.cells[4].innerText.trim().startsWith('gw-'))");
    let (first, second) = (lab.active("acme", 0).unwrap().unwrap(), lab.active("acme", 1).unwrap().unwrap());
    assert_eq!(owners(&mut overview), [first.clone(), second]);
    // A host that may send, and a container, at each.
    overview.until("peers and attachments", "[...document.querySelectorAll('#shards tbody tr')].every((row) => row.cells[6].innerText === '1' && row.cells[7].innerText === '1')");

    let survivor = if first == "gw-1" { "gw-2" } else { "gw-1" };
    let mut page = open(&lab, survivor, 9470);
    assert_eq!(states(&mut page), said(&lab, survivor));
    let loaded = "window.loaded = true";
    page.value(loaded);
    overview.value(loaded);
    page.until("traffic", "!/[–]/.test(document.querySelector('#charts .legend').innerText)");
    lab.fail(&first, Kill::Daemon).unwrap();
    page.until(
        "all shards here",
        "[...document.querySelectorAll('#shards tbody tr')].every((row) => row.cells[1].innerText.trim() === 'active')",
    );
    assert_eq!(states(&mut page), said(&lab, survivor));
    page.until("a takeover", "document.querySelectorAll('#takeovers tbody tr').length > 0");
    let takeover = &page.rows("takeovers")[0];
    let told = status(&lab, survivor)["ha"]["takeovers"][0].clone();
    let gap = told["gap_ms"].as_f64().unwrap();
    assert!((200.0..5_000.0).contains(&gap), "three intervals of 100 ms and what the machine adds: {told}");
    assert_eq!((&takeover[2], &takeover[3]), (&first, &format!("≤ {gap:.0} ms")), "{told}");
    page.until("a warning", "document.getElementById('warning-list').innerText.includes('no other gateway has all of its connections')");

    overview.until(
        "another owner",
        &format!("[...document.querySelectorAll('#shards tbody tr')].every((row) => row.cells[1].innerText === '{survivor}')"),
    );
    overview.until("the gap", "document.querySelector('#takeovers tbody').innerText.includes('ms')");
    overview.until("a silent gateway", &format!("document.getElementById('warning-list').innerText.includes('gateway {first} is silent')"));
    assert_eq!([page.value("window.loaded"), overview.value("window.loaded")], [true, true], "without loading anything anew");
    page.look(Look { height: 1340, ..WIDE });
    page.screenshot("gateway");
    page.look(Look { dark: true, height: 1000, ..PHONE });
    page.screenshot("phone-dark");
    overview.look(Look { height: 1240, ..WIDE });
    overview.screenshot("fleet");
    // 401 is how it learns that it needs a token, and the browser says so.
    assert_eq!(
        overview.complaints.len(),
        overview.complaints.iter().filter(|one| one.contains("401")).count(),
        "{:?}",
        overview.complaints
    );
    overview.complaints.clear();
    overview.is_content(&origin);
    page.is_content("http://127.0.0.1:9470");
}

#[test]
fn the_others_have_a_page_each_and_the_terminal_shows_the_same() {
    let mut lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth])).unwrap();
    lab.start_daemons(portway(), Backend::Auto).unwrap();
    lab.attach_all().unwrap();
    let mut host = open(&lab, "host-1", 9471);
    let attachments = status(&lab, "host-1")["attachments"].to_string();
    assert!(host.text("#tiles").contains(&format!("Attachments\n{attachments}")), "{}", host.text("#tiles"));
    let container = lab.topology.containers[0].clone();
    lab.detach(&container).unwrap();
    host.until("detached", "document.querySelector('#tiles .value').innerText === '0'");
    host.is_content("http://127.0.0.1:9471");

    let (node, runtime_dir) = ("gw-acme", lab.dir().runtime("gw-acme"));
    let config = lab.dir().path().join("autoscaler.yaml");
    let place = format!("runtime_dir: {:?}\n  state_dir: {:?}", runtime_dir, lab.dir().path());
    let text =
        format!("autoscaler:\n  gateways: [{{ name: {node}, metrics: 'http://127.0.0.1:9470/metrics' }}]\n  scrape: 200ms\n  {place}\n");
    std::fs::write(&config, text).unwrap();
    let command = |words: &[&str]| {
        let mut command = lab.node(node).unwrap().command(portway());
        command.args(words);
        command
    };
    let daemon = command(&["autoscaler", "--config", config.to_str().unwrap()]);
    let daemon = Process::spawn("the autoscaler", daemon, &lab.dir().log("autoscaler"), Life::WithLab).unwrap();
    let mut page = None;
    poll_until("the autoscaler", SOON, || Ok(unix(&runtime_dir.join("autoscaler.sock"), "GET", "/healthz", None).is_ok())).unwrap();
    page.get_or_insert_with(|| open(&lab, node, 9474)).until("a reading", "document.getElementById('standing').innerText === 'Ready'");
    let mut page = page.unwrap();
    assert_eq!(page.rows("gateways")[0][0], node, "{}", daemon.tail());
    page.is_content("http://127.0.0.1:9474");

    // A gateway that shares nothing has no table of owners, and its tunnel all the same.
    let mut gateway = open(&lab, node, 9470);
    assert_eq!(gateway.value("document.getElementById('shards')"), Value::Null);
    assert_eq!(gateway.rows("tunnels")[0][0], "acme/0");
    gateway.is_content("http://127.0.0.1:9470");

    let log = lab.dir().path().join("watch.log");
    let watch = command(&["status", "--watch", "--runtime-dir", runtime_dir.to_str().unwrap()]);
    let mut watch = Process::spawn("status --watch", watch, &log, Life::WithLab).unwrap();
    let mut seen = String::new();
    poll_until("three looks", SOON, || {
        watch.check_alive()?;
        seen = std::fs::read_to_string(&log).unwrap_or_default();
        Ok(seen.matches("gateway gw-acme: ready").count() >= 3)
    })
    .unwrap();
    assert!(seen.contains("autoscaler: ready") && seen.contains("  - from hosts ") && !seen.contains('\x1b'), "{seen}");
    watch.signal(Signal::SIGINT).unwrap();
    assert!(watch.wait(SOON).unwrap().is_some_and(|status| status.success()), "{}", watch.tail());
}
