//! Alertmanager's notifications, as its version 4 writes them.

use super::support::*;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Go's zero: no end.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn stamp(seconds: u64) -> String {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap().format(&Rfc3339).unwrap()
}

fn notification(status: &str, asks: &Value, starts_at: &str, ends_at: &str) -> String {
    json!({
        "version": "4", "groupKey": "{}:{alertname=\"SaleBegins\"}", "truncatedAlerts": 0, "status": status, "receiver": "portway",
        "groupLabels": { "alertname": "SaleBegins" }, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://169.254.169.254/latest",
        "alerts": [{
            "status": status, "labels": { "alertname": "SaleBegins", "severity": "page" }, "annotations": asks, "startsAt": starts_at,
            "endsAt": ends_at, "generatorURL": "http://169.254.169.254/latest", "fingerprint": "00e9d7b0a4ab8c3e",
        }],
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_counts_from_when_it_fires_to_its_end() {
    let bed = Bed::new().await;
    bed.until_wanted(2).await;
    let begun = now();
    let firing = notification("firing", &json!({ "portway_nodes": "6" }), &stamp(begun), NEVER);
    for _ in 0..2 {
        assert_eq!(answer(bed.by_token("/v1/alerts", &firing)).await, (200, json!({ "taken": true })));
        bed.until_wanted(6).await;
        assert_eq!(bed.sources().await, ["alert/SaleBegins/00e9d7b0a4ab8c3e"]);
    }
    let resolved = notification("resolved", &json!({ "portway_nodes": "6" }), &stamp(begun), &stamp(begun + 1));
    assert_eq!(answer(bed.by_token("/v1/alerts", &resolved)).await.0, 200);
    assert!(bed.sources().await.is_empty());
    // What was sent before its end and comes after it.
    let (status, refused) = answer(bed.by_token("/v1/alerts", &firing)).await;
    assert_eq!((status, refused["code"].as_str()), (503, Some("overtaken")), "{refused}");
    assert!(bed.sources().await.is_empty());
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_is_one_however_often_it_is_said_and_what_cannot_be_had_is_told() {
    let bed = Bed::new().await;
    bed.until_wanted(2).await;
    let more = notification("firing", &json!({ "portway": "scale-out" }), &stamp(now() + 1), NEVER);
    for _ in 0..3 {
        assert_eq!(answer(bed.by_token("/v1/alerts", &more)).await.0, 200);
    }
    bed.until_wanted(3).await;
    let odd = notification("firing", &json!({ "portway_nodes": "many" }), &stamp(now()), NEVER);
    let (status, told) = answer(bed.by_token("/v1/alerts", &odd)).await;
    assert_eq!((status, &told["taken"]), (200, &json!(true)), "Alertmanager sends nothing again that is refused");
    assert!(told["left_out"][0].as_str().unwrap().contains("portway_nodes"), "{told}");
    assert_eq!(bed.metric("portway_webhook_refused_total{reason=\"invalid\"}").await, 1.0);
    assert_eq!(bed.json("/v1/wanted").await["wanted"], 3);
    bed.running.stop().await;
}
