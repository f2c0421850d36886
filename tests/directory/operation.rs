//! Certificates, sockets, several processes, the command line.

use super::postgres::Server;
use super::support::*;
use portway::config::Database;
use portway::directory::Running;
use portway::directory::client::{Client, ClientError};
use portway::directory::types::*;
use portway::lab::secret;
use sqlx::Connection;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_certificate_does_not_name_is_not_believed() {
    let bed = Bed::sqlite().await;
    let (other_ca, other) = certificate(bed.dir.path(), "other");
    let unreachable = |client: Client| async move { matches!(client.whoami().await, Err(ClientError::Unreachable { .. })) };
    assert!(unreachable(Client::new(&bed.url(), Some(&other_ca), None).unwrap()).await);
    // Nor is it one that this machine trusts.
    assert!(unreachable(Client::new(&bed.url(), None, None).unwrap()).await);
    let numbered = bed.url().replace("localhost", "127.0.0.2");
    assert!(unreachable(Client::new(&numbered, Some(&bed.ca), None).unwrap()).await);
    assert_eq!(code(bed.stranger().whoami().await), "unauthenticated");
    for url in ["http://directory.example:9473", "directory.example", "ftp://localhost"] {
        assert!(matches!(Client::new(url, None, None), Err(ClientError::Setup(_))), "{url}");
    }
    // A new certificate in the same files is taken up while the old connections go on.
    let before = bed.stranger();
    code(before.whoami().await);
    let tls = bed.config.tls.clone().unwrap();
    std::fs::copy(&other.certificate, &tls.certificate).unwrap();
    bed.running.reload();
    assert_eq!(code(before.whoami().await), "unauthenticated", "the key does not fit the certificate: the old ones stay");
    assert_eq!(code(bed.stranger().whoami().await), "unauthenticated");
    std::fs::copy(&other.key, &tls.key).unwrap();
    bed.running.reload();
    assert_eq!(code(before.whoami().await), "unauthenticated");
    assert_eq!(code(Client::new(&bed.url(), Some(&other_ca), None).unwrap().whoami().await), "unauthenticated");
    assert!(unreachable(bed.stranger()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_cannot_be_says_why() {
    let bed = Bed::sqlite().await;
    let clock = || Arc::new(SystemTime::now);
    let error = |result: anyhow::Result<Running>| format!("{:#}", result.err().expect("an error"));
    let again = error(Running::start(&bed.config, clock()).await);
    assert!(again.contains("another `portway directory` holds"), "{again}");
    let mut config = bed.config.clone();
    config.runtime_dir = bed.dir.path().join("run-2");
    let shared = error(Running::start(&config, clock()).await);
    assert!(shared.contains("directory.lock: end it, or use PostgreSQL"), "{shared}");
    config.database = Database::Sqlite(bed.dir.path().join("two.db"));
    let key = config.tls.as_ref().unwrap().key.clone();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let open = error(Running::start(&config, clock()).await);
    assert!(open.contains("everybody may read the key"), "{open}");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    config.listen = bed.running.listen;
    let busy = error(Running::start(&config, clock()).await);
    assert!(busy.contains("set `listen:` to a free address and port"), "{busy}");
    secret(&bed.dir.path().join("three.db"), "this is no database, whatever it is called").unwrap();
    config.database = Database::Sqlite(bed.dir.path().join("three.db"));
    let garbage = error(Running::start(&config, clock()).await);
    assert!(garbage.contains("cannot use the database (SQLite, "), "{garbage}");
    // The database holds what challenges are derived from.
    for file in ["directory.db", "directory.db-wal"] {
        assert_eq!(std::fs::metadata(bed.dir.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    std::fs::set_permissions(bed.dir.path().join("three.db"), PermissionsExt::from_mode(0o604)).unwrap();
    let open = error(Running::start(&config, clock()).await);
    assert!(open.contains("everybody may read or change the database"), "{open}");
    // Nobody but its owner may open the operator's socket.
    assert_eq!(std::fs::metadata(&bed.running.socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_share_a_postgresql() {
    let mut server = Server::start();
    let database = server.database("shared");
    let one = Bed::new(database.clone(), |_| {}).await;
    let other = Bed::new(database, |_| {}).await;
    one.tenant("acme", "10.64.0.0/16", &[0]).await;
    let minted = one.operator().add_token(&token(Role::Operator)).await.unwrap();
    let client = other.with(minted.token.clone());
    // A challenge of the one is answered to the other, and both give different addresses.
    let (_, first) = one.host("host-1", &key(1), &["acme"]).await;
    let (_, second) = other.host("host-2", &key(2), &["acme"]).await;
    assert_eq!(
        (inner(&first.membership.host).as_str(), inner(&second.membership.host).as_str()),
        ("acme/0=10.64.0.1/32", "acme/0=10.64.0.2/32")
    );
    // What one is told, those who watch the other hear within a second.
    let since = client.hosts(None).await.unwrap().revision;
    let watcher = tokio::spawn(async move {
        let changes = client.watch(Some(since), Duration::from_secs(20)).await.unwrap();
        (changes, Instant::now(), client)
    });
    other.has_watcher().await;
    one.operator().remove_host(&node("host-1")).await.unwrap();
    let done = Instant::now();
    let (changes, told, client) = watcher.await.unwrap();
    assert!(matches!(changes, portway::directory::client::Watched::Changes(changes) if changes.changes.iter().any(|change| change.gone)));
    assert!(told.saturating_duration_since(done) < Duration::from_secs(1));
    // A token that one removed, the other refuses.
    client.whoami().await.unwrap();
    one.operator().remove_token(&minted.id).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    while client.whoami().await.is_ok() {
        assert!(Instant::now() < deadline, "still good after a second");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The database goes away: said so, and nothing else.
    server.stop();
    let refused = one.operator().tenants().await;
    let Err(ClientError::Refused { status: 503, message, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(message, "the directory cannot reach its database");
    let ready = reqwest::get(format!("http://{}/readyz", one.running.admin)).await.unwrap();
    assert_eq!(ready.status(), 503);
}

/// Changes wait for each other; who asks does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_ups_go_on_while_changes_wait() {
    let server = Server::start();
    let database = server.database("waiting");
    let Some(Database::Postgres(url)) = &database else { panic!("{database:?}") };
    let bed = Bed::new(database.clone(), |_| {}).await;
    bed.tenant("acme", "10.64.0.0/16", &[0]).await;
    let gateway = bed.gateway("gw-1", &["acme/0"]).await;
    bed.host("host-1", &key(1), &["acme"]).await;
    // Another directory is in the middle of a change.
    let mut other = sqlx::AnyConnection::connect(url.as_str()).await.unwrap();
    let mut change = other.begin().await.unwrap();
    sqlx::query("UPDATE state SET revision = revision").execute(&mut *change).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for number in 2..22 {
        let operator = bed.operator();
        waiting.spawn(async move { operator.put_host(&node(&format!("host-{number}")), &host_spec(&["acme"], Some(number))).await });
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        assert!(gateway.peer(&key(1).public()).await.unwrap().is_some());
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    assert_eq!(waiting.try_join_next().map(drop), None, "nothing was to change meanwhile");
    change.rollback().await.unwrap();
    while let Some(done) = waiting.join_next().await {
        done.unwrap().unwrap();
    }
}

fn portway(bed: &Bed, arguments: &str, over_tls: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    command.args(arguments.split_whitespace()).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("PORTWAY_RUNTIME_DIR", &bed.config.runtime_dir);
    if let Some(token) = over_tls {
        let file = bed.dir.path().join("token");
        secret(&file, &format!("{token}\n")).unwrap();
        command.env("PORTWAY_DIRECTORY", bed.url()).env("PORTWAY_DIRECTORY_CA", &bed.ca).env("PORTWAY_DIRECTORY_TOKEN_FILE", file);
    }
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_have_a_command_line() {
    let bed = Bed::sqlite().await;
    let run = |arguments: &str, token: Option<&str>| {
        let output = portway(&bed, arguments, token);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{arguments}: {err}");
        out
    };
    let refused = |arguments: &str, token: Option<&str>| {
        let output = portway(&bed, arguments, token);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        String::from_utf8(output.stderr).unwrap()
    };
    run("directory tenant add acme --inner 10.64.0.0/16 --shards 0,1", None);
    let text = run("directory token add --role operator --expires 1h", None);
    let operator = Some(text.trim());
    run("directory gateway add gw-1 --shard acme/0 --shard acme/1", operator);
    let host = run(&format!("directory host add host-1 --tenant acme --key {}", key(1).public()), operator);
    assert_eq!(
        host,
        format!(
            "  NAME    KEYS                                          INNER\n  host-1  {}  acme/0=10.64.0.1/32 acme/1=10.64.0.2/32\n",
            key(1).public()
        )
    );
    assert_eq!(
        run("directory tenant list", operator),
        "  NAME  INNER         PER HOST  SHARDS  EGRESS  HOSTS\n  acme  10.64.0.0/16  /32       0 1     -       1\n"
    );
    assert_eq!(
        run("directory gateway list", operator),
        "  NAME  ADDRESS  SHARD   ENDPOINT  KEY\n  gw-1  -        acme/0  -         -\n  gw-1  -        acme/1  -         -\n"
    );
    let hosts: Vec<Host> = serde_json::from_str(&run("directory host list --json", operator)).unwrap();
    assert_eq!(hosts[0].keys[0].public_key, key(1).public());
    let enrolment = run("directory token add --role enroll --tenant acme --host host-2", operator);
    let enrolled = bed.with(enrolment.trim()).enroll(&key(2), &node("host-2")).await.unwrap();
    assert_eq!(inner(&enrolled.membership.host), "acme/0=10.64.0.3/32 acme/1=10.64.0.4/32");
    let tokens = run("directory token list", operator);
    assert!(tokens.contains("used by host-2") && tokens.contains("valid for 60 min"), "{tokens}");
    assert!(!tokens.contains(enrolment.trim()) && !tokens.contains(text.trim()));
    assert_eq!(run("directory host rm host-1", operator), "removed host-1\n");
    assert!(refused("directory host rm host-1", operator).contains("no host host-1 that you may see"));
    assert!(refused("directory tenant add acme --inner 10.70.0.0/16", operator).contains("hosts of tenant acme have inner prefixes"));
    assert!(refused("directory tenant list", Some("pwt_wrong")).contains("this call needs a token"));
    assert!(refused("directory tenant list --url https://localhost:1", None).contains("--token-file"));
    assert!(refused("directory", None).contains("--config FILE"));
    run("directory host rm host-2", operator);
    run("directory gateway rm gw-1", operator);
    run("directory tenant rm acme", operator);
    let id = bed.operator().tokens().await.unwrap()[0].id.clone();
    run(&format!("directory token rm {id}"), None);
    assert!(refused("directory tenant list", operator).contains("this call needs a token"));
}

/// Ends with this value.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_daemon_serves_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let (_, tls) = certificate(dir.path(), "directory");
    let free = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let [listen, admin] = [0, 1].map(free);
    let yaml = format!(
        "directory:\n  listen: {listen}\n  admin: {admin}\n  tls: {{ certificate: {}, key: {} }}\n  database: sqlite://{}/new/directory.db\n  runtime_dir: {}/run\n",
        tls.certificate.display(),
        tls.key.display(),
        dir.path().display(),
        dir.path().display()
    );
    let file = dir.path().join("directory.yaml");
    std::fs::File::create(&file).unwrap().write_all(yaml.as_bytes()).unwrap();
    let program = || Command::new(env!("CARGO_BIN_EXE_portway"));
    let check = program().arg("check").arg(&file).output().unwrap();
    assert!(String::from_utf8_lossy(&check.stdout).contains("a directory at 127.0.0.1:"), "{check:?}");
    // A shell's usual limit of open files would be few for those who watch.
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=600:700", env!("CARGO_BIN_EXE_portway"), "directory", "--config"]);
    let mut daemon = Daemon(limited.arg(&file).stderr(Stdio::piped()).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    let list = || program().args(["directory", "tenant", "list", "--runtime-dir"]).arg(dir.path().join("run")).output().unwrap();
    while !list().status.success() {
        assert!(Instant::now() < deadline && daemon.0.try_wait().unwrap().is_none(), "{list:?}", list = list());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(String::from_utf8(list().stdout).unwrap(), "none that you may see\n");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.0.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).collect::<Vec<_>>(), ["700", "700", "files"]);
    // More connections than that leave the operator a way in.
    let strangers: Vec<_> = (0..750).map(|_| std::net::TcpStream::connect(listen).unwrap()).collect();
    let listed = list();
    assert!(listed.status.success(), "{listed:?}");
    drop(strangers);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(daemon.0.id()).unwrap()), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(daemon.0.wait().unwrap().success());
}
