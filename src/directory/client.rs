//! Talking to a directory: what gateways, hosts and the command line use.

use super::api::LONGEST_BODY;
use super::proof::{self, Nonce, Question};
use super::refusal::Body;
use super::types::*;
use crate::daemon::answer;
use crate::model::{Invalid, NodeName, PrivateKey, PublicKey, TenantName, TenantShard};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Certificate, Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use zeroize::Zeroizing;

const CONNECT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection whose other end is gone without a word is noticed after four times this long.
const ALIVE: Duration = Duration::from_secs(3);
/// Bytes of an answer; the longest true one is a page of hosts.
const LONGEST_ANSWER: usize = 256 * LONGEST_BODY;

/// A public key as it stands in a path: base64url without padding (RFC 4648 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathKey(pub PublicKey);

impl fmt::Display for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.bytes()))
    }
}

impl FromStr for PathKey {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; PublicKey::LEN]>::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| Invalid(format!("{text:?} is not a public key in a path: write 43 characters of base64url")))?;
        PublicKey::try_from(bytes).map(PathKey)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The directory's own words.
    #[error("{message}; {remedy}")]
    Refused { status: u16, code: String, message: String, remedy: String },
    #[error("the directory at {at} does not answer")]
    Unreachable {
        at: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{at} answers with something else than a directory would ({why}): is it one?")]
    Garbage { at: String, why: String },
    #[error("{0}")]
    Setup(String),
}

impl ClientError {
    /// Whether the directory said so, with this word.
    pub fn is(&self, word: super::refusal::Code) -> bool {
        matches!(self, Self::Refused { code, .. } if code == word.as_str())
    }
}

/// What a watch comes back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    Changes(Changes),
    /// Too much has changed since: list again.
    StartAgain,
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    base: String,
    token: Option<Zeroizing<String>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .timeout(PATIENCE)
        .tcp_keepalive(ALIVE)
        .tcp_keepalive_interval(ALIVE)
        .tcp_keepalive_retries(3)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

impl Client {
    /// At `https://...`, with a certificate by `ca` (PEM) or, without, by whom the machine trusts; at `http://` on loopback only.
    pub fn new(url: &str, ca: Option<&Path>, token: Option<Zeroizing<String>>) -> Result<Self, ClientError> {
        let setup = |why: String| ClientError::Setup(why);
        let parsed =
            Url::parse(url).map_err(|error| setup(format!("{url:?} is no URL ({error}): write https://directory.example:9473")))?;
        let loopback = match parsed.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if !(parsed.scheme() == "https" || parsed.scheme() == "http" && loopback) {
            return Err(setup(format!("{url:?} would take tokens over the network in clear: write https://")));
        }
        let mut builder = builder();
        if let Some(path) = ca {
            let pem = std::fs::read(path).map_err(|error| setup(format!("cannot read the CA {}: {error}", path.display())))?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| setup(format!("{} is no PEM: {error}", path.display())))?;
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().map_err(|error| setup(format!("cannot set up TLS: {error}")))?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned(), token })
    }

    /// Over the socket of a directory on this machine, as its operator.
    pub fn local(socket: &Path) -> Result<Self, ClientError> {
        let http = builder().unix_socket(socket).build().map_err(|error| ClientError::Setup(error.to_string()))?;
        Ok(Self { http, base: "http://directory".into(), token: None })
    }

    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(Zeroizing::new(token.into())), ..self.clone() }
    }

    /// Any call, for what has no function here.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        patience: Duration,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let unreachable = |source| ClientError::Unreachable { at: self.base.clone(), source };
        let mut request = self.http.request(method, format!("{}{path}", self.base)).timeout(patience);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.as_str());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let bytes = answer::whole(answer, LONGEST_ANSWER).await.map_err(unreachable)?;
        let bytes = bytes.ok_or_else(|| self.garbage(format!("more than {LONGEST_ANSWER} bytes")))?;
        if (200..300).contains(&status) {
            return Ok((status, bytes));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Body { error, code, remedy }) => Err(ClientError::Refused { status, code, message: error, remedy }),
            Err(_) => Err(self.garbage(format!("status {status}"))),
        }
    }

    /// It answers, and not as it should.
    pub fn garbage(&self, why: impl Into<String>) -> ClientError {
        ClientError::Garbage { at: self.base.clone(), why: why.into() }
    }

    fn read<T: DeserializeOwned>(&self, (_, bytes): (u16, Vec<u8>)) -> Result<T, ClientError> {
        serde_json::from_slice(&bytes).map_err(|error| self.garbage(error.to_string()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.call(Method::GET, path, None::<&()>, PATIENCE).await?;
        self.read(answer)
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let answer = self.call(method, path, Some(body), PATIENCE).await?;
        self.read(answer)
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, path, None::<&()>, PATIENCE).await.map(drop)
    }

    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        self.get("/v1/whoami").await
    }

    pub async fn tenants(&self) -> Result<Vec<Tenant>, ClientError> {
        self.get("/v1/tenants").await
    }

    pub async fn put_tenant(&self, name: &TenantName, spec: &TenantSpec) -> Result<Tenant, ClientError> {
        self.send(Method::PUT, &format!("/v1/tenants/{name}"), spec).await
    }

    pub async fn remove_tenant(&self, name: &TenantName) -> Result<(), ClientError> {
        self.delete(&format!("/v1/tenants/{name}")).await
    }

    pub async fn shards(&self) -> Result<Vec<Shard>, ClientError> {
        self.get("/v1/shards").await
    }

    pub async fn put_shard(&self, of: &TenantShard, spec: &ShardSpec) -> Result<(), ClientError> {
        self.call(Method::PUT, &format!("/v1/shards/{of}"), Some(spec), PATIENCE).await.map(drop)
    }

    pub async fn gateways(&self) -> Result<Vec<Gateway>, ClientError> {
        self.get("/v1/gateways").await
    }

    /// What the calling gateway is like now.
    pub async fn report(&self, report: &GatewayReport) -> Result<(), ClientError> {
        self.call(Method::PUT, "/v1/gateway/status", Some(report), PATIENCE).await.map(drop)
    }

    /// What the calling host is like now.
    pub async fn report_host(&self, report: &HostReport) -> Result<(), ClientError> {
        self.call(Method::PUT, "/v1/host/status", Some(report), PATIENCE).await.map(drop)
    }

    /// The fleet, as far as the calling operator may see it.
    pub async fn fleet(&self) -> Result<Fleet, ClientError> {
        self.get("/v1/status").await
    }

    /// Where gateways are asked for their numbers. Refused to whoever may not see all of them.
    pub async fn reach(&self) -> Result<Vec<Reach>, ClientError> {
        self.get("/v1/fleet").await
    }

    pub async fn put_gateway(&self, name: &NodeName, spec: &GatewaySpec) -> Result<Gateway, ClientError> {
        self.send(Method::PUT, &format!("/v1/gateways/{name}"), spec).await
    }

    pub async fn remove_gateway(&self, name: &NodeName) -> Result<(), ClientError> {
        self.delete(&format!("/v1/gateways/{name}")).await
    }

    /// Of the calling gateway.
    pub async fn assignment(&self) -> Result<Assignment, ClientError> {
        self.get("/v1/gateway").await
    }

    /// What the calling gateway is to its group; the group then.
    pub async fn put_member(&self, spec: &MemberSpec) -> Result<Members, ClientError> {
        self.send(Method::PUT, "/v1/gateway/member", spec).await
    }

    /// The calling gateway has left its group.
    pub async fn remove_member(&self) -> Result<(), ClientError> {
        self.delete("/v1/gateway/member").await
    }

    pub async fn hosts(&self, after: Option<&NodeName>) -> Result<Hosts, ClientError> {
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        self.get(&format!("/v1/hosts{query}")).await
    }

    pub async fn host(&self, name: &NodeName) -> Result<Host, ClientError> {
        self.get(&format!("/v1/hosts/{name}")).await
    }

    pub async fn put_host(&self, name: &NodeName, spec: &HostSpec) -> Result<Host, ClientError> {
        self.send(Method::PUT, &format!("/v1/hosts/{name}"), spec).await
    }

    pub async fn remove_host(&self, name: &NodeName) -> Result<(), ClientError> {
        self.delete(&format!("/v1/hosts/{name}")).await
    }

    /// Of the calling host.
    pub async fn membership(&self) -> Result<Membership, ClientError> {
        self.get("/v1/host").await
    }

    pub async fn tokens(&self) -> Result<Vec<Token>, ClientError> {
        self.get("/v1/tokens").await
    }

    pub async fn add_token(&self, spec: &TokenSpec) -> Result<Minted, ClientError> {
        self.send(Method::POST, "/v1/tokens", spec).await
    }

    /// An id has no slash and no question mark; whatever has is no id.
    pub async fn remove_token(&self, id: &str) -> Result<(), ClientError> {
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ClientError::Setup(format!("{id:?} is no token's id: `portway directory token list` shows them")));
        }
        self.delete(&format!("/v1/tokens/{id}")).await
    }

    /// The host that has a key; none: none that this caller may know.
    pub async fn peer(&self, key: &PublicKey) -> Result<Option<Host>, ClientError> {
        match self.get(&format!("/v1/peers/{}", PathKey(*key))).await {
            Ok(host) => Ok(Some(host)),
            Err(error) if error.is(super::refusal::Code::Unknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes after a revision; comes back without any after `wait` (60 s at most). Without `since`: the present revision, at once.
    pub async fn watch(&self, since: Option<u64>, wait: Duration) -> Result<Watched, ClientError> {
        let query = since.map(|since| format!("?since={since}&wait_s={}", wait.as_secs())).unwrap_or_default();
        match self.call(Method::GET, &format!("/v1/watch{query}"), None::<&()>, wait + PATIENCE).await {
            Ok(answer) => Ok(Watched::Changes(self.read(answer)?)),
            Err(error) if error.is(super::refusal::Code::Compacted) => Ok(Watched::StartAgain),
            Err(error) => Err(error),
        }
    }

    async fn prove(&self, key: &PrivateKey, name: &NodeName) -> Result<(String, String), ClientError> {
        let token = self.token.as_ref().ok_or_else(|| ClientError::Setup("enrolling takes a token".into()))?;
        let challenge: Challenge = self.send(Method::POST, "/v1/enroll/challenge", &ChallengeSpec { public_key: key.public() }).await?;
        let nonce = Nonce::parse(&challenge.nonce).ok_or_else(|| self.garbage("no nonce"))?;
        let question = Question { nonce, server_key: challenge.server_key };
        let proof = proof::answer(key, &question, token, name.as_str()).ok_or_else(|| self.garbage("a key of small order"))?;
        Ok((challenge.nonce, proof))
    }

    /// Enrols a host by this client's token, which is good for that. The answer has the host's own.
    pub async fn enroll(&self, key: &PrivateKey, name: &NodeName) -> Result<Enrolled, ClientError> {
        let (nonce, proof) = self.prove(key, name).await?;
        let spec = EnrollSpec { name: name.clone(), public_key: key.public(), nonce, proof, tenants: None, inner: None };
        self.send(Method::POST, "/v1/enroll", &spec).await
    }

    /// Gives the calling host a new key; the present one is valid for a while longer.
    pub async fn rotate(&self, key: &PrivateKey, name: &NodeName) -> Result<(), ClientError> {
        let (nonce, proof) = self.prove(key, name).await?;
        let spec = KeySpec { public_key: key.public(), nonce, proof };
        self.call(Method::POST, "/v1/host/key", Some(&spec), PATIENCE).await.map(drop)
    }
}
