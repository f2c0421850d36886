//! A database that is reached over the network: by TLS, and believed by its certificate alone.

use super::postgres::Server;
use super::support::*;
use portway::config::Database;
use portway::directory::Running;
use sqlx::Connection;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The address that the server's certificate names, and one that it does not.
const NAMED: Ipv4Addr = Ipv4Addr::LOCALHOST;
const UNNAMED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What is wrong, in the words of whoever checks it.
const CERTIFICATE: &str = "invalid peer certificate";

fn verified(ca: &Path) -> String {
    format!("sslmode=verify-full&sslrootcert={}", ca.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_over_the_network_is_believed_by_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let [(ca, tls), (other, _)] = ["postgres", "other"].map(|name| certificate(dir.path(), name));
    let server = Server::over_tls(&tls);
    let Some(Database::Postgres(local)) = server.database("registry") else { panic!("not PostgreSQL") };
    let bed = Bed::new(Some(server.at(NAMED, "registry", &verified(&ca))), |_| {}).await;
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    bed.host("host-1", &key(1), &["acme"]).await;
    assert_eq!(inner(&gateway.peer(&key(1).public()).await.unwrap().expect("the host")), "acme/0=10.64.0.1/32");

    // As the server sees it: all of them over the network, and none in clear.
    let mut beside = sqlx::AnyConnection::connect(local.as_str()).await.unwrap();
    let seen = "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE datname = 'registry' AND pid <> pg_backend_pid() AND client_addr = '127.0.0.1'";
    let (all, encrypted): (i64, i64) = sqlx::query_as(seen).fetch_one(&mut beside).await.unwrap();
    assert!(all > 0 && encrypted == all, "{encrypted} of {all}");

    for (what, at, query, says) in [
        ("another CA", NAMED, verified(&other), CERTIFICATE),
        ("whom this machine trusts", NAMED, "sslmode=verify-full".into(), CERTIFICATE),
        ("another name", UNNAMED, verified(&ca), CERTIFICATE),
        ("in clear", NAMED, "sslmode=disable".into(), "no encryption"),
    ] {
        let mut config = bed.config.clone();
        (config.database, config.runtime_dir) = (server.at(at, "registry", &query), dir.path().join("refused"));
        let refused = Running::start(&config, Arc::new(SystemTime::now)).await.err().unwrap_or_else(|| panic!("{what} is believed"));
        let refused = format!("{refused:#}");
        assert!(refused.contains("cannot use the database (PostgreSQL, ") && refused.contains(says), "{what}: {refused}");
    }
}
