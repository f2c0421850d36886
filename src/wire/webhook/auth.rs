//! Who sent it: a bearer token (RFC 6750), or a signature over what it is for, to whom and when it is sent, and what it says.
//!
//! ```text
//! Authorization: Bearer TOKEN
//!
//! Portway-Key: 1                              which key: its id in the configuration, 1 to 255
//! Portway-Timestamp: 1795331700               seconds since 1970, in decimal
//! Portway-Signature: v1=TAG                   64 hexadecimal digits in lower case
//!
//! TAG = HMAC-SHA-256(KEY, TEXT), and TEXT is five lines, each with one line feed at its end, and the body:
//!
//! portway-webhook-v1                          what it is for
//! POST                                        the method
//! /v1/demand                                  the path, as it arrives; with a query `?` and the query
//! autoscaler-1                                the audience: the name of the autoscaler that shall take it
//! 1795331700                                  the time, as in Portway-Timestamp
//! {"source": "functions", "nodes": 6, ...     the bytes of the body, and nothing behind them
//! ```
//!
//! Nothing before the body can have a line feed in it, so there is one way to read such a text: no other post has the same.
//!
//! A token is as good for whoever has seen it, and says nothing of the body; Alertmanager can send no more than that. A signature proves one post to one
//! autoscaler, and counts for five minutes ([`super::Replay`] says when no more). docs/autoscaling.md has a sender in shell.
//!
//! Two steps, so that strangers cannot make us take their bodies: [`Keys::door`] looks at the head, and [`Pass::admit`] at the body. A token is proved
//! at the door; of a signature the door sees that it is there and well formed, by a key that we know, and of a time that counts.

mod signature;

pub use signature::{KEY, SIGNATURE, TIMESTAMP, sign};

use super::headers::only;
use super::replay::Mark;
use super::{Body, Refusal};
use crate::model::{AutoscalerName, Invalid, KeyId, Secret};
use hmac::{Hmac, Mac};
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::Sha256;
use signature::{KEY_FORM, SIGNATURE_FORM, TAG, TIMESTAMP_FORM, Text, keyed};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use subtle::ConstantTimeEq;

/// How far a sender's clock may be ahead of ours. Short: what was taken before a crash counts no more, and for so long nobody can tell.
pub const AHEAD: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body. Default [`Body::LIMIT`].
    pub body: usize,
    /// How long after its time a signed post counts. Default 300 s.
    pub window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: Body::LIMIT, window: Duration::from_secs(300) }
    }
}

/// Tokens and keys of one entrance. Several of each count at once, so that they can be changed one side after the other. After a reload others
/// take their place; what was taken stays known ([`super::Replay`]).
pub struct Keys {
    audience: AutoscalerName,
    tokens: Vec<Secret>,
    keys: BTreeMap<KeyId, Hmac<Sha256>>,
    limits: Limits,
}

/// Who may go on to the body.
#[must_use = "the body is to be admitted"]
pub struct Pass {
    claim: Option<Claim>,
    limit: usize,
}

/// A signature that nobody has compared yet.
struct Claim {
    /// Over all but the body.
    mac: Hmac<Sha256>,
    tag: [u8; TAG],
    key: KeyId,
    at: u64,
}

/// A body, and by what it was proved.
#[derive(Debug, Clone, Copy)]
pub struct Admitted<'b> {
    pub body: Body<'b>,
    pub proof: Proof,
}

/// By what a post was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Token,
    Signature(Signed),
}

/// A post that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    pub key: KeyId,
    /// When, by the sender's clock: seconds since 1970.
    pub at: u64,
    pub mark: Mark,
}

impl Keys {
    /// `audience` is the name of this autoscaler. A token is a text of 32 to 64 characters, as a secret has that many bytes.
    pub fn new(audience: AutoscalerName, tokens: Vec<Secret>, keys: Vec<(KeyId, Secret)>, limits: Limits) -> Result<Self, Invalid> {
        for (i, (id, key)) in keys.iter().enumerate() {
            if let Some((other, same)) = keys.iter().take(i).find(|(other, same)| other == id || same == key) {
                let what = if same == key { "are the same" } else { "have one id" };
                return Err(Invalid(format!(
                    "the keys {other} and {id} {what}: give each key an id of its own, and each id a key of its own"
                )));
            }
        }
        let keys = keys.iter().map(|(id, key)| (*id, keyed(key))).collect();
        Ok(Self { audience, tokens, keys, limits })
    }

    /// All that the head of a request tells. A signature, where there is one, has to be right even beside a token.
    pub fn door(&self, head: &Parts, now: SystemTime) -> Result<Pass, Refusal> {
        let limit = self.limits.body;
        Body::announced(&head.headers, limit)?;
        let token = only(&head.headers, AUTHORIZATION, BEARER_FORM)?;
        let key = only(&head.headers, KEY, KEY_FORM)?;
        let timestamp = only(&head.headers, TIMESTAMP, TIMESTAMP_FORM)?;
        let signature = only(&head.headers, SIGNATURE, SIGNATURE_FORM)?;
        let Some(signature) = signature.filter(|_| !self.keys.is_empty()) else {
            self.shown(token)?;
            return Ok(Pass { claim: None, limit });
        };
        let wrong = |header, form| Refusal::BadHeader { header, form };
        let tag = signature::tag(signature).ok_or(wrong(SIGNATURE, SIGNATURE_FORM))?;
        let (timestamp, at) = timestamp.and_then(|text| Some((text, signature::seconds(text)?))).ok_or(wrong(TIMESTAMP, TIMESTAMP_FORM))?;
        let key = key.and_then(signature::key_id).ok_or(wrong(KEY, KEY_FORM))?;
        let known = self.keys.get(&key).ok_or(Refusal::UnknownKey(key))?;
        self.in_time(at, now)?;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let text = Text { method: &head.method, target, audience: &self.audience, timestamp };
        Ok(Pass { claim: Some(Claim { mac: text.begin(known), tag, key, at }), limit })
    }

    fn in_time(&self, at: u64, now: SystemTime) -> Result<(), Refusal> {
        let at = UNIX_EPOCH + Duration::from_secs(at);
        let window = self.limits.window;
        match now.duration_since(at) {
            Ok(age) if age > window => Err(Refusal::Stale { age, window }),
            Err(early) if early.duration() > AHEAD => Err(Refusal::Early { ahead: early.duration(), window: AHEAD }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn shown(&self, header: Option<&str>) -> Result<(), Refusal> {
        let header = header.filter(|_| !self.tokens.is_empty()).ok_or(Refusal::NoCredentials(self.wanted()))?;
        let token = bearer(header).ok_or(Refusal::BadHeader { header: AUTHORIZATION, form: BEARER_FORM })?;
        // All of them, so that the time says nothing of which it is.
        let fits = self.tokens.iter().fold(subtle::Choice::from(0), |fits, known| fits | known.expose().ct_eq(token.as_bytes()));
        if fits.into() { Ok(()) } else { Err(Refusal::WrongToken) }
    }

    fn wanted(&self) -> &'static str {
        match (self.tokens.is_empty(), self.keys.is_empty()) {
            (false, true) => "`Authorization: Bearer TOKEN`",
            (true, false) => "Portway-Key, Portway-Timestamp and Portway-Signature",
            (false, false) => "`Authorization: Bearer TOKEN`, or Portway-Key, Portway-Timestamp and Portway-Signature",
            (true, true) => "nothing more: the configuration names no token and no key for this, so nobody may",
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} tokens, {} keys)", self.tokens.len(), self.keys.len())
    }
}

impl Pass {
    /// Bytes of the body that are to be taken at most. One more may be, to see that there are more.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether it is known already who sends it: by a token. A signature is proved by the body alone.
    pub fn is_proved(&self) -> bool {
        self.claim.is_none()
    }

    pub fn admit(self, body: &[u8]) -> Result<Admitted<'_>, Refusal> {
        let body = Body::new(body, self.limit)?;
        let proof = self.claim.map_or(Ok(Proof::Token), |claim| claim.check(body).map(Proof::Signature))?;
        Ok(Admitted { body, proof })
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.claim.is_some() { "a signature" } else { "a token" };
        write!(f, "Pass(by {by})")
    }
}

impl Claim {
    fn check(self, body: Body<'_>) -> Result<Signed, Refusal> {
        let Self { mac, tag, key, at } = self;
        let fits = mac.chain_update(body.bytes()).verify_slice(&tag).is_ok();
        if fits { Ok(Signed { key, at, mark: Mark::from(tag) }) } else { Err(Refusal::WrongSignature(REMEDY)) }
    }
}

const REMEDY: &str = "sign the lines `portway-webhook-v1`, method, path, name of this autoscaler and Portway-Timestamp, and the very bytes of the body, \
                      with the key that Portway-Key names";
const BEARER_FORM: &str = "Bearer TOKEN";

/// Whole ones; before 1970, none.
pub(super) fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The token: the scheme in any case, one or more spaces, and no space in or behind it (RFC 9110 section 11.4).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(' ')?;
    let token = rest.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

#[cfg(test)]
mod tests;
