//! Modules and examples by themselves: no AWS, not even a simulated one.

use super::{Folder, Scratch, all, folder, read, told};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

#[test]
fn it_is_formatted_as_terraform_formats() {
    let output = Folder(folder()).terraform(&["fmt", "-check", "-diff", "-recursive", "-no-color"], &[]);
    assert!(output.status.success(), "run terraform fmt -recursive terraform: {}", told(&output));
}

/// Validations are about variables alone: without the provider, each of a hundred takes a hundredth of a second.
#[test]
fn each_validation_refuses_what_it_should() {
    let with_refusals =
        all("modules").into_iter().chain(all("examples")).filter(|folder| folder.join("tests/refusals.tftest.hcl").exists());
    for module in with_refusals {
        let name = module.file_name().unwrap().to_str().unwrap();
        let alone = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let variables = read(&module.join("variables.tf"));
        let refusals = read(&module.join("tests/refusals.tftest.hcl"));
        let validations = variables.matches("\n  validation {\n").count();
        let (runs, expected) = (refusals.matches("\nrun \"").count(), refusals.matches("\n  expect_failures = [").count());
        assert!(validations > 0 && runs == expected && runs >= validations, "{name}: {runs} runs for {validations} validations");
        std::fs::write(alone.path().join("variables.tf"), variables).unwrap();
        std::fs::create_dir(alone.path().join("tests")).unwrap();
        std::fs::write(alone.path().join("tests/refusals.tftest.hcl"), without_mocks(&refusals)).unwrap();
        let alone = Folder(alone.path().to_owned());
        alone.init();
        alone.tested(&[]);
    }
}

fn without_mocks(tests: &str) -> String {
    let Some(from) = tests.find("mock_provider") else { return tests.to_owned() };
    let line_ends = tests[from..].find('\n').unwrap();
    let length = if tests[from..][..line_ends].ends_with("{}") { line_ends } else { tests[from..].find("\n}\n").unwrap() + 2 };
    format!("{}{}", &tests[..from], &tests[from + length..])
}

/// Configurations of all runs: `gateway_yaml` and `host_yaml`, one text or by name.
fn configurations(outputs: &[Value]) -> Vec<String> {
    let values = outputs.iter().flat_map(|outputs| ["gateway_yaml", "host_yaml"].map(|name| &outputs[name]));
    let texts = values.flat_map(|value| match value {
        Value::Object(by_name) => by_name.values().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => vec![text.clone()],
        _ => vec![],
    });
    texts.collect()
}

/// With what an instance puts in place of words between `@`; without what this Portway does not know.
pub fn taken(yaml: &str) -> String {
    let known = [
        ("@node@", "i-0123456789abcdef0"),
        ("@primary_interface@", "ens5"),
        ("@primary_address@", "10.9.0.77"),
        ("@router.tenant1@", "172.16.101.1"),
    ];
    let text = known.iter().fold(yaml.to_owned(), |text, (word, value)| text.replace(word, value));
    let text = without(&text, "cloud");
    if cfg!(feature = "aws") { text } else { without(&text, "lifecycle") }
}

/// Without what stands below a key, and the key.
fn without(yaml: &str, key: &str) -> String {
    let mut below: Option<usize> = None;
    let kept = yaml.lines().filter(|line| {
        let indented = line.len() - line.trim_start().len();
        if line.trim_start().starts_with(&format!("\"{key}\":")) {
            below = Some(indented);
            return false;
        }
        below = below.filter(|key| indented > *key);
        below.is_none()
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// Somebody else's eyes: the command that operators use.
pub fn is_taken(yaml: &str) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = dir.path().join("portway.yaml");
    std::fs::write(&file, taken(yaml)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portway")).arg("check").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}\n{yaml}", told(&output));
}

fn holds(what: &str, tests: &[&str], least: usize) {
    let scratch = Scratch::new();
    let made = configurations(&scratch.initialised(what).tested(tests));
    assert!(made.len() >= least, "{} configurations of {what}", made.len());
    made.iter().for_each(|yaml| is_taken(yaml));
}

#[test]
fn gateways_of_a_pair_of_two_zones_of_a_group_and_in_a_tenants_network() {
    holds("modules/appliance", &["pair", "others", "machines"], 7);
}

#[test]
fn function_hosts_over_each_kind_of_tunnel() {
    holds("modules/function-host", &["hosts"], 3);
}

#[test]
fn a_first_boot() {
    holds("modules/boot", &["boot"], 0);
}

#[test]
fn the_example_of_many_tenants() {
    holds("examples/many-tenants", &[], 4);
}

#[test]
fn the_example_of_a_group() {
    holds("examples/autoscaled", &[], 2);
}

#[test]
fn no_test_is_left_out() {
    let tests = |what: &Path| {
        let mut names: Vec<String> = std::fs::read_dir(what.join("tests"))
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().strip_suffix(".tftest.hcl").map(str::to_owned))
            .collect();
        names.sort();
        names
    };
    for (example, name) in [("single-tenant", "refusals"), ("many-tenants", "plan"), ("autoscaled", "plan")] {
        assert_eq!(tests(&folder().join("examples").join(example)), [name], "{example}");
    }
    for (module, names) in [
        ("appliance", &["machines", "others", "pair", "refusals"][..]),
        ("boot", &["boot", "refusals"]),
        ("function-host", &["hosts", "refusals"]),
        ("secrets", &["refusals"]),
    ] {
        assert_eq!(tests(&folder().join("modules").join(module)), names, "{module}");
    }
}
