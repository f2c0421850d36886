//! The dashboard over a fleet at work: every expression as Grafana would ask it, of a real Prometheus.

use super::board;
use super::folder;
use super::yaml::{list, text};
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::{PLATFORM, Wiring, port};
use portway::lab::{Counts, Flows, Kill, Lab, Life, Process, Topology, directory, poll_until, unix_ok};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// Seconds from one scrape to the next.
const SCRAPE: u64 = 1;
/// Seconds that the fleet is looked at, unless `PORTWAY_BOARD_SECONDS` says otherwise: `make dashboard-picture` does.
const LASTS: u64 = 40;
/// Points of a panel, at most.
const POINTS: u64 = 300;

/// What may show nothing in this run, as it should.
const MAY_BE_EMPTY: [&str; 2] = [
    // Only drivers of a cloud's cards count it.
    "By the cloud A",
    // Everybody who knocks is known.
    "Hosts that knock and are not let in A",
];

/// Two tenants with two shards each on three gateways, a directory, an autoscaler, and who scrapes them all.
struct World {
    lab: Lab,
    running: Vec<Process>,
}

impl World {
    fn new() -> Self {
        let portway = Path::new(env!("CARGO_BIN_EXE_portway"));
        let topology = Topology::group(&["acme", "blue"], 3, 2, &[Wiring::Veth, Wiring::Bridge]).with_containers(2);
        let topology = topology.with_tunnel(TunnelKind::Wireguard).with_directory().with_interval(Duration::from_millis(100));
        let outer: BTreeMap<String, String> = {
            let gateways = topology.gateways.iter().map(|gateway| (gateway.node.clone(), gateway.outer.to_string()));
            gateways.chain(topology.hosts.iter().map(|host| (host.node.clone(), host.outer.to_string()))).collect()
        };
        let mut lab = Lab::build(topology).unwrap();
        lab.serve().unwrap();
        let edited = |node: &str, yaml: String| {
            let yaml = yaml.replace("admin: 127.0.0.1:", &format!("admin: {}:", outer[node]));
            yaml.replace(
                "      shards:\n        - { shard: 0, vrid",
                "      track: [{ tcp: 172.16.101.20:80 }]\n      shards:\n        - { shard: 0, vrid",
            )
        };
        lab.start_daemons_edited(portway, Backend::Userspace, edited).unwrap();
        lab.attach_all().unwrap();
        lab.await_in_sync().unwrap();
        lab.await_settled(Duration::from_secs(2)).unwrap();
        let mut world = Self { lab, running: vec![] };
        world.scale(portway);
        world.scrape();
        world
    }

    /// A host's key, so that it has to knock anew.
    fn rotate(&self) {
        let host = &self.lab.topology.hosts[0].node;
        let runtime = self.lab.dir().runtime(host);
        let mut command = self.lab.node(host).unwrap().command(env!("CARGO_BIN_EXE_portway"));
        command.args(["enroll", "--rotate", "--url", &directory::url(), "--ca"]).arg(directory::ca(&runtime));
        let output = command.arg("--state").arg(directory::state_dir(&runtime, host)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str, content: &Value) -> String {
        let path = self.lab.dir().path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.display().to_string()
    }

    fn start(&mut self, node: &str, name: &str, program: impl AsRef<Path>, arguments: &[&str]) {
        let mut command = self.lab.node(node).unwrap().command(program.as_ref());
        command.args(arguments);
        let started = Process::spawn(name, command, &self.lab.dir().log(name), Life::WithLab);
        self.running.push(started.unwrap_or_else(|error| panic!("{error}: run scripts/install-deps test")));
    }

    /// An autoscaler for nodes that carry little.
    fn scale(&mut self, portway: &Path) {
        let gateways = self.lab.topology.gateways.iter();
        let gateways = gateways.map(|gateway| json!({ "name": gateway.node, "metrics": format!("http://{}:9470/metrics", gateway.outer) }));
        let config = self.file(
            "autoscaler.yaml",
            &json!({ "autoscaler": {
                "gateways": gateways.collect::<Vec<_>>(), "runtime_dir": self.lab.dir().runtime("autoscaler"), "state_dir": self.lab.dir().path(),
                "nodes": { "max": 6, "bits_per_second": 20_000_000, "packets_per_second": 20_000 },
            }}),
        );
        self.start(PLATFORM, "autoscaler", portway, &["autoscaler", "--config", &config]);
    }

    /// As docs/dashboards.md has it, but oftener.
    fn scrape(&mut self) {
        let job = |name: &str, targets: Vec<String>| json!({ "job_name": name, "static_configs": [{ "targets": targets }] });
        let every = format!("{SCRAPE}s");
        let config = json!({
            "global": { "scrape_interval": every, "evaluation_interval": every },
            "rule_files": [folder().join("portway.rules.yaml")],
            "scrape_configs": [
                job("portway-gateway", self.lab.topology.gateways.iter().map(|gateway| format!("{}:9470", gateway.outer)).collect()),
                job("portway-host", self.lab.topology.hosts.iter().map(|host| format!("{}:9471", host.outer)).collect()),
                job("portway-directory", vec!["127.0.0.1:9472".to_owned()]),
                job("portway-autoscaler", vec!["127.0.0.1:9474".to_owned()]),
            ],
        });
        let config = self.file("prometheus.yml", &config);
        let storage = self.lab.dir().path().join("prometheus").display().to_string();
        let arguments = ["--web.listen-address=127.0.0.1:9090", "--config.file", &config, "--storage.tsdb.path", &storage];
        self.start(PLATFORM, "prometheus", "prometheus", &arguments);
        let all = (self.lab.topology.gateways.len() + self.lab.topology.hosts.len() + 2).to_string();
        poll_until("all daemons scraped", SOON, || {
            Ok(self.asked("query", &[("query", "sum(up)".to_owned())]).is_some_and(|data| data["result"][0]["value"][1] == all.as_str()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.running.iter().map(Process::tail).collect::<Vec<_>>().join("\n")));
    }

    /// What Prometheus answers; none while it does not.
    fn asked(&self, what: &str, parameters: &[(&str, String)]) -> Option<Value> {
        let mut command = self.lab.node(PLATFORM).unwrap().command("curl");
        command.args(["--silent", "--show-error", "--globoff", "--get", &format!("http://127.0.0.1:9090/api/v1/{what}")]);
        for (name, value) in parameters {
            command.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        let output = command.output().expect("no curl: run scripts/install-deps test");
        let mut answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        assert_eq!(answer["status"], "success", "{what} {parameters:?}: {answer}");
        Some(answer["data"].take())
    }

    fn now(&self) -> u64 {
        let data = self.asked("query", &[("query", "timestamp(vector(0))".to_owned())]).expect("Prometheus answers");
        let time = data["result"][0]["value"][1].as_str().and_then(|seconds| seconds.parse::<f64>().ok());
        Duration::from_secs_f64(time.expect("a time")).as_secs()
    }

    /// Connections that stay, some that come and go, some that nobody may have, and bulk.
    fn load(&mut self) -> Vec<Flows> {
        let counts = Counts { tcp: 48, udp: 12, idle: Duration::from_secs(1), pace: Duration::from_millis(40) };
        let tenants = self.lab.topology.tenants.clone();
        let flows = tenants.iter().map(|tenant| {
            let containers = self.lab.topology.containers.iter().filter(|one| one.tenant == tenant.name);
            let from: Vec<_> = containers.map(|one| self.lab.node(&one.node).unwrap()).collect();
            Flows::open(&from, self.lab.node(&tenant.node()).unwrap(), tenant.server, &counts).unwrap()
        });
        let flows = flows.collect();
        for (tenant, rate) in tenants.iter().zip(["4M", "1M"]) {
            let containers = self.lab.topology.containers.clone();
            let containers: Vec<_> = containers.into_iter().filter(|one| one.tenant == tenant.name).collect();
            let server = tenant.server.to_string();
            let bulk = ["-c", &server, "-p", &port::IPERF.to_string(), "-b", rate, "-t", "3600"];
            self.start(&containers[0].node, &format!("bulk-{}", tenant.name), "iperf3", &bulk);
            for one in &containers {
                let come_and_go = format!(
                    "while :; do curl -s -o /dev/null -m 1 http://{server}/; curl -s -o /dev/null -m 1 http://{server}:8080/; done"
                );
                self.start(&one.node, &format!("requests-{}", one.node), "sh", &["-c", &come_and_go]);
            }
        }
        flows
    }
}

/// As Grafana fills an expression in. `step`: seconds between two points.
fn filled_in(expression: &str, chosen: &[(String, String)], step: u64) -> String {
    let rate = (step + SCRAPE).max(4 * SCRAPE);
    let expression = expression.replace("$__rate_interval", &format!("{rate}s")).replace("$__interval", &format!("{step}s"));
    chosen.iter().fold(expression, |text, (name, values)| text.replace(&format!("\"${name}\""), &format!("\"{values}\"")))
}

/// What Grafana puts in each variable's place when all is chosen: what the variable says, or else all that there is.
fn chosen(world: &World, board: &Value, from: u64) -> Vec<(String, String)> {
    let mut chosen = vec![];
    for variable in list(&board["templating"], "list").filter(|variable| variable["type"] == "query") {
        let query = text(&variable["query"], "query").trim_start_matches("label_values(").trim_end_matches(')');
        let (metric, label) = query.rsplit_once(", ").expect(query);
        let range = [("match[]", filled_in(metric, &chosen, SCRAPE)), ("start", from.to_string())];
        let values = world.asked(&format!("label/{label}/values"), &range).expect("values");
        let values: Vec<String> = serde_json::from_value(values).unwrap();
        assert!(!values.is_empty(), "{query}");
        let all = variable["allValue"].as_str().map_or_else(|| values.join("|").replace('.', r"\\."), str::to_owned);
        chosen.push((text(variable, "name").to_owned(), all));
    }
    chosen
}

/// A number at any time.
fn has_points(result: &Value) -> bool {
    let series = result.as_array().into_iter().flatten();
    let points = |one: &Value| list(one, "values").chain(one.get("value")).map(|point| point[1].clone()).collect::<Vec<_>>();
    series.flat_map(points).any(|value| value != "NaN")
}

/// Labels that a legend asks for and a series does not have.
fn missing(legend: &str, result: &Value) -> Vec<String> {
    let asked = legend.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    let series: Vec<&Value> = result.as_array().into_iter().flatten().collect();
    asked.filter(|label| series.iter().any(|one| one["metric"][*label].is_null())).map(str::to_owned).collect()
}

#[test]
fn every_panel_shows_something_of_a_fleet_at_work() {
    let lasts = std::env::var("PORTWAY_BOARD_SECONDS").map_or(LASTS, |text| text.parse().expect("PORTWAY_BOARD_SECONDS is a number"));
    let part = Duration::from_secs(lasts) / 8;
    let mut world = World::new();
    let from = world.now();
    let flows = world.load();
    sleep(part);
    world.rotate();
    sleep(part);
    let victim = world.lab.active("acme", 0).unwrap().expect("an owner");
    world.lab.fail(&victim, Kill::Node).unwrap();
    sleep(part);
    world.lab.heal(&victim).unwrap();
    sleep(2 * part);
    let leaver = world.lab.active("acme", 1).unwrap().expect("an owner");
    let leaver = world.lab.socket(&leaver).unwrap();
    unix_ok(&leaver, "POST", "/v1/drain", None).unwrap();
    sleep(part);
    unix_ok(&leaver, "DELETE", "/v1/drain", None).unwrap();
    world.lab.directory().unwrap().fail();
    sleep(part);
    world.lab.directory().unwrap().resume().unwrap();
    sleep(part);
    drop(flows);

    let to = world.now();
    let board = board::board();
    let chosen = chosen(&world, &board, from);
    let gateways: Vec<String> = world.lab.topology.gateways.iter().map(|gateway| format!("{}:9470", gateway.outer)).collect();
    assert_eq!(chosen[1], ("gateway".to_owned(), gateways.join("|").replace('.', r"\\.")), "hosts have the same metrics, and are none");
    let over = |query: (&'static str, String), step: u64| {
        let first = to - (to - from).div_ceil(step) * step;
        world.asked("query_range", &[query, ("start", first.to_string()), ("end", to.to_string()), ("step", step.to_string())])
    };
    let (mut panels, mut empty, mut wrong) = (serde_json::Map::new(), vec![], vec![]);
    for panel in board::panels(&board) {
        let least = panel["interval"].as_str().map_or(SCRAPE, |text| 60 * text.strip_suffix('m').unwrap().parse::<u64>().unwrap());
        let step = least.max((to - from).div_ceil(POINTS));
        let mut results = serde_json::Map::new();
        for target in list(panel, "targets") {
            let place = format!("{} {}", text(panel, "title"), text(target, "refId"));
            let query = ("query", filled_in(text(target, "expr"), &chosen, step));
            let data = if target["instant"] == true { world.asked("query", &[query, ("time", to.to_string())]) } else { over(query, step) };
            let result = data.unwrap_or_else(|| panic!("no answer to {place}"))["result"].take();
            if !has_points(&result) {
                empty.push(place.clone());
            }
            wrong.extend(
                missing(target["legendFormat"].as_str().unwrap_or_default(), &result).iter().map(|label| format!("{place}: no {label}")),
            );
            results.insert(text(target, "refId").to_owned(), result);
        }
        panels.insert(panel["id"].to_string(), json!({ "step": step, "results": results }));
    }
    let takeovers = list(&board["annotations"], "list").find_map(|one| one["expr"].as_str()).expect("an annotation");
    let query = ("query", filled_in(takeovers, &chosen, SCRAPE));
    let takeovers = over(query, 60).expect("takeovers")["result"].take();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("dashboard");
    std::fs::create_dir_all(&kept).unwrap();
    let run = json!({ "from": from, "to": to, "panels": panels, "takeovers": takeovers });
    std::fs::write(kept.join("run.json"), run.to_string()).unwrap();

    assert!(has_points(&takeovers), "{takeovers}");
    empty.retain(|place| !MAY_BE_EMPTY.contains(&place.as_str()));
    assert_eq!((wrong, empty), (vec![], vec![]), "labels that legends lack, and panels that show nothing");
}
