//! What is missing is named, with the way to mend it, before anything is changed.

use super::support::*;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, poll};
use portway::config::Backend;
use portway::lab::topology::Wiring;
use portway::lab::{Lab, Topology, configs};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// A lab without daemons, and the gateway's configuration in it.
fn lab() -> Lab {
    let lab = Lab::build(Topology::of(&["acme"], &[Wiring::Veth])).unwrap();
    write(&lab, |yaml| yaml);
    lab
}

fn write(lab: &Lab, edit: impl Fn(String) -> String) {
    let yaml = configs::gateway(&lab.topology, &lab.topology.gateways[0], Backend::Auto, &lab.dir().runtime("gw-acme"));
    std::fs::write(lab.dir().config("gw-acme"), edit(yaml)).unwrap();
}

/// `portway gateway` started by a wrapper that takes something from it; it must end by itself.
fn started(lab: &Lab, wrapper: &str) -> Ran {
    let (program, config) = (program().display(), lab.dir().config("gw-acme"));
    try_sh(lab, "gw-acme", &format!("exec timeout 8 {wrapper} {program} gateway --config {}", config.display()))
}

#[test]
fn a_missing_capability_is_named_and_nothing_is_changed() {
    let lab = lab();
    let before = sh(&lab, "gw-acme", "ls /sys/class/net; ip -o addr; ip rule; nft list ruleset");
    for capability in ["CAP_NET_ADMIN", "CAP_NET_RAW"] {
        let small = capability.to_lowercase();
        let ran = started(&lab, &format!("setpriv --bounding-set=-{0} --inh-caps=-{0}", small.trim_start_matches("cap_")));
        assert_eq!(ran.code, 1, "{capability}: {ran:?}");
        assert!(ran.err.contains(capability) && ran.err.contains("run as root"), "{capability}: {}", ran.err);
        assert_eq!(sh(&lab, "gw-acme", "ls /sys/class/net; ip -o addr; ip rule; nft list ruleset"), before, "{capability}");
    }
}

#[test]
fn a_missing_nft_is_named_with_its_package() {
    let lab = lab();
    let empty = tempfile::tempdir().unwrap();
    let ran = started(&lab, &format!("env PATH={}", empty.path().display()));
    assert!(ran.code == 1 && ran.err.contains("`nft`") && ran.err.contains("apt-get install"), "{ran:?}");
}

#[test]
fn an_address_taken_a_lock_held_and_a_wrong_role_are_named() {
    let lab = lab();
    let runtime = lab.dir().runtime("gw-acme");
    std::fs::create_dir_all(&runtime).unwrap();
    let ran = started(&lab, &format!("flock {}", runtime.join("gateway.lock").display()));
    assert!(ran.code == 1 && ran.err.contains("another `portway gateway`"), "{ran:?}");

    let taken = lab.node("gw-acme").unwrap().run(|| std::net::TcpListener::bind("127.0.0.1:9470")).unwrap();
    let ran = started(&lab, "");
    assert!(ran.code == 1 && ran.err.contains("127.0.0.1:9470") && ran.err.contains("`admin:`"), "{ran:?}");
    drop(taken);

    let ran = daemon(&lab, "host", "gw-acme", &[]);
    assert!(ran.code == 1 && ran.err.contains("run `portway gateway`"), "{ran:?}");
    write(&lab, |yaml| replaced(&yaml, "backend: auto", "backend: kernel"));
    if !std::path::Path::new("/sys/module/ip_gre").exists() {
        let ran = started(&lab, "");
        assert!(ran.code == 1 && ran.err.contains("modprobe ip_gre") && ran.err.contains("backend: auto"), "{ran:?}");
    }
}

#[test]
fn what_a_killed_process_leaves_behind_for_a_moment_is_waited_for() {
    let mut lab = simple();
    let runtime = lab.dir().runtime("host-1");
    let process = lab.daemon("host-1").unwrap().process();
    process.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    process.wait(SOON).unwrap().unwrap();
    // As a child would that was between fork and exec: the lock is held, the socket listens, and nobody answers.
    let lock = Flock::lock(File::open(runtime.join("host.lock")).unwrap(), FlockArg::LockExclusive).unwrap();
    std::fs::remove_file(runtime.join("host.takeover")).unwrap();
    let socket = UnixListener::bind(runtime.join("host.takeover")).unwrap();
    let child = std::thread::spawn(move || {
        // Somebody has come to ask.
        let asked = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], 5000u16).unwrap();
        drop(socket);
        std::thread::sleep(Duration::from_millis(100));
        drop(lock);
        asked
    });
    lab.daemon("host-1").unwrap().start_again().unwrap();
    assert_eq!(child.join().unwrap(), 1);
    fetches(&lab, "fn-1a").unwrap();
}
