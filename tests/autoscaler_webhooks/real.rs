//! Debian's Prometheus and Alertmanager beside a real gateway, whose traffic makes an alert: from there to the wanted number, and back.

use super::support::{SOON, TOKEN, sources};
use nix::sys::signal::Signal;
use portway::config::Backend;
use portway::lab::topology::Wiring;
use portway::lab::{self, Lab, Life, Process, Topology, poll_until, secret};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const NODE: &str = "gw-acme";
/// In the tenant's VPC.
const SERVER: &str = "172.16.101.20";
const ADMIN: &str = "127.0.0.1:9474";

/// All of them in the gateway's namespace, at its loopback.
struct Bench {
    lab: Lab,
    running: Vec<Process>,
}

impl Bench {
    fn file(&self, name: &str, text: &Value) -> String {
        let path = self.lab.dir().path().join(name);
        secret(&path, &text.to_string()).unwrap();
        path.display().to_string()
    }

    fn start(&mut self, name: &str, program: impl AsRef<Path>, arguments: &[&str]) {
        let mut command: Command = self.lab.node(NODE).unwrap().command(program.as_ref());
        command.args(arguments);
        let started = Process::spawn(name, command, &self.lab.dir().log(name), Life::WithLab);
        self.running.push(started.unwrap_or_else(|error| panic!("{error}: run scripts/install-deps test")));
    }

    fn get(&self, at: &str, path: &str) -> Option<lab::Answer> {
        let at: SocketAddr = at.parse().unwrap();
        self.lab.node(NODE).unwrap().run(|| lab::get(at, path, Duration::from_secs(5))).ok()
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let done = poll_until(what, 2 * SOON, || Ok(is_so(self)));
        if let Err(error) = done {
            let tails: Vec<String> = self.running.iter().map(|process| format!("{}:\n{}", process.name(), process.tail())).collect();
            panic!("{error}: {:?}\n{}", self.get(ADMIN, "/v1/status"), tails.join("\n"));
        }
    }

    fn status(&self) -> Value {
        self.get(ADMIN, "/v1/status").and_then(|answer| serde_json::from_str(&answer.body).ok()).unwrap_or_default()
    }
}

fn is_ready(bench: &Bench, at: &str) -> bool {
    bench.get(at, "/-/ready").is_some_and(|answer| answer.status == 200)
}

#[test]
fn an_alert_of_a_real_prometheus_changes_what_is_wanted() {
    let portway = Path::new(env!("CARGO_BIN_EXE_portway"));
    let mut lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth])).unwrap();
    lab.start_daemons(portway, Backend::Auto).unwrap();
    let mut bench = Bench { lab, running: vec![] };
    let (dir, runtime) = (bench.lab.dir().path().to_owned(), bench.lab.dir().runtime(NODE));
    let token = dir.join("alertmanager.token");
    secret(&token, TOKEN).unwrap();

    let query = json!({ "name": "gateways", "query": "3 * count(up{job=\"gateways\"} == 1)", "figure": "nodes", "every": "1s" });
    let autoscaler = bench.file("autoscaler.yaml", &json!({ "autoscaler": {
        "gateways": [{ "name": NODE, "metrics": "http://127.0.0.1:9470/metrics" }], "runtime_dir": runtime, "state_dir": dir.join("state"),
        "nodes": { "out": { "cooldown": "1s", "nodes": 10 } },
        "webhooks": { "tokens": [token] },
        "prometheus": { "url": "http://127.0.0.1:9090", "queries": [query] },
    }}));
    bench.start("autoscaler", portway, &["autoscaler", "--config", &autoscaler]);

    let alertmanager = bench.file("alertmanager.yml", &json!({
        "route": { "receiver": "portway", "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1m" },
        "receivers": [{ "name": "portway", "webhook_configs": [{
            "url": "http://127.0.0.1:9475/v1/alerts", "send_resolved": true, "http_config": { "authorization": { "credentials_file": token } },
        }]}],
    }));
    let storage = dir.join("alertmanager").display().to_string();
    let arguments =
        ["--web.listen-address=127.0.0.1:9093", "--cluster.listen-address=", "--config.file", &alertmanager, "--storage.path", &storage];
    bench.start("alertmanager", "prometheus-alertmanager", &arguments);

    let busy = json!({
        "alert": "Busy", "expr": "sum(rate(portway_interface_received_packets_total[5s])) > 100", "annotations": { "portway_nodes": "7" },
    });
    let rules = bench.file("rules.yml", &json!({ "groups": [{ "name": "gateways", "rules": [busy] }] }));
    let prometheus = bench.file(
        "prometheus.yml",
        &json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": ["127.0.0.1:9093"] }] }] },
            "scrape_configs": [{ "job_name": "gateways", "static_configs": [{ "targets": ["127.0.0.1:9470"] }] }],
        }),
    );
    let storage = dir.join("prometheus").display().to_string();
    let arguments = ["--web.listen-address=127.0.0.1:9090", "--config.file", &prometheus, "--storage.tsdb.path", &storage];
    bench.start("prometheus", "prometheus", &arguments);
    bench.until("Alertmanager", |bench| is_ready(bench, "127.0.0.1:9093"));
    bench.until("Prometheus", |bench| is_ready(bench, "127.0.0.1:9090"));

    bench.until("what is asked of Prometheus", |bench| bench.status()["ordered"] == 3);
    assert_eq!(sources(&bench.status()), ["prometheus/gateways"]);

    bench.start("traffic", "ping", &["-q", "-i", "0.002", SERVER]);
    bench.until("the alert", |bench| bench.status()["ordered"] == 7);
    let status = bench.status();
    let because = status["decisions"][0]["because"].as_str().unwrap_or_default();
    assert!(because.starts_with("wanted by alert/Busy/"), "{status:#}");

    bench.running.pop().unwrap().stop(SOON).unwrap();
    bench.until("the end of the alert", |bench| sources(&bench.status()) == ["prometheus/gateways"]);
    assert_eq!(bench.status()["ordered"], 7, "nobody is taken away before fewer were enough for long enough");
    for mut process in bench.running {
        process.signal(Signal::SIGTERM).unwrap();
        assert!(process.wait(SOON).unwrap().is_some_and(|status| status.success()), "{}", process.tail());
    }
}
