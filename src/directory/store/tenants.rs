//! Tenants, and which shards they have.

use super::super::refusal::{Code, Refusal};
use super::super::types::{ChangeKind, Tenant, TenantSpec};
use super::changes::Told;
use super::places::{self, Range};
use super::{Done, Scope, Store, Writer, stored, unsigned};
use crate::model::{Pools, ShardId, TenantName, TenantShard};
use sqlx::AnyConnection;
use std::collections::{BTreeMap, BTreeSet};

/// A row of the table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub id: i64,
    pub name: TenantName,
    pub range: Range,
    egress: Pools,
}

pub(super) async fn find(connection: &mut AnyConnection, name: &TenantName) -> Done<Option<Row>> {
    let row: Option<(i64, String, i64, String)> = sqlx::query_as("SELECT id, inner_range, length, egress FROM tenants WHERE name = $1")
        .bind(name.as_str().to_owned())
        .fetch_optional(connection)
        .await?;
    let read = |(id, net, length, egress): (_, String, _, String)| {
        Ok(Row { id, name: name.clone(), range: places::read(&net, length)?, egress: pools(&egress)? })
    };
    row.map(read).transpose()
}

fn pools(json: &str) -> Done<Pools> {
    stored(serde_json::from_str(json))
}

/// The pools of those tenants that have some.
pub(super) async fn egress(connection: &mut AnyConnection, scope: &Scope) -> Done<BTreeMap<TenantName, Pools>> {
    let rows: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT id, name, egress FROM tenants WHERE egress <> '{}'").fetch_all(connection).await?;
    rows.into_iter().filter(|(id, ..)| scope.has(*id)).map(|(_, name, json)| Ok((stored(name.parse())?, pools(&json)?))).collect()
}

/// Each has shards, and of the tenant's; and nobody gets those of another without naming it.
fn fitting(pools: &Pools, wanted: &BTreeSet<ShardId>) -> Result<(), Refusal> {
    for (pool, shards) in pools.iter() {
        if shards.is_empty() {
            return Err(Refusal::invalid(format!("the pool {pool} has no shards"), "write some of the tenant's, or leave the pool out"));
        }
        if let Some(other) = shards.difference(wanted).next() {
            let remedy = "write shards of the tenant, or give it this one in `shards`";
            return Err(Refusal::invalid(format!("the pool {pool} has a shard {other}, which the tenant has not"), remedy));
        }
    }
    if let Some((pool, shard)) = pools.given_away() {
        let message =
            format!("shard {shard} is in the pools {pool} and default: whoever names no pool would be seen from the address of {pool}");
        return Err(Refusal::invalid(message, "take it out of one of them"));
    }
    Ok(())
}

pub(super) async fn shards_of(connection: &mut AnyConnection, tenant: i64) -> Done<BTreeSet<ShardId>> {
    let rows: Vec<(i64,)> =
        sqlx::query_as("SELECT shard FROM shards WHERE tenant = $1 ORDER BY shard").bind(tenant).fetch_all(connection).await?;
    rows.into_iter().map(|(shard,)| shard_id(shard)).collect()
}

pub(super) fn shard_id(number: i64) -> Done<ShardId> {
    stored(u16::try_from(number)).map(ShardId)
}

async fn hosts_of(connection: &mut AnyConnection, tenant: i64) -> Done<u64> {
    let (hosts,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM host_tenants WHERE tenant = $1").bind(tenant).fetch_one(connection).await?;
    Ok(unsigned(hosts))
}

async fn whole(connection: &mut AnyConnection, row: Row) -> Done<Tenant> {
    let (shards, hosts) = (shards_of(connection, row.id).await?, hosts_of(connection, row.id).await?);
    Ok(Tenant { inner: row.range.net(), host_prefix: row.range.length(), name: row.name, shards, hosts, egress: row.egress })
}

impl Store {
    /// Adds a tenant, or makes an existing one what is said; true if it is new.
    pub async fn put_tenant(&self, now: i64, name: &TenantName, spec: &TenantSpec) -> Done<(bool, Tenant)> {
        let range = Range::new(spec.inner, spec.host_prefix).map_err(|error| Refusal::invalid(error, "change `inner` or `host_prefix`"))?;
        if spec.shards.is_empty() {
            return Err(Refusal::invalid("a tenant has at least one shard", "write `\"shards\": [0]`").into());
        }
        let mut writer = self.writer("add or change a tenant", now).await?;
        let (new, moved, mut row) = match find(writer.connection(), name).await? {
            None => (true, false, writer.add_tenant(name, range).await?),
            Some(row) if row.range == range => (false, false, row),
            Some(row) => (false, true, writer.move_range(row, range).await?),
        };
        let egress = spec.egress.as_ref().unwrap_or(&row.egress).clone();
        fitting(&egress, &spec.shards)?;
        let renamed = writer.set_egress(&mut row, egress).await?;
        let changed = writer.set_shards(&row, &spec.shards).await? || renamed || new || moved;
        let tenant = whole(writer.connection(), row.clone()).await?;
        writer.tell(Told { tenant: Some((row.id, &row.name)), ..Told::of(ChangeKind::Tenant, name.as_str()) }).await?;
        if changed {
            writer.commit().await?;
        }
        Ok((new, tenant))
    }

    pub async fn tenant(&self, scope: &Scope, name: &TenantName) -> Done<Tenant> {
        let mut view = self.view("read a tenant").await?;
        let row = find(&mut view, name).await?.filter(|row| scope.has(row.id)).ok_or_else(|| Refusal::unknown("tenant", name))?;
        whole(&mut view, row).await
    }

    pub async fn tenants(&self, scope: &Scope) -> Done<Vec<Tenant>> {
        let mut view = self.view("list tenants").await?;
        let rows: Vec<(i64, String, String, i64, i64, String)> = sqlx::query_as(
            "SELECT id, name, inner_range, length, (SELECT COUNT(*) FROM host_tenants WHERE tenant = id), egress FROM tenants ORDER BY name",
        )
        .fetch_all(&mut *view)
        .await?;
        let shards: Vec<(i64, i64)> = sqlx::query_as("SELECT tenant, shard FROM shards").fetch_all(&mut *view).await?;
        let mut by_tenant: BTreeMap<i64, BTreeSet<ShardId>> = BTreeMap::new();
        for (tenant, shard) in shards {
            by_tenant.entry(tenant).or_default().insert(shard_id(shard)?);
        }
        let visible = rows.into_iter().filter(|(id, ..)| scope.has(*id));
        visible
            .map(|(id, name, net, length, hosts, egress)| {
                let (range, shards) = (places::read(&net, length)?, by_tenant.remove(&id).unwrap_or_default());
                let (inner, host_prefix) = (range.net(), range.length());
                Ok(Tenant { name: stored(name.parse())?, inner, host_prefix, shards, hosts: unsigned(hosts), egress: pools(&egress)? })
            })
            .collect()
    }

    /// Refused as long as hosts may serve it or gateways serve a shard of it.
    pub async fn remove_tenant(&self, now: i64, name: &TenantName) -> Done<()> {
        let mut writer = self.writer("remove a tenant", now).await?;
        let row = find(writer.connection(), name).await?.ok_or_else(|| Refusal::unknown("tenant", name))?;
        let hosts = hosts_of(writer.connection(), row.id).await?;
        if hosts > 0 {
            let message = format!("tenant {name} still has {hosts} hosts");
            return Err(Refusal::new(Code::InUse, message, "take it from them, or remove them, first").into());
        }
        writer.set_shards(&row, &BTreeSet::new()).await?;
        sqlx::query("DELETE FROM tenants WHERE id = $1").bind(row.id).execute(writer.connection()).await?;
        // Nobody sees its number any more: only operators of everything are told.
        writer.tell(Told { gone: true, tenant: Some((row.id, &row.name)), ..Told::of(ChangeKind::Tenant, name.as_str()) }).await?;
        writer.commit().await?;
        Ok(())
    }
}

impl Writer {
    async fn add_tenant(&mut self, name: &TenantName, range: Range) -> Done<Row> {
        let (id,): (i64,) = sqlx::query_as("INSERT INTO tenants (name, inner_range, length, next) VALUES ($1, $2, $3, $4) RETURNING id")
            .bind(name.as_str().to_owned())
            .bind(range.net().to_string())
            .bind(i64::from(range.length()))
            .bind(Range::FIRST)
            .fetch_one(self.connection())
            .await?;
        Ok(Row { id, name: name.clone(), range, egress: Pools::default() })
    }

    /// Places mean something else then, so there must be none.
    async fn move_range(&mut self, row: Row, range: Range) -> Done<Row> {
        if hosts_of(self.connection(), row.id).await? > 0 {
            let message = format!("hosts of tenant {} have inner prefixes in {}", row.name, row.range.net());
            return Err(Refusal::new(Code::InUse, message, "keep the range, or remove the hosts first").into());
        }
        sqlx::query("DELETE FROM free_places WHERE tenant = $1").bind(row.id).execute(self.connection()).await?;
        sqlx::query("UPDATE tenants SET inner_range = $2, length = $3, next = $4 WHERE id = $1")
            .bind(row.id)
            .bind(range.net().to_string())
            .bind(i64::from(range.length()))
            .bind(Range::FIRST)
            .execute(self.connection())
            .await?;
        Ok(Row { range, ..row })
    }

    /// Whether they have changed.
    async fn set_egress(&mut self, row: &mut Row, wanted: Pools) -> Done<bool> {
        if row.egress == wanted {
            return Ok(false);
        }
        sqlx::query("UPDATE tenants SET egress = $2 WHERE id = $1")
            .bind(row.id)
            .bind(stored(serde_json::to_string(&wanted))?)
            .execute(self.connection())
            .await?;
        row.egress = wanted;
        Ok(true)
    }

    /// Whether anything changed.
    async fn set_shards(&mut self, row: &Row, wanted: &BTreeSet<ShardId>) -> Done<bool> {
        let present = shards_of(self.connection(), row.id).await?;
        for shard in present.difference(wanted) {
            self.remove_shard(row, *shard).await?;
        }
        for shard in wanted.difference(&present) {
            let number = i64::from(shard.0);
            sqlx::query("INSERT INTO shards (tenant, shard) VALUES ($1, $2)").bind(row.id).bind(number).execute(self.connection()).await?;
            self.give_places(row.id, number, &row.name, &row.range).await?;
            let name = TenantShard { tenant: row.name.clone(), shard: *shard }.to_string();
            self.tell(Told { tenant: Some((row.id, &row.name)), ..Told::of(ChangeKind::Shard, &name) }).await?;
        }
        Ok(present != *wanted)
    }

    async fn remove_shard(&mut self, row: &Row, shard: ShardId) -> Done<()> {
        let (name, number) = (TenantShard { tenant: row.name.clone(), shard }.to_string(), i64::from(shard.0));
        let (gateways,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM members WHERE tenant = $1 AND shard = $2")
            .bind(row.id)
            .bind(number)
            .fetch_one(self.connection())
            .await?;
        if gateways > 0 {
            let remedy = "take it from them by `portway directory gateway add NAME --shard ...`, or remove them, first";
            return Err(Refusal::new(Code::InUse, format!("{gateways} gateways still serve shard {name}"), remedy).into());
        }
        self.free_places_of_shard(row.id, number).await?;
        sqlx::query("DELETE FROM shards WHERE tenant = $1 AND shard = $2").bind(row.id).bind(number).execute(self.connection()).await?;
        self.tell(Told { tenant: Some((row.id, &row.name)), gone: true, ..Told::of(ChangeKind::Shard, &name) }).await
    }
}
