//! Rules and their tests.

use super::yaml::{list, read, text};
use super::{folder, promtool, unknown};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

const RULES: &str = "portway.rules.yaml";

fn rules() -> Vec<Value> {
    let file = read(&folder().join(RULES));
    let rules: Vec<Value> = list(&file, "groups").flat_map(|group| list(group, "rules")).cloned().collect();
    assert!(rules.len() > 30, "{rules:#?}");
    rules
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

/// Names that recording rules make.
pub fn recorded() -> BTreeSet<String> {
    rules().iter().filter_map(|rule| Some(rule["record"].as_str()?.to_owned())).collect()
}

fn files() -> Vec<String> {
    let all = std::fs::read_dir(folder().join("tests")).unwrap();
    let mut files: Vec<String> = all.map(|entry| format!("tests/{}", entry.unwrap().file_name().to_str().unwrap())).collect();
    files.sort();
    files
}

/// All tests of all files.
fn tests() -> Vec<Value> {
    let files: Vec<Value> = files().iter().map(|file| read(&folder().join(file))).collect();
    files.iter().flat_map(|file| list(file, "tests")).cloned().collect()
}

/// Expressions of the tests, with when they are looked at and whether something comes of them.
fn looks(test: &Value) -> impl Iterator<Item = (&str, &str, bool)> {
    list(test, "promql_expr_test").map(|look| (text(look, "expr"), text(look, "eval_time"), list(look, "exp_samples").next().is_some()))
}

fn firing(alert: &str) -> String {
    format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}")
}

#[test]
fn prometheus_takes_the_rules_and_their_tests_hold() {
    let (good, said) = promtool(&["check", "rules", "--lint=all", "--lint-fatal", RULES], Stdio::null());
    assert!(good, "{said}");
    let files = files();
    let arguments: Vec<&str> = ["test", "rules"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let (good, said) = promtool(&arguments, Stdio::null());
    assert!(good && said.matches("SUCCESS").count() == files.len(), "{said}");
}

#[test]
fn every_rule_is_tested_and_every_alert_both_ways() {
    let tests = tests();
    let looks: Vec<_> = tests.iter().flat_map(looks).collect();
    let names = alerts().iter().map(|alert| text(alert, "alert").to_owned()).collect::<Vec<_>>();
    for alert in &names {
        let of_it: Vec<_> = looks.iter().filter(|(expression, ..)| *expression == firing(alert)).collect();
        assert!(of_it.iter().any(|(.., fires)| *fires), "no test in which {alert} fires");
        assert!(of_it.iter().any(|(.., fires)| !*fires), "no test in which {alert} does not fire (yet)");
    }
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two alerts of one name: {names:?}");
    for name in recorded() {
        assert!(looks.iter().any(|(expression, _, some)| *some && expression.contains(&name)), "no test of {name}");
    }
}

#[test]
fn rules_and_tests_are_about_metrics_that_there_are() {
    let rules = rules().iter().map(|rule| text(rule, "expr").to_owned()).collect::<Vec<_>>();
    let tests = tests();
    let looks = tests.iter().flat_map(looks).map(|(expression, ..)| expression.to_owned());
    let series = tests.iter().flat_map(|test| list(test, "input_series")).map(|series| text(series, "series").to_owned());
    let unknown = unknown(rules.into_iter().chain(looks).chain(series));
    assert!(unknown.is_empty(), "in no document: {unknown:#?}");
}

/// Rows of the document's table: name, severity, how long it has to be so.
fn table() -> BTreeMap<String, (String, String)> {
    let document = super::read(&folder().with_file_name("docs").join("dashboards.md"));
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `Portway")).map(|line| {
        let cells: Vec<&str> = line.split(" | ").collect();
        assert!(cells.len() == 4 && cells[3].len() > 30, "{line}");
        (format!("Portway{}", cells[0].trim_end_matches('`')), (cells[1].to_owned(), cells[2].to_owned()))
    });
    rows.collect()
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let mut table = table();
    for alert in alerts() {
        let (name, notes, severity) = (text(&alert, "alert"), &alert["annotations"], text(&alert["labels"], "severity"));
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        assert!((20..150).contains(&text(notes, "summary").len()), "{name}: a summary is one line on a telephone");
        assert!((80..700).contains(&text(notes, "description").len()), "{name}");
        let after = alert["for"].as_str().unwrap_or("at once");
        let told = table.remove(name).unwrap_or_else(|| panic!("docs/dashboards.md has no {name}"));
        assert_eq!((told.0.as_str(), told.1.as_str()), (severity, after), "{name} in docs/dashboards.md");
    }
    assert!(table.is_empty(), "docs/dashboards.md has alerts that there are not: {table:?}");
}

/// Templates can name what an alert does not have, or fail on its value: then people read `<no value>`, or an error. promtool shows what they read
/// when nothing is expected.
#[test]
fn what_people_read_is_complete() {
    let mut asked = BTreeMap::new();
    for test in tests() {
        for alert in alerts() {
            let name = text(&alert, "alert");
            if let Some((_, at, _)) = looks(&test).find(|(expression, _, fires)| *fires && *expression == firing(name)) {
                let look = json!([{ "eval_time": at, "alertname": name, "exp_alerts": [] }]);
                asked.insert(
                    name.to_owned(),
                    json!({ "interval": test["interval"], "input_series": test["input_series"], "alert_rule_test": look }),
                );
            }
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let tests: Vec<&Value> = asked.values().collect();
    let content = json!({ "rule_files": [folder().join(RULES)], "evaluation_interval": "15s", "tests": tests });
    std::fs::write(file.path(), content.to_string()).unwrap();
    let (good, said) = promtool(&["test", "rules", file.path().to_str().unwrap()], Stdio::null());
    assert!(!good && asked.len() == alerts().len(), "{said}");
    for name in asked.keys() {
        let shown = said.split(&format!("alertname: {name}, ")).nth(1).unwrap_or_else(|| panic!("{name} does not fire:\n{said}"));
        let shown = shown.split("alertname: ").next().unwrap_or_default();
        assert!(shown.contains("summary") && shown.contains("description"), "{shown}");
        for wrong in ["<no value>", "<error", "%!", "NaN", "{{", "}}"] {
            assert!(!shown.contains(wrong), "{wrong} in {shown}");
        }
    }
}
