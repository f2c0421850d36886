//! What it tells over HTTP. Nothing here changes anything.

use super::actuator::Hand;
use super::brain::Brain;
use super::scrape::Outcomes;
use super::show;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Told {
    brain: Arc<Brain>,
    outcomes: Outcomes,
    hand: Hand,
}

pub fn routes(brain: Arc<Brain>, outcomes: Outcomes, hand: Hand) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/wanted", get(wanted))
        .with_state(Told { brain, outcomes, hand })
}

pub async fn serve<L: Listener<Addr: std::fmt::Debug>>(listener: L, routes: Router, end: CancellationToken) {
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(end.cancelled_owned()).await {
        tracing::error!("the API has ended: {error}");
    }
}

/// Ready: it knows of every gateway what it carries.
async fn readyz(State(told): State<Told>) -> Response {
    let silent = show::silent(&told.brain.status());
    if silent.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: nothing current is known of {}\n", silent.join(", "))).into_response()
}

async fn status(State(told): State<Told>) -> Response {
    Json(show::status(&told.brain.status(), &told.outcomes.all(), told.hand.shown().as_ref(), told.brain.dry_run)).into_response()
}

/// As KEDA's metrics-api scaler reads it (valueLocation `wanted`), and anybody else who scales. Until it is known there is none.
async fn wanted(State(told): State<Told>) -> Response {
    let wanted = told.brain.wanted();
    let status = if wanted.wanted.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(wanted)).into_response()
}

async fn metrics(State(told): State<Told>) -> Response {
    show::metrics(&told.brain.status(), &told.brain.counters(), &told.outcomes.all(), told.hand.shown().as_ref()).into_response()
}
