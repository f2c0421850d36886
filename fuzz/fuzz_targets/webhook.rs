#![no_main]

use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use portway::model::{KeyId, Secret, TopicArn};
use portway::wire::webhook::alertmanager::{History, Notification, Order};
use portway::wire::webhook::auth::{self, Keys, Limits, Proof};
use portway::wire::webhook::demand::{Demand, Expects};
use portway::wire::webhook::sns::lifecycle::Told;
use portway::wire::webhook::sns::{Certificate, CertificateUrl, Certificates, Effect, SubscribeUrl, Verifier, Waiter};
use portway::wire::webhook::{Body, NODES, Novelty, Refusal, Replay, Said, Saved, sns};
use std::time::{Duration, Instant, UNIX_EPOCH};

const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";
const HOST: &str = "https://sns.us-west-2.amazonaws.com/";
const FILE: &str = "SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem";
const LASTS: Duration = Duration::from_secs(60);

// What was refused is told on one line, under a label that is counted.
fn told<T>(result: Result<T, Refusal>) -> Option<T> {
    result
        .inspect_err(|refusal| {
            assert!(Refusal::LABELS.contains(&refusal.label()));
            assert!(!refusal.to_string().contains(char::is_control), "{refusal}");
        })
        .ok()
}

// Its source can be one of the autoscaler's, and it asks for what can be had.
fn good(said: &Said) {
    let source = said.source().as_str();
    assert!((1..=128).contains(&source.len()) && !source.contains(char::is_control));
    if let Said::Level(level) = said {
        assert!(level.figures.nodes.is_none_or(|nodes| NODES.contains(&nodes)));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (now, wall) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(1_803_896_100));
    let Some(body) = told(Body::new(bytes, Body::LIMIT)) else { return };

    if let Some(notification) = told(Notification::parse(body)) {
        notification.unread.iter().cloned().for_each(|refusal| assert!(told::<()>(Err(refusal)).is_none()));
        let (mut order, mut history) = (Order::new(LASTS, 10), History::default());
        history.note(wall, 2);
        for _ in 0..2 {
            let heard = order.take(&notification, &history, now);
            heard.said.iter().for_each(good);
            heard.refused.into_iter().for_each(|refusal| assert_eq!(told::<()>(Err(refusal)), None));
            assert!(order.remembered() <= 10);
        }
    }
    if let Some(demand) = told(Demand::parse(body, wall)) {
        good(&demand.said(now));
        assert_eq!(demand.said(now), demand.said(now));
        assert_eq!(demand.expects == Expects::Nothing, matches!(demand.said(now), Said::Ends(_)));
        let mut replay = Replay::new(LASTS, wall);
        assert_eq!(replay.ask(&Proof::Token, &demand.subject()), Ok(Novelty::First));
        replay.taken(&Proof::Token, &demand.subject(), wall);
        assert_eq!(replay.remembered(), (0, 0));
    }
    if let Some(Ok(replay)) = serde_json::from_slice::<Saved>(bytes).ok().map(|saved| Replay::restore(LASTS, saved)) {
        let saved = serde_json::to_vec(&replay.saved()).expect("JSON");
        assert_eq!(serde_json::from_slice::<Saved>(&saved).expect("its own"), replay.saved());
    }

    // Header values, one on each line.
    let audience = "autoscaler-1".parse().expect("a name");
    let key = KeyId::try_from(1).expect("an id");
    let keys = Keys::new(audience, vec![secret(1)], vec![(key, secret(2))], Limits::default()).expect("two secrets");
    let mut head = Request::post("/v1/demand").body(()).expect("a request").into_parts().0;
    let names = [auth::KEY, auth::TIMESTAMP, auth::SIGNATURE, http::header::AUTHORIZATION, http::header::CONTENT_LENGTH];
    for (name, line) in names.into_iter().zip(bytes.splitn(5, |byte| *byte == b'\n')) {
        HeaderValue::from_bytes(line).into_iter().for_each(|value| _ = head.headers.append(name.clone(), value));
    }
    let pass = told(keys.door(&head, wall));
    assert!(pass.and_then(|pass| told(pass.admit(bytes))).is_none(), "nobody knows the keys");

    // Nobody has signed it.
    let topic: TopicArn = TOPIC.parse().expect("a topic");
    let verifier = Verifier::new(vec![topic.clone()], sns::WINDOW, 10);
    let url = CertificateUrl::parse(&format!("{HOST}{FILE}"), &topic).expect("a URL");
    let certificate = Certificate::parse(&url, include_bytes!("../../src/wire/webhook/sns/tests/openssl.pem")).expect("a certificate");
    if let Some(envelope) = told(verifier.check(body, wall)) {
        assert!(envelope.certificate_url().as_str().starts_with(HOST));
        assert!(told(verifier.verify(envelope, &certificate, wall)).is_none());
    }
    told(Certificate::parse(&url, bytes));
    let mut certificates = Certificates::new();
    certificates.want(now, wall, &url, Waiter(1));
    assert_eq!(certificates.next_effect(), Some(Effect::Fetch(url.clone())));
    certificates.fetched(now, wall, &url, Ok(bytes));
    match certificates.next_effect() {
        Some(Effect::Refused(Waiter(1), refusal)) => assert!(told::<()>(Err(refusal)).is_none()),
        Some(Effect::Known(Waiter(1), certificate)) => assert_eq!(certificate.valid_at(wall), Ok(())),
        other => panic!("{other:?}"),
    }

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    told(Told::read(text));
    if let Some(url) = told(CertificateUrl::parse(text, &topic)) {
        let name = url.as_str().strip_prefix(HOST).expect("SNS's host");
        assert!(name.len() == FILE.len() && !name.contains(['/', '?', '#', '@', '%', '\\']));
    }
    if let Some(url) = told(SubscribeUrl::parse(text, &topic, "23")) {
        assert!(url.as_str().starts_with(&format!("{HOST}?")));
    }
    if let Ok(topic) = text.parse::<TopicArn>() {
        assert_eq!(topic.as_str(), text);
    }
});

fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32]).expect("long enough")
}
