//! What it tells over HTTP. Nothing here changes anything.

use super::actuator::Hand;
use super::brain::Brain;
use super::discovery::Discovery;
use super::kept;
use super::outcomes::Outcomes;
use super::prometheus;
use super::show;
use super::webhooks::Door;
use crate::daemon::names::Names;
use crate::daemon::page;
use crate::model::NodeName;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use std::time::SystemTime;

/// Of what it tells.
#[derive(Clone)]
pub struct Told {
    pub brain: Arc<Brain>,
    pub outcomes: Outcomes<NodeName>,
    pub discovery: Discovery,
    /// None: nobody may post.
    pub door: Option<Arc<Door>>,
    pub queries: prometheus::Told,
    pub file: Arc<kept::File>,
    pub hand: Hand,
    /// By which the admin listener is called.
    pub names: Names,
    pub begun: SystemTime,
}

pub fn routes(told: Told) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/wanted", get(wanted))
        .merge(page::routes())
        .with_state(told)
}

/// Ready: it knows of every gateway what it carries.
async fn readyz(State(told): State<Told>) -> Response {
    let status = told.brain.status();
    if show::is_ready(&status) {
        return "ready\n".into_response();
    }
    let silent = show::silent(&status).join(", ");
    let silent = if silent.is_empty() { "any gateway" } else { &silent };
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: nothing current is known of {silent}\n")).into_response()
}

async fn status(State(told): State<Told>) -> Response {
    let mut shown = show::status(&told.brain.status(), &told.outcomes.all(), told.hand.shown().as_ref(), told.brain.dry_run);
    if let Some(door) = &told.door {
        shown["webhooks"] = door.status();
    }
    shown["directory"] = json!(told.discovery.shown(&told.brain));
    shown["queries"] = told.queries.status();
    Json(shown).into_response()
}

/// As KEDA's metrics-api scaler reads it (valueLocation `wanted`), and anybody else who scales. Until it is known there is none.
async fn wanted(State(told): State<Told>) -> Response {
    let wanted = told.brain.wanted();
    let status = if wanted.wanted.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(wanted)).into_response()
}

async fn metrics(State(told): State<Told>, asked: HeaderMap) -> Response {
    let mut page = show::metrics(&told.brain.status(), &told.brain.counters(), &told.outcomes.all(), told.hand.shown().as_ref());
    page.began(told.begun);
    told.names.metrics(&mut page);
    if let Some(door) = &told.door {
        door.metrics(&mut page);
    }
    if let Some(directory) = told.discovery.shown(&told.brain) {
        directory.metrics(&mut page);
    }
    told.queries.metrics(&mut page);
    for (result, count) in told.file.counts() {
        page.counter("portway_autoscaler_state_writes", "Times that what outlives the process was written", &[("result", result)], count);
    }
    page.answer(&asked)
}
