//! What is handed to Prometheus and Grafana: that they take it, that each rule fires when it should and not otherwise, and that all of it is about
//! metrics that there are.

mod board;
mod pages;
mod promql;
mod rules;
mod run;
mod yaml;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether it was content, and all that it said.
fn promtool(arguments: &[&str], input: Stdio) -> (bool, String) {
    let output = Command::new("promtool").args(arguments).current_dir(folder()).stdin(input).output();
    let output = output.unwrap_or_else(|error| panic!("promtool: {error}; it comes with Prometheus: run scripts/install-deps test"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Metrics that the documents name; of a histogram also what its series are called.
fn documented() -> BTreeSet<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut names = BTreeSet::new();
    let documents = std::fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    for document in documents {
        for line in read(&document).lines() {
            let of_line = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.contains('_')).map(str::to_owned);
            let histogram = line.contains("| histogram: ");
            for name in of_line {
                if histogram {
                    names.extend(["bucket", "sum", "count"].map(|suffix| format!("{name}_{suffix}")));
                }
                names.insert(name);
            }
        }
    }
    assert!(names.contains("portway_ready") && names.contains("portway_sync_delay_seconds_bucket"), "{names:#?}");
    names
}

/// What Prometheus makes by itself.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];

/// Names that neither stand in a document nor are recorded by a rule.
fn unknown(expressions: impl IntoIterator<Item = String>) -> Vec<String> {
    let (documented, recorded) = (documented(), rules::recorded());
    let is_known = |name: &str| documented.contains(name) || recorded.contains(name) || OF_PROMETHEUS.contains(&name);
    let mut all = 0;
    let unknown = expressions.into_iter().flat_map(|expression| {
        let names = promql::metrics(&expression);
        assert!(!names.is_empty(), "no metric in {expression}");
        all += names.len();
        names.into_iter().filter(|name| !is_known(name)).map(|name| format!("{name} in {expression}")).collect::<Vec<_>>()
    });
    let unknown = unknown.collect();
    assert!(all > 0);
    unknown
}
