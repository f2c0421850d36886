//! What daemons say of themselves, with every field that the page knows.

use serde_json::{Value, json};

pub const ROLES: [&str; 5] = ["gateway", "host", "autoscaler", "directory", "fleet"];

/// So many seconds after the start. `name`: stands wherever somebody else chooses a text.
pub fn of(role: &str, at: f64, name: &str) -> Value {
    match role {
        "gateway" => gateway(at, name),
        "host" => host(at, name),
        "autoscaler" => autoscaler(name),
        "directory" => json!({
            "role": "directory", "version": "0.1.0", "ready": true, "revision": 1243, "watchers": 12, "answers": counted(40.0, at),
            "known": { "tenants": 12, "shards": 30, "gateways": 4, "hosts": 1002, "tokens": 1020 },
        }),
        "fleet" => fleet(at, name),
        other => panic!("{other}"),
    }
}

fn counted(rate: f64, at: f64) -> u64 {
    (rate * at) as u64
}

fn tunnel(rate: f64, at: f64) -> Value {
    json!({
        "received_packets": counted(rate, at), "received_bytes": counted(rate * 1100.0, at),
        "sent_packets": counted(rate * 0.8, at), "sent_bytes": counted(rate * 500.0, at),
    })
}

fn common(role: &str, at: f64, name: &str) -> Value {
    json!({
        "role": role, "version": "0.1.0", "node": name, "ready": true, "backend": "userspace", "platform_address": "10.9.0.1", "tunnel_mtu": 1440,
        "up_s": 7300.0 + at, "failures": [format!("cannot make {name}: busy")], "drops": { "policy": 12, name: 3 },
        "conntrack": { "entries": 2430, "limit": 262_144 }, "exceeded": { name: { "pps_allowance_exceeded": 12 } },
        "traffic": { "clock_s": at, "interfaces": {}, "tunnels_clock_s": at, "tunnels": {} },
        "userspace": { "drops": { "unknown_session": 4 }, "tunnels": { "pw-1": tunnel(90_000.0, at), "pw-2": tunnel(20_000.0, at) } },
    })
}

fn with(mut status: Value, more: Value) -> Value {
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    status
}

fn shard(number: u16, state: &str, name: &str) -> Value {
    json!({
        "tenant": "acme", "shard": number, "state": state, "for_s": 4000.0, "priority": 150, "drained": false, "able": true, "transitions": 1,
        "why": "started", "heard": { "from": "10.9.0.2", "priority": 100, "ago_s": 0.05 }, "warnings": [format!("{name} has another interval")],
        "held_back": false, "vrid": 51, "candidates": ["gw-1", "gw-2"], "in_sync": state == "active", "sync": [{ "in_sync": true, "lag_ms": 0.4 }],
        "copies": 812, "nat": { "connections": 1210, "begun": 40_000, "ports_of_one": 50_000, "ports": 64_512 },
        "tracked": [{ "what": name, "up": false, "since_s": 12.0, "last_error": name, "cost": 50 }],
    })
}

fn gateway(at: f64, name: &str) -> Value {
    let tenant = |number: u16| {
        json!({
            "name": "acme", "shard": number, "slot": number, "tunnel": format!("pw-{}", number + 1), "interface": name, "peers": 501,
            "configured": 1, "admitted": 500, "snat": "172.16.101.10:1024-65535", "beside": null,
        })
    };
    let taken = |shard: u16, gap: Value| json!({ "tenant": "acme", "shard": shard, "from": "10.9.0.2", "ago_s": 75.0 + at, "why": name, "gap_ms": gap });
    let more = json!({
        "peers": 1002, "configured": 2, "admitted": 1000, "tenants": [tenant(0), tenant(1)],
        "ha": {
            "interval_ms": 100, "nodes": { name: "10.9.0.1", "gw-2": "10.9.0.2" }, "late_p99_us": 200, "clocks": { name: { "ahead_ms": -31.0, "behind": true } },
            "lifecycle": { "target": "Terminated", "in_group": true, "going": true, "heard": 2.0, "failures": 1, "failure": name, "drain": "over", "kept": 1 },
            "cloud": {
                "instance": null, "failure": name,
                "shards": {
                    "acme/0": { "claimed": true, "took": 0.0612, "missing": 0, "failures": 0, "failure": null },
                    name: { "claimed": false, "took": null, "missing": 2, "failures": 7, "failure": name },
                },
            },
            "shards": [shard(0, "active", name), shard(1, "backup", name)], "takeovers": [taken(0, json!(318.4)), taken(1, Value::Null)],
        },
        "jit": {
            "directory": { "url": name, "reachable": false, "error": name, "failed": name, "heard_s": 31.0, "revision": 12, "shards": { name: name } },
            "peers": { "known": 1000, "live": 998, "installing": 2, "admitted": 1204, "reaped": 204, "refused": { name: 31, "mac1": 7 } },
        },
    });
    with(common("gateway", at, name), more)
}

fn host(at: f64, name: &str) -> Value {
    let tenant = json!({
        "name": "acme", "shard": 0, "slot": 1, "tunnel": "pw-1", "coming": "pw-1-b", "former": null, "key": "hSDw", "gateway": "10.9.0.50",
        "inner": "10.64.0.9", "cidrs": ["172.16.0.0/16"], "attachments": 312, "egress": ["partners"],
    });
    let directory = json!({ "url": name, "reachable": true, "error": null, "failed": null, "heard_s": 1.5, "revision": 1243 });
    with(common("host", at, name), json!({ "attachments": 312, "tenants": [tenant], "directory": directory, "left_out": [name] }))
}

fn autoscaler(name: &str) -> Value {
    json!({
        "role": "autoscaler", "version": "0.1.0", "ready": false, "dry_run": true, "ordered": 3, "serving": 2, "min": 2, "max": 10, "target": 0.6,
        "demand": 1.52, "highest": 3, "held": null, "held_because": name, "levels": [], "bits_per_node": null, "packets_per_node": null,
        "gateways": [
            { "name": "gw-1", "utilisation": 0.755, "dimension": "bits", "age": 0.42, "refused": null, "scrape": { "failure": null } },
            { "name": name, "utilisation": null, "dimension": null, "age": null, "refused": null, "scrape": { "failure": name } },
        ],
        "decisions": [{ "time": 1_795_331_700, "from": 2, "to": 3, "wanted": 3, "because": name }],
    })
}

fn fleet(at: f64, name: &str) -> Value {
    // As the directory writes a tenant's first shard.
    let of = "acme";
    let gateway = |node: &str, state: &str, for_s: f64, heard: f64| {
        let shard = json!({ "state": state, "for_s": for_s, "in_sync": true, "connections": 812, "peers": 311, "warnings": [name] });
        let takeover = json!({ "of": of, "from": "10.9.0.2", "ago_s": 75.0, "why": name, "gap_ms": 318.4 });
        let traffic = with(tunnel(80_000.0, at), json!({ "clock_s": at }));
        let report = json!({ "version": name, "traffic": traffic, "shards": { of: shard }, "takeovers": [takeover] });
        json!({ "name": node, "shards": [of], "heard_s": heard, "report": report })
    };
    json!({
        "role": "directory", "version": "0.1.0", "ready": true, "revision": 1243, "watchers": 12,
        "tenants": [{ "name": "acme", "inner": "10.64.0.0/16", "host_prefix": 32, "shards": [0, 1], "hosts": 312, "egress": { "crawlers": [1], "partners": [0] } }],
        "attachments": { of: { "hosts": 312, "attachments": 4096 } },
        "shards": [
            { "of": of, "endpoint": "10.9.0.50:51820", "public_key": null, "next_key": null, "next_port": null, "gateways": [name, "gw-2", "gw-3", "gw-4"] },
            { "of": "acme/1", "endpoint": null, "public_key": null, "next_key": null, "next_port": null, "gateways": [name] },
        ],
        "gateways": [
            gateway(name, "active", 4.0, 2.5),
            gateway("gw-2", "backup", 90.0, 2.5),
            { "name": "gw-3", "shards": [of], "heard_s": null, "report": null },
            // It had the shard before, and has died.
            gateway("gw-4", "active", 900.0, 9.0),
        ],
    })
}
