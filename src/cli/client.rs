//! Talking to a running daemon over its unix socket.

use crate::daemon::{client, sockets};
use anyhow::{Context, bail};
use nix::unistd::{AccessFlags, access};
use reqwest::Method;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where daemons keep their sockets.
#[derive(Debug, Clone, clap::Args)]
pub struct RuntimeDir {
    /// As `runtime_dir` in the daemon's configuration.
    #[arg(long, env = "PORTWAY_RUNTIME_DIR", default_value = "/run/portway")]
    pub runtime_dir: PathBuf,
}

impl RuntimeDir {
    /// The one role that runs here, when the caller does not say.
    pub fn roles(&self) -> Vec<&'static str> {
        ["gateway", "host"].into_iter().filter(|role| self.has(role)).collect()
    }

    /// Whether a daemon of this role has its socket here.
    pub fn has(&self, role: &str) -> bool {
        sockets::api_path(&self.runtime_dir, role).exists()
    }

    /// Whether this user may open that socket.
    pub fn may_ask(&self, role: &str) -> bool {
        access(&sockets::api_path(&self.runtime_dir, role), AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
    }

    /// One call, as [`client::call`] makes it.
    pub async fn call(&self, role: &str, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let answer = client::call(&self.runtime_dir, role, method, path, body).await;
        answer.with_context(|| unreachable(&sockets::api_path(&self.runtime_dir, role), role))
    }

    /// As [`Self::call`]; an answer that is no success becomes an error in the daemon's own words.
    pub async fn ask(&self, role: &str, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let (status, value) = self.call(role, method, path, body).await?;
        if !(200..300).contains(&status) {
            bail!("{}", value["error"].as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        Ok((status, value))
    }
}

fn unreachable(socket: &Path, role: &str) -> String {
    format!("no `portway {role}` answers on {}: is it running, and is `--runtime-dir` its `runtime_dir`?", socket.display())
}
