#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portway::model::{Secret, TopicArn};
use portway::wire::webhook::alertmanager::{Firing, Notification};
use portway::wire::webhook::auth::{self, Keys};
use portway::wire::webhook::demand::{Demand, Demands};
use portway::wire::webhook::sns::lifecycle::Told;
use portway::wire::webhook::sns::{Certificate, CertificateUrl, SubscribeUrl, Verifier};
use portway::wire::webhook::{Body, Refusal, sns};
use std::time::{Duration, Instant, UNIX_EPOCH};

const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";
const HOST: &str = "https://sns.us-west-2.amazonaws.com/";

// What was refused is told on one line, under a label that is counted.
fn told<T>(result: Result<T, Refusal>) -> Option<T> {
    result
        .inspect_err(|refusal| {
            assert!(Refusal::LABELS.contains(&refusal.label()));
            assert!(!refusal.to_string().contains(char::is_control), "{refusal}");
        })
        .ok()
}

fuzz_target!(|bytes: &[u8]| {
    let (now, wall) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(1_803_896_100));
    let Some(body) = told(Body::new(bytes, Body::LIMIT)) else { return };

    if let Some(notification) = told(Notification::parse(body)) {
        notification.unread.iter().cloned().for_each(|refusal| assert!(told::<()>(Err(refusal)).is_none()));
        let mut firing = Firing::new(Duration::from_secs(60), Body::LIMIT);
        firing.capacity(wall, 2);
        firing.take(&notification, now);
        let once = firing.level(now);
        firing.capacity(wall + Duration::from_secs(60), 3);
        firing.take(&notification, now);
        // The number may be another: an alert may be there twice, and with two beginnings.
        assert_eq!(once.is_some(), firing.level(now).is_some());
        assert_eq!(firing.level(now + Duration::from_secs(60)), None);
    }
    if let Some(demand) = told(Demand::parse(body, wall)) {
        let mut demands = Demands::new(1);
        for nodes in [2, 3] {
            assert_eq!(demands.take(&demand, nodes, None, now), Ok(()));
            let work = demand.figures.utilisation.map(|share| share * 2.0);
            assert_eq!(demands.expected(now).work, work);
        }
    }

    // Header values, one on each line.
    let mut keys = Keys::new(vec![secret(1)], &[secret(2)], auth::WINDOW, 10, wall);
    let mut headers = HeaderMap::new();
    let names = [auth::TIMESTAMP, auth::SIGNATURE, http::header::AUTHORIZATION];
    for (name, line) in names.into_iter().zip(bytes.splitn(3, |byte| *byte == b'\n')) {
        HeaderValue::from_bytes(line).into_iter().for_each(|value| _ = headers.append(name.clone(), value));
    }
    assert!(told(keys.prove(&headers, body, wall)).is_none(), "nobody knows the keys");

    // Nobody has signed it.
    let topic: TopicArn = TOPIC.parse().expect("a topic");
    let mut verifier = Verifier::new(vec![topic.clone()], sns::WINDOW, 10);
    let url = CertificateUrl::parse(&format!("{HOST}a.pem"), &topic).expect("a URL");
    let certificate = Certificate::parse(&url, include_bytes!("../../src/wire/webhook/sns/tests/openssl.pem")).expect("a certificate");
    if let Some(envelope) = told(verifier.check(body, wall)) {
        assert!(envelope.certificate_url().as_str().starts_with(HOST));
        assert!(told(verifier.verify(envelope, &certificate, wall)).is_none());
        assert_eq!(verifier.remembered(), 0);
    }
    told(Certificate::parse(&url, bytes));

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    told(Told::read(text));
    if let Some(url) = told(CertificateUrl::parse(text, &topic)) {
        let name = url.as_str().strip_prefix(HOST).expect("SNS's host");
        assert!(!name.contains(['/', '?', '#', '@', '%', '\\']));
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
