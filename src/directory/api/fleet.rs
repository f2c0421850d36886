//! The fleet as it is now: what gateways and hosts say of themselves, and who may see it.

use super::Shared;
use super::extract::{Body, Caller};
use crate::directory::refusal::Refusal;
use crate::directory::types::{Fleet, GatewayReport, HostReport, Reach, Role};
use crate::model::Slot;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::time::Instant;

/// Bytes of what a gateway or a host says: of all the shards that a node can have, a hundred and some for each.
pub const LONGEST_REPORT: usize = 2 << 20;

const ROLE: &str = "directory";
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub async fn report(State(directory): Shared, caller: Caller, Body(report): Body<GatewayReport>) -> Result<StatusCode, Refusal> {
    caller.must_be(&[Role::Gateway])?;
    directory.reports.take(caller.name()?.clone(), report, Instant::now());
    Ok(StatusCode::NO_CONTENT)
}

pub async fn report_host(State(directory): Shared, caller: Caller, Body(report): Body<HostReport>) -> Result<StatusCode, Refusal> {
    caller.must_be(&[Role::Host])?;
    if report.attachments.len() > usize::from(Slot::MAX.get()) {
        return Err(Refusal::invalid(format!("more shards than the {} that a host can serve", Slot::MAX), "tell of those that it serves"));
    }
    directory.reports.take_host(caller.name()?.clone(), report, &caller.access.scope, Instant::now());
    Ok(StatusCode::NO_CONTENT)
}

pub async fn status(State(directory): Shared, caller: Caller) -> Result<Json<Fleet>, Refusal> {
    caller.must_be(&[Role::Operator, Role::Observer])?;
    let (scope, now) = (&caller.access.scope, Instant::now());
    let gateways = directory.store.gateways(scope).await?;
    let shards = directory.store.shards(scope).await?;
    Ok(Json(Fleet {
        role: ROLE.into(),
        version: VERSION.into(),
        ready: true,
        revision: directory.feed.revision(),
        watchers: directory.feed.watchers() as u64,
        tenants: directory.store.tenants(scope).await?,
        attachments: directory.reports.attachments(shards.iter().map(|shard| &shard.of), now),
        shards,
        gateways: gateways.into_iter().map(|gateway| directory.reports.of(gateway, scope.is_all(), now)).collect(),
    }))
}

/// Of all gateways, or of none: whoever counts must not take some for all.
pub async fn reach(State(directory): Shared, caller: Caller) -> Result<Json<Vec<Reach>>, Refusal> {
    caller.must_be(&[Role::Operator, Role::Observer])?;
    if !caller.access.scope.is_all() {
        return Err(Refusal::forbidden("a token of some tenants only"));
    }
    let (gateways, now) = (directory.store.gateways(&caller.access.scope).await?, Instant::now());
    Ok(Json(gateways.into_iter().map(|gateway| directory.reports.reach(gateway.name, now)).collect()))
}

/// For whoever asks: numbers, as its metrics have them, and no names.
pub async fn summary(State(directory): Shared) -> Json<Value> {
    let known = directory.store.count().await;
    Json(json!({
        "role": ROLE, "version": VERSION, "ready": known.is_ok(), "revision": directory.feed.revision(), "watchers": directory.feed.watchers(),
        "known": known.unwrap_or_default().into_iter().map(|(what, count)| (what.to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "answers": directory.answers(),
    }))
}
