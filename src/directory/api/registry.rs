//! Tenants, shards, gateways, hosts, tokens, peers: the calls that are hardly more than what the store does.

use super::Shared;
use super::extract::{Asked, Body, Caller, Named};
use crate::directory::client::PathKey;
use crate::directory::mint;
use crate::directory::refusal::{Code, Refusal};
use crate::directory::types::*;
use crate::model::{Invalid, NodeName, TenantName, TenantShard};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use std::time::{Duration, Instant};

type Answer<T> = Result<Json<T>, Refusal>;
type Made<T> = Result<(StatusCode, Json<T>), Refusal>;
type Nothing = Result<StatusCode, Refusal>;

/// Hosts on a page.
const PAGE: u32 = 500;
/// A gateway says something every five seconds.
const ALIVE: Duration = Duration::from_secs(15);

fn made<T>((new, value): (bool, T)) -> Made<T> {
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(value)))
}

pub async fn tenants(State(directory): Shared, caller: Caller) -> Answer<Vec<Tenant>> {
    caller.must_be(&[Role::Operator, Role::Gateway, Role::Host])?;
    Ok(Json(directory.store.tenants(&caller.access.scope).await?))
}

pub async fn tenant(State(directory): Shared, caller: Caller, Named(name): Named<TenantName>) -> Answer<Tenant> {
    caller.must_be(&[Role::Operator, Role::Gateway, Role::Host])?;
    Ok(Json(directory.store.tenant(&caller.access.scope, &name).await?))
}

pub async fn put_tenant(
    State(directory): Shared,
    caller: Caller,
    Named(name): Named<TenantName>,
    Body(spec): Body<TenantSpec>,
) -> Made<Tenant> {
    caller.must_run_everything()?;
    made(directory.store.put_tenant(directory.now(), &name, &spec).await?)
}

pub async fn remove_tenant(State(directory): Shared, caller: Caller, Named(name): Named<TenantName>) -> Nothing {
    caller.must_run_everything()?;
    directory.store.remove_tenant(directory.now(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn shards(State(directory): Shared, caller: Caller) -> Answer<Vec<Shard>> {
    caller.must_be(&[Role::Operator, Role::Gateway, Role::Host])?;
    Ok(Json(directory.store.shards(&caller.access.scope).await?))
}

pub async fn put_shard(State(directory): Shared, caller: Caller, Named(of): Named<TenantShard>, Body(spec): Body<ShardSpec>) -> Nothing {
    caller.must_be(&[Role::Operator, Role::Gateway])?;
    directory.store.put_shard(directory.now(), &caller.access.scope, caller.access.gateway, &of, &spec).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn gateways(State(directory): Shared, caller: Caller) -> Answer<Vec<Gateway>> {
    caller.must_be(&[Role::Operator, Role::Gateway])?;
    Ok(Json(directory.store.gateways(&caller.access.scope).await?))
}

pub async fn gateway(State(directory): Shared, caller: Caller, Named(name): Named<NodeName>) -> Answer<Gateway> {
    caller.must_be(&[Role::Operator, Role::Gateway])?;
    Ok(Json(directory.store.gateway(&caller.access.scope, &name).await?))
}

pub async fn put_gateway(
    State(directory): Shared,
    caller: Caller,
    Named(name): Named<NodeName>,
    Body(spec): Body<GatewaySpec>,
) -> Made<Gateway> {
    caller.must_be(&[Role::Operator])?;
    made(directory.store.put_gateway(directory.now(), &caller.access.scope, &name, &spec).await?)
}

/// Others would take over from one that still serves, which would not hear of it.
pub async fn remove_gateway(State(directory): Shared, caller: Caller, Named(name): Named<NodeName>) -> Nothing {
    caller.must_be(&[Role::Operator])?;
    let gateway = directory.store.gateway(&caller.access.scope, &name).await?;
    if gateway.address.is_some()
        && let Some(ago) = directory.reports.heard(&name, Instant::now()).filter(|ago| *ago < ALIVE)
    {
        let message = format!("gateway {name} is a node of its group, and was heard {} s ago", ago.as_secs());
        let remedy = format!(
            "`portway drain --leave` on it and stop it; if it is dead, try again when it has been silent for {} s",
            ALIVE.as_secs()
        );
        return Err(Refusal::new(Code::InUse, message, remedy));
    }
    directory.store.remove_gateway(directory.now(), &caller.access.scope, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn put_member(State(directory): Shared, caller: Caller, Body(spec): Body<MemberSpec>) -> Answer<Members> {
    caller.must_be(&[Role::Gateway])?;
    Ok(Json(directory.store.put_member(directory.now(), &caller.access.scope, caller.name()?, &spec).await?))
}

pub async fn remove_member(State(directory): Shared, caller: Caller) -> Nothing {
    caller.must_be(&[Role::Gateway])?;
    directory.store.remove_member(directory.now(), caller.name()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn assignment(State(directory): Shared, caller: Caller) -> Answer<Assignment> {
    caller.must_be(&[Role::Gateway])?;
    Ok(Json(directory.store.assignment(caller.name()?, &caller.access.scope).await?))
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    after: Option<NodeName>,
    limit: Option<u32>,
}

pub async fn hosts(State(directory): Shared, caller: Caller, Asked(page): Asked<Page>) -> Answer<Hosts> {
    caller.must_be(&[Role::Operator, Role::Gateway])?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
    Ok(Json(directory.store.hosts(directory.now(), &caller.access.scope, page.after.as_ref(), limit).await?))
}

pub async fn host(State(directory): Shared, caller: Caller, Named(name): Named<NodeName>) -> Answer<Host> {
    caller.must_be(&[Role::Operator, Role::Gateway])?;
    Ok(Json(directory.store.host(directory.now(), &caller.access.scope, &name).await?))
}

pub async fn put_host(State(directory): Shared, caller: Caller, Named(name): Named<NodeName>, Body(spec): Body<HostSpec>) -> Made<Host> {
    caller.must_be(&[Role::Operator])?;
    made(directory.store.put_host(directory.now(), &caller.access.scope, &name, &spec).await?)
}

pub async fn remove_host(State(directory): Shared, caller: Caller, Named(name): Named<NodeName>) -> Nothing {
    caller.must_be(&[Role::Operator])?;
    directory.store.remove_host(directory.now(), &caller.access.scope, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn membership(State(directory): Shared, caller: Caller) -> Answer<Membership> {
    caller.must_be(&[Role::Host])?;
    Ok(Json(directory.store.membership(directory.now(), &caller.access.scope, caller.name()?).await?))
}

pub async fn tokens(State(directory): Shared, caller: Caller) -> Answer<Vec<Token>> {
    caller.must_be(&[Role::Operator])?;
    Ok(Json(directory.store.tokens(&caller.access.scope).await?))
}

pub async fn add_token(State(directory): Shared, caller: Caller, Body(spec): Body<TokenSpec>) -> Made<Minted> {
    caller.must_be(&[Role::Operator])?;
    let token = mint()?;
    let expires = directory.store.add_token(directory.now(), &caller.access.scope, &spec, &token.id, &token.hash()).await?;
    made((true, Minted { token: token.expose().to_string(), id: token.id, expires }))
}

/// 16 hexadecimal digits; whatever else is none that there is.
pub async fn remove_token(State(directory): Shared, caller: Caller, Named(id): Named<String>) -> Nothing {
    caller.must_be(&[Role::Operator])?;
    directory.store.remove_token(directory.now(), &caller.access.scope, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn peer(State(directory): Shared, caller: Caller, Named(PathKey(key)): Named<PathKey>) -> Answer<Host> {
    caller.must_be(&[Role::Gateway, Role::Operator])?;
    let host = directory.store.peer(directory.now(), &caller.access.scope, &key).await?;
    Ok(Json(host.ok_or_else(|| Refusal::unknown("peer", key))?))
}

impl Caller {
    pub(super) fn name(&self) -> Result<&NodeName, Refusal> {
        self.access.name.as_ref().ok_or_else(|| Refusal::invalid(Invalid("this token is nobody's".into()), "use another one"))
    }
}
