//! What can be said of them without applying them.

use crate::fleet::{ROOT, ansible};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};

fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: run scripts/install-deps test"));
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out
}

#[test]
fn ansible_lint_has_nothing_to_say() {
    let mut command = ansible("ansible-lint");
    command.args(["--offline", "--nocolor", "--profile", "production"]);
    succeeds(command);
    let mut command = ansible("yamllint");
    command.args(["--strict", "."]);
    succeeds(command);
}

#[test]
fn playbooks_are_well_formed() {
    for playbook in ["install", "upgrade", "rotate-keys"] {
        let mut command = ansible("ansible-playbook");
        command.args(["--syntax-check", &format!("playbooks/{playbook}.yml")]);
        succeeds(command);
    }
}

/// It is what people begin with.
#[test]
fn the_sample_inventory_is_a_configuration_without_faults() {
    for (group, role) in [("portway_gateways", "gateway"), ("portway_hosts", "host")] {
        let dir = tempfile::tempdir().unwrap();
        let content = format!("{{{{ portway_{role}_config | to_nice_yaml }}}}");
        let copy = json!({ "content": content, "dest": dir.path().join("{{ inventory_hostname }}.yaml"), "mode": "0600" });
        let mut command = ansible("ansible");
        command.args(["--connection=local", "--module-name=ansible.builtin.copy", "--args", &copy.to_string(), group]);
        succeeds(command);
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
            command.arg("check").arg(file);
            succeeds(command);
        }
    }
}

/// Key changes of all kinds, and runs that were cut off.
#[test]
fn filters_say_what_each_round_writes() {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-B", "-m", "unittest", "discover", "--start-directory", &format!("{ROOT}/tests/ansible")]);
    succeeds(command);
}

/// What the roles are told and what their specifications list are the same variables.
#[test]
fn every_default_is_in_the_specification_and_the_other_way_round() {
    let list = "import sys, yaml, json; print(json.dumps([list(yaml.safe_load(open(f)) or {}) if 'defaults' in f else \
                list(yaml.safe_load(open(f))['argument_specs']['main']['options']) for f in sys.argv[1:]]))";
    for role in ["gateway", "host"] {
        let roles = format!("{ROOT}/ansible/roles");
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", list]).stdin(Stdio::null());
        command.args([
            format!("{roles}/portway/defaults/main.yml"),
            format!("{roles}/portway_{role}/defaults/main.yml"),
            format!("{roles}/portway_{role}/meta/argument_specs.yml"),
        ]);
        let [shared, own, specified]: [Vec<String>; 3] =
            serde_json::from_str::<Value>(&succeeds(command)).and_then(serde_json::from_value).unwrap();
        let mut defaults = [shared, own].concat();
        let mut specified = specified;
        defaults.sort();
        specified.sort();
        assert_eq!(defaults, specified);
    }
}
