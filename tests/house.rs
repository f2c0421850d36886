//! The house around the code: what our dependencies are licensed under and where they come from, the scripts, and that nothing is unfinished.
//!
//! `cargo deny check` would say the same about licences, bans and sources, and minutes of building it; deny.toml is the one list for both.
//! Its advisories need the RustSec database from the network: `make audit`.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

struct Package {
    name: String,
    /// An SPDX expression.
    licence: String,
    /// None: of this repository.
    source: Option<String>,
}

/// Everything that is compiled for this machine, tests included.
fn packages() -> Vec<Package> {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc");
    let version = String::from_utf8(version.stdout).expect("text");
    let target = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target])
        .current_dir(ROOT)
        .output()
        .expect("cargo");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let compiled = compiled(target);
    let text = |package: &Value, key: &str| package[key].as_str().map(str::to_owned);
    let package = |p: &Value| Package {
        name: text(p, "name").expect("a name"),
        licence: text(p, "license").unwrap_or_default(),
        source: text(p, "source"),
    };
    let named = |p: &&Value| compiled.contains(&format!("{} v{}", p["name"].as_str().unwrap(), p["version"].as_str().unwrap()));
    metadata["packages"].as_array().expect("packages").iter().filter(named).map(package).collect()
}

/// Names and versions of what is compiled. The metadata list more: an optional dependency counts there as soon as a feature is asked for that it
/// would have if it were switched on (`ring?/alloc`).
fn compiled(target: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--target", target, "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"])
        .current_dir(ROOT)
        .output()
        .expect("cargo");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
}

/// The quoted words of `key = [...]` in a section of deny.toml; of tables in it, their first.
fn denied(section: &str, key: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("deny.toml")).expect("deny.toml");
    let section = text.split(&format!("[{section}]")).nth(1).expect("the section");
    let list = section.split(&format!("\n{key} = [")).nth(1).expect("the key");
    let list = list.split("\n]").next().expect("its end").split("]\n").next().expect("its end");
    list.lines().flat_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be satisfied by these licences. `/` is how old crates write OR; AND binds closer than OR.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let result = any(&mut words, allowed);
    result && words.is_empty()
}

fn any(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    let mut result = all(words, allowed);
    while words.last() == Some(&"OR") {
        words.pop();
        result |= all(words, allowed);
    }
    result
}

fn all(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    let mut result = one(words, allowed);
    while words.last() == Some(&"AND") {
        words.pop();
        result &= one(words, allowed);
    }
    result
}

fn one(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> bool {
    match words.pop() {
        Some("(") => {
            let result = any(words, allowed);
            words.pop() == Some(")") && result
        }
        Some(licence) if words.last() == Some(&"WITH") => {
            words.pop();
            let exception = words.pop().unwrap_or_default();
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        Some(licence) => allowed.contains(licence),
        None => false,
    }
}

#[test]
fn every_dependency_is_licensed_as_deny_toml_allows() {
    let allowed = denied("licenses", "allow");
    let packages = packages();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let refused: Vec<String> =
        packages.iter().filter(|p| !satisfied(&p.licence, &allowed)).map(|p| format!("{}: {:?}", p.name, p.licence)).collect();
    assert!(refused.is_empty(), "not among the licences of deny.toml:\n{}", refused.join("\n"));
}

#[test]
fn dependencies_come_from_crates_io_and_none_is_banned() {
    let banned = denied("bans", "deny");
    assert!(banned.contains("openssl-sys"), "{banned:?}");
    for package in packages() {
        let known = package.source.as_ref().is_none_or(|source| source == "registry+https://github.com/rust-lang/crates.io-index");
        assert!(known, "{} comes from {:?}", package.name, package.source);
        assert!(!banned.contains(&package.name), "{} is banned, deny.toml says why", package.name);
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for good in
        ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-2.0", "(GPL-3.0 OR MIT) AND ISC", "Apache-2.0 WITH LLVM-exception", "GPL-3.0 AND ISC OR MIT"]
    {
        assert!(satisfied(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT WITH Some-exception", "MIT OR ISC)", "(MIT", "MIT MIT"] {
        assert!(!satisfied(bad, &allowed), "{bad}");
    }
}

/// Files that git knows, so that nothing a person left lying about counts.
fn tracked(patterns: &[&str]) -> Vec<PathBuf> {
    let output = Command::new("git").arg("ls-files").arg("--").args(patterns).current_dir(ROOT).output().expect("git");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(|line| Path::new(ROOT).join(line)).collect()
}

#[test]
fn scripts_pass_shellcheck() {
    let scripts: Vec<PathBuf> = tracked(&["scripts", ".ci", "packaging/debian", "*.sh"])
        .into_iter()
        .filter(|file| {
            std::fs::read_to_string(file).is_ok_and(|text| text.starts_with("#!") && text.lines().next().unwrap().ends_with("sh"))
        })
        .collect();
    assert!(scripts.len() >= 3, "{scripts:?}");
    let output = Command::new("shellcheck").args(&scripts).output().expect("no shellcheck: run scripts/install-deps test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    let marks = ["todo!", "unimplemented!", "#[ignore", "FIXME", "XXX"].map(|mark| mark.to_owned());
    for file in tracked(&["*.rs", ":!tests/house.rs"]) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            assert!(!marks.iter().any(|mark| line.contains(mark)), "{}:{}: {line}", file.display(), number + 1);
        }
    }
}
