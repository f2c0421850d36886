//! What we say to the kernel, said to a stock one that is years older: the test binaries of `tests/kernel_state.rs` and `tests/reconcile.rs`.

mod vm_support;

use vm_support::{test_binary, vm};

fn passes(name: &str) {
    let program = test_binary(name);
    let output = vm(&["--timeout", "290", "--"]).arg(program).env("PORTWAY_TEST_KERNEL_TUNNELS", "1").output().expect("scripts/vm");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name} in the VM: {}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("test result: ok"), "{}", text(&output.stdout));
}

#[test]
fn state_is_applied_and_observed() {
    passes("kernel_state");
}

#[test]
fn roles_are_reconciled_and_torn_down() {
    passes("reconcile");
}
