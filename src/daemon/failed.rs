//! Answers of a daemon's own calls that are no success: `{"error": "..."}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::fmt::Display;
use std::str::FromStr;

/// Why a call is refused; each has its status code.
pub trait Refused: Display {
    fn status(&self) -> StatusCode;

    /// What was sent means nothing.
    fn invalid(why: String) -> Self;
}

#[derive(Debug)]
pub enum Failed<R> {
    Refused(R),
    Kernel(String),
}

impl<R: Refused> Failed<R> {
    /// A name in a path, or why it is none.
    pub fn name<N: FromStr<Err: Display>>(text: &str) -> Result<N, Self> {
        text.parse().map_err(|error: N::Err| R::invalid(error.to_string()).into())
    }
}

impl<R: Refused> From<R> for Failed<R> {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal)
    }
}

impl<R> From<anyhow::Error> for Failed<R> {
    fn from(error: anyhow::Error) -> Self {
        Self::Kernel(format!("{error:#}"))
    }
}

impl<R: Refused> IntoResponse for Failed<R> {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Kernel(error) => (StatusCode::INTERNAL_SERVER_ERROR, error),
            Self::Refused(refusal) => (refusal.status(), refusal.to_string()),
        };
        (status, Json(json!({ "error": error }))).into_response()
    }
}
