//! The public keys of an issuer (RFC 7517): fetched when they are needed, kept for a while, fetched again when a token names one that is not among them.

use super::bad;
use crate::config::Oidc;
use crate::directory::refusal::{Code, Refusal};
use anyhow::{Context, bail};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Certificate, Client, Url};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// After this long they are fetched anew, so that a key the issuer has withdrawn is not accepted for ever.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// Where that fails they serve on, this long at most.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// After an attempt that did not help, however many tokens name keys that nobody has.
const PAUSE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const LONGEST: usize = 256 * 1024;

#[derive(Debug)]
pub struct Keys {
    client: Client,
    url: Url,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    set: Option<(JwkSet, Instant)>,
    /// The last attempt that did not bring the key that was looked for.
    vain: Option<Instant>,
}

impl Keys {
    pub fn new(oidc: &Oidc) -> anyhow::Result<Self> {
        let mut builder = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &oidc.ca {
            let pem = std::fs::read(path).with_context(|| format!("cannot read `ca` {}", path.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem).with_context(|| format!("`ca` {} is no PEM", path.display()))?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().with_context(|| format!("cannot use `ca` for {}", oidc.jwks))?;
        Ok(Self { client, url: oidc.jwks.clone(), state: Mutex::default() })
    }

    /// The key that a token says it is signed with.
    pub async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Refusal> {
        // Whoever comes meanwhile waits for the same answer.
        let mut state = self.state.lock().await;
        let age = state.set.as_ref().map(|(_, fetched)| fetched.elapsed());
        let missing = |state: &State| state.set.as_ref().and_then(|(set, _)| pick(set, id, algorithm)).is_none();
        let wanted = missing(&state) || age.is_none_or(|age| age > FRESH);
        if wanted && state.vain.is_none_or(|vain| vain.elapsed() >= PAUSE) {
            let fetched = self.fetch().await;
            let failed = fetched.is_err();
            match fetched {
                Ok(set) => state.set = Some((set, Instant::now())),
                Err(error) => tracing::warn!("cannot fetch the keys of an issuer: {error:#}"),
            }
            state.vain = (failed || missing(&state)).then(Instant::now);
        }
        match &state.set {
            Some((set, fetched)) if fetched.elapsed() <= STALE => {
                let key = pick(set, id, algorithm).and_then(|key| DecodingKey::from_jwk(key).ok());
                key.ok_or_else(|| bad("this identity token is signed with a key that its issuer does not list", "take a new one"))
            }
            _ => Err(Refusal::new(
                Code::Unavailable,
                "the keys of this token's issuer cannot be fetched",
                "try again; the directory's log says why",
            )),
        }
    }

    async fn fetch(&self) -> anyhow::Result<JwkSet> {
        let doing = || format!("GET {}", self.url);
        let mut answer = self.client.get(self.url.clone()).send().await.with_context(doing)?.error_for_status().with_context(doing)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.with_context(doing)? {
            if body.len() + chunk.len() > LONGEST {
                bail!("{} answers with more than {LONGEST} bytes", self.url);
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).with_context(|| format!("{} answers with something else than a set of keys", self.url))
    }
}

/// The key of this name; without a name, the only one that could be meant.
fn pick<'s>(set: &'s JwkSet, id: Option<&str>, algorithm: Algorithm) -> Option<&'s Jwk> {
    let fits = |key: &&Jwk| {
        let signs = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
        let named = key.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
        signs && named && DecodingKey::from_jwk(key).is_ok_and(|key| key.family().algorithms().contains(&algorithm))
    };
    let mut fitting = set.keys.iter().filter(fits);
    match id {
        Some(id) => fitting.find(|key| key.common.key_id.as_deref() == Some(id)),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}
