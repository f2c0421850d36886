//! A database that an earlier program made, whichever: the present one brings it up to date, and serves what is in it.

use super::postgres::Server;
use super::support::*;
use portway::config::Database;
use portway::directory::Running;
use portway::directory::token::TokenText;
use portway::directory::types::*;
use portway::lab::secret;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, SqlSafeStr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The first step whose program knew which of a gateway's tenants its token is good for.
const GATEWAY_TOKENS: usize = 3;
/// What the data's last change was.
const REVISION: u64 = 7;

/// The steps as they stand in the source tree, in their order.
fn steps(kind: &str) -> Vec<Migration> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let step = |file: &std::path::PathBuf| {
        let (number, what) = file.file_stem().unwrap().to_str().unwrap().split_once('_').unwrap();
        migration(number.parse().unwrap(), what, std::fs::read_to_string(file).unwrap())
    };
    files.iter().map(step).collect()
}

fn migration(number: i64, what: &str, sql: String) -> Migration {
    Migration::new(number, what.to_owned().into(), MigrationType::Simple, AssertSqlSafe(sql).into_sql_str(), false)
}

async fn connect(database: &Database) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = match database {
        Database::Sqlite(path) => {
            // As the directory makes it: nobody else may read it.
            secret(path, "").unwrap();
            format!("sqlite://{}", path.display())
        }
        Database::Postgres(url) => url.as_str().to_owned(),
    };
    AnyConnection::connect(&url).await.unwrap()
}

/// The operator's, the host's and the gateway's.
fn tokens() -> [TokenText; 3] {
    [1, 2, 3].map(|number| TokenText::new(&[number; 40]))
}

/// What the program of the first `steps` steps kept: acme with a shard, a gateway, a host, and a token of each.
async fn fill(connection: &mut AnyConnection, steps: usize) {
    let [operator, host, gateway] = tokens();
    let all = i64::from(steps >= GATEWAY_TOKENS);
    let [operators, hosts, gateways] = [&operator, &host, &gateway].map(TokenText::hash);
    let (shards_key, hosts_key) = (key(100).public(), key(1).public());
    let token = |id: &str, role: &str, everywhere: i64| format!("'{id}', $1, '{role}', {everywhere}, 0");
    let rows: [(String, Option<&[u8]>); 12] = [
        (format!("state (one, revision, compacted, secret) VALUES (1, {REVISION}, 0, $1)"), Some(&[9; 32])),
        ("tenants (name, inner_range, length, next) VALUES ('acme', '10.64.0.0/16', 32, 2)".into(), None),
        ("shards (tenant, shard, endpoint, public_key) VALUES (1, 0, '10.9.0.50:51820', $1)".into(), Some(shards_key.bytes())),
        ("gateways (name, epoch) VALUES ('gw-1', 3)".into(), None),
        ("members (gateway, tenant, shard) VALUES (1, 1, 0)".into(), None),
        ("hosts (name) VALUES ('host-1')".into(), None),
        ("host_keys (public_key, host) VALUES ($1, 1)".into(), Some(hosts_key.bytes())),
        ("host_tenants (host, tenant) VALUES (1, 1)".into(), None),
        ("prefixes (host, tenant, shard, place) VALUES (1, 1, 0, 1)".into(), None),
        (format!("tokens (id, hash, role, everywhere, created) VALUES ({})", token(&operator.id, "operator", 1)), Some(operators.bytes())),
        (format!("tokens (id, hash, role, everywhere, created, host) VALUES ({}, 1)", token(&host.id, "host", 0)), Some(hosts.bytes())),
        (
            format!("tokens (id, hash, role, everywhere, created, gateway) VALUES ({}, 1)", token(&gateway.id, "gateway", all)),
            Some(gateways.bytes()),
        ),
    ];
    for (row, bytes) in rows {
        let insert = sqlx::query(AssertSqlSafe(format!("INSERT INTO {row}")));
        let insert = if let Some(bytes) = bytes { insert.bind(bytes.to_vec()) } else { insert };
        insert.execute(&mut *connection).await.unwrap_or_else(|error| panic!("{row}: {error}"));
    }
}

/// Everybody is known as before, by the tokens of before, and what comes is numbered behind what there was.
async fn is_served(database: Database) {
    let bed = Bed::new(Some(database), |_| {}).await;
    let [operator, host, gateway] = tokens().map(|token| bed.with(token.expose().as_str()));
    let tenants = operator.tenants().await.unwrap();
    assert_eq!(tenants.iter().map(|tenant| (tenant.name.as_str(), tenant.egress.is_empty())).collect::<Vec<_>>(), [("acme", true)]);
    let shards = operator.shards().await.unwrap();
    let told: Vec<_> = shards.iter().map(|shard| (shard.endpoint, shard.public_key, shard.next_key, shard.next_port)).collect();
    assert_eq!(told, [(Some("10.9.0.50:51820".parse().unwrap()), Some(key(100).public()), None, None)]);
    let hosts = operator.hosts(None).await.unwrap();
    assert!(hosts.revision >= REVISION, "{hosts:?}");
    assert_eq!(hosts.hosts.iter().map(inner).collect::<Vec<_>>(), ["acme/0=10.64.0.1/32"]);
    assert_eq!(inner(&host.membership().await.unwrap().host), "acme/0=10.64.0.1/32");
    assert_eq!(inner(&gateway.peer(&key(1).public()).await.unwrap().expect("its host")), "acme/0=10.64.0.1/32");
    assert_eq!(gateway.assignment().await.unwrap().shards.len(), 1);

    let (_, second) = bed.host("host-2", &key(2), &["acme"]).await;
    assert_eq!(inner(&second.membership.host), "acme/0=10.64.0.2/32");
    assert!(second.membership.host.revision > REVISION);
    host.rotate(&key(3), &node("host-1")).await.unwrap();
    let changed = shard_with_next(&shards[0]);
    gateway.put_shard(&shard("acme/0"), &changed).await.unwrap();
    let egress = pools(&[("partners", &[0])]);
    let spec = TenantSpec { egress: Some(egress.clone()), ..tenant_spec(&tenants[0].inner.to_string(), &[0]) };
    operator.put_tenant(&tenant("acme"), &spec).await.unwrap();
    // And by the next process, which finds all steps done.
    let bed = bed.restarted(|_| {}).await;
    let [operator, _, gateway] = tokens().map(|token| bed.with(token.expose().as_str()));
    assert_eq!(inner(&gateway.peer(&key(3).public()).await.unwrap().expect("its new key")), "acme/0=10.64.0.1/32");
    assert_eq!(operator.tenants().await.unwrap()[0].egress, egress);
    let shard = operator.shards().await.unwrap().remove(0);
    assert_eq!((shard.next_key, shard.next_port), (changed.next_key, changed.next_port));
}

/// What each later step brought, in use.
fn shard_with_next(shard: &Shard) -> ShardSpec {
    ShardSpec {
        endpoint: shard.endpoint.unwrap(),
        public_key: shard.public_key.unwrap(),
        next_key: Some(key(101).public()),
        next_port: Some(51_821),
    }
}

/// In databases of every earlier step that `database` makes.
async fn from_every_step(kind: &str, database: impl Fn(usize) -> Database) {
    let all = steps(kind);
    assert!(all.len() >= 4, "{all:?}");
    for taken in 1..=all.len() {
        eprintln!("{taken} of {}", all.len());
        let database = database(taken);
        let mut connection = connect(&database).await;
        Migrator::with_migrations(all[..taken].to_vec()).run(&mut connection).await.unwrap();
        fill(&mut connection, taken).await;
        connection.close().await.unwrap();
        is_served(database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_earlier_program_kept_is_served_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    from_every_step("sqlite", |taken| Database::Sqlite(dir.path().join(format!("{taken}.db")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_earlier_program_kept_is_served_on_postgresql() {
    let server = Server::start();
    from_every_step("postgres", |taken| server.database(&format!("step{taken}")).expect("a database")).await;
}

/// It may mean something else by what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_program_kept_is_left_alone() {
    let bed = Bed::sqlite().await;
    let database = Database::Sqlite(bed.dir.path().join("later.db"));
    let mut connection = connect(&database).await;
    let mut all = steps("sqlite");
    all.push(migration(9999, "later", "CREATE TABLE later (one INTEGER)".into()));
    Migrator::with_migrations(all).run(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let mut config = bed.config.clone();
    (config.database, config.runtime_dir) = (database, bed.dir.path().join("later"));
    let refused = Running::start(&config, Arc::new(SystemTime::now)).await.err().expect("an error");
    let refused = format!("{refused:#}");
    assert!(refused.contains("cannot use the database (SQLite, ") && refused.contains("9999"), "{refused}");
}
