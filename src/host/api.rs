//! `/v1/attachments` over the host's unix socket.
//!
//! | call | answers |
//! |---|---|
//! | `PUT /v1/attachments/NAME` with a [`Spec`] | 201 made, 200 stood with the same values, 400, 404, 409 |
//! | `DELETE /v1/attachments/NAME` | 204, 404 |
//! | `GET /v1/attachments[/NAME]` | 200, 404 |

use super::Node;
use super::attachments::{Attachment, Refusal, Spec};
use crate::daemon::failed::{self, Refused};
use crate::daemon::serve::Shared;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;

type Node_ = State<Arc<Shared<Node>>>;

pub fn routes(shared: Arc<Shared<Node>>) -> Router {
    Router::new()
        .route("/v1/attachments", get(list))
        .route("/v1/attachments/{name}", put(attach).delete(detach).get(show))
        .with_state(shared)
}

/// What an attachment looks like to a caller.
pub fn view(attachment: &Attachment) -> serde_json::Value {
    let Attachment { name, spec, attached, egress } = attachment;
    json!({
        "name": name,
        "tenant": attached.to.tenant,
        "shard": attached.to.shard,
        "interface": attached.interface,
        "bridge_port": attached.port,
        "source": attached.source,
        "netns": spec.netns,
        "egress": egress,
    })
}

async fn list(State(shared): Node_) -> Response {
    Json(shared.role.lock().await.attachments().iter().map(view).collect::<Vec<_>>()).into_response()
}

async fn show(State(shared): Node_, Path(name): Path<String>) -> Result<Response, Failed> {
    let name = Failed::name(&name)?;
    let role = shared.role.lock().await;
    let attachment = role.attachments().get(&name).ok_or(Refusal::Unknown(name))?;
    Ok(Json(view(attachment)).into_response())
}

async fn attach(State(shared): Node_, Path(name): Path<String>, body: Bytes) -> Result<Response, Failed> {
    let name = Failed::name(&name)?;
    let spec: Spec = serde_json::from_slice(&body).map_err(|error| {
        Refusal::Invalid(format!("the body is not an attachment: {error}; write {{\"tenant\": NAME, \"interface\": NAME}}, optionally with \"source\", \"shard\" or \"egress\""))
    })?;
    let node = shared.clone();
    let attaching = async move { node.role.lock().await.attach(&node.kernel, name, spec).await };
    let (made, attachment) = shared.change(attaching).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view(&attachment))).into_response())
}

async fn detach(State(shared): Node_, Path(name): Path<String>) -> Result<Response, Failed> {
    let name = Failed::name(&name)?;
    let node = shared.clone();
    shared.change(async move { node.role.lock().await.detach(&node.kernel, &name).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// An answer that is not a success.
pub type Failed = failed::Failed<Refusal>;

impl Refused for Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::Invalid(_) | Refusal::NoPool { .. } | Refusal::OutsidePool { .. } => StatusCode::BAD_REQUEST,
            Refusal::UnknownTenant(_)
            | Refusal::UnknownShard(_)
            | Refusal::UnknownPool { .. }
            | Refusal::NoInterface(_)
            | Refusal::Unknown(_) => StatusCode::NOT_FOUND,
            Refusal::Different { .. } | Refusal::Taken(_) => StatusCode::CONFLICT,
            Refusal::PoolAway { .. } | Refusal::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Full => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    fn invalid(why: String) -> Self {
        Self::Invalid(why)
    }
}
