//! Stopped and started again as systemd does it: the descriptors wait in its store, and packets in them.

use nix::cmsg_space;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use portway::config::{Backend, TunnelKind};
use portway::lab::topology::{Topology, Wiring, port};
use portway::lab::{Lab, Probe, Transfer, poll_until, unix_ok};
use rstest::rstest;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const PORTWAY: &str = env!("CARGO_BIN_EXE_portway");

/// What systemd would hold after these notices, up to READY=1; answers what is new in it.
fn store(socket: &UnixDatagram, held: &mut BTreeMap<String, OwnedFd>) -> BTreeSet<String> {
    let mut new = BTreeSet::new();
    loop {
        let mut text = [0; 4096];
        let mut control = cmsg_space!([RawFd; 16]);
        let (length, descriptors) = {
            let mut parts = [IoSliceMut::new(&mut text)];
            let message =
                recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC).expect("a notice in time");
            let rights =
                message.cmsgs().unwrap().filter_map(|part| if let ControlMessageOwned::ScmRights(fds) = part { Some(fds) } else { None });
            // SAFETY: the kernel has just made these descriptors for us.
            let descriptors: Vec<OwnedFd> = rights.flatten().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
            (message.bytes, descriptors)
        };
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        if let (Some(name), Some(_)) = (value("FDNAME="), value("FDSTOREREMOVE=")) {
            held.remove(&name);
        } else if let (Some(name), Some(descriptor)) = (value("FDNAME="), descriptors.into_iter().next()) {
            assert!(held.insert(name.clone(), descriptor).is_none(), "{name} twice: which of them a process gets is chance");
            new.insert(name);
        }
        if value("READY=").is_some() {
            return new;
        }
    }
}

/// Starts a daemon as systemd would, with what it holds.
fn start(mut command: Command, notify: &Path, held: &BTreeMap<String, OwnedFd>) -> Daemon {
    let names: Vec<&str> = held.keys().map(String::as_str).collect();
    command.env("NOTIFY_SOCKET", notify).env("LISTEN_FDS", held.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let descriptors: Vec<RawFd> = held.values().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: only system calls between fork and exec. First out of the way, then to 3, 4, ...
    unsafe {
        command.pre_exec(move || {
            let away: Vec<RawFd> = descriptors.iter().map(|fd| libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 500)).collect();
            for (place, fd) in (3..).zip(&away) {
                if libc::dup2(*fd, place) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    Daemon(command.spawn().expect("to start the daemon"))
}

/// Ends with the test, however that ends.
struct Daemon(Child);

impl Daemon {
    fn end(mut self) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[rstest]
#[case::gre(TunnelKind::Gre)]
#[case::wireguard(TunnelKind::Wireguard)]
fn a_gateway_restarted_by_systemd_loses_no_packet_and_resets_no_connection(#[case] tunnel: TunnelKind) {
    let mut lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(tunnel)).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(Path::new(PORTWAY), Backend::Userspace).unwrap();
    lab.attach_all().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let node = lab.node("gw-acme").unwrap().clone();
    let (config, socket) = (lab.daemon("gw-acme").unwrap().config().to_owned(), lab.daemon("gw-acme").unwrap().socket());
    let daemon = || {
        // LISTEN_PID must be the daemon's own.
        let mut command = node.command("sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\" gateway --config \"$1\"", PORTWAY]).arg(&config);
        command
    };
    let mut held = BTreeMap::new();
    // It takes over from the lab's own.
    let first = start(daemon(), &path, &held);
    store(&notify, &mut held);
    lab.daemon("gw-acme").unwrap().stop().unwrap();
    for wanted in ["listener-admin", "listener-api"] {
        assert!(held.contains_key(wanted), "{held:?}");
    }

    let container = lab.topology.containers[0].clone();
    let (from, server) = (lab.node(&container.node).unwrap().clone(), lab.topology.tenant("acme").unwrap().server);
    let transfer = Transfer::start(&from, SocketAddr::from((server, port::ECHO)), Some(256 << 10)).unwrap();
    // What comes meanwhile waits in a queue of 500 packets, and a busy machine may take a second to start a process.
    let probe = Probe::start(&from, server, Duration::from_millis(5)).unwrap();
    let flows = |answers: u64| poll_until("traffic", Duration::from_secs(10), || Ok(probe.answered() >= answers)).unwrap();
    flows(50);
    first.end();
    let second = start(daemon(), &path, &held);
    let again = store(&notify, &mut held);
    // Where sessions and keys are left, each process has a file of its own.
    let left = ["wg-keys", "wg-sessions"].into_iter().filter(|_| tunnel == TunnelKind::Wireguard).map(str::to_owned);
    assert_eq!(again, left.collect());
    unix_ok(&socket, "GET", "/readyz", None).unwrap();
    flows(probe.answered() + 50);
    let probed = probe.stop();
    let transferred = transfer.stop();
    assert_eq!((probed.lost, transferred.resets), (0, 0), "{probed:?} {transferred:?}");
    assert!(transferred.ok, "{transferred:?}");
    second.end();
}

/// Its sessions are gone with it; hosts would find that out 15 s after they last heard from it.
#[test]
fn a_gateway_that_was_killed_calls_its_hosts_when_it_is_started_again() {
    let mut lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth]).with_tunnel(TunnelKind::Wireguard)).unwrap();
    lab.serve().unwrap();
    lab.start_daemons(Path::new(PORTWAY), Backend::Userspace).unwrap();
    lab.attach_all().unwrap();
    let container = lab.topology.containers[0].clone();
    let from = lab.node(&container.node).unwrap().clone();
    let probe = Probe::start(&from, lab.topology.tenant("acme").unwrap().server, Duration::from_millis(10)).unwrap();
    let flows = |answers: u64, within| poll_until("traffic", within, || Ok(probe.answered() >= answers));
    flows(20, Duration::from_secs(10)).unwrap();
    let gateway = lab.daemon("gw-acme").unwrap();
    let endpoints = gateway.socket().parent().unwrap().join("endpoints/pw-1");
    gateway.process().signal(Signal::SIGHUP).unwrap();
    let written = || Ok(std::fs::read_to_string(&endpoints).is_ok_and(|text| text.contains("\"endpoint\"")));
    poll_until("the host's endpoint on disk", Duration::from_secs(10), written).unwrap();
    gateway.kill().unwrap();
    let before = probe.answered();
    gateway.start_again().unwrap();
    flows(before + 20, Duration::from_secs(6)).unwrap();
    let probed = probe.stop();
    assert!(probed.gap_ms < 8_000.0, "{probed:?}");
}
