//! Asking a running daemon over its unix socket.

use super::sockets;
use reqwest::{Client, Method};
use serde_json::Value;
use std::path::Path;

/// One call: the status code, and the body as JSON (`null` if it is empty, a text if it is no JSON). It takes as long as the daemon does.
pub async fn call(runtime_dir: &Path, role: &str, method: Method, path: &str, body: Option<&Value>) -> reqwest::Result<(u16, Value)> {
    let client = Client::builder().unix_socket(sockets::api_path(runtime_dir, role)).build()?;
    let request = client.request(method, format!("http://portway{path}"));
    let answer = match body {
        Some(body) => request.json(body),
        None => request,
    }
    .send()
    .await?;
    let (status, bytes) = (answer.status().as_u16(), answer.bytes().await?);
    let value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
    };
    Ok((status, value))
}
