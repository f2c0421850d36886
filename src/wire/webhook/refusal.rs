//! Why something that was sent to us does not count.

use crate::model::KeyId;
use http::HeaderName;
use std::time::Duration;

/// Every refusal is counted under its label, answered with its status, and told in a sentence that says how to mend it. What comes from the
/// sender stands in it cut short and without control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the body has more than {limit} bytes: send less at once (Alertmanager: `max_alerts`)")]
    TooLarge { limit: usize },
    #[error("the body ends in the middle: send the whole of it ({0})")]
    Truncated(String),
    #[error("the body is no JSON: {0}")]
    Malformed(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{what} is of version {found:?}: send {known}")]
    WrongVersion { what: &'static str, found: String, known: &'static str },
    #[error("the header {0} is there more than once: send it once")]
    DuplicateHeader(HeaderName),
    #[error("the header {header} is missing or not understood: write it as `{form}`")]
    BadHeader { header: HeaderName, form: &'static str },
    #[error("nothing says who sent it: send {0}")]
    NoCredentials(&'static str),
    #[error("the token is none of ours: send one of those that the configuration names")]
    WrongToken,
    #[error("the key {0} is none of ours: send the id of one that the configuration names")]
    UnknownKey(KeyId),
    #[error("the signature is wrong: {0}")]
    WrongSignature(&'static str),
    #[error("it is {} s old and counts for {} s: sign it when it is sent, and see that both clocks are right", .age.as_secs(), .window.as_secs())]
    Stale { age: Duration, window: Duration },
    #[error("it is {} s ahead of the clock here, {} s are allowed: see that both clocks are right", .ahead.as_secs(), .window.as_secs())]
    Early { ahead: Duration, window: Duration },
    #[error("whether it was taken before is not known here any more, or not yet: make it anew, with the present time, in {} s", super::auth::AHEAD.as_secs())]
    Forgotten,
    #[error("something later of {subject} was taken already: send the present state, signed anew")]
    Replayed { subject: String },
    #[error("{limit} posts of {subject} were taken of this second and there is no room for more: sign it again in a second")]
    TooMany { limit: usize, subject: String },
    #[error("the alert {alert} is over, and this is from before its end: if it fires again, send it again in {} s", .left.as_secs())]
    Overtaken { alert: String, left: Duration },
    #[error("not now, and it is no fault of the sender's: {0}: send it again")]
    NotNow(String),
    #[error("the URL {url} is not followed, {why}: only those of `https://sns.REGION.amazonaws.com` in the topic's region are")]
    ForeignUrl { url: String, why: &'static str },
    #[error("the topic {0} is none of ours: add it to the configuration, or end the subscription")]
    ForeignTopic(String),
    #[error("the signer's certificate is not good: {0}")]
    BadCertificate(String),
}

impl Refusal {
    /// All labels, so that each counter is there from the beginning.
    pub const LABELS: [&'static str; 21] = [
        "too_large",
        "truncated",
        "malformed",
        "invalid",
        "wrong_version",
        "duplicate_header",
        "bad_header",
        "no_credentials",
        "wrong_token",
        "unknown_key",
        "wrong_signature",
        "stale",
        "early",
        "forgotten",
        "replayed",
        "too_many",
        "overtaken",
        "not_now",
        "foreign_url",
        "foreign_topic",
        "bad_certificate",
    ];

    /// What it is counted under.
    pub fn label(&self) -> &'static str {
        self.class().0
    }

    /// The status of the answer (RFC 9110 section 15). Alertmanager and SNS send again after 5xx, and not after 4xx.
    pub fn status(&self) -> u16 {
        self.class().1
    }

    fn class(&self) -> (&'static str, u16) {
        match self {
            Self::TooLarge { .. } => ("too_large", 413),
            Self::Truncated(_) => ("truncated", 400),
            Self::Malformed(_) => ("malformed", 400),
            Self::Invalid(_) => ("invalid", 400),
            Self::WrongVersion { .. } => ("wrong_version", 400),
            Self::DuplicateHeader(_) => ("duplicate_header", 400),
            Self::BadHeader { .. } => ("bad_header", 400),
            Self::NoCredentials(_) => ("no_credentials", 401),
            Self::WrongToken => ("wrong_token", 401),
            Self::UnknownKey(_) => ("unknown_key", 401),
            Self::WrongSignature(_) => ("wrong_signature", 401),
            Self::Stale { .. } => ("stale", 401),
            Self::Early { .. } => ("early", 401),
            Self::Forgotten => ("forgotten", 401),
            Self::Replayed { .. } => ("replayed", 409),
            Self::TooMany { .. } => ("too_many", 429),
            Self::Overtaken { .. } => ("overtaken", 503),
            Self::NotNow(_) => ("not_now", 503),
            Self::ForeignUrl { .. } => ("foreign_url", 403),
            Self::ForeignTopic(_) => ("foreign_topic", 403),
            Self::BadCertificate(_) => ("bad_certificate", 403),
        }
    }
}

/// The longest piece of what somebody sent that a refusal shows, in characters.
const SHOWN: usize = 160;

/// What somebody sent, safe to log: cut short, and escaped what would begin a line or hide one.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        match c {
            _ if count == SHOWN => {
                shown.push_str("...");
                break;
            }
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::AUTHORIZATION;
    use std::collections::BTreeSet;

    fn one_of_each() -> Vec<Refusal> {
        let (age, window) = (Duration::from_secs(400), Duration::from_secs(300));
        vec![
            Refusal::TooLarge { limit: 10 },
            Refusal::Truncated("line 1".into()),
            Refusal::Malformed("line 1".into()),
            Refusal::Invalid("send `nodes`".into()),
            Refusal::WrongVersion { what: "the body", found: "3".into(), known: "\"4\"" },
            Refusal::DuplicateHeader(AUTHORIZATION),
            Refusal::BadHeader { header: AUTHORIZATION, form: "Bearer TOKEN" },
            Refusal::NoCredentials("a token"),
            Refusal::WrongToken,
            Refusal::UnknownKey(KeyId::try_from(7).expect("an id")),
            Refusal::WrongSignature("sign it"),
            Refusal::Stale { age, window },
            Refusal::Early { ahead: age, window },
            Refusal::Forgotten,
            Refusal::Replayed { subject: "demand/functions".into() },
            Refusal::TooMany { limit: 10, subject: "demand/functions".into() },
            Refusal::Overtaken { alert: "SaleBegins".into(), left: window },
            Refusal::NotNow("the certificate could not be fetched".into()),
            Refusal::ForeignUrl { url: "http://evil.example".into(), why: "it is not https" },
            Refusal::ForeignTopic("arn".into()),
            Refusal::BadCertificate("it ended".into()),
        ]
    }

    #[test]
    fn each_has_a_label_of_its_own_a_status_and_a_remedy() {
        let labels: Vec<_> = one_of_each().iter().map(Refusal::label).collect();
        assert_eq!(labels, Refusal::LABELS);
        assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len());
        for refusal in one_of_each() {
            assert!((400..=599).contains(&refusal.status()), "{refusal}");
            assert!(!refusal.to_string().ends_with('.') && !refusal.to_string().contains('\n'), "{refusal}");
        }
        assert_eq!(
            Refusal::Stale { age: Duration::from_secs(400), window: Duration::from_secs(300) }.to_string(),
            "it is 400 s old and counts for 300 s: sign it when it is sent, and see that both clocks are right"
        );
    }

    #[test]
    fn what_somebody_sent_is_shown_short_and_on_one_line() {
        assert_eq!(shown("a\nlevel=error\u{1b}[2J\u{202e}"), "a\\nlevel=error\\u{1b}[2J\\u{202e}");
        assert_eq!(shown(&"x".repeat(1000)), format!("{}...", "x".repeat(160)));
    }
}
