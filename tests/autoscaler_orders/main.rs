//! An autoscaler that gives orders to a receiver on loopback: one that takes them, refuses, throttles, hangs, is away, or is somebody else.

#[cfg(feature = "aws")]
mod group;
#[cfg(feature = "aws")]
mod leaving;
#[cfg(feature = "aws")]
mod metadata;
mod receiver;

use portway::autoscaler::Running;
use portway::config::{self, Config};
use portway::lab::{self, secret};
use portway::model::{AutoscalerName, KeyId, Secret};
use portway::wire::webhook::auth::{Keys, Limits, Proof};
use portway::wire::webhook::order::{IDEMPOTENCY_KEY, Order};
use receiver::{Answer, Got, Receiver, certificate};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
const KEY: [u8; 32] = [0x0a; 32];

struct Bed {
    running: Running,
    config: config::Autoscaler,
    dir: TempDir,
}

/// So many nodes at least: what begins an order in these tests. The gateways are not there.
fn config(dir: &Path, actuator: &Value, min: u32) -> config::Autoscaler {
    let gateways = [1, 2].map(|n| json!({ "name": format!("gw-{n}"), "metrics": format!("http://127.0.0.1:1/{n}") }));
    let text = json!({ "autoscaler": {
        "gateways": gateways, "admin": "127.0.0.1:1", "runtime_dir": dir, "state_dir": dir, "actuator": actuator,
        "nodes": { "min": min, "max": 20, "out": { "cooldown": "1s" } },
    }});
    match config::parse(&text.to_string(), "f") {
        Ok(Config::Autoscaler(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn webhook(url: &str, dir: &Path) -> Value {
    json!({ "webhook": { "url": url, "key_file": dir.join("orders.key"), "key_id": 7, "name": "eu-1", "audience": "functions", "timeout": "1s" } })
}

fn dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let key: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    secret(&dir.path().join("orders.key"), &key).unwrap();
    dir
}

impl Bed {
    async fn new(receiver: &Receiver) -> Self {
        let dir = dir();
        let actuator = webhook(&receiver.url, dir.path());
        Self::with(dir, &actuator, false).await
    }

    /// Two nodes are there, four are wanted.
    async fn with(dir: TempDir, actuator: &Value, dry_run: bool) -> Self {
        let mut config = config(dir.path(), actuator, 4);
        config.admin.set_port(0);
        Self { running: Running::start(&config, dry_run).await.unwrap(), config, dir }
    }

    fn want(&mut self, nodes: u32, url: &str) {
        let new = config(self.dir.path(), &webhook(url, self.dir.path()), nodes);
        self.running.reload(&new, &self.config).unwrap();
        self.config = new;
    }

    async fn ask(&self, path: &str) -> String {
        let (admin, path): (SocketAddr, _) = (self.running.admin, path.to_owned());
        tokio::task::spawn_blocking(move || lab::get(admin, &path, Duration::from_secs(5))).await.unwrap().unwrap().body
    }

    /// Until what is known of orders is like this; what it was then.
    async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let status: Value = serde_json::from_str(&self.ask("/v1/status").await).unwrap();
            if is_so(&status["actuator"]) {
                return status["actuator"].clone();
            }
            assert!(Instant::now() < deadline, "{what}: {status:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn metric(&self, line: &str) -> Option<f64> {
        let page = self.ask("/metrics").await;
        page.lines().find_map(|found| found.strip_prefix(line)?.trim_start_matches("{}").strip_prefix(' ')?.parse().ok())
    }
}

/// What was posted, if it is signed as our own webhooks have to be.
fn proved(got: &Got) -> Order {
    let audience: AutoscalerName = "functions".parse().unwrap();
    let keys = vec![(KeyId::try_from(7).unwrap(), Secret::new(&KEY).unwrap())];
    let pass = Keys::new(audience, vec![], keys, Limits::default()).unwrap().door(&got.head, SystemTime::now()).unwrap();
    assert!(matches!(pass.admit(&got.body).unwrap().proof, Proof::Signature(_)));
    serde_json::from_slice(&got.body).unwrap()
}

fn idempotency(got: &Got) -> String {
    got.head.headers[IDEMPOTENCY_KEY].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_arrives_signed_says_why_and_is_taken() {
    let mut receiver = Receiver::new().await;
    let bed = Bed::new(&receiver).await;
    let got = receiver.next().await;
    let order = proved(&got);
    assert_eq!((got.head.method.as_str(), got.head.uri.to_string().as_str()), ("POST", "/scale?pool=a"));
    assert_eq!((order.wanted, order.from, order.min, order.max), (4, 2, 4, 20));
    assert!(order.serial >= order.time, "{order:?}");
    assert_eq!(order.reason, "there are never fewer");
    assert_eq!(idempotency(&got), format!("eu-1-{}-{}", order.serial, order.time));
    let shown = bed.until("it is taken", |actuator| actuator["taken"]["nodes"] == 4).await;
    let origin = receiver.url.trim_end_matches("/scale?pool=a");
    assert_eq!(
        (&shown["kind"], &shown["to"], &shown["waiting"], &shown["alarm"]),
        (&json!("webhook"), &json!(origin), &json!(null), &json!(false))
    );
    assert_eq!(bed.metric("portway_autoscaler_orders_total{result=\"taken\"}").await, Some(1.0));
    assert_eq!(bed.metric("portway_autoscaler_actuator_alarm").await, Some(0.0));
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_now_gets_the_very_same_again_when_it_has_asked_to() {
    let mut receiver = Receiver::new().await;
    receiver.answers([Answer::Status(503, Some("2")), Answer::Status(500, None), Answer::Status(429, None), Answer::Hang]);
    let bed = Bed::new(&receiver).await;
    let mut all = vec![];
    while all.len() < 5 {
        all.push(receiver.next().await);
    }
    let [first, second, ..] = &all[..] else { panic!() };
    assert!(second.at - first.at >= Duration::from_secs(2), "{:?}", second.at - first.at);
    for got in &all {
        assert_eq!((&got.body, idempotency(got)), (&first.body, idempotency(first)));
        proved(got);
    }
    bed.until("it is taken", |actuator| actuator["taken"]["nodes"] == 4 && actuator["failures"] == 0).await;
    for (result, count) in [("unavailable", 2.0), ("throttled", 1.0), ("timed_out", 1.0), ("taken", 1.0), ("refused", 0.0)] {
        assert_eq!(bed.metric(&format!("portway_autoscaler_orders_total{{result=\"{result}\"}}")).await, Some(count), "{result}");
    }
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_order_takes_the_place_of_one_that_is_being_tried() {
    let mut receiver = Receiver::new().await;
    receiver.answers([Answer::Status(503, Some("3"))]);
    let mut bed = Bed::new(&receiver).await;
    assert_eq!(proved(&receiver.next().await).wanted, 4);
    bed.until("it waits", |actuator| actuator["waiting"]["nodes"] == 4).await;
    bed.want(6, &receiver.url);
    bed.until("the newest waits", |actuator| actuator["waiting"]["nodes"] == 6).await;
    let next = proved(&receiver.next().await);
    assert_eq!((next.wanted, next.from), (6, 4));
    bed.until("it is taken", |actuator| actuator["taken"]["nodes"] == 6).await;
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_is_asked_again_by_another_order_and_an_alarm_begins() {
    let mut receiver = Receiver::new().await;
    receiver.answers([Answer::Status(409, None), Answer::Redirect, Answer::Said(403, "wrong key\nlevel=error")]);
    let bed = Bed::new(&receiver).await;
    let mut keys = vec![];
    while keys.len() < 3 {
        keys.push(idempotency(&receiver.next().await));
    }
    keys.dedup();
    assert_eq!(keys.len(), 3, "{keys:?}");
    let shown = bed.until("the alarm", |actuator| actuator["alarm"] == true).await;
    let text = shown["failure"]["text"].as_str().unwrap();
    assert!(shown["failure"]["why"] == "refused" && text.contains("403") && text.ends_with("wrong key\\nlevel=error"), "{shown:#}");
    assert_eq!(bed.metric("portway_autoscaler_actuator_alarm").await, Some(1.0));
    bed.until("it is taken", |actuator| actuator["taken"]["nodes"] == 4 && actuator["alarm"] == false).await;
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_receiver_says_is_ordered_counts() {
    let mut receiver = Receiver::new().await;
    receiver.answers([Answer::Said(200, "{\"ordered\": 4, \"of\": \"pool a\"}"), Answer::Said(200, "thanks")]);
    let mut bed = Bed::new(&receiver).await;
    receiver.next().await;
    bed.until("it is taken", |actuator| actuator["taken"]["nodes"] == 4).await;
    bed.want(5, &receiver.url);
    receiver.next().await;
    bed.until("it is taken", |actuator| actuator["taken"]["nodes"] == 5).await;
    // An answer without end is cut off, and what stands in its head counts.
    receiver.answers([Answer::Endless]);
    bed.want(6, &receiver.url);
    receiver.next().await;
    bed.until("it is taken", |actuator| actuator["taken"]["nodes"] == 6).await;
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_nobody() {
    let receiver = Receiver::new().await;
    let dir = dir();
    let actuator = webhook(&receiver.url, dir.path());
    let bed = Bed::with(dir, &actuator, true).await;
    let deadline = Instant::now() + SOON;
    while !bed.ask("/v1/wanted").await.contains("\"wanted\":4") {
        assert!(Instant::now() < deadline, "nothing was decided");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bed.ask("/v1/status").await.contains("\"actuator\":null"));
    assert_eq!(bed.metric("portway_autoscaler_orders_total{result=\"taken\"}").await, None);
    bed.running.stop().await;
    assert_eq!(receiver.so_far(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_receiver_is_told_what_was_ordered_before() {
    let (mut first, mut second) = (Receiver::new().await, Receiver::new().await);
    let mut bed = Bed::new(&first).await;
    let serial = proved(&first.next().await).serial;
    bed.until("it is taken", |actuator| actuator["taken"]["nodes"] == 4).await;
    bed.want(4, &second.url);
    let told = proved(&second.next().await);
    assert_eq!((told.wanted, told.serial), (4, serial));
    // With whom nothing is new is not told again.
    bed.want(4, &second.url);
    bed.want(5, &second.url);
    assert_eq!(proved(&second.next().await).wanted, 5);
    assert_eq!(first.so_far(), 0);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_the_certificate_that_is_wanted_counts() {
    let dir = dir();
    let (good, other) = (certificate(dir.path(), "good"), certificate(dir.path(), "other"));
    let mut receiver = Receiver::over_tls(&good).await;
    let by = |ca: &Path| {
        let mut actuator = webhook(&receiver.url, dir.path());
        actuator["webhook"]["ca"] = json!(ca);
        actuator
    };
    let (trusting, doubting) = (by(&good.ca), by(&other.ca));
    let mut config = config(dir.path(), &doubting, 4);
    config.admin.set_port(0);
    let running = Running::start(&config, false).await.unwrap();
    let mut bed = Bed { running, config, dir };
    let shown = bed.until("a failure", |actuator| actuator["failures"].as_u64() > Some(0)).await;
    let text = shown["failure"]["text"].as_str().unwrap();
    assert!(shown["failure"]["why"] == "unreachable" && text.contains("certificate"), "{shown:#}");
    assert_eq!(receiver.so_far(), 0);
    // The same place with another CA: the order that waits goes there.
    let new = self::config(bed.dir.path(), &trusting, 4);
    bed.running.reload(&new, &bed.config).unwrap();
    bed.config = new;
    assert_eq!(proved(&receiver.next().await).wanted, 4);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_good_are_refused_before_anything_else_changes() {
    let receiver = Receiver::new().await;
    let mut bed = Bed::new(&receiver).await;
    let key = bed.dir.path().join("orders.key");
    secret(&key, "short").unwrap();
    let new = config(bed.dir.path(), &webhook(&receiver.url, bed.dir.path()), 9);
    let refused = format!("{:#}", bed.running.reload(&new, &bed.config).unwrap_err());
    assert!(refused.contains("orders.key") && refused.contains("openssl rand") && !refused.contains("short"), "{refused}");
    assert!(bed.ask("/v1/wanted").await.contains("\"min\":4"));
    bed.running.stop().await;
}
