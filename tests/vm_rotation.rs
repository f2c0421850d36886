//! Keys that change, with the kernel's WireGuard at both ends: the tests that the userspace device passes.

mod vm_support;

use vm_support::{in_vm_ok, test_binary};

fn passes(name: &str) {
    let program = test_binary("enrolled_host");
    let printed = in_vm_ok(&["env", "PORTWAY_INSIDE_VM=1", program.to_str().unwrap(), "--exact", name, "--nocapture"]);
    assert!(printed.contains("test result: ok. 1 passed"), "no test is named {name}:\n{printed}");
    println!("{}", printed.lines().find(|line| line.starts_with("Probed")).unwrap_or_default());
}

#[test]
fn a_host_changes_its_key_and_nothing_is_lost() {
    passes("serial_a_host_changes_its_key_and_nothing_is_lost");
}

#[test]
fn a_shard_changes_its_key_and_nothing_is_lost() {
    passes("serial_a_shard_changes_its_key_and_nothing_is_lost");
}
