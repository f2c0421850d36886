//! What is posted to the autoscaler: Alertmanager's webhook, the demand of a platform that knows its load ahead, and messages of Amazon SNS.
//! Here it is authenticated, read, and made into levels. Nothing is fetched here, and of what stands in a payload nothing ever is,
//! except the two URLs that [`sns`] has checked.
//!
//! ```text
//!  head --> auth::Keys::door --> Pass --(shell: takes the body, up to Pass::limit)--> Pass::admit --> body, proof
//!             | refused before a body is taken                                                          |
//!                                                                                                       v
//!        Said <--- demand::Demand::said <---------------- Replay::ask: was it taken, or something later? --> Again: 200
//!         |  ^---- alertmanager::Order::take
//!         v
//!        (shell: to the autoscaler) --> it was acted on: Replay::taken, 200
//!
//!  body --> sns::Verifier::check --> sns::Certificates --(shell: fetches)--> Verifier::verify --> seen? 200
//!                                                                                                  | no
//!                                                    it was acted on: Verifier::taken, 200 <-------+-------> not now: 503
//! ```
//!
//! A level is what holds now ([`Said`]), said of a source; the autoscaler keeps the levels, and nothing here does. What is remembered here says what is old:
//! what was taken of those who sign ([`Replay`]) and of SNS, and when alerts began and ended ([`alertmanager::Order`]). So a message that comes twice, late
//! or out of order asks for no more than it did the first time. It is remembered after it was acted on: what could not be is answered by 503, and counts when
//! it is sent again.

pub mod alertmanager;
pub mod auth;
pub mod demand;
mod headers;
mod level;
pub mod order;
mod refusal;
mod replay;
pub mod sns;
mod stamp;

pub use level::{Figures, Level, NODES, Said, Source};
pub use refusal::Refusal;
pub use replay::{Novelty, Replay, Saved, Subject};
pub use stamp::Stamp;

use headers::only;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use refusal::shown;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Where demands are posted.
pub const DEMAND: &str = "/v1/demand";
/// Where Alertmanager posts.
pub const ALERTS: &str = "/v1/alerts";
/// Where SNS posts.
pub const SNS: &str = "/v1/sns";

/// The bytes of a request, not too many of them.
#[derive(Debug, Clone, Copy)]
pub struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    /// Bytes, unless the configuration says otherwise. SNS sends 256 KiB at most, and Alertmanager some 2 KiB for each alert.
    pub const LIMIT: usize = 256 * 1024;

    pub fn new(bytes: &'b [u8], limit: usize) -> Result<Self, Refusal> {
        if bytes.len() > limit { Err(Refusal::TooLarge { limit }) } else { Ok(Self(bytes)) }
    }

    /// What the head says of its length (RFC 9110 section 8.6), so that nothing is taken of a body that is too long. It may say nothing.
    pub fn announced(headers: &HeaderMap, limit: usize) -> Result<(), Refusal> {
        const FORM: &str = "BYTES, in decimal";
        let Some(length) = only(headers, CONTENT_LENGTH, FORM)? else { return Ok(()) };
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::BadHeader { header: CONTENT_LENGTH, form: FORM });
        }
        // What is no number then is too great for one.
        if length.parse::<usize>().is_ok_and(|length| length <= limit) { Ok(()) } else { Err(Refusal::TooLarge { limit }) }
    }

    pub fn bytes(self) -> &'b [u8] {
        self.0
    }

    /// `what` begins the sentence about a value that is not right: "a demand".
    fn json<T: DeserializeOwned>(self, what: &str) -> Result<T, Refusal> {
        serde_json::from_slice(self.0).map_err(|error| {
            let told = shown(&error.to_string());
            match error.classify() {
                Category::Eof => Refusal::Truncated(told),
                Category::Syntax | Category::Io => Refusal::Malformed(told),
                Category::Data => Refusal::Invalid(format!("{what} is not as it must be: {told}")),
            }
        })
    }
}

#[cfg(test)]
mod tests;
