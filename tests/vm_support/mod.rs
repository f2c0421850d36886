//! Tests inside a virtual machine with a stock kernel (`scripts/vm`): the same binaries, kernel GRE and whatever else this kernel lacks.
//!
//! ```ignore
//! mod vm_support;
//!
//! #[test]
//! fn kernel_gre_carries_a_ping() {
//!     vm_support::inside("kernel_gre_carries_a_ping", || { /* runs as root in the VM */ });
//! }
//! ```
#![allow(dead_code)]

use portway::lab::{Lab, poll_until};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Set for what runs in the VM.
const INSIDE: &str = "PORTWAY_INSIDE_VM";

/// An emulated machine takes its time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a script prints in a node of a lab; it must succeed.
pub fn sh(lab: &Lab, node: &str, script: &str) -> String {
    let output = lab.node(node).unwrap().command("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "in {node}: {script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Until this is so, which only looking tells.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    poll_until(what, PATIENCE, || {
        std::thread::sleep(Duration::from_millis(50));
        Ok(done())
    })
    .unwrap();
}

/// The command that runs `arguments` in a VM; options of `scripts/vm` first, then `--`.
pub fn vm(arguments: &[&str]) -> Command {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(format!("{root}/scripts/vm"));
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    command
}

/// Runs a command in a VM. Its output and exit status are the command's, whatever they are; 125 and a message if there is no VM.
pub fn in_vm(arguments: &[&str]) -> Output {
    let output = vm(&["--"]).args(arguments).output().expect("scripts/vm");
    assert_ne!(output.status.code(), Some(125), "no VM: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs a command in a VM and returns what it printed; panics with all of it if the command fails.
pub fn in_vm_ok(arguments: &[&str]) -> String {
    let output = in_vm(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{} in the VM: {}\n{out}\n{err}", arguments.join(" "), output.status);
    out
}

/// Runs the calling test's body in a VM: starts this very test binary there, for the one test of this full name.
pub fn inside(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let program = std::env::current_exe().expect("the test binary");
    let program = program.to_str().expect("a path in UTF-8");
    let printed = in_vm_ok(&["env", &format!("{INSIDE}=1"), program, "--exact", name, "--nocapture"]);
    assert!(printed.contains("test result: ok. 1 passed"), "no test is named {name}:\n{printed}");
    // What was measured there is told here.
    println!("{printed}");
}

/// Another test binary of this build, as `tests/NAME.rs`: the newest, for cargo keeps the older ones beside it.
pub fn test_binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test binary");
    let folder = own.parent().expect("a folder");
    let is_hash = |rest: &str| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    let matches =
        |path: &PathBuf| path.file_name().and_then(|file| file.to_str()?.strip_prefix(name)?.strip_prefix('-')).is_some_and(is_hash);
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let newest = files.filter(matches).max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
    newest.unwrap_or_else(|| panic!("no {name} beside {}: build all tests", own.display()))
}
