//! What nobody in their right mind sends.

use super::enrolling::attempt;
use super::issuer::Key;
use super::roles::call;
use super::support::*;
use jsonwebtoken::Algorithm;
use portway::directory::client::Client;
use portway::directory::refusal::Code;
use portway::directory::types::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub async fn names_that_look_like_sql_are_names_or_refused(bed: Bed) {
    let operator = bed.operator();
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    for name in ["x'; DROP TABLE hosts; --", "' OR '1'='1", "a\"b", "a;b", "a%00b", "a b", "%", "\u{1F600}"] {
        let path =
            reqwest::Url::parse("http://x/").unwrap().join(&format!("v1/hosts/{}", name.replace('%', "%25").replace(';', "%3B"))).unwrap();
        let (status, _) = call(&operator, "PUT", path.path(), json!({ "tenants": ["acme"] })).await;
        assert_eq!(status, 400, "{name}");
        let (status, _) = call(&operator, "PUT", "/v1/hosts/host-1", json!({ "tenants": [name] })).await;
        assert_eq!(status, 400, "{name}");
        let (status, _) = call(&operator, "POST", "/v1/tokens", json!({ "role": "enroll", "tenants": ["acme"], "host": name })).await;
        assert_eq!(status, 400, "{name}");
    }
    // These are names, and stay what they are.
    for name in ["DROP", "select", "x--", "NULL", "1.1"] {
        let (status, made) = call(&operator, "PUT", &format!("/v1/hosts/{name}"), json!({ "tenants": ["acme"] })).await;
        assert_eq!((status, made["name"].as_str()), (201, Some(name)));
    }
    let (status, answer) = call(&operator, "DELETE", "/v1/tokens/x'%20OR%20'1'='1", Value::Null).await;
    assert_eq!((status, answer[0].as_str()), (404, Some("unknown")));
    assert_eq!(operator.hosts(None).await.unwrap().hosts.len(), 5);
}

pub async fn bodies_that_are_none_are_refused(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let client = reqwest::Client::builder().unix_socket(bed.running.socket.as_path()).build().unwrap();
    let send = async |method: Method, path: &str, body: Vec<u8>| {
        let answer = client.request(method, format!("http://directory{path}")).body(body).send().await.unwrap();
        let status = answer.status();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).expect("a refusal in JSON");
        assert!(body["error"].is_string() && body["remedy"].is_string(), "{body}");
        (status, body["code"].as_str().unwrap().to_owned())
    };
    let large = format!("{{\"tenants\": [\"acme\"], \"x\": \"{}\"}}", "x".repeat(64 * 1024)).into_bytes();
    assert_eq!(send(Method::PUT, "/v1/hosts/host-1", large).await, (StatusCode::PAYLOAD_TOO_LARGE, "too_large".into()));
    // The largest that is allowed is only too wrong.
    let mut most = b"[".repeat(64 * 1024);
    assert_eq!(send(Method::PUT, "/v1/hosts/host-1", most.clone()).await, (StatusCode::BAD_REQUEST, "invalid".into()));
    most.push(b'[');
    assert_eq!(send(Method::POST, "/v1/enroll/challenge", most).await, (StatusCode::PAYLOAD_TOO_LARGE, "too_large".into()));
    for body in
        ["", "{", "[]", "null", "{\"tenants\": \"acme\"}", "{\"tenants\": [\"acme\"], \"more\": 1}", "{\"tenants\": [\"acme\"]} x", "\u{0}"]
    {
        let (status, code) = send(Method::PUT, "/v1/hosts/host-1", body.into()).await;
        assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "invalid"), "{body}");
    }
    for path in [
        "/v1/peers/AAAA",
        "/v1/peers/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "/v1/shards/acme/x",
        "/v1/hosts/%FF",
        "/v1/watch?since=-1",
        "/v1/watch?since=x",
        "/v1/hosts?limit=x",
        "/v1/hosts?more=1",
    ] {
        let method = if path.contains("shards") { Method::PUT } else { Method::GET };
        let body = br#"{"endpoint": "10.9.0.50:1", "public_key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="}"#;
        assert_eq!(send(method, path, body.to_vec()).await, (StatusCode::BAD_REQUEST, "invalid".into()), "{path}");
    }
    assert_eq!(send(Method::GET, "/v1/nothing", vec![]).await, (StatusCode::NOT_FOUND, "unknown".into()));
    assert_eq!(send(Method::PATCH, "/v1/hosts/host-1", vec![]).await, (StatusCode::METHOD_NOT_ALLOWED, "wrong_method".into()));
    assert_eq!(bed.operator().hosts(None).await.unwrap().hosts, []);
}

/// Each reason there is, provoked; and the page counts just what callers were told.
pub async fn every_refusal_is_counted(bed: Bed) {
    // Nobody listens there.
    let bed = bed.restarted(|config| config.oidc = vec![issuer_entry("https://127.0.0.1:1/keys", None, None)]).await;
    let operator = bed.operator();
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("small", "10.65.0.0/30", &[0]).await;
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    let enrolment = operator.add_token(&enroll(&["acme"])).await.unwrap().token;
    let (host, _) = bed.host("host-0", &key(9), &["acme"]).await;
    host.rotate(&key(8), &node("host-0")).await.unwrap();
    let acme = |number| host_spec(&["acme"], number);
    for name in ["small-1", "small-2"] {
        operator.put_host(&node(name), &host_spec(&["small"], None)).await.unwrap();
    }
    assert_eq!(refusals(&bed).await.values().sum::<u64>(), 0);

    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let mut refused = |code: String| *told.entry(code).or_default() += 1;
    let word = async |client: &Client, method: &str, path: &str, body: Value| {
        let (status, answer) = call(client, method, path, body).await;
        answer[0].as_str().unwrap_or_else(|| panic!("{method} {path}: {status} {answer}")).to_owned()
    };
    let attempt = async |prover: u8, edit: &dyn Fn(&mut EnrollSpec)| {
        attempt(&bed.stranger(), &key(1), &key(prover), &enrolment, |spec| edit(spec)).await.unwrap_err()
    };
    refused(code(bed.stranger().whoami().await));
    refused(code(bed.with("pwt_x").whoami().await));
    refused(code(operator.host(&node("nobody")).await));
    refused(code(operator.put_host(&node("host-1"), &acme(Some(8))).await));
    refused(code(host.rotate(&key(7), &node("host-0")).await));
    refused(code(operator.remove_tenant(&tenant("acme")).await));
    refused(code(operator.put_host(&node("small-3"), &host_spec(&["small"], None)).await));
    gateway.put_member(&super::group::at("10.9.0.1")).await.unwrap();
    refused(code(bed.gateway("gw-2", &["acme/0"]).await.put_member(&super::group::at("10.9.0.1")).await));
    refused(code(bed.operator_of(&["small"]).await.put_host(&node("host-0"), &host_spec(&["small"], None)).await));
    refused(word(&gateway, "GET", "/v1/tokens", Value::Null).await);
    refused(word(&operator, "PUT", "/v1/hosts/host-1", json!({})).await);
    refused(word(&operator, "PUT", "/v1/hosts/host-1", json!({ "tenants": ["x".repeat(64 * 1024)] })).await);
    refused(word(&operator, "PATCH", "/v1/hosts/host-1", Value::Null).await);
    refused(word(&operator, "GET", "/v1/watch?since=1000000", Value::Null).await);
    refused(attempt(2, &|_| {}).await);
    refused(attempt(1, &|spec| spec.tenants = Some([tenant("small")].into())).await);
    refused(attempt(1, &|spec| spec.inner = Some([(shard("acme/0"), vec!["10.64.9.9/32".parse().unwrap()])].into())).await);
    let stranger = bed.stranger();
    let claims = json!({ "iss": "https://issuer.test", "aud": "portway", "exp": bed.now() + 300, "repository": "acme/functions" });
    let identity = Key::new("one", Algorithm::ES256).sign(&claims);
    refused(code(stranger.with_token("not.a.token").enroll(&key(1), &node("host-1")).await));
    refused(code(stranger.with_token(identity).enroll(&key(1), &node("host-1")).await));

    let codes = Code::ALL.iter().map(|code| code.as_str().to_owned());
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), codes.collect(), "some reason was not provoked");
    assert_eq!(refusals(&bed).await, told);
}

/// How often calls were refused, by reason.
async fn refusals(bed: &Bed) -> BTreeMap<String, u64> {
    let text = bed.metrics().await;
    let lines = text.lines().filter_map(|line| line.strip_prefix("portway_directory_refused_total{reason=\"")?.split_once("\"} "));
    lines.map(|(reason, count)| (reason.to_owned(), count.parse().unwrap())).collect()
}

pub async fn answers_are_counted_by_route(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    code(bed.operator().host(&node("host-1")).await);
    bed.host("host-1", &key(1), &["acme"]).await;
    for (name, expected) in [
        ("portway_ready", 1.0),
        ("portway_directory_known{what=\"hosts\"}", 1.0),
        ("portway_directory_enrolled_total", 1.0),
        ("portway_directory_answers_total{route=\"/v1/enroll\",status=\"201\"}", 1.0),
        ("portway_directory_answers_total{route=\"/v1/hosts/{name}\",status=\"404\"}", 1.0),
    ] {
        assert_eq!(bed.metric(name).await, Some(expected), "{name} in\n{}", bed.metrics().await);
    }
    let ready = reqwest::get(format!("http://{}/readyz", bed.running.admin)).await.unwrap();
    assert_eq!(ready.text().await.unwrap(), "ready\n");
    let client = reqwest::Client::new();
    let foreign = client.get(format!("http://{}/metrics", bed.running.admin)).header("host", "evil.example").send().await.unwrap();
    assert_eq!((foreign.status().as_u16(), bed.metric("portway_admin_refused_total").await), (421, Some(1.0)));
    assert!(bed.metric("process_start_time_seconds").await.is_some_and(|began| began > 1e9));
    // Nothing of the API is there.
    assert_eq!(reqwest::get(format!("http://{}/v1/hosts", bed.running.admin)).await.unwrap().status(), 404);
}
