//! Instance metadata, version 2 alone: a token first, then what it is asked for.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use super::{ACCESS_KEY, Account, Cloud};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where everything is.
pub const REGION: &str = "eu-central-1";
/// Of every instance.
const ROLE: &str = "portway-gateway";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// Seconds that a token may be good for.
const TTLS: std::ops::RangeInclusive<u64> = 1..=21_600;

/// Those of one instance.
#[derive(Debug, Clone)]
pub struct Metadata(Arc<Service>);

#[derive(Debug)]
struct Service {
    instance: String,
    account: Arc<Mutex<Account>>,
    state: Mutex<Of>,
}

#[derive(Debug, Default)]
struct Of {
    /// Each with its end.
    tokens: Vec<(String, Instant)>,
    issued: u32,
    asked: u32,
    /// The next requests for an item are answered so.
    faults: Vec<StatusCode>,
    /// Questions for a token are answered so; none: they are heard, and the answer dies on its way.
    tokens_refused: Option<Option<StatusCode>>,
    has_no_role: bool,
}

impl Cloud {
    /// What this instance is told, by whoever reaches the listener: on a machine of its own, or in its namespace. It ends with the runtime that it was started on.
    pub fn metadata(&self, instance: &str, listener: std::net::TcpListener) -> io::Result<Metadata> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let service = Service { instance: instance.to_owned(), account: self.account.clone(), state: Mutex::default() };
        let metadata = Metadata(Arc::new(service));
        let routes = Router::new().route("/latest/api/token", put(token)).route("/latest/meta-data/{*item}", get(item));
        let routes = routes.with_state(metadata.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(metadata)
    }
}

impl Metadata {
    /// Tokens that were given out are none any more.
    pub fn forget_tokens(&self) {
        self.state().tokens.clear();
    }

    /// The next requests for an item are answered so.
    pub fn refuse(&self, statuses: impl IntoIterator<Item = u16>) {
        self.state().faults.extend(statuses.into_iter().filter_map(|status| StatusCode::from_u16(status).ok()));
    }

    /// The instance is behind one hop more than tokens get over.
    pub fn mute(&self) {
        self.state().tokens_refused = Some(None);
    }

    /// Tokens are given out again.
    pub fn speak(&self) {
        self.state().tokens_refused = None;
    }

    /// They are switched off for this instance.
    pub fn switch_off(&self) {
        self.state().tokens_refused = Some(Some(StatusCode::FORBIDDEN));
    }

    /// The instance has no role.
    pub fn without_role(&self) {
        self.state().has_no_role = true;
    }

    /// How many tokens were given out, and how many items were asked for.
    pub fn counts(&self) -> (u32, u32) {
        let state = self.state();
        (state.issued, state.asked)
    }

    fn state(&self) -> MutexGuard<'_, Of> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn item(&self, item: &str) -> Option<String> {
        match item {
            "instance-id" => Some(self.0.instance.clone()),
            "autoscaling/target-lifecycle-state" => {
                let mut account = self.0.account.lock().unwrap_or_else(PoisonError::into_inner);
                account.target(&self.0.instance).map(str::to_owned)
            }
            "placement/region" => Some(REGION.into()),
            "placement/availability-zone" => Some(format!("{REGION}a")),
            _ if item.starts_with("iam/") && self.state().has_no_role => None,
            "iam/security-credentials/" => Some(ROLE.into()),
            _ if item.strip_prefix("iam/security-credentials/") == Some(ROLE) => {
                let key = format!("\"AccessKeyId\": \"{ACCESS_KEY}\", \"SecretAccessKey\": \"of-the-lab\", \"Token\": \"of-the-lab\"");
                Some(format!("{{\"Code\": \"Success\", \"Type\": \"AWS-HMAC\", {key}, \"Expiration\": \"2099-01-01T00:00:00Z\"}}"))
            }
            _ => {
                let of = item.strip_prefix("network/interfaces/macs/")?;
                let account = self.0.account.lock().unwrap_or_else(PoisonError::into_inner);
                account.interface_item(&self.0.instance, of)
            }
        }
    }
}

async fn token(State(metadata): State<Metadata>, headers: HeaderMap) -> Response {
    if headers.contains_key("x-forwarded-for") {
        return StatusCode::FORBIDDEN.into_response();
    }
    let seconds = headers.get(TTL).and_then(|value| value.to_str().ok()?.parse::<u64>().ok()).filter(|seconds| TTLS.contains(seconds));
    let Some(seconds) = seconds else { return StatusCode::BAD_REQUEST.into_response() };
    let refused = metadata.state().tokens_refused;
    match refused {
        Some(Some(status)) => return status.into_response(),
        Some(None) => return std::future::pending().await,
        None => {}
    }
    let mut state = metadata.state();
    state.issued += 1;
    let token = format!("AQAEAOfThelab{:08}==", state.issued);
    state.tokens.push((token.clone(), Instant::now() + Duration::from_secs(seconds)));
    ([(TTL, seconds.to_string())], token).into_response()
}

async fn item(State(metadata): State<Metadata>, Path(item): Path<String>, headers: HeaderMap) -> Response {
    let shown = headers.get(TOKEN).and_then(|value| value.to_str().ok()).unwrap_or_default();
    {
        let mut state = metadata.state();
        state.asked += 1;
        let now = Instant::now();
        if !state.tokens.iter().any(|(token, end)| token == shown && now < *end) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        if !state.faults.is_empty() {
            return state.faults.remove(0).into_response();
        }
    }
    metadata
        .item(&item)
        .map_or_else(|| (StatusCode::NOT_FOUND, "<html>404 - Not Found</html>").into_response(), IntoResponse::into_response)
}
