//! What the directory keeps, in SQLite or PostgreSQL: one set of statements for both, every value bound.
//!
//! Whoever changes something first counts up the one revision. That orders all changes (in PostgreSQL the row is locked from then on until
//! the end of the transaction, in SQLite there is one writer anyway), so what a transaction has checked stays true while it writes.

pub mod changes;
mod enroll;
mod gateways;
mod group;
mod hosts;
mod peers;
pub mod places;
mod readers;
mod shards;
mod tenants;
mod tokens;

pub use enroll::{Enrollment, Grant};
pub use tokens::{Access, Found};

use super::refusal::{Code, Refusal};
use crate::config::Database;
use crate::model::{PublicKey, Secret, TenantName};
use readers::Readers;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, SqlSafeStr, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Each statement waits at most this long for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// SQLite's readers, each a thread.
const READERS: u32 = 8;
/// PostgreSQL's connections for reading.
const CONNECTIONS: u32 = 12;
/// Of either, those that are for look-ups alone.
const LOOK_UPS: usize = 4;
/// PostgreSQL's for changing something: one changes, those behind it wait. Others' look-ups have connections all the same.
const WRITERS: u32 = 4;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("cannot {doing} in the database")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
}

/// Without more words, a statement failed that nothing could be wrong with.
impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        Self::Database { doing: "read or write", source }
    }
}

pub type Done<T> = Result<T, StoreError>;

/// Which tenants somebody may see, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    Only(Arc<BTreeMap<i64, TenantName>>),
}

impl Scope {
    pub fn has(&self, tenant: i64) -> bool {
        match self {
            Scope::All => true,
            Scope::Only(tenants) => tenants.contains_key(&tenant),
        }
    }

    pub fn is_all(&self) -> bool {
        *self == Scope::All
    }
}

#[derive(Debug, Clone)]
pub struct Store {
    read: AnyPool,
    /// Some of those.
    look_ups: Readers,
    write: AnyPool,
    postgres: bool,
}

impl Store {
    /// Opens the database, and brings its tables up to date. `random` becomes its secret if it has none yet.
    pub async fn open(database: &Database, random: [u8; 32]) -> anyhow::Result<Self> {
        sqlx::any::install_default_drivers();
        let options = || AnyPoolOptions::new().acquire_timeout(PATIENCE);
        let (read, write, postgres) = match database {
            Database::Sqlite(path) => {
                let url = format!("sqlite://{}?mode=rwc", path.display());
                let tuned = |most| options().max_connections(most).after_connect(|connection, _| Box::pin(pragmas(connection)));
                let write = tuned(1).connect(&url).await?;
                (tuned(READERS).connect(&url).await?, write, false)
            }
            Database::Postgres(url) => {
                let limited = |most| options().max_connections(most).after_connect(|connection, _| Box::pin(limits(connection)));
                let write = limited(WRITERS).connect(url.as_str()).await?;
                (limited(CONNECTIONS).connect(url.as_str()).await?, write, true)
            }
        };
        let store = Self { look_ups: Readers::new(read.clone(), LOOK_UPS), read, write, postgres };
        store.migrator().run(&store.write).await?;
        sqlx::query("INSERT INTO state (one, revision, compacted, secret) VALUES (1, 0, 0, $1) ON CONFLICT DO NOTHING")
            .bind(random.to_vec())
            .execute(&store.write)
            .await?;
        Ok(store)
    }

    fn migrator(&self) -> Migrator {
        macro_rules! step {
            ($file:literal) => {
                if self.postgres {
                    include_str!(concat!("../../migrations/postgres/", $file, ".sql"))
                } else {
                    include_str!(concat!("../../migrations/sqlite/", $file, ".sql"))
                }
            };
        }
        let migration = |number, what: &'static str, sql: &'static str| {
            Migration::new(number, what.into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        Migrator::with_migrations(vec![
            migration(1, "registry", step!("0001_registry")),
            migration(2, "nonces", step!("0002_nonces")),
            migration(3, "gateway tokens", step!("0003_gateway_tokens")),
            migration(4, "next port", step!("0004_next_port")),
            migration(5, "group", step!("0005_group")),
            migration(6, "egress", step!("0006_egress")),
        ])
    }

    /// What challenges are derived from: the same for all that share the database.
    pub async fn secret(&self) -> anyhow::Result<Secret> {
        let (secret,): (Vec<u8>,) = sqlx::query_as("SELECT secret FROM state").fetch_one(&self.read).await?;
        Ok(Secret::new(&secret)?)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Done<u64> {
        let mut connection = self.reader("be reached").await?;
        revision(&mut connection).await
    }

    async fn reader(&self, doing: &'static str) -> Done<PoolConnection<Any>> {
        self.read.acquire().await.map_err(|source| StoreError::Database { doing, source })
    }

    /// Several statements that see one state of all.
    async fn view(&self, doing: &'static str) -> Done<Transaction<'static, Any>> {
        let begun = if self.postgres {
            self.read.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
        } else {
            self.read.begin().await
        };
        begun.map_err(|source| StoreError::Database { doing, source })
    }

    /// The right to change something, held by nobody else meanwhile. `now` in seconds since 1970.
    async fn writer(&self, doing: &'static str, now: i64) -> Done<Writer> {
        let attempt = async {
            let mut tx = self.write.begin().await?;
            let (revision,): (i64,) =
                sqlx::query_as("UPDATE state SET revision = revision + 1 RETURNING revision").fetch_one(&mut *tx).await?;
            Ok(Writer { tx, revision, parts: 0, now, doing })
        };
        attempt.await.map_err(|source| StoreError::Database { doing, source })
    }

    pub async fn close(&self) {
        self.look_ups.close();
        self.write.close().await;
        self.read.close().await;
    }
}

/// What makes a file of SQLite fit for many readers and one writer; nothing that was answered is lost when the power fails.
async fn pragmas(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    set(connection, &["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON", "PRAGMA busy_timeout = 5000"])
        .await
}

/// A directory that hangs in the middle of a change must not keep the others from theirs.
async fn limits(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    set(connection, &["SET statement_timeout = '10s'", "SET idle_in_transaction_session_timeout = '10s'"]).await
}

async fn set(connection: &mut AnyConnection, settings: &[&'static str]) -> Result<(), sqlx::Error> {
    for setting in settings {
        sqlx::query(*setting).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn revision(connection: &mut AnyConnection) -> Done<u64> {
    let (revision,): (i64,) = sqlx::query_as("SELECT revision FROM state").fetch_one(connection).await?;
    Ok(unsigned(revision))
}

/// A transaction that changes something.
struct Writer {
    tx: Transaction<'static, Any>,
    revision: i64,
    parts: i64,
    now: i64,
    doing: &'static str,
}

impl Writer {
    fn connection(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }

    async fn commit(self) -> Done<u64> {
        let (doing, revision) = (self.doing, unsigned(self.revision));
        self.tx.commit().await.map_err(|source| StoreError::Database { doing, source })?;
        Ok(revision)
    }
}

/// Of what only ever counts up from 0.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What is in the database was checked on its way there.
fn stored<T, E: std::fmt::Display>(value: Result<T, E>) -> Done<T> {
    value.map_err(|error| StoreError::Database { doing: "understand a value", source: sqlx::Error::Decode(error.to_string().into()) })
}

fn stored_key(bytes: &[u8]) -> Done<PublicKey> {
    let bytes: [u8; PublicKey::LEN] = stored(bytes.try_into())?;
    stored(PublicKey::try_from(bytes))
}

/// Refused with another word than the database has for it.
fn taken(error: sqlx::Error, code: Code, message: impl FnOnce() -> String, remedy: &str) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => Refusal::new(code, message(), remedy).into(),
        _ => error.into(),
    }
}

impl Store {
    /// How many there are of everything.
    pub async fn count(&self) -> Done<Vec<(&'static str, u64)>> {
        let mut view = self.view("count what there is").await?;
        let (tenants, shards, gateways, hosts, tokens): (i64, i64, i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM tenants), (SELECT COUNT(*) FROM shards), (SELECT COUNT(*) FROM gateways),
                    (SELECT COUNT(*) FROM hosts), (SELECT COUNT(*) FROM tokens)",
        )
        .fetch_one(&mut *view)
        .await?;
        let counts = [("tenants", tenants), ("shards", shards), ("gateways", gateways), ("hosts", hosts), ("tokens", tokens)];
        Ok(counts.into_iter().map(|(what, count)| (what, unsigned(count))).collect())
    }
}
