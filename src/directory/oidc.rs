//! Identity tokens: JSON Web Tokens (RFC 7519) that an issuer has signed for one of its machines.

mod keys;

use super::refusal::{Code, Refusal};
use super::store::Grant;
use crate::config::Oidc;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use keys::Keys;
use serde_json::{Map, Value};

/// What a signature may be made with (RFC 7518 section 3.1). None of them takes a secret that both sides know, and `none` is none.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// How far the issuer's clock may be from ours, seconds.
const SKEW: i64 = 30;

type Claims = Map<String, Value>;

/// All issuers of the configuration.
#[derive(Debug)]
pub struct Issuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    oidc: Oidc,
    keys: Keys,
}

fn bad(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadIdentity, message, remedy)
}

impl Issuers {
    pub fn new(all: &[Oidc]) -> anyhow::Result<Self> {
        all.iter().map(|oidc| Ok(Issuer { oidc: oidc.clone(), keys: Keys::new(oidc)? })).collect::<anyhow::Result<_>>().map(Issuers)
    }

    /// What whoever shows this token may enrol. `now` in seconds since 1970.
    pub async fn verify(&self, token: &str, now: i64) -> Result<Grant, Refusal> {
        let remedy = "send a token of an issuer that the directory's `oidc` lists, signed with RS256, ES256 or EdDSA";
        let header = decode_header(token).map_err(|_| bad("this is no signed identity token", remedy))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(bad(format!("identity tokens signed with {:?} are not accepted", header.alg), remedy));
        }
        // RFC 7515 section 4.1.11: who does not understand what is critical must not accept it.
        if let Some(critical) = header.crit {
            return Err(bad(format!("this identity token demands what is not supported here: {}", critical.join(", ")), remedy));
        }
        // Not believed: it only says with whose keys to look.
        let said = unverified(token).ok_or_else(|| bad("this identity token has no claims", remedy))?;
        let issuers = self.0.iter().filter(|issuer| said.get("iss").and_then(Value::as_str) == Some(&issuer.oidc.issuer));
        let mut refusal = bad("this identity token is of an issuer that is not known here", remedy);
        for issuer in issuers {
            let checked = match issuer.keys.find(header.kid.as_deref(), header.alg).await {
                Ok(key) => issuer.oidc.check(token, &key, header.alg, now),
                Err(why) => Err(why),
            };
            match checked {
                Ok(grant) => return Ok(grant),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }
}

fn unverified(token: &str) -> Option<Claims> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()
}

trait Check {
    fn check(&self, token: &str, key: &jsonwebtoken::DecodingKey, algorithm: Algorithm, now: i64) -> Result<Grant, Refusal>;
    fn grant(&self, claims: &Claims, now: i64) -> Result<Grant, Refusal>;
}

impl Check for Oidc {
    fn check(&self, token: &str, key: &jsonwebtoken::DecodingKey, algorithm: Algorithm, now: i64) -> Result<Grant, Refusal> {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // By our clock, below.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let claims = decode::<Claims>(token, key, &validation)
            .map_err(|error| bad(format!("this identity token is not good: {error}"), "take a new one, for this directory's audience"))?;
        self.grant(&claims.claims, now)
    }

    /// Of claims whose signature, issuer and audience are right.
    fn grant(&self, claims: &Claims, now: i64) -> Result<Grant, Refusal> {
        #[expect(clippy::cast_possible_truncation, reason = "a time with a fraction is rounded; one beyond all times is the end of time")]
        let time = |name| claims.get(name).map(|value| value.as_f64().filter(|at| at.is_finite()).map(|at| at as i64));
        match time("exp") {
            Some(Some(expires)) if now < expires.saturating_add(SKEW) => {}
            Some(Some(_)) => return Err(bad("this identity token has expired", "take a new one")),
            _ => return Err(bad("this identity token never expires", "have the issuer put `exp` into it")),
        }
        match time("nbf") {
            None => {}
            Some(Some(from)) if from.saturating_sub(SKEW) <= now => {}
            _ => return Err(bad("this identity token is not valid yet", "compare the clocks of issuer and directory")),
        }
        for (name, wanted) in &self.claims {
            if !claims.get(name).is_some_and(|value| says(value, wanted)) {
                return Err(bad(
                    format!("this identity token lacks the claim `{name}` that is asked for here"),
                    "take the token of another machine",
                ));
            }
        }
        let host =
            match &self.host_claim {
                None => None,
                Some(name) => {
                    let text = claims.get(name).and_then(Value::as_str);
                    let host = text.and_then(|text| text.parse().ok());
                    Some(host.ok_or_else(|| {
                        bad(format!("the claim `{name}` of this identity token is no host's name"), "compare `host_claim`")
                    })?)
                }
            };
        Ok(Grant::Identity { tenants: self.tenants.clone(), host })
    }
}

/// A text, number or truth value is this; a list has it.
fn says(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(truth) => truth.to_string() == wanted,
        Value::Array(items) => items.iter().any(|item| item.as_str() == Some(wanted)),
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_700_000_000;

    fn oidc(host_claim: Option<&str>) -> Oidc {
        Oidc {
            issuer: "https://issuer.example".into(),
            audience: "portway".into(),
            jwks: "https://issuer.example/keys".parse().unwrap(),
            ca: None,
            claims: [("repository".into(), "acme/functions".into())].into(),
            host_claim: host_claim.map(str::to_owned),
            tenants: vec!["acme".parse().unwrap()],
        }
    }

    fn grant(oidc: &Oidc, claims: Value) -> Result<Option<String>, String> {
        match oidc.grant(claims.as_object().unwrap(), NOW) {
            Ok(Grant::Identity { host, .. }) => Ok(host.map(Into::into)),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.message),
        }
    }

    #[test]
    fn the_time_and_the_claims_must_be_right() {
        let of = oidc(None);
        let good = json!({ "exp": NOW + 60, "nbf": NOW, "repository": "acme/functions" });
        assert_eq!(grant(&of, good.clone()), Ok(None));
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            grant(&of, claims)
        };
        let expired = Err("this identity token has expired".to_owned());
        assert_eq!((with("exp", json!(NOW - SKEW)), with("exp", json!(0))), (expired.clone(), expired));
        assert_eq!(with("exp", json!(NOW - SKEW + 1)), Ok(None));
        let endless = Err("this identity token never expires".to_owned());
        assert_eq!((with("exp", json!("2030")), with("exp", Value::Null)), (endless.clone(), endless));
        let early = Err("this identity token is not valid yet".to_owned());
        assert_eq!((with("nbf", json!(NOW + SKEW + 1)), with("nbf", json!("x"))), (early.clone(), early));
        assert_eq!(with("nbf", json!(NOW + SKEW)), Ok(None));
        let lacks = Err("this identity token lacks the claim `repository` that is asked for here".to_owned());
        assert_eq!((with("repository", json!("globex/functions")), with("repository", Value::Null)), (lacks.clone(), lacks));
        assert_eq!(with("repository", json!(["other", "acme/functions"])), Ok(None));
    }

    #[test]
    fn the_host_is_who_the_issuer_says() {
        let of = oidc(Some("sub"));
        let claims = |sub: Value| json!({ "exp": NOW + 60, "repository": "acme/functions", "sub": sub });
        assert_eq!(grant(&of, claims(json!("host-1"))), Ok(Some("host-1".into())));
        for sub in [json!("a b"), json!(7), Value::Null, json!("'; DROP TABLE hosts; --")] {
            assert!(grant(&of, claims(sub.clone())).is_err(), "{sub}");
        }
    }
}
