//! What operators are told stands in documents: every metric, every reason, every example.

use portway::proto::jit::Refusal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts of all files below with this ending, but for those in these folders.
fn texts(below: &str, ending: &str, without: &[&str]) -> Vec<String> {
    let mut folders = vec![root().join(below)];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.extend((!without.iter().any(|folder| path.ends_with(folder))).then_some(path));
            } else if path.extension().is_some_and(|is| is == ending) {
                texts.push(read(path));
            }
        }
    }
    texts
}

fn is_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// The metrics that the source exports, as they are written on the page, each with the place where its name ends. A name alone between quotes is
/// one; of what is not handed to `gauge` or `histogram` at once, all are counters. What is on the wire has names of its own.
fn exported() -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for text in texts("src", "rs", &["src/wire"]) {
        for (at, _) in text.match_indices("\"portway_") {
            let (before, name) = (text[..at].trim_end(), text[at + 1..].split('"').next().unwrap());
            // A constant is the name of a metric that somebody else exports.
            if name.chars().all(is_name) && !before.ends_with("&str =") {
                let written =
                    if before.ends_with("gauge(") || before.ends_with("histogram(") { name.to_owned() } else { format!("{name}_total") };
                names.insert(written, before.chars().rev().take(80).collect::<String>().chars().rev().collect());
            }
        }
    }
    names
}

fn documented() -> BTreeSet<String> {
    let names =
        |text: String| text.split(|c| !is_name(c)).filter(|word| word.starts_with("portway_")).map(str::to_owned).collect::<Vec<_>>();
    let wire: BTreeSet<String> = texts("src/wire", "rs", &[]).into_iter().flat_map(names).collect();
    // What roles are told has such names too.
    let roles: BTreeSet<String> = texts("ansible", "yml", &[]).into_iter().flat_map(names).collect();
    texts("docs", "md", &[]).into_iter().flat_map(names).filter(|name| !wire.contains(name) && !roles.contains(name)).collect()
}

#[test]
fn every_metric_stands_in_a_document_and_no_other() {
    let (exported, documented) = (exported(), documented());
    assert!(exported.len() > 70, "{exported:#?}");
    let missing: Vec<_> = exported.iter().filter(|(name, _)| !documented.contains(*name)).collect();
    assert!(missing.is_empty(), "in no document: {missing:#?}");
    let gone: Vec<_> = documented.iter().filter(|name| !exported.contains_key(*name)).collect();
    assert!(gone.is_empty(), "documented, and there is none: {gone:#?}");
}

#[test]
fn every_reason_why_a_peer_is_not_let_in_is_explained() {
    let text = read("docs/metrics.md");
    let table = text.split("An initiation is refused").nth(1).unwrap().split("\n\n`jit.peers`").next().unwrap();
    let named: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|line| line.split(" |").next())
        .flat_map(|cell| cell.split("`, `"))
        .map(|name| name.trim_matches('`'))
        .collect();
    assert_eq!(named, Refusal::ALL.iter().map(|why| why.as_str()).collect());
}

#[test]
fn the_readme_names_every_example_and_every_document() {
    let readme = read("README.md");
    for folder in ["examples", "docs"] {
        let mut files = 0;
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            // Pictures stand in the documents.
            if entry.file_type().unwrap().is_dir() {
                continue;
            }
            let name = entry.file_name().into_string().unwrap();
            assert!(readme.contains(&format!("]({folder}/{name})")), "README.md does not lead to {folder}/{name}");
            files += 1;
        }
        assert!(files >= 3, "{folder}");
    }
}
