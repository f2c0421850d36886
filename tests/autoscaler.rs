//! An autoscaler that asks gateways over loopback: what it makes of what they say, of those that say nothing, and of those that say nonsense.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use nix::sys::signal::Signal;
use portway::autoscaler::Running;
use portway::config::{self, Backend, Config};
use portway::lab::topology::Wiring;
use portway::lab::{self, Lab, Life, Process, Topology, poll_until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(30);
/// What a node of these tests can carry.
const BITS_PER_SECOND: f64 = 1e9;

/// What a gateway says when it is asked.
#[derive(Debug, Clone)]
enum Say {
    /// It is used so far by its bits in a second.
    Used(f64),
    Page(String),
    Bytes(Vec<u8>),
    Status(u16),
}

/// Somebody who answers as a gateway would.
#[derive(Clone)]
struct Gateway {
    says: Arc<Mutex<Say>>,
    /// Bits so far, and up to when they are counted.
    counted: Arc<Mutex<(f64, Instant)>>,
    begun: Instant,
    address: SocketAddr,
}

impl Gateway {
    async fn new(used: f64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            says: Arc::new(Mutex::new(Say::Used(used))),
            counted: Arc::new(Mutex::new((0.0, Instant::now()))),
            begun: Instant::now(),
            address: listener.local_addr().unwrap(),
        };
        let routes = Router::new().route("/metrics", get(answer)).with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        gateway
    }

    fn say(&self, what: Say) {
        *self.says.lock().unwrap() = what;
    }

    /// Its page, counted up to now.
    fn page(&self, used: f64) -> String {
        let (now, mut counted) = (Instant::now(), self.counted.lock().unwrap());
        counted.0 += (now - counted.1).as_secs_f64() * used * BITS_PER_SECOND;
        counted.1 = now;
        let bytes = (counted.0 / 8.0) as u64;
        let clock = (now - self.begun).as_secs_f64();
        page(clock, bytes)
    }
}

fn page(clock: f64, bytes: u64) -> String {
    format!(
        "# TYPE portway_clock_seconds gauge\nportway_clock_seconds {clock}\n\
         portway_interface_received_bytes_total{{interface=\"eth0\"}} {bytes}\n\
         portway_interface_received_packets_total{{interface=\"eth0\"}} {packets}\n\
         portway_interface_sent_packets_total{{interface=\"eth0\"}} {packets}\n\
         portway_conntrack_entries 10\nportway_conntrack_entries_limit 1000\n# EOF\n",
        packets = bytes / 1000
    )
}

async fn answer(State(gateway): State<Gateway>) -> (StatusCode, Vec<u8>) {
    let says = gateway.says.lock().unwrap().clone();
    match says {
        Say::Used(used) => (StatusCode::OK, gateway.page(used).into_bytes()),
        Say::Page(page) => (StatusCode::OK, page.into_bytes()),
        Say::Bytes(bytes) => (StatusCode::OK, bytes),
        Say::Status(status) => (StatusCode::from_u16(status).unwrap(), vec![]),
    }
}

struct Bed {
    running: Running,
    config: config::Autoscaler,
    dir: TempDir,
}

impl Bed {
    async fn new(gateways: &[&Gateway]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Self::config(gateways, &dir);
        config.admin.set_port(0);
        Self { running: Running::start(&config, false).await.unwrap(), config, dir }
    }

    fn config(gateways: &[&Gateway], dir: &TempDir) -> config::Autoscaler {
        let gateways: Vec<Value> = gateways
            .iter()
            .enumerate()
            .map(|(n, gateway)| json!({ "name": format!("gw-{n}"), "metrics": format!("http://{}/metrics", gateway.address) }))
            .collect();
        let text = json!({ "autoscaler": {
            "gateways": gateways, "scrape": "200ms", "admin": "127.0.0.1:1", "runtime_dir": dir.path(), "state_dir": dir.path(),
            "nodes": { "bits_per_second": BITS_PER_SECOND as u64, "stale_after": "2s", "start_up": "1s", "out": { "cooldown": "1s" } },
        }});
        match config::parse(&text.to_string(), "f") {
            Ok(Config::Autoscaler(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, path: &str) -> (u16, String) {
        let (admin, path) = (self.running.admin, path.to_owned());
        let answer = tokio::task::spawn_blocking(move || lab::get(admin, &path, Duration::from_secs(5))).await.unwrap().unwrap();
        (answer.status, answer.body)
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.ask(path).await.1).unwrap()
    }

    /// Until its status is like this; what it was then.
    async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let status = self.json("/v1/status").await;
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what}: {status:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn metric(&self, line: &str) -> f64 {
        let (_, page) = self.ask("/metrics").await;
        let value = page.lines().find_map(|found| found.strip_prefix(line)?.trim_start_matches("{}").strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in\n{page}")).parse().unwrap()
    }
}

fn used(status: &Value, n: usize) -> Option<f64> {
    status["gateways"][n]["utilisation"].as_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_is_wanted_when_all_is_used_and_the_reason_is_told() {
    let gateways = [Gateway::new(0.3).await, Gateway::new(0.3).await];
    let bed = Bed::new(&[&gateways[0], &gateways[1]]).await;
    let calm = bed.until("readings of both", |status| status["ready"] == true).await;
    assert!((used(&calm, 0).unwrap() - 0.3).abs() < 0.1, "{calm:#}");
    assert_eq!(bed.json("/v1/wanted").await, json!({ "wanted": 2, "min": 2, "max": 10 }));
    assert_eq!(bed.ask("/readyz").await.0, 200);
    for gateway in &gateways {
        gateway.say(Say::Used(1.0));
    }
    let more = bed.until("more", |status| status["ordered"].as_u64() > Some(2)).await;
    let decision = &more["decisions"][0];
    assert!(decision["from"] == 2 && decision["because"].as_str().unwrap().contains("bits") || decision["why"] != json!(null), "{more:#}");
    assert_eq!(bed.json("/v1/wanted").await["wanted"], more["ordered"]);
    assert!(bed.metric("portway_autoscaler_wanted_nodes").await > 2.0);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_is_named_and_takes_nobody_away() {
    let gateways = [Gateway::new(0.01).await, Gateway::new(0.01).await, Gateway::new(0.01).await];
    let bed = Bed::new(&[&gateways[0], &gateways[1], &gateways[2]]).await;
    bed.until("readings of all", |status| status["ready"] == true).await;
    gateways[1].say(Say::Status(503));
    let silent = bed.until("silence", |status| status["gateways"][1]["current"] == false).await;
    assert!(used(&silent, 1).is_some(), "what it said last counts: {silent:#}");
    assert_eq!((silent["ordered"].as_u64(), silent["ready"].as_bool()), (Some(3), Some(false)));
    assert!(silent["gateways"][1]["scrape"]["failure"].as_str().unwrap().contains("503"), "{silent:#}");
    let (status, why) = bed.ask("/readyz").await;
    assert_eq!((status, why.as_str()), (503, "not ready: nothing current is known of gw-1\n"));
    assert!(bed.metric("portway_autoscaler_scrapes_total{gateway=\"gw-1\",result=\"failed\"}").await >= 1.0);
    gateways[1].say(Say::Used(0.01));
    bed.until("it is back", |status| status["ready"] == true && status["gateways"][1]["scrape"]["failure"].is_null()).await;
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_with_its_reason_and_what_was_known_goes_on() {
    let (sane, odd) = (Gateway::new(0.2).await, Gateway::new(0.2).await);
    let bed = Bed::new(&[&sane, &odd]).await;
    bed.until("readings of both", |status| status["ready"] == true).await;
    let nonsense = [
        (Say::Page("portway_clock_seconds".into()), "line 1: after the name comes a space"),
        (Say::Page(page(f64::NAN, 1)), "no number"),
        (Say::Page("up 1\n".into()), "portway_clock_seconds"),
        (Say::Bytes(vec![0xff, 0xfe]), "UTF-8"),
        (Say::Bytes(vec![b'#'; (8 << 20) + 1]), "8388608 bytes"),
        (Say::Page(page(-1.0, 1)), "negative"),
    ];
    for (what, why) in nonsense {
        odd.say(what.clone());
        let told = |status: &Value| status["gateways"][1]["scrape"]["failure"].as_str().is_some_and(|failure| failure.contains(why));
        bed.until(why, told).await;
    }
    assert!(bed.metric("portway_autoscaler_readings_refused_total{reason=\"no_number\"}").await >= 1.0);
    let status = bed.json("/v1/status").await;
    assert!(used(&status, 0).is_some() && status["ordered"] == 2, "{status:#}");
    odd.say(Say::Used(0.2));
    bed.until("sense again", |status| status["ready"] == true).await;
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_asks_others_and_keeps_what_is_known() {
    let gateways = [Gateway::new(0.1).await, Gateway::new(0.1).await, Gateway::new(0.1).await];
    let mut bed = Bed::new(&[&gateways[0], &gateways[1]]).await;
    bed.until("readings of both", |status| status["ready"] == true).await;
    let new = Bed::config(&[&gateways[0], &gateways[1], &gateways[2]], &bed.dir);
    bed.running.reload(&new, &bed.config).unwrap();
    let third =
        bed.until("the third", |status| status["gateways"].as_array().is_some_and(|all| all.len() == 3) && status["ready"] == true).await;
    assert_eq!(third["serving"], 3);
    let alone = Bed::config(&[&gateways[2]], &bed.dir);
    bed.running.reload(&alone, &new).unwrap();
    let left = bed.json("/v1/status").await;
    assert_eq!(left["gateways"].as_array().map(Vec::len), Some(1), "{left:#}");
    bed.running.stop().await;
}

/// The daemon beside a real gateway, and what an operator sees of it.
#[test]
fn a_real_gateway_is_understood() {
    let portway = Path::new(env!("CARGO_BIN_EXE_portway"));
    let mut lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth])).unwrap();
    lab.start_daemons(portway, Backend::Auto).unwrap();
    let (node, runtime_dir) = ("gw-acme", lab.dir().runtime("gw-acme"));
    let config = lab.dir().path().join("autoscaler.yaml");
    let text = format!(
        "autoscaler:\n  gateways: [{{ name: {node}, metrics: 'http://127.0.0.1:9470/metrics' }}]\n  scrape: 200ms\n  runtime_dir: {}\n  state_dir: {}\n",
        runtime_dir.display(),
        lab.dir().path().display()
    );
    std::fs::write(&config, text).unwrap();
    let command = |words: &[&str]| {
        let mut command = lab.node(node).unwrap().command(portway);
        command.args(words);
        command
    };
    let daemon = command(&["autoscaler", "--dry-run", "--config", config.to_str().unwrap()]);
    let mut daemon = Process::spawn("the autoscaler", daemon, &lab.dir().log("autoscaler"), Life::WithLab).unwrap();
    let mut seen = String::new();
    poll_until("a reading", SOON, || {
        let output = command(&["status", "--runtime-dir", runtime_dir.to_str().unwrap()]).output().unwrap();
        seen = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(seen.contains("autoscaler: ready, dry run"))
    })
    .unwrap_or_else(|error| panic!("{error}: {seen}{}", daemon.tail()));
    // The namespace's table of connections, and the processors.
    assert!(["conntrack", "softirq"].iter().any(|by| seen.contains(by)) && seen.contains(" %"), "{seen}");
    daemon.signal(Signal::SIGTERM).unwrap();
    assert!(daemon.wait(SOON).unwrap().is_some_and(|status| status.success()), "{}", daemon.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_for_one_directory_are_one_too_many() {
    let gateway = Gateway::new(0.1).await;
    let bed = Bed::new(&[&gateway]).await;
    let error = Running::start(&bed.config, false).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(error.contains("another `portway autoscaler` holds"), "{error}");
    bed.running.stop().await;
}
