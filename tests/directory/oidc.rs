//! Enrolment by an issuer's word.

use super::enrolling::attempt;
use super::issuer::{Issuer, Key};
use super::support::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use portway::directory::types::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A directory that knows an issuer, which lists these keys.
async fn with_issuer(bed: Bed, keys: &[&Key], host_claim: Option<&str>) -> (Bed, Issuer) {
    let issuer = Issuer::start(bed.dir.path()).await;
    issuer.list(keys);
    let (jwks, ca) = (issuer.jwks.clone(), issuer.ca.clone());
    let bed = bed.restarted(|config| config.oidc = vec![issuer_entry(&jwks, Some(ca), host_claim)]).await;
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    bed.tenant("globex", "10.64.0.0/16", &[0]).await;
    (bed, issuer)
}

fn claims(bed: &Bed) -> Value {
    json!({ "iss": "https://issuer.test", "aud": "portway", "sub": "host-1", "exp": bed.now() + 300, "repository": "acme/functions" })
}

async fn enrol(bed: &Bed, token: &str, number: u8) -> Result<String, String> {
    attempt(&bed.stranger(), &key(number), &key(number), token, |_| {}).await.map(|enrolled: Enrolled| inner(&enrolled.membership.host))
}

pub async fn a_machine_of_the_issuer_enrols(bed: Bed) {
    let keys = [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256].map(|algorithm| Key::new(&format!("{algorithm:?}"), algorithm));
    let (bed, issuer) = with_issuer(bed, &keys.iter().collect::<Vec<_>>(), Some("sub")).await;
    // Once more with each, as the same host; its issuer says who it is, so it may even come with a new key.
    for (number, key) in keys.iter().enumerate() {
        let token = key.sign(&claims(&bed));
        assert_eq!(enrol(&bed, &token, u8::try_from(number).unwrap() + 1).await, Ok("acme/0=10.64.0.1/32".into()));
    }
    let mut several = claims(&bed);
    several["aud"] = json!(["other", "portway"]);
    assert_eq!(enrol(&bed, &keys[0].sign(&several), 3).await, Ok("acme/0=10.64.0.1/32".into()));
    assert_eq!(issuer.asked(), 1, "keys are kept");
    // It is good for what the issuer says: this name, these tenants; and for enrolment alone.
    let mut other = claims(&bed);
    other["sub"] = json!("host-2");
    assert_eq!(enrol(&bed, &keys[0].sign(&other), 4).await, Err("forbidden".into()));
    let token = keys[0].sign(&claims(&bed));
    let refused = attempt(&bed.stranger(), &key(3), &key(3), &token, |spec| spec.tenants = Some([tenant("globex")].into())).await;
    assert_eq!(refused.unwrap_err(), "tenant_refused");
    assert_eq!(code(bed.with(token).whoami().await), "unauthenticated");
}

pub async fn bad_identity_tokens_are_refused(bed: Bed) {
    let key = Key::new("one", Algorithm::ES256);
    let (bed, issuer) = with_issuer(bed, &[&key], None).await;
    let good = key.sign(&claims(&bed));
    let with = |name: &str, value: Value| {
        let mut claims = claims(&bed);
        claims[name] = value;
        key.sign(&claims)
    };
    let without = |name: &str| {
        let mut claims = claims(&bed);
        claims.as_object_mut().unwrap().remove(name);
        key.sign(&claims)
    };
    let parts: Vec<&str> = good.split('.').collect();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = |alg: &str| part(&json!({ "alg": alg, "typ": "JWT", "kid": "one" }));
    // The public key, which everybody knows, as if it were a secret.
    let public = key.jwk()["x"].as_str().unwrap().to_owned();
    let hmac = Header { kid: Some("one".into()), ..Header::new(Algorithm::HS256) };
    let critical = Header { crit: Some(vec!["b64".into()]), ..Header::default() };
    let mallory = Key::new("one", Algorithm::ES256);
    let unknown = Key::new("two", Algorithm::ES256);
    let bad = [
        ("expired", with("exp", json!(bed.now() - 31))),
        ("without end", without("exp")),
        ("not yet", with("nbf", json!(bed.now() + 300))),
        ("for another", with("aud", json!("another"))),
        ("for nobody", without("aud")),
        ("of another", with("iss", json!("https://issuer.test.example"))),
        ("of nobody", without("iss")),
        ("of another repository", with("repository", json!("globex/functions"))),
        ("of no repository", without("repository")),
        ("none", format!("{}.{}.", header("none"), parts[1])),
        ("None", format!("{}.{}.", header("None"), parts[1])),
        ("none with a signature", format!("{}.{}.{}", header("none"), parts[1], parts[2])),
        ("unsigned", format!("{}.{}.", parts[0], parts[1])),
        ("changed", format!("{}.{}.{}", parts[0], part(&with_claim(&claims(&bed))), parts[2])),
        ("by a shared secret", encode(&hmac, &claims(&bed), &EncodingKey::from_secret(public.as_bytes())).unwrap()),
        ("with another key", mallory.sign(&claims(&bed))),
        ("with an unknown key", unknown.sign(&claims(&bed))),
        ("another algorithm", format!("{}.{}.{}", header("RS256"), parts[1], parts[2])),
        ("what is critical", key.sign_with(critical, &claims(&bed))),
        ("no token", "eyJ.x.y".into()),
        ("nothing", "x".into()),
    ];
    for (what, token) in &bad {
        assert_eq!(enrol(&bed, token, 1).await, Err("bad_identity".into()), "{what}");
    }
    assert_eq!(bed.operator().hosts(None).await.unwrap().hosts, []);
    // However many name a key that nobody has, the issuer is asked for it once in a while.
    for number in 0..20 {
        let token = Key::new(&format!("key-{number}"), Algorithm::ES256).sign(&claims(&bed));
        assert_eq!(enrol(&bed, &token, 1).await, Err("bad_identity".into()));
    }
    assert!(issuer.asked() <= 4, "{}", issuer.asked());
    let counted = format!("portway_directory_refused_total{{reason=\"bad_identity\"}} {}", bad.len() + 20);
    assert!(bed.metrics().await.lines().any(|line| line == counted));
    enrol(&bed, &good, 1).await.unwrap();
}

fn with_claim(claims: &Value) -> Value {
    let mut claims = claims.clone();
    claims["sub"] = json!("host-9");
    claims
}

/// Anybody can send a token that names a key that nobody has. The issuer is asked, and is slow: who has a key that is known does not wait for that.
pub async fn a_slow_issuer_keeps_nobody_waiting(bed: Bed) {
    let key = Key::new("one", Algorithm::ES256);
    let (bed, issuer) = with_issuer(bed, &[&key], None).await;
    enrol(&bed, &key.sign(&claims(&bed)), 1).await.unwrap();
    issuer.fall_silent();
    let garbage = Key::new("two", Algorithm::ES256).sign(&claims(&bed));
    let good = key.sign(&claims(&bed));
    let refused = async { (enrol(&bed, &garbage, 2).await, Instant::now()) };
    let enrolled = async {
        while issuer.asked() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (enrol(&bed, &good, 1).await, Instant::now())
    };
    let ((refused, then), (enrolled, first)) = tokio::join!(refused, enrolled);
    assert_eq!((refused, enrolled), (Err("bad_identity".into()), Ok("acme/0=10.64.0.1/32".into())));
    assert!(first < then, "who has a good key waited for the issuer");
}

pub async fn keys_rotate(bed: Bed) {
    let (old, new) = (Key::new("old", Algorithm::EdDSA), Key::new("new", Algorithm::ES256));
    let (bed, issuer) = with_issuer(bed, &[&old], None).await;
    enrol(&bed, &old.sign(&claims(&bed)), 1).await.unwrap();
    issuer.list(&[&old, &new]);
    enrol(&bed, &new.sign(&claims(&bed)), 1).await.unwrap();
    enrol(&bed, &old.sign(&claims(&bed)), 1).await.unwrap();
    issuer.list(&[&Key::new("newest", Algorithm::ES256)]);
    // A token by a key that is not known has them fetched anew; the old one is gone by then.
    let newest = Key::new("unlisted", Algorithm::ES256).sign(&claims(&bed));
    assert_eq!(enrol(&bed, &newest, 1).await, Err("bad_identity".into()));
    assert_eq!(enrol(&bed, &old.sign(&claims(&bed)), 1).await, Err("bad_identity".into()));
    assert_eq!(issuer.asked(), 3);
}
