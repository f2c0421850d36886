//! The same with an Auto Scaling group: the daemon as it is run, with credentials from its environment, and a cloud on loopback.

use super::SOON;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portway::lab;
use portway::lab::cloud::{ACCESS_KEY, Cloud, Hook};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

pub const GROUP: &str = "gateways";

pub struct Bed {
    pub cloud: Cloud,
    dir: TempDir,
    daemon: Child,
}

impl Bed {
    /// With gateways called like this, at these pages.
    pub async fn new(cloud: Cloud, gateways: &[(String, String)], min: u32, words: &[&str], key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("autoscaler.yaml");
        let gateways: Vec<Value> = gateways.iter().map(|(name, url)| json!({ "name": name, "metrics": url })).collect();
        let text = json!({ "autoscaler": {
            "gateways": gateways, "scrape": "200ms", "admin": "127.0.0.1:1", "runtime_dir": dir.path(), "state_dir": dir.path(),
            "nodes": { "min": min, "max": 20, "out": { "cooldown": "1s" } },
            "actuator": { "aws": { "group": GROUP, "region": "eu-central-1", "hook": "drain", "endpoint": cloud.endpoint, "look": "1s", "timeout": "2s" } },
        }});
        // A port that is free; the test asks by the socket.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        std::fs::write(&config, text.to_string().replace("127.0.0.1:1\"", &format!("{free}\""))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
        command.arg("autoscaler").arg("--config").arg(&config).args(words).kill_on_drop(true);
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", "of-the-lab").env("AWS_EC2_METADATA_DISABLED", "true");
        let nowhere = dir.path().join("none");
        command.env("AWS_CONFIG_FILE", &nowhere).env("AWS_SHARED_CREDENTIALS_FILE", &nowhere).env_remove("AWS_PROFILE");
        let daemon = command.spawn().unwrap();
        Self { cloud, dir, daemon }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("autoscaler.sock")
    }

    pub async fn ask(&self, path: &'static str) -> Option<String> {
        let socket = self.socket();
        tokio::task::spawn_blocking(move || lab::unix(&socket, "GET", path, None)).await.unwrap().ok().map(|answer| answer.body)
    }

    /// Until what is known of orders is like this; what it was then.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let status = self.ask("/v1/status").await.and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
            if is_so(&status["actuator"]) {
                return status["actuator"].clone();
            }
            assert!(Instant::now() < deadline, "{what}: {status:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn end(mut self) {
        kill(Pid::from_raw(self.daemon.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
        let ended = tokio::time::timeout(SOON, self.daemon.wait()).await.expect("it ends");
        assert!(ended.unwrap().success());
    }
}

fn nobody() -> Vec<(String, String)> {
    vec![("gw-1".into(), "http://127.0.0.1:1/metrics".into())]
}

async fn cloud(limits: (u32, u32), desired: u32) -> Cloud {
    let cloud = Cloud::start().await.unwrap();
    let hook = Hook { name: "drain".into(), timeout: Duration::from_secs(30) };
    cloud.group(GROUP, limits, desired, Duration::from_millis(500), Some(hook));
    cloud
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_becomes_what_is_desired_although_it_throttles() {
    let cloud = cloud((1, 10), 2).await;
    cloud.refuse("DescribeAutoScalingGroups", [(400, "Throttling"), (503, "ServiceUnavailable")]);
    cloud.refuse("SetDesiredCapacity", [(400, "Throttling"), (500, "ResourceContention")]);
    let bed = Bed::new(cloud, &nobody(), 4, &[], ACCESS_KEY).await;
    let shown = bed.until("four in service", |actuator| actuator["group"]["in_service"] == 4).await;
    assert_eq!(shown["group"], json!({ "name": GROUP, "min": 1, "max": 10, "desired": 4, "in_service": 4 }));
    assert_eq!((&shown["kind"], &shown["taken"]["nodes"], &shown["group_failure"]), (&json!("aws"), &json!(4), &json!(null)));
    assert_eq!((bed.cloud.desired(GROUP), bed.cloud.called("SetDesiredCapacity")), (Some(4), 3));
    let page = bed.ask("/metrics").await.unwrap();
    let lines = [
        "portway_autoscaler_orders_total{result=\"taken\"} 1",
        "portway_autoscaler_orders_total{result=\"throttled\"} 1",
        "portway_autoscaler_orders_total{result=\"unavailable\"} 1",
        "portway_autoscaler_group_looks_total{result=\"failed\"} 2",
    ];
    for line in lines {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_may_not_be_so_large_says_so_and_an_alarm_begins() {
    let bed = Bed::new(cloud((1, 3), 2).await, &nobody(), 4, &[], ACCESS_KEY).await;
    let shown = bed.until("the alarm", |actuator| actuator["alarm"] == true).await;
    let text = shown["failure"]["text"].as_str().unwrap();
    assert!(text.contains("value 4 is above max value 3") && shown["failure"]["why"] == "refused", "{shown:#}");
    assert_eq!(bed.cloud.desired(GROUP), Some(2));
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_known_orders_nothing_and_is_not_shown() {
    let bed = Bed::new(cloud((1, 10), 2).await, &nobody(), 4, &[], "AKIDOFSOMEBODYELSE").await;
    let shown = bed.until("a failure", |actuator| actuator["group_failure"].is_string()).await;
    let text = shown["group_failure"].as_str().unwrap();
    assert!(text.contains("InvalidClientTokenId") && text.contains("docs/autoscaling.md") && !text.contains("AKID"), "{text}");
    // What there is, nobody knows: nothing is decided.
    assert_eq!((bed.cloud.desired(GROUP), bed.cloud.called("SetDesiredCapacity")), (Some(2), 0));
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_asks_nobody() {
    let bed = Bed::new(cloud((1, 10), 2).await, &nobody(), 4, &["--dry-run"], ACCESS_KEY).await;
    let deadline = Instant::now() + SOON;
    while !bed.ask("/v1/wanted").await.is_some_and(|wanted| wanted.contains("\"wanted\":4")) {
        assert!(Instant::now() < deadline, "nothing was decided");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((bed.cloud.called("DescribeAutoScalingGroups"), bed.cloud.called("SetDesiredCapacity")), (0, 0));
    bed.end().await;
}

/// A gateway's page: it has so many shards.
async fn gateway(shards: Arc<AtomicU32>) -> String {
    let page = |State(shards): State<Arc<AtomicU32>>| async move {
        let active = shards.load(Ordering::Relaxed);
        let (active, backup) = (u32::from(active > 0), u32::from(active == 0));
        format!(
            "portway_vrrp_state{{tenant=\"acme\",shard=\"0\",state=\"active\"}} {active}\nportway_vrrp_state{{tenant=\"acme\",shard=\"0\",state=\"backup\"}} {backup}\n# EOF\n"
        )
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let routes = Router::new().route("/metrics", get(page)).with_state(shards);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_to_go_waits_until_it_has_no_shards() {
    let cloud = cloud((1, 10), 3).await;
    let (oldest, _) = cloud.instances(GROUP)[0].clone();
    let shards = Arc::new(AtomicU32::new(1));
    let gateways = [(oldest.clone(), gateway(shards.clone()).await)];
    let bed = Bed::new(cloud, &gateways, 2, &[], ACCESS_KEY).await;
    bed.until("the group is known", |actuator| actuator["group"]["desired"] == 3).await;
    bed.cloud.desire(GROUP, 2);
    let leaving = |actuator: &Value| actuator["leaving"][0]["instance"] == oldest.as_str();
    bed.until("it leaves", |actuator| leaving(actuator) && actuator["leaving"][0]["since"].as_f64() > Some(2.0)).await;
    assert_eq!(bed.cloud.instances(GROUP)[0], (oldest.clone(), "Terminating:Wait"));
    assert_eq!(bed.cloud.called("CompleteLifecycleAction"), 0);
    shards.store(0, Ordering::Relaxed);
    bed.until("it is gone", |actuator| actuator["leaving"] == json!([])).await;
    assert!(
        bed.cloud.instances(GROUP).iter().all(|(id, state)| *id != oldest && *state == "InService"),
        "{:?}",
        bed.cloud.instances(GROUP)
    );
    assert_eq!(bed.cloud.called("CompleteLifecycleAction"), 1);
    assert!(bed.ask("/metrics").await.unwrap().contains("portway_autoscaler_let_go_total{how=\"drained\"} 1"));
    bed.end().await;
}
