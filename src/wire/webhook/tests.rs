use super::*;
use http::HeaderValue;
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

#[rstest]
#[case(&[], "")]
#[case(&["0"], "")]
#[case(&["10"], "")]
#[case(&["0010"], "")]
#[case(&["11"], "too_large")]
#[case(&["99999999999999999999999999"], "too_large")]
#[case(&[""], "bad_header")]
#[case(&["-1"], "bad_header")]
#[case(&["+1"], "bad_header")]
#[case(&["1, 1"], "bad_header")]
#[case(&["0x1"], "bad_header")]
#[case(&["1", "1"], "duplicate_header")]
fn a_body_is_refused_by_the_length_that_its_head_says(#[case] lengths: &[&'static str], #[case] label: &str) {
    let mut headers = HeaderMap::new();
    for length in lengths {
        headers.append(CONTENT_LENGTH, HeaderValue::from_static(length));
    }
    assert_eq!(Body::announced(&headers, 10).err().as_ref().map_or("", Refusal::label), label);
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
