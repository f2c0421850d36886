#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::directory::client::PathKey;
use portway::directory::oidc::Issuers;
use portway::directory::proof::{self, Nonce};
use portway::directory::token::TokenText;
use portway::directory::types::*;
use portway::model::{PublicKey, Secret};
use serde::Serialize;
use serde::de::DeserializeOwned;

// What is accepted can be written, and means the same when it is read again.
fn body<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let again = serde_json::from_slice(&serde_json::to_vec(&value).expect("it can be written")).expect("it can be read again");
    assert_eq!(value, again);
    Some(value)
}

fuzz_target!(|bytes: &[u8]| {
    body::<TenantSpec>(bytes);
    body::<ShardSpec>(bytes);
    body::<GatewaySpec>(bytes);
    body::<HostSpec>(bytes);
    body::<TokenSpec>(bytes);
    body::<HostReport>(bytes);
    body::<ChallengeSpec>(bytes);
    body::<KeySpec>(bytes);
    let secret = Secret::new(&[7; 32]).expect("long enough");
    if let Some(spec) = body::<EnrollSpec>(bytes)
        && let Some(nonce) = Nonce::parse(&spec.nonce)
    {
        assert!(proof::verify(&secret, &spec.public_key, &nonce, &spec.proof, "token", spec.name.as_str(), 0).is_err());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(token) = TokenText::parse(text) {
        assert_eq!(*token.expose(), text);
    }
    if let Ok(PathKey(key)) = text.parse::<PathKey>() {
        assert_eq!(PathKey(key).to_string(), text);
        assert_ne!(key.bytes(), &[0; PublicKey::LEN]);
    }
    // Nobody's token is good where there is no issuer.
    let issuers = Issuers::new(&[]).expect("none");
    assert!(futures::executor::block_on(issuers.verify(text, 0)).is_err());
});
