//! What a Prometheus says, for as long as it counts.

use super::support::*;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use portway::autoscaler::Reach;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

const QUERY: &str = "sum(functions_expected{job=\"a b\"})";

type Says = Arc<Mutex<(StatusCode, String)>>;

fn value(value: &str) -> (StatusCode, String) {
    let result = json!([{ "metric": {}, "value": [now(), value] }]);
    (StatusCode::OK, json!({ "status": "success", "data": { "resultType": "vector", "result": result } }).to_string())
}

async fn fake(says: Says) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let ask = |State(says): State<Says>, Query(asked): Query<HashMap<String, String>>| async move {
        assert_eq!(asked["query"], QUERY);
        says.lock().unwrap().clone()
    };
    let routes = Router::new().route("/prefix/api/v1/query", get(ask)).with_state(says);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_counts_until_it_has_been_silent_for_too_long() {
    let says: Says = Arc::new(Mutex::new(value("4.2")));
    let at = fake(says.clone()).await;
    let query = json!({ "name": "functions", "query": QUERY, "figure": "nodes", "every": "1s", "lasts": "2s" });
    let bed = Bed::with(json!({ "prometheus": { "url": format!("http://{at}/prefix/"), "queries": [query] } }), &Reach::default()).await;
    bed.until_wanted(5).await;
    assert_eq!(bed.sources().await, ["prometheus/functions"]);
    let refused = json!({ "status": "error", "errorType": "bad_data", "error": "parse error" }).to_string();
    for (what, why) in [
        (value("NaN"), "the value is NaN"),
        (value("1001"), "1000 is the most"),
        ((StatusCode::BAD_REQUEST, refused), "parse error"),
        ((StatusCode::BAD_GATEWAY, "<html>".into()), "answers with 502"),
    ] {
        *says.lock().unwrap() = what;
        let told = |status: &Value| status["queries"]["functions"]["failure"].as_str().is_some_and(|failure| failure.contains(why));
        bed.until(why, told).await;
    }
    assert!(bed.metric("portway_autoscaler_queries_total{query=\"functions\",result=\"failed\"}").await >= 4.0);
    // It says nothing that counts for longer than two seconds by now; and that alone takes nobody away.
    bed.until("its end", |status| sources(status).is_empty()).await;
    assert_eq!(bed.json("/v1/wanted").await["wanted"], 5);
    *says.lock().unwrap() = value("6");
    bed.until("it is back", |status| sources(status) == ["prometheus/functions"]).await;
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_configured_no_more_is_over() {
    let says: Says = Arc::new(Mutex::new(value("4")));
    let at = fake(says).await;
    let query = json!({ "name": "functions", "query": QUERY, "figure": "nodes", "every": "1s" });
    let mut bed = Bed::with(json!({ "prometheus": { "url": format!("http://{at}/prefix"), "queries": [query] } }), &Reach::default()).await;
    bed.until_wanted(4).await;
    let without = Bed::config(bed.dir.path(), json!({}));
    bed.running.reload(&without, &bed.config).unwrap();
    bed.until("its end", |status| sources(status).is_empty() && status["queries"] == json!({})).await;
    bed.running.stop().await;
}
