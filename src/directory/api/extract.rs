//! What calls are made of: who calls, names in the path, a query, a body. What is wrong with them is said in one shape.

use super::{LONGEST_BODY, Local};
use crate::daemon::http::Known;
use crate::directory::Directory;
use crate::directory::door::local_operator;
use crate::directory::refusal::{Code, Refusal};
use crate::directory::store::Access;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Somebody with a token of the directory's own.
pub struct Caller {
    pub access: Access,
    /// None over the local socket.
    pub token: Option<Zeroizing<String>>,
}

/// What stands behind `Authorization: Bearer` (RFC 6750 section 2.1).
pub fn bearer(parts: &Parts) -> Option<Zeroizing<String>> {
    let (scheme, token) = parts.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Zeroizing::new(token.trim().to_owned()))
}

impl FromRequestParts<Arc<Directory>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, directory: &Arc<Directory>) -> Result<Self, Refusal> {
        // A token counts even there, so that what it may do can be tried.
        match bearer(parts) {
            None if parts.extensions.get::<Local>().is_some() => Ok(Self { access: local_operator(), token: None }),
            None => Err(Refusal::unauthenticated()),
            Some(token) => {
                let (_, access) = directory.door.open(&directory.store, &token, directory.now()).await?;
                if let Some(known) = parts.extensions.get::<Known>() {
                    known.trust();
                }
                Ok(Self { access, token: Some(token) })
            }
        }
    }
}

impl Caller {
    /// The same as is true by now: a long call may outlive its token.
    pub async fn still(&self, directory: &Directory) -> Result<Access, Refusal> {
        match &self.token {
            None => Ok(self.access.clone()),
            Some(token) => Ok(directory.door.open(&directory.store, token, directory.now()).await?.1),
        }
    }
}

/// A token of whatever kind, still to be understood.
pub struct Shown(pub Zeroizing<String>);

impl<S: Sync> FromRequestParts<S> for Shown {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        bearer(parts).map(Shown).ok_or_else(Refusal::unauthenticated)
    }
}

/// What the path names, its parts joined by slashes.
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: FromStr<Err: Display>> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(named): Path<Vec<(String, String)>> =
            Path::from_request_parts(parts, state).await.map_err(|error| Refusal::invalid(error, "write the path in UTF-8"))?;
        let text = named.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join("/");
        text.parse().map(Named).map_err(|error: T::Err| Refusal::invalid(error, "change the path"))
    }
}

pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let remedy = "GET /v1/openapi.json says what this call may be asked";
        let Query(asked) = Query::from_request_parts(parts, state).await.map_err(|error| Refusal::invalid(error.body_text(), remedy))?;
        Ok(Asked(asked))
    }
}

/// JSON.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| match error {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                Refusal::new(Code::TooLarge, "the body is too large", format!("send at most {LONGEST_BODY} bytes"))
            }
            other => Refusal::invalid(other, "send the whole body"),
        })?;
        parse(&bytes).map(Body)
    }
}

/// A body that was received.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        Refusal::invalid(format!("the body is not what this call takes: {error}"), "GET /v1/openapi.json says what it takes, in JSON")
    })
}
