//! Signs of life to systemd: as long as a daemon's work is done, and no longer.

use crate::{MACHINE, PORTWAY, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portway::lab::{Netns, poll_until, unix_ok};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `WatchdogSec=`: whoever says nothing for so long is killed.
const WATCHDOG: Duration = Duration::from_secs(3);
/// For what a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(30);

const GATEWAY: &str = "
gateway:
  node: gw
  platform: { interface: plat0, address: 10.9.0.1 }
  backend: userspace
  runtime_dir: DIRECTORY
  tenants:
    - { name: acme, key: 7, interface: eni0, router: 172.16.101.1, allow: [{ to: 172.16.0.0/16, tcp: all }], inner: 10.64.0.0/16 }
";
const DIRECTORY: &str = "directory: { listen: '127.0.0.1:9473', database: 'sqlite://DIRECTORY/registry.db', runtime_dir: DIRECTORY }\n";
const AUTOSCALER: &str =
    "autoscaler: { gateways: [{ name: a, metrics: 'http://127.0.0.1:1/metrics' }], state_dir: DIRECTORY, runtime_dir: DIRECTORY }\n";

/// What the daemon starts instead of `nft`: says that it is there, waits while somebody holds the gate, fails if it shall.
const NFT: &str = "#!/bin/sh
: > DIRECTORY/called
flock --shared DIRECTORY/gate true
[ ! -e DIRECTORY/broken ] || exit 1
exec NFT \"$@\"
";

struct Service {
    daemon: Child,
    notices: UnixDatagram,
    place: tempfile::TempDir,
    _netns: Netns,
}

impl Service {
    fn start(role: &str, config: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = place.path().display().to_string();
        let write = |name: &str, content: &str| std::fs::write(place.path().join(name), content.replace("DIRECTORY", &at)).unwrap();
        write("role.yaml", config);
        write("gate", "");
        write("nft", &NFT.replace("NFT", text(Command::new("sh").args(["-c", "command -v nft"])).trim()));
        std::fs::set_permissions(place.path().join("nft"), PermissionsExt::from_mode(0o755)).unwrap();
        let netns = Netns::create().expect("these tests make network namespaces: run them as root");
        text(netns.command("sh").args(["-ec", MACHINE]));
        let notices = UnixDatagram::bind(place.path().join("notify")).unwrap();
        let mut command = netns.command(PORTWAY);
        command.args([role, "--config"]).arg(place.path().join("role.yaml")).env("NOTIFY_SOCKET", place.path().join("notify"));
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command.env("PATH", format!("{at}:{}", std::env::var("PATH").unwrap()));
        let daemon = command.stderr(Stdio::inherit()).spawn().unwrap();
        Self { daemon, notices, place, _netns: netns }
    }

    fn at(&self) -> &Path {
        self.place.path()
    }

    /// The next one; none if there is none in time.
    fn notice(&self, within: Duration) -> Option<String> {
        self.notices.set_read_timeout(Some(within)).unwrap();
        let mut text = [0; 4096];
        match self.notices.recv(&mut text) {
            Ok(length) => Some(String::from_utf8_lossy(&text[..length]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn hears(&self, wanted: &str, within: Duration) -> bool {
        let until = Instant::now() + within;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            match self.notice(left) {
                Some(notice) if notice.lines().any(|line| line == wanted) => return true,
                Some(_) => {}
                None => return false,
            }
        }
        false
    }

    fn lives(&self) -> bool {
        self.hears("WATCHDOG=1", WATCHDOG)
    }

    /// All that was said up to now.
    fn drain(&self) {
        while self.notice(Duration::from_millis(1)).is_some() {}
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.hears("STOPPING=1", PATIENCE));
        assert!(self.daemon.wait().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// All of a gateway but its reconciler is well: it answers, and would go on forwarding. What it is told, it would not do.
#[test]
fn a_gateway_whose_reconciler_hangs_falls_silent() {
    let service = Service::start("gateway", GATEWAY);
    assert!(service.hears("READY=1", PATIENCE));
    for sign in 0..4 {
        assert!(service.lives(), "sign of life {sign}");
    }
    let gate = File::open(service.at().join("gate")).unwrap();
    gate.lock().unwrap();
    std::fs::remove_file(service.at().join("called")).unwrap();
    poll_until("a pass that hangs", PATIENCE, || Ok(service.at().join("called").exists())).unwrap();
    service.drain();
    assert!(!service.hears("WATCHDOG=1", WATCHDOG * 2), "it says that it lives, and hangs");
    assert_eq!(unix_ok(&service.at().join("gateway.sock"), "GET", "/healthz", None).unwrap().body, "ok\n");
    drop(gate);
    assert!(service.hears("WATCHDOG=1", PATIENCE), "it goes on, and says nothing");
    service.end();
}

/// To start it anew would mend nothing.
#[test]
fn a_gateway_that_cannot_do_what_it_should_lives() {
    let service = Service::start("gateway", GATEWAY);
    assert!(service.hears("READY=1", PATIENCE));
    std::fs::write(service.at().join("broken"), "").unwrap();
    let ready = || unix_ok(&service.at().join("gateway.sock"), "GET", "/readyz", None).is_ok();
    poll_until("a pass that fails", PATIENCE, || Ok(!ready())).unwrap();
    service.drain();
    for sign in 0..3 {
        assert!(service.lives(), "sign of life {sign}");
    }
    service.end();
}

#[test]
fn a_directory_and_an_autoscaler_say_that_they_live() {
    for (role, config) in [("directory", DIRECTORY), ("autoscaler", AUTOSCALER)] {
        let service = Service::start(role, config);
        assert!(service.hears("READY=1", PATIENCE), "{role}");
        for sign in 0..4 {
            assert!(service.lives(), "{role}: sign of life {sign}");
        }
        service.end();
    }
}
