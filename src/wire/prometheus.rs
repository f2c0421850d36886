//! What Prometheus answers to an instant query (Prometheus documentation, "HTTP API": "Instant queries").
//!
//! ```json
//! {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1803896100.123, "12.5"]}]}}
//! {"status": "success", "data": {"resultType": "scalar", "result": [1803896100.123, "12.5"]}}
//! {"status": "error", "errorType": "bad_data", "error": "1:4: parse error: unexpected end of input"}
//! ```

use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far the time of an answer may be from the clock here: an older one was kept somewhere on its way.
pub const SKEW: Duration = Duration::from_secs(60);
/// Characters of somebody else's words that are shown.
const SHOWN: usize = 160;

/// Why an answer is of no use. Each says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("the answer is none of Prometheus's API: does `url` lead to a Prometheus? ({0})")]
    Foreign(String),
    #[error("Prometheus refuses the query: {0}")]
    Refused(String),
    #[error("the query gives no sample: nothing of what it names is known at present")]
    Empty,
    #[error("the query gives {0} samples: make one of them, by sum() or max()")]
    Many(usize),
    #[error("the query gives a {0}: write one that gives a scalar, or an instant vector of one sample")]
    WrongKind(String),
    #[error("the value is {0}, no number from 0 on: nothing follows from it")]
    NoNumber(String),
    #[error("the answer is of a time {} s away from the clock here: see that both clocks are right, and that nothing between keeps answers", .0.as_secs())]
    OtherTime(Duration),
}

/// As it is sent. Unknown keys are ignored (`warnings`, `infos`).
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success { data: Data },
    Error { error: String },
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

#[derive(Deserialize)]
struct Element {
    value: Sample,
}

/// Seconds since 1970, and the value as Go writes it.
#[derive(Deserialize)]
struct Sample(f64, String);

/// The one value of an answer: finite, and 0 or more. `wall` is what the clock on the wall shows.
pub fn read(body: &[u8], wall: SystemTime) -> Result<f64, Unusable> {
    let foreign = |error: serde_json::Error| Unusable::Foreign(shown(&error.to_string()));
    let data = match serde_json::from_slice(body).map_err(foreign)? {
        Answer::Success { data } => data,
        Answer::Error { error } => return Err(Unusable::Refused(shown(&error))),
    };
    let Sample(at, value) = match data.kind.as_str() {
        "scalar" => serde_json::from_value(data.result).map_err(foreign)?,
        "vector" => {
            let mut elements: Vec<Element> = serde_json::from_value(data.result).map_err(foreign)?;
            match (elements.pop(), elements.len()) {
                (Some(element), 0) => element.value,
                (None, _) => return Err(Unusable::Empty),
                (Some(_), others) => return Err(Unusable::Many(others + 1)),
            }
        }
        other => return Err(Unusable::WrongKind(shown(other))),
    };
    in_time(at, wall)?;
    value.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0).ok_or_else(|| Unusable::NoNumber(shown(&value)))
}

fn in_time(at: f64, wall: SystemTime) -> Result<(), Unusable> {
    let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let away = Duration::try_from_secs_f64((now - at).abs()).unwrap_or(Duration::MAX);
    if away <= SKEW { Ok(()) } else { Err(Unusable::OtherTime(away)) }
}

/// On one line, and not too much.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const NOW: u64 = 1_803_896_100;

    fn answer(text: &str) -> Result<f64, String> {
        read(text.as_bytes(), UNIX_EPOCH + Duration::from_secs(NOW)).map_err(|unusable| unusable.to_string())
    }

    fn success(kind: &str, result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}},"warnings":["one"]}}"#)
    }

    #[rstest]
    #[case("vector", r#"[{"metric":{"job":"a"},"value":[1803896100.123,"12.5"]}]"#, 12.5)]
    #[case("vector", r#"[{"metric":{},"value":[1803896099,"0"]}]"#, 0.0)]
    #[case("scalar", r#"[1803896100,"1.2e+10"]"#, 1.2e10)]
    fn one_value_is_read(#[case] kind: &str, #[case] result: &str, #[case] value: f64) {
        assert_eq!(answer(&success(kind, result)), Ok(value));
    }

    #[rstest]
    #[case("vector", "[]", "gives no sample")]
    #[case("vector", r#"[{"value":[1803896100,"1"]},{"value":[1803896100,"2"]}]"#, "gives 2 samples")]
    #[case("matrix", "[]", "gives a matrix")]
    #[case("string", r#"[1803896100,"1"]"#, "gives a string")]
    #[case("scalar", r#"[1803896100,"NaN"]"#, "the value is NaN")]
    #[case("scalar", r#"[1803896100,"+Inf"]"#, "the value is +Inf")]
    #[case("scalar", r#"[1803896100,"-1"]"#, "the value is -1")]
    #[case("scalar", r#"[1803896100,""]"#, "no number")]
    #[case("scalar", r#"[1803896100,1]"#, "none of Prometheus's API")]
    #[case("vector", r#"[{"metric":{},"histogram":[1803896100,{}]}]"#, "none of Prometheus's API")]
    #[case("scalar", r#"[1803896039,"1"]"#, "61 s away")]
    #[case("scalar", r#"[1803896161,"1"]"#, "61 s away")]
    #[case("scalar", r#"[-1e300,"1"]"#, "s away")]
    fn anything_else_is_refused(#[case] kind: &str, #[case] result: &str, #[case] says: &str) {
        let refused = answer(&success(kind, result)).unwrap_err();
        assert!(refused.contains(says), "{refused}");
    }

    #[test]
    fn what_prometheus_says_itself_is_told_on_one_line() {
        let text = r#"{"status":"error","errorType":"bad_data","error":"1:4: parse error:\nunexpected end"}"#;
        assert_eq!(answer(text), Err("Prometheus refuses the query: 1:4: parse error:\\nunexpected end".into()));
        for text in ["", "<html>", "{}", "[]", r#"{"status":"success"}"#] {
            assert!(answer(text).unwrap_err().contains("does `url` lead to a Prometheus"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_a_number_from_0_on(kind in "scalar|vector|.{0,8}", at in any::<f64>(), value in "[0-9eE+.-]{0,12}|NaN|[+-]?[Ii]nf|.{0,8}") {
            let value = serde_json::to_string(&value).unwrap();
            let scalar = success(&kind.escape_default().to_string(), &format!("[{NOW},{value}]"));
            let vector = success("vector", &format!(r#"[{{"value":[{at:?},{value}]}}]"#));
            for text in [scalar, vector] {
                match answer(&text) {
                    Ok(read) => prop_assert!(read.is_finite() && read >= 0.0),
                    Err(told) => prop_assert!(!told.contains(char::is_control), "{told}"),
                }
            }
        }

        #[test]
        fn no_body_is_too_odd(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&body, UNIX_EPOCH);
        }
    }
}
