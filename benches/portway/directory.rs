//! The directory: look-ups among many hosts at a steady rate, and how many hosts enrol in a second.

use super::Options;
use super::figures::{Bar, Report};
use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use portway::config::{self, Config, Database};
use portway::directory::Running;
use portway::directory::client::Client;
use portway::directory::types::{Change, ChangeKind, GatewaySpec, HostSpec, Role, TenantSpec, TokenSpec};
use portway::model::{NodeName, PrivateKey, ShardId, TenantName};
use reqwest::Method;
use sqlx::Connection;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const HOSTS: usize = 100_000;
/// Look-ups a second, and for how long.
const RATE: u32 = 1_000;
const LENGTH: Duration = Duration::from_secs(30);
/// Callers with a connection each: gateways ask over few.
const CALLERS: usize = 8;
/// One look-up in so many is for a key that nobody has.
const UNKNOWN: usize = 10;
const ENROLMENTS: usize = 1_000;
/// At most so many who watch; fewer where this process may not have the descriptors.
const WATCHERS: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let (hosts, length, enrolments) = if options.short { (2_000, Duration::from_secs(3), 100) } else { (HOSTS, LENGTH, ENROLMENTS) };
    // Each takes two descriptors, as both ends are here.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let watchers = usize::try_from(most.saturating_sub(1_000) / 2)?.min(if options.short { 500 } else { WATCHERS });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let bed = Bed::start(None).await?;
        bed.enrol("enrolment, SQLite", enrolments, report).await?;
        let bed = bed.fill(hosts).await?;
        bed.look_up(hosts, length, report).await?;
        bed.watch(watchers, report).await?;
        bed.running.stop().await;
        let server = Server::start()?;
        let bed = Bed::start(Some(server.database()?)).await?;
        bed.enrol("enrolment, PostgreSQL", enrolments, report).await?;
        bed.running.stop().await;
        anyhow::Ok(())
    })
}

struct Bed {
    running: Running,
    operator: Client,
    config: config::Directory,
    dir: tempfile::TempDir,
}

/// Writes hosts of the first tenant into the file of a directory that does not run, with what whoever watches is to be told of each, as if they had been
/// added one by one. The revision that is reached.
pub async fn fill(file: &Path, hosts: usize) -> anyhow::Result<u64> {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&format!("sqlite://{}", file.display())).await?;
    let mut tx = connection.begin().await?;
    let (tenant, next): (i64, i64) = sqlx::query_as("SELECT id, next FROM tenants").fetch_one(&mut *tx).await?;
    let (mut revision,): (i64,) = sqlx::query_as("SELECT revision FROM state").fetch_one(&mut *tx).await?;
    for number in 0..hosts {
        let (name, key) = (format!("known-{number}"), key(number).public());
        revision += 1;
        let (id,): (i64,) =
            sqlx::query_as("INSERT INTO hosts (name) VALUES ($1) RETURNING id").bind(name.clone()).fetch_one(&mut *tx).await?;
        sqlx::query("INSERT INTO host_keys (public_key, host) VALUES ($1, $2)")
            .bind(key.bytes().to_vec())
            .bind(id)
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO host_tenants (host, tenant) VALUES ($1, $2)").bind(id).bind(tenant).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO prefixes (host, tenant, shard, place) VALUES ($1, $2, 0, $3)")
            .bind(id)
            .bind(tenant)
            .bind(next + i64::try_from(number)?)
            .execute(&mut *tx)
            .await?;
        let change = Change {
            revision: u64::try_from(revision)?,
            kind: ChangeKind::Host,
            name,
            tenant: Some(self::tenant()?),
            gone: false,
            keys: vec![key],
        };
        sqlx::query("INSERT INTO changes (revision, part, kind, tenant, host, body) VALUES ($1, 0, 'host', $2, $3, $4)")
            .bind(revision)
            .bind(tenant)
            .bind(id)
            .bind(serde_json::to_string(&change)?)
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query("UPDATE tenants SET next = next + $1").bind(i64::try_from(hosts)?).execute(&mut *tx).await?;
    sqlx::query("UPDATE state SET revision = $1").bind(revision).execute(&mut *tx).await?;
    tx.commit().await?;
    connection.close().await?;
    Ok(u64::try_from(revision)?)
}

/// A private key like no other.
fn key(number: usize) -> PrivateKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PrivateKey::new(bytes)
}

impl Bed {
    async fn start(database: Option<Database>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = config::Directory {
            listen: "127.0.0.1:0".parse()?,
            tls: None,
            database: database.unwrap_or_else(|| Database::Sqlite(dir.path().join("directory.db"))),
            runtime_dir: dir.path().join("run"),
            admin: "127.0.0.1:0".parse()?,
            admin_names: Default::default(),
            key_grace: Duration::from_secs(3600),
            keep_changes: 100_000,
            oidc: vec![],
        };
        let bed = Self::open(config, dir).await?;
        let spec = TenantSpec { inner: "10.64.0.0/12".parse()?, host_prefix: 32, shards: [ShardId::default()].into(), egress: None };
        bed.operator.put_tenant(&tenant()?, &spec).await?;
        Ok(bed)
    }

    async fn open(config: config::Directory, dir: tempfile::TempDir) -> anyhow::Result<Self> {
        let running = Running::start(&config, Arc::new(SystemTime::now)).await?;
        let operator = Client::local(&running.socket)?;
        Ok(Self { running, operator, config, dir })
    }

    async fn client(&self, spec: TokenSpec) -> anyhow::Result<Client> {
        let token = self.operator.add_token(&spec).await?.token;
        Ok(Client::new(&format!("http://{}", self.running.listen), None, None)?.with_token(token))
    }

    /// Hosts with tokens of their own come, eight at a time; each call makes a challenge, a proof and an enrolment.
    async fn enrol(&self, arm: &str, count: usize, report: &mut Report) -> anyhow::Result<()> {
        let mut tokens = Vec::new();
        for _ in 0..count {
            let tenants = Some([tenant()?].into());
            tokens.push(self.client(TokenSpec { role: Role::Enroll, tenants, gateway: None, host: None, expires_s: None }).await?);
        }
        let begun = Instant::now();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let mine: Vec<(usize, Client)> = tokens.iter().cloned().enumerate().skip(caller).step_by(CALLERS).collect();
            callers.spawn(async move {
                let mut times = Vec::new();
                for (number, client) in mine {
                    let at = Instant::now();
                    client.enroll(&key(10_000_000 + number), &format!("new-{number}").parse()?).await?;
                    times.push(at.elapsed().as_secs_f64() * 1e3);
                }
                anyhow::Ok(times)
            });
        }
        let mut times = Vec::new();
        while let Some(done) = callers.join_next().await {
            times.extend(done??);
        }
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        report.add(arm, "enrolments", "1/s", vec![rate], None);
        report.latency(arm, "challenge and enrolment", times, None);
        Ok(())
    }

    /// With hosts that have been there before, which by as many calls would take longer than all the rest; begins anew.
    async fn fill(self, hosts: usize) -> anyhow::Result<Self> {
        let Self { running, config, dir, .. } = self;
        running.stop().await;
        let Database::Sqlite(file) = &config.database else { unreachable!("it is SQLite") };
        fill(file, hosts).await?;
        Self::open(config, dir).await
    }

    /// Look-ups begin when they are due, whether those before are answered or not: what waits is measured as waiting.
    async fn look_up(&self, hosts: usize, length: Duration, report: &mut Report) -> anyhow::Result<()> {
        let name: NodeName = "gw-1".parse()?;
        self.operator.put_gateway(&name, &GatewaySpec { shards: ["acme".parse()?].into() }).await?;
        let spec = TokenSpec { role: Role::Gateway, tenants: None, gateway: Some(name), host: None, expires_s: None };
        let client = self.client(spec).await?;
        let total = usize::try_from(u64::from(RATE) * length.as_secs())?;
        let keys: Vec<_> = (0..total)
            .map(|n| if n % UNKNOWN == 0 { (key(20_000_000 + n).public(), false) } else { (key(n * 7_919 % hosts).public(), true) })
            .collect();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let (mut calls, mut others) = (JoinSet::new(), JoinSet::new());
        for (number, (key, known)) in keys.into_iter().enumerate() {
            let due = ticks.tick().await;
            if number % UNKNOWN == 0 {
                let client = client.clone();
                others.spawn(async move {
                    client.call(Method::GET, "/healthz", None::<&()>, PATIENCE).await?;
                    anyhow::Ok(due.elapsed().as_secs_f64() * 1e3)
                });
            }
            let client = client.clone();
            calls.spawn(async move {
                let found = client.peer(&key).await?;
                ensure!(found.is_some() == known, "{key}: {found:?}");
                anyhow::Ok(due.elapsed().as_secs_f64() * 1e3)
            });
        }
        let arm = format!("SQLite, {hosts} hosts, {RATE}/s");
        report.latency(&arm, "look-up", all(calls).await?, Some(Bar::P99AtMost(5.0)));
        report.latency(arm, "a call that looks nothing up", all(others).await?, None);
        Ok(())
    }

    /// Many who wait for changes, over a connection each; and a change that they hear of.
    #[expect(clippy::cast_precision_loss, reason = "thousands, and kibibytes")]
    async fn watch(&self, watchers: usize, report: &mut Report) -> anyhow::Result<()> {
        let spec = TokenSpec { role: Role::Operator, tenants: Some([tenant()?].into()), gateway: None, host: None, expires_s: None };
        let token = self.operator.add_token(&spec).await?.token;
        let revision = self.operator.hosts(None).await?.revision;
        let call = format!("GET /v1/watch?since={revision}&wait_s=60 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        let (before, mut waiting) = (resident()?, Vec::new());
        for _ in 0..watchers {
            let mut stream = TcpStream::connect(self.running.listen).await?;
            stream.write_all(call.as_bytes()).await?;
            waiting.push(stream);
        }
        let begun = Instant::now();
        let metrics = format!("http://{}/metrics", self.running.admin);
        loop {
            let page = reqwest::get(&metrics).await?.text().await?;
            let present = page.lines().find_map(|line| line.strip_prefix("portway_directory_watchers{} ")?.parse::<f64>().ok());
            if present == Some(watchers as f64) {
                break;
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "{present:?} of {watchers} watch");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let each = (resident()? - before) as f64 / watchers as f64;
        let spec = HostSpec { tenants: [tenant()?].into(), public_key: None };
        self.operator.put_host(&"watched".parse()?, &spec).await?;
        let done = Instant::now();
        let mut calls = JoinSet::new();
        for mut stream in waiting {
            calls.spawn(async move {
                let mut answer = [0; 1024];
                let length = stream.read(&mut answer).await?;
                ensure!(answer[..length].windows(7).any(|part| part == b"watched"), "{}", String::from_utf8_lossy(&answer[..length]));
                anyhow::Ok(done.elapsed().as_secs_f64() * 1e3)
            });
        }
        let arm = format!("SQLite, {watchers} watch");
        report.latency(&arm, "a change is heard of", all(calls).await?, None);
        report.add(arm, "memory for each, with the caller's", "KiB", vec![each], None);
        Ok(())
    }
}

async fn all(mut calls: JoinSet<anyhow::Result<f64>>) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    while let Some(done) = calls.join_next().await {
        times.push(done??);
    }
    Ok(times)
}

/// This process's memory, in KiB.
fn resident() -> anyhow::Result<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("no VmRSS")?.parse()?)
}

fn tenant() -> anyhow::Result<TenantName> {
    Ok("acme".parse()?)
}

/// Debian's PostgreSQL with its own settings, `fsync` among them, on a socket in a directory of its own.
struct Server {
    postgres: Child,
    dir: tempfile::TempDir,
}

impl Server {
    fn command(dir: &Path, program: &str) -> anyhow::Result<Command> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed; run: scripts/install-deps test")?;
        let bin: PathBuf = versions.flatten().map(|entry| entry.path().join("bin")).max().context("no PostgreSQL")?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL", "--"]).arg(bin.join(program));
        command.current_dir(dir).env("LC_ALL", "C").stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let user = nix::unistd::User::from_name("postgres")?.context("the package postgresql makes a user `postgres`")?;
        std::os::unix::fs::chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        let data = dir.path().join("data");
        let made = Self::command(dir.path(), "initdb")?.args(["--auth=trust", "--username=portway", "-D"]).arg(&data).status()?;
        ensure!(made.success(), "initdb failed");
        let mut postgres = Self::command(dir.path(), "postgres")?;
        postgres.arg("-D").arg(&data).args(["-c", "listen_addresses=", "-c"]);
        let postgres = postgres.arg(format!("unix_socket_directories={}", dir.path().display())).spawn()?;
        let server = Self { postgres, dir };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !Self::command(server.dir.path(), "pg_isready")?.arg("-h").arg(server.dir.path()).status()?.success() {
            ensure!(Instant::now() < deadline, "PostgreSQL is not ready after 30 s");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn database(&self) -> anyhow::Result<Database> {
        let url = format!("postgres://portway@localhost/postgres?host={}", self.dir.path().display());
        let text = format!("directory: {{ listen: '127.0.0.1:1', database: '{url}' }}");
        match config::parse(&text, "the benchmark's own")? {
            Config::Directory(directory) => Ok(directory.database),
            Config::Gateway(_) | Config::Host(_) | Config::Autoscaler(_) => unreachable!("it says `directory`"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.postgres.kill();
        let _ = self.postgres.wait();
    }
}
