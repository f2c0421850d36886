//! The Container Network Interface as a plugin sees it that stands behind others in a chain (specification 1.1.0, <https://www.cni.dev/docs/spec/>,
//! "Section 2: Execution Protocol"). Pure: `cli/cni.rs` reads a call, asks the host's daemon, and prints what came of it.

mod args;
mod before;
mod call;
mod config;
mod name;

pub use args::Args;
pub use before::Before;
pub use call::{Call, Member};
pub use config::{Config, Wanted};
pub use name::{Container, attachment, of_network};

use serde_json::{Value, json};
use std::fmt;

/// The versions of the specification that are understood, the oldest first. From 0.3.1 to 1.1.0 a chained plugin's part of a result has kept its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V0_3_1,
    /// The first with CHECK.
    V0_4_0,
    V1_0_0,
    /// The first with STATUS and GC.
    V1_1_0,
}

impl Version {
    pub const ALL: [Version; 4] = [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What VERSION answers to a configuration of this version.
pub fn versions(asked: &str) -> Value {
    json!({ "cniVersion": asked, "supportedVersions": Version::ALL.map(Version::as_str) })
}

/// The version that a configuration says it is of, if only that can be read; what is answered says the same.
pub fn version_of(given: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(given).ok().and_then(|config| Some(config.get("cniVersion")?.as_str()?.to_owned()));
    said.unwrap_or_else(|| Version::V1_1_0.to_string())
}

/// What kind of error it is ("Error codes"): below 100 the specification's, from 100 on our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    IncompatibleVersion = 1,
    UnsupportedField = 2,
    InvalidEnvironment = 4,
    Io = 5,
    Undecodable = 6,
    InvalidConfig = 7,
    TryAgainLater = 11,
    /// STATUS: no container can be added. Not 51: where the kernel carries the tunnels, those that are attached lose nothing by it.
    NotAvailable = 50,
    /// The host's daemon said no.
    Refused = 100,
    /// What is there is not what should be there.
    Mismatch = 101,
}

/// Why a call failed, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub code: Code,
    pub message: String,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// As a runtime is told.
    pub fn to_json(&self, version: &str) -> Value {
        json!({ "cniVersion": version, "code": self.code as u16, "msg": self.message })
    }
}

#[cfg(test)]
mod tests;
