//! Messages of SNS, signed by a certificate of the test's own, which is served by a host of SNS that the test stands in for.

use super::support::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portway::autoscaler::Reach;
use portway::config::Tls;
use portway::daemon::http::{self, Certificate, Listener};
use portway::lab::secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

const HOST: &str = "sns.us-west-2.amazonaws.com";
const FILE: &str = "/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem";
const TOKEN_OF_SNS: &str = "2336412f37";

/// What it was asked for.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// SNS in the topic's region.
struct Amazon {
    asked: Asked,
    reach: Reach,
    rsa: RsaKeyPair,
    _dir: tempfile::TempDir,
    end: CancellationToken,
}

impl Amazon {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let (issuer, leaf) = (Issuer::new(params, key), KeyPair::generate().unwrap());
        let server = CertificateParams::new(vec![HOST.into()]).unwrap().signed_by(&leaf, &issuer).unwrap();
        let tls = Tls { certificate: dir.path().join("leaf.pem"), key: dir.path().join("leaf.key") };
        std::fs::write(&tls.certificate, server.pem()).unwrap();
        secret(&tls.key, &leaf.serialize_pem()).unwrap();

        let signer = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let mut params = CertificateParams::new(vec!["sns.amazonaws.com".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "sns.amazonaws.com");
        let pem = params.self_signed(&signer).unwrap().pem();
        let asked = Asked::default();
        let file = |State((asked, pem)): State<(Asked, String)>| async move {
            asked.note(FILE.into());
            pem
        };
        let confirm =
            |State((asked, _)): State<(Asked, String)>, RawQuery(query): RawQuery| async move { asked.note(query.unwrap_or_default()) };
        let routes = Router::new().route(FILE, get(file)).route("/", get(confirm)).with_state((asked.clone(), pem));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (certificate, end) = (Arc::new(Certificate::load(&tls).unwrap()), CancellationToken::new());
        tokio::spawn(http::serve(Listener::Tcp(listener, Some(certificate)), 10, routes, end.clone()));
        let roots = Some(vec![reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap()]);
        let reach = Reach { hosts: vec![(HOST.into(), at)], roots };
        Self { asked, reach, rsa: RsaKeyPair::from_pkcs8(&signer.serialize_der()).unwrap(), _dir: dir, end }
    }

    fn sign(&self, mut message: Value, names: &[&str]) -> Value {
        let text: String = names.iter().map(|name| format!("{name}\n{}\n", message[*name].as_str().unwrap())).collect();
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        message["Signature"] = STANDARD.encode(signature).into();
        message
    }

    fn notification(&self, id: &str, text: &str) -> Value {
        let message = message("Notification", id, text);
        self.sign(message, &["Message", "MessageId", "Timestamp", "TopicArn", "Type"])
    }

    fn confirmation(&self) -> Value {
        let mut message = message("SubscriptionConfirmation", "c1", "You have chosen to subscribe");
        message["Token"] = TOKEN_OF_SNS.into();
        message["SubscribeURL"] = format!("https://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN_OF_SNS}").into();
        self.sign(message, &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"])
    }
}

fn message(kind: &str, id: &str, text: &str) -> Value {
    json!({
        "Type": kind, "MessageId": id, "TopicArn": TOPIC, "Message": text, "SignatureVersion": "2", "Signature": "",
        "Timestamp": OffsetDateTime::now_utc().format(&Rfc3339).unwrap(), "SigningCertURL": format!("https://{HOST}{FILE}"),
    })
}

/// What a hook publishes when an instance waits in it.
fn waits(instance: &str, group: &str, hook: &str) -> String {
    let text = json!({
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING", "EC2InstanceId": instance, "AutoScalingGroupName": group,
        "LifecycleHookName": hook, "LifecycleActionToken": "71514b9d-6a40-4b26-8523-05e7ee35fa40",
    });
    text.to_string()
}

async fn post(bed: &Bed, message: &Value) -> (u16, String) {
    let (status, told) = answer(bed.request("/v1/sns", &message.to_string())).await;
    (status, told["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_named_is_subscribed_to_once_and_its_messages_are_taken_once() {
    let amazon = Amazon::new().await;
    let bed = Bed::with(json!({}), &amazon.reach).await;
    let confirmation = amazon.confirmation();
    for _ in 0..2 {
        assert_eq!(post(&bed, &confirmation).await, (200, String::new()));
    }
    let query = format!("Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN_OF_SNS}");
    assert_eq!(amazon.asked.all(), [FILE.to_owned(), query], "the certificate once, and the subscription once");
    let waits = amazon.notification("n1", &waits("i-0123456789abcdef0", "gateways", "drain"));
    for _ in 0..2 {
        assert_eq!(post(&bed, &waits).await, (200, String::new()));
    }
    assert_eq!(bed.metric("portway_webhook_lifecycle_messages_total{result=\"unknown\"}").await, 1.0);
    assert_eq!(bed.metric("portway_webhook_subscriptions_total").await, 1.0);
    assert_eq!(bed.metric("portway_webhook_certificate_fetches_total{result=\"begun\"}").await, 1.0);
    amazon.end.cancel();
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sns_has_not_signed_counts_for_nothing_and_nothing_else_is_fetched() {
    let amazon = Amazon::new().await;
    let bed = Bed::with(json!({}), &amazon.reach).await;
    let good = amazon.notification("n1", "as it was signed");
    let with = |name: &str, value: &str| {
        let mut message = good.clone();
        message[name] = value.into();
        message
    };
    let cases = [
        (with("Message", "as it was not"), 401, "wrong_signature"),
        (with("TopicArn", "arn:aws:sns:us-west-2:123456789012:Other"), 403, "foreign_topic"),
        (with("SigningCertURL", "https://sns.us-west-2.amazonaws.com.evil.example/a.pem"), 403, "foreign_url"),
        (with("SigningCertURL", "http://169.254.169.254/latest/meta-data"), 403, "foreign_url"),
        (with("SignatureVersion", "3"), 400, "wrong_version"),
        (with("Timestamp", "2012-05-02T00:54:06.655Z"), 401, "stale"),
    ];
    for (message, status, code) in cases {
        assert_eq!(post(&bed, &message).await, (status, code.to_owned()));
        assert!(bed.metric(&format!("portway_webhook_refused_total{{reason=\"{code}\"}}")).await >= 1.0);
    }
    assert_eq!(amazon.asked.all(), [FILE]);
    assert_eq!(post(&bed, &good).await.0, 200);
    amazon.end.cancel();
    bed.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_sns_by_its_tls_is_asked_for_nothing() {
    let (amazon, other) = (Amazon::new().await, Amazon::new().await);
    // The name leads to somebody whom another authority has certified.
    let reach = Reach { hosts: other.reach.hosts.clone(), roots: amazon.reach.roots.clone() };
    let bed = Bed::with(json!({}), &reach).await;
    assert_eq!(post(&bed, &other.notification("n1", "mine")).await, (503, "not_now".into()));
    assert!(other.asked.all().is_empty());
    assert_eq!(bed.metric("portway_webhook_certificate_fetches_total{result=\"failed\"}").await, 1.0);
    bed.running.stop().await;
}

#[cfg(feature = "aws")]
#[test]
fn an_instance_that_waits_is_seen_at_once() {
    use portway::lab::cloud::{ACCESS_KEY, Cloud, Hook};
    use std::time::{Duration, Instant};

    let nowhere = std::env::temp_dir().join("none").join("at-all");
    let nowhere = nowhere.to_str().unwrap();
    let environment = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", "of-the-lab"), ("AWS_EC2_METADATA_DISABLED", "true")];
    for (name, value) in environment.into_iter().chain([("AWS_CONFIG_FILE", nowhere), ("AWS_SHARED_CREDENTIALS_FILE", nowhere)]) {
        // SAFETY: each test has a process of its own, and in this one nobody else reads the environment yet.
        unsafe { std::env::set_var(name, value) };
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (amazon, cloud) = (Amazon::new().await, Cloud::start().await.unwrap());
        let hook = Hook { name: "drain".into(), timeout: Duration::from_secs(60) };
        cloud.group("gateways", (1, 10), 3, Duration::ZERO, Some(hook));
        let aws = json!({ "group": "gateways", "region": "us-west-2", "hook": "drain", "endpoint": cloud.endpoint, "look": "15s" });
        let bed = Bed::with(json!({ "actuator": { "aws": aws } }), &amazon.reach).await;
        bed.until("the group is known", |status| status["actuator"]["group"]["desired"] == 3).await;
        assert_eq!(cloud.called("DescribeAutoScalingGroups"), 1);
        cloud.desire("gateways", 2);
        let (oldest, _) = cloud.instances("gateways")[0].clone();

        // Of another group, or hook: nobody looks.
        for (id, group, hook) in [("n1", "others", "drain"), ("n2", "gateways", "other")] {
            assert_eq!(post(&bed, &amazon.notification(id, &waits(&oldest, group, hook))).await.0, 200);
        }
        assert_eq!(bed.metric("portway_webhook_lifecycle_messages_total{result=\"unknown\"}").await, 2.0);
        assert_eq!(cloud.called("DescribeAutoScalingGroups"), 1);

        let told = Instant::now();
        assert_eq!(post(&bed, &amazon.notification("n3", &waits(&oldest, "gateways", "drain"))).await.0, 200);
        bed.until("it leaves", |status| status["actuator"]["leaving"][0]["instance"] == oldest.as_str()).await;
        assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
        assert_eq!(bed.metric("portway_webhook_lifecycle_messages_total{result=\"looked\"}").await, 1.0);
        amazon.end.cancel();
        bed.running.stop().await;
    });
}
