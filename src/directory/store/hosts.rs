//! Hosts: their keys, the tenants they may serve, and their inner prefixes.

use super::super::refusal::{Code, Refusal};
use super::super::types::{ChangeKind, Host, HostKey, HostSpec, Hosts, Membership};
use super::changes::Told;
use super::{Done, Scope, Store, Writer, places, revision, shards, stored, stored_key, tenants};
use crate::model::{NodeName, PublicKey, TenantName, TenantShard};
use ipnet::IpNet;
use sqlx::AnyConnection;
use std::collections::{BTreeMap, BTreeSet};

/// A host as the database knows it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub id: i64,
    pub name: NodeName,
    pub keys: Vec<HostKey>,
    pub tenants: BTreeMap<i64, TenantName>,
}

impl Row {
    pub fn present_key(&self) -> Option<PublicKey> {
        self.keys.iter().find(|key| key.expires.is_none()).map(|key| key.public_key)
    }

    pub fn all_keys(&self) -> Vec<PublicKey> {
        self.keys.iter().map(|key| key.public_key).collect()
    }
}

pub(super) async fn find(connection: &mut AnyConnection, name: &NodeName) -> Done<Option<Row>> {
    let id: Option<(i64,)> =
        sqlx::query_as("SELECT id FROM hosts WHERE name = $1").bind(name.as_str().to_owned()).fetch_optional(&mut *connection).await?;
    let Some((id,)) = id else { return Ok(None) };
    let keys = keys_of(connection, id).await?;
    let tenants: Vec<(i64, String)> = sqlx::query_as("SELECT tenant, name FROM host_tenants JOIN tenants ON id = tenant WHERE host = $1")
        .bind(id)
        .fetch_all(connection)
        .await?;
    let tenants = tenants.into_iter().map(|(id, name)| Ok((id, stored(name.parse())?))).collect::<Done<_>>()?;
    Ok(Some(Row { id, name: name.clone(), keys, tenants }))
}

/// The present one last.
pub(super) async fn keys_of(connection: &mut AnyConnection, host: i64) -> Done<Vec<HostKey>> {
    let rows: Vec<(Vec<u8>, Option<i64>)> =
        sqlx::query_as("SELECT public_key, expires FROM host_keys WHERE host = $1").bind(host).fetch_all(connection).await?;
    let mut keys: Vec<HostKey> =
        rows.into_iter().map(|(key, expires)| Ok(HostKey { public_key: stored_key(&key)?, expires })).collect::<Done<_>>()?;
    keys.sort_by_key(|key| key.expires.unwrap_or(i64::MAX));
    Ok(keys)
}

/// The inner prefixes of a host in the tenants that may be seen.
pub(super) async fn inner_of(connection: &mut AnyConnection, scope: &Scope, host: i64) -> Done<BTreeMap<TenantShard, Vec<IpNet>>> {
    let rows: Vec<(i64, String, String, i64, i64, i64)> = sqlx::query_as(
        "SELECT id, name, inner_range, length, shard, place FROM prefixes JOIN tenants ON id = tenant WHERE host = $1 ORDER BY place",
    )
    .bind(host)
    .fetch_all(connection)
    .await?;
    let mut inner: BTreeMap<TenantShard, Vec<IpNet>> = BTreeMap::new();
    for (id, name, net, length, shard, place) in rows {
        if scope.has(id) {
            let prefix = stored(places::read(&net, length)?.prefix(place).ok_or("a place outside of its range"))?;
            inner.entry(TenantShard { tenant: stored(name.parse())?, shard: tenants::shard_id(shard)? }).or_default().push(prefix);
        }
    }
    Ok(inner)
}

/// What of a host may be seen; none: nothing, or it has gone meanwhile.
pub(super) async fn seen(connection: &mut AnyConnection, scope: &Scope, id: i64, name: NodeName, now: i64) -> Done<Option<Host>> {
    let inner = inner_of(connection, scope, id).await?;
    if inner.is_empty() && !scope.is_all() {
        return Ok(None);
    }
    let mut keys = keys_of(connection, id).await?;
    keys.retain(|key| key.expires.is_none_or(|expires| expires > now));
    Ok(Some(Host { name, keys, inner, revision: revision(connection).await? }))
}

impl Store {
    /// Adds a host, or says what an existing one may serve; true if it is new.
    pub async fn put_host(&self, now: i64, scope: &Scope, name: &NodeName, spec: &HostSpec) -> Done<(bool, Host)> {
        let mut writer = self.writer("add or change a host", now).await?;
        let mut wanted = BTreeMap::new();
        for tenant in &spec.tenants {
            let row = tenants::find(writer.connection(), tenant).await?.filter(|row| scope.has(row.id));
            let row = row.ok_or_else(|| Refusal::unknown("tenant", tenant))?;
            wanted.insert(row.id, row.name);
        }
        if wanted.is_empty() && !scope.is_all() {
            return Err(Refusal::invalid("a host of no tenant", "name at least one of your tenants, or remove the host").into());
        }
        let found = find(writer.connection(), name).await?;
        let new = found.is_none();
        let mut row = match found {
            None => writer.add_host(name).await?,
            // Not by who may not see all of it.
            Some(row) if row.tenants.keys().all(|tenant| scope.has(*tenant)) && (scope.is_all() || !row.tenants.is_empty()) => row,
            Some(_) => return Err(name_taken(name).into()),
        };
        let mut changed = new;
        if let Some(key) = spec.public_key.filter(|key| row.present_key() != Some(*key)) {
            writer.replace_keys(&mut row, key).await?;
            changed = true;
        }
        changed |= writer.set_host_tenants(&mut row, &wanted).await?;
        let host = seen(writer.connection(), scope, row.id, name.clone(), now).await?.ok_or_else(|| Refusal::unknown("host", name))?;
        if changed {
            writer.commit().await?;
        }
        Ok((new, host))
    }

    pub async fn host(&self, now: i64, scope: &Scope, name: &NodeName) -> Done<Host> {
        let mut view = self.view("read a host").await?;
        let unknown = || Refusal::unknown("host", name);
        let row = find(&mut view, name).await?.ok_or_else(unknown)?;
        Ok(seen(&mut view, scope, row.id, row.name, now).await?.ok_or_else(unknown)?)
    }

    /// What a host needs of itself.
    pub async fn membership(&self, now: i64, scope: &Scope, name: &NodeName) -> Done<Membership> {
        let mut view = self.view("read a host's shards").await?;
        let unknown = || Refusal::unknown("host", name);
        let row = find(&mut view, name).await?.ok_or_else(unknown)?;
        membership(&mut view, scope, row.id, name, now).await
    }

    /// Hosts by name, those behind `after` first, at most `limit`.
    pub async fn hosts(&self, now: i64, scope: &Scope, after: Option<&NodeName>, limit: u32) -> Done<Hosts> {
        let mut view = self.view("list hosts").await?;
        let after = after.map_or("", NodeName::as_str);
        let mut rows: BTreeMap<String, i64> = BTreeMap::new();
        match scope {
            Scope::All => {
                let all: Vec<(i64, String)> = sqlx::query_as("SELECT id, name FROM hosts WHERE name > $1 ORDER BY name LIMIT $2")
                    .bind(after.to_owned())
                    .bind(i64::from(limit))
                    .fetch_all(&mut *view)
                    .await?;
                rows.extend(all.into_iter().map(|(id, name)| (name, id)));
            }
            Scope::Only(tenants) => {
                for tenant in tenants.keys() {
                    let some: Vec<(i64, String)> = sqlx::query_as(
                        "SELECT id, name FROM host_tenants JOIN hosts ON id = host WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
                    )
                    .bind(*tenant)
                    .bind(after.to_owned())
                    .bind(i64::from(limit))
                    .fetch_all(&mut *view)
                    .await?;
                    rows.extend(some.into_iter().map(|(id, name)| (name, id)));
                }
            }
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let full = rows.len() >= limit;
        let mut hosts = Vec::new();
        for (name, id) in rows.into_iter().take(limit) {
            hosts.extend(seen(&mut view, scope, id, stored(name.parse())?, now).await?);
        }
        let after = hosts.last().filter(|_| full).map(|host| host.name.clone());
        Ok(Hosts { hosts, after, revision: revision(&mut view).await? })
    }

    /// Its keys, its token and its inner prefixes go with it.
    pub async fn remove_host(&self, now: i64, scope: &Scope, name: &NodeName) -> Done<()> {
        let mut writer = self.writer("remove a host", now).await?;
        let row = find(writer.connection(), name).await?;
        let row = row.filter(|row| scope.is_all() || row.tenants.keys().any(|tenant| scope.has(*tenant)));
        let mut row = row.ok_or_else(|| Refusal::unknown("host", name))?;
        if row.tenants.keys().any(|tenant| !scope.has(*tenant)) {
            return Err(Refusal::forbidden("an operator of some tenants only, of a host that serves others too,").into());
        }
        if !writer.set_host_tenants(&mut row, &BTreeMap::new()).await? {
            let keys = row.all_keys();
            writer.tell(Told { host: Some(row.id), gone: true, keys: &keys, ..Told::of(ChangeKind::Host, name.as_str()) }).await?;
        }
        // Or it could come back by the token with which it came.
        sqlx::query("DELETE FROM tokens WHERE used_by = $1").bind(name.as_str().to_owned()).execute(writer.connection()).await?;
        writer.revoke_of_host(row.id).await?;
        sqlx::query("DELETE FROM hosts WHERE id = $1").bind(row.id).execute(writer.connection()).await?;
        writer.commit().await?;
        Ok(())
    }

    /// Removes keys whose time is over, and tokens a day after theirs.
    pub async fn expire(&self, now: i64) -> Done<bool> {
        const DAY: i64 = 24 * 60 * 60;
        let mut reader = self.reader("look for what has expired").await?;
        let keys: Vec<(String,)> =
            sqlx::query_as("SELECT DISTINCT name FROM host_keys JOIN hosts ON id = host WHERE expires <= $1 LIMIT 1000")
                .bind(now)
                .fetch_all(&mut *reader)
                .await?;
        let token: Option<(String,)> =
            sqlx::query_as("SELECT id FROM tokens WHERE expires <= $1 LIMIT 1").bind(now - DAY).fetch_optional(&mut *reader).await?;
        drop(reader);
        if keys.is_empty() && token.is_none() {
            return Ok(false);
        }
        let mut writer = self.writer("remove what has expired", now).await?;
        for (name,) in keys {
            let Some(row) = find(writer.connection(), &stored(name.parse())?).await? else { continue };
            sqlx::query("DELETE FROM host_keys WHERE host = $1 AND expires <= $2")
                .bind(row.id)
                .bind(now)
                .execute(writer.connection())
                .await?;
            writer.tell_host(&row, &row.all_keys()).await?;
        }
        sqlx::query("DELETE FROM tokens WHERE expires <= $1").bind(now - DAY).execute(writer.connection()).await?;
        writer.commit().await?;
        Ok(true)
    }
}

pub(super) async fn membership(connection: &mut AnyConnection, scope: &Scope, id: i64, name: &NodeName, now: i64) -> Done<Membership> {
    let host = seen(connection, scope, id, name.clone(), now).await?.ok_or_else(|| Refusal::unknown("host", name))?;
    let mut shards = shards::visible(connection, scope).await?;
    shards.retain(|shard| host.inner.contains_key(&shard.of));
    let mut egress = tenants::egress(connection, scope).await?;
    let tenants: BTreeSet<&TenantName> = host.inner.keys().map(|of| &of.tenant).collect();
    egress.retain(|tenant, _| tenants.contains(tenant));
    Ok(Membership { host, shards, egress: Some(egress) })
}

pub(super) fn name_taken(name: &NodeName) -> Refusal {
    let remedy = "choose another one; if it is the same host with a new key, an operator makes a token for it by `--host NAME`";
    Refusal::new(Code::NameTaken, format!("the name {name} is taken"), remedy)
}

impl Writer {
    pub(super) async fn add_host(&mut self, name: &NodeName) -> Done<Row> {
        let (id,): (i64,) = sqlx::query_as("INSERT INTO hosts (name) VALUES ($1) RETURNING id")
            .bind(name.as_str().to_owned())
            .fetch_one(self.connection())
            .await?;
        Ok(Row { id, name: name.clone(), keys: Vec::new(), tenants: BTreeMap::new() })
    }

    /// This key alone from now on; the host's tokens were another key's.
    pub(super) async fn replace_keys(&mut self, row: &mut Row, key: PublicKey) -> Done<()> {
        self.key_is_free(&key, Some(row.id)).await?;
        sqlx::query("DELETE FROM host_keys WHERE host = $1").bind(row.id).execute(self.connection()).await?;
        self.revoke_of_host(row.id).await?;
        self.add_key(row.id, &key).await?;
        let mut keys = row.all_keys();
        keys.push(key);
        row.keys = vec![HostKey { public_key: key, expires: None }];
        self.tell_host(row, &keys).await
    }

    pub(super) async fn add_key(&mut self, host: i64, key: &PublicKey) -> Done<()> {
        sqlx::query("INSERT INTO host_keys (public_key, host) VALUES ($1, $2)")
            .bind(key.bytes().to_vec())
            .bind(host)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// The host and all who see one of its tenants.
    pub(super) async fn tell_host(&mut self, row: &Row, keys: &[PublicKey]) -> Done<()> {
        let told = Told { host: Some(row.id), keys, ..Told::of(ChangeKind::Host, row.name.as_str()) };
        if row.tenants.is_empty() {
            return self.tell(told).await;
        }
        for (tenant, name) in &row.tenants {
            self.tell(Told { tenant: Some((*tenant, name)), ..Told { ..told } }).await?;
        }
        Ok(())
    }

    /// Whether anything changed.
    pub(super) async fn set_host_tenants(&mut self, row: &mut Row, wanted: &BTreeMap<i64, TenantName>) -> Done<bool> {
        let keys = row.all_keys();
        let (id, name) = (row.id, row.name.clone());
        let told = |tenant, tenant_name, gone| Told {
            tenant: Some((tenant, tenant_name)),
            host: Some(id),
            gone,
            keys: &keys,
            ..Told::of(ChangeKind::Host, name.as_str())
        };
        let ids = |tenants: &BTreeMap<i64, TenantName>| tenants.keys().copied().collect::<BTreeSet<_>>();
        let (present, wanted_ids) = (ids(&row.tenants), ids(wanted));
        for tenant in present.difference(&wanted_ids) {
            self.free_places_of_host(id, *tenant).await?;
            sqlx::query("DELETE FROM host_tenants WHERE host = $1 AND tenant = $2")
                .bind(id)
                .bind(*tenant)
                .execute(self.connection())
                .await?;
            self.tell(told(*tenant, &row.tenants[tenant], true)).await?;
        }
        for tenant in wanted_ids.difference(&present) {
            let of = tenants::find(self.connection(), &wanted[tenant]).await?.ok_or_else(|| Refusal::unknown("tenant", &wanted[tenant]))?;
            sqlx::query("INSERT INTO host_tenants (host, tenant) VALUES ($1, $2)")
                .bind(id)
                .bind(*tenant)
                .execute(self.connection())
                .await?;
            for shard in tenants::shards_of(self.connection(), *tenant).await? {
                self.give_place(id, *tenant, i64::from(shard.0), &of.name, &of.range).await?;
            }
            self.tell(told(*tenant, &wanted[tenant], false)).await?;
        }
        row.tenants = wanted.clone();
        Ok(present != wanted_ids)
    }
}
