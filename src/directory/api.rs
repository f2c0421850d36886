//! The API: routes, and what all calls have in common.
//!
//! | call | who | answers |
//! |---|---|---|
//! | `GET /v1/whoami` | all | who the caller is taken for |
//! | `GET /v1/tenants`, `GET .../NAME` | all | those that the caller may see |
//! | `PUT /v1/tenants/NAME`, `DELETE` | operators of everything | 201 new, 200; 204 |
//! | `GET /v1/shards` | all | where tunnels end, and with which keys |
//! | `PUT /v1/shards/TENANT/SHARD` | operators, gateways that serve it | 204 |
//! | `GET /v1/gateways`, `GET .../NAME` | operators, gateways | |
//! | `PUT /v1/gateways/NAME`, `DELETE` | operators | 201, 200; 204 |
//! | `GET /v1/gateway` | gateways | all that this gateway needs to begin |
//! | `PUT /v1/gateway/member`, `DELETE` | gateways | the group, with what this gateway is to it; 204 when it has left |
//! | `PUT /v1/gateway/status` | gateways | 204: what it says of itself, kept in memory |
//! | `GET /v1/status` | operators, observers | the fleet, with what gateways and hosts have said |
//! | `GET /v1/fleet` | operators and observers of everything | where gateways are asked for their numbers |
//! | `GET /v1/hosts?after&limit`, `GET .../NAME` | operators, gateways | a page |
//! | `PUT /v1/hosts/NAME`, `DELETE` | operators | 201, 200; 204 |
//! | `GET /v1/host` | hosts | all that this host needs |
//! | `PUT /v1/host/status` | hosts | 204: what it says of itself, kept in memory |
//! | `POST /v1/host/key` | hosts | 204; the former key is valid for a while |
//! | `GET /v1/tokens`, `POST`, `DELETE .../ID` | operators | 201 with the token |
//! | `GET /v1/peers/KEY` (base64url) | gateways, operators | the host that has it; 404 for all others |
//! | `GET /v1/watch?since&wait_s` | all | changes, as soon as there are some |
//! | `POST /v1/enroll/challenge`, `POST /v1/enroll` | who has a token for it | a challenge; 201 |
//! | `GET /v1/openapi.json`, `/healthz`, `/readyz` | everybody | |
//!
//! And `/`, a page that asks whoever looks for a token, and shows `GET /v1/status`.

mod enrolling;
mod extract;
mod fleet;
mod registry;
mod watching;

use super::Directory;
use super::refusal::{Code, Refusal};
use super::store::{Access, Scope};
use super::types::{Role, Whoami};
use crate::daemon::page;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use extract::Caller;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a body.
pub const LONGEST_BODY: usize = 64 * 1024;
/// A call that does not wait for something to happen takes at most this long, the time to send its body included.
const PATIENCE: Duration = Duration::from_secs(20);

/// The description of the API (OpenAPI 3.1), as it is served.
pub const OPENAPI: &str = include_str!("openapi.json");

type Shared = State<Arc<Directory>>;

/// All of the API. Callers show a token.
pub fn routes(directory: Arc<Directory>) -> Router {
    Router::new()
        .route("/v1/whoami", get(whoami))
        .route("/v1/tenants", get(registry::tenants))
        .route("/v1/tenants/{name}", get(registry::tenant).put(registry::put_tenant).delete(registry::remove_tenant))
        .route("/v1/shards", get(registry::shards))
        .route("/v1/shards/{tenant}/{shard}", put(registry::put_shard))
        .route("/v1/gateways", get(registry::gateways))
        .route("/v1/gateways/{name}", get(registry::gateway).put(registry::put_gateway).delete(registry::remove_gateway))
        .route("/v1/gateway", get(registry::assignment))
        .route("/v1/gateway/member", put(registry::put_member).delete(registry::remove_member))
        .route("/v1/gateway/status", put(fleet::report).layer(DefaultBodyLimit::max(fleet::LONGEST_REPORT)))
        .route("/v1/status", get(fleet::status))
        .route("/v1/fleet", get(fleet::reach))
        .route("/v1/hosts", get(registry::hosts))
        .route("/v1/hosts/{name}", get(registry::host).put(registry::put_host).delete(registry::remove_host))
        .route("/v1/host", get(registry::membership))
        .route("/v1/host/status", put(fleet::report_host).layer(DefaultBodyLimit::max(fleet::LONGEST_REPORT)))
        .route("/v1/host/key", post(enrolling::rotate))
        .route("/v1/tokens", get(registry::tokens).post(registry::add_token))
        .route("/v1/tokens/{id}", axum::routing::delete(registry::remove_token))
        .route("/v1/peers/{key}", get(registry::peer))
        .route("/v1/watch", get(watching::watch))
        .route("/v1/enroll/challenge", post(enrolling::challenge))
        .route("/v1/enroll", post(enrolling::enroll))
        .route("/v1/openapi.json", get(openapi))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .merge(page::routes())
        .fallback(async || Refusal::new(Code::Unknown, "there is no such call", "GET /v1/openapi.json lists those there are"))
        .method_not_allowed_fallback(async || {
            Refusal::new(Code::WrongMethod, "this call has other methods", "GET /v1/openapi.json lists them")
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn_with_state(directory.clone(), accompany))
        .with_state(directory)
}

/// Over the socket that only its owner may open, no token is asked for.
pub fn for_local_operator(routes: Router) -> Router {
    routes.layer(Extension(Local))
}

/// Marks a call that came over the local socket.
#[derive(Debug, Clone, Copy)]
struct Local;

/// For the local socket, beside the API.
pub fn measured(directory: Arc<Directory>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(directory)
}

/// What is read on the admin listener.
pub fn admin(directory: Arc<Directory>) -> Router {
    let health = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(readyz));
    let health = health.route("/v1/status", get(fleet::summary)).merge(page::routes());
    health.with_state(directory.clone()).merge(measured(directory))
}

/// Around every call: its time, its answer counted, and what it changed known to all. Who hangs up has asked all the same: what changes something is
/// carried out to its end.
async fn accompany(State(directory): Shared, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    if request.method() == Method::GET {
        return carry_out(directory, route, request, next, false).await;
    }
    let changes = !matches!(route.as_str(), "/v1/gateway/status" | "/v1/host/status");
    tokio::spawn(carry_out(directory, route, request, next, changes)).await.unwrap_or_else(|error| {
        tracing::error!("a call was cut off: {error}");
        Refusal::new(Code::Unavailable, "this call was cut off", "look whether it was carried out; the directory's log says more")
            .into_response()
    })
}

async fn carry_out(directory: Arc<Directory>, route: String, request: Request, next: Next, changes: bool) -> Response {
    let response = if route == "/v1/watch" {
        next.run(request).await
    } else {
        tokio::time::timeout(PATIENCE, next.run(request))
            .await
            .unwrap_or_else(|_| Refusal::new(Code::Unavailable, format!("this took more than {PATIENCE:?}"), "try again").into_response())
    };
    if changes && response.status().is_success() {
        directory.catch_up().await;
    }
    directory.answered(&route, response.status().as_u16(), response.extensions().get::<Code>().copied());
    response
}

async fn whoami(caller: Caller) -> Json<Whoami> {
    let Access { role, name, scope, .. } = caller.access;
    let tenants = match scope {
        Scope::All => None,
        Scope::Only(tenants) => Some(tenants.values().cloned().collect()),
    };
    Json(Whoami { role, name, tenants })
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn readyz(State(directory): Shared) -> Response {
    match directory.store.ping().await {
        Ok(_) => "ready\n".into_response(),
        Err(error) => {
            tracing::error!("{:#}", anyhow::Error::from(error));
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: the database does not answer\n").into_response()
        }
    }
}

async fn metrics(State(directory): Shared, asked: HeaderMap) -> Response {
    directory.metrics().await.answer(&asked)
}

impl Caller {
    /// Who may not is refused the same way whatever it asked for.
    fn must_be(&self, roles: &[Role]) -> Result<(), Refusal> {
        if roles.contains(&self.access.role) {
            Ok(())
        } else {
            Err(Refusal::forbidden(match self.access.role {
                Role::Operator => "an operator",
                Role::Gateway => "a gateway",
                Role::Host => "a host",
                Role::Enroll => "a token for enrolment",
                Role::Observer => "an observer",
            }))
        }
    }

    /// An operator of all tenants, those to come among them.
    fn must_run_everything(&self) -> Result<(), Refusal> {
        self.must_be(&[Role::Operator])?;
        if self.access.scope.is_all() { Ok(()) } else { Err(Refusal::forbidden("an operator of some tenants only")) }
    }
}
