//! Gateways, and which shards they serve.

use super::super::refusal::Refusal;
use super::super::types::{Assignment, ChangeKind, Gateway, GatewaySpec};
use super::changes::Told;
use super::{Done, Scope, Store, Writer, group, revision, shards, stored, tenants, unsigned};
use crate::model::{NodeName, TenantName, TenantShard};
use sqlx::AnyConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The shards that a gateway serves, with their tenants' numbers.
pub(super) async fn members_of(connection: &mut AnyConnection, gateway: i64) -> Done<BTreeMap<TenantShard, i64>> {
    let rows: Vec<(i64, String, i64)> =
        sqlx::query_as("SELECT tenant, name, shard FROM members JOIN tenants ON id = tenant WHERE gateway = $1")
            .bind(gateway)
            .fetch_all(connection)
            .await?;
    rows.into_iter()
        .map(|(id, name, shard)| Ok((TenantShard { tenant: stored(name.parse())?, shard: tenants::shard_id(shard)? }, id)))
        .collect()
}

/// A gateway as it stands.
pub(super) struct Row {
    pub id: i64,
    epoch: i64,
    /// Of a node of a group, with the rest (types::Member).
    pub address: Option<IpAddr>,
    pub leaving: bool,
    pub since: i64,
    pub heeds: u64,
}

type Columns = (i64, String, i64, Option<String>, i64, i64, i64);

fn row((id, name, epoch, address, leaving, since, heeds): Columns) -> Done<(NodeName, Row)> {
    let address = address.map(|text| stored(text.parse())).transpose()?;
    Ok((stored(name.parse())?, Row { id, epoch, address, leaving: leaving != 0, since, heeds: unsigned(heeds) }))
}

pub(super) async fn find(connection: &mut AnyConnection, name: &NodeName) -> Done<Option<Row>> {
    let found: Option<Columns> = sqlx::query_as("SELECT id, name, epoch, address, leaving, since, heeds FROM gateways WHERE name = $1")
        .bind(name.as_str().to_owned())
        .fetch_optional(connection)
        .await?;
    Ok(found.map(row).transpose()?.map(|(_, row)| row))
}

impl Row {
    fn gateway(&self, name: NodeName, shards: BTreeSet<TenantShard>) -> Gateway {
        Gateway { name, epoch: unsigned(self.epoch), shards, address: self.address, leaving: self.leaving }
    }

    /// What of it may be seen; none: nothing.
    fn seen(&self, scope: &Scope, name: NodeName, members: &BTreeMap<TenantShard, i64>) -> Option<Gateway> {
        let shards: BTreeSet<_> = members.iter().filter(|(_, tenant)| scope.has(**tenant)).map(|(of, _)| of.clone()).collect();
        (scope.is_all() || !shards.is_empty()).then(|| self.gateway(name, shards))
    }
}

impl Store {
    /// Adds a gateway, or says what an existing one serves; true if it is new.
    pub async fn put_gateway(&self, now: i64, scope: &Scope, name: &NodeName, spec: &GatewaySpec) -> Done<(bool, Gateway)> {
        if spec.shards.is_empty() && !scope.is_all() {
            let remedy = "name at least one shard of your tenants, or remove the gateway";
            return Err(Refusal::invalid("a gateway of no shard", remedy).into());
        }
        let mut writer = self.writer("add or change a gateway", now).await?;
        let mut wanted = BTreeMap::new();
        for of in &spec.shards {
            let row = tenants::find(writer.connection(), &of.tenant).await?.filter(|row| scope.has(row.id));
            let row = row.ok_or_else(|| Refusal::unknown("shard", of))?;
            if !tenants::shards_of(writer.connection(), row.id).await?.contains(&of.shard) {
                return Err(Refusal::unknown("shard", of).into());
            }
            wanted.insert(of.clone(), row.id);
        }
        let found = find(writer.connection(), name).await?;
        let (id, present) = match &found {
            Some(row) => (row.id, members_of(writer.connection(), row.id).await?),
            None => {
                let (id,): (i64,) = sqlx::query_as("INSERT INTO gateways (name, epoch) VALUES ($1, 0) RETURNING id")
                    .bind(name.as_str().to_owned())
                    .fetch_one(writer.connection())
                    .await?;
                (id, BTreeMap::new())
            }
        };
        // Not by who may not see all of it, nor one that serves nothing now: its tokens are somebody's.
        if found.is_some() && !scope.is_all() && (present.is_empty() || present.values().any(|tenant| !scope.has(*tenant))) {
            return Err(Refusal::new(super::Code::NameTaken, format!("the name {name} is taken"), "choose another one").into());
        }
        if let Some(row) = found.as_ref().filter(|_| present == wanted) {
            return Ok((false, row.gateway(name.clone(), spec.shards.clone())));
        }
        writer.set_members(id, name, &present, &wanted).await?;
        let epoch = writer.commit().await?;
        let (address, leaving) = found.as_ref().map_or((None, false), |row| (row.address, row.leaving));
        Ok((found.is_none(), Gateway { name: name.clone(), epoch, shards: spec.shards.clone(), address, leaving }))
    }

    pub async fn gateway(&self, scope: &Scope, name: &NodeName) -> Done<Gateway> {
        let mut view = self.view("read a gateway").await?;
        let unknown = || Refusal::unknown("gateway", name);
        let row = find(&mut view, name).await?.ok_or_else(unknown)?;
        let members = members_of(&mut view, row.id).await?;
        Ok(row.seen(scope, name.clone(), &members).ok_or_else(unknown)?)
    }

    pub async fn gateways(&self, scope: &Scope) -> Done<Vec<Gateway>> {
        let mut view = self.view("list gateways").await?;
        let rows: Vec<Columns> = sqlx::query_as("SELECT id, name, epoch, address, leaving, since, heeds FROM gateways ORDER BY name")
            .fetch_all(&mut *view)
            .await?;
        let members: Vec<(i64, i64, String, i64)> =
            sqlx::query_as("SELECT gateway, tenant, name, shard FROM members JOIN tenants ON id = tenant").fetch_all(&mut *view).await?;
        let mut by_gateway: BTreeMap<i64, BTreeMap<TenantShard, i64>> = BTreeMap::new();
        for (gateway, tenant, name, shard) in members {
            let of = TenantShard { tenant: stored(name.parse::<TenantName>())?, shard: tenants::shard_id(shard)? };
            by_gateway.entry(gateway).or_default().insert(of, tenant);
        }
        let mut found = Vec::new();
        for columns in rows {
            let (name, row) = row(columns)?;
            found.extend(row.seen(scope, name, &by_gateway.remove(&row.id).unwrap_or_default()));
        }
        Ok(found)
    }

    /// What a gateway needs of itself.
    pub async fn assignment(&self, name: &NodeName, scope: &Scope) -> Done<Assignment> {
        let mut view = self.view("read a gateway's shards").await?;
        let row = find(&mut view, name).await?.ok_or_else(|| Refusal::unknown("gateway", name))?;
        let mut members = members_of(&mut view, row.id).await?;
        members.retain(|_, tenant| scope.has(*tenant));
        let mut shards = shards::visible(&mut view, scope).await?;
        shards.retain(|shard| members.contains_key(&shard.of));
        let group = group::group_of(&mut view, &members).await?;
        let gateway = row.gateway(name.clone(), members.into_keys().collect());
        Ok(Assignment { gateway, shards, members: group, revision: revision(&mut view).await? })
    }

    /// Its tokens go with it. Its shards stay, with the inner prefixes in them.
    pub async fn remove_gateway(&self, now: i64, scope: &Scope, name: &NodeName) -> Done<()> {
        let mut writer = self.writer("remove a gateway", now).await?;
        let unknown = || Refusal::unknown("gateway", name);
        let row = find(writer.connection(), name).await?.ok_or_else(unknown)?;
        let (id, members) = (row.id, members_of(writer.connection(), row.id).await?);
        row.seen(scope, name.clone(), &members).ok_or_else(unknown)?;
        if members.values().any(|tenant| !scope.has(*tenant)) {
            return Err(Refusal::forbidden("an operator of some tenants only, of a gateway that serves others too,").into());
        }
        writer.set_members(id, name, &members, &BTreeMap::new()).await?;
        sqlx::query("DELETE FROM gateways WHERE id = $1").bind(id).execute(writer.connection()).await?;
        writer.commit().await?;
        Ok(())
    }
}

impl Writer {
    async fn set_members(
        &mut self,
        id: i64,
        name: &NodeName,
        present: &BTreeMap<TenantShard, i64>,
        wanted: &BTreeMap<TenantShard, i64>,
    ) -> Done<()> {
        for (of, tenant) in present.iter().filter(|(of, _)| !wanted.contains_key(of)) {
            sqlx::query("DELETE FROM members WHERE gateway = $1 AND tenant = $2 AND shard = $3")
                .bind(id)
                .bind(*tenant)
                .bind(i64::from(of.shard.0))
                .execute(self.connection())
                .await?;
        }
        for (of, tenant) in wanted.iter().filter(|(of, _)| !present.contains_key(of)) {
            sqlx::query("INSERT INTO members (gateway, tenant, shard) VALUES ($1, $2, $3)")
                .bind(id)
                .bind(*tenant)
                .bind(i64::from(of.shard.0))
                .execute(self.connection())
                .await?;
        }
        let epoch = self.revision;
        sqlx::query("UPDATE gateways SET epoch = $2, since = $2 WHERE id = $1").bind(id).bind(epoch).execute(self.connection()).await?;
        // The gateway itself is told in any case; others by tenant.
        self.tell(Told { gateway: Some(id), gone: wanted.is_empty(), ..Told::of(ChangeKind::Gateway, name.as_str()) }).await?;
        let mut tenants: BTreeMap<i64, (&TenantName, bool)> = present.iter().map(|(of, id)| (*id, (&of.tenant, true))).collect();
        tenants.extend(wanted.iter().map(|(of, id)| (*id, (&of.tenant, false))));
        for (tenant, (tenant_name, gone)) in tenants {
            self.tell(Told { tenant: Some((tenant, tenant_name)), gone, ..Told::of(ChangeKind::Gateway, name.as_str()) }).await?;
        }
        Ok(())
    }
}
