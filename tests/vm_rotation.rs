//! Keys that change, and recordings after a restart, with the kernel's WireGuard: the tests that the userspace device passes.

mod vm_support;

use vm_support::{test_binary, vm};

/// Several daemons, a directory among them, and traffic: more than the usual time of an emulated machine.
fn passes(name: &str) {
    let program = test_binary("enrolled_host");
    let mut command = vm(&["--timeout", "480", "--", "env", "PORTWAY_INSIDE_VM=1"]);
    let output = command.arg(&program).args(["--exact", name, "--nocapture"]).output().expect("scripts/vm");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{name} in the VM: {}\n{out}\n{err}", output.status);
    assert!(out.contains("test result: ok. 1 passed"), "no test is named {name}:\n{out}");
    println!("{}", out.lines().find(|line| line.starts_with("Probed")).unwrap_or_default());
}

#[test]
fn a_host_changes_its_key_and_nothing_is_lost() {
    passes("serial_a_host_changes_its_key_and_nothing_is_lost");
}

#[test]
fn a_shard_changes_its_key_and_nothing_is_lost() {
    passes("serial_a_shard_changes_its_key_and_nothing_is_lost");
}

#[test]
fn a_recording_lets_nobody_in_after_a_takeover_or_a_kill() {
    passes("a_recording_lets_nobody_in_after_a_takeover_or_a_kill");
}
