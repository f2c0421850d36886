//! What is posted to the autoscaler: Alertmanager's webhook, the demand of a platform that knows its load ahead, and messages of Amazon SNS.
//! Here it is authenticated, read, and made into a level. Nothing is fetched here, and of what stands in a payload nothing ever is,
//! except the two URLs that [`sns`] has checked.
//!
//! ```text
//!  bytes --> Body --+--> auth::Keys --> alertmanager::Notification --> Firing ---> nodes wanted
//!          (size)   +--> auth::Keys --> demand::Demand -------------> Demands ---> nodes wanted, load to come
//!                   +--> sns::Verifier: check --(shell: certificate)--> verify --> Message --> Told (instance, hook, token)
//! ```
//!
//! A level is what holds now; it is computed from what was said last by each alert and each source. So a message that comes twice, late or
//! out of order asks for no more than it did the first time.

pub mod alertmanager;
pub mod auth;
pub mod demand;
mod refusal;
mod replay;
pub mod sns;
mod stamp;

pub use refusal::Refusal;
pub use stamp::Stamp;

use refusal::shown;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// The bytes of a request, not too many of them.
#[derive(Debug, Clone, Copy)]
pub struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    /// Bytes, unless the configuration says otherwise. SNS sends 256 KiB at most, and Alertmanager some 2 KiB for each alert.
    pub const LIMIT: usize = 256 * 1024;

    pub fn new(bytes: &'b [u8], limit: usize) -> Result<Self, Refusal> {
        if bytes.len() > limit { Err(Refusal::TooLarge { limit }) } else { Ok(Self(bytes)) }
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
mod tests {
    use super::*;
    use rstest::rstest;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Any {
        nodes: u32,
    }

    #[rstest]
    #[case("", "truncated")]
    #[case("{\"nodes\": 3", "truncated")]
    #[case("{\"nodes\": \"3", "truncated")]
    #[case("{\"nodes\": 3}}", "malformed")]
    #[case("nodes=3", "malformed")]
    #[case("{\"nodes\": -3}", "invalid")]
    #[case("{\"nodes\": 3, \"nodes\": 4}", "invalid")]
    #[case("{}", "invalid")]
    fn a_body_that_is_not_right_is_told_by_how(#[case] text: &str, #[case] label: &str) {
        let body = Body::new(text.as_bytes(), Body::LIMIT).unwrap();
        assert_eq!(body.json::<Any>("a demand").map_err(|refusal| refusal.label()), Err(label));
    }

    #[test]
    fn a_body_may_have_as_many_bytes_as_the_limit_says() {
        assert!(Body::new(&[0; 10], 10).is_ok());
        assert_eq!(Body::new(&[0; 11], 10).unwrap_err(), Refusal::TooLarge { limit: 10 });
    }

    #[test]
    fn what_a_refusal_quotes_cannot_begin_a_line_in_a_log() {
        let body = Body::new(b"{\"a\\nlevel=error\": 1}", 100).unwrap();
        let told = body.json::<Any>("a demand").unwrap_err().to_string();
        assert!(told.contains("a\\\\nlevel") || told.contains("a\\nlevel"), "{told}");
        assert!(!told.contains('\n'), "{told}");
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(Body::new(deep.as_bytes(), Body::LIMIT).unwrap().json::<serde_json::Value>("it").unwrap_err().label(), "malformed");
    }
}
