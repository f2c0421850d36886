//! What a gateway says of the shards that it shares, for people.

use super::{cloud, rows, text};
use crate::proto::skew::tolerated_ms;
use serde_json::Value;

/// Takeovers that are shown.
const TAKEOVERS: usize = 5;

const COLUMNS: [&str; 9] = ["tenant", "shard", "state", "for", "priority", "peer", "last advert", "sync lag", "flows"];

/// Who is in the group, where the directory says so.
pub fn nodes(ha: &Value) -> String {
    if ha["nodes_by"] != "directory" {
        return String::new();
    }
    let leaves = |name: &str| ha["leaving"].as_array().into_iter().flatten().any(|one| one == name);
    let name = |name: &String| if leaves(name) { format!("{name} (leaving)") } else { name.clone() };
    let names: Vec<String> = ha["nodes"].as_object().into_iter().flatten().map(|(node, _)| name(node)).collect();
    let part = match ha["part"].as_str() {
        Some("unknown") => "\n  ! the directory has not said who is in the group: no shard is served here until then\n",
        Some("coming") => "; this node has no part until all others know it\n",
        Some("about to leave") => "; this node leaves when all others know it\n",
        _ => "\n",
    };
    let refused = ha["refused_list"].as_str().map(|why| format!("  ! the directory's newest list is not taken up: {why}\n"));
    format!("  the group, as the directory says: {}{part}{}", names.join(", "), refused.unwrap_or_default())
}

/// Empty without `ha`. `ha` and `node` as in `GET /v1/status`, the flows of each shard as `GET /v1/flows` counts them.
pub fn table(node: &str, ha: &Value, flows: &Value) -> String {
    let shards = ha["shards"].as_array().map_or(&[][..], Vec::as_slice);
    if shards.is_empty() {
        return String::new();
    }
    let mut cells = Vec::new();
    let mut warnings = clocks(ha) + &going(&ha["lifecycle"]) + &cloud::lines(&ha["cloud"]);
    for shard in shards {
        let name = name(shard);
        cells.push(vec![
            text(&shard["tenant"]),
            text(&shard["shard"]),
            state(shard),
            shard["for_s"].as_f64().map_or_else(|| "-".into(), duration),
            text(&shard["priority"]),
            peers(node, ha, shard),
            last(shard),
            lag(shard),
            count(shard, &flows[&name]),
        ]);
        for warning in shard["warnings"].as_array().into_iter().flatten() {
            warnings += &format!("  ! {name}: {}\n", text(warning));
        }
        if shard["held_back"] == true {
            warnings += &format!("  ! {name}: stays where it is until this clock is right\n");
        }
        for down in shard["tracked"].as_array().into_iter().flatten().filter(|one| one["up"] == false) {
            let since = down["since_s"].as_f64().map_or_else(|| "-".into(), duration);
            let why = down["last_error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
            warnings += &format!("  ! {name}: {} has been down for {since}{why}\n", text(&down["what"]));
        }
    }
    format!("\n{}{warnings}{}", rows(&COLUMNS, cells), takeovers(ha))
}

/// Whether the machine is taken away, as far as somebody looks.
fn going(lifecycle: &Value) -> String {
    let mut lines = String::new();
    if lifecycle["going"] == true {
        let drain = match (lifecycle["drain"].as_str(), lifecycle["kept"].as_u64()) {
            (Some("under_way"), _) => "its shards are being handed over".to_owned(),
            (Some("over"), Some(kept @ 1..)) => format!("nobody took over some of its shards ({kept})"),
            (Some("over"), _) => "its shards are handed over".into(),
            _ => "the drain has been undone".into(),
        };
        lines += &format!("  ! the Auto Scaling group takes this machine away: {drain}\n");
    }
    if let Some(failure) = lifecycle["failure"].as_str() {
        lines += &format!("  ! whether the Auto Scaling group takes this machine away is not known: {failure}\n");
    }
    lines
}

/// Of those of this process, the last few.
fn takeovers(ha: &Value) -> String {
    let all = ha["takeovers"].as_array().into_iter().flatten().take(TAKEOVERS);
    all.map(|one| {
        let known = ha["nodes"].as_object().into_iter().flatten().find(|(_, address)| **address == one["from"]);
        let from = known.map_or_else(|| text(&one["from"]), |(name, _)| name.clone());
        let gap =
            one["gap_ms"].as_f64().map_or_else(|| "planned, without a gap".into(), |ms| format!("gap {} at most", duration(ms / 1e3)));
        let ago = one["ago_s"].as_f64().map_or_else(|| "-".into(), duration);
        format!("  - {} came from {from} {ago} ago, {gap}: {}\n", name(one), text(&one["why"]))
    })
    .collect()
}

/// Clocks that differ by more than is tolerated. A gateway that does not say whether it signs with the time may do so.
fn clocks(ha: &Value) -> String {
    let tolerated = tolerated_ms(ha["signs_with_the_time"] != false);
    let line = |(node, clock): (&String, &Value)| {
        let ahead = clock["ahead_ms"].as_f64().filter(|ahead| ahead.abs() > tolerated)?;
        let side = if ahead < 0.0 { "behind" } else { "ahead of" };
        Some(format!("  ! this clock is {} {side} that of {node}: see `chronyc tracking` on both\n", duration(ahead.abs() / 1e3)))
    };
    ha["clocks"].as_object().into_iter().flatten().filter_map(line).collect()
}

/// `TENANT/SHARD`.
pub fn name(shard: &Value) -> String {
    format!("{}/{}", text(&shard["tenant"]), shard["shard"])
}

fn is_backup(shard: &Value) -> bool {
    matches!(shard["state"].as_str(), Some("backup" | "initialize"))
}

fn state(shard: &Value) -> String {
    let mut state = text(&shard["state"]);
    for (said, word) in [(shard["spare"] == true, ", spare"), (shard["drained"] == true, ", drained"), (shard["able"] == false, ", unable")]
    {
        if said {
            state += word;
        }
    }
    state
}

pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86400.0),
    }
}

/// Of a Backup, the Active that it heard last; of an Active, who else may serve the shard. By their names.
fn peers(node: &str, ha: &Value, shard: &Value) -> String {
    let heard = &shard["heard"]["from"];
    if is_backup(shard) && !heard.is_null() {
        let known = ha["nodes"].as_object().into_iter().flatten().find(|(_, address)| *address == heard);
        return known.map_or_else(|| text(heard), |(name, _)| name.clone());
    }
    let others = shard["candidates"].as_array().into_iter().flatten().filter(|one| *one != node);
    let others: Vec<String> = others.map(text).collect();
    if others.is_empty() { "-".into() } else { others.join(", ") }
}

fn last(shard: &Value) -> String {
    match (is_backup(shard), shard["heard"]["ago_s"].as_f64()) {
        (false, _) => "its own".into(),
        (true, None) => "never".into(),
        (true, Some(ago)) => format!("{} ago", duration(ago)),
    }
}

/// Of an Active, how far the slowest of its Backups is behind; of a Backup, how far it is itself.
fn lag(shard: &Value) -> String {
    let streams = || shard["sync"].as_array().into_iter().flatten();
    if !is_backup(shard) && streams().all(|one| one["up"] == false) {
        return "nobody there".into();
    }
    if shard["in_sync"] != true {
        return "not in sync".into();
    }
    let lags = streams().filter(|one| one["in_sync"] == true).filter_map(|one| one["lag_ms"].as_f64());
    format!("{:.1} ms", lags.fold(0.0, f64::max))
}

/// Those in this kernel, or else those of which it has copies.
fn count(shard: &Value, counted: &Value) -> String {
    [counted, &shard["copies"]].into_iter().find(|count| !count.is_null()).map_or_else(|| "-".into(), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_is_in_the_group_is_told_where_no_file_says_it() {
        let mut ha = json!({
            "nodes_by": "directory", "nodes": { "gw-1": "10.9.0.1", "gw-2": "10.9.0.2" }, "leaving": ["gw-2"], "part": "member", "refused_list": null,
        });
        assert_eq!(nodes(&ha), "  the group, as the directory says: gw-1, gw-2 (leaving)\n");
        ha["part"] = json!("coming");
        ha["refused_list"] = json!("it is odd");
        let lines = "  the group, as the directory says: gw-1, gw-2 (leaving); this node has no part until all others know it
  ! the directory's newest list is not taken up: it is odd\n";
        assert_eq!(nodes(&ha), lines);
        ha["nodes_by"] = json!("file");
        assert_eq!((nodes(&ha), nodes(&Value::Null)), (String::new(), String::new()));
    }

    #[test]
    fn a_shard_is_a_line_and_so_is_a_warning() {
        let ha = json!({
            "nodes": { "gw-1": "10.9.0.1", "gw-2": "10.9.0.2", "gw-3": "10.9.0.3" },
            "signs_with_the_time": true,
            "clocks": { "gw-2": { "ahead_ms": -31.4, "behind": true }, "gw-3": { "ahead_ms": 9.9, "behind": false } },
            "shards": [
                {
                    "tenant": "acme", "shard": 0, "state": "active", "for_s": 4000.0, "priority": 200, "drained": false, "able": true,
                    "heard": { "from": "10.9.0.2", "priority": 100, "ago_s": 3999.0 }, "warnings": [], "candidates": ["gw-1", "gw-2"],
                    "in_sync": true, "copies": null,
                    "sync": [{ "to": "10.9.0.2", "up": true, "in_sync": true, "lag_ms": 1.64 }],
                },
                {
                    "tenant": "blue", "shard": 3, "state": "backup", "for_s": 31.4, "priority": 100, "drained": true, "able": true,
                    "heard": { "from": "10.9.0.2", "priority": 200, "ago_s": 0.042 }, "warnings": ["gw-2 has another interval: 1s"],
                    "candidates": ["gw-2", "gw-1"], "in_sync": true, "copies": 87, "held_back": true,
                    "tracked": [
                        { "what": "tcp 172.16.101.20:5432", "up": false, "since_s": 12.0, "last_error": "connection refused", "cost": 50 },
                        { "what": "interface eth2", "up": true, "since_s": 31.0, "last_error": null, "cost": 50 },
                    ],
                    "sync": [{ "from": "10.9.0.2", "in_sync": true, "lag_ms": 0.4, "flows": 87 }],
                },
                {
                    "tenant": "cyan", "shard": 0, "state": "active", "for_s": 0.25, "priority": 255, "drained": false, "able": false,
                    "heard": null, "warnings": [], "candidates": ["gw-1", "gw-2"], "in_sync": false, "copies": null,
                    "sync": [{ "to": "10.9.0.2", "up": false, "in_sync": false, "lag_ms": 0.0 }],
                },
            ],
        });
        let expected = "
  TENANT  SHARD  STATE            FOR     PRIORITY  PEER  LAST ADVERT  SYNC LAG      FLOWS
  acme    0      active           67 min  200       gw-2  its own      1.6 ms        120
  blue    3      backup, drained  31 s    100       gw-2  42 ms ago    0.4 ms        87
  cyan    0      active, unable   250 ms  255       gw-2  its own      nobody there  -
  ! this clock is 31 ms behind that of gw-2: see `chronyc tracking` on both
  ! blue/3: gw-2 has another interval: 1s
  ! blue/3: stays where it is until this clock is right
  ! blue/3: tcp 172.16.101.20:5432 has been down for 12 s: connection refused
";
        assert_eq!(table("gw-1", &ha, &json!({ "acme/0": 120 })), expected);
    }

    #[test]
    fn a_machine_that_is_taken_away_is_told_of() {
        let said = |drain: &str, kept: u64| going(&json!({ "going": true, "drain": drain, "kept": kept, "failure": null }));
        for (drain, kept, wanted) in [
            ("under_way", 0, "its shards are being handed over"),
            ("over", 0, "its shards are handed over"),
            ("over", 2, "nobody took over some of its shards (2)"),
            ("undone", 0, "the drain has been undone"),
        ] {
            assert_eq!(said(drain, kept), format!("  ! the Auto Scaling group takes this machine away: {wanted}\n"));
        }
        assert_eq!(going(&json!({ "going": false, "drain": "no", "failure": null })), "");
        assert!(going(&json!({ "going": false, "failure": "no route" })).ends_with("is not known: no route\n"));
        assert_eq!(going(&Value::Null), "");
    }

    #[test]
    fn a_backup_that_has_heard_nobody_says_so() {
        let shard = json!({ "tenant": "acme", "shard": 0, "state": "backup", "for_s": 1.0, "priority": 100, "heard": null,
            "candidates": ["gw-1", "gw-2"], "in_sync": false, "sync": [], "copies": 0 });
        let shown = table("gw-2", &json!({ "nodes": {}, "shards": [shard] }), &Value::Null);
        assert!(shown.contains("gw-1") && shown.contains("never") && shown.contains("not in sync"), "{shown}");
    }

    #[test]
    fn clocks_count_for_more_where_they_are_signed_with() {
        let told = |signs: Value, ahead_ms: f64| {
            let ha = json!({ "signs_with_the_time": signs, "clocks": { "gw-2": { "ahead_ms": ahead_ms } } });
            clocks(&ha).contains("gw-2")
        };
        for (ahead_ms, signed, unsigned) in [(-9.9, false, false), (-10.1, true, false), (999.0, true, false), (1001.0, true, true)] {
            assert_eq!(
                [json!(true), Value::Null, json!(false)].map(|signs| told(signs, ahead_ms)),
                [signed, signed, unsigned],
                "{ahead_ms}"
            );
        }
    }

    #[test]
    fn what_came_from_others_is_told_with_its_gap() {
        let took =
            |gap: Value, why: &str| json!({ "tenant": "acme", "shard": 0, "from": "10.9.0.2", "ago_s": 75.0, "why": why, "gap_ms": gap });
        let all =
            [took(json!(318.4), "nothing heard of an Active"), took(Value::Null, "10.9.0.2 is Active with priority 100, lower than ours")];
        let told = takeovers(&json!({ "nodes": { "gw-2": "10.9.0.2" }, "takeovers": all }));
        let expected = [
            "  - acme/0 came from gw-2 75 s ago, gap 318 ms at most: nothing heard of an Active\n",
            "  - acme/0 came from gw-2 75 s ago, planned, without a gap: 10.9.0.2 is Active with priority 100, lower than ours\n",
        ];
        assert_eq!(told, expected.concat());
    }

    #[test]
    fn a_gateway_by_itself_has_no_such_table() {
        assert_eq!(table("gw-1", &Value::Null, &Value::Null), "");
    }
}
