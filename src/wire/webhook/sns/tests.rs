pub mod support;

use super::*;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;
use std::sync::LazyLock;
use support::{NOW, PEM_URL, Signer, TOPIC, at, certificate_url, message, pem};

static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::new);

fn verifier() -> Verifier {
    Verifier::new(vec!["arn:aws:sns:us-west-2:123456789012:other".parse().unwrap(), TOPIC.parse().unwrap()], WINDOW, 100)
}

fn check(verifier: &Verifier, message: &Value, now: u64) -> Result<Envelope, Refusal> {
    let bytes = serde_json::to_vec(message).unwrap();
    verifier.check(Body::new(&bytes, Body::LIMIT).unwrap(), at(now))
}

fn verify(verifier: &Verifier, message: &Value, now: u64) -> Result<Verified, Refusal> {
    let envelope = check(verifier, message, now)?;
    assert_eq!(envelope.certificate_url().as_str(), PEM_URL);
    verifier.verify(envelope, &SIGNER.certificate(), at(now))
}

fn said(verifier: &Verifier, message: &Value) -> Message {
    verify(verifier, message, NOW).unwrap().message
}

/// Certificate and signatures by `openssl req -x509` and `openssl dgst -sign`, over text that was put together by hand.
#[rstest]
#[case("1", include_str!("tests/openssl.sha1"))]
#[case("2", include_str!("tests/openssl.sha256"))]
fn what_another_program_has_signed_is_verified(#[case] version: &str, #[case] signature: &str) {
    let certificate = Certificate::parse(&certificate_url(), include_bytes!("tests/openssl.pem")).unwrap();
    let mut message = message("Notification");
    message["Subject"] = "My First Message".into();
    message["Message"] = "Line one\n\"two\" \u{e9}".into();
    message["SignatureVersion"] = version.into();
    message["Signature"] = signature.into();
    let verifier = verifier();
    let envelope = check(&verifier, &message, NOW).unwrap();
    let got = verifier.verify(envelope, &certificate, at(NOW)).map(|verified| verified.message);
    let topic = TOPIC.parse().unwrap();
    let id = "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324".into();
    assert_eq!(got, Ok(Message::Notification { topic, id, text: "Line one\n\"two\" \u{e9}".into() }));
    message["SignatureVersion"] = if version == "1" { "2".into() } else { "1".into() };
    let other = check(&verifier, &message, NOW).unwrap();
    assert_eq!(verifier.verify(other, &certificate, at(NOW)).unwrap_err().label(), "wrong_signature");
}

#[test]
fn each_kind_of_message_is_read() {
    let (verifier, topic) = (verifier(), || TOPIC.parse().unwrap());
    let asks = SIGNER.about("SubscriptionConfirmation");
    let Message::Subscribe { topic: of, url } = said(&verifier, &asks) else { panic!("it asks for a subscription") };
    assert!(!format!("{:?}", check(&verifier, &asks, NOW)).contains("2336412f37"), "the token is not printed");
    assert_eq!((of, Value::from(url.as_str())), (topic(), asks["SubscribeURL"].clone()));
    assert_eq!(said(&verifier, &SIGNER.about("UnsubscribeConfirmation")), Message::Unsubscribed { topic: topic() });
    let hello = Message::Notification { topic: topic(), id: "1".into(), text: "Hello".into() };
    assert_eq!(said(&verifier, &SIGNER.notification("1", "Hello")), hello);
}

#[test]
fn a_message_counts_until_it_was_acted_on_and_then_it_is_known() {
    let mut verifier = verifier();
    let message = SIGNER.notification("1", "Hello");
    let first = verify(&verifier, &message, NOW).unwrap();
    assert!(!verifier.seen(&first.id) && verifier.remembered() == 0, "to verify is not to act");
    let again = verify(&verifier, &message, NOW + 20).unwrap();
    assert!(!verifier.seen(&again.id), "it could not be acted on, so it counts when it comes again");
    verifier.taken(again.id, at(NOW + 20));
    assert!(verifier.seen(&first.id));
    assert!(verifier.seen(&verify(&verifier, &message, NOW + 3600).unwrap().id), "as long as SNS may send it");
    assert!(!verifier.seen(&verify(&verifier, &SIGNER.notification("2", "Hello"), NOW).unwrap().id));
}

#[test]
fn a_message_counts_within_an_hour_of_its_time() {
    let verifier = verifier();
    let message = SIGNER.notification("1", "Hello");
    assert!(verify(&verifier, &message, NOW + 3600).is_ok());
    assert_eq!(verify(&verifier, &message, NOW + 3601).unwrap_err().label(), "stale");
    assert_eq!(verify(&verifier, &message, NOW - 3600).unwrap_err().label(), "early");
}

#[test]
fn a_full_memory_forgets_what_is_oldest_and_takes_it_no_more() {
    let mut verifier = Verifier::new(vec![TOPIC.parse().unwrap()], WINDOW, 1);
    let mut later = message("Notification");
    later["Timestamp"] = "2027-03-01T10:15:01Z".into();
    SIGNER.sign(&mut later, &["Message", "MessageId", "Timestamp", "TopicArn", "Type"]);
    for message in [&SIGNER.notification("1", "Hello"), &later] {
        let id = verify(&verifier, message, NOW).unwrap().id;
        verifier.taken(id, at(NOW));
    }
    assert_eq!(verifier.remembered(), 1);
    assert!(verifier.seen(&verify(&verifier, &later, NOW).unwrap().id));
    assert_eq!(verify(&verifier, &SIGNER.notification("1", "Hello"), NOW).unwrap_err().label(), "forgotten");
}

#[test]
fn only_topics_of_the_configuration_may_send() {
    let mut verifier = verifier();
    let message = SIGNER.notification("1", "Hello");
    verifier.change(vec!["arn:aws:sns:us-west-2:123456789012:other".parse().unwrap()]);
    assert_eq!(check(&verifier, &message, NOW), Err(Refusal::ForeignTopic(TOPIC.into())));
    let mut odd = message;
    odd["TopicArn"] = "arn:aws:sns:us-west-2:123456789012:a\nb".into();
    assert_eq!(check(&verifier, &odd, NOW).unwrap_err().label(), "invalid");
    odd["TopicArn"] = "topic".into();
    assert_eq!(check(&verifier, &odd, NOW), Err(Refusal::ForeignTopic("topic".into())));
}

#[rstest]
#[case("Type", "Notice", "invalid")]
#[case("Type", "UnsubscribeConfirmation", "invalid")]
#[case("SignatureVersion", "3", "wrong_version")]
#[case("SignatureVersion", "", "wrong_version")]
#[case("Signature", "no base64", "wrong_signature")]
#[case("Signature", "", "wrong_signature")]
#[case("Signature", "AAAA", "wrong_signature")]
#[case("Timestamp", "2027-03-01T10:15:00.656Z", "wrong_signature")]
#[case("Timestamp", "2027-03-01", "invalid")]
#[case("MessageId", "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf325", "wrong_signature")]
#[case("MessageId", "1\nSubject\nx", "invalid")]
#[case("Subject", "added", "wrong_signature")]
#[case("Subject", "", "wrong_signature")]
#[case("Subject", "a\nb", "invalid")]
#[case("Message", "Hello ", "wrong_signature")]
#[case(
    "SigningCertURL",
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "foreign_url"
)]
#[case("SigningCertURL", "https://evil.example/a.pem", "foreign_url")]
fn a_message_that_was_changed_is_refused(#[case] name: &str, #[case] value: &str, #[case] label: &str) {
    let mut changed = SIGNER.notification("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "Hello");
    changed[name] = value.into();
    assert_eq!(verify(&verifier(), &changed, NOW).unwrap_err().label(), label);
    changed.as_object_mut().unwrap().remove(name);
    let without = verify(&verifier(), &changed, NOW);
    assert_eq!(without.is_ok(), name == "Subject", "without it: {without:?}");
}

#[rstest]
#[case("Token", "", "foreign_url")]
#[case("Token", "another", "foreign_url")]
#[case("SubscribeURL", "https://evil.example/", "foreign_url")]
#[case("SubscribeURL", "", "foreign_url")]
fn a_subscription_that_was_changed_is_refused(#[case] name: &str, #[case] value: &str, #[case] label: &str) {
    let mut changed = SIGNER.about("SubscriptionConfirmation");
    changed[name] = value.into();
    assert_eq!(verify(&verifier(), &changed, NOW).unwrap_err().label(), label);
    changed.as_object_mut().unwrap().remove(name);
    assert_eq!(verify(&verifier(), &changed, NOW).unwrap_err().label(), "invalid");
}

/// The signed text is lines, so what is not signed must not be able to move from one value into the next.
#[test]
fn the_lines_of_one_message_are_not_those_of_another() {
    let verifier = verifier();
    let lines = "Hello\nMessageId\n1\nSubject\ny\nTimestamp\n2027-03-01T10:15:00.655Z\nTopicArn\nx\nType\nNotification";
    assert!(verify(&verifier, &SIGNER.notification("2", lines), NOW).is_ok());
    let mut moved = SIGNER.notification("2", lines);
    (moved["Message"], moved["MessageId"]) = ("Hello".into(), "1".into());
    moved["Type"] = format!("Notification\n{}", "MessageId\n2").into();
    assert_eq!(verify(&verifier, &moved, NOW).unwrap_err().label(), "invalid");
}

#[test]
fn a_certificate_counts_for_its_own_url_and_time() {
    let verifier = verifier();
    let envelope = check(&verifier, &SIGNER.notification("1", "Hello"), NOW).unwrap();
    let elsewhere = CertificateUrl::parse(&PEM_URL.replace("f3ec", "0000"), &TOPIC.parse().unwrap()).unwrap();
    let other = Certificate::parse(&elsewhere, &pem(&SIGNER.key, &["sns.amazonaws.com"], |_| {})).unwrap();
    assert_eq!(verifier.verify(envelope.clone(), &other, at(NOW)).unwrap_err().label(), "bad_certificate");
    let ended = pem(&SIGNER.key, &["sns.amazonaws.com"], |params| params.not_after = rcgen::date_time_ymd(2027, 2, 1));
    let ended = Certificate::parse(&certificate_url(), &ended).unwrap();
    assert_eq!(verifier.verify(envelope.clone(), &ended, at(NOW)).unwrap_err().label(), "bad_certificate");
    let someone = Signer::new();
    assert_eq!(verifier.verify(envelope.clone(), &someone.certificate(), at(NOW)).unwrap_err().label(), "wrong_signature");
    let curve = rcgen::KeyPair::generate().unwrap();
    let curve = Certificate::parse(&certificate_url(), &pem(&curve, &["sns.amazonaws.com"], |_| {})).unwrap();
    assert_eq!(verifier.verify(envelope.clone(), &curve, at(NOW)).unwrap_err().label(), "wrong_signature");
    assert!(verifier.verify(envelope, &SIGNER.certificate(), at(NOW)).is_ok());
}

#[test]
fn a_message_that_is_cut_off_anywhere_is_truncated() {
    let bytes = serde_json::to_vec(&SIGNER.about("SubscriptionConfirmation")).unwrap();
    for length in 0..bytes.len() {
        let refusal = verifier().check(Body::new(&bytes[..length], Body::LIMIT).unwrap(), at(NOW)).unwrap_err();
        assert_eq!(refusal.label(), "truncated", "after {length} bytes: {refusal}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A body with one byte changed means the same or is refused.
    #[test]
    fn any_change_is_refused(index in any::<prop::sample::Index>(), to in any::<u8>()) {
        let body = serde_json::to_vec(&SIGNER.notification("1", "Hello")).unwrap();
        let index = index.index(body.len());
        let mut changed = body.clone();
        changed[index] = to;
        let verifier = verifier();
        let verified = |bytes: &[u8]| {
            let envelope = verifier.check(Body::new(bytes, Body::LIMIT).unwrap(), at(NOW)).ok()?;
            let certificate = Certificate::parse(envelope.certificate_url(), &pem(&SIGNER.key, &["sns.amazonaws.com"], |_| {})).ok()?;
            verifier.verify(envelope, &certificate, at(NOW)).ok()
        };
        if let Some(read) = verified(&changed) {
            prop_assert_eq!(Some(read), self::verifier().check(Body::new(&body, 10_000).unwrap(), at(NOW)).unwrap().into_verified());
        }
    }

    #[test]
    fn no_body_is_too_odd(bytes in any::<Vec<u8>>(), name in "[A-Z][A-Za-z]{0,16}", value in ".*") {
        let _ = verifier().check(Body::new(&bytes, Body::LIMIT).unwrap(), at(NOW));
        let mut odd = message("Notification");
        odd[name] = value.into();
        let _ = check(&verifier(), &odd, NOW);
    }
}
