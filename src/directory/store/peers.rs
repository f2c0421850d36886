//! The look-up of gateways: whose key is this?

use super::super::types::Host;
use super::{Done, Scope, Store, hosts, stored};
use crate::model::PublicKey;

impl Store {
    /// The host that has this key, as far as it may be seen. None is the answer for a key that is unknown, expired, or of a host with none of these tenants.
    pub async fn peer(&self, now: i64, scope: &Scope, key: &PublicKey) -> Done<Option<Host>> {
        let mut view = self.view("look up a peer").await?;
        let row: Option<(i64, String)> = sqlx::query_as(
            "SELECT id, name FROM host_keys JOIN hosts ON id = host WHERE public_key = $1 AND (expires IS NULL OR expires > $2)",
        )
        .bind(key.bytes().to_vec())
        .bind(now)
        .fetch_optional(&mut *view)
        .await?;
        let Some((id, name)) = row else { return Ok(None) };
        let host = hosts::seen(&mut view, scope, id, stored(name.parse())?, now).await?;
        // A host of no tenant is nobody's peer.
        Ok(host.filter(|host| !host.inner.is_empty()))
    }
}
