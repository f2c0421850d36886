//! Why a call is not carried out: a status, a word for programs, a sentence and a remedy for people. Every one is counted by its word.
//!
//! `{"error": "host host-1 is not known", "code": "unknown", "remedy": "..."}`

use super::store::StoreError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:ident $text:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            pub fn status(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    /// The call means nothing.
    Invalid = BAD_REQUEST "invalid",
    /// No token, or one that is unknown, expired, used or revoked.
    Unauthenticated = UNAUTHORIZED "unauthenticated",
    /// An identity token that is not good.
    BadIdentity = UNAUTHORIZED "bad_identity",
    /// The host did not prove that it has the private key.
    BadProof = FORBIDDEN "bad_proof",
    /// Not for this role.
    Forbidden = FORBIDDEN "forbidden",
    /// A tenant that the token is not good for.
    TenantRefused = FORBIDDEN "tenant_refused",
    /// Not there, or not for the caller to see.
    Unknown = NOT_FOUND "unknown",
    WrongMethod = METHOD_NOT_ALLOWED "wrong_method",
    NameTaken = CONFLICT "name_taken",
    KeyTaken = CONFLICT "key_taken",
    /// Another inner prefix than the host claims is its own.
    InnerTaken = CONFLICT "inner_taken",
    /// Another node of the group has this address.
    AddressTaken = CONFLICT "address_taken",
    InUse = CONFLICT "in_use",
    Rotating = CONFLICT "rotating",
    /// Changes since then are forgotten.
    Compacted = GONE "compacted",
    TooLarge = PAYLOAD_TOO_LARGE "too_large",
    /// No inner prefix is left.
    Full = INSUFFICIENT_STORAGE "full",
    Unavailable = SERVICE_UNAVAILABLE "unavailable",
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    pub remedy: String,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
pub struct Body {
    pub error: String,
    pub code: String,
    pub remedy: String,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into() }
    }

    /// The same answer for what is not there and for what the caller may not see.
    pub fn unknown(what: &str, name: impl fmt::Display) -> Self {
        Self::new(Code::Unknown, format!("no {what} {name} that you may see"), "look at the list of those there are")
    }

    pub fn unauthenticated() -> Self {
        let remedy = "send a token that is neither used, expired nor removed, as `Authorization: Bearer TOKEN`";
        Self::new(Code::Unauthenticated, "this call needs a token, and none that is good came with it", remedy)
    }

    pub fn forbidden(who: &str) -> Self {
        Self::new(Code::Forbidden, format!("{who} may not do this"), "use the token of one that may")
    }

    pub fn invalid(message: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message.to_string(), remedy)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for Refusal {}

/// What went wrong in the database is told to the log and not to the caller.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal,
            StoreError::Database { .. } => {
                tracing::error!("{:#}", anyhow::Error::new(error));
                Self::new(Code::Unavailable, "the directory cannot reach its database", "try again; its log says more")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Body { error: self.message, code: self.code.as_str().to_owned(), remedy: self.remedy };
        let mut response = (self.code.status(), Json(body)).into_response();
        // For whoever counts.
        response.extensions_mut().insert(self.code);
        response
    }
}
