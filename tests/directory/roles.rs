//! Who may do what, and what of others' can be seen: nothing.

use super::registry::shard_spec;
use super::support::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portway::directory::client::{Client, PathKey};
use portway::directory::token::TokenText;
use portway::directory::types::*;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// The status and body of a call.
pub async fn call(client: &Client, method: &str, path: &str, body: Value) -> (u16, Value) {
    let method: Method = method.parse().unwrap();
    let body = (!body.is_null()).then_some(&body);
    match client.call(method, path, body, Duration::from_secs(5)).await {
        Ok((status, bytes)) => (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)),
        Err(portway::directory::client::ClientError::Refused { status, code, message, .. }) => (status, json!([code, message])),
        Err(error) => panic!("{path}: {error}"),
    }
}

pub async fn who_may_do_what(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    let operator = bed.role(token(Role::Operator)).await;
    let some = bed.operator_of(&["acme"]).await;
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    let (host, _) = bed.host("host-1", &key(1), &["acme"]).await;
    let enrolment = bed.enrolment(&["acme"]).await;
    let observer = bed.role(token(Role::Observer)).await;
    let watcher = bed.role(TokenSpec { tenants: Some([tenant("acme")].into()), ..token(Role::Observer) }).await;
    let stranger = bed.stranger();
    let garbage = bed.with("pwt_0000000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let peer = format!("/v1/peers/{}", PathKey(key(1).public()));
    let tenant_body = json!({ "inner": "10.65.0.0/16" });
    let shard_body = serde_json::to_value(shard_spec("10.9.0.50:51820", 100, None)).unwrap();
    let host_body = json!({ "tenants": ["acme"] });
    let gateway_body = json!({ "shards": ["acme"] });
    let report = json!(GatewayReport::default());
    let said = json!(HostReport::default());
    // Everything, some tenants, gateway, host, enrolment, observer, observer of some tenants.
    let table: [(&str, &str, Value, [u16; 7]); 27] = [
        ("GET", "/v1/whoami", Value::Null, [200, 200, 200, 200, 200, 200, 200]),
        ("GET", "/v1/tenants", Value::Null, [200, 200, 200, 200, 403, 403, 403]),
        ("GET", "/v1/tenants/acme", Value::Null, [200, 200, 200, 200, 403, 403, 403]),
        ("PUT", "/v1/tenants/new", tenant_body, [201, 403, 403, 403, 403, 403, 403]),
        ("DELETE", "/v1/tenants/new", Value::Null, [204, 403, 403, 403, 403, 403, 403]),
        ("GET", "/v1/shards", Value::Null, [200, 200, 200, 200, 403, 403, 403]),
        ("PUT", "/v1/shards/acme/0", shard_body, [204, 204, 204, 403, 403, 403, 403]),
        ("GET", "/v1/gateways", Value::Null, [200, 200, 200, 403, 403, 403, 403]),
        ("GET", "/v1/gateways/gw-1", Value::Null, [200, 200, 200, 403, 403, 403, 403]),
        ("PUT", "/v1/gateways/gw-2", gateway_body, [201, 200, 403, 403, 403, 403, 403]),
        ("DELETE", "/v1/gateways/gw-2", Value::Null, [204, 404, 403, 403, 403, 403, 403]),
        ("GET", "/v1/gateway", Value::Null, [403, 403, 200, 403, 403, 403, 403]),
        ("PUT", "/v1/gateway/status", report, [403, 403, 204, 403, 403, 403, 403]),
        ("PUT", "/v1/host/status", said, [403, 403, 403, 204, 403, 403, 403]),
        ("GET", "/v1/status", Value::Null, [200, 200, 403, 403, 403, 200, 200]),
        ("GET", "/v1/fleet", Value::Null, [200, 403, 403, 403, 403, 200, 403]),
        ("GET", "/v1/hosts", Value::Null, [200, 200, 200, 403, 403, 403, 403]),
        ("GET", "/v1/hosts/host-1", Value::Null, [200, 200, 200, 403, 403, 403, 403]),
        ("PUT", "/v1/hosts/host-2", host_body, [201, 200, 403, 403, 403, 403, 403]),
        ("DELETE", "/v1/hosts/host-2", Value::Null, [204, 404, 403, 403, 403, 403, 403]),
        ("GET", "/v1/host", Value::Null, [403, 403, 403, 200, 403, 403, 403]),
        ("GET", "/v1/tokens", Value::Null, [200, 200, 403, 403, 403, 403, 403]),
        ("POST", "/v1/tokens", json!({ "role": "enroll", "tenants": ["acme"] }), [201, 201, 403, 403, 403, 403, 403]),
        ("POST", "/v1/tokens", json!({ "role": "operator" }), [201, 403, 403, 403, 403, 403, 403]),
        ("POST", "/v1/tokens", json!({ "role": "observer" }), [201, 403, 403, 403, 403, 403, 403]),
        ("GET", &peer, Value::Null, [200, 200, 200, 403, 403, 403, 403]),
        ("GET", "/v1/watch", Value::Null, [200, 200, 200, 200, 403, 403, 403]),
    ];
    for (method, path, body, expected) in table {
        let mut answers = vec![];
        for client in [&operator, &some, &gateway, &host, &enrolment, &observer, &watcher] {
            answers.push(call(client, method, path, body.clone()).await.0);
        }
        assert_eq!(answers, expected, "{method} {path}");
        for client in [&stranger, &garbage] {
            assert_eq!(call(client, method, path, body.clone()).await.0, 401, "{method} {path}");
        }
    }
    for open in ["/healthz", "/readyz", "/v1/openapi.json", "/", "/page/main.js"] {
        assert_eq!(call(&stranger, "GET", open, Value::Null).await.0, 200, "{open}");
    }
    let who = host.whoami().await.unwrap();
    assert_eq!((who.role, who.name, who.tenants), (Role::Host, Some(node("host-1")), Some([tenant("acme")].into())));
    // Whoever may open the local socket is the operator of everything.
    assert_eq!(bed.operator().whoami().await.unwrap().tenants, None);
}

/// An operator sees the fleet as its gateways and hosts say it is, and of other operators' tenants nothing. For those who show no token there are numbers on this machine.
pub async fn the_fleet_is_shown_to_each_as_far_as_it_is_its_own(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    let gateway = bed.gateway("gw-1", &["acme/0", "globex/0"]).await;
    bed.gateway("gw-2", &["globex/0"]).await;
    let shard_report = ShardReport {
        state: ShardState::Active,
        for_s: Some(1.0),
        in_sync: Some(true),
        connections: Some(7),
        peers: Some(3),
        warnings: vec![],
    };
    let mut report = GatewayReport { version: "1".into(), traffic: Some(TrafficReport::default()), ..GatewayReport::default() };
    // What it says of a shard that is not its own is nobody's business.
    report.shards = ["acme/0", "globex/0", "acme/1"].map(|of| (shard(of), shard_report.clone())).into();
    report.admin = Some("10.9.0.1:9470".parse().unwrap());
    gateway.report(&report).await.unwrap();
    let names = |fleet: &Fleet| fleet.gateways.iter().map(|gateway| gateway.name.to_string()).collect::<Vec<_>>().join(" ");
    let told = |fleet: &Fleet| fleet.gateways[0].report.clone().unwrap();

    let all = bed.operator().fleet().await.unwrap();
    assert_eq!((names(&all).as_str(), all.shards.len(), told(&all).shards.len()), ("gw-1 gw-2", 2, 2));
    assert!(told(&all).traffic.is_some() && all.gateways[0].heard_s.is_some_and(|ago| ago < 20.0) && all.gateways[1].heard_s.is_none());
    let some = bed.operator_of(&["acme"]).await.fleet().await.unwrap();
    assert_eq!((names(&some).as_str(), some.tenants.len(), some.shards.len(), told(&some).shards.len()), ("gw-1", 1, 1, 1));
    assert!(told(&some).traffic.is_none() && told(&some).admin.is_none(), "the traffic of all tenants");
    assert!(!json!(some).to_string().contains("globex"));

    let (host, _) = bed.host("host-1", &key(1), &["acme", "globex"]).await;
    let (other, _) = bed.host("host-2", &key(2), &["acme"]).await;
    let attachments =
        |all: &[(&str, u16)]| HostReport { version: "1".into(), attachments: all.iter().map(|(of, count)| (shard(of), *count)).collect() };
    host.report_host(&attachments(&[("acme/0", 3), ("globex/0", 4)])).await.unwrap();
    // Of a tenant that it may not serve, and of a shard that is not there.
    other.report_host(&attachments(&[("acme/0", 2), ("globex/0", 9), ("acme/7", 9)])).await.unwrap();
    let counted = |hosts, attachments| Attachments { hosts, attachments };
    let fleet = bed.operator().fleet().await.unwrap().attachments;
    assert_eq!(fleet, [(shard("acme/0"), counted(2, 5)), (shard("globex/0"), counted(1, 4))].into());
    let some = bed.operator_of(&["acme"]).await.fleet().await.unwrap().attachments;
    assert_eq!(some, [(shard("acme/0"), counted(2, 5))].into());
    for wrong in
        [json!({ "acme/0": 65_536 }), (0..7_392).map(|n| (format!("acme/{n}"), json!(1))).collect::<serde_json::Map<_, _>>().into()]
    {
        assert_eq!(call(&other, "PUT", "/v1/host/status", json!({ "version": "1", "attachments": wrong })).await.0, 400);
    }
    bed.operator().remove_host(&node("host-2")).await.unwrap();
    let fleet = bed.operator().fleet().await.unwrap().attachments;
    assert_eq!(fleet[&shard("acme/0")], counted(1, 3), "what it said has gone with it");
    // What a newer one says more is let be.
    let newer = json!({ "version": "9", "traffic": null, "takeovers": [], "more": 1, "shards": { "acme/0": { "state": "active", "for_s": 1.0, "in_sync": null, "connections": null, "warnings": [], "more": 1 } } });
    assert_eq!(call(&gateway, "PUT", "/v1/gateway/status", newer).await.0, 204);
    gateway.report(&report).await.unwrap();

    // Whoever looks at all of it changes nothing, and knows where to ask for more.
    let observer = bed.role(token(Role::Observer)).await;
    assert_eq!(names(&observer.fleet().await.unwrap()), "gw-1 gw-2");
    let asked: Vec<_> = observer.reach().await.unwrap().into_iter().map(|one| (one.heard_s.is_some(), one.admin)).collect();
    assert_eq!(asked, [(true, report.admin), (false, None)]);

    let summary = reqwest::get(format!("http://{}/v1/status", bed.running.admin)).await.unwrap().text().await.unwrap();
    let counted: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&counted["known"]["tenants"], &counted["ready"]), (&json!(2), &json!(true)), "{summary}");
    assert!(!summary.contains("acme") && !summary.contains("gw-1"), "{summary}");
    let too_long = json!({ "version": "x".repeat(3 << 20), "traffic": null, "shards": {}, "takeovers": [] });
    assert_eq!(call(&gateway, "PUT", "/v1/gateway/status", too_long).await.0, 413);
    for admin in ["127.0.0.1:9470", "169.254.169.254:80", "http://10.9.0.1:9470/metrics", "gw-1:9470", "10.9.0.1"] {
        let mut body = json!(report);
        body["admin"] = admin.into();
        let (status, said) = call(&gateway, "PUT", "/v1/gateway/status", body).await;
        assert!(status == 400 && said[1].as_str().unwrap().contains(admin), "{said}");
    }
    assert_eq!(call(&gateway, "PUT", "/v1/gateway/status", json!({ "shards": { "acme/0": { "state": "excellent" } } })).await.0, 400);
}

/// Not in the tables, nor in the files of SQLite; and what is looked for would be found if it were there.
pub async fn of_tokens_their_hashes_alone_are_kept(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let gateway = GatewaySpec { shards: [shard("acme/0")].into() };
    bed.operator().put_gateway(&node("gw-1"), &gateway).await.unwrap();
    let (_, enrolled) = bed.host("host-1", &key(1), &["acme"]).await;
    let mut tokens = vec![enrolled.credential.token];
    for spec in [token(Role::Operator), TokenSpec { gateway: Some(node("gw-1")), ..token(Role::Gateway) }, enroll(&["acme"])] {
        tokens.push(bed.operator().add_token(&spec).await.unwrap().token);
    }
    let stored = bed.stored().await;
    let has = |bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        [bytes, hex.as_bytes()].iter().any(|form| stored.windows(form.len()).any(|window| window == *form))
    };
    assert!(has(b"host-1") && has(key(1).public().bytes()));
    for text in &tokens {
        let token = TokenText::parse(text).unwrap();
        assert!(has(token.id.as_bytes()) && has(token.hash().bytes()), "{} is not kept", token.id);
        // 32 bytes in base64url.
        let secret = &text[text.len() - 43..];
        let bytes = URL_SAFE_NO_PAD.decode(secret).unwrap();
        assert_eq!(Sha256::digest(&bytes).as_slice(), token.hash().bytes(), "not what is secret of it");
        for form in [text.as_bytes(), secret.as_bytes(), bytes.as_slice()] {
            assert!(!has(form), "the secret of {} is kept", token.id);
        }
    }
}

pub async fn nobody_sees_another_tenant(bed: Bed) {
    for (name, number) in [("acme", 0), ("globex", 0)] {
        bed.tenant(name, "10.64.0.0/16", &[number]).await;
    }
    let all = bed.operator();
    let (ours, theirs) = (bed.gateway("gw-a", &["acme/0"]).await, bed.gateway("gw-g", &["globex/0"]).await);
    theirs.put_shard(&shard("globex/0"), &shard_spec("10.9.0.60:51820", 100, None)).await.unwrap();
    all.put_host(&node("both"), &host_spec(&["acme", "globex"], Some(1))).await.unwrap();
    all.put_host(&node("theirs"), &host_spec(&["globex"], Some(2))).await.unwrap();
    let some = bed.operator_of(&["acme"]).await;
    let (host, _) = bed.host("ours", &key(3), &["acme"]).await;
    for client in [&ours, &some] {
        let hosts = client.hosts(None).await.unwrap().hosts;
        assert_eq!(hosts.iter().map(inner).collect::<Vec<_>>(), ["acme/0=10.64.0.1/32", "acme/0=10.64.0.2/32"]);
        assert_eq!(inner(&client.peer(&key(1).public()).await.unwrap().unwrap()), "acme/0=10.64.0.1/32");
        assert_eq!(client.peer(&key(2).public()).await.unwrap(), None);
        assert_eq!(client.gateways().await.unwrap().iter().map(|gateway| gateway.name.clone()).collect::<Vec<_>>(), [node("gw-a")]);
    }
    for client in [&ours, &some, &host] {
        assert_eq!(client.tenants().await.unwrap().iter().map(|tenant| tenant.name.clone()).collect::<Vec<_>>(), [tenant("acme")]);
        assert_eq!(client.shards().await.unwrap().iter().map(|one| one.of.clone()).collect::<Vec<_>>(), [shard("acme/0")]);
        for body in [serde_json::to_string(&client.tenants().await.unwrap()), serde_json::to_string(&client.shards().await.unwrap())] {
            assert!(!body.unwrap().contains("globex"));
        }
    }
    assert_eq!(
        ours.put_shard(&shard("globex/0"), &shard_spec("10.9.0.66:51820", 101, None)).await.map_err(|error| error.to_string()).unwrap_err(),
        "no shard globex/0 that you may see; look at the list of those there are"
    );
    // An operator of some tenants changes nothing of others'.
    assert_eq!(code(some.put_host(&node("theirs"), &host_spec(&["acme"], None)).await), "name_taken");
    assert_eq!(code(some.put_host(&node("both"), &host_spec(&["acme"], None)).await), "name_taken");
    assert_eq!(code(some.put_host(&node("new"), &host_spec(&["globex"], None)).await), "unknown");
    // A key is taken, as a name is: not whose it is, a host's or a shard's, nor of which tenant.
    for number in [2, 100] {
        let taken = call(&some, "PUT", "/v1/hosts/new", json!({ "tenants": ["acme"], "public_key": key(number).public() })).await;
        assert_eq!(taken, (409, json!(["key_taken", "this public key is another's"])), "{number}");
    }
    assert_eq!(code(some.remove_host(&node("theirs")).await), "unknown");
    assert_eq!(code(some.remove_host(&node("both")).await), "forbidden");
    assert_eq!(code(some.remove_gateway(&node("gw-g")).await), "unknown");
    assert_eq!(code(some.put_gateway(&node("gw-g"), &GatewaySpec { shards: [shard("acme/0")].into() }).await), "name_taken");
    assert_eq!(code(some.add_token(&TokenSpec { gateway: Some(node("gw-g")), ..token(Role::Gateway) }).await), "unknown");
    assert_eq!(code(some.add_token(&enroll(&["acme", "globex"])).await), "unknown");
    let id = all.tokens().await.unwrap().into_iter().find(|token| token.gateway == Some(node("gw-g"))).unwrap().id;
    assert_eq!(code(some.remove_token(&id).await), "unknown");
    assert!(some.tokens().await.unwrap().iter().all(|token| token.tenants == Some([tenant("acme")].into())));
}

pub async fn what_is_not_there_and_what_is_not_ones_own_look_the_same(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    let gateway = bed.gateway("gw-a", &["acme/0"]).await;
    bed.operator().put_host(&node("theirs"), &host_spec(&["globex"], Some(2))).await.unwrap();
    let same = async |there: &str, not: &str, name: &str, other: &str| {
        let there = call(&gateway, "GET", there, Value::Null).await;
        let not = call(&gateway, "GET", not, Value::Null).await;
        assert_eq!((there.0, there.1.to_string()), (404, not.1.to_string().replace(other, name)));
    };
    same("/v1/hosts/theirs", "/v1/hosts/nobody", "theirs", "nobody").await;
    same("/v1/tenants/globex", "/v1/tenants/nobody", "globex", "nobody").await;
    let path = |number| format!("/v1/peers/{}", PathKey(key(number).public()));
    same(&path(2), &path(9), &key(2).public().to_string(), &key(9).public().to_string()).await;
}

pub async fn a_removed_token_is_refused_at_once(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let minted = bed.operator().add_token(&token(Role::Operator)).await.unwrap();
    let client = bed.with(minted.token.clone());
    client.whoami().await.unwrap();
    bed.operator().remove_token(&minted.id).await.unwrap();
    assert_eq!(code(client.whoami().await), "unauthenticated");
    assert_eq!(code(bed.operator().remove_token(&minted.id).await), "unknown");
    // With whose they are.
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    let (host, _) = bed.host("host-1", &key(1), &["acme"]).await;
    gateway.whoami().await.unwrap();
    host.whoami().await.unwrap();
    bed.operator().remove_gateway(&node("gw-1")).await.unwrap();
    bed.operator().remove_host(&node("host-1")).await.unwrap();
    assert_eq!((code(gateway.whoami().await), code(host.whoami().await)), ("unauthenticated".into(), "unauthenticated".into()));
    // What it is good for follows at once, too.
    let gateway = bed.gateway("gw-2", &["acme/0"]).await;
    assert_eq!(gateway.tenants().await.unwrap().len(), 1);
    bed.operator().put_gateway(&node("gw-2"), &GatewaySpec::default()).await.unwrap();
    assert_eq!(gateway.tenants().await.unwrap(), []);
    let (host, _) = bed.host("host-2", &key(2), &["acme"]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    bed.operator().put_host(&node("host-2"), &host_spec(&["globex"], None)).await.unwrap();
    assert_eq!(inner(&host.membership().await.unwrap().host), "globex/0=10.64.0.1/32");
}

pub async fn a_gateways_token_is_good_for_no_more_than_its_makers(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    bed.host("theirs", &key(2), &["globex"]).await;
    let some = bed.operator_of(&["acme"]).await;
    let acme = GatewaySpec { shards: [shard("acme/0")].into() };
    some.put_gateway(&node("gw-1"), &acme).await.unwrap();
    let minted = some.add_token(&TokenSpec { gateway: Some(node("gw-1")), ..token(Role::Gateway) }).await.unwrap();
    let (limited, whole) = (bed.with(minted.token), bed.gateway("gw-1", &["acme/0", "globex/0"]).await);
    let tenants = async |client: &Client| client.tenants().await.unwrap().into_iter().map(|tenant| tenant.name).collect::<Vec<_>>();
    assert_eq!(tenants(&limited).await, [tenant("acme")]);
    assert_eq!(tenants(&whole).await, [tenant("acme"), tenant("globex")]);
    let assignment = limited.assignment().await.unwrap();
    assert_eq!((assignment.gateway.shards, assignment.shards.len()), (acme.shards.clone(), 1));
    assert_eq!(whole.assignment().await.unwrap().shards.len(), 2);
    assert_eq!(limited.peer(&key(2).public()).await.unwrap(), None);
    assert_eq!(code(limited.put_shard(&shard("globex/0"), &shard_spec("10.9.0.60:51820", 100, None)).await), "unknown");
    // Its maker sees it, and not the other, which is good for more.
    let seen = some.tokens().await.unwrap();
    let gateways: Vec<_> = seen.iter().filter(|token| token.role == Role::Gateway).map(|token| token.id.as_str()).collect();
    assert_eq!(gateways, [minted.id.as_str()]);
    some.remove_token(&minted.id).await.unwrap();
    assert_eq!(code(limited.whoami().await), "unauthenticated");
    // Nor does an operator of some tenants get hold of a gateway that serves nothing for a while, whose tokens are others'.
    bed.operator().put_gateway(&node("gw-1"), &GatewaySpec::default()).await.unwrap();
    assert_eq!(code(some.put_gateway(&node("gw-1"), &acme).await), "name_taken");
    assert_eq!(code(some.put_gateway(&node("gw-2"), &GatewaySpec::default()).await), "invalid");
}

pub async fn tokens_expire(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let hour = bed.role(TokenSpec { expires_s: Some(3600), ..token(Role::Operator) }).await;
    let enrolment = bed.enrolment(&["acme"]).await;
    hour.whoami().await.unwrap();
    bed.advance(3601);
    assert_eq!(code(hour.whoami().await), "unauthenticated");
    assert_eq!(code(enrolment.enroll(&key(1), &node("host-1")).await), "unauthenticated");
}

/// Who hangs up at once has asked all the same: what was done counts for everybody, soon.
pub async fn a_caller_that_hangs_up_has_asked(bed: Bed) {
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let minted = bed.operator().add_token(&token(Role::Operator)).await.unwrap();
    let client = bed.with(minted.token.clone());
    client.whoami().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    // The call may be cut off before it is carried out, so it is made until it was.
    while bed.operator().tokens().await.unwrap().iter().any(|token| token.id == minted.id) {
        assert!(Instant::now() < deadline, "never removed");
        let mut socket = tokio::net::UnixStream::connect(&bed.running.socket).await.unwrap();
        let request = format!("DELETE /v1/tokens/{} HTTP/1.1\r\nhost: directory\r\n\r\n", minted.id);
        socket.write_all(request.as_bytes()).await.unwrap();
        drop(socket);
    }
    let gone = Instant::now();
    while client.whoami().await.is_ok() {
        assert!(gone.elapsed() < Duration::from_secs(1), "still good after a second");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
