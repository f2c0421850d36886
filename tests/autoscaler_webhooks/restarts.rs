//! What a process knows of the one before.

use super::support::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

fn demand(nodes: u32) -> String {
    json!({ "source": "functions", "nodes": nodes, "for_seconds": 900 }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_in_order_levels_count_and_replays_do_not() {
    let bed = Bed::new().await;
    let (old, new) = (now() - 5, now());
    assert_eq!(answer(bed.signed("/v1/demand", &demand(3), old)).await.0, 200);
    assert_eq!(answer(bed.signed("/v1/demand", &demand(6), new)).await.0, 200);
    bed.until_wanted(6).await;
    let bed = bed.again(true).await;
    assert_eq!(bed.sources().await, ["demand/functions"]);
    bed.until_wanted(6).await;
    assert_eq!(answer(bed.signed("/v1/demand", &demand(3), old)).await.1["code"], "replayed");
    assert_eq!(answer(bed.signed("/v1/demand", &demand(6), new)).await, (200, json!({ "taken": true })));
    assert_eq!(bed.metric("portway_webhook_posts_total{entrance=\"demand\",result=\"again\"}").await, 1.0);
    let mode = std::fs::metadata(bed.dir.path().join("autoscaler.json")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_levels_count_and_nothing_from_before_it_does() {
    let bed = Bed::new().await;
    let at = now();
    assert_eq!(answer(bed.signed("/v1/demand", &demand(6), at)).await.0, 200);
    let (file, begun) = (bed.dir.path().join("autoscaler.json"), Instant::now());
    while !std::fs::read_to_string(&file).unwrap().contains("demand/functions") {
        assert!(begun.elapsed() < SOON, "it is not written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let bed = bed.again(false).await;
    bed.until_wanted(6).await;
    let (status, refused) = answer(bed.signed("/v1/demand", &demand(6), at)).await;
    assert_eq!((status, refused["code"].as_str()), (401, Some("forgotten")), "{refused}");
    // Who shows a token has no time, and counts.
    assert_eq!(answer(bed.by_token("/v1/demand", &demand(5))).await.0, 200);
    bed.running.stop().await;
}

/// Two gateways are in the file, and nobody says how many are ordered.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_wanted_stands_however_long_ago_that_was_decided() {
    let Bed { running, config, client, dir } = Bed::new().await;
    running.stop().await;
    let change = json!({ "ago": 7200, "nodes": 5, "fewer": false });
    let kept = json!({ "scaler": { "time": now(), "serial": 3, "last_change": change, "levels": [] }, "taken": null });
    std::fs::write(dir.path().join("autoscaler.json"), kept.to_string()).unwrap();
    let running = portway::autoscaler::Running::start(&config, false).await.unwrap();
    let bed = Bed { running, config, client, dir };
    assert_eq!(bed.json("/v1/wanted").await["wanted"], 5);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_put_aside() {
    let bed = Bed::new().await;
    let file = bed.dir.path().join("autoscaler.json");
    let Bed { running, config, client, dir } = bed;
    running.stop().await;
    std::fs::write(&file, "{\"scaler\"").unwrap();
    let running = portway::autoscaler::Running::start(&config, false).await.unwrap();
    let bed = Bed { running, config, client, dir };
    assert_eq!(std::fs::read_to_string(bed.dir.path().join("autoscaler.json.broken")).unwrap(), "{\"scaler\"");
    bed.until_wanted(2).await;
    bed.running.stop().await;
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"taken\""));
}
