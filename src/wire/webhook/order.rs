//! What an autoscaler posts to whoever runs the nodes, signed as [`super::auth`] says, and what it reads of the answer.

use super::auth::{KEY, SIGNATURE, TIMESTAMP, sign};
use super::refusal::shown;
use crate::model::{AutoscalerName, KeyId, Secret};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

/// Who gets an order once more, with the same of these, has it already.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// So many nodes there shall be: a level. Whoever has taken one with a higher serial does not take it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Higher than that of all orders before.
    pub serial: u64,
    pub wanted: u32,
    /// Never fewer, and never more; as configured.
    pub min: u32,
    pub max: u32,
    /// How many were wanted before.
    pub from: u32,
    /// In words.
    pub reason: String,
    /// When it was ordered: seconds since 1970.
    pub time: u64,
}

/// Who signs, and for whom.
#[derive(Debug, Clone)]
pub struct Signer {
    /// Whose orders they are.
    pub name: AutoscalerName,
    pub audience: AutoscalerName,
    pub key: (KeyId, Secret),
}

impl Order {
    /// Always the same bytes.
    pub fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Signer {
    /// The headers of a post to `target`, path and query, that is sent at `now`, seconds since 1970. Two posts of one order differ in time and signature alone.
    pub fn headers(&self, order: &Order, target: &str, now: u64, body: &[u8]) -> HeaderMap {
        let (id, key) = &self.key;
        let signature = sign(key, &Method::POST, target, &self.audience, now, body);
        let idempotency = format!("{}-{}-{}", self.name, order.serial, order.time);
        let texts = [(KEY, id.to_string()), (TIMESTAMP, now.to_string()), (SIGNATURE, signature), (IDEMPOTENCY_KEY, idempotency)];
        let values = texts.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?)));
        values.chain([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]).collect()
    }
}

/// How many the receiver says are ordered now, if it says so: `{"ordered": 6}`. More than `max` it was never asked for, and what would follow from that costs: it says nothing.
pub fn ordered(answer: &[u8], max: u32) -> Option<u32> {
    #[derive(Deserialize)]
    struct Answer {
        ordered: u32,
    }
    serde_json::from_slice(answer).ok().map(|Answer { ordered }| ordered).filter(|ordered| *ordered <= max)
}

/// What the receiver says beside its status, safe to log; empty if that is nothing.
pub fn said(answer: &[u8]) -> String {
    shown(String::from_utf8_lossy(answer).trim())
}

#[cfg(test)]
mod tests {
    use super::super::Refusal;
    use super::super::auth::{Keys, Limits, Proof};
    use super::*;
    use http::Request;
    use std::time::{Duration, UNIX_EPOCH};

    const NOW: u64 = 1_795_331_700;

    fn order() -> Order {
        Order { serial: NOW, wanted: 6, min: 2, max: 10, from: 4, reason: "75 % is used".into(), time: NOW }
    }

    fn signer() -> Signer {
        let key = (KeyId::try_from(3).unwrap(), Secret::new(&[7; 32]).unwrap());
        Signer { name: "eu-1".parse().unwrap(), audience: "functions".parse().unwrap(), key }
    }

    /// As somebody called `audience` finds it.
    fn admitted(audience: &str, target: &str, at: u64, body: &[u8]) -> Result<Proof, Refusal> {
        let keys = Keys::new(audience.parse().unwrap(), vec![], vec![signer().key], Limits::default()).unwrap();
        let mut request = Request::post("/scale?pool=a").body(()).unwrap();
        *request.headers_mut() = signer().headers(&order(), target, at, &order().body());
        let now = UNIX_EPOCH + Duration::from_secs(NOW + 20);
        keys.door(&request.into_parts().0, now)?.admit(body).map(|admitted| admitted.proof)
    }

    #[test]
    fn it_is_signed_for_one_receiver_one_place_one_time_and_one_body() {
        let (target, body) = ("/scale?pool=a", order().body());
        assert!(matches!(admitted("functions", target, NOW, &body), Ok(Proof::Signature(signed)) if signed.at == NOW));
        let other = Order { wanted: 60, ..order() }.body();
        for refused in [
            admitted("others", target, NOW, &body),
            admitted("functions", "/scale", NOW, &body),
            admitted("functions", target, NOW, &other),
        ] {
            assert_eq!(refused.unwrap_err().label(), "wrong_signature");
        }
        assert_eq!(admitted("functions", target, NOW - 400, &body).unwrap_err().label(), "stale");
    }

    #[test]
    fn it_stands_in_the_documents_as_it_is() {
        let documents = include_str!("../../../docs/autoscaling.md");
        let body = String::from_utf8(order().body()).unwrap();
        assert!(documents.contains(&body), "{body}");
        let headers = signer().headers(&order(), "/", NOW, b"");
        let key = headers[IDEMPOTENCY_KEY].to_str().unwrap();
        assert!(documents.contains(&format!("Idempotency-Key: {key}")), "{key}");
    }

    #[test]
    fn of_the_answer_a_number_is_read_and_nothing_else() {
        assert_eq!(ordered(br#"{"ordered": 5, "serving": ["a"]}"#, 5), Some(5));
        for other in
            [&b""[..], b"ok", b"{}", br#"{"ordered": -1}"#, br#"{"ordered": "5"}"#, br#"{"ordered": 5.5}"#, br#"{"ordered": 6}"#, b"\xff"]
        {
            assert_eq!(ordered(other, 5), None);
        }
    }

    #[test]
    fn what_it_says_is_safe_to_log() {
        assert_eq!(said(b"  quota\nlevel=error \xff\n"), "quota\\nlevel=error \u{fffd}");
        assert_eq!(said(&[b'x'; 100_000]).len(), 163);
    }
}
