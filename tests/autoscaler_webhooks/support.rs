//! An autoscaler in this process, with a token, a key, and gateways that say nothing: so whatever it wants, somebody has said.

use portway::autoscaler::{Reach, Running};
use portway::config::{self, Config};
use portway::lab::secret;
use portway::model::Secret;
use portway::wire::webhook::auth;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

pub const SOON: Duration = Duration::from_secs(30);
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub const AUDIENCE: &str = "autoscaler-1";
pub const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";
const KEY: [u8; 32] = [7; 32];

pub struct Bed {
    pub running: Running,
    pub config: config::Autoscaler,
    pub client: Client,
    pub dir: TempDir,
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Bed {
    pub async fn new() -> Self {
        Self::with(json!({}), &Reach::default()).await
    }

    /// With more of `autoscaler:`, after a process that has ended in order and had taken nothing.
    pub async fn with(more: Value, reach: &Reach) -> Self {
        let dir = tempfile::tempdir().unwrap();
        secret(&dir.path().join("token"), TOKEN).unwrap();
        secret(&dir.path().join("key"), &"07".repeat(32)).unwrap();
        let kept = json!({
            "scaler": { "time": now(), "serial": 0, "last_change": null, "levels": [] },
            "taken": { "floor": null, "latest": [] },
        });
        secret(&dir.path().join("autoscaler.json"), &kept.to_string()).unwrap();
        let config = Self::config(dir.path(), more);
        let running = Running::start_within(&config, false, reach).await.unwrap();
        Self { running, config, client: Client::builder().no_proxy().build().unwrap(), dir }
    }

    pub fn config(dir: &Path, more: Value) -> config::Autoscaler {
        let mut text = json!({
            "gateways": [{ "name": "gw-1", "metrics": "http://127.0.0.1:1/metrics" }, { "name": "gw-2", "metrics": "http://127.0.0.1:2/metrics" }],
            "admin": "127.0.0.1:1", "runtime_dir": dir, "state_dir": dir,
            "nodes": { "bits_per_second": 1_000_000_000 },
            "webhooks": {
                "listen": "127.0.0.1:2", "audience": AUDIENCE, "tokens": [dir.join("token")], "keys": [{ "id": 1, "file": dir.join("key") }],
                "sns": { "topics": [TOPIC] },
            },
        });
        for (key, value) in more.as_object().unwrap() {
            text[key] = value.clone();
        }
        match config::parse(&json!({ "autoscaler": text }).to_string(), "f") {
            Ok(Config::Autoscaler(mut config)) => {
                config.admin.set_port(0);
                config.webhooks.as_mut().unwrap().listen.set_port(0);
                *config
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next process.
    pub async fn again(self, in_order: bool) -> Self {
        let Self { running, config, client, dir } = self;
        if in_order {
            running.stop().await;
        } else {
            drop(running);
        }
        Self { running: Running::start(&config, false).await.unwrap(), config, client, dir }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.webhooks.unwrap())
    }

    pub fn request(&self, path: &str, body: &str) -> RequestBuilder {
        self.client.post(self.url(path)).body(body.to_owned())
    }

    pub fn by_token(&self, path: &str, body: &str) -> RequestBuilder {
        self.request(path, body).bearer_auth(TOKEN)
    }

    pub fn signed(&self, path: &str, body: &str, at: u64) -> RequestBuilder {
        self.signed_for(AUDIENCE, 1, path, body, at)
    }

    /// With our key, whatever its id is said to be.
    pub fn signed_for(&self, audience: &str, id: u8, path: &str, body: &str, at: u64) -> RequestBuilder {
        let tag = auth::sign(&Secret::new(&KEY).unwrap(), &Method::POST, path, &audience.parse().unwrap(), at, body.as_bytes());
        let request = self.request(path, body).header("portway-key", id.to_string());
        request.header("portway-timestamp", at.to_string()).header("portway-signature", tag)
    }

    pub async fn tell(&self, path: &str) -> String {
        self.client.get(format!("http://{}{path}", self.running.admin)).send().await.unwrap().text().await.unwrap()
    }

    pub async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.tell(path).await).unwrap()
    }

    pub async fn metric(&self, line: &str) -> f64 {
        let page = self.tell("/metrics").await;
        let value = page.lines().find_map(|found| found.strip_prefix(line)?.trim_start_matches("{}").strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in\n{page}")).parse().unwrap()
    }

    /// Until so many are wanted; how long that took.
    pub async fn until_wanted(&self, nodes: u32) -> Duration {
        let begun = Instant::now();
        loop {
            let wanted = self.json("/v1/wanted").await;
            if wanted["wanted"] == nodes {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < SOON, "{wanted}, and {:#}", self.json("/v1/status").await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Until its status is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let status = self.json("/v1/status").await;
            if is_so(&status) {
                return;
            }
            assert!(begun.elapsed() < SOON, "{what}: {status:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whose levels there are.
    pub async fn sources(&self) -> Vec<String> {
        sources(&self.json("/v1/status").await)
    }
}

pub fn sources(status: &Value) -> Vec<String> {
    status["levels"].as_array().unwrap().iter().map(|level| level["source"].as_str().unwrap().to_owned()).collect()
}

/// Status and body of an answer.
pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}
