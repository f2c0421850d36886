//! Shards: where their tunnels end, and with which key.

use super::super::refusal::{Code, Refusal};
use super::super::types::{ChangeKind, Shard, ShardSpec};
use super::changes::Told;
use super::{Done, Scope, Store, stored, stored_key, taken, tenants};
use crate::model::{NodeName, TenantShard};
use sqlx::AnyConnection;
use std::collections::{BTreeMap, BTreeSet};

/// All shards that may be seen, by tenant and number.
pub(super) async fn visible(connection: &mut AnyConnection, scope: &Scope) -> Done<Vec<Shard>> {
    type Row = (i64, String, i64, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>);
    let mut found = Vec::new();
    // A statement for each of a few tenants, or one for all: most callers have one tenant among thousands.
    const ALL: &str = "SELECT tenant, name, shard, endpoint, public_key, next_key, next_port FROM shards JOIN tenants ON id = tenant ORDER BY name, shard";
    const ONE: &str = "SELECT tenant, name, shard, endpoint, public_key, next_key, next_port FROM shards JOIN tenants ON id = tenant WHERE tenant = $1 ORDER BY shard";
    let (mut rows, mut members): (Vec<Row>, Vec<(i64, i64, String)>) = (Vec::new(), Vec::new());
    match scope {
        Scope::All => {
            rows = sqlx::query_as(ALL).fetch_all(&mut *connection).await?;
            members = sqlx::query_as("SELECT tenant, shard, name FROM members JOIN gateways ON id = gateway").fetch_all(connection).await?;
        }
        Scope::Only(tenants) => {
            for tenant in tenants.keys() {
                rows.extend(sqlx::query_as::<_, Row>(ONE).bind(*tenant).fetch_all(&mut *connection).await?);
                members.extend(
                    sqlx::query_as::<_, (i64, i64, String)>(
                        "SELECT tenant, shard, name FROM members JOIN gateways ON id = gateway WHERE tenant = $1",
                    )
                    .bind(*tenant)
                    .fetch_all(&mut *connection)
                    .await?,
                );
            }
        }
    }
    let mut gateways: BTreeMap<(i64, i64), BTreeSet<NodeName>> = BTreeMap::new();
    for (tenant, shard, name) in members {
        gateways.entry((tenant, shard)).or_default().insert(stored(name.parse())?);
    }
    for (tenant, name, shard, endpoint, public_key, next_key, next_port) in rows {
        found.push(Shard {
            of: TenantShard { tenant: stored(name.parse())?, shard: tenants::shard_id(shard)? },
            endpoint: endpoint.map(|text| stored(text.parse())).transpose()?,
            public_key: public_key.as_deref().map(stored_key).transpose()?,
            next_key: next_key.as_deref().map(stored_key).transpose()?,
            next_port: next_port.map(|port| stored(u16::try_from(port))).transpose()?,
            gateways: gateways.remove(&(tenant, shard)).unwrap_or_default(),
        });
    }
    Ok(found)
}

impl Store {
    pub async fn shards(&self, scope: &Scope) -> Done<Vec<Shard>> {
        let mut view = self.view("list shards").await?;
        visible(&mut view, scope).await
    }

    /// Says where a shard's tunnels end. `gateway`: the caller, which must serve the shard; none: an operator of this scope.
    pub async fn put_shard(&self, now: i64, scope: &Scope, gateway: Option<i64>, of: &TenantShard, spec: &ShardSpec) -> Done<()> {
        if spec.next_key == Some(spec.public_key) {
            return Err(Refusal::invalid("the next key is the present one", "leave `next_key` out, or make a new key").into());
        }
        match (spec.next_key, spec.next_port) {
            (None, Some(_)) => {
                return Err(Refusal::invalid("a next port without a next key", "leave `next_port` out, or write `next_key`").into());
            }
            (Some(_), Some(port)) if port == 0 || port == spec.endpoint.port() => {
                let remedy = "write another `next_port`: two keys cannot be answered at one port";
                return Err(Refusal::invalid(format!("the next key cannot be answered at port {port}"), remedy).into());
            }
            _ => {}
        }
        if spec.endpoint.port() == 0 || spec.endpoint.ip().is_unspecified() {
            let remedy = "write the platform HaVip and the UDP port, such as 10.9.0.50:51820";
            return Err(Refusal::invalid(format!("{} is no endpoint", spec.endpoint), remedy).into());
        }
        let mut writer = self.writer("change a shard", now).await?;
        let number = i64::from(of.shard.0);
        let row = tenants::find(writer.connection(), &of.tenant).await?.filter(|row| scope.has(row.id));
        let row = row.ok_or_else(|| Refusal::unknown("shard", of))?;
        type Present = (Option<String>, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>);
        let present: Option<Present> =
            sqlx::query_as("SELECT endpoint, public_key, next_key, next_port FROM shards WHERE tenant = $1 AND shard = $2")
                .bind(row.id)
                .bind(number)
                .fetch_optional(writer.connection())
                .await?;
        let present = present.ok_or_else(|| Refusal::unknown("shard", of))?;
        if let Some(gateway) = gateway {
            let member: Option<(i64,)> = sqlx::query_as("SELECT gateway FROM members WHERE gateway = $1 AND tenant = $2 AND shard = $3")
                .bind(gateway)
                .bind(row.id)
                .bind(number)
                .fetch_optional(writer.connection())
                .await?;
            if member.is_none() {
                return Err(Refusal::unknown("shard", of).into());
            }
        }
        let keys = [Some(spec.public_key), spec.next_key];
        let wanted = (
            Some(spec.endpoint.to_string()),
            Some(spec.public_key.bytes().to_vec()),
            spec.next_key.map(|key| key.bytes().to_vec()),
            spec.next_port.map(i64::from),
        );
        if present == wanted {
            return Ok(());
        }
        for key in keys.into_iter().flatten() {
            writer.not_a_hosts(&key).await?;
            // The two columns are unique each for themselves.
            let other: Option<(i64,)> =
                sqlx::query_as("SELECT tenant FROM shards WHERE (public_key = $1 OR next_key = $1) AND NOT (tenant = $2 AND shard = $3)")
                    .bind(key.bytes().to_vec())
                    .bind(row.id)
                    .bind(number)
                    .fetch_optional(writer.connection())
                    .await?;
            if other.is_some() {
                return Err(key_of_another().into());
            }
        }
        let updated =
            sqlx::query("UPDATE shards SET endpoint = $3, public_key = $4, next_key = $5, next_port = $6 WHERE tenant = $1 AND shard = $2")
                .bind(row.id)
                .bind(number)
                .bind(wanted.0)
                .bind(wanted.1)
                .bind(wanted.2)
                .bind(wanted.3)
                .execute(writer.connection())
                .await;
        updated.map_err(|error| taken(error, Code::KeyTaken, || key_of_another().message, &key_of_another().remedy))?;
        writer.tell(Told { tenant: Some((row.id, &row.name)), ..Told::of(ChangeKind::Shard, &of.to_string()) }).await?;
        writer.commit().await?;
        Ok(())
    }
}

fn key_of_another() -> Refusal {
    Refusal::new(Code::KeyTaken, "this public key is another's", "make a key pair of its own: `wg genkey | tee key | wg pubkey`")
}

impl super::Writer {
    async fn not_a_hosts(&mut self, key: &crate::model::PublicKey) -> Done<()> {
        let host: Option<(i64,)> = sqlx::query_as("SELECT host FROM host_keys WHERE public_key = $1")
            .bind(key.bytes().to_vec())
            .fetch_optional(self.connection())
            .await?;
        if host.is_some() { Err(key_of_another().into()) } else { Ok(()) }
    }

    /// Refused if a shard or another host has this key.
    pub(super) async fn key_is_free(&mut self, key: &crate::model::PublicKey, host: Option<i64>) -> Done<()> {
        let shard: Option<(i64,)> = sqlx::query_as("SELECT shard FROM shards WHERE public_key = $1 OR next_key = $1")
            .bind(key.bytes().to_vec())
            .fetch_optional(self.connection())
            .await?;
        let owner: Option<(i64,)> = sqlx::query_as("SELECT host FROM host_keys WHERE public_key = $1")
            .bind(key.bytes().to_vec())
            .fetch_optional(self.connection())
            .await?;
        if shard.is_some() || owner.is_some_and(|(owner,)| Some(owner) != host) { Err(key_of_another().into()) } else { Ok(()) }
    }
}
