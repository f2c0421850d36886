//! What nobody in their right mind sends.

use super::roles::call;
use super::support::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

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

pub async fn every_refusal_is_counted(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let count = async |reason: &str| {
        let line = format!("portway_directory_refused_total{{reason=\"{reason}\"}} ");
        let text = bed.metrics().await;
        let value = text.lines().find_map(|at| at.strip_prefix(&line)).unwrap_or_else(|| panic!("no {line} in {text}"));
        value.parse::<u64>().unwrap()
    };
    assert_eq!(count("unauthenticated").await, 0);
    code(bed.stranger().whoami().await);
    code(bed.with("pwt_x").whoami().await);
    assert_eq!(count("unauthenticated").await, 2);
    code(bed.operator().host(&node("host-1")).await);
    bed.host("host-1", &key(1), &["acme"]).await;
    let enrolment = bed.enrolment(&["acme"]).await;
    code(enrolment.enroll(&key(1), &node("host-2")).await);
    code(enrolment.enroll(&key(2), &node("host-1")).await);
    for (reason, expected) in [("unknown", 1), ("key_taken", 1), ("name_taken", 1), ("bad_proof", 0), ("tenant_refused", 0)] {
        assert_eq!(count(reason).await, expected, "{reason}");
    }
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
    // Nothing of the API is there.
    assert_eq!(reqwest::get(format!("http://{}/v1/hosts", bed.running.admin)).await.unwrap().status(), 404);
}
