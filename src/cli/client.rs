//! Talking to a running daemon over its unix socket.

use anyhow::{Context, bail};
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
        ["gateway", "host"].into_iter().filter(|role| crate::daemon::sockets::api_path(&self.runtime_dir, role).exists()).collect()
    }

    /// One call: the status code, and the body as JSON (`null` if it is empty).
    pub async fn call(&self, role: &str, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let socket = crate::daemon::sockets::api_path(&self.runtime_dir, role);
        let attempt = async {
            let client = reqwest::Client::builder().unix_socket(socket.as_path()).build()?;
            let request = client.request(method, format!("http://portway{path}"));
            let answer = match body {
                Some(body) => request.json(body),
                None => request,
            }
            .send()
            .await?;
            anyhow::Ok((answer.status().as_u16(), answer.bytes().await?))
        };
        let (status, bytes) = attempt.await.with_context(|| unreachable(&socket, role))?;
        let value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
        };
        Ok((status, value))
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
