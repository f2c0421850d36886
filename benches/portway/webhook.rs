//! What is posted to an autoscaler: signed demands at a steady rate, and how long it takes from an alert to the decision.

use super::Options;
use super::figures::{Bar, Report};
use super::nodes::{self, Daemon, Node};
use anyhow::ensure;
use axum::Router;
use axum::routing::get;
use portway::lab::secret;
use portway::model::{AutoscalerName, Secret};
use portway::wire::webhook::auth;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Posts a second, and for how long.
const RATE: u32 = 1_000;
const LENGTH: Duration = Duration::from_secs(30);
/// Who posts them; the autoscaler keeps a level of each.
const SOURCES: usize = 50;
const ALERTS: u32 = 20;
/// The daemon's shortest time from one change to the next, and something more.
const COOLDOWN: Duration = Duration::from_millis(1_200);
const PATIENCE: Duration = Duration::from_secs(10);

const GATEWAY: &str = "127.0.0.1:9470";
const POSTS: &str = "http://127.0.0.1:9475";
const WANTED: &str = "http://127.0.0.1:9474/v1/wanted";
const AUDIENCE: &str = "autoscaler-1";
const KEY: [u8; 32] = [7; 32];
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let (node, directory) = (Node::new()?, nodes::directory()?);
    let length = if options.short { LENGTH / 10 } else { LENGTH };
    let alerts = if options.short { ALERTS / 5 } else { ALERTS };
    node.run(|| {
        tokio::runtime::Runtime::new()?.block_on(async {
            let listener = TcpListener::bind(GATEWAY).await?;
            let begun = Instant::now();
            let routes = Router::new().route("/metrics", get(move || async move { page(begun.elapsed()) }));
            tokio::spawn(async move { axum::serve(listener, routes).await });
            let daemon = start(&node, directory.path()).await?;
            let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
            let before = daemon.processor()?;
            demands(&client, length, report).await?;
            let used = (daemon.processor()? - before) / length.as_secs_f64() * 100.0;
            report.add(format!("{RATE}/s"), "processor of the daemon", "%", vec![used], None);
            decisions(&client, alerts, report).await?;
            tokio::task::spawn_blocking(move || daemon.stop()).await?
        })
    })
}

/// The real daemon beside a gateway that carries nothing, after one that has ended in order.
async fn start(node: &Node, directory: &Path) -> anyhow::Result<Daemon> {
    let file = |name: &str| directory.join(name);
    secret(&file("key"), &"07".repeat(32))?;
    secret(&file("token"), TOKEN)?;
    let kept = json!({
        "scaler": { "time": now(), "serial": 0, "last_change": null, "levels": [] }, "taken": { "floor": null, "latest": [] },
    });
    secret(&file("autoscaler.json"), &kept.to_string())?;
    let config = json!({ "autoscaler": {
        "gateways": [{ "name": "gw-1", "metrics": format!("http://{GATEWAY}/metrics") }], "scrape": "200ms",
        "runtime_dir": directory, "state_dir": directory,
        "nodes": { "max": 1000, "out": { "cooldown": "1s", "nodes": 1000 }, "stale_after": "5s" },
        "webhooks": { "audience": AUDIENCE, "tokens": [file("token")], "keys": [{ "id": 1, "file": file("key") }] },
    }});
    let (node, directory) = (node.clone(), directory.to_owned());
    let started = tokio::task::spawn_blocking(move || Daemon::start(&node, "autoscaler", &directory, &config.to_string()));
    Ok(started.await??.0)
}

fn page(since: Duration) -> String {
    format!(
        "portway_clock_seconds {}\nportway_interface_received_bytes_total{{interface=\"eth0\"}} 0\n\
         portway_interface_received_packets_total{{interface=\"eth0\"}} 0\nportway_interface_sent_packets_total{{interface=\"eth0\"}} 0\n\
         portway_conntrack_entries 1\nportway_conntrack_entries_limit 1000\n# EOF\n",
        since.as_secs_f64()
    )
}

/// They begin when they are due, whether those before are answered or not: what waits is measured as waiting.
async fn demands(client: &Client, length: Duration, report: &mut Report) -> anyhow::Result<()> {
    let total = u64::from(RATE) * length.as_secs();
    let (key, audience): (Secret, AutoscalerName) = (Secret::new(&KEY)?, AUDIENCE.parse()?);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    for number in 0..usize::try_from(total)? {
        let due = ticks.tick().await;
        let demand = json!({ "source": format!("source-{}", number % SOURCES), "nodes": 2, "for_seconds": 600 + number / SOURCES % 100 });
        let (client, key, audience) = (client.clone(), key.clone(), audience.clone());
        calls.spawn(async move {
            let (body, at) = (demand.to_string(), now());
            let tag = auth::sign(&key, &Method::POST, "/v1/demand", &audience, at, body.as_bytes());
            let request = client.post(format!("{POSTS}/v1/demand")).header("portway-key", "1").header("portway-signature", tag);
            let answer = request.header("portway-timestamp", at.to_string()).body(body).send().await?;
            let (status, told) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "{status}: {told}");
            anyhow::Ok(due.elapsed().as_secs_f64() * 1e3)
        });
    }
    let (mut times, mut overtaken) = (Vec::new(), 0);
    while let Some(done) = calls.join_next().await {
        match done? {
            Ok(time) => times.push(time),
            // Two that begin with a second between them may arrive the other way round.
            Err(error) if format!("{error}").starts_with("409") => overtaken += 1,
            Err(error) => return Err(error),
        }
    }
    ensure!(overtaken * 100 <= times.len(), "{overtaken} of {total} came after a later one");
    report.latency(format!("{RATE}/s, signed"), "a demand is taken", times, Some(Bar::P99AtMost(10.0)));
    Ok(())
}

/// One alert that asks for more each time.
async fn decisions(client: &Client, alerts: u32, report: &mut Report) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for nodes in 10..10 + alerts {
        tokio::time::sleep(COOLDOWN).await;
        let alert = json!({ "version": "4", "groupKey": "{}", "alerts": [{
            "status": "firing", "labels": { "alertname": "More" }, "annotations": { "portway_nodes": nodes.to_string() },
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "00e9d7b0a4ab8c3e",
        }]});
        let begun = Instant::now();
        let answer = client.post(format!("{POSTS}/v1/alerts")).bearer_auth(TOKEN).json(&alert).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        loop {
            let wanted: Value = client.get(WANTED).send().await?.json().await?;
            if wanted["wanted"] == nodes {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "{nodes} are not wanted, but {wanted}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    report.add("Alertmanager", "from an alert to the decision", "ms", times, Some(Bar::EachAtMost(1000.0)));
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
