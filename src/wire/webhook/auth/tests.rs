use super::*;
use http::HeaderValue;
use proptest::prelude::*;
use rstest::rstest;

const NOW: u64 = 1_795_331_700;
const BODY: &[u8] = b"{\"source\":\"functions\",\"nodes\":6,\"for_seconds\":600}";
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32]).unwrap()
}

fn token(text: &str) -> Secret {
    Secret::new(text.as_bytes()).unwrap()
}

fn both() -> Keys {
    Keys::new(vec![token(TOKEN), secret(b'x')], &[secret(1), secret(2)], WINDOW, 100, at(NOW - 1000))
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn signed(key: &Secret, at: u64) -> HeaderMap {
    headers(&[("portway-timestamp", &at.to_string()), ("portway-signature", &sign(key, at, BODY))])
}

fn prove(keys: &mut Keys, headers: &HeaderMap, now: u64) -> Result<Proof, Refusal> {
    keys.prove(headers, Body::new(BODY, Body::LIMIT).unwrap(), at(now))
}

/// Made by `printf '%s.%s' 1795331700 "$BODY" | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101...`.
#[test]
fn a_signature_is_what_other_programs_make_it() {
    assert_eq!(sign(&secret(1), NOW, BODY), "v1=a789e655f997c41cde51f79e39630893d84612b8aef8913ddbb599f4d26b4b75");
}

#[rstest]
#[case(&format!("Bearer {TOKEN}"))]
#[case(&format!("bearer {TOKEN}"))]
#[case(&format!("BEARER  {TOKEN}"))]
#[case("Bearer xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")]
fn each_token_counts_and_counts_again(#[case] value: &str) {
    let mut keys = both();
    for _ in 0..2 {
        assert_eq!(prove(&mut keys, &headers(&[("authorization", value)]), NOW), Ok(Proof::Token));
    }
    assert_eq!(keys.remembered(), 0);
}

#[rstest]
#[case("", "bad_header")]
#[case("Bearer", "bad_header")]
#[case("Bearer ", "bad_header")]
#[case("Bearer a b", "bad_header")]
#[case("Bearer\u{a0}x", "bad_header")]
#[case("Basic YTpi", "bad_header")]
#[case(TOKEN, "bad_header")]
#[case("Bearer 0123456789abcdef", "wrong_token")]
#[case("Bearer 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdee", "wrong_token")]
#[case("Bearer 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0", "wrong_token")]
fn any_other_token_does_not(#[case] value: &str, #[case] label: &str) {
    assert_eq!(prove(&mut both(), &headers(&[("authorization", value)]), NOW).unwrap_err().label(), label);
}

#[rstest]
#[case(1)]
#[case(2)]
fn each_key_counts_once_for_each_message(#[case] key: u8) {
    let mut keys = both();
    assert_eq!(prove(&mut keys, &signed(&secret(key), NOW), NOW), Ok(Proof::Signature(at(NOW))));
    assert_eq!(prove(&mut keys, &signed(&secret(key), NOW), NOW + 299), Err(Refusal::Replayed));
    assert_eq!(prove(&mut keys, &signed(&secret(key), NOW + 1), NOW), Ok(Proof::Signature(at(NOW + 1))));
    assert_eq!(keys.remembered(), 2);
}

#[rstest]
#[case(NOW - 300, "")]
#[case(NOW + 300, "")]
#[case(NOW - 301, "stale")]
#[case(NOW + 301, "early")]
#[case(NOW - 100_000, "stale")]
fn a_signature_counts_near_its_time(#[case] time: u64, #[case] label: &str) {
    let got = prove(&mut both(), &signed(&secret(1), time), NOW);
    assert_eq!(got.as_ref().err().map_or("", Refusal::label), label);
}

#[test]
fn what_was_signed_before_the_start_does_not_count() {
    let mut keys = Keys::new(vec![], &[secret(1)], WINDOW, 100, at(NOW));
    assert_eq!(prove(&mut keys, &signed(&secret(1), NOW - 1), NOW), Err(Refusal::Forgotten));
    assert!(prove(&mut keys, &signed(&secret(1), NOW), NOW).is_ok());
}

#[test]
fn a_full_memory_refuses_and_the_forged_do_not_fill_it() {
    let mut keys = Keys::new(vec![], &[secret(1)], WINDOW, 1, at(NOW));
    assert_eq!(prove(&mut keys, &signed(&secret(9), NOW), NOW).unwrap_err().label(), "wrong_signature");
    assert!(prove(&mut keys, &signed(&secret(1), NOW), NOW).is_ok());
    assert_eq!(prove(&mut keys, &signed(&secret(1), NOW + 1), NOW).unwrap_err().label(), "memory_full");
    assert!(prove(&mut keys, &signed(&secret(1), NOW + 301), NOW + 301).is_ok());
}

#[test]
fn a_key_that_is_taken_out_counts_no_more_and_what_was_taken_stays_known() {
    let mut keys = both();
    assert!(prove(&mut keys, &signed(&secret(2), NOW), NOW).is_ok());
    keys.change(vec![], &[secret(2), secret(3)]);
    assert_eq!(prove(&mut keys, &signed(&secret(1), NOW), NOW).unwrap_err().label(), "wrong_signature");
    assert_eq!(prove(&mut keys, &signed(&secret(2), NOW), NOW), Err(Refusal::Replayed));
    assert!(prove(&mut keys, &signed(&secret(3), NOW), NOW).is_ok());
    let shown = prove(&mut keys, &headers(&[("authorization", &format!("Bearer {TOKEN}"))]), NOW);
    assert_eq!(shown.unwrap_err().to_string(), "nothing says who sent it: send Portway-Timestamp and Portway-Signature");
}

#[rstest]
#[case("authorization")]
#[case("portway-timestamp")]
#[case("portway-signature")]
fn a_header_that_is_there_twice_is_refused_whatever_it_says(#[case] name: &'static str) {
    let mut twice = signed(&secret(1), NOW);
    twice.append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap());
    let again = twice.get(name).unwrap().clone();
    twice.append(name, again);
    assert_eq!(prove(&mut both(), &twice, NOW), Err(Refusal::DuplicateHeader(HeaderName::from_static(name))));
}

#[rstest]
#[case("portway-timestamp", "")]
#[case("portway-timestamp", "+1795331700")]
#[case("portway-timestamp", "01795331700")]
#[case("portway-timestamp", "1795331700.0")]
#[case("portway-timestamp", "179533170000")]
#[case("portway-timestamp", "2026-11-22T07:15:00Z")]
#[case("portway-timestamp", "\u{b2}")]
#[case("portway-signature", "")]
#[case("portway-signature", "v1=")]
#[case("portway-signature", "v1=0")]
#[case("portway-signature", "v2=0000000000000000000000000000000000000000000000000000000000000000")]
#[case("portway-signature", "v1=000000000000000000000000000000000000000000000000000000000000000g")]
#[case("portway-signature", "v1=00000000000000000000000000000000000000000000000000000000000000")]
#[case("portway-signature", "v1=000000000000000000000000000000000000000000000000000000000000000000")]
#[case("portway-signature", "v1=000000000000000000000000000000000000000000000000000000000000000A")]
fn a_header_of_another_form_is_refused(#[case] name: &'static str, #[case] value: &str) {
    let mut odd = signed(&secret(1), NOW);
    odd.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    let refusal = prove(&mut both(), &odd, NOW).unwrap_err();
    assert!(matches!(&refusal, Refusal::BadHeader { header, .. } if header == name), "{refusal}");
}

#[test]
fn a_right_token_does_not_make_a_wrong_signature_good() {
    let mut forged = signed(&secret(9), NOW);
    forged.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap());
    assert_eq!(prove(&mut both(), &forged, NOW).unwrap_err().label(), "wrong_signature");
    forged.remove(TIMESTAMP);
    assert_eq!(prove(&mut both(), &forged, NOW).unwrap_err().label(), "bad_header");
}

#[test]
fn where_there_is_no_key_and_no_token_nobody_may() {
    let mut none = Keys::new(vec![], &[], WINDOW, 100, at(NOW));
    for headers in [headers(&[]), signed(&secret(1), NOW), headers(&[("authorization", "Bearer x")])] {
        assert_eq!(prove(&mut none, &headers, NOW).unwrap_err().label(), "no_credentials");
    }
    assert_eq!(prove(&mut both(), &headers(&[]), NOW).unwrap_err().label(), "no_credentials");
}

#[test]
fn nothing_of_it_is_printed() {
    assert_eq!(format!("{:?}", both()), "Keys(2 tokens, 2 keys)");
}

proptest! {
    #[test]
    fn any_changed_bit_is_refused(bit in 0..BODY.len() * 8) {
        let mut changed = BODY.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let got = both().prove(&signed(&secret(1), NOW), Body::new(&changed, 1000).unwrap(), at(NOW));
        prop_assert_eq!(got.unwrap_err().label(), "wrong_signature");
    }

    #[test]
    fn another_time_is_another_signature(time in NOW - 300..NOW + 300) {
        let mut headers = signed(&secret(1), NOW);
        headers.insert(TIMESTAMP, HeaderValue::from(time));
        prop_assert_eq!(prove(&mut both(), &headers, NOW).is_ok(), time == NOW);
    }

    #[test]
    fn no_header_is_too_odd(name in 0usize..3, value in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut headers = signed(&secret(1), NOW);
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert([AUTHORIZATION, TIMESTAMP, SIGNATURE][name].clone(), value);
            let _ = prove(&mut both(), &headers, NOW);
        }
    }
}
