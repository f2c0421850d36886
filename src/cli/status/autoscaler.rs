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
    out += &inputs(status);
    let gateways = status["gateways"].as_array().map_or(&[][..], Vec::as_slice);
    let cells = gateways.iter().map(|gateway| {
        let used = gateway["utilisation"].as_f64().map_or_else(|| "?".into(), |used| format!("{:.0} %", used * 100.0));
        let age = gateway["age"].as_f64().map_or_else(|| "-".into(), |age| format!("{age:.1} s"));
        let failure = gateway["scrape"]["failure"].as_str().unwrap_or("-");
        vec![text(&gateway["name"]), used, gateway["dimension"].as_str().unwrap_or("-").to_owned(), age, failure.to_owned()]
    });
    out + &rows(&["gateway", "used", "by", "age", "failure"], cells.collect())
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
        let unknown = json!({ "ready": false, "ordered": null, "serving": 0, "min": 2, "max": 10, "gateways": [] });
        assert!(table(&unknown).starts_with("autoscaler: NOT READY, ? gateways wanted (2 to 10), 0 carry traffic\n"));
    }
}
