//! What only a gateway offers, over its unix socket. `/v1/peers`: function hosts that come and go while the gateway runs.
//!
//! | call | answers |
//! |---|---|
//! | `PUT /v1/peers/NAME` with a [`Spec`] | 201 added, 200 stood with the same values, 400, 404, 409 |
//! | `DELETE /v1/peers/NAME` | 204, 404, 409 for one of the configuration file |
//! | `GET /v1/peers` | 200 |
//!
//! `/v1/drain`: the shards of a group.
//!
//! | call | answers |
//! |---|---|
//! | `POST /v1/drain` with nothing or `{"deadline_s": SECONDS}` | 200 with [`Drained`] once it is over, 409 without `ha` |
//! | the same with `"leave": true` | the node leaves its group by the directory; 409 where that does not know the group or somebody must stay, 503 if it does not answer |
//! | `DELETE /v1/drain` | 204, 409 without `ha`; a node that leaves stays |
//!
//! `GET /v1/flows`: 200 with the number of connections by `TENANT/SHARD`. Counting them takes a look at each.

use super::Node;
use super::flows;
use super::ha::drain::{DEADLINE, Drained};
use super::peers::{Refusal, Spec};
use crate::config::StaticPeer;
use crate::daemon::failed::{self, Refused};
use crate::daemon::serve::Shared;
use anyhow::Context;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

type Node_ = State<Arc<Shared<Node>>>;

pub fn routes(shared: Arc<Shared<Node>>) -> Router {
    Router::new()
        .route("/v1/peers", get(list))
        .route("/v1/peers/{name}", put(add).delete(remove))
        .route("/v1/drain", post(drain).delete(undrain))
        .route("/v1/flows", get(count_flows))
        .with_state(shared)
}

/// A peer, and whether the configuration file has it.
#[derive(Serialize)]
struct View<'p> {
    #[serde(flatten)]
    peer: &'p StaticPeer,
    configured: bool,
}

async fn list(State(shared): Node_) -> Response {
    Json(shared.role.lock().await.peers().iter().map(|(peer, configured)| View { peer, configured }).collect::<Vec<_>>()).into_response()
}

async fn add(State(shared): Node_, Path(name): Path<String>, body: Bytes) -> Result<Response, Failed> {
    let host = Failed::name(&name)?;
    let spec: Spec = serde_json::from_slice(&body)
        .map_err(|error| Refusal::Invalid(format!("the body is not a peer: {error}; write {}", Spec::EXAMPLE)))?;
    let peer = spec.peer(host)?;
    let (node, new) = (shared.clone(), peer.clone());
    let added = shared.change(async move { node.role.lock().await.add_peer(&node.kernel, new).await }).await?;
    let status = if added { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(peer)).into_response())
}

async fn remove(State(shared): Node_, Path(name): Path<String>) -> Result<Response, Failed> {
    let name = Failed::name(&name)?;
    let node = shared.clone();
    shared.change(async move { node.role.lock().await.remove_peer(&node.kernel, &name).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainSpec {
    #[serde(default)]
    deadline_s: Option<f64>,
    /// For good: the others go by lists without this node.
    #[serde(default)]
    leave: bool,
}

async fn drain(State(shared): Node_, body: Bytes) -> Result<Json<Drained>, Failed> {
    let spec: DrainSpec = if body.is_empty() { Ok(DrainSpec::default()) } else { serde_json::from_slice(&body) }
        .map_err(|error| Refusal::Invalid(format!("the body is no drain: {error}; write {{\"deadline_s\": 350}} or nothing")))?;
    let deadline = match spec.deadline_s {
        None => DEADLINE,
        Some(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| Refusal::Invalid(format!("deadline_s: {error}")))?,
    };
    // Not under the lock: this takes a second and more.
    if spec.leave {
        let leave = shared.role.lock().await.leave()?;
        return Ok(Json(tokio::spawn(leave.run(deadline)).await.context("the departure was cut off")??));
    }
    let drain = shared.role.lock().await.group().drain().ok_or(Refusal::Alone)?;
    // A caller that hangs up has asked all the same.
    let drained = tokio::spawn(drain.run(deadline)).await.context("the drain was cut off")?;
    Ok(Json(drained))
}

async fn undrain(State(shared): Node_) -> Result<StatusCode, Failed> {
    let role = shared.role.lock().await;
    role.group().drain().ok_or(Refusal::Alone)?;
    role.group().undrain();
    role.stay();
    Ok(StatusCode::NO_CONTENT)
}

async fn count_flows(State(shared): Node_) -> Result<Response, Failed> {
    let zones = shared.role.lock().await.zones();
    let counted = tokio::task::spawn_blocking(move || flows::count(&zones)).await.map_err(anyhow::Error::from)?;
    Ok(Json(counted.map_err(anyhow::Error::from)?).into_response())
}

/// An answer that is not a success.
pub type Failed = failed::Failed<Refusal>;

impl Refused for Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
            Refusal::UnknownTenant(_) | Refusal::UnknownShard(_) | Refusal::Unknown(_) => StatusCode::NOT_FOUND,
            Refusal::Alone | Refusal::ByFile(_) | Refusal::Stays(_) => StatusCode::CONFLICT,
            Refusal::Configured(_) | Refusal::Different(_) | Refusal::Taken { .. } | Refusal::InnerTaken { .. } => StatusCode::CONFLICT,
            Refusal::Full => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::Unheard => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn invalid(why: String) -> Self {
        Self::Invalid(why)
    }
}
