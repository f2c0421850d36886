//! The list of what is linked into the program, held against what cargo itself says.

use crate::{root, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const CARGO: &str = env!("CARGO");

/// `aarch64-unknown-linux-gnu`
fn target() -> String {
    let version = text(Command::new("rustc").arg("-vV"));
    version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host").to_owned()
}

pub fn made() -> Value {
    serde_json::from_str(&text(&mut Command::new(root().join("scripts/sbom")))).expect("JSON")
}

/// `name version` of each library.
pub fn libraries(bom: &Value) -> BTreeSet<String> {
    let field = |component: &Value, name: &str| component[name].as_str().expect("text").to_owned();
    bom["components"].as_array().expect("a list").iter().map(|c| field(c, "name") + " " + &field(c, "version")).collect()
}

#[test]
fn every_library_in_the_program_is_listed_and_no_other() {
    let bom = made();
    // A line for each: `aws-lc-rs v1.16.0`, and perhaps `(proc-macro)` or `(*)`.
    let tree =
        text(Command::new(CARGO).args(["tree", "--locked", "-e", "normal", "--prefix", "none", "--target", &target()]).current_dir(root()));
    let linked: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .filter(|(name, _)| *name != "portway")
        .map(|(name, rest)| format!("{name} {}", rest.split(' ').next().unwrap()))
        .collect();
    assert!(linked.len() > 200, "{}", linked.len());
    assert_eq!(libraries(&bom), linked);
    assert!(!linked.iter().any(|library| library.starts_with("insta ")), "tests' own libraries are nobody's else");
}

#[test]
fn the_list_is_cyclonedx_and_says_what_each_is_licensed_under_and_needs() {
    let bom = made();
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(bom["metadata"]["component"]["purl"], format!("pkg:cargo/portway@{}", env!("CARGO_PKG_VERSION")));
    let components: BTreeMap<&str, &Value> =
        bom["components"].as_array().unwrap().iter().map(|component| (component["bom-ref"].as_str().unwrap(), component)).collect();
    assert_eq!(components.len(), bom["components"].as_array().unwrap().len(), "each has a name of its own");
    for (name, component) in &components {
        let licence = component["licenses"][0]["expression"].as_str().unwrap_or_else(|| panic!("{name} says no licence"));
        assert!(!licence.contains('/'), "{name}: {licence}");
    }
    let needs = bom["dependencies"].as_array().unwrap();
    assert_eq!(needs.len(), components.len() + 1);
    for need in needs.iter().flat_map(|one| one["dependsOn"].as_array().unwrap()) {
        assert!(components.contains_key(need.as_str().unwrap()), "{need}");
    }
}
