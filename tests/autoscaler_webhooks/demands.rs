//! What a platform says of its load.

use super::support::*;
use portway::autoscaler::{Reach, Running};
use portway::lab::secret;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Client};
use serde_json::json;
use std::time::{Duration, Instant};

const SIX: &str = r#"{"source": "functions", "nodes": 6, "for_seconds": 900}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_demand_is_decided_on_within_a_second_and_its_repeats_change_nothing() {
    let bed = Bed::new().await;
    bed.until_wanted(2).await;
    let (at, begun) = (now(), Instant::now());
    assert_eq!(answer(bed.signed("/v1/demand", SIX, at)).await, (200, json!({ "taken": true })));
    bed.until_wanted(6).await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(1), "it took {took:?} from the post to the decision");
    for _ in 0..3 {
        assert_eq!(answer(bed.signed("/v1/demand", SIX, at)).await, (200, json!({ "taken": true })));
    }
    assert_eq!(bed.metric("portway_webhook_posts_total{entrance=\"demand\",result=\"again\"}").await, 3.0);
    assert_eq!(bed.metric("portway_webhook_posts_total{entrance=\"demand\",result=\"taken\"}").await, 1.0);
    let status = bed.json("/v1/status").await;
    assert_eq!((status["decisions"].as_array().map(Vec::len), &status["webhooks"]["taken"]), (Some(1), &json!(1)), "{status:#}");
    assert_eq!(status["decisions"][0]["because"], "wanted by demand/functions");
    assert_eq!(bed.json("/v1/wanted").await["wanted"], 6);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_of_several_add_up_and_each_takes_its_own_back() {
    let bed = Bed::new().await;
    for source in ["one", "two"] {
        let demand = json!({ "source": source, "bits_per_second": 1_200_000_000, "for_seconds": 900 }).to_string();
        assert_eq!(answer(bed.by_token("/v1/demand", &demand)).await.0, 200);
    }
    // 2.4 nodes' worth, of which each is to be used by 60 %.
    bed.until_wanted(4).await;
    let over = json!({ "source": "one", "for_seconds": 0 }).to_string();
    assert_eq!(answer(bed.by_token("/v1/demand", &over)).await.0, 200);
    assert_eq!(bed.sources().await, ["demand/two"]);
    // Nobody has configured what a node carries of these, so nothing follows from them.
    let packets = json!({ "source": "one", "packets_per_second": 1000, "for_seconds": 900 }).to_string();
    let (status, refused) = answer(bed.by_token("/v1/demand", &packets)).await;
    assert_eq!((status, refused["code"].as_str()), (400, Some("invalid")), "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("packets"), "{refused}");
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tokens_and_keys_count_after_a_reload() {
    let mut bed = Bed::new().await;
    let other = "f".repeat(40);
    secret(&bed.dir.path().join("token"), &other).unwrap();
    bed.running.reload(&bed.config, &bed.config).unwrap();
    assert_eq!(answer(bed.by_token("/v1/demand", SIX)).await.1["code"], "wrong_token");
    assert_eq!(answer(bed.request("/v1/demand", SIX).bearer_auth(&other)).await.0, 200);
    // What cannot be used changes nothing.
    secret(&bed.dir.path().join("token"), "short").unwrap();
    let error = format!("{:#}", bed.running.reload(&bed.config, &bed.config).unwrap_err());
    assert!(error.contains("openssl rand -hex 32") && !error.contains("short"), "{error}");
    assert_eq!(answer(bed.request("/v1/demand", SIX).bearer_auth(&other)).await.0, 200);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_may_post_any_more_when_webhooks_are_taken_out_of_the_file() {
    let mut bed = Bed::new().await;
    assert_eq!(answer(bed.by_token("/v1/demand", SIX)).await.0, 200);
    let mut without = bed.config.clone();
    without.webhooks = None;
    bed.running.reload(&without, &bed.config).unwrap();
    for _ in 0..2 {
        assert_eq!(answer(bed.by_token("/v1/demand", SIX)).await.1["code"], "no_credentials");
        assert_eq!(answer(bed.signed("/v1/demand", SIX, now())).await.1["code"], "no_credentials");
        assert_eq!(answer(bed.request("/v1/sns", "{}")).await.0, 404);
        // And again, with nothing changed.
        bed.running.reload(&without, &without).unwrap();
    }
    bed.running.reload(&bed.config, &without).unwrap();
    assert_eq!(answer(bed.by_token("/v1/demand", SIX)).await.0, 200);
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_taken_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let (issuer, leaf) = (Issuer::new(params, key), KeyPair::generate().unwrap());
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&leaf, &issuer).unwrap();
    let (pem, key) = (dir.path().join("leaf.pem"), dir.path().join("leaf.key"));
    std::fs::write(&pem, certificate.pem()).unwrap();
    secret(&key, &leaf.serialize_pem()).unwrap();
    secret(&dir.path().join("token"), TOKEN).unwrap();
    let webhooks = json!({ "listen": "127.0.0.1:2", "tls": { "certificate": pem, "key": key }, "tokens": [dir.path().join("token")] });
    let config = Bed::config(dir.path(), json!({ "webhooks": webhooks }));
    let running = Running::start_within(&config, false, &Reach::default()).await.unwrap();
    let roots = [Certificate::from_pem(ca.pem().as_bytes()).unwrap()];
    let client = Client::builder().no_proxy().tls_certs_only(roots).build().unwrap();
    let url = |scheme: &str| format!("{scheme}://{}/v1/demand", running.webhooks.unwrap());
    assert_eq!(answer(client.post(url("https")).bearer_auth(TOKEN).body(SIX)).await, (200, json!({ "taken": true })));
    assert!(client.post(url("http")).bearer_auth(TOKEN).body(SIX).send().await.is_err(), "in clear");
    running.stop().await;
}
