//! Tokens: who may do what, and until when.

use super::super::refusal::Refusal;
use super::super::token::TokenHash;
use super::super::types::{ChangeKind, Role, Token, TokenSpec};
use super::changes::Told;
use super::{Done, Scope, Store, Writer, stored, tenants};
use crate::model::{NodeName, TenantName};
use sqlx::AnyConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a token says of who shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    pub role: Role,
    /// The number of the gateway or host.
    pub gateway: Option<i64>,
    pub host: Option<i64>,
    pub name: Option<NodeName>,
    pub scope: Scope,
    /// Seconds since 1970.
    pub expires: Option<i64>,
}

/// A token as it is kept.
#[derive(Debug, Clone)]
pub struct Found {
    pub hash: TokenHash,
    pub access: Access,
}

pub(super) fn role(text: &str) -> Done<Role> {
    stored(Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or("no role"))
}

pub(super) async fn tenants_of_token(connection: &mut AnyConnection, id: &str) -> Done<BTreeMap<i64, TenantName>> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT tenants.id, tenants.name FROM token_tenants JOIN tenants ON tenants.id = tenant WHERE token = $1")
            .bind(id.to_owned())
            .fetch_all(connection)
            .await?;
    named(rows)
}

fn named(rows: Vec<(i64, String)>) -> Done<BTreeMap<i64, TenantName>> {
    rows.into_iter().map(|(id, name)| Ok((id, stored(name.parse())?))).collect()
}

type Tenants = BTreeMap<i64, TenantName>;

type Row = (String, Vec<u8>, String, i64, Option<i64>, Option<i64>, Option<i64>);

impl Store {
    /// The token with this id, and what it is good for at present.
    pub async fn token(&self, id: &str) -> Done<Option<Found>> {
        let mut view = self.view("look up a token").await?;
        let row: Option<Row> = sqlx::query_as("SELECT id, hash, role, everywhere, gateway, host, expires FROM tokens WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(&mut *view)
            .await?;
        let Some((_, hash, role_text, everywhere, gateway, host, expires)) = row else { return Ok(None) };
        let role = role(&role_text)?;
        let (mut name, mut scope) = (None, Scope::All);
        if let Some(gateway) = gateway {
            let (text,): (String,) = sqlx::query_as("SELECT name FROM gateways WHERE id = $1").bind(gateway).fetch_one(&mut *view).await?;
            name = Some(stored(text.parse())?);
            let rows = sqlx::query_as("SELECT DISTINCT id, name FROM members JOIN tenants ON id = tenant WHERE gateway = $1");
            let mut served = named(rows.bind(gateway).fetch_all(&mut *view).await?)?;
            if everywhere == 0 {
                let may = tenants_of_token(&mut view, id).await?;
                served.retain(|tenant, _| may.contains_key(tenant));
            }
            scope = Scope::Only(Arc::new(served));
        } else if let Some(host) = host {
            let (text,): (String,) = sqlx::query_as("SELECT name FROM hosts WHERE id = $1").bind(host).fetch_one(&mut *view).await?;
            name = Some(stored(text.parse())?);
            let rows = sqlx::query_as("SELECT id, name FROM host_tenants JOIN tenants ON id = tenant WHERE host = $1");
            scope = Scope::Only(Arc::new(named(rows.bind(host).fetch_all(&mut *view).await?)?));
        } else if everywhere == 0 {
            scope = Scope::Only(Arc::new(tenants_of_token(&mut view, id).await?));
        }
        let access = Access { role, gateway, host, name, scope, expires };
        Ok(Some(Found { hash: stored(TokenHash::try_from(hash.as_slice()))?, access }))
    }

    /// Keeps a new token, for an operator of this scope.
    pub async fn add_token(&self, now: i64, scope: &Scope, spec: &TokenSpec, id: &str, hash: &TokenHash) -> Done<Option<i64>> {
        const HOUR: i64 = 60 * 60;
        let mut writer = self.writer("add a token", now).await?;
        let wrong = |what: &str, remedy: &str| Err(Refusal::invalid(what, remedy).into());
        let mut tenant_ids = BTreeSet::new();
        for tenant in spec.tenants.iter().flatten() {
            let row = tenants::find(writer.connection(), tenant).await?.filter(|row| scope.has(row.id));
            tenant_ids.insert(row.ok_or_else(|| Refusal::unknown("tenant", tenant))?.id);
        }
        let mut gateway = None;
        match spec.role {
            Role::Host => return wrong("hosts get their tokens when they enrol", "make a token of the role `enroll`"),
            Role::Gateway => {
                let Some(name) = &spec.gateway else { return wrong("whose token?", "name the gateway: `\"gateway\": \"gw-a1\"`") };
                if spec.tenants.is_some() || spec.host.is_some() {
                    return wrong("a gateway's token is good for what it serves", "leave `tenants` and `host` out");
                }
                let row: Option<(i64,)> = sqlx::query_as("SELECT id FROM gateways WHERE name = $1")
                    .bind(name.as_str().to_owned())
                    .fetch_optional(writer.connection())
                    .await?;
                let (id,) = row.ok_or_else(|| Refusal::unknown("gateway", name))?;
                let members = super::gateways::members_of(writer.connection(), id).await?;
                if !scope.is_all() && (members.is_empty() || members.values().any(|tenant| !scope.has(*tenant))) {
                    return Err(Refusal::unknown("gateway", name).into());
                }
                gateway = Some(id);
                // Whatever the gateway will serve later: who makes a token cannot give more than it has.
                if let Scope::Only(own) = scope {
                    tenant_ids.extend(own.keys());
                }
            }
            Role::Operator | Role::Observer | Role::Enroll if spec.gateway.is_some() => {
                return wrong("`gateway` goes with the role `gateway` only", "leave it out");
            }
            Role::Operator | Role::Observer if spec.host.is_some() => {
                return wrong("`host` goes with the role `enroll` only", "leave it out");
            }
            Role::Operator | Role::Observer if spec.tenants.is_none() && !scope.is_all() => {
                return Err(Refusal::forbidden("an operator of some tenants only, for all,").into());
            }
            Role::Operator | Role::Observer if spec.tenants.as_ref().is_some_and(BTreeSet::is_empty) => {
                return wrong("an operator or observer of no tenant", "name tenants, or leave `tenants` out for all");
            }
            Role::Enroll if tenant_ids.is_empty() => {
                return wrong("an enrolment for no tenant", "name what the host may serve in `tenants`");
            }
            Role::Operator | Role::Observer | Role::Enroll => {}
        }
        let default = (spec.role == Role::Enroll).then_some(HOUR);
        let expires = spec.expires_s.map(i64::from).or(default).map(|seconds| now + seconds);
        sqlx::query(
            "INSERT INTO tokens (id, hash, role, everywhere, gateway, pinned, created, expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id.to_owned())
        .bind(hash.bytes().to_vec())
        .bind(spec.role.as_str().to_owned())
        .bind(i64::from(match spec.role {
            Role::Gateway => scope.is_all(),
            role => matches!(role, Role::Operator | Role::Observer) && spec.tenants.is_none(),
        }))
        .bind(gateway)
        .bind(spec.host.as_ref().map(|host| host.as_str().to_owned()))
        .bind(now)
        .bind(expires)
        .execute(writer.connection())
        .await?;
        for tenant in tenant_ids {
            sqlx::query("INSERT INTO token_tenants (token, tenant) VALUES ($1, $2)")
                .bind(id.to_owned())
                .bind(tenant)
                .execute(writer.connection())
                .await?;
        }
        writer.commit().await?;
        Ok(expires)
    }

    /// All but those of hosts, which are as many as there are hosts.
    pub async fn tokens(&self, scope: &Scope) -> Done<Vec<Token>> {
        let mut view = self.view("list tokens").await?;
        listed(&mut view, scope, None).await
    }

    pub async fn remove_token(&self, now: i64, scope: &Scope, id: &str) -> Done<()> {
        let mut writer = self.writer("remove a token", now).await?;
        if listed(writer.connection(), scope, Some(id)).await?.is_empty() {
            return Err(Refusal::unknown("token", id).into());
        }
        writer.revoke(id).await?;
        writer.commit().await?;
        Ok(())
    }
}

/// The tokens, or the one with this id, that an operator of this scope may see: those of whom it may see all that they are good for.
async fn listed(connection: &mut AnyConnection, scope: &Scope, id: Option<&str>) -> Done<Vec<Token>> {
    type Row = (String, String, i64, Option<i64>, Option<String>, Option<String>, i64, Option<i64>, Option<String>);
    // As many statements for one as for all.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT tokens.id, role, everywhere, gateway, gateways.name, pinned, created, expires, used_by
         FROM tokens LEFT JOIN gateways ON gateways.id = gateway WHERE host IS NULL AND ($1 IS NULL OR tokens.id = $1) ORDER BY created, tokens.id",
    )
    .bind(id.map(str::to_owned))
    .fetch_all(&mut *connection)
    .await?;
    let limits: Vec<(String, i64, String)> = sqlx::query_as(
        "SELECT token, tenants.id, tenants.name FROM token_tenants JOIN tenants ON tenants.id = tenant WHERE $1 IS NULL OR token = $1",
    )
    .bind(id.map(str::to_owned))
    .fetch_all(&mut *connection)
    .await?;
    let members: Vec<(i64, i64, String)> =
        sqlx::query_as("SELECT DISTINCT gateway, tenants.id, name FROM members JOIN tenants ON id = tenant")
            .fetch_all(&mut *connection)
            .await?;
    let (mut limit, mut served): (BTreeMap<String, Tenants>, BTreeMap<i64, Tenants>) = (BTreeMap::new(), BTreeMap::new());
    for (token, tenant, name) in limits {
        limit.entry(token).or_default().insert(tenant, stored(name.parse())?);
    }
    for (gateway, tenant, name) in members {
        served.entry(gateway).or_default().insert(tenant, stored(name.parse())?);
    }
    let mut tokens = Vec::new();
    for (id, role_text, everywhere, gateway, gateway_name, host, created, expires, used_by) in rows {
        let may = limit.remove(&id).unwrap_or_default();
        let tenants = match gateway {
            None => (everywhere == 0).then_some(may),
            Some(gateway) => {
                let mut tenants = served.get(&gateway).cloned().unwrap_or_default();
                tenants.retain(|tenant, _| everywhere != 0 || may.contains_key(tenant));
                Some(tenants)
            }
        };
        let all_seen = tenants.as_ref().is_some_and(|some| !some.is_empty() && some.keys().all(|tenant| scope.has(*tenant)));
        if scope.is_all() || all_seen {
            tokens.push(Token {
                id,
                role: role(&role_text)?,
                tenants: tenants.map(|some| some.into_values().collect()),
                gateway: gateway_name.map(|name| stored(name.parse())).transpose()?,
                host: host.map(|host| stored(host.parse())).transpose()?,
                created,
                expires,
                used_by: used_by.map(|host| stored(host.parse())).transpose()?,
            });
        }
    }
    Ok(tokens)
}

impl Writer {
    pub(super) async fn revoke(&mut self, id: &str) -> Done<()> {
        sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id.to_owned()).execute(self.connection()).await?;
        self.tell(Told { gone: true, ..Told::of(ChangeKind::Token, id) }).await
    }

    pub(super) async fn revoke_of_host(&mut self, host: i64) -> Done<()> {
        let tokens: Vec<(String,)> =
            sqlx::query_as("SELECT id FROM tokens WHERE host = $1").bind(host).fetch_all(self.connection()).await?;
        for (id,) in tokens {
            self.revoke(&id).await?;
        }
        Ok(())
    }
}
