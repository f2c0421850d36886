//! Of an autoscaler: how many nodes it wants, and why.

use super::{rows, text};
use serde_json::Value;

pub fn table(status: &Value) -> String {
    let state = if status["ready"] == true { "ready" } else { "NOT READY" };
    let mut out = format!(
        "autoscaler: {state}{}, {} gateways wanted ({} to {}), {} carry traffic\n",
        if status["dry_run"] == true { ", dry run" } else { "" },
        status["ordered"].as_u64().map_or_else(|| "?".to_owned(), |ordered| ordered.to_string()),
        status["min"],
        status["max"],
        status["serving"],
    );
    if let (Some(demand), Some(target)) = (status["demand"].as_f64(), status["target"].as_f64()) {
        out += &format!("  - the load is what {demand:.2} gateways can carry; {:.0} % of each should be used\n", target * 100.0);
    }
    if let Some(why) = status["held_because"].as_str() {
        out += &format!("  ! no other number: {why}\n");
    }
    if let Some(decision) = status["decisions"].as_array().and_then(|decisions| decisions.first()) {
        out += &format!("  - last change: {} -> {}, {}\n", decision["from"], decision["to"], text(&decision["because"]));
    }
    out += &directory(&status["directory"]);
    out += &inputs(status);
    out += &actuator(&status["actuator"]);
    let gateways = status["gateways"].as_array().map_or(&[][..], Vec::as_slice);
    let cells = gateways.iter().map(|gateway| {
        let used = gateway["utilisation"].as_f64().map_or_else(|| "?".into(), |used| format!("{:.0} %", used * 100.0));
        let age = gateway["age"].as_f64().map_or_else(|| "-".into(), |age| format!("{age:.1} s"));
        let failure = gateway["scrape"]["failure"].as_str().unwrap_or("-");
        vec![text(&gateway["name"]), used, gateway["dimension"].as_str().unwrap_or("-").to_owned(), age, failure.to_owned()]
    });
    out + &rows(&["gateway", "used", "by", "age", "failure"], cells.collect())
}

/// Who says which gateways there are, and what of it is not believed.
fn directory(directory: &Value) -> String {
    let Some(url) = directory["url"].as_str() else { return String::new() };
    let age = directory["age"].as_f64().map(|age| format!("{age:.0} s ago"));
    let known = &directory["known"];
    let mut out = match (directory["failure"].as_str(), age) {
        (None, Some(age)) => format!("  - the directory at {url} knows {known} gateways, as of {age}\n"),
        (None, None) => format!("  - the directory at {url} is asked which gateways there are\n"),
        (Some(failure), Some(age)) => format!("  ! which gateways there are is not told: {failure}; the {known} of {age} count\n"),
        (Some(failure), None) => format!("  ! which gateways there are is not told: {failure}; {known} are known from before\n"),
    };
    let names = |list: &Value| list.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let (registered, doubted) = (names(&directory["registered"]), names(&directory["doubted"]));
    if !registered.is_empty() {
        out += &format!("  - in the directory, and not heard there, so that they do not count: {registered}\n");
    }
    if let Some(left) = directory["believed_in"].as_f64() {
        out += &format!("  ! not in the directory any more, which is believed in {left:.0} s, as they are so many: {doubted}\n");
    }
    out
}

/// What others say is needed, and what of it does not count.
fn inputs(status: &Value) -> String {
    let levels = status["levels"].as_array().map_or(&[][..], Vec::as_slice).iter().map(|level| {
        let left = level["left"].as_f64().unwrap_or_default();
        format!("  - {} says what takes {} gateways, for {left:.0} s more\n", text(&level["source"]), level["nodes"])
    });
    let silent = status["queries"].as_object().into_iter().flatten().filter_map(|(name, query)| {
        let failure = query["failure"].as_str()?;
        Some(format!("  ! the query {name} says nothing: {failure}\n"))
    });
    let refused = status["webhooks"]["last_refusal"]
        .as_str()
        .map(|refusal| format!("  ! {} posts do not count; the last of them, {refusal}\n", status["webhooks"]["refused"]));
    levels.chain(silent).chain(refused).collect()
}

/// Who is told, and what has come of it.
fn actuator(actuator: &Value) -> String {
    let Some(to) = actuator["to"].as_str() else { return String::new() };
    let nodes = |order: &Value| order["nodes"].as_u64();
    let taken = nodes(&actuator["taken"]).zip(actuator["taken_ago"].as_f64());
    let taken = taken.map_or("has taken no order yet".to_owned(), |(nodes, ago)| format!("has taken {nodes} nodes {ago:.0} s ago"));
    let mut out = format!("  - {to} {taken}\n");
    if let Some(failure) = actuator["failure"]["text"].as_str() {
        let waiting = nodes(&actuator["waiting"]).map_or_else(|| "the last order".to_owned(), |nodes| format!("{nodes} nodes"));
        let times = actuator["failures"].as_u64().unwrap_or(1);
        let again = actuator["again_in"].as_f64().map_or(String::new(), |again| format!("; again in {again:.0} s"));
        out += &format!("  ! {to} has not taken {waiting}, {times} failures in a row: {failure}{again}\n");
    }
    let group = &actuator["group"];
    if let Some(name) = group["name"].as_str() {
        let (desired, min, max, in_service) = (&group["desired"], &group["min"], &group["max"], &group["in_service"]);
        out += &format!("  - group {name}: {desired} desired ({min} to {max}), {in_service} in service\n");
    }
    if let Some(failure) = actuator["group_failure"].as_str() {
        out += &format!("  ! what there is, is not known: {failure}\n");
    }
    for leaving in actuator["leaving"].as_array().into_iter().flatten().filter(|leaving| leaving["over"] == false) {
        let (instance, since) = (text(&leaving["instance"]), leaving["since"].as_f64().unwrap_or(0.0));
        out += &format!("  - {instance} is to go, and has been drained for {since:.0} s; {}\n", left(&leaving["load"]));
    }
    out
}

/// What a node that leaves still carries.
fn left(load: &Value) -> String {
    let Some(shards) = load["shards"].as_u64() else { return "it does not say what it carries".into() };
    let connections = load["connections"].as_u64().map_or("?".to_owned(), |count| count.to_string());
    format!("it still has shards ({shards}) and connections ({connections})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_looks_sees_how_many_and_why() {
        let status = json!({
            "ready": false, "dry_run": true, "ordered": 3, "serving": 2, "min": 2, "max": 10, "target": 0.6, "demand": 1.5,
            "held_because": "nothing is known of gw-2",
            "decisions": [{ "from": 2, "to": 3, "because": "75 % is used (the busiest gateway: bits)" }],
            "gateways": [
                { "name": "gw-1", "utilisation": 0.75, "dimension": "bits", "age": 0.42, "scrape": { "failure": null } },
                { "name": "gw-2", "utilisation": null, "dimension": null, "age": null, "scrape": { "failure": "it does not answer" } },
            ],
            "levels": [{ "source": "demand/functions", "wanted": [{ "nodes": 3 }], "nodes": 3, "left": 899.6 }],
            "queries": { "load": { "good": 1, "failed": 2, "failure": "it answers with 502" }, "other": { "failure": null } },
            "webhooks": { "taken": 1, "again": 0, "refused": 2, "last_refusal": "demand: the token is none of ours" },
        });
        insta::assert_snapshot!(table(&status), @r"
        autoscaler: NOT READY, dry run, 3 gateways wanted (2 to 10), 2 carry traffic
          - the load is what 1.50 gateways can carry; 60 % of each should be used
          ! no other number: nothing is known of gw-2
          - last change: 2 -> 3, 75 % is used (the busiest gateway: bits)
          - demand/functions says what takes 3 gateways, for 900 s more
          ! the query load says nothing: it answers with 502
          ! 2 posts do not count; the last of them, demand: the token is none of ours
          GATEWAY  USED  BY    AGE    FAILURE
          gw-1     75 %  bits  0.4 s  -
          gw-2     ?     -     -      it does not answer
        ");
        let ordered = json!({ "actuator": {
            "kind": "webhook", "to": "https://functions.example", "failures": 3, "failure": { "text": "it answers with 503: quota" },
            "waiting": { "serial": 9, "nodes": 6 }, "again_in": 1.6, "taken": { "serial": 8, "nodes": 4 }, "taken_ago": 61.2,
        }});
        let lines: Vec<String> = table(&ordered).lines().filter(|line| line.contains("functions.example")).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "  - https://functions.example has taken 4 nodes 61 s ago",
                "  ! https://functions.example has not taken 6 nodes, 3 failures in a row: it answers with 503: quota; again in 2 s"
            ]
        );
        let group = json!({
            "to": "the group", "taken": null, "group": { "name": "gateways", "min": 1, "max": 10, "desired": 4, "in_service": 3 },
            "group_failure": "AWS does not answer", "leaving": [
                { "instance": "i-1", "since": 12.4, "load": { "shards": 1, "connections": 7 }, "over": false },
                { "instance": "i-2", "since": 99.0, "load": null, "over": true },
                { "instance": "i-3", "since": 3.0, "load": null, "over": false },
            ],
        });
        insta::assert_snapshot!(actuator(&group), @r"
          - the group has taken no order yet
          - group gateways: 4 desired (1 to 10), 3 in service
          ! what there is, is not known: AWS does not answer
          - i-1 is to go, and has been drained for 12 s; it still has shards (1) and connections (7)
          - i-3 is to go, and has been drained for 3 s; it does not say what it carries
        ");
        let mut known = json!({ "url": "https://directory.example:9473", "answers": true, "failure": null, "age": 2.4, "known": 3,
            "registered": ["gw-8", "gw-9"], "doubted": [], "believed_in": null });
        insta::assert_snapshot!(directory(&known), @r"
          - the directory at https://directory.example:9473 knows 3 gateways, as of 2 s ago
          - in the directory, and not heard there, so that they do not count: gw-8, gw-9
        ");
        known["failure"] = "it does not answer".into();
        (known["registered"], known["doubted"], known["believed_in"]) = (json!([]), json!(["gw-1", "gw-2"]), json!(250.2));
        insta::assert_snapshot!(directory(&known), @r"
          ! which gateways there are is not told: it does not answer; the 3 of 2 s ago count
          ! not in the directory any more, which is believed in 250 s, as they are so many: gw-1, gw-2
        ");
        known["age"] = Value::Null;
        assert!(directory(&known).starts_with("  ! which gateways there are is not told: it does not answer; 3 are known from before\n"));
        let unknown = json!({ "ready": false, "ordered": null, "serving": 0, "min": 2, "max": 10, "gateways": [] });
        assert!(table(&unknown).starts_with("autoscaler: NOT READY, ? gateways wanted (2 to 10), 0 carry traffic\n"));
    }
}
