//! A signer of messages, as SNS is one.

use crate::wire::webhook::sns::{Certificate, CertificateUrl};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, date_time_ymd};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";
pub const PEM_URL: &str = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem";
/// 2027-03-01T10:15:00Z
pub const NOW: u64 = 1_803_896_100;

pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub fn certificate_url() -> CertificateUrl {
    CertificateUrl::parse(PEM_URL, &TOPIC.parse().unwrap()).unwrap()
}

/// For these names, valid in 2027, with a change to it.
pub fn pem(key: &KeyPair, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2027, 1, 1), date_time_ymd(2028, 1, 1));
    params.distinguished_name.push(DnType::CommonName, "sns.amazonaws.com");
    change(&mut params);
    params.self_signed(key).unwrap().pem().into_bytes()
}

pub struct Signer {
    pub key: KeyPair,
    rsa: RsaKeyPair,
}

impl Signer {
    pub fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        Self { rsa: RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap(), key }
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::parse(&certificate_url(), &pem(&self.key, &["sns.amazonaws.com"], |_| {})).unwrap()
    }

    /// Signs those values, in that order.
    pub fn sign(&self, message: &mut Value, names: &[&str]) {
        let text: String = names.iter().map(|name| format!("{name}\n{}\n", message[*name].as_str().unwrap())).collect();
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        message["Signature"] = STANDARD.encode(signature).into();
    }

    pub fn notification(&self, id: &str, text: &str) -> Value {
        let mut message = message("Notification");
        (message["MessageId"], message["Message"]) = (id.into(), text.into());
        self.sign(&mut message, &["Message", "MessageId", "Timestamp", "TopicArn", "Type"]);
        message
    }

    /// A message of SNS itself, about a subscription.
    pub fn about(&self, kind: &str) -> Value {
        let mut message = message(kind);
        message["Token"] = "2336412f37".into();
        message["SubscribeURL"] =
            format!("https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37").into();
        self.sign(&mut message, &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]);
        message
    }
}

/// As SNS writes it, unsigned.
pub fn message(kind: &str) -> Value {
    json!({
        "Type": kind, "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "TopicArn": TOPIC, "Message": "Hello",
        "Timestamp": "2027-03-01T10:15:00.655Z", "SignatureVersion": "2", "Signature": "", "SigningCertURL": PEM_URL,
        "UnsubscribeURL": "http://169.254.169.254/latest/meta-data"
    })
}
