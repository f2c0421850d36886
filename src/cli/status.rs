//! `portway status`.

mod ha;

use super::client::RuntimeDir;
use reqwest::Method;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: RuntimeDir,
}

impl Args {
    /// Exit code 0 when every daemon here is ready, else 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let roles = self.at.roles();
        anyhow::ensure!(!roles.is_empty(), "no daemon of Portway has its socket in {}: is one running?", self.at.runtime_dir.display());
        let mut ready = true;
        for role in roles {
            let (_, mut status) = super::block_on(self.at.ask(role, Method::GET, "/v1/status", None))?;
            ready &= status["ready"] == true;
            let flows = if status["ha"].is_null() { Value::Null } else { self.flows(role) };
            if self.json {
                for shard in status["ha"]["shards"].as_array_mut().into_iter().flatten() {
                    shard["flows"] = flows[ha::name(shard)].clone();
                }
                println!("{status}");
            } else {
                print!("{}{}", table(&status), ha::table(&text(&status["node"]), &status["ha"], &flows));
            }
        }
        Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Connections by shard. A daemon that cannot count them has all the rest to show.
    fn flows(&self, role: &str) -> Value {
        super::block_on(self.at.ask(role, Method::GET, "/v1/flows", None)).map_or(Value::Null, |(_, flows)| flows)
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn table(status: &Value) -> String {
    let state = if status["ready"] == true { "ready" } else { "NOT READY" };
    let mut out = format!(
        "{} {}: {state}, {} tunnels, platform address {}, tunnel MTU {}\n",
        text(&status["role"]),
        text(&status["node"]),
        text(&status["backend"]),
        text(&status["platform_address"]),
        status["tunnel_mtu"]
    );
    for failure in status["failures"].as_array().into_iter().flatten() {
        out += &format!("  ! {}\n", text(failure));
    }
    out += &directory(&status["directory"]);
    for left_out in status["left_out"].as_array().into_iter().flatten() {
        out += &format!("  ! {}\n", text(left_out));
    }
    let columns: &[&str] = if status["role"] == "gateway" {
        &["name", "shard", "tunnel", "key", "interface", "peers", "snat"]
    } else {
        &["name", "shard", "tunnel", "key", "gateway", "inner", "attachments"]
    };
    let tenants = status["tenants"].as_array().map_or(&[][..], Vec::as_slice);
    out + &rows(columns, tenants.iter().map(|tenant| columns.iter().map(|column| text(&tenant[*column])).collect()).collect())
}

/// What is known of the directory, where one is asked.
fn directory(status: &Value) -> String {
    if status.is_null() {
        return String::new();
    }
    let why = [&status["failed"], &status["error"]].into_iter().find(|why| why.is_string());
    let state = match (why, &status["reachable"]) {
        (Some(why), _) => text(why),
        (None, Value::Bool(true)) => format!("answers, revision {}", status["revision"]),
        (None, _) => "was not asked yet".into(),
    };
    let mark = if why.is_some() { "!" } else { "-" };
    let untold = status["shards"].as_object().into_iter().flatten().filter(|(_, state)| *state != "told");
    let untold: String = untold.map(|(of, state)| format!("  ! the directory does not know {of} as it is: {}\n", text(state))).collect();
    format!("  {mark} directory {}: {state}\n{untold}", text(&status["url"]))
}

/// A table for people: as wide as it needs to be.
pub(super) fn rows(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut cells = vec![columns.iter().map(|column| column.to_uppercase()).collect::<Vec<_>>()];
    cells.extend(rows);
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>().join("  ");
    cells.iter().map(|row| format!("  {}\n", line(row).trim_end())).collect()
}
