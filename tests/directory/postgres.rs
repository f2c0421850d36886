//! Debian's PostgreSQL, on a socket in a directory of its own or on loopback, as the user that its package makes.

use portway::config::{self, Config, Database, Tls};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

pub struct Server {
    postgres: Child,
    dir: TempDir,
    /// What the socket is called after, too.
    port: u16,
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    versions.max().expect("PostgreSQL is not installed; run: scripts/install-deps test")
}

/// It refuses to run as root; it ends with this process.
fn command(program: &str, dir: &Path) -> Command {
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL", "--"]).arg(programs().join(program));
        command
    } else {
        Command::new(programs().join(program))
    };
    command.current_dir(dir).env("LC_ALL", "C");
    command
}

/// Belongs to the server's user from now on.
fn give(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name("postgres").unwrap().expect("the package postgresql makes a user `postgres`");
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// `data` in it is a server's, with the user `portway`.
fn made() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    give(dir.path());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let mut initdb = command("initdb", dir.path());
    let made = initdb.args(["--no-sync", "--auth=trust", "--username=portway", "-D"]).arg(dir.path().join("data")).output().unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    dir
}

fn configured(url: &str) -> Database {
    match config::parse(&format!("directory: {{ listen: '127.0.0.1:1', database: '{url}' }}"), "url") {
        Ok(Config::Directory(directory)) => directory.database,
        other => panic!("{other:?}"),
    }
}

impl Server {
    pub fn start() -> Self {
        Self::run(made(), 5432, &["listen_addresses="]).unwrap_or_else(|log| panic!("PostgreSQL has ended: {log}"))
    }

    /// On 127.0.0.1 and 127.0.0.2, with this certificate: who comes there without TLS is refused.
    pub fn over_tls(tls: &Tls) -> Self {
        let mut logs = String::new();
        // A port that is free now may be somebody else's a moment later.
        for _ in 0..5 {
            let dir = made();
            let file = |name: &str| dir.path().join(name);
            for (from, name) in [(&tls.certificate, "leaf.pem"), (&tls.key, "key.pem")] {
                std::fs::copy(from, file(name)).unwrap();
                std::fs::set_permissions(file(name), PermissionsExt::from_mode(0o600)).unwrap();
                give(&file(name));
            }
            std::fs::write(file("data/pg_hba.conf"), "local all all trust\nhostssl all all 127.0.0.0/8 trust\n").unwrap();
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let certificate = format!("ssl_cert_file={}", file("leaf.pem").display());
            let key = format!("ssl_key_file={}", file("key.pem").display());
            match Self::run(dir, port, &["listen_addresses=127.0.0.1,127.0.0.2", "ssl=on", &certificate, &key]) {
                Ok(server) => return server,
                Err(log) => logs += &log,
            }
        }
        panic!("PostgreSQL does not stay: {logs}");
    }

    /// Ready when this returns; the log, if it has ended.
    fn run(dir: TempDir, port: u16, settings: &[&str]) -> Result<Self, String> {
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut postgres = command("postgres", dir.path());
        postgres.arg("-D").arg(dir.path().join("data")).args(["-p", &port.to_string()]);
        let socket = format!("unix_socket_directories={}", dir.path().display());
        for setting in ["fsync=off", "max_connections=200", &socket].iter().chain(settings) {
            postgres.args(["-c", setting]);
        }
        let postgres = postgres.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut server = Self { postgres, dir, port };
        let deadline = Instant::now() + SOON;
        while !server.client("pg_isready").arg("-q").status().unwrap().success() {
            let log = || std::fs::read_to_string(server.dir.path().join("log")).unwrap_or_default();
            if server.postgres.try_wait().unwrap().is_some() {
                return Err(log());
            }
            assert!(Instant::now() < deadline, "PostgreSQL is not ready after {SOON:?}: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// A program of PostgreSQL's that talks to it over the socket.
    fn client(&self, program: &str) -> Command {
        let mut command = command(program, self.dir.path());
        command.arg("-h").arg(self.dir.path()).args(["-p", &self.port.to_string()]);
        command
    }

    /// A new database, as the configuration would name it.
    pub fn database(&self, name: &str) -> Option<Database> {
        let name = &name[..name.len().min(63)];
        let made = self.client("createdb").args(["-U", "portway"]).arg(name).output().unwrap();
        assert!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        Some(configured(&format!("postgres://portway@localhost:{}/{name}?host={}", self.port, self.dir.path().display())))
    }

    /// The same database, at an address of loopback.
    pub fn at(&self, address: Ipv4Addr, name: &str, query: &str) -> Database {
        configured(&format!("postgres://portway@{address}:{}/{name}?{query}", self.port))
    }

    pub fn stop(&mut self) {
        let _ = self.postgres.kill();
        let _ = self.postgres.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
