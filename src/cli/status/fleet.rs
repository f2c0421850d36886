//! Of a directory on this machine: the fleet, as gateways and hosts tell of it.

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
        let said = |gateway: &&Value| (text(&gateway["name"]), gateway["heard_s"].as_f64(), gateway["report"]["shards"][&of].clone());
        let at: Vec<Said> = heard.iter().map(said).filter(|(.., at)| !at.is_null()).collect();
        let claims: Vec<&Said> =
            at.iter().filter(|(.., at)| matches!(at["state"].as_str(), Some("active" | "alone" | "offering"))).collect();
        let owners: Vec<&Said> = claims.iter().filter(|one| !claims.iter().any(|other| has_lost(one, other))).copied().collect();
        let ready = at.iter().filter(|(.., at)| at["state"] == "backup" && at["in_sync"] == true);
        let owner = owners.first().map(|(.., at)| at);
        let shown = |what: &str| owner.map_or(&Value::Null, |owner| &owner[what]);
        let since = shown("for_s").as_f64().map_or_else(|| "-".into(), duration);
        let attachments = number(&status["attachments"][&of]["attachments"]);
        let state = shown("state").as_str().unwrap_or("-").to_owned();
        vec![
            of.clone(),
            named(owners.iter().copied()),
            state,
            since,
            named(ready),
            number(shown("connections")),
            number(shown("peers")),
            attachments,
        ]
    });
    out + &rows(&["shard", "owner", "state", "for", "ready to take over", "connections", "peers", "attachments"], lines.collect())
}

fn number(count: &Value) -> String {
    count.as_u64().map_or_else(|| "-".into(), |count| count.to_string())
}

/// A gateway, when it last said something, and what of the shard.
type Said = (String, Option<f64>, Value);

/// It has said nothing since the other one took the shard.
fn has_lost(one: &Said, other: &Said) -> bool {
    let taken = other.2["for_s"].as_f64().zip(other.1).map(|(at_that_time, since)| at_that_time + since);
    one.1.zip(taken).is_some_and(|(heard, taken)| heard > taken)
}

fn named<'s>(all: impl Iterator<Item = &'s Said>) -> String {
    let names: Vec<&str> = all.map(|(name, ..)| name.as_str()).collect();
    if names.is_empty() { "nobody".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_operator_sees_who_has_which_shard_and_who_is_silent() {
        let at = |state: &str, for_s: f64, connections: Value| json!({ "state": state, "for_s": for_s, "in_sync": true, "connections": connections, "peers": 3, "warnings": [] });
        let status = json!({
            "attachments": { "acme/0": { "hosts": 3, "attachments": 40 } },
            "ready": true, "revision": 12, "tenants": [{ "name": "acme", "hosts": 3 }],
            "shards": [{ "of": "acme/0", "gateways": ["gw-1", "gw-2", "gw-3"] }, { "of": "acme/1", "gateways": [] }],
            "gateways": [
                { "name": "gw-1", "heard_s": 2.0, "report": { "shards": { "acme/0": at("active", 5.0, json!(812)) } } },
                { "name": "gw-2", "heard_s": 1.0, "report": { "shards": { "acme/0": at("backup", 90.0, Value::Null) } } },
                { "name": "gw-3", "heard_s": 75.0, "report": { "shards": { "acme/0": at("active", 90.0, json!(1)) } } },
                { "name": "gw-4", "heard_s": null, "report": null },
                // It had the shard before, and has died.
                { "name": "gw-5", "heard_s": 9.0, "report": { "shards": { "acme/0": at("active", 900.0, json!(811)) } } },
            ],
        });
        insta::assert_snapshot!(table(&status), @r"
        directory: ready, revision 12, 1 tenants, 2 shards, 5 gateways, 3 hosts
          ! gateway gw-3 is silent for 75 s
          ! gateway gw-4 has said nothing yet
          SHARD   OWNER   STATE   FOR  READY TO TAKE OVER  CONNECTIONS  PEERS  ATTACHMENTS
          acme/0  gw-1    active  5 s  gw-2                812          3      40
          acme/1  nobody  -       -    nobody              -            -      -
        ");
    }
}
