//! Messages of Amazon SNS over HTTPS (Amazon SNS Developer Guide, "Parsing message formats" and "Verifying message signatures").
//!
//! ```text
//!  body --> Verifier::check: form, topic, time, URLs --> Envelope --> Certificates: has it, or has it fetched by the shell, or will not now (503)
//!                                                                         v
//!           Verifier::verify: certificate, signature --> Verified: id, Message (Subscribe | Unsubscribed | Notification --> lifecycle::Told)
//!                                                          |
//!           Verifier::seen(id) --> 200, nothing else       +--> acted on --> Verifier::taken(id), 200
//!                                                          +--> could not be: Refusal::NotNow, 503, and SNS sends it again
//! ```
//!
//! A message is taken when it was acted on, and not before: one that we lost would not come again. So one may be acted on twice (two come at once, or this process
//! ends between acting and answering), and whatever it leads to must bear that, as completing a lifecycle action or confirming a subscription does.
//!
//! Anybody may post here: SNS has no secret of ours, so all is in the signature. Before it is verified, an envelope is good for one thing
//! only: its certificate's URL, on SNS's own host in the region of a topic that the configuration names. That the host is Amazon's is
//! shown by TLS (the shell fetches with the roots of the system and follows no redirection). SNS serves the signer's certificate without those
//! that lead to a root, so what is verified here is its name, its time and that it is no authority.

mod certificate;
mod certificates;
pub mod lifecycle;
mod taken;
mod url;

pub use certificate::{Certificate, LIMIT as CERTIFICATE_LIMIT};
pub use certificates::{Certificates, Effect, Waiter};
pub use taken::Id;
pub use url::{CertificateUrl, SubscribeUrl};

use super::{Body, Refusal, Stamp, shown};
use crate::model::TopicArn;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::fmt;
use std::time::{Duration, SystemTime};
use taken::Taken;

/// How long before and after its time a message counts, unless the configuration says otherwise. SNS tries for less than that.
pub const WINDOW: Duration = Duration::from_secs(3600);
/// Messages remembered at once, unless the configuration says otherwise.
pub const REMEMBERED: usize = 10_000;

/// Bytes of the longest signature: a key of 8,192 bits.
const LONGEST_SIGNATURE: usize = 1024;

/// A message whose form, topic, time and URLs are right. Who made it, nobody knows yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    sent: Sent,
    topic: TopicArn,
    at: SystemTime,
    signature: Vec<u8>,
    certificate_url: CertificateUrl,
    subscribe_url: Option<SubscribeUrl>,
}

/// A message that SNS has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub id: Id,
    pub message: Message,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// SNS asks whether this topic may send here. The configuration names it, so it may: GET the URL.
    Subscribe { topic: TopicArn, url: SubscribeUrl },
    /// Somebody has ended the subscription. The URL that came with it would begin it again, which nobody here asked for.
    Unsubscribed { topic: TopicArn },
    /// What somebody has published; [`lifecycle::Told::read`] knows some of it.
    Notification { topic: TopicArn, id: String, text: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Kind {
    SubscriptionConfirmation,
    UnsubscribeConfirmation,
    Notification,
}

/// As it is sent. Unknown keys are ignored (`UnsubscribeURL`, `MessageAttributes`); they are not signed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sent {
    #[serde(rename = "Type")]
    kind: Kind,
    message_id: String,
    topic_arn: String,
    subject: Option<String>,
    message: String,
    timestamp: String,
    signature_version: String,
    signature: String,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: String,
    token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
}

/// Without the token, and without what somebody has published.
impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sent({} {:?})", self.kind(), self.message_id)
    }
}

impl Sent {
    fn kind(&self) -> &'static str {
        match self.kind {
            Kind::SubscriptionConfirmation => "SubscriptionConfirmation",
            Kind::UnsubscribeConfirmation => "UnsubscribeConfirmation",
            Kind::Notification => "Notification",
        }
    }

    /// Names and values that are signed, in the order in which they are.
    fn signed(&self) -> Vec<(&'static str, &str)> {
        let always = [("MessageId", self.message_id.as_str()), ("Timestamp", &self.timestamp), ("TopicArn", &self.topic_arn)];
        let some = match self.kind {
            Kind::Notification => vec![("Subject", self.subject.as_deref())],
            Kind::SubscriptionConfirmation | Kind::UnsubscribeConfirmation => {
                vec![("SubscribeURL", self.subscribe_url.as_deref()), ("Token", self.token.as_deref())]
            }
        };
        let some = some.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut all: Vec<_> = always.into_iter().chain(some).chain([("Message", self.message.as_str()), ("Type", self.kind())]).collect();
        all.sort_unstable();
        all
    }

    /// The string to sign: each name and each value on a line of its own.
    ///
    /// The message alone may have line breaks, which [`Sent::checked`] sees to. So there is one way only to read such a string: nobody can take the signature
    /// of one message for another that has the same lines.
    fn to_sign(&self) -> String {
        self.signed().into_iter().flat_map(|(name, value)| [name, "\n", value, "\n"]).collect()
    }

    fn checked(self) -> Result<Self, Refusal> {
        if let Some((name, _)) = self.signed().into_iter().find(|(name, value)| *name != "Message" && value.contains(char::is_control)) {
            return Err(Refusal::Invalid(format!("{name} has control characters, which SNS never writes there")));
        }
        let missing = match self.kind {
            Kind::Notification => None,
            Kind::SubscriptionConfirmation | Kind::UnsubscribeConfirmation if self.token.is_none() => Some("Token"),
            Kind::SubscriptionConfirmation | Kind::UnsubscribeConfirmation => self.subscribe_url.is_none().then_some("SubscribeURL"),
        };
        match missing {
            Some(name) => Err(Refusal::Invalid(format!("a {} of SNS without {name}: it must be there", self.kind()))),
            None => Ok(self),
        }
    }

    fn algorithm(&self) -> Result<&'static RsaParameters, Refusal> {
        match self.signature_version.as_str() {
            "1" => Ok(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
            "2" => Ok(&RSA_PKCS1_2048_8192_SHA256),
            other => {
                Err(Refusal::WrongVersion { what: "the signature of SNS", found: shown(other), known: "SignatureVersion 1, or better 2" })
            }
        }
    }
}

impl Envelope {
    fn parse(body: Body<'_>) -> Result<Self, Refusal> {
        let sent = body.json::<Sent>("a message of SNS (is raw message delivery off?)")?.checked()?;
        sent.algorithm()?;
        let topic: TopicArn = sent.topic_arn.parse().map_err(|_| Refusal::ForeignTopic(shown(&sent.topic_arn)))?;
        let Stamp(at) = sent.timestamp.clone().try_into().map_err(|told: String| Refusal::Invalid(shown(&format!("Timestamp: {told}"))))?;
        let decoded = STANDARD.decode(&sent.signature).ok().filter(|signature| signature.len() <= LONGEST_SIGNATURE);
        let signature = decoded.ok_or(Refusal::WrongSignature("Signature is no base64 of at most 1024 bytes"))?;
        let certificate_url = CertificateUrl::parse(&sent.signing_cert_url, &topic)?;
        let subscribe_url = match (sent.kind, &sent.subscribe_url, &sent.token) {
            (Kind::SubscriptionConfirmation, Some(url), Some(token)) => Some(SubscribeUrl::parse(url, &topic, token)?),
            _ => None,
        };
        Ok(Self { sent, topic, at, signature, certificate_url, subscribe_url })
    }

    /// Where the signer's certificate is: all that an envelope is good for before it is verified.
    pub fn certificate_url(&self) -> &CertificateUrl {
        &self.certificate_url
    }

    fn into_verified(self) -> Option<Verified> {
        let id = Id::new(self.at, &self.sent.message_id);
        let topic = self.topic;
        let message = match self.sent.kind {
            Kind::SubscriptionConfirmation => Message::Subscribe { topic, url: self.subscribe_url? },
            Kind::UnsubscribeConfirmation => Message::Unsubscribed { topic },
            Kind::Notification => Message::Notification { topic, id: self.sent.message_id, text: self.sent.message },
        };
        Some(Verified { id, message })
    }
}

/// The topics that may send here, and what was taken of them.
#[derive(Debug)]
pub struct Verifier {
    topics: Vec<TopicArn>,
    taken: Taken,
}

impl Verifier {
    pub fn new(topics: Vec<TopicArn>, window: Duration, remembered: usize) -> Self {
        Self { topics, taken: Taken::new(window, remembered) }
    }

    /// Other topics, as after a reload; what was taken stays known.
    pub fn change(&mut self, topics: Vec<TopicArn>) {
        self.topics = topics;
    }

    /// All that can be refused without the certificate.
    pub fn check(&self, body: Body<'_>, now: SystemTime) -> Result<Envelope, Refusal> {
        let envelope = Envelope::parse(body)?;
        if !self.topics.contains(&envelope.topic) {
            return Err(Refusal::ForeignTopic(envelope.topic.to_string()));
        }
        self.taken.in_time(envelope.at, now)?;
        Ok(envelope)
    }

    pub fn verify(&self, envelope: Envelope, certificate: &Certificate, now: SystemTime) -> Result<Verified, Refusal> {
        if *certificate.url() != envelope.certificate_url {
            return Err(Refusal::BadCertificate("it is of another URL than the message names".into()));
        }
        certificate.valid_at(now)?;
        let key = UnparsedPublicKey::new(envelope.sent.algorithm()?, certificate.key());
        if key.verify(envelope.sent.to_sign().as_bytes(), &envelope.signature).is_err() {
            return Err(Refusal::WrongSignature("SNS did not sign this, or it was changed on its way"));
        }
        envelope.into_verified().ok_or(Refusal::Invalid("a SubscriptionConfirmation of SNS without SubscribeURL".into()))
    }

    /// Whether it was acted on. SNS sends again what was not answered by 2xx, under the same id: answer 200, and do nothing.
    pub fn seen(&self, id: &Id) -> bool {
        self.taken.contains(id)
    }

    /// It was acted on.
    pub fn taken(&mut self, id: Id, now: SystemTime) {
        self.taken.insert(id, now);
    }

    /// Messages that are remembered.
    pub fn remembered(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests;
