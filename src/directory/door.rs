//! Who is it? Tokens that were good are remembered, until something that they depend on changes.

use super::refusal::Refusal;
use super::store::changes::News;
use super::store::{Access, Found, Scope, Store};
use super::token::TokenText;
use super::types::{ChangeKind, Role};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// Tokens in memory, about 500 bytes each. Beyond, all are forgotten: no token is worth a search for the oldest.
const REMEMBERED: usize = 100_000;

#[derive(Debug, Default)]
pub struct Door {
    known: RwLock<Known>,
    /// Counts what was forgotten: what was read before it may be outdated.
    forgotten: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<String, Arc<Found>>,
    /// The ids of hosts' tokens, of which a host has one.
    of_hosts: HashMap<i64, String>,
}

/// The operator of this machine: whoever may open the directory's socket.
pub fn local_operator() -> Access {
    Access { role: Role::Operator, gateway: None, host: None, name: None, scope: Scope::All, expires: None }
}

impl Door {
    /// What a token is good for, at `now` (seconds since 1970).
    pub async fn open(&self, store: &Store, text: &str, now: i64) -> Result<(String, Access), Refusal> {
        let token = TokenText::parse(text).ok_or_else(Refusal::unauthenticated)?;
        let found = match self.remembered(&token.id) {
            Some(found) => found,
            None => self.read(store, &token.id).await?.ok_or_else(Refusal::unauthenticated)?,
        };
        // In constant time.
        if found.hash != token.hash() || found.access.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::unauthenticated());
        }
        Ok((token.id.clone(), found.access.clone()))
    }

    fn remembered(&self, id: &str) -> Option<Arc<Found>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    async fn read(&self, store: &Store, id: &str) -> Result<Option<Arc<Found>>, Refusal> {
        let before = self.forgotten.load(Relaxed);
        let Some(found) = store.token(id).await?.map(Arc::new) else { return Ok(None) };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if self.forgotten.load(Relaxed) == before {
            if known.by_id.len() >= REMEMBERED {
                *known = Known::default();
            }
            known.of_hosts.extend(found.access.host.map(|host| (host, id.to_owned())));
            known.by_id.insert(id.to_owned(), found.clone());
        }
        Ok(Some(found))
    }

    /// Forgets what a change makes untrue; none: everything.
    pub fn heed(&self, news: Option<&News>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        self.forgotten.fetch_add(1, Relaxed);
        let Some(news) = news else {
            *known = Known::default();
            return;
        };
        match news.change.kind {
            ChangeKind::Token => {
                known.by_id.remove(&news.change.name);
            }
            ChangeKind::Gateway if news.gateway.is_some() => known.by_id.retain(|_, found| found.access.gateway != news.gateway),
            ChangeKind::Host => {
                if let Some(id) = news.host.and_then(|host| known.of_hosts.remove(&host)) {
                    known.by_id.remove(&id);
                }
            }
            // Operators of it. Seldom.
            ChangeKind::Tenant if news.change.gone => *known = Known::default(),
            ChangeKind::Tenant | ChangeKind::Shard | ChangeKind::Gateway | ChangeKind::Member => {}
        }
    }

    pub fn remembered_tokens(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }
}
