//! A host enrols, and changes its key. Both times it proves to have the private key.

use super::Shared;
use super::extract::{Body, Caller, Shown};
use crate::directory::proof::{self, NoProof, Nonce};
use crate::directory::refusal::{Code, Refusal};
use crate::directory::store::{Enrollment, Grant};
use crate::directory::token::TokenText;
use crate::directory::types::{Challenge, ChallengeSpec, EnrollSpec, Enrolled, KeySpec, Minted, Role};
use crate::directory::{Directory, mint, random};
use crate::model::PublicKey;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::atomic::Ordering::Relaxed;

impl From<NoProof> for Refusal {
    fn from(why: NoProof) -> Self {
        let remedy = match why {
            NoProof::Expired => "ask for a new challenge, and answer it within a minute",
            NoProof::Used => "ask for a new challenge",
            NoProof::WeakKey => "make a new key pair: `wg genkey | tee key | wg pubkey`",
            NoProof::Wrong => "answer the challenge with the private key of the public key that you name",
        };
        Refusal::new(Code::BadProof, why.to_string(), remedy)
    }
}

/// For everybody: it tells nothing, and nothing is kept of it.
pub async fn challenge(State(directory): Shared, Body(spec): Body<ChallengeSpec>) -> Result<Json<Challenge>, Refusal> {
    let random = random().map_err(|error| {
        tracing::error!("{error:#}");
        Refusal::new(Code::Unavailable, "no random bytes are to be had", "try again")
    })?;
    let question = proof::question(&directory.secret, &spec.public_key, directory.now(), &random);
    let expires_s = u32::try_from(proof::LIFE.as_secs()).unwrap_or(u32::MAX);
    Ok(Json(Challenge { nonce: question.nonce.to_string(), server_key: question.server_key, expires_s }))
}

/// The nonce that was answered; the store takes it once.
fn proved(directory: &Directory, key: &PublicKey, nonce: &str, proof: &str, token: &str, name: &str) -> Result<Nonce, Refusal> {
    let nonce = Nonce::parse(nonce).ok_or_else(|| Refusal::invalid("`nonce` is none", "send the one of the challenge as it came"))?;
    proof::verify(&directory.secret, key, &nonce, proof, token, name, directory.now())?;
    Ok(nonce)
}

pub async fn enroll(
    State(directory): Shared,
    Shown(token): Shown,
    Body(spec): Body<EnrollSpec>,
) -> Result<(StatusCode, Json<Enrolled>), Refusal> {
    let now = directory.now();
    let grant = if TokenText::looks_like_one(&token) {
        let (id, access) = directory.door.open(&directory.store, &token, now).await?;
        if access.role != Role::Enroll {
            return Err(Refusal::forbidden("only a token of the role `enroll`, and no other,"));
        }
        Grant::Token { id }
    } else {
        directory.issuers.verify(&token, now).await?
    };
    let nonce = proved(&directory, &spec.public_key, &spec.nonce, &spec.proof, &token, spec.name.as_str())?;
    let credential = mint()?;
    let enrollment = Enrollment {
        grant,
        name: &spec.name,
        public_key: spec.public_key,
        nonce,
        tenants: spec.tenants.as_ref(),
        inner: spec.inner.as_ref(),
        credential: (&credential.id, credential.hash()),
    };
    let membership = directory.store.enroll(now, &enrollment).await?;
    directory.counters.enrolled.fetch_add(1, Relaxed);
    tracing::info!("host {} enrolled, token {}", spec.name, credential.id);
    let credential = Minted { token: credential.expose().to_string(), id: credential.id, expires: None };
    Ok((StatusCode::CREATED, Json(Enrolled { credential, membership })))
}

pub async fn rotate(State(directory): Shared, caller: Caller, Body(spec): Body<KeySpec>) -> Result<StatusCode, Refusal> {
    caller.must_be(&[Role::Host])?;
    let access = &caller.access;
    let (Some(host), Some(name), Some(token)) = (access.host, &access.name, &caller.token) else { return Err(Refusal::unauthenticated()) };
    let nonce = proved(&directory, &spec.public_key, &spec.nonce, &spec.proof, token, name.as_str())?;
    directory.store.rotate(directory.now(), (host, name), spec.public_key, &nonce, directory.key_grace).await?;
    tracing::info!("host {name} has a new key");
    Ok(StatusCode::NO_CONTENT)
}
