//! What is signed, and how the headers of a signature are written.

use crate::model::{AutoscalerName, KeyId, Secret};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, Method};
use sha2::Sha256;

pub const KEY: HeaderName = HeaderName::from_static("portway-key");
pub const TIMESTAMP: HeaderName = HeaderName::from_static("portway-timestamp");
pub const SIGNATURE: HeaderName = HeaderName::from_static("portway-signature");

pub(super) const KEY_FORM: &str = "ID, 1 to 255 in decimal";
pub(super) const TIMESTAMP_FORM: &str = "SECONDS, since 1970 and in decimal";
pub(super) const SIGNATURE_FORM: &str = "v1=SIGNATURE, 64 hexadecimal digits in lower case";

/// Bytes of a tag.
pub(super) const TAG: usize = 32;

/// What it is for, so that a signature counts for nothing else that a key may be used for; and the version of the text.
const PURPOSE: &str = "portway-webhook-v1";

/// What is signed before the body.
pub(super) struct Text<'t> {
    pub method: &'t Method,
    /// Path and query.
    pub target: &'t str,
    pub audience: &'t AutoscalerName,
    pub timestamp: &'t str,
}

impl Text<'_> {
    /// The body is still to come.
    pub fn begin(&self, key: &Hmac<Sha256>) -> Hmac<Sha256> {
        let lines = [PURPOSE, self.method.as_str(), self.target, self.audience.as_str(), self.timestamp];
        lines.into_iter().fold(key.clone(), |mac, line| mac.chain_update(line).chain_update(b"\n"))
    }
}

pub(super) fn keyed(key: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of every length")
}

/// The value of [`SIGNATURE`] for a body that is sent at `at`, which is the value of [`TIMESTAMP`]. `target` is path and query.
pub fn sign(key: &Secret, method: &Method, target: &str, audience: &AutoscalerName, at: u64, body: &[u8]) -> String {
    let text = Text { method, target, audience, timestamp: &at.to_string() };
    let tag = text.begin(&keyed(key)).chain_update(body).finalize().into_bytes();
    tag.iter().fold("v1=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// In one way of writing only, without sign or leading zero.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

/// 11 digits last for 3,000 years.
pub(super) fn seconds(text: &str) -> Option<u64> {
    decimal(text).filter(|_| text.len() <= 11)
}

pub(super) fn key_id(text: &str) -> Option<KeyId> {
    KeyId::try_from(u8::try_from(decimal(text)?).ok()?).ok()
}

pub(super) fn tag(text: &str) -> Option<[u8; TAG]> {
    let digits = text.strip_prefix("v1=")?.as_bytes();
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(*pair.get(1)?)?)).collect::<Option<_>>()?;
    bytes.try_into().ok()
}
