//! What the directory answers, for people.

use crate::cli::status::rows;
use crate::directory::types::{Gateway, Host, Role, Shard, Tenant, Token};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

fn list(columns: &[&str], all: &[impl Serialize], json: bool, row: Vec<Vec<String>>) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(all)?);
    } else if all.is_empty() {
        println!("none that you may see");
    } else {
        print!("{}", rows(columns, row));
    }
    Ok(())
}

fn joined<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    joined_by(" ", all)
}

fn joined_by<T: Display>(separator: &str, all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    if all.is_empty() { "-".into() } else { all.join(separator) }
}

fn or_dash<T: Display>(one: Option<T>) -> String {
    one.map_or_else(|| "-".into(), |one| one.to_string())
}

fn pools(tenant: &Tenant) -> String {
    joined(tenant.egress.iter().map(|(name, shards)| format!("{name}={}", joined_by(",", shards))))
}

pub fn tenants(all: &[Tenant], json: bool) -> anyhow::Result<()> {
    let row = |tenant: &Tenant| {
        let prefix = format!("/{}", tenant.host_prefix);
        vec![tenant.name.to_string(), tenant.inner.to_string(), prefix, joined(&tenant.shards), pools(tenant), tenant.hosts.to_string()]
    };
    list(&["name", "inner", "per host", "shards", "egress", "hosts"], all, json, all.iter().map(row).collect())
}

pub fn hosts(all: &[Host], json: bool) -> anyhow::Result<()> {
    let row = |host: &Host| {
        let inner = host.inner.iter().map(|(of, nets)| format!("{of}={}", joined(nets)));
        vec![host.name.to_string(), joined(host.keys.iter().map(|key| key.public_key)), joined(inner)]
    };
    list(&["name", "keys", "inner"], all, json, all.iter().map(row).collect())
}

/// A line for each shard, as that is what has an endpoint and a key.
pub fn gateways(all: &[Gateway], shards: &[Shard], json: bool) -> anyhow::Result<()> {
    let mut table = Vec::new();
    for gateway in all {
        let mut served: Vec<_> = gateway.shards.iter().map(Some).collect();
        if served.is_empty() {
            served.push(None);
        }
        for of in served {
            let shard = shards.iter().find(|shard| Some(&shard.of) == of);
            let (endpoint, key) = (shard.and_then(|shard| shard.endpoint), shard.and_then(|shard| shard.public_key));
            let address = or_dash(gateway.address) + if gateway.leaving { ", leaving" } else { "" };
            table.push(vec![gateway.name.to_string(), address, or_dash(of), or_dash(endpoint), or_dash(key)]);
        }
    }
    list(&["name", "address", "shard", "endpoint", "key"], all, json, table)
}

pub fn tokens(all: &[Token], json: bool) -> anyhow::Result<()> {
    let row = |token: &Token| {
        let whose = token.gateway.as_ref().or(token.host.as_ref());
        let state = match (&token.used_by, token.expires) {
            (Some(host), _) => format!("used by {host}"),
            (None, Some(expires)) => until(expires).trim_start_matches(", ").to_owned(),
            (None, None) => "valid".into(),
        };
        let tenants = token.tenants.as_ref().map_or_else(|| "all".into(), |tenants: &BTreeSet<_>| joined(tenants));
        vec![token.id.clone(), role(token.role).into(), tenants, or_dash(whose), state]
    };
    list(&["id", "role", "tenants", "of", "state"], all, json, all.iter().map(row).collect())
}

fn role(role: Role) -> &'static str {
    role.as_str()
}

/// How long from now.
pub fn until(expires: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    match expires - now {
        ..=0 => ", expired".into(),
        seconds @ 1..=7200 => format!(", valid for {} min", (seconds + 59) / 60),
        seconds => format!(", valid for {} h", seconds / 3600),
    }
}
