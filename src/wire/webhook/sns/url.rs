//! The two URLs of a payload that are ever fetched.

use crate::model::TopicArn;
use crate::wire::webhook::{Refusal, shown};
use std::fmt;
use url::Url;

/// The longest that is looked at, in bytes.
const LONGEST: usize = 2048;

/// Where SNS has a certificate: `https://sns.REGION.amazonaws.com/SimpleNotificationService-ID.pem`, in the region of the topic, and the ID has 32 hexadecimal
/// digits. In China the host ends with `.cn`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateUrl {
    text: String,
    region: String,
    domain: &'static str,
}

impl CertificateUrl {
    pub fn parse(text: &str, topic: &TopicArn) -> Result<Self, Refusal> {
        let url = of_sns(text, topic)?;
        let id = url.path().strip_prefix("/SimpleNotificationService-").and_then(|path| path.strip_suffix(".pem")).unwrap_or_default();
        if id.len() != 32 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(foreign(text, "its path is not that of a certificate of SNS"));
        }
        if url.query().is_some() {
            return Err(foreign(text, "it has a query"));
        }
        Ok(Self { text: text.to_owned(), region: topic.region().to_owned(), domain: topic.domain() })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What a certificate there may be of: `sns.amazonaws.com` in most regions, a name with the region in the others. AWS documents none of them; its SDK
    /// for Java knows them (`SnsHostProvider`).
    pub fn names(&self) -> [String; 5] {
        let Self { region, domain, .. } = self;
        // Both regions of this partition are signed for by one.
        let signs = if region.starts_with("us-gov-") { "us-gov-west-1" } else { region };
        [
            format!("sns.{domain}"),
            format!("sns.{region}.{domain}"),
            format!("sns-{region}.{domain}"),
            format!("sns-{signs}.{domain}"),
            format!("sns-signing.{region}.{domain}"),
        ]
    }
}

impl fmt::Display for CertificateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// What to GET so that a topic sends here: `https://sns.REGION.amazonaws.com/?Action=ConfirmSubscription&TopicArn=TOPIC&Token=TOKEN`.
/// Whoever has the token can do that, so it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SubscribeUrl(String);

impl SubscribeUrl {
    /// Of that topic and with that token: SNS does more than this for whoever asks at the same host.
    pub fn parse(text: &str, topic: &TopicArn, token: &str) -> Result<Self, Refusal> {
        let url = of_sns(text, topic)?;
        if url.path() != "/" {
            return Err(foreign(text, "its path is not /"));
        }
        let mut asked: Vec<_> = url.query_pairs().collect();
        asked.sort();
        let pairs = asked.iter().map(|(name, value)| (&**name, &**value));
        if !pairs.eq([("Action", "ConfirmSubscription"), ("Token", token), ("TopicArn", topic.as_str())]) {
            return Err(foreign(text, "it does not ask for a subscription to its own topic"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SubscribeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubscribeUrl(..)")
    }
}

/// Of what follows the host nothing is known yet.
fn of_sns(text: &str, topic: &TopicArn) -> Result<Url, Refusal> {
    let refused = |why| foreign(text, why);
    if text.len() > LONGEST {
        return Err(refused("it is too long"));
    }
    let url = Url::parse(text).map_err(|_| refused("it is no URL"))?;
    if url.scheme() != "https" {
        return Err(refused("it is not https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it has a user in it"));
    }
    if url.port().is_some() {
        return Err(refused("it has a port"));
    }
    if url.host_str() != Some(&format!("sns.{}.{}", topic.region(), topic.domain())) {
        return Err(refused("its host is not SNS's in the topic's region"));
    }
    if url.fragment().is_some() {
        return Err(refused("it has a fragment"));
    }
    // What a URL means is settled by then; this leaves one way of writing it, that no other reader can take for anything else.
    if url.as_str() != text {
        return Err(refused("it is not written in the plainest way"));
    }
    Ok(url)
}

/// Told without the query, where there may be a token.
fn foreign(text: &str, why: &'static str) -> Refusal {
    Refusal::ForeignUrl { url: shown(text.split('?').next().unwrap_or_default()), why }
}

#[cfg(test)]
mod tests;
