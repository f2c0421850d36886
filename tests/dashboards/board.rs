//! Grafana's dashboard, as far as it can be held against rules without Grafana.

use super::yaml::{list, text};
use super::{folder, promql, promtool, read, unknown};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;

pub fn board() -> Value {
    serde_json::from_str(&read(&folder().join("portway.json"))).expect("JSON")
}

/// Names that Grafana has for units (packages/grafana-data/src/valueFormats/categories.ts): as much as is used here.
const UNITS: [&str; 8] = ["none", "short", "percentunit", "s", "bps", "pps", "cps", "reqps"];

/// Those that show something: no headings of rows.
pub fn panels(board: &Value) -> Vec<&Value> {
    let panels: Vec<&Value> = list(board, "panels").filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() > 30, "{}", panels.len());
    panels
}

/// Of panels, annotations and variables, with the place of each.
fn expressions(board: &Value) -> Vec<(String, String)> {
    let of_panel = |panel: &Value| {
        let targets = list(panel, "targets")
            .map(|target| (format!("{} {}", text(panel, "title"), text(target, "refId")), text(target, "expr").to_owned()));
        targets.collect::<Vec<_>>()
    };
    let mut all: Vec<(String, String)> = panels(board).into_iter().flat_map(of_panel).collect();
    let annotations =
        list(&board["annotations"], "list").filter_map(|one| Some((text(one, "name").to_owned(), one["expr"].as_str()?.to_owned())));
    all.extend(annotations);
    for variable in variables(board) {
        if let Some(query) = variable["query"]["query"].as_str() {
            assert_eq!(text(variable, "definition"), query);
            let (metric, label) = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'))
                .and_then(|inner| inner.rsplit_once(", "))
                .expect(query);
            assert!(label.chars().all(|c| c.is_ascii_lowercase()), "{query}");
            all.push((format!("${}", text(variable, "name")), metric.to_owned()));
        }
    }
    all
}

fn variables(board: &Value) -> Vec<&Value> {
    list(&board["templating"], "list").collect()
}

/// As Grafana would send it.
fn filled_in(expression: &str, names: &[&str]) -> String {
    let mut text = expression.replace("$__rate_interval", "1m").replace("$__interval", "1m");
    for name in names {
        text = text.replace(&format!("\"${name}\""), "\".*\"");
    }
    text
}

fn names(board: &Value) -> Vec<&str> {
    variables(board).into_iter().map(|variable| text(variable, "name")).collect()
}

#[test]
fn every_expression_is_one_and_about_metrics_that_there_are() {
    let board = board();
    let filled: Vec<(String, String)> =
        expressions(&board).into_iter().map(|(place, expression)| (place, filled_in(&expression, &names(&board)))).collect();
    for (place, expression) in &filled {
        assert!(!expression.contains('$'), "{place}: no such variable in {expression}");
    }
    // Prometheus parses what it records; the places of faults are counted by the rules.
    let rules: Vec<Value> =
        filled.iter().enumerate().map(|(n, (_, expression))| json!({ "record": format!("panel:{n}"), "expr": expression })).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({ "groups": [{ "name": "board", "rules": rules }] }).to_string()).unwrap();
    let (good, said) = promtool(&["check", "rules", file.path().to_str().unwrap()], Stdio::null());
    assert!(good && said.contains(&format!("{} rules found", filled.len())), "{said}{filled:#?}");
    let unknown = unknown(filled.into_iter().map(|(_, expression)| expression));
    assert!(unknown.is_empty(), "in no document: {unknown:#?}");
}

#[test]
fn every_panel_has_a_place_a_unit_and_an_explanation() {
    let board = board();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in list(&board, "panels") {
        let (id, title) = (panel["id"].as_u64().expect("an id"), text(panel, "title"));
        assert!(ids.insert(id), "two panels {id}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{title} has no {key}"));
        assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{title}");
        let cells = (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)));
        cells.for_each(|cell| assert!(taken.insert(cell), "{title} lies on another panel"));
    }
    let mut titles = BTreeSet::new();
    for panel in panels(&board) {
        let title = text(panel, "title");
        assert!(titles.insert(title), "two panels {title}");
        assert!(text(panel, "description").len() > 15, "{title}: a description says what to make of it");
        let unit = text(&panel["fieldConfig"]["defaults"], "unit");
        assert!(UNITS.contains(&unit), "{title}: {unit}");
        assert!(
            ["timeseries", "stat", "table", "state-timeline"].contains(&text(panel, "type")),
            "{title}: another kind takes a look at its options"
        );
        let refs: Vec<&str> = list(panel, "targets").map(|target| text(target, "refId")).collect();
        assert!(!refs.is_empty() && refs.iter().collect::<BTreeSet<_>>().len() == refs.len(), "{title}: {refs:?}");
    }
}

#[test]
fn the_data_source_is_chosen_and_nowhere_fixed() {
    let board = board();
    let chosen = json!({ "type": "prometheus", "uid": "${datasource}" });
    let targets = panels(&board).into_iter().flat_map(|panel| list(panel, "targets").chain([panel]));
    let queried = variables(&board).into_iter().filter(|variable| variable["type"] == "query");
    let annotations = list(&board["annotations"], "list").filter(|one| one["expr"].is_string());
    let all: Vec<&Value> = targets.chain(queried).chain(annotations).collect();
    assert!(all.len() > 80);
    for one in all {
        assert_eq!(one["datasource"], chosen, "{one:#}");
    }
    let sources: Vec<&Value> = variables(&board).into_iter().filter(|variable| variable["type"] == "datasource").collect();
    assert!(sources.len() == 1 && sources[0]["name"] == "datasource" && sources[0]["query"] == "prometheus", "{sources:#?}");
    assert_eq!(names(&board), ["datasource", "job", "gateway", "tenant", "shard"]);
    assert!(board["id"].is_null() && board["uid"] == "portway" && board["schemaVersion"] == 41, "to be imported as it is");
}

/// What operators ask first.
#[test]
fn what_matters_is_shown() {
    let board = board();
    let shown: BTreeSet<String> =
        expressions(&board).into_iter().flat_map(|(_, expression)| promql::metrics(&filled_in(&expression, &[]))).collect();
    for name in [
        "portway_tunnel_received_bytes_total",
        "portway_tunnel_sent_packets_total",
        "portway_wireguard_received_bytes_total",
        "portway_nat_connections",
        "portway_nat_new_connections_total",
        "portway_nat_ports",
        "portway_conntrack_failures_total",
        "portway_conntrack_entries",
        "portway_dropped_packets_total",
        "portway_userspace_dropped_packets_total",
        "portway_vrrp_state",
        "portway_vrrp_takeovers_total",
        "portway_vrrp_timer_lateness_seconds_bucket",
        "portway_sync_lag_seconds",
        "portway_sync_in_sync",
        "portway_tunnel_mtu_bytes",
        "portway_peers",
        "portway_directory_look_up_seconds_bucket",
        "portway_autoscaler_wanted_nodes",
        "portway_autoscaler_serving_nodes",
        "portway_autoscaler_demand_nodes",
        "portway_autoscaler_utilisation_ratio",
        "portway_autoscaler_decisions_total",
        "portway_autoscaler_held_total",
        "ALERTS",
    ] {
        assert!(shown.contains(name), "{name} is shown nowhere");
    }
}
