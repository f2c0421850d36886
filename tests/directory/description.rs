//! The API is what its description says.

use super::registry::shard_spec;
use super::support::*;
use portway::directory::api::OPENAPI;
use portway::directory::proof::{self, Nonce, Question};
use portway::directory::types::*;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn the_description_lists_every_call_and_no_other() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, calls)| calls.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    // The routes as they stand in the source.
    let source = include_str!("../../src/directory/api.rs");
    let routes = source.split("pub fn routes(").nth(1).unwrap().split(".fallback(").next().unwrap();
    let mut routed = BTreeSet::new();
    for route in routes.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        for method in ["get", "put", "post", "delete"] {
            if route.contains(&format!("{method}(")) {
                routed.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(routed.len() > 25, "{routed:?}");
    assert_eq!(described, routed);
    // Every reference leads somewhere.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

/// What a schema was seen as.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, Vec<Value>>);

impl Seen {
    fn see(&mut self, name: &'static str, value: Value) -> Value {
        self.0.entry(name).or_default().push(value.clone());
        value
    }

    fn all(&mut self, name: &'static str, list: &Value) {
        let list = list.as_array().filter(|list| !list.is_empty()).unwrap_or_else(|| panic!("no list of {name}: {list}"));
        list.iter().for_each(|one| drop(self.see(name, one.clone())));
    }
}

fn fields(of: &Value) -> BTreeSet<String> {
    of.as_object().unwrap_or_else(|| panic!("no object: {of}")).keys().cloned().collect()
}

/// What is sent and answered has the fields that the description says, all of them and no others: each answer those that are required, and
/// every other in one at least.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_as_described() {
    let bed = Bed::sqlite().await;
    let http = reqwest::Client::builder().unix_socket(bed.running.socket.as_path()).build().unwrap();
    // As it stands in the answer, not as a client of ours understands it.
    let ask = async |method: Method, path: &str, token: Option<&str>, body: Option<Value>| {
        let mut request = http.request(method, format!("http://directory{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.body(body.map(|body| body.to_string()).unwrap_or_default()).send().await.unwrap();
        serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap_or(Value::Null)
    };
    let get = async |path: &str, token: Option<&str>| ask(Method::GET, path, token, None).await;
    let mut seen = Seen::default();

    let egress = pools(&[("partners", &[0])]);
    let spec = seen.see("TenantSpec", json!(&TenantSpec { egress: Some(egress), ..tenant_spec("10.64.0.0/16", &[0]) }));
    seen.see("Tenant", ask(Method::PUT, "/v1/tenants/acme", None, Some(spec)).await);
    let spec = seen.see("GatewaySpec", json!(&GatewaySpec { shards: [shard("acme/0")].into() }));
    seen.see("Gateway", ask(Method::PUT, "/v1/gateways/gw-1", None, Some(spec)).await);
    let spec = ShardSpec { next_port: Some(51819), ..shard_spec("10.9.0.50:51820", 100, Some(101)) };
    ask(Method::PUT, "/v1/shards/acme/0", None, Some(seen.see("ShardSpec", json!(&spec)))).await;
    let spec = HostSpec { tenants: [tenant("acme")].into(), public_key: Some(key(9).public()) };
    let spec = seen.see("HostSpec", json!(&spec));
    seen.see("Host", ask(Method::PUT, "/v1/hosts/host-9", None, Some(spec)).await);
    let minted = async |spec: TokenSpec| ask(Method::POST, "/v1/tokens", None, Some(json!(spec))).await;
    let gateway = seen.see("Minted", minted(TokenSpec { gateway: Some(node("gw-1")), ..token(Role::Gateway) }).await);
    let enrolment = TokenSpec { host: Some(node("host-1")), expires_s: Some(60), ..enroll(&["acme"]) };
    let enrolment = seen.see("Minted", minted(enrolment).await)["token"].as_str().unwrap().to_owned();
    // No token has all of them.
    let whole = TokenSpec { gateway: Some(node("gw-1")), host: Some(node("host-1")), expires_s: Some(60), ..enroll(&["acme"]) };
    let whole = seen.see("TokenSpec", json!(&whole));
    seen.see("Refusal", ask(Method::POST, "/v1/tokens", None, Some(whole)).await);

    let mut challenge = async |number: u8, token: &str| {
        let spec = seen.see("ChallengeSpec", json!(&ChallengeSpec { public_key: key(number).public() }));
        let answer = seen.see("Challenge", ask(Method::POST, "/v1/enroll/challenge", None, Some(spec)).await);
        let nonce = answer["nonce"].as_str().unwrap().to_owned();
        let server_key = answer["server_key"].as_str().unwrap().parse().unwrap();
        let question = Question { nonce: Nonce::parse(&nonce).unwrap(), server_key };
        (nonce, proof::answer(&key(number), &question, token, "host-1").unwrap())
    };
    let (nonce, proof) = challenge(1, &enrolment).await;
    let spec = EnrollSpec {
        name: node("host-1"),
        public_key: key(1).public(),
        nonce,
        proof,
        tenants: Some([tenant("acme")].into()),
        inner: Some([(shard("acme/0"), vec!["10.64.0.2/32".parse().unwrap()])].into()),
    };
    let spec = json!(&spec);
    let enrolled = ask(Method::POST, "/v1/enroll", Some(&enrolment), Some(spec.clone())).await;
    let host = enrolled["credential"]["token"].as_str().unwrap_or_else(|| panic!("{enrolled}")).to_owned();
    let (nonce, proof) = challenge(2, &host).await;
    let rotation = json!(&KeySpec { public_key: key(2).public(), nonce, proof });
    assert_eq!(ask(Method::POST, "/v1/host/key", Some(&host), Some(rotation.clone())).await, Value::Null);
    for (name, body) in [("EnrollSpec", spec), ("Enrolled", enrolled.clone()), ("KeySpec", rotation)] {
        seen.see(name, body);
    }
    seen.see("Minted", enrolled["credential"].clone());

    let gateway = gateway["token"].as_str();
    seen.all("Tenant", &get("/v1/tenants", None).await);
    seen.all("Shard", &get("/v1/shards", None).await);
    seen.all("Gateway", &get("/v1/gateways", None).await);
    seen.all("Token", &get("/v1/tokens", None).await);
    let page = seen.see("Hosts", get("/v1/hosts?limit=1", None).await);
    seen.all("Host", &page["hosts"]);
    seen.see("Hosts", get("/v1/hosts", None).await);
    seen.see("Host", get(&format!("/v1/peers/{}", portway::directory::client::PathKey(key(2).public())), gateway).await);
    seen.all("HostKey", &get("/v1/hosts/host-1", None).await["keys"]);
    let membership = seen.see("Membership", get("/v1/host", Some(&host)).await);
    seen.see("Host", membership["host"].clone());
    seen.all("Shard", &membership["shards"]);
    let traffic = TrafficReport::default();
    let standing = ShardReport { state: ShardState::Active, for_s: None, in_sync: None, connections: None, peers: None, warnings: vec![] };
    let takeover = TakeoverReport { of: shard("acme/0"), from: [10, 9, 0, 2].into(), ago_s: 1.0, why: "started".into(), gap_ms: None };
    let report = GatewayReport {
        version: "1".into(),
        traffic: Some(traffic),
        shards: [(shard("acme/0"), standing)].into(),
        takeovers: vec![takeover],
        admin: Some("10.9.0.1:9470".parse().unwrap()),
    };
    ask(Method::PUT, "/v1/gateway/status", gateway, Some(seen.see("GatewayReport", json!(&report)))).await;
    let report = HostReport { version: "1".into(), attachments: [(shard("acme/0"), 3)].into() };
    ask(Method::PUT, "/v1/host/status", Some(&host), Some(seen.see("HostReport", json!(&report)))).await;
    let fleet = seen.see("Fleet", get("/v1/status", None).await);
    seen.see("Attachments", fleet["attachments"]["acme"].clone());
    seen.all("FleetGateway", &fleet["gateways"]);
    seen.all("Reach", &get("/v1/fleet", None).await);
    let told = seen.see("GatewayReport", fleet["gateways"][0]["report"].clone());
    seen.see("TrafficReport", told["traffic"].clone());
    seen.see("ShardReport", told["shards"]["acme"].clone());
    seen.all("TakeoverReport", &told["takeovers"]);
    let spec = MemberSpec { address: [10, 9, 0, 1].into(), leaving: Some(false), heeds: 1 };
    let spec = seen.see("MemberSpec", json!(&spec));
    seen.see("Members", ask(Method::PUT, "/v1/gateway/member", gateway, Some(spec)).await);
    let assignment = seen.see("Assignment", get("/v1/gateway", gateway).await);
    seen.see("Gateway", assignment["gateway"].clone());
    seen.all("Member", &assignment["members"]);
    for token in [None, gateway, Some(host.as_str())] {
        seen.see("Whoami", get("/v1/whoami", token).await);
    }
    let changes = seen.see("Changes", get("/v1/watch?since=0&wait_s=0", None).await);
    seen.all("Change", &changes["changes"]);
    seen.see("Refusal", get("/v1/hosts/nobody", gateway).await);

    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap().iter().filter(|(_, schema)| schema["properties"].is_object());
    let schemas: BTreeMap<&str, &Value> = schemas.map(|(name, schema)| (name.as_str(), schema)).collect();
    assert_eq!(seen.0.keys().copied().collect::<Vec<_>>(), schemas.keys().copied().collect::<Vec<_>>());
    for (name, bodies) in &seen.0 {
        let known = fields(&schemas[name]["properties"]);
        let required: BTreeSet<String> =
            schemas[name]["required"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
        for body in bodies {
            assert!(
                fields(body).is_subset(&known) && required.is_subset(&fields(body)),
                "{name}: {known:?}, {required:?} required: {body}"
            );
        }
        let all: BTreeSet<String> = bodies.iter().flat_map(fields).collect();
        assert_eq!(all, known, "{name}");
    }
}
