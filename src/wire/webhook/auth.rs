//! Who sent it: a bearer token (RFC 6750), or a signature over time and body.
//!
//! ```text
//! Authorization: Bearer TOKEN
//!
//! Portway-Timestamp: 1795331700                                        seconds since 1970, in decimal
//! Portway-Signature: v1=HMAC-SHA-256(KEY, TIMESTAMP "." BODY)          64 hexadecimal digits
//! ```
//!
//! A token is as good for whoever has seen it; a signature proves body and time, and counts once. Alertmanager can send a token only.

use super::replay::Replay;
use super::{Body, Refusal};
use crate::model::Secret;
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use sha2::Sha256;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use subtle::ConstantTimeEq;

pub const TIMESTAMP: HeaderName = HeaderName::from_static("portway-timestamp");
pub const SIGNATURE: HeaderName = HeaderName::from_static("portway-signature");

/// How long before and after its time a signed message counts, unless the configuration says otherwise.
pub const WINDOW: Duration = Duration::from_secs(300);
/// Signed messages remembered at once, unless the configuration says otherwise: 16 a second, and some 1 MB.
pub const REMEMBERED: usize = 10_000;

/// Bytes of a tag.
const TAG: usize = 32;

/// Tokens and keys of one entrance. Several of each count at once, so that they can be changed one side after the other.
pub struct Keys {
    tokens: Vec<Secret>,
    keys: Vec<Hmac<Sha256>>,
    taken: Replay,
}

/// By what a message was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Token,
    /// With the time that the sender gave it.
    Signature(SystemTime),
}

impl Proof {
    /// When it was sent, if that is proved.
    pub fn sent(self) -> Option<SystemTime> {
        match self {
            Self::Token => None,
            Self::Signature(at) => Some(at),
        }
    }
}

impl Keys {
    /// A token is a text of 32 to 64 characters, as a secret has that many bytes.
    /// `start` is when this process began. What was signed before may have been taken by the one before it, so it does not count.
    pub fn new(tokens: Vec<Secret>, keys: &[Secret], window: Duration, remembered: usize, start: SystemTime) -> Self {
        Self { tokens, keys: keys.iter().map(keyed).collect(), taken: Replay::new(window, remembered).beginning(start) }
    }

    /// Other tokens and keys, as after a reload; what was taken stays known.
    pub fn change(&mut self, tokens: Vec<Secret>, keys: &[Secret]) {
        self.tokens = tokens;
        self.keys = keys.iter().map(keyed).collect();
    }

    /// A signature, where there is one, has to be right even beside a token. What is refused leaves no trace in here.
    pub fn prove(&mut self, headers: &HeaderMap, body: Body<'_>, now: SystemTime) -> Result<Proof, Refusal> {
        let token = only(headers, AUTHORIZATION, BEARER_FORM)?;
        let timestamp = only(headers, TIMESTAMP, TIMESTAMP_FORM)?;
        let signature = only(headers, SIGNATURE, SIGNATURE_FORM)?;
        match (timestamp, signature) {
            (Some(timestamp), Some(signature)) if !self.keys.is_empty() => self.signed(timestamp, signature, body, now),
            (None, Some(_)) if !self.keys.is_empty() => Err(Refusal::BadHeader { header: TIMESTAMP, form: TIMESTAMP_FORM }),
            _ => self.shown(token),
        }
    }

    fn shown(&self, header: Option<&str>) -> Result<Proof, Refusal> {
        let header = header.filter(|_| !self.tokens.is_empty()).ok_or(Refusal::NoCredentials(self.wanted()))?;
        let token = bearer(header).ok_or(Refusal::BadHeader { header: AUTHORIZATION, form: BEARER_FORM })?;
        // All of them, so that the time says nothing of which it is.
        let fits = self.tokens.iter().fold(subtle::Choice::from(0), |fits, known| fits | known.expose().ct_eq(token.as_bytes()));
        if fits.into() { Ok(Proof::Token) } else { Err(Refusal::WrongToken) }
    }

    fn signed(&mut self, timestamp: &str, signature: &str, body: Body<'_>, now: SystemTime) -> Result<Proof, Refusal> {
        let at = seconds(timestamp).ok_or(Refusal::BadHeader { header: TIMESTAMP, form: TIMESTAMP_FORM })?;
        let tag = tag(signature).ok_or(Refusal::BadHeader { header: SIGNATURE, form: SIGNATURE_FORM })?;
        self.taken.in_time(at, now)?;
        let fits = |key: &Hmac<Sha256>| over(key, timestamp, body.bytes()).verify_slice(&tag).is_ok();
        if self.keys.iter().filter(|key| fits(key)).count() == 0 {
            return Err(Refusal::WrongSignature(
                "sign Portway-Timestamp, a full stop and the very bytes of the body, with the present key",
            ));
        }
        self.taken.take(at, tag, now)?;
        Ok(Proof::Signature(at))
    }

    fn wanted(&self) -> &'static str {
        match (self.tokens.is_empty(), self.keys.is_empty()) {
            (false, true) => "`Authorization: Bearer TOKEN`",
            (true, false) => "Portway-Timestamp and Portway-Signature",
            (false, false) => "`Authorization: Bearer TOKEN`, or Portway-Timestamp and Portway-Signature",
            (true, true) => "nothing more: the configuration names no token and no key for this, so nobody may",
        }
    }

    /// Signed messages that are remembered.
    pub fn remembered(&self) -> usize {
        self.taken.len()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} tokens, {} keys)", self.tokens.len(), self.keys.len())
    }
}

/// The value of [`SIGNATURE`] for a body that is sent at `at`, which is the value of [`TIMESTAMP`]: seconds since 1970.
pub fn sign(key: &Secret, at: u64, body: &[u8]) -> String {
    let tag = over(&keyed(key), &at.to_string(), body).finalize().into_bytes();
    tag.iter().fold("v1=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

const BEARER_FORM: &str = "Bearer TOKEN";
const TIMESTAMP_FORM: &str = "SECONDS, since 1970 and in decimal";
const SIGNATURE_FORM: &str = "v1=SIGNATURE, 64 hexadecimal digits in lower case";

fn keyed(key: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of every length")
}

fn over(key: &Hmac<Sha256>, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    key.clone().chain_update(timestamp).chain_update(b".").chain_update(body)
}

/// The one value of a header. Of two, whoever stands between might have checked the other.
fn only<'h>(headers: &'h HeaderMap, name: HeaderName, form: &'static str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::DuplicateHeader(name));
    }
    value.to_str().map(Some).map_err(|_| Refusal::BadHeader { header: name, form })
}

/// The token: the scheme in any case, one or more spaces, and no space in or behind it (RFC 9110 section 11.4).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(' ')?;
    let token = rest.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

/// In one way of writing only, without sign or leading zero. 11 digits last for 3,000 years.
fn seconds(text: &str) -> Option<SystemTime> {
    let digits = (1..=11).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    UNIX_EPOCH.checked_add(Duration::from_secs(text.parse().ok().filter(|_| digits)?))
}

fn tag(text: &str) -> Option<[u8; TAG]> {
    let digits = text.strip_prefix("v1=")?.as_bytes();
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(*pair.get(1)?)?)).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests;
