//! Debian's PostgreSQL, on a socket in a directory of its own, as the user that its package makes.

use portway::config::{self, Config, Database};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

pub struct Server {
    postgres: Child,
    dir: TempDir,
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

impl Server {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if nix::unistd::geteuid().is_root() {
            let user = nix::unistd::User::from_name("postgres").unwrap().expect("the package postgresql makes a user `postgres`");
            chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let data = dir.path().join("data");
        let made =
            command("initdb", dir.path()).args(["--no-sync", "--auth=trust", "--username=portway", "-D"]).arg(&data).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut postgres = command("postgres", dir.path());
        postgres.arg("-D").arg(&data);
        for setting in
            ["listen_addresses=", "fsync=off", "max_connections=200", &format!("unix_socket_directories={}", dir.path().display())]
        {
            postgres.args(["-c", setting]);
        }
        let postgres = postgres.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let server = Self { postgres, dir };
        let deadline = Instant::now() + SOON;
        while !command("pg_isready", server.dir.path()).arg("-q").arg("-h").arg(server.dir.path()).status().unwrap().success() {
            let log = || std::fs::read_to_string(server.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL is not ready after {SOON:?}: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// A new database, as the configuration would name it.
    pub fn database(&self, name: &str) -> Option<Database> {
        let name = &name[..name.len().min(63)];
        let made = command("createdb", self.dir.path()).args(["-U", "portway", "-h"]).arg(self.dir.path()).arg(name).output().unwrap();
        assert!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        let url = format!("postgres://portway@localhost/{name}?host={}", self.dir.path().display());
        match config::parse(&format!("directory: {{ listen: '127.0.0.1:1', database: '{url}' }}"), "url") {
            Ok(Config::Directory(directory)) => Some(directory.database),
            other => panic!("{other:?}"),
        }
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
