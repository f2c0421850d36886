//! Pages of daemons at work, as Prometheus sees them.

use super::promtool;
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Life, Process, Topology, poll_until};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
/// As Prometheus asks.
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// A group of two gateways with WireGuard and a directory, a host that has enrolled, and an autoscaler: a socket of each role.
struct World {
    lab: Lab,
    sockets: BTreeMap<&'static str, PathBuf>,
    _autoscaler: Process,
}

impl World {
    fn new() -> Self {
        let portway = Path::new(env!("CARGO_BIN_EXE_portway"));
        let topology = Topology::group(&["acme"], 2, 1, &[Wiring::Veth]).with_tunnel(TunnelKind::Wireguard).with_directory();
        let mut lab = Lab::build(topology.with_interval(Duration::from_millis(100))).unwrap();
        lab.serve().unwrap();
        lab.start_daemons(portway, Backend::Auto).unwrap();
        lab.attach_all().unwrap();
        lab.await_active("gw-1", "acme", 0).unwrap();
        lab.await_in_sync().unwrap();
        let config = lab.dir().path().join("autoscaler.yaml");
        let (runtime, state) = (lab.dir().runtime("autoscaler"), lab.dir().path());
        let text = format!(
            "autoscaler:\n  gateways: [{{ name: gw-1, metrics: 'http://127.0.0.1:9470/metrics' }}]\n  scrape: 200ms\n  runtime_dir: {}\n  state_dir: {}\n",
            runtime.display(),
            state.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = lab.node("gw-1").unwrap().command(portway);
        command.args(["autoscaler", "--dry-run", "--config"]).arg(&config);
        let autoscaler = Process::spawn("the autoscaler", command, &lab.dir().log("autoscaler"), Life::WithLab).unwrap();
        let host = lab.topology.hosts[0].node.clone();
        let sockets = BTreeMap::from([
            ("gateway", lab.socket("gw-1").unwrap()),
            ("the other gateway", lab.socket("gw-2").unwrap()),
            ("host", lab.socket(&host).unwrap()),
            ("directory", lab.dir().runtime("directory").join("directory.sock")),
            ("autoscaler", runtime.join("autoscaler.sock")),
        ]);
        let ready =
            || Ok(sockets["autoscaler"].exists() && ask(&sockets["autoscaler"], "").1.contains("\nportway_autoscaler_demand_nodes"));
        poll_until("a load that the autoscaler knows", SOON, ready).unwrap_or_else(|error| panic!("{error}: {}", autoscaler.tail()));
        Self { lab, sockets, _autoscaler: autoscaler }
    }
}

/// The kind of content and the page.
fn ask(socket: &Path, accept: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let accept = if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
    write!(stream, "GET /metrics HTTP/1.0\r\n{accept}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    assert!(head.contains(" 200 OK"), "{head}");
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_else(|| panic!("no kind: {head}"));
    (kind.to_owned(), page.to_owned())
}

/// Each value at some time, as a database keeps it.
fn dated(page: &str) -> String {
    let line = |line: &str| if line.starts_with('#') { format!("{line}\n") } else { format!("{line} 1700000000\n") };
    page.lines().map(line).collect()
}

#[test]
fn pages_of_daemons_at_work_are_as_prometheus_wants_them() {
    let world = World::new();
    let dir = world.lab.dir().path().to_owned();
    let mut bad = Vec::new();
    for (role, socket) in &world.sockets {
        let (kind, page) = ask(socket, "");
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8", "{role}");
        assert!(page.contains("\nportway_ready") && !page.contains("# EOF"), "{role}: {page}");
        let file = dir.join("page.prom");
        std::fs::write(&file, &page).unwrap();
        let (good, said) = promtool(&["check", "metrics"], Stdio::from(std::fs::File::open(&file).unwrap()));
        if !good || !said.trim().is_empty() {
            bad.push(format!("{role}: {said}"));
        }

        let (kind, page) = ask(socket, OPENMETRICS);
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8", "{role}");
        assert!(page.ends_with("\n# EOF\n"), "{role}: {page}");
        std::fs::write(&file, dated(&page)).unwrap();
        let database = dir.join(role.replace(' ', "-"));
        let read = ["tsdb", "create-blocks-from", "openmetrics", file.to_str().unwrap(), database.to_str().unwrap()];
        let (good, said) = promtool(&read, Stdio::null());
        if !good {
            bad.push(format!("{role}, OpenMetrics: {said}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    // What only a group at work shows was there to be looked at.
    let (_, page) = ask(&world.sockets["gateway"], "");
    for name in [
        "portway_vrrp_takeovers_total{",
        "portway_nat_ports{",
        "portway_sync_lag_seconds{",
        "portway_directory_look_up_seconds_bucket{",
        "portway_conntrack_failures_total{",
    ] {
        assert!(page.contains(&format!("\n{name}")), "no {name} in {page}");
    }
}
