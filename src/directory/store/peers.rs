//! The look-up of gateways: whose key is this?

use super::super::types::{Host, HostKey};
use super::{Done, Scope, Store, places, stored, stored_key, tenants, unsigned};
use crate::model::{PublicKey, TenantShard};
use std::collections::{BTreeMap, BTreeSet};

/// One statement, as each is a journey to another thread or machine: a row for each of the host's keys and prefixes, of which there are few.
const PEER: &str = "
    SELECT hosts.name, revision, other.public_key, other.expires, tenants.id, tenants.name, inner_range, length, shard, place
    FROM host_keys AS this
    JOIN hosts ON hosts.id = this.host
    JOIN host_keys AS other ON other.host = this.host
    JOIN prefixes ON prefixes.host = this.host
    JOIN tenants ON tenants.id = prefixes.tenant
    CROSS JOIN state
    WHERE this.public_key = $1 AND (this.expires IS NULL OR this.expires > $2) AND (other.expires IS NULL OR other.expires > $2)
    ORDER BY place";

type Row = (String, i64, Vec<u8>, Option<i64>, i64, String, String, i64, i64, i64);

impl Store {
    async fn rows(&self, now: i64, key: &PublicKey) -> Done<Vec<Row>> {
        loop {
            let mut reader = self.look_ups.take("look up a peer").await?;
            match sqlx::query_as(PEER).bind(key.bytes().to_vec()).bind(now).fetch_all(&mut *reader).await {
                Ok(rows) => {
                    reader.keep();
                    return Ok(rows);
                }
                // The database may have been away since it was used: once more, until one is new.
                Err(error) if reader.old => tracing::debug!("a connection is given up: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The host that has this key, as far as it may be seen. None is the answer for a key that is unknown, expired, or of a host with none of these tenants.
    pub async fn peer(&self, now: i64, scope: &Scope, key: &PublicKey) -> Done<Option<Host>> {
        let rows = self.rows(now, key).await?;
        let mut keys: BTreeMap<Vec<u8>, Option<i64>> = BTreeMap::new();
        let mut inner: BTreeMap<TenantShard, BTreeSet<_>> = BTreeMap::new();
        let mut found = None;
        for (name, revision, key, expires, tenant, tenant_name, net, length, shard, place) in rows {
            if scope.has(tenant) {
                let prefix = stored(places::read(&net, length)?.prefix(place).ok_or("a place outside of its range"))?;
                let of = TenantShard { tenant: stored(tenant_name.parse())?, shard: tenants::shard_id(shard)? };
                inner.entry(of).or_default().insert(prefix);
                keys.insert(key, expires);
                found = Some((name, revision));
            }
        }
        let Some((name, revision)) = found else { return Ok(None) };
        let mut keys: Vec<HostKey> =
            keys.iter().map(|(key, expires)| Ok(HostKey { public_key: stored_key(key)?, expires: *expires })).collect::<Done<_>>()?;
        keys.sort_by_key(|key| key.expires.unwrap_or(i64::MAX));
        let inner = inner.into_iter().map(|(of, nets)| (of, nets.into_iter().collect())).collect();
        Ok(Some(Host { name: stored(name.parse())?, keys, inner, revision: unsigned(revision) }))
    }
}
