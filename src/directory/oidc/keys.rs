//! The public keys of an issuer (RFC 7517): fetched when they are needed, kept for a while, fetched again when a token names one that is not among them.

use super::bad;
use crate::config::Oidc;
use crate::daemon::answer;
use crate::directory::refusal::{Code, Refusal};
use anyhow::Context;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Certificate, Client, Url};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};

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
    state: RwLock<State>,
    /// One fetches at a time; the others would fetch the same.
    fetching: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    set: Option<(JwkSet, Instant)>,
    /// The last attempt that did not bring the key that was looked for.
    vain: Option<Instant>,
}

impl State {
    fn age(&self) -> Option<Duration> {
        self.set.as_ref().map(|(_, fetched)| fetched.elapsed())
    }

    fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let (set, _) = self.set.as_ref()?;
        pick(set, id, algorithm).and_then(|key| DecodingKey::from_jwk(key).ok())
    }
}

impl Keys {
    pub fn new(oidc: &Oidc) -> anyhow::Result<Self> {
        let mut builder = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        if oidc.jwks.scheme() == "http" {
            // It is on this machine, and goes to no other in clear.
            builder = builder.no_proxy();
        }
        if let Some(path) = &oidc.ca {
            let pem = std::fs::read(path).with_context(|| format!("cannot read `ca` {}", path.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem).with_context(|| format!("`ca` {} is no PEM", path.display()))?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().with_context(|| format!("cannot use `ca` for {}", oidc.jwks))?;
        Ok(Self { client, url: oidc.jwks.clone(), state: RwLock::default(), fetching: Mutex::default() })
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that a token says it is signed with.
    pub async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Refusal> {
        let known = {
            let state = self.state();
            state.key(id, algorithm).zip(state.age())
        };
        match known {
            Some((key, age)) if age <= FRESH => return Ok(key),
            // While somebody else asks for new ones, the present one serves on: an issuer that is slow keeps nobody waiting.
            Some((key, age)) if age <= STALE => match self.fetching.try_lock() {
                Ok(alone) => self.refresh(alone, id, algorithm).await,
                Err(_) => return Ok(key),
            },
            // Whoever comes meanwhile waits for the same answer.
            _ => self.refresh(self.fetching.lock().await, id, algorithm).await,
        }
        let state = self.state();
        if state.age().is_none_or(|age| age > STALE) {
            let remedy = "try again; the directory's log says why";
            return Err(Refusal::new(Code::Unavailable, "the keys of this token's issuer cannot be fetched", remedy));
        }
        let key = state.key(id, algorithm);
        key.ok_or_else(|| bad("this identity token is signed with a key that its issuer does not list", "take a new one"))
    }

    /// Fetches the keys, if the last attempt was not in vain just now, and nobody has fetched them meanwhile.
    async fn refresh(&self, _alone: MutexGuard<'_, ()>, id: Option<&str>, algorithm: Algorithm) {
        {
            let state = self.state();
            let here = state.key(id, algorithm).is_some() && state.age().is_some_and(|age| age <= FRESH);
            if here || state.vain.is_some_and(|vain| vain.elapsed() < PAUSE) {
                return;
            }
        }
        let fetched = self.fetch().await;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let failed = fetched.is_err();
        match fetched {
            Ok(set) => state.set = Some((set, Instant::now())),
            Err(error) => tracing::warn!("cannot fetch the keys of an issuer: {error:#}"),
        }
        state.vain = (failed || state.key(id, algorithm).is_none()).then(Instant::now);
    }

    async fn fetch(&self) -> anyhow::Result<JwkSet> {
        let doing = || format!("GET {}", self.url);
        let answer = self.client.get(self.url.clone()).send().await.with_context(doing)?.error_for_status().with_context(doing)?;
        let body = answer::whole(answer, LONGEST).await.with_context(doing)?;
        let body = body.with_context(|| format!("{} answers with more than {LONGEST} bytes", self.url))?;
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
