mod sender;

use super::*;
use http::{HeaderName, HeaderValue, Method, Request};
use proptest::prelude::*;
use rstest::rstest;

const NOW: u64 = 1_795_331_700;
const BODY: &[u8] = b"{\"source\":\"functions\",\"nodes\":6,\"for_seconds\":600}";
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PATH: &str = "/v1/demand";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32]).unwrap()
}

fn token(text: &str) -> Secret {
    Secret::new(text.as_bytes()).unwrap()
}

fn id(id: u8) -> KeyId {
    KeyId::try_from(id).unwrap()
}

fn here() -> AutoscalerName {
    "autoscaler-1".parse().unwrap()
}

/// Each key with an id of its own: 1 for that of ones.
fn keys_of(tokens: Vec<Secret>, keys: &[u8]) -> Keys {
    Keys::new(here(), tokens, keys.iter().map(|key| (id(*key), secret(*key))).collect(), Limits::default()).unwrap()
}

fn both() -> Keys {
    keys_of(vec![token(TOKEN), secret(b'x')], &[1, 2])
}

fn head(pairs: &[(&'static str, &str)]) -> Parts {
    let mut head = Request::post(PATH).body(()).unwrap().into_parts().0;
    for (name, value) in pairs {
        head.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    head
}

fn shows(token: &str) -> Parts {
    head(&[("authorization", &format!("Bearer {token}"))])
}

fn signed(key: u8, at: u64) -> Parts {
    let signature = sign(&secret(key), &Method::POST, PATH, &here(), at, BODY);
    head(&[("portway-key", &key.to_string()), ("portway-timestamp", &at.to_string()), ("portway-signature", &signature)])
}

fn prove(keys: &Keys, head: &Parts, body: &[u8], now: u64) -> Result<Proof, Refusal> {
    keys.door(head, at(now))?.admit(body).map(|admitted| admitted.proof)
}

fn label<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().err().map_or("", Refusal::label)
}

/// Made by `printf '%s\n%s\n%s\n%s\n%s\n%s' portway-webhook-v1 POST /v1/demand autoscaler-1 1795331700 "$BODY" | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101...`.
#[test]
fn a_signature_is_what_other_programs_make_it() {
    let signature = sign(&secret(1), &Method::POST, PATH, &here(), NOW, BODY);
    assert_eq!(signature, "v1=6722038787bda2d15e475fb6f782024b3ed81335ed052801c959f5423ebe8a97");
}

#[rstest]
#[case(&format!("Bearer {TOKEN}"))]
#[case(&format!("bearer {TOKEN}"))]
#[case(&format!("BEARER  {TOKEN}"))]
#[case("Bearer xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")]
fn each_token_is_proved_at_the_door(#[case] value: &str) {
    assert_eq!(prove(&both(), &head(&[("authorization", value)]), BODY, NOW), Ok(Proof::Token));
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
fn any_other_token_is_refused_at_the_door(#[case] value: &str, #[case] told: &str) {
    assert_eq!(label(&both().door(&head(&[("authorization", value)]), at(NOW))), told);
}

#[rstest]
#[case(1)]
#[case(2)]
fn each_key_counts_under_its_own_id(#[case] key: u8) {
    let Ok(Proof::Signature(got)) = prove(&both(), &signed(key, NOW), BODY, NOW) else { panic!("it is right") };
    assert_eq!((got.key, got.at), (id(key), NOW));
    let mut other = signed(key, NOW);
    other.headers.insert(KEY, HeaderValue::from(3 - u16::from(key)));
    assert_eq!(label(&prove(&both(), &other, BODY, NOW)), "wrong_signature");
}

#[test]
fn a_post_that_is_changed_has_another_mark() {
    let mark = |at| match prove(&both(), &signed(1, at), BODY, NOW) {
        Ok(Proof::Signature(signed)) => signed.mark,
        other => panic!("{other:?}"),
    };
    assert_eq!(mark(NOW), mark(NOW));
    assert_ne!(mark(NOW), mark(NOW - 1));
}

/// What the door can see it refuses before a body is taken.
#[rstest]
#[case(NOW - 300, "")]
#[case(NOW + 10, "")]
#[case(NOW - 301, "stale")]
#[case(NOW + 11, "early")]
#[case(NOW - 100_000, "stale")]
fn a_signature_counts_near_its_time(#[case] time: u64, #[case] told: &str) {
    assert_eq!(label(&both().door(&signed(1, time), at(NOW))), told);
}

#[test]
fn a_key_that_is_not_known_and_a_body_that_is_too_long_are_refused_at_the_door() {
    assert_eq!(both().door(&signed(3, NOW), at(NOW)).unwrap_err(), Refusal::UnknownKey(id(3)));
    for head in [signed(1, NOW), shows(TOKEN), head(&[])] {
        let mut long = head.clone();
        long.headers.insert("content-length", HeaderValue::from(Body::LIMIT + 1));
        assert_eq!(both().door(&long, at(NOW)).unwrap_err(), Refusal::TooLarge { limit: Body::LIMIT });
    }
}

#[test]
fn a_body_that_goes_on_beyond_the_limit_is_not_admitted() {
    let limits = Limits { body: BODY.len(), ..Limits::default() };
    let keys = Keys::new(here(), vec![token(TOKEN)], vec![(id(1), secret(1))], limits).unwrap();
    for head in [signed(1, NOW), shows(TOKEN)] {
        let pass = keys.door(&head, at(NOW)).unwrap();
        assert_eq!(pass.limit(), BODY.len());
        assert_eq!(pass.admit(BODY).map(|admitted| admitted.body.bytes()), Ok(BODY));
        let long = [BODY, b" "].concat();
        assert_eq!(keys.door(&head, at(NOW)).unwrap().admit(&long).unwrap_err(), Refusal::TooLarge { limit: BODY.len() });
    }
}

/// What was signed for one purpose counts for no other.
#[rstest]
#[case(Method::PUT, PATH, "autoscaler-1")]
#[case(Method::POST, "/v1/alerts", "autoscaler-1")]
#[case(Method::POST, "/v1/demand?", "autoscaler-1")]
#[case(Method::POST, "/v1/demand?dry_run", "autoscaler-1")]
#[case(Method::POST, "/v1/demand/", "autoscaler-1")]
#[case(Method::POST, PATH, "autoscaler-2")]
fn method_path_and_audience_are_signed(#[case] method: Method, #[case] target: &str, #[case] audience: &str) {
    let audience: AutoscalerName = audience.parse().unwrap();
    let mut other = signed(1, NOW);
    (other.method, other.uri) = (method.clone(), target.parse().unwrap());
    let keys = Keys::new(audience.clone(), vec![], vec![(id(1), secret(1))], Limits::default()).unwrap();
    assert_eq!(label(&prove(&keys, &other, BODY, NOW)), "wrong_signature");
    let signature = sign(&secret(1), &method, target, &audience, NOW, BODY);
    other.headers.insert(SIGNATURE, HeaderValue::from_str(&signature).unwrap());
    assert_eq!(label(&prove(&keys, &other, BODY, NOW)), "", "signed for that, it counts there");
}

#[test]
fn what_is_signed_is_for_webhooks_only() {
    let text = format!("POST\n{PATH}\nautoscaler-1\n{NOW}\n{}", std::str::from_utf8(BODY).unwrap());
    let tag = keyed(&secret(1)).chain_update(text).finalize().into_bytes();
    let mut other = signed(1, NOW);
    let signature = tag.iter().fold("v1=".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    other.headers.insert(SIGNATURE, HeaderValue::from_str(&signature).unwrap());
    assert_eq!(label(&prove(&both(), &other, BODY, NOW)), "wrong_signature");
}

#[rstest]
#[case(&[(1, 1), (1, 2)], "the keys 1 and 1 have one id")]
#[case(&[(1, 1), (2, 2), (3, 1)], "the keys 1 and 3 are the same")]
fn keys_that_cannot_be_told_apart_are_refused(#[case] keys: &[(u8, u8)], #[case] told: &str) {
    let keys = keys.iter().map(|(number, key)| (id(*number), secret(*key))).collect();
    let refusal = Keys::new(here(), vec![], keys, Limits::default()).unwrap_err().to_string();
    assert!(refusal.starts_with(told), "{refusal}");
}

#[rstest]
#[case("authorization")]
#[case("portway-key")]
#[case("portway-timestamp")]
#[case("portway-signature")]
#[case("content-length")]
fn a_header_that_is_there_twice_is_refused_whatever_it_says(#[case] name: &'static str) {
    let mut twice = signed(1, NOW);
    twice.headers.append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap());
    twice.headers.append("content-length", HeaderValue::from(BODY.len()));
    let again = twice.headers.get(name).unwrap().clone();
    twice.headers.append(name, again);
    assert_eq!(both().door(&twice, at(NOW)).unwrap_err(), Refusal::DuplicateHeader(HeaderName::from_static(name)));
}

#[rstest]
#[case("portway-key", "")]
#[case("portway-key", "0")]
#[case("portway-key", "01")]
#[case("portway-key", "+1")]
#[case("portway-key", "256")]
#[case("portway-key", "99999999999999999999999")]
#[case("portway-key", "functions")]
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
fn a_header_of_another_form_is_refused_at_the_door(#[case] name: &'static str, #[case] value: &str) {
    let mut odd = signed(1, NOW);
    odd.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    let refusal = both().door(&odd, at(NOW)).unwrap_err();
    assert!(matches!(&refusal, Refusal::BadHeader { header, .. } if header == name), "{refusal}");
}

#[rstest]
#[case("portway-key")]
#[case("portway-timestamp")]
fn a_right_token_does_not_make_a_wrong_signature_good(#[case] missing: &'static str) {
    let mut forged = signed(1, NOW);
    forged.headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap());
    assert_eq!(label(&prove(&both(), &forged, b"{}", NOW)), "wrong_signature");
    forged.headers.remove(missing);
    assert_eq!(label(&both().door(&forged, at(NOW))), "bad_header");
}

#[test]
fn where_there_is_no_key_and_no_token_nobody_may() {
    let none = keys_of(vec![], &[]);
    for head in [head(&[]), signed(1, NOW), head(&[("authorization", "Bearer x")])] {
        assert_eq!(label(&none.door(&head, at(NOW))), "no_credentials");
    }
    assert_eq!(label(&both().door(&head(&[]), at(NOW))), "no_credentials");
    let told = keys_of(vec![], &[1]).door(&shows(TOKEN), at(NOW)).unwrap_err().to_string();
    assert_eq!(told, "nothing says who sent it: send Portway-Key, Portway-Timestamp and Portway-Signature");
    assert_eq!(label(&keys_of(vec![token(TOKEN)], &[]).door(&signed(1, NOW), at(NOW))), "no_credentials");
}

#[test]
fn nothing_of_it_is_printed() {
    assert_eq!(format!("{:?}", both()), "Keys(2 tokens, 2 keys)");
    assert_eq!(format!("{:?}", both().door(&signed(1, NOW), at(NOW))), "Ok(Pass(by a signature))");
    let proof = prove(&both(), &signed(1, NOW), BODY, NOW);
    assert_eq!(format!("{proof:?}"), "Ok(Signature(Signed { key: KeyId(1), at: 1795331700, mark: Mark(..) }))");
}

proptest! {
    #[test]
    fn any_changed_bit_is_refused(bit in 0..BODY.len() * 8) {
        let mut changed = BODY.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(label(&prove(&both(), &signed(1, NOW), &changed, NOW)), "wrong_signature");
    }

    #[test]
    fn another_time_is_another_signature(time in NOW - 300..NOW + 10) {
        let mut other = signed(1, NOW);
        other.headers.insert(TIMESTAMP, HeaderValue::from(time));
        prop_assert_eq!(prove(&both(), &other, BODY, NOW).is_ok(), time == NOW);
    }

    #[test]
    fn no_header_is_too_odd(name in 0usize..4, value in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut odd = signed(1, NOW);
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            odd.headers.insert([AUTHORIZATION, KEY, TIMESTAMP, SIGNATURE][name].clone(), value);
            let _ = prove(&both(), &odd, BODY, NOW);
        }
    }
}
