//! What a gateway says of HaVips that a cloud has to send to it, for people.

use super::ha::duration;
use super::text;
use serde_json::Value;

/// Empty where they follow ARP. `cloud` as in `GET /v1/status`.
pub fn lines(cloud: &Value) -> String {
    let mut lines = String::new();
    if let Some(failure) = cloud["failure"].as_str() {
        let how_many = if cloud["instance"].is_null() { "no HaVip is" } else { "some HaVips are not" };
        lines += &format!("  ! {how_many} claimed of EC2: {failure}\n");
    }
    let shards = cloud["shards"].as_object();
    if let (Some(zone), Some(id)) = (cloud["instance"]["zone"].as_str(), cloud["instance"]["instance"].as_str()) {
        let (claimed, all) = shards.map_or((0, 0), |all| (all.values().filter(|one| one["claimed"] == true).count(), all.len()));
        lines += &format!("  - {id} in {zone}: EC2 sends {claimed} of the {all} shards that are here\n");
    }
    for (of, shard) in shards.into_iter().flatten().filter(|(_, shard)| shard["claimed"] != true) {
        let since = shard["for_s"].as_f64().map_or_else(|| "-".into(), duration);
        let why = shard["failure"].as_str().map(|why| format!(", refused {} times: {why}", shard["failures"])).unwrap_or_default();
        lines += &format!("  ! {of}: claimed of EC2 for {since}, {} not yet taken{why}\n", text(&shard["missing"]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_cloud_has_not_taken_is_told_with_its_reason() {
        let shard = |claimed: bool, missing: u32, failures: u32, failure: Value| json!({ "claimed": claimed, "took": null, "for_s": 12.4, "missing": missing, "failures": failures, "failure": failure });
        let shards = json!({
            "acme/0": shard(true, 0, 0, Value::Null),
            "acme/1": shard(false, 2, 0, Value::Null),
            "blue/0": shard(false, 1, 3, json!("ReplaceRoute is answered with 403 (its role lacks ...)")),
        });
        let told = lines(&json!({ "instance": { "instance": "i-0a1b2c3d", "zone": "eu-central-1a" }, "failure": null, "shards": shards }));
        let expected = "  - i-0a1b2c3d in eu-central-1a: EC2 sends 1 of the 3 shards that are here
  ! acme/1: claimed of EC2 for 12 s, 2 not yet taken
  ! blue/0: claimed of EC2 for 12 s, 1 not yet taken, refused 3 times: ReplaceRoute is answered with 403 (its role lacks ...)
";
        assert_eq!(told, expected);
        let unknown = lines(&json!({ "instance": null, "failure": "instance metadata have not answered yet", "shards": {} }));
        assert_eq!(unknown, "  ! no HaVip is claimed of EC2: instance metadata have not answered yet\n");
        assert_eq!(lines(&Value::Null), "");
    }
}
