//! What does not count: each with its status, its word, its remedy and its counter.

use super::support::*;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DEMAND: &str = r#"{"source": "functions", "nodes": 6, "for_seconds": 900}"#;

/// The answer to bytes as they are, after which nothing more comes. Who refuses them may have hung up before the last.
async fn raw(bed: &Bed, bytes: &[u8]) -> String {
    let (at, bytes) = (bed.running.webhooks.unwrap(), bytes.to_vec());
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_is_told_and_counted_and_changes_nothing() {
    let bed = Bed::new().await;
    bed.until_wanted(2).await;
    let changed = DEMAND.replace('6', "9");
    let forged = bed.signed("/v1/demand", DEMAND, now()).body(changed);
    let alert = |version: &str| json!({ "version": version, "groupKey": "{}", "alerts": [] }).to_string();
    let posts = [
        ("no_credentials", 401, bed.request("/v1/demand", DEMAND)),
        ("wrong_token", 401, bed.request("/v1/demand", DEMAND).bearer_auth("f".repeat(32))),
        ("wrong_signature", 401, forged),
        ("wrong_signature", 401, bed.signed_for("autoscaler-2", 1, "/v1/demand", DEMAND, now())),
        ("unknown_key", 401, bed.signed_for(AUDIENCE, 9, "/v1/demand", DEMAND, now())),
        ("duplicate_header", 400, bed.signed("/v1/demand", DEMAND, now()).header("portway-key", "1")),
        ("stale", 401, bed.signed("/v1/demand", DEMAND, now() - 400)),
        ("early", 401, bed.signed("/v1/demand", DEMAND, now() + 60)),
        ("truncated", 400, bed.by_token("/v1/demand", &DEMAND[..20])),
        ("malformed", 400, bed.by_token("/v1/demand", "nodes=6")),
        ("invalid", 400, bed.by_token("/v1/demand", r#"{"source": "functions", "nodes": 6}"#)),
        ("wrong_version", 400, bed.by_token("/v1/alerts", &alert("3"))),
        ("unknown", 404, bed.by_token("/v1/other", DEMAND)),
        ("wrong_method", 405, bed.client.get(bed.url("/v1/demand"))),
    ];
    for (code, status, post) in posts {
        let (got, answer) = answer(post).await;
        assert_eq!((answer["code"].as_str(), got), (Some(code), status), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(": "), "how to mend it: {answer}");
        assert!(bed.metric(&format!("portway_webhook_refused_total{{reason=\"{code}\"}}")).await >= 1.0);
    }
    assert!(bed.sources().await.is_empty());
    assert_eq!(bed.json("/v1/wanted").await["wanted"], 2);
    let status = bed.json("/v1/status").await;
    assert!(status["webhooks"]["refused"].as_u64() >= Some(14) && status["webhooks"]["last_refusal"].is_string(), "{status:#}");
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_what_was_taken_is_refused() {
    let bed = Bed::new().await;
    let (old, new) = (now() - 5, now());
    let nodes = |nodes: u32| json!({ "source": "functions", "nodes": nodes, "for_seconds": 900 }).to_string();
    assert_eq!(answer(bed.signed("/v1/demand", &nodes(3), old)).await.0, 200);
    assert_eq!(answer(bed.signed("/v1/demand", &nodes(5), new)).await.0, 200);
    let (status, refused) = answer(bed.signed("/v1/demand", &nodes(3), old)).await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("replayed")), "{refused}");
    bed.until_wanted(5).await;
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_of_a_stranger_than_its_head() {
    let bed = Bed::new().await;
    let head = |more: &str| format!("POST /v1/demand HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n{more}\r\n");
    for (more, says) in [
        ("content-length: 1000\r\n", "no_credentials"),
        ("authorization: Bearer ffffffffffffffffffffffffffffffff\r\ncontent-length: 1000\r\n", "wrong_token"),
        (&format!("authorization: Bearer {TOKEN}\r\ncontent-length: 1000000\r\n"), "too_large"),
    ] {
        let answer = raw(&bed, head(more).as_bytes()).await;
        assert!(!answer.contains("100 Continue") && answer.contains(says), "{answer}");
    }
    // Chunks say nothing of their sum.
    let mut chunked =
        format!("POST /v1/demand HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..17 {
        chunked.extend_from_slice(b"4000\r\n");
        chunked.extend_from_slice(&[b' '; 0x4000]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert!(raw(&bed, &chunked).await.contains("too_large"));
    let cut =
        format!("POST /v1/demand HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 55\r\n\r\n{}", &DEMAND[..30]);
    raw(&bed, cut.as_bytes()).await;
    assert_eq!(bed.metric("portway_webhook_refused_total{reason=\"truncated\"}").await, 1.0);
    assert!(bed.sources().await.is_empty());
    bed.running.stop().await;
}

/// As many bodies as are taken at once.
const PLACES: usize = 128;

/// Anybody can make such a head.
#[tokio::test(flavor = "multi_thread")]
async fn who_claims_to_have_signed_and_sends_slowly_makes_room_for_others() {
    let bed = Bed::new().await;
    let head = format!(
        "POST /v1/demand HTTP/1.1\r\nhost: x\r\nportway-key: 1\r\nportway-timestamp: {}\r\nportway-signature: v1={}\r\nexpect: 100-continue\r\ncontent-length: 55\r\n\r\n",
        now(),
        "0".repeat(64)
    );
    let mut slow = Vec::new();
    for _ in 0..PLACES {
        let mut stream = tokio::net::TcpStream::connect(bed.running.webhooks.unwrap()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 25];
        stream.read_exact(&mut answer).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(answer(bed.signed("/v1/demand", DEMAND, now())).await.0, 200);
    let mut first = [0; 12];
    slow[0].read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 503");
    assert_eq!(bed.metric("portway_webhook_refused_total{reason=\"not_now\"}").await, 1.0);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_takes_nobody_elses_place() {
    let bed = Bed::new().await;
    let head = format!(
        "POST /v1/demand HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        DEMAND.len()
    );
    let mut slow = Vec::new();
    for _ in 0..PLACES {
        let mut stream = tokio::net::TcpStream::connect(bed.running.webhooks.unwrap()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 25];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n", "its body is waited for");
        slow.push(stream);
    }
    let (status, refused) = answer(bed.by_token("/v1/demand", DEMAND)).await;
    assert_eq!((status, refused["code"].as_str()), (503, Some("not_now")), "{refused}");
    assert_eq!(answer(bed.signed("/v1/demand", DEMAND, now())).await.0, 200, "who signs has other places");
    slow[0].write_all(DEMAND.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    slow[0].read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    slow.clear();
    let begun = Instant::now();
    while answer(bed.by_token("/v1/demand", DEMAND)).await.0 != 200 {
        assert!(begun.elapsed() < SOON, "they have hung up, and their places are still taken");
    }
    bed.running.stop().await;
}
