//! Of a directory on this machine: the fleet, as gateways tell of it.

use super::ha::duration;
use super::{rows, text};
use serde_json::Value;

/// Gateways say something every five seconds.
const SILENT_S: f64 = 15.0;

pub fn table(status: &Value) -> String {
    let list = |what: &str| status[what].as_array().map_or(&[][..], Vec::as_slice);
    let (tenants, shards, gateways) = (list("tenants"), list("shards"), list("gateways"));
    let state = if status["ready"] == true { "ready" } else { "NOT READY" };
    let hosts: u64 = tenants.iter().filter_map(|tenant| tenant["hosts"].as_u64()).sum();
    let mut out = format!(
        "directory: {state}, revision {}, {} tenants, {} shards, {} gateways, {hosts} hosts\n",
        status["revision"],
        tenants.len(),
        shards.len(),
        gateways.len()
    );
    let fresh = |gateway: &&Value| gateway["heard_s"].as_f64().is_some_and(|ago| ago < SILENT_S);
    for silent in gateways.iter().filter(|gateway| !fresh(gateway)) {
        let how =
            silent["heard_s"].as_f64().map_or_else(|| "has said nothing yet".into(), |ago| format!("is silent for {}", duration(ago)));
        out += &format!("  ! gateway {} {how}\n", text(&silent["name"]));
    }
    let heard: Vec<&Value> = gateways.iter().filter(fresh).collect();
    let lines = shards.iter().map(|shard| {
        let of = text(&shard["of"]);
        let at: Vec<(&Value, &Value)> =
            heard.iter().map(|gateway| (&gateway["name"], &gateway["report"]["shards"][&of])).filter(|(_, at)| !at.is_null()).collect();
        let named = |is: &dyn Fn(&Value) -> bool| {
            let names: Vec<String> = at.iter().filter(|(_, at)| is(at)).map(|(name, _)| text(name)).collect();
            if names.is_empty() { "nobody".into() } else { names.join(", ") }
        };
        let owns = |at: &Value| matches!(at["state"].as_str(), Some("active" | "alone" | "offering"));
        let owner = at.iter().find(|(_, at)| owns(at)).map(|(_, at)| *at);
        let shown = |what: &str| owner.map_or(&Value::Null, |owner| &owner[what]);
        let since = shown("for_s").as_f64().map_or_else(|| "-".into(), duration);
        let connections = shown("connections").as_u64().map_or_else(|| "-".into(), |count| count.to_string());
        let ready = named(&|at| at["state"] == "backup" && at["in_sync"] == true);
        vec![of.clone(), named(&owns), shown("state").as_str().unwrap_or("-").to_owned(), since, ready, connections]
    });
    out + &rows(&["shard", "owner", "state", "for", "ready to take over", "connections"], lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_operator_sees_who_has_which_shard_and_who_is_silent() {
        let at = |state: &str, connections: Value| json!({ "state": state, "for_s": 90.0, "in_sync": true, "connections": connections, "warnings": [] });
        let status = json!({
            "ready": true, "revision": 12, "tenants": [{ "name": "acme", "hosts": 3 }],
            "shards": [{ "of": "acme/0", "gateways": ["gw-1", "gw-2", "gw-3"] }, { "of": "acme/1", "gateways": [] }],
            "gateways": [
                { "name": "gw-1", "heard_s": 2.0, "report": { "shards": { "acme/0": at("active", json!(812)) } } },
                { "name": "gw-2", "heard_s": 1.0, "report": { "shards": { "acme/0": at("backup", Value::Null) } } },
                { "name": "gw-3", "heard_s": 75.0, "report": { "shards": { "acme/0": at("active", json!(1)) } } },
                { "name": "gw-4", "heard_s": null, "report": null },
            ],
        });
        insta::assert_snapshot!(table(&status), @r"
        directory: ready, revision 12, 1 tenants, 2 shards, 4 gateways, 3 hosts
          ! gateway gw-3 is silent for 75 s
          ! gateway gw-4 has said nothing yet
          SHARD   OWNER   STATE   FOR   READY TO TAKE OVER  CONNECTIONS
          acme/0  gw-1    active  90 s  gw-2                812
          acme/1  nobody  -       -     nobody              -
        ");
    }
}
