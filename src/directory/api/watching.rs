//! `GET /v1/watch`: what has changed since a revision, as soon as there is something.
//!
//! A long poll rather than a stream of events: each answer is whole, says from where to ask next, and the next call shows its token anew;
//! proxies and plain HTTP clients know nothing special about it. Between two calls nothing is lost: what happens meanwhile is in the next answer.

use super::Shared;
use super::extract::{Asked, Caller};
use crate::directory::feed::Since;
use crate::directory::refusal::{Code, Refusal};
use crate::directory::types::{Changes, Role};
use axum::Json;
use axum::extract::State;
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is waited for, in seconds: if nothing is said, and at most.
const WAIT: u32 = 30;
const LONGEST: u32 = 60;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    since: Option<u64>,
    wait_s: Option<u32>,
}

pub async fn watch(State(directory): Shared, caller: Caller, Asked(query): Asked<Query>) -> Result<Json<Changes>, Refusal> {
    caller.must_be(&[Role::Operator, Role::Gateway, Role::Host])?;
    let Some(mut since) = query.since else {
        return Ok(Json(Changes { revision: directory.feed.revision(), changes: Vec::new() }));
    };
    if since > directory.feed.revision() {
        // Another process that shares the database may be ahead.
        directory.catch_up().await;
    }
    let deadline = Instant::now() + Duration::from_secs(query.wait_s.unwrap_or(WAIT).min(LONGEST).into());
    let mut bell = directory.feed.subscribe();
    loop {
        bell.mark_unchanged();
        let access = caller.still(&directory).await?;
        match directory.feed.since(&directory.store, &access, since).await? {
            Since::Forgotten => {
                let remedy = "list again, and watch from the revision of the list";
                return Err(Refusal::new(Code::Compacted, format!("what changed since revision {since} is forgotten"), remedy));
            }
            Since::Told(changes, revision) if changes.is_empty() => since = revision,
            Since::Told(changes, revision) => return Ok(Json(Changes { revision, changes })),
        }
        // What came in the meantime is found in the next round; more than one reading holds, too.
        if since < directory.feed.revision() {
            continue;
        }
        tokio::select! {
            rung = bell.changed() => if rung.is_ok() { continue },
            () = tokio::time::sleep_until(deadline) => {}
            () = directory.end.cancelled() => {}
        }
        return Ok(Json(Changes { revision: since, changes: Vec::new() }));
    }
}
