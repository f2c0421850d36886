//! A directory in this process, with a clock that can be put forward and certificates of its own.

use portway::config::{self, Database, Oidc, Tls};
use portway::directory::Running;
use portway::directory::client::{Client, ClientError};
use portway::directory::types::*;
use portway::lab::secret;
use portway::model::{NodeName, Pools, PrivateKey, ShardId, TenantName, TenantShard};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sqlx::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

pub struct Bed {
    pub running: Running,
    pub config: config::Directory,
    pub ca: PathBuf,
    ahead: Arc<AtomicU64>,
    pub dir: TempDir,
}

/// A CA's certificate at `DIR/NAME-ca.pem`, and one by it for this machine's loopback beside, with its key.
pub fn certificate(dir: &Path, name: &str) -> (PathBuf, Tls) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let path = |what: &str| dir.join(format!("{name}-{what}.pem"));
    std::fs::write(path("ca"), ca.pem()).unwrap();
    std::fs::write(path("leaf"), leaf.pem()).unwrap();
    secret(&path("key"), &key.serialize_pem()).unwrap();
    (path("ca"), Tls { certificate: path("leaf"), key: path("key") })
}

impl Bed {
    pub async fn sqlite() -> Self {
        Self::new(None, |_| {}).await
    }

    /// On a database, or in a file of its own; `edit` changes the configuration before the start.
    pub async fn new(database: Option<Database>, edit: impl FnOnce(&mut config::Directory)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ca, tls) = certificate(dir.path(), "directory");
        let mut config = config::Directory {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: Some(tls),
            database: database.unwrap_or_else(|| Database::Sqlite(dir.path().join("directory.db"))),
            runtime_dir: dir.path().join("run"),
            admin: "127.0.0.1:0".parse().unwrap(),
            admin_names: Default::default(),
            key_grace: Duration::from_secs(600),
            keep_changes: 100,
            oidc: vec![],
        };
        edit(&mut config);
        let ahead = Arc::new(AtomicU64::new(0));
        let running = start(&config, &ahead).await;
        Self { running, config, ca, ahead, dir }
    }

    /// The same configuration again, in a new process as it were.
    pub async fn restarted(self, edit: impl FnOnce(&mut config::Directory)) -> Self {
        let Self { running, mut config, ca, ahead, dir } = self;
        running.stop().await;
        edit(&mut config);
        Self { running: start(&config, &ahead).await, config, ca, ahead, dir }
    }

    /// Ends it; its address is nobody's until it is up again.
    pub async fn down(self) -> Down {
        let Self { running, mut config, ca, ahead, dir } = self;
        config.listen = running.listen;
        running.stop().await;
        Down { config, ca, ahead, dir }
    }

    /// Puts the directory's clock forward.
    pub fn advance(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn now(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + self.ahead.load(Ordering::Relaxed)
    }

    /// By the local socket.
    pub fn operator(&self) -> Client {
        Client::local(&self.running.socket).unwrap()
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.running.listen.port())
    }

    /// Over TLS.
    pub fn with(&self, token: impl Into<String>) -> Client {
        self.stranger().with_token(token)
    }

    pub fn stranger(&self) -> Client {
        Client::new(&self.url(), Some(&self.ca), None).unwrap()
    }

    /// Somebody with a new token.
    pub async fn role(&self, spec: TokenSpec) -> Client {
        self.with(self.operator().add_token(&spec).await.unwrap().token)
    }

    pub async fn gateway(&self, name: &str, shards: &[&str]) -> Client {
        let spec = GatewaySpec { shards: shards.iter().map(|of| shard(of)).collect() };
        self.operator().put_gateway(&node(name), &spec).await.unwrap();
        self.role(TokenSpec { gateway: Some(node(name)), ..token(Role::Gateway) }).await
    }

    pub async fn operator_of(&self, tenants: &[&str]) -> Client {
        self.role(TokenSpec { tenants: Some(tenants.iter().map(|name| tenant(name)).collect()), ..token(Role::Operator) }).await
    }

    pub async fn tenant(&self, name: &str, inner: &str, shards: &[u16]) -> Tenant {
        self.operator().put_tenant(&tenant(name), &tenant_spec(inner, shards)).await.unwrap()
    }

    pub async fn enrolment(&self, tenants: &[&str]) -> Client {
        self.role(enroll(tenants)).await
    }

    /// A host that has enrolled: its client, and what it was told.
    pub async fn host(&self, name: &str, key: &PrivateKey, tenants: &[&str]) -> (Client, Enrolled) {
        let enrolled = self.enrolment(tenants).await.enroll(key, &node(name)).await.unwrap();
        (self.with(enrolled.credential.token.clone()), enrolled)
    }

    /// All that the database holds: the files of SQLite; of PostgreSQL every row as text.
    pub async fn stored(&self) -> Vec<u8> {
        let url = match &self.config.database {
            Database::Sqlite(file) => {
                let log = PathBuf::from(format!("{}-wal", file.display()));
                return [file, &log].into_iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
            }
            Database::Postgres(url) => url,
        };
        let mut connection = sqlx::AnyConnection::connect(url.as_str()).await.unwrap();
        let all = "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'public'";
        let tables: Vec<(String,)> = sqlx::query_as(all).fetch_all(&mut connection).await.unwrap();
        assert!(tables.len() > 5, "{tables:?}");
        let mut stored = Vec::new();
        for (table,) in tables {
            let rows = sqlx::AssertSqlSafe(format!("SELECT CAST(one AS TEXT) FROM {table} AS one"));
            let rows: Vec<(String,)> = sqlx::query_as(rows).fetch_all(&mut connection).await.unwrap();
            rows.into_iter().for_each(|(row,)| stored.extend_from_slice(row.as_bytes()));
        }
        stored
    }

    /// Waits until a call waits for changes.
    pub async fn has_watcher(&self) {
        let deadline = Instant::now() + SOON;
        while self.metric("portway_directory_watchers").await != Some(1.0) {
            assert!(Instant::now() < deadline, "nobody watches");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The value of a metric, with its labels or none.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics().await;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim_start_matches("{}").strip_prefix(' ')?.parse().ok())
    }

    pub async fn metrics(&self) -> String {
        reqwest::get(format!("http://{}/metrics", self.running.admin)).await.unwrap().text().await.unwrap()
    }
}

/// A directory that is down.
pub struct Down {
    config: config::Directory,
    ca: PathBuf,
    ahead: Arc<AtomicU64>,
    dir: TempDir,
}

impl Down {
    /// At the same address as before.
    pub async fn up(self) -> Bed {
        let Self { config, ca, ahead, dir } = self;
        Bed { running: start(&config, &ahead).await, config, ca, ahead, dir }
    }
}

async fn start(config: &config::Directory, ahead: &Arc<AtomicU64>) -> Running {
    let ahead = ahead.clone();
    let clock = Arc::new(move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed)));
    Running::start(config, clock).await.unwrap()
}

pub fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

pub fn shard(of: &str) -> TenantShard {
    of.parse().unwrap()
}

pub fn key(number: u8) -> PrivateKey {
    PrivateKey::new([number; 32])
}

pub fn token(role: Role) -> TokenSpec {
    TokenSpec { role, tenants: None, gateway: None, host: None, expires_s: None }
}

pub fn enroll(tenants: &[&str]) -> TokenSpec {
    TokenSpec { tenants: Some(tenants.iter().map(|name| tenant(name)).collect()), ..token(Role::Enroll) }
}

pub fn pools(all: &[(&str, &[u16])]) -> Pools {
    Pools::new(all.iter().map(|(name, shards)| (name.parse().unwrap(), shards.iter().copied().map(ShardId).collect())).collect())
}

pub fn tenant_spec(inner: &str, shards: &[u16]) -> TenantSpec {
    TenantSpec { inner: inner.parse().unwrap(), host_prefix: 32, shards: shards.iter().copied().map(ShardId).collect(), egress: None }
}

pub fn host_spec(tenants: &[&str], number: Option<u8>) -> HostSpec {
    HostSpec { tenants: tenants.iter().map(|name| tenant(name)).collect(), public_key: number.map(|number| key(number).public()) }
}

/// `acme/1=10.64.0.1/32 ...`
pub fn inner(host: &Host) -> String {
    let all = host.inner.iter().flat_map(|(of, nets)| nets.iter().map(move |net| format!("{of}={net}")));
    all.collect::<Vec<_>>().join(" ")
}

/// The word of a refusal.
pub fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    match result {
        Err(ClientError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn issuer_entry(jwks: &str, ca: Option<PathBuf>, host_claim: Option<&str>) -> Oidc {
    Oidc {
        issuer: "https://issuer.test".into(),
        audience: "portway".into(),
        jwks: jwks.parse().unwrap(),
        ca,
        claims: [("repository".into(), "acme/functions".into())].into(),
        host_claim: host_claim.map(str::to_owned),
        tenants: vec![tenant("acme")],
    }
}
