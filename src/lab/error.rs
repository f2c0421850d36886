//! What can go wrong in a lab, written for whoever ran it.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    /// A right or a program is absent; the text names the command that mends it.
    #[error("{0}")]
    Missing(String),
    #[error("`{command}` in {node} failed: {stderr}")]
    Command { node: String, command: String, stderr: String },
    #[error("{what} ended early ({status}); the end of {}:\n{tail}", log.display())]
    Died { what: String, status: ExitStatus, log: PathBuf, tail: String },
    #[error("{what} was not there within {after:?}{detail}")]
    Late { what: String, after: Duration, detail: String },
    #[error("{request} answered {status}: {body}")]
    Refused { request: String, status: u16, body: String },
    #[error("{what} answered what this cannot read: {body}")]
    Unreadable { what: String, body: String },
    #[error("there is no node {name:?} in this lab; its nodes are {known}")]
    NoNode { name: String, known: String },
    #[error("{0}")]
    State(String),
}

impl Error {
    /// Says more of what was late; of any other error, nothing.
    pub(super) fn detailed(self, more: impl FnOnce() -> String) -> Self {
        match self {
            Self::Late { what, after, .. } => Self::Late { what, after, detail: more() },
            other => other,
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// `.during("open /dev/net/tun")` on an I/O result: says what was attempted.
pub trait During<T> {
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.into(), source })
    }
}

impl<T> During<T> for nix::Result<T> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(io::Error::from).during(what)
    }
}
