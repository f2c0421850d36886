//! Orders as signed posts.

use super::{Called, retry_after};
use crate::config;
use crate::daemon::key_file;
use crate::model::{Failure, Why};
use crate::wire::webhook::order::{Order, Signer, ordered, said};
use anyhow::Context;
use reqwest::header::RETRY_AFTER;
use reqwest::{Certificate, Client, Response, redirect};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use url::{Position, Url};

/// Bytes of an answer that are read. The rest is nothing that counts.
const LONGEST: usize = 64 << 10;
/// To an address that does not answer.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Webhook {
    client: Client,
    url: Url,
    signer: Signer,
}

impl Webhook {
    /// # Errors
    /// What is wrong with the files that the configuration names.
    pub fn new(config: &config::OutgoingWebhook) -> anyhow::Result<Self> {
        let key = key_file::key(&config.key).context("`actuator`")?;
        let mut builder = Client::builder().connect_timeout(CONNECT).redirect(redirect::Policy::none()).no_proxy();
        if let Some(path) = &config.ca {
            let pem = std::fs::read(path).with_context(|| format!("`actuator`: cannot read the CA {}", path.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|certificates| !certificates.is_empty());
            let certificates = certificates.with_context(|| format!("`actuator`: {} holds no certificate in PEM", path.display()))?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().context("`actuator`: cannot set up TLS")?;
        let signer = Signer { name: config.name.clone(), audience: config.audience.clone(), key: (config.key.id, key) };
        Ok(Self { client, url: config.url.clone(), signer })
    }

    /// Where it is; a path may hold a secret.
    pub fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    pub async fn call(&self, order: &Order) -> Called {
        let body = order.body();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let target = &self.url[Position::BeforePath..Position::AfterQuery];
        let headers = self.signer.headers(order, target, now, &body);
        let response = self.client.post(self.url.clone()).headers(headers).body(body).send().await.map_err(unreachable)?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        let answer = answer(response).await;
        let Some(why) = Why::of_status(status.as_u16()) else { return Ok(ordered(&answer, order.max)) };
        let said = Some(said(&answer)).filter(|said| !said.is_empty()).map_or(String::new(), |said| format!(": {said}"));
        let remedy = match status.as_u16() {
            300..=399 => " (redirects are not followed: write the URL that it leads to)",
            401 | 403 => " (has it the same key, and this `audience`? are both clocks right?)",
            404 | 405 => " (does `url` name the place where it takes orders?)",
            _ => "",
        };
        Err(Failure { why, text: format!("it answers with {}{remedy}{said}", status.as_u16()), after })
    }
}

/// As much of it as counts, and as comes.
async fn answer(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = LONGEST - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    bytes
}

fn unreachable(error: reqwest::Error) -> Failure {
    let why = if error.is_timeout() { Why::TimedOut } else { Why::Unreachable };
    let text = format!(
        "it does not answer ({:#}): is it up, is its certificate good, and may this machine reach it?",
        anyhow::Error::from(error.without_url())
    );
    Failure { why, text, after: None }
}
